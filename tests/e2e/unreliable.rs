//! Registries and networks that fail: what may pass is waited for, what is wrong is never taken.

use std::path::{Path, PathBuf};

use kiln_tests::layout::{self, Layout};
use kiln_tests::proxy::{Fault, Passing, Proxy};
use kiln_tests::registry::Registry;
use kiln_tests::{Kind, Project, Tree, World};
use serde_json::json;

/// Bytes that do not compress, so that a layer has a size, and damage hits data and not a header.
fn noise(count: u32) -> String {
    (0..count).map(|number| layout::sha256(&number.to_le_bytes())).collect()
}

/// The digest of what is in the file that is too large to be compared as text.
fn sha256_of_noise(tree: &Tree) -> String {
    match &tree.nodes[&b"noise"[..]].kind {
        Kind::File { sha256, .. } => sha256.clone(),
        other => panic!("`noise` is {other:?}"),
    }
}

/// A registry with an image `app:1` of one large layer.
fn registry(world: &World) -> Registry {
    let registry = Registry::start();
    let layout = Layout::create(world.path().join("image"));
    let layer = layout.layer(&layout::archive(&[("noise", &noise(20_000))]));
    let manifest = layout.image(layout::config(json!({})), &[layer]);
    layout.tag(&[("latest", &manifest)]);
    registry.push(layout.path(), "app:1");
    registry
}

/// A project that takes the file of `app:1` from behind a proxy.
fn project(world: &World, proxy: &Proxy) -> Project {
    world.project(&[("Dockerfile", &format!("FROM {}/app:1\nCOPY Dockerfile /\n", proxy.host()))])
}

fn is_blob(passing: &Passing) -> bool {
    passing.method == "GET" && passing.target.contains("/blobs/")
}

/// A store of its own for each attempt.
fn fresh(world: &mut World, number: usize) -> PathBuf {
    let root = world.path().join(format!("root{number}"));
    std::fs::create_dir(&root).unwrap();
    world.set_root(&root);
    root
}

/// The layer, by the order of requests: manifest, config, layer.
const LAYER: usize = 2;

#[test]
fn a_pull_gets_over_what_passes() {
    let mut world = World::new();
    let registry = registry(&world);
    let busy = |status: &str| Fault::Answer(format!("{status}\r\nRetry-After: 0"));
    let faults: [(&str, Vec<(usize, Fault)>); 8] = [
        ("cut", vec![(LAYER, Fault::CutAnswer(300_000)), (LAYER + 1, Fault::CutAnswer(300_000))]),
        ("cut at once", vec![(LAYER, Fault::CutAnswer(0))]),
        ("mute", vec![(0, Fault::Mute), (LAYER, Fault::Mute)]),
        ("busy", vec![(0, busy("429 Too Many Requests")), (1, busy("503 Service Unavailable"))]),
        ("broken", vec![(LAYER - 1, busy("500 Internal Server Error")), (LAYER, busy("502 Bad Gateway"))]),
        ("too long", vec![(LAYER, Fault::Lengthen(100))]),
        ("dripping manifest", vec![(0, Fault::Drip), (1, Fault::Drip)]),
        ("busy in the middle", vec![(LAYER, Fault::CutAnswer(1)), (LAYER + 1, busy("503 Service Unavailable"))]),
    ];
    for (number, (what, faults)) in faults.into_iter().enumerate() {
        fresh(&mut world, number);
        let proxy = Proxy::before(&registry.address, move |passing| {
            faults.iter().find(|(at, _)| *at == passing.before).map(|(_, fault)| fault.clone())
        });
        let tree = world.tree(&project(&world, &proxy));
        assert_eq!(sha256_of_noise(&tree), layout::sha256(noise(20_000).as_bytes()), "{what}");
    }
}

#[test]
fn a_pull_that_was_cut_asks_for_the_rest_alone() {
    let world = World::new();
    let registry = registry(&world);
    let proxy = Proxy::before(&registry.address, |passing| {
        (is_blob(passing) && passing.before == LAYER).then_some(Fault::CutAnswer(300_000))
    });
    world.tree(&project(&world, &proxy));
    let asked: Vec<Passing> = proxy.passed().into_iter().filter(is_blob).collect();
    let range =
        |passing: &Passing| passing.headers.iter().find(|line| line.to_lowercase().starts_with("range:")).cloned();
    assert_eq!(asked.iter().filter_map(range).collect::<Vec<_>>(), ["range: bytes=300000-"], "{asked:?}");
}

