//! The flags of `kiln build`.

use kiln_tests::layout::sha256;
use kiln_tests::{World, bases};

#[test]
fn target() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox AS one\nRUN echo 1 > /one\nFROM one AS two\nRUN echo 2 > /two\nFROM two\nRUN echo 3 > /three\n",
    )]);
    let tree = world.image(&project, &["--target", "two"]).tree();
    assert!(tree.has("one") && tree.has("two") && !tree.has("three"));
    let tree = world.image(&project, &["--target=0"]).tree();
    assert!(tree.has("one") && !tree.has("two"));
}

#[test]
fn build_arg() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nARG a=default\nARG b\nRUN echo \"$a $b\" > /args\n")]);
    assert_eq!(world.tree(&project).text("args"), "default \n");
    let args = ["--build-arg", "a=given", "--build-arg=b=x=y z"];
    assert_eq!(world.image(&project, &args).tree().text("args"), "given x=y z\n");
    world.build(&project).args(["--build-arg", "b", "--iidfile", "id"]).env("b", "from the environment").succeeds();
    let outcome = world.build(&project).args(["--build-arg", "b=from the environment"]).succeeds();
    outcome.all_cached();
}

#[test]
fn a_build_arg_that_nothing_takes_is_warned_of() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    world.build(&project).args(["--build-arg", "typo=1"]).succeeds().says("typo");
}

#[test]
fn no_cache() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\nCOPY Dockerfile /d\n")]);
    world.build(&project).succeeds();
    world.build(&project).succeeds().all_cached();
    world.build(&project).arg("--no-cache").succeeds().ran("RUN echo x").ran("COPY Dockerfile");
    world.build(&project).succeeds().all_cached();
}

#[test]
fn no_cache_filter() {
    let world = World::new();
    let text = "FROM busybox AS one\nRUN echo one > /one\nFROM busybox AS Two\nRUN echo two > /two\nFROM one
COPY --from=two /two /two\nRUN echo three > /three\n";
    let project = world.project(&[("Dockerfile", text)]);
    world.build(&project).succeeds();
    let filtered = |names: &str| world.build(&project).args(["--no-cache-filter", names]).succeeds();
    filtered("two").ran("echo two").cached("echo one").cached("COPY --from=two").cached("echo three");
    filtered("ONE,2").ran("echo one").ran("COPY --from=two").ran("echo three").cached("echo two");
    let outcome = filtered("oen");
    outcome
        .all_cached()
        .says("`--no-cache-filter` names the stage `oen`, which does not exist")
        .says("did you mean `one`?");
    world.build(&project).args(["--no-cache", "--no-cache-filter=one"]).fails_with(2).says("cannot be used with");
}

#[test]
fn file() {
    let world = World::new();
    let project = world.project(&[
        ("Dockerfile", "FROM busybox\nRUN false\n"),
        ("docker/other", "FROM busybox\nCOPY text /text\n"),
        ("text", "text"),
    ]);
    assert_eq!(world.image(&project, &["-f", "docker/other"]).tree().text("text"), "text");
    let elsewhere = world.project(&[("My.Dockerfile", "FROM busybox\nCOPY text /outside\n")]);
    let file = elsewhere.join("My.Dockerfile").display().to_string();
    assert_eq!(world.image(&project, &["--file", &file]).tree().text("outside"), "text");
}

#[test]
fn an_ignore_file_of_its_own_wins() {
    let world = World::new();
    let project = world.project(&[
        ("app.Dockerfile", "FROM busybox\nCOPY . /all\n"),
        ("app.Dockerfile.dockerignore", "b\n"),
        (".dockerignore", "a\n"),
        ("a", "a"),
        ("b", "b"),
    ]);
    let tree = world.image(&project, &["-f", "app.Dockerfile"]).tree();
    assert!(tree.has("all/a") && !tree.has("all/b"));
}

#[test]
fn build_context_directory() {
    let world = World::new();
    let project = world.project(&[
        ("Dockerfile", "FROM busybox\nCOPY own /own\nCOPY --from=more /inner/file /file\n"),
        ("own", "own"),
    ]);
    let more = world.project(&[("inner/file", "from elsewhere"), ("other", "x")]);
    let context = format!("more={}", more.path().display());
    let tree = world.image(&project, &["--build-context", &context]).tree();
    assert_eq!((tree.text("file"), tree.text("own")), ("from elsewhere".to_owned(), "own".to_owned()));
    more.write("other", "changed");
    world.build(&project).args(["--build-context", &context]).succeeds().all_cached();
    more.write("inner/file", "changed");
    world.build(&project).args(["--build-context", &context]).succeeds().ran("COPY --from=more").cached("COPY own");
}

