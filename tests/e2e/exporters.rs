//! Every form in which an image leaves kiln, read by others.

use kiln_tests::buildah::Buildah;
use kiln_tests::podman::Podman;
use kiln_tests::{Image, Project, World, command};
use std::path::Path;
use std::process::Command;

const DOCKERFILE: &str = "FROM busybox
RUN mkdir -p /app && echo 'echo hello from $WHO' > /app/run.sh && chown -R 33:33 /app && chmod 4755 /app/run.sh
RUN rm /etc/group && ln -s app /link && ln /app/run.sh /app/hard
COPY --chown=1:2 text /app/text
ENV WHO=kiln
USER www-data
WORKDIR /app
CMD [\"sh\", \"/app/run.sh\"]
";

fn project(world: &World) -> Project {
    world.project(&[("Dockerfile", DOCKERFILE), ("text", "text\n")])
}

fn skopeo(args: &[&str]) -> String {
    command::run(Command::new("skopeo").arg("--insecure-policy").args(args))
}

fn names(archive: &Path) -> Vec<String> {
    let text = command::run(Command::new("tar").arg("tf").arg(archive));
    text.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/').to_owned()).collect()
}

#[test]
fn oci_archive() {
    let world = World::new();
    let file = world.path().join("app.tar");
    let output = format!("type=oci,dest={}", file.display());
    world.build(&project(&world)).args(["-t", "app:1.0", "-o", &output]).succeeds();
    let inspected: serde_json::Value =
        serde_json::from_str(&skopeo(&["inspect", &format!("oci-archive:{}", file.display())])).unwrap();
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 5);
    assert_eq!(inspected["Os"], "linux");
    let image = Image::from_oci_archive(&file);
    assert_eq!(image.manifest["schemaVersion"], 2);
    assert_eq!(image.manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    let tree = image.tree();
    assert!(!tree.has("etc/group") && tree.link("link") == "app");
    assert_eq!((tree.node("app/run.sh").mode, tree.node("app/run.sh").uid), (0o4755, 33));
    assert_eq!((tree.node("app/text").uid, tree.node("app/text").gid), (1, 2));
    assert_eq!(tree.node("app/hard"), tree.node("app/run.sh"));
}

#[test]
fn oci_directory_is_unpacked_by_umoci() {
    let world = World::new();
    let layout = world.path().join("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    world.build(&project(&world)).args(["-t", "app:1.0", "-o", &output]).succeeds();
    Image::from_layout(&layout);
    let bundle = world.path().join("bundle");
    // umoci wants a tag without a slash or a colon in it: give the only image one.
    let tagged = world.path().join("tagged");
    skopeo(&["copy", "--quiet", &format!("oci:{}", layout.display()), &format!("oci:{}:app", tagged.display())]);
    command::run(
        Command::new("umoci").args(["unpack", "--image"]).arg(format!("{}:app", tagged.display())).arg(&bundle),
    );
    let rootfs = bundle.join("rootfs");
    assert_eq!(std::fs::read_to_string(rootfs.join("app/text")).unwrap(), "text\n");
    assert!(!rootfs.join("etc/group").exists());
    assert_eq!(std::fs::read_link(rootfs.join("link")).unwrap(), Path::new("app"));
}

#[test]
fn oci_to_stdout() {
    let world = World::new();
    let project = project(&world);
    let outcome = world.build(&project).args(["-o", "type=oci,dest=-"]).succeeds();
    let file = world.path().join("stdout.tar");
    std::fs::write(&file, &outcome.stdout).unwrap();
    assert_eq!(Image::from_oci_archive(&file).id, world.image(&project, &[]).id);
}

#[test]
fn compressions_hold_the_same_files() {
    let world = World::new();
    let project = project(&world);
    let mut seen = Vec::new();
    for compression in ["uncompressed", "gzip", "zstd"] {
        let file = world.path().join(format!("{compression}.tar"));
        let output = format!("type=oci,dest={},compression={compression}", file.display());
        let outcome = world.build(&project).args(["-o", &output]).run();
        assert!(outcome.status.success(), "{outcome}");
        let image = Image::from_oci_archive(&file);
        let media_type = image.manifest["layers"].as_array().unwrap().last().unwrap()["mediaType"].clone();
        seen.push((image.id, media_type));
    }
    assert!(seen.iter().all(|(id, _)| *id == seen[0].0), "compression is no part of the image's id: {seen:?}");
    assert_eq!(seen[0].1, "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(seen[1].1, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(seen[2].1, "application/vnd.oci.image.layer.v1.tar+zstd");
}

#[test]
fn exports_are_reproducible() {
    let (one, two) = (World::new(), World::new());
    let project = project(&one);
    let export = |world: &World, name: &str| {
        let file = world.path().join(name);
        world.build(&project).args(["-o", &format!("type=oci,dest={}", file.display())]).succeeds();
        std::fs::read(file).unwrap()
    };
    assert!(export(&one, "a.tar") == export(&one, "b.tar"), "the same store gives the same bytes");
    drop(two);
}

#[test]
fn oci_runs_under_buildah_and_podman() {
    let world = World::new();
    let file = world.path().join("app.tar");
    let output = format!("type=oci,dest={}", file.display());
    world.build(&project(&world)).args(["-t", "app:1.0", "-o", &output]).succeeds();
    let source = format!("oci-archive:{}", file.display());
    assert_eq!(Buildah::new().run_image(&source, &["sh", "/app/run.sh"]), "hello from kiln\n");
    let podman = Podman::new();
    podman.load(&file);
    let inspected = podman.inspect("app:1.0");
    assert_eq!(inspected[0]["Config"]["User"], "www-data");
    assert_eq!(podman.run("app:1.0", &[]), "hello from kiln\n");
}

#[test]
fn docker_archive() {
    let world = World::new();
    let project = project(&world);
    let file = world.path().join("app.tar");
    let output = format!("type=docker,dest={}", file.display());
    world.build(&project).args(["-t", "app:1.0", "-t", "app:latest", "-o", &output]).succeeds();
    let image = Image::from_docker_archive(&file);
    assert_eq!(image.id, world.image(&project, &[]).id);
    let tags = image.manifest["RepoTags"].as_array().unwrap();
    assert!(tags.iter().any(|tag| tag.as_str().unwrap().ends_with("app:1.0")), "{tags:?}");
    skopeo(&["inspect", &format!("docker-archive:{}:app:1.0", file.display())]);
    let podman = Podman::new();
    let said = podman.load(&file);
    assert!(said.contains("app:1.0") && said.contains("app:latest"), "{said}");
    assert_eq!(podman.run("app:1.0", &[]), "hello from kiln\n");
    assert_eq!(podman.run("app:latest", &["id", "-u"]), "33\n");
}

#[test]
fn tar_of_the_files() {
    let world = World::new();
    let project = project(&world);
    let file = world.path().join("files.tar");
    world.build(&project).args(["-o", &format!("type=tar,dest={}", file.display())]).succeeds();
    let found = names(&file);
    assert!(found.iter().any(|name| name == "app/text") && !found.iter().any(|name| name == "etc/group"), "{found:?}");
    assert!(!found.iter().any(|name| name.contains(".wh.")), "{found:?}");
    let stdout = world.build(&project).args(["-o", "-"]).succeeds();
    assert_eq!(stdout.stdout, std::fs::read(&file).unwrap());
}

#[test]
fn local_directory() {
    let world = World::new();
    let project = project(&world);
    let out = world.path().join("out");
    world.build(&project).args(["-o", &format!("type=local,dest={}", out.display())]).succeeds();
    assert_eq!(std::fs::read_to_string(out.join("app/text")).unwrap(), "text\n");
    assert!(!out.join("etc/group").exists());
    assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("app"));
    let short = world.path().join("short");
    world.build(&project).arg("-o").arg(&short).succeeds();
    assert!(short.join("app/run.sh").exists());
}

#[test]
fn local_directory_never_follows_links_out() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY dir /dir\n"), ("dir/file", "inside")]);
    let (out, outside) = (world.path().join("out"), world.path().join("outside"));
    std::fs::create_dir_all(&out).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, out.join("dir")).unwrap();
    let _ = world.build(&project).arg("-o").arg(&out).run();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn an_export_that_cannot_be_written_is_an_error() {
    let world = World::new();
    let project = project(&world);
    world.build(&project).args(["-o", "type=oci,dest=/nowhere/at/all/app.tar"]).fails().says("/nowhere/at/all");
    world.build(&project).args(["-o", "type=fancy,dest=x"]).run().says("error").says("fancy");
}

#[test]
fn a_failed_build_leaves_an_earlier_export_as_it_was() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN false\n")]);
    let file = world.path().join("app.tar");
    std::fs::write(&file, "from before").unwrap();
    world.build(&project).args(["-o", &format!("type=oci,dest={}", file.display())]).fails();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "from before");
}

