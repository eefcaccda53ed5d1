//! Base images from a registry: good ones, and every way in which it can go wrong.

use kiln_tests::layout::{self, Layout, architecture};
use kiln_tests::registry::{Registry, free_port};
use kiln_tests::{World, bases};
use serde_json::json;

/// A layout whose `latest` is an image of one file.
fn one_file(world: &World, name: &str, content: &str) -> Layout {
    let layout = Layout::create(world.path().join(name));
    let layer = layout.layer(&layout::archive(&[("file", content)]));
    let manifest = layout.image(layout::config(json!({})), &[layer]);
    layout.tag(&[("latest", &manifest)]);
    layout
}

fn configure(world: &World, registry: &Registry) {
    world.configure(&format!("[registry.\"{}\"]\nhttp = true\n", registry.address));
}

fn dockerfile(reference: &str) -> String {
    format!("FROM {reference}\nCOPY Dockerfile /copied\n")
}

#[test]
fn by_tag_and_by_digest() {
    let world = World::new();
    let registry = world.registry();
    let name = format!("{}/library/busybox", registry.address);
    let digest = registry.digest("library/busybox:latest");
    for reference in
        [name.clone(), format!("{name}:latest"), format!("{name}@{digest}"), format!("{name}:latest@{digest}")]
    {
        let project = world.project(&[("Dockerfile", &dockerfile(&reference))]);
        assert!(world.tree(&project).has("bin/busybox"), "{reference}");
    }
    let wrong = format!("{name}@sha256:{}", "0".repeat(64));
    let project = world.project(&[("Dockerfile", &dockerfile(&wrong))]);
    world.build(&project).fails().says("Dockerfile:1").says(&"0".repeat(64));
}

#[test]
fn of_an_index_the_image_for_this_machine() {
    let world = World::new();
    let registry = Registry::start();
    configure(&world, &registry);
    let layout = Layout::create(world.path().join("multi"));
    let image = |arch: &str| {
        let layer = layout.layer(&layout::archive(&[("arch", arch)]));
        let mut config = layout::config(json!({}));
        config["architecture"] = json!(arch);
        (layout.image(config, &[layer]), json!({ "architecture": arch, "os": "linux" }))
    };
    let index = layout.index(&[image("s390x"), image(architecture()), image("riscv64")]);
    let foreign = layout.index(&[image("s390x")]);
    layout.tag(&[("latest", &index), ("foreign", &foreign)]);
    registry.push(layout.path(), "multi:1");
    registry.push_tag(layout.path(), "foreign", "multi:foreign");

    let project = world.project(&[("Dockerfile", &dockerfile(&format!("{}/multi:1", registry.address)))]);
    assert_eq!(world.tree(&project).text("arch"), architecture());
    let by_digest = format!("{}/multi@{}", registry.address, index["digest"].as_str().unwrap());
    let project = world.project(&[("Dockerfile", &dockerfile(&by_digest))]);
    assert_eq!(world.tree(&project).text("arch"), architecture());
    let project = world.project(&[("Dockerfile", &dockerfile(&format!("{}/multi:foreign", registry.address)))]);
    world.build(&project).fails().says_one_error().says(architecture()).says("s390x");
}

#[test]
fn several_layers_with_whiteouts() {
    let world = World::new();
    let registry = Registry::start();
    configure(&world, &registry);
    let layout = Layout::create(world.path().join("layers"));
    let layers: Vec<_> = [
        layout::archive(&[("a/one", "1"), ("a/two", "2"), ("b/three", "3"), ("c", "old")]),
        layout::archive(&[("a/.wh.one", ""), ("b/.wh..wh..opq", ""), ("b/four", "4"), ("c", "new")]),
        layout::archive(&[("a/five", "5")]),
    ]
    .iter()
    .map(|archive| layout.layer(archive))
    .collect();
    let manifest = layout.image(layout::config(json!({})), &layers);
    layout.tag(&[("latest", &manifest)]);
    registry.push(layout.path(), "layers:latest");

    // What the sandbox sees is what counts: copy it all with busybox, then compare.
    let project = world.project(&[(
        "Dockerfile",
        &format!("FROM {}/layers\nCOPY --from=busybox /bin/busybox /bin/\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox find /a /b /c -type f | /bin/busybox sort > /list\"]\n", registry.address),
    )]);
    world.configure(&format!(
        "[registry.\"docker.io\"]\nmirrors = [\"{0}\"]\n[registry.\"{0}\"]\nhttp = true\n[registry.\"{1}\"]\nhttp = true\n",
        world.registry().address, registry.address
    ));
    assert_eq!(world.tree(&project).text("list"), "/a/five\n/a/two\n/b/four\n/c\n");
}

#[test]
fn a_base_that_is_here_needs_no_registry() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    world.build(&project).succeeds();
    world.configure(&format!("[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:{}\"]\n", free_port()));
    world.build(&project).succeeds().all_cached();
}

#[test]
fn pull_asks_for_what_is_new() {
    let world = World::new();
    let registry = Registry::start();
    configure(&world, &registry);
    registry.push(one_file(&world, "one", "1").path(), "app:latest");
    let project = world.project(&[("Dockerfile", &dockerfile(&format!("{}/app", registry.address)))]);
    assert_eq!(world.tree(&project).text("file"), "1");
    registry.push(one_file(&world, "two", "2").path(), "app:latest");
    assert_eq!(world.image(&project, &["--pull"]).tree().text("file"), "2");
    world.build(&project).arg("--pull").succeeds().all_cached();
}