#[test]
fn build_context_oci_layout() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM mybase\nRUN id -u > /uid\n")]);
    let layout = bases::busybox();
    let context = format!("mybase=oci-layout://{}", layout.display());
    assert_eq!(world.image(&project, &["--build-context", &context]).tree().text("uid"), "0\n");
    let context = format!("mybase=oci-layout://{}:latest", layout.display());
    world.build(&project).args(["--build-context", &context]).succeeds().all_cached();
}

#[test]
fn build_context_image() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM alpine\nCOPY --from=tools /bin/busybox /copy\n")]);
    let name = format!("docker-image://{}/library/busybox:latest", world.registry().address);
    let (alpine, tools) = (format!("alpine={name}"), "tools=docker-image://busybox");
    let tree = world.image(&project, &["--build-context", &alpine, "--build-context", tools]).tree();
    assert!(tree.has("copy"));
}

#[test]
fn a_context_by_the_name_of_a_stage_replaces_it() {
    let world = World::new();
    let project = world
        .project(&[("Dockerfile", "FROM busybox AS build\nRUN false\nFROM scratch\nCOPY --from=build /made /made\n")]);
    let made = world.project(&[("made", "by hand")]);
    let context = format!("build={}", made.path().display());
    assert_eq!(world.image(&project, &["--build-context", &context]).tree().text("made"), "by hand");
}

#[test]
fn iidfile_and_quiet() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    let id_file = world.path().join("id");
    world.build(&project).arg("--iidfile").arg(&id_file).succeeds();
    let id = std::fs::read_to_string(&id_file).unwrap();
    assert!(id.starts_with("sha256:") && id.len() == 71, "`{id}`");
    let quiet = world.build(&project).arg("-q").succeeds();
    assert_eq!(quiet.stdout_text(), format!("{id}\n"));
    assert_eq!(quiet.stderr, "");
    assert_eq!(world.image(&project, &[]).id, id, "the id is the digest of the config");
}

#[test]
fn a_failed_build_writes_no_iidfile_and_says_why_even_when_quiet() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo the output; false\n")]);
    let id_file = world.path().join("id");
    let outcome = world.build(&project).arg("-q").arg("--iidfile").arg(&id_file).fails();
    outcome.says("the output").says("exit code: 1");
    assert!(!id_file.exists() && outcome.stdout.is_empty());
}

#[test]
fn several_tags() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    world.build(&project).args(["-t", "shop:1.0", "-t", "shop", "--tag=registry.example:5000/team/shop:x"]).succeeds();
    let list = world.kiln(["images"]).succeeds().stdout_text();
    for name in ["shop", "1.0", "latest", "registry.example:5000/team/shop"] {
        assert!(list.contains(name), "no `{name}` in\n{list}");
    }
    let ids: std::collections::BTreeSet<_> = ["shop:1.0", "shop", "registry.example:5000/team/shop:x"]
        .map(|name| inspect(&world, name)["Id"].to_string())
        .into();
    assert_eq!(ids.len(), 1);
}

fn inspect(world: &World, name: &str) -> serde_json::Value {
    let text = world.kiln(["inspect", name]).succeeds().stdout_text();
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON")[0].clone()
}

#[test]
fn platform_of_the_host() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\n")]);
    let host = kiln_tests::layout::architecture();
    let image = world.image(&project, &["--platform", &format!("linux/{host}")]);
    assert_eq!(image.tree().text("arch"), format!("{host}\n"));
}

#[test]
fn root_and_config_by_flag() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    let (root, config) = (world.path().join("elsewhere"), world.path().join("kiln.toml"));
    let kiln = || {
        let kiln = world.kiln(["--root"]).arg(&root).arg("--config").arg(&config);
        kiln.env_remove("KILN_ROOT").env_remove("KILN_CONFIG").current_dir(project.path())
    };
    kiln().args(["build", "-t", "x", "."]).succeeds();
    assert!(root.join("kiln.db").exists());
    assert!(kiln().arg("images").succeeds().stdout_text().contains('x'));
    assert!(!world.root().join("kiln.db").exists(), "the store of `$KILN_ROOT` is left alone");
}

#[test]
fn config_from_the_home_directory() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    std::fs::create_dir_all(world.home().join(".config/kiln")).unwrap();
    std::fs::copy(world.path().join("kiln.toml"), world.home().join(".config/kiln/kiln.toml")).unwrap();
    world.build(&project).env_remove("KILN_CONFIG").succeeds();
}

#[test]
fn layers_have_the_digests_that_their_names_say() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\nCOPY Dockerfile /y\n")]);
    let image = world.image(&project, &[]);
    for (diff_id, archive) in &image.layers {
        assert_eq!(diff_id, &format!("sha256:{}", sha256(archive)));
    }
    let blobs = world.root().join("blobs/sha256");
    let config = blobs.join(image.id.trim_start_matches("sha256:"));
    assert!(config.exists(), "the config is a blob of the store, which is an OCI layout");
}