#[test]
fn skopeo_pushes_and_kiln_pulls_it_again() {
    let world = World::new();
    let project = project(&world);
    let file = world.path().join("app.tar");
    world.build(&project).args(["-o", &format!("type=oci,dest={}", file.display())]).succeeds();
    let name = format!("{}/round/trip:1", world.registry().address);
    skopeo(&[
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        &format!("oci-archive:{}", file.display()),
        &format!("docker://{name}"),
    ]);
    let fresh = World::new();
    let second = fresh.project(&[("Dockerfile", &format!("FROM {name}\nRUN cat /app/text > /tmp/again\n"))]);
    assert_eq!(fresh.tree(&second).text("tmp/again"), "text\n");
}

#[test]
fn docker_media_types_and_annotations() {
    let world = World::new();
    let project = project(&world);
    let export = |attributes: &str| {
        let file = world.path().join("app.tar");
        world.build(&project).args(["-o", &format!("type=oci,{attributes},dest={}", file.display())]).succeeds();
        Image::from_oci_archive(&file).manifest
    };
    let docker = export("oci-mediatypes=false");
    assert_eq!(docker["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(docker["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let noted = export("annotation.org.opencontainers.image.title=app,annotation[linux/s390x].x=y");
    assert_eq!(noted["annotations"], serde_json::json!({ "org.opencontainers.image.title": "app" }));
    let forced = export("compression=zstd,force-compression=true");
    for layer in forced["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    }
    let build = |flag: &str| world.build(&project).args(["-o", "type=cacheonly", "--annotation", flag]);
    build("a=b").succeeds();
    build("index:a=b").fails_with(2).says("no index");
    build("layer:a=b").fails_with(2).says("layer");
}

#[test]
fn the_metadata_file_names_what_was_made() {
    let world = World::new();
    let project = project(&world);
    let (file, metadata) = (world.path().join("app.tar"), world.path().join("metadata.json"));
    let build = |output: &str| {
        let arguments = ["-o", output, "--metadata-file", metadata.to_str().unwrap()];
        let outcome = world.build(&project).args(["-t", "app:1.0", "-q"]).args(arguments).succeeds();
        let text = std::fs::read_to_string(&metadata).unwrap();
        (outcome.stdout_text(), serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    let (id, found) = build(&format!("type=oci,dest={}", file.display()));
    let inspected: serde_json::Value =
        serde_json::from_str(&skopeo(&["inspect", &format!("oci-archive:{}", file.display())])).unwrap();
    assert_eq!(found["containerimage.digest"], inspected["Digest"]);
    assert_eq!(found["containerimage.descriptor"]["digest"], inspected["Digest"]);
    assert_eq!(found["containerimage.config.digest"], id.trim());
    assert_eq!(found["image.name"], "docker.io/library/app:1.0");
    let build_id = found["buildx.build.ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    world.kiln(["history", "inspect", &build_id]).succeeds();
    let (_, found) = build("type=image,annotation.a=b");
    assert!(found["containerimage.digest"].as_str().unwrap().starts_with("sha256:"));
    let (_, found) = build("type=cacheonly");
    assert_eq!(found.get("containerimage.digest"), None);
}

#[test]
fn the_image_exporter_names_images() {
    let world = World::new();
    let project = project(&world);
    world.build(&project).args(["-o", "type=image,\"name=one,two:2\""]).succeeds();
    world.kiln(["inspect", "one", "two:2"]).succeeds();
    world.build(&project).args(["-o", "type=image,name=three,store=false"]).succeeds();
    world.kiln(["inspect", "three"]).fails();
    world.build(&project).args(["-t", "four", "-o", "type=cacheonly"]).succeeds();
    world.kiln(["inspect", "four"]).fails();
}

#[test]
fn a_mirror_has_nothing_else_in_it() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY dir /dir\n"), ("dir/file", "new")]);
    let outside = world.path().join("outside");
    for directory in [&project.join("out"), &outside] {
        std::fs::create_dir_all(directory.join("dir/old/deep")).unwrap();
        std::fs::create_dir_all(directory.join("other")).unwrap();
        std::fs::write(directory.join("dir/file"), "old").unwrap();
        std::os::unix::fs::symlink(world.home(), directory.join("home")).unwrap();
    }
    std::fs::write(world.home().join("kept"), "").unwrap();
    let listed = |directory: &Path| {
        let text = command::run(Command::new("find").arg(directory).args(["-mindepth", "1", "-printf", "%P\\n"]));
        let mut names: Vec<String> = text.lines().map(String::from).collect();
        names.sort();
        names
    };
    let output = format!("type=local,dest={},mode=delete", outside.display());
    world.build(&project).args(["-o", &output]).fails().says("not below the current directory");
    assert_eq!(listed(&outside).len(), 6, "an error removes nothing");
    world.build(&project).args(["-o", &output, "--allow", "buildx.local.delete"]).succeeds();
    world.build(&project).args(["-o", "type=local,dest=out,mode=delete"]).succeeds();
    for directory in [&project.join("out"), &outside] {
        assert_eq!(listed(directory), ["dir", "dir/file"]);
        assert_eq!(std::fs::read_to_string(directory.join("dir/file")).unwrap(), "new");
    }
    assert!(world.home().join("kept").exists(), "links are removed, not followed");
}

#[test]
fn estargz_layers_are_gzip_to_everybody_else() {
    let world = World::new();
    let project = project(&world);
    let layout = world.path().join("layout");
    let output = format!("type=oci,compression=estargz,oci-mediatypes=false,tar=false,dest={}", layout.display());
    world.build(&project).args(["-t", "app", "-o", &output]).succeeds();
    let image = Image::from_layout(&layout);
    let layers = image.manifest["layers"].as_array().unwrap();
    for layer in &layers[1..] {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        let blob = layout.join("blobs/sha256").join(layer["digest"].as_str().unwrap().trim_start_matches("sha256:"));
        let blob = std::fs::read(blob).unwrap();
        assert_eq!(&blob[blob.len() - 19..blob.len() - 13], b"STARGZ");
        let notes = &layer["annotations"];
        assert!(notes["containerd.io/snapshot/stargz/toc.digest"].as_str().unwrap().starts_with("sha256:"));
        let size: usize = notes["io.containers.estargz.uncompressed-size"].as_str().unwrap().parse().unwrap();
        assert!(image.layers.iter().any(|(_, archive)| archive.len() == size));
    }
    assert_eq!(layers[0]["annotations"], serde_json::Value::Null, "the base stays as it was pulled");
    let plain = world.image(&project, &[]);
    assert_eq!(image.tree().paths(), plain.tree().paths());
    // Others verify every digest, and find the same files.
    let copied = world.path().join("copied");
    skopeo(&["copy", "--quiet", &format!("oci:{}", layout.display()), &format!("oci:{}:app", copied.display())]);
    let bundle = world.path().join("bundle");
    let mut umoci = Command::new("umoci");
    command::run(umoci.args(["unpack", "--image"]).arg(format!("{}:app", copied.display())).arg(&bundle));
    assert_eq!(std::fs::read_to_string(bundle.join("rootfs/app/text")).unwrap(), "text\n");
    assert!(!bundle.join("rootfs/stargz.index.json").exists() && !bundle.join("rootfs/etc/group").exists());
    // It can be a base.
    let context = format!("lazy=oci-layout://{}", layout.display());
    let next = world.project(&[("Dockerfile", "FROM lazy\nRUN test -e /app/run.sh && ! test -e /stargz.index.json\n")]);
    world.build(&next).args(["--build-context", &context]).succeeds();
    world.kiln(["fsck", "--deep"]).succeeds();
}