#[test]
fn mirrors_are_tried_in_order() {
    let world = World::new();
    world.configure(&format!(
        "[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:{0}\", \"{1}\"]\n[registry.\"127.0.0.1:{0}\"]\nhttp = true\n[registry.\"{1}\"]\nhttp = true\n",
        free_port(),
        world.registry().address
    ));
    let project = world.project(&[("Dockerfile", &dockerfile("busybox"))]);
    assert!(world.tree(&project).has("bin/busybox"));
}

#[test]
fn basic_authentication() {
    let world = World::new();
    let registry = Registry::start_with_password();
    configure(&world, &registry);
    registry.push(&bases::busybox(), "private/busybox:1");
    let project = world.project(&[("Dockerfile", &dockerfile(&format!("{}/private/busybox:1", registry.address)))]);
    world.build(&project).fails().says_one_error().says("Dockerfile:1").says("401");

    let write = |auth: &str| {
        std::fs::create_dir_all(world.home().join(".docker")).unwrap();
        let config = json!({ "auths": { registry.address.clone(): { "auth": auth } } });
        std::fs::write(world.home().join(".docker/config.json"), config.to_string()).unwrap();
    };
    write("a2lsbjp3cm9uZw=="); // kiln:wrong
    let outcome = world.build(&project).fails();
    outcome.says_one_error().does_not_say("wrong");
    write("a2lsbjpzZWNyZXQ="); // kiln:secret
    let outcome = world.build(&project).succeeds();
    outcome.does_not_say("secret");
}

/// A registry with one image, a hand on the file of its only layer, and a project that is built on it.
fn damaged(world: &World, damage: impl Fn(&std::path::Path)) -> (Registry, kiln_tests::Project) {
    let registry = Registry::start();
    configure(world, &registry);
    let layout = Layout::create(world.path().join("image"));
    // Bytes that do not compress, so that damage hits data and not a header.
    let noise: String = (0..20_000).map(|n: u32| layout::sha256(&n.to_le_bytes())).collect();
    let layer = layout.layer(&layout::archive(&[("noise", &noise)]));
    let manifest = layout.image(layout::config(json!({})), std::slice::from_ref(&layer));
    layout.tag(&[("latest", &manifest)]);
    registry.push(layout.path(), "app:latest");
    damage(&registry.blob_file(layer.descriptor["digest"].as_str().unwrap()));
    let project = world.project(&[("Dockerfile", &dockerfile(&format!("{}/app", registry.address)))]);
    (registry, project)
}

fn refused_and_mended(damage: impl Fn(&std::path::Path)) {
    let world = World::new();
    let original = std::cell::RefCell::new((std::path::PathBuf::new(), Vec::new()));
    let (_registry, project) = damaged(&world, |path| {
        original.replace((path.to_owned(), std::fs::read(path).unwrap()));
        damage(path);
    });
    world.kiln(["images"]).succeeds();
    let before = world.store_listing();
    let export = world.path().join("out.tar");
    let outcome = world.build(&project).arg("-o").arg(format!("type=oci,dest={}", export.display())).fails();
    outcome.says_one_error().says("sha256:");
    assert!(!export.exists());
    let broken: Vec<_> = world.store_listing().into_iter().filter(|line| !before.contains(line)).collect();
    assert!(!broken.iter().any(|line| line.starts_with("layers/") && line.contains("files")), "{broken:?}");
    let (path, bytes) = original.into_inner();
    std::fs::write(path, bytes).unwrap();
    assert!(world.tree(&project).has("noise"), "once the registry is mended, the build goes through");
}

#[test]
fn a_corrupted_blob() {
    refused_and_mended(|path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(path, bytes).unwrap();
    });
}

#[test]
fn a_truncated_blob() {
    refused_and_mended(|path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    });
}

#[test]
fn a_blob_that_is_not_there() {
    refused_and_mended(|path| std::fs::remove_file(path).unwrap());
}

#[test]
fn a_blob_of_the_right_digest_that_is_no_archive() {
    let world = World::new();
    let registry = Registry::start();
    configure(&world, &registry);
    let layout = Layout::create(world.path().join("image"));
    let layer =
        layout.layer(b"this is no tar archive at all, but five hundred and twelve bytes are what a header takes");
    let manifest = layout.image(layout::config(json!({})), &[layer]);
    layout.tag(&[("latest", &manifest)]);
    registry.push(layout.path(), "app:latest");
    let project = world.project(&[("Dockerfile", &dockerfile(&format!("{}/app", registry.address)))]);
    let output = format!("type=oci,dest={}", world.path().join("x.tar").display());
    world.build(&project).args(["-o", &output]).fails().says_one_error();
}

#[test]
fn a_missing_tag() {
    let world = World::new();
    let name = format!("{}/library/busybox:nope", world.registry().address);
    let project = world.project(&[("Dockerfile", &dockerfile(&name))]);
    world.build(&project).fails().says_one_error().says("Dockerfile:1").says(&name);
    let name = format!("{}/no/such/repository:1", world.registry().address);
    let project = world.project(&[("Dockerfile", &dockerfile(&name))]);
    world.build(&project).fails().says_one_error().says("Dockerfile:1").says(&name);
}

#[test]
fn a_refused_connection() {
    let world = World::new();
    let address = format!("127.0.0.1:{}", free_port());
    world.configure(&format!("[registry.\"{address}\"]\nhttp = true\n"));
    let project = world.project(&[("Dockerfile", &dockerfile(&format!("{address}/app:1")))]);
    world.build(&project).fails().says_one_error().says(&address).says("refused");
}

#[test]
fn an_answer_that_is_no_registrys() {
    use std::io::{Read, Write};
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let page = "<html>please log in to the network</html>";
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                page.len()
            );
        }
    });
    world.configure(&format!("[registry.\"{address}\"]\nhttp = true\n"));
    let project = world.project(&[("Dockerfile", &dockerfile(&format!("{address}/app:1")))]);
    world.build(&project).fails().says_one_error().says(&address);
}