#[test]
fn a_pull_never_takes_what_is_wrong() {
    let mut world = World::new();
    let registry = registry(&world);
    for (number, at) in [0, LAYER - 1, LAYER].into_iter().enumerate() {
        let root = fresh(&mut world, number);
        let proxy = Proxy::before(&registry.address, move |passing| (passing.before == at).then_some(Fault::Flip));
        let project = project(&world, &proxy);
        let file = world.path().join("out.tar");
        let output = format!("type=oci,dest={}", file.display());
        world.build(&project).args(["-o", &output]).fails().says_one_error();
        assert!(!file.exists());
        assert_eq!(layers(&root), 0, "nothing stays of a wrong layer");
        // The next time it is right.
        assert!(world.tree(&project).has("noise"));
    }
}

fn layers(root: &Path) -> usize {
    std::fs::read_dir(root.join("layers")).map_or(0, Iterator::count)
}

#[test]
fn a_redirect_goes_to_where_the_bytes_are_and_takes_no_credentials_along() {
    let world = World::new();
    let registry = Registry::start_with_password();
    let open = self::registry(&world);
    registry.push(&world.path().join("image"), "app:1");
    let storage = Proxy::before(&open.address, |_| None);
    let elsewhere = storage.host();
    let proxy = Proxy::before(&registry.address, move |passing| {
        let is_allowed = passing.headers.iter().any(|line| line.to_lowercase().starts_with("authorization:"));
        (is_blob(passing) && is_allowed)
            .then(|| Fault::Answer(format!("307 Temporary Redirect\r\nLocation: http://{elsewhere}{}", passing.target)))
    });
    let password = world.path().join("password");
    std::fs::write(&password, "secret").unwrap();
    world.kiln(["login", "-u", "kiln", "--password-stdin", &proxy.host()]).input(&password).succeeds();
    assert!(world.tree(&project(&world, &proxy)).has("noise"));
    let passed = storage.passed();
    assert_eq!(passed.len(), 2, "config and layer");
    let secrets =
        passed.iter().flat_map(|passing| &passing.headers).filter(|line| line.to_lowercase().contains("auth"));
    assert_eq!(secrets.count(), 0);
}

/// A project whose layer is large enough to be sent in more than one request.
fn large(world: &World) -> Project {
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY noise /noise\n")]);
    project.write("noise", &noise(160_000));
    project
}

#[test]
fn a_push_gets_over_what_passes() {
    let world = World::new();
    let project = large(&world);
    let busy = |status: &str| Fault::Answer(format!("{status}\r\nRetry-After: 0"));
    let faults: [(&str, &str, Fault); 10] = [
        ("HEAD", "", busy("503 Service Unavailable")),
        ("POST", "", busy("429 Too Many Requests")),
        ("POST", "", Fault::Mute),
        ("PATCH", "", Fault::CutRequest(5_000_000)),
        ("PATCH", "", Fault::CutRequest(0)),
        ("PATCH", "", Fault::Mute),
        ("PATCH", "", busy("500 Internal Server Error")),
        ("PATCH", "", busy("413 Request Entity Too Large")),
        ("PUT", "uploads", Fault::Mute),
        ("PUT", "manifests", busy("502 Bad Gateway")),
    ];
    world.build(&project).args(["-t", "localhost:1/app:1"]).succeeds();
    let mut digests = Vec::new();
    for (method, part, fault) in faults {
        let registry = Registry::start();
        let what = format!("{method} {fault:?}");
        // The first one of its kind.
        let pending = std::sync::Mutex::new(Some(fault));
        let proxy = Proxy::before(&registry.address, move |passing| {
            let is_it = passing.method == method && passing.target.contains(part);
            if is_it { pending.lock().unwrap().take() } else { None }
        });
        let name = format!("{}/app:1", proxy.host());
        world.kiln(["tag", "localhost:1/app:1", &name]).succeeds();
        world.kiln(["push", &name]).succeeds();
        let digest = registry.digest("app:1");
        assert!(digests.iter().all(|known| *known == digest), "{what}");
        digests.push(digest);
        // What arrived is what was sent: kiln's own pull verifies it.
        let copy = World::new();
        let dockerfile = format!("FROM {}/app:1\nCOPY Dockerfile /\n", registry.address);
        let copied = copy.tree(&copy.project(&[("Dockerfile", &dockerfile)]));
        assert_eq!(sha256_of_noise(&copied), layout::sha256(noise(160_000).as_bytes()), "{what}");
    }
}

#[test]
fn a_push_that_fails_names_nothing() {
    let world = World::new();
    let project = large(&world);
    let registry = Registry::start();
    let proxy = Proxy::before(&registry.address, |passing| {
        (passing.method == "PATCH").then(|| Fault::Answer("500 Internal Server Error\r\nRetry-After: 0".to_owned()))
    });
    let name = format!("{}/app:1", proxy.host());
    let outcome = world.build(&project).args(["--push", "-t", &name]).fails();
    outcome.says_one_error().says("500").says("PATCH");
    assert_eq!(proxy.count("PUT", "manifests"), 0);
    // The image is in the store, under its name, and can be sent another day.
    assert!(world.kiln(["images"]).succeeds().stdout_text().contains(&proxy.host()));
}
