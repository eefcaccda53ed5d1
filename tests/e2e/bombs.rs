//! Images that claim to be larger than they are, or are larger than they look: they end in an error, or do no harm,
//! with little memory, and nothing of them is left.

use crate::hostile_tar::Tar;
use flate2::Compression;
use flate2::write::GzEncoder;
use kiln_tests::layout::{self, Layout, sha256};
use kiln_tests::{Outcome, World};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// What kiln may have of memory while it deals with them, in kilobytes.
const MEMORY: u64 = 160 << 10;

/// Sees an archive come, in as little memory as it goes: compressed as it is written.
struct Bomb {
    gzip: GzEncoder<Vec<u8>>,
    hasher: sha2::Sha256,
}

impl Bomb {
    fn new() -> Self {
        Self { gzip: GzEncoder::new(Vec::new(), Compression::new(1)), hasher: sha2::Digest::new() }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.gzip.write_all(bytes).unwrap();
        sha2::Digest::update(&mut self.hasher, bytes);
    }

    /// The layer, in a layout.
    fn layer(self, layout: &Layout) -> layout::Layer {
        let digest = sha2::Digest::finalize(self.hasher);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let blob = self.gzip.finish().unwrap();
        let descriptor = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &blob);
        layout::Layer { descriptor, diff_id: format!("sha256:{hex}") }
    }
}

/// A member without its end of archive.
fn member(archive: Tar) -> Vec<u8> {
    let mut bytes = archive.finish();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// Builds on the image of a layout; nothing may be left of it but what is said to be.
fn build(world: &World, layout: &Layout) -> (Outcome, u64) {
    let project = world.project(&[("Dockerfile", "FROM bomb\nCOPY Dockerfile /\n")]);
    let memory = world.path().join("memory");
    let context = format!("bomb=oci-layout://{}", layout.path().display());
    let outcome =
        world.build(&project).args(["--build-context", &context, "-o", "type=cacheonly"]).noting_memory(&memory).run();
    outcome.does_not_say("panicked");
    // What a process could not clear away before its end, the next one does.
    world.kiln(["images"]).succeeds();
    let left = std::fs::read_dir(world.root().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "something is left in the store\n{outcome}");
    let kilobytes = std::fs::read_to_string(memory).unwrap().parse().unwrap();
    assert!(kilobytes < MEMORY, "{kilobytes} kB of memory\n{outcome}");
    (outcome, kilobytes)
}

fn refused(what: &str, world: &World, layout: &Layout, reason: &str) {
    let (outcome, _) = build(world, layout);
    assert_eq!(outcome.status.code(), Some(1), "{what}\n{outcome}");
    assert!(outcome.stderr.contains(reason), "{what}: {reason}?\n{outcome}");
    let layers = std::fs::read_dir(world.root().join("layers")).unwrap().count();
    assert_eq!(layers, 0, "{what}: a layer is left");
}

/// An image of these layers.
fn image(layout: &Layout, layers: &[layout::Layer]) {
    let manifest = layout.image(layout::config(json!({})), layers);
    layout.tag(&[("latest", &manifest)]);
}

fn limited(text: &str) -> World {
    let world = World::new();
    let before = std::fs::read_to_string(world.path().join("kiln.toml")).unwrap();
    world.configure(&format!("{before}\n[archives]\n{text}\n"));
    world
}

#[test]
fn claims_of_terabytes_are_refused_before_anything_is_written() {
    let world = World::new();
    let huge = (10_u64 << 40).to_string();
    let sparse =
        |keys: &[(&str, &str)]| keys.iter().fold(Tar::default(), |tar, (key, value)| tar.record(key, value.as_bytes()));
    let cases = [
        ("0.1", sparse(&[("GNU.sparse.map", "0,1"), ("GNU.sparse.size", &huge)]).file("f", "x")),
        (
            "0.0",
            sparse(&[("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "1"), ("GNU.sparse.size", &huge)])
                .file("f", "x"),
        ),
        (
            "1.0",
            sparse(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", &huge)])
                .bytes("f", format!("{:\0<512}x", "1\n0\n1\n").as_bytes()),
        ),
        ("a size", Tar::default().record("size", huge.as_bytes()).file("f", "x")),
    ];
    for (name, archive) in cases {
        let layout = Layout::create(world.path().join(name));
        image(&layout, &[layout.layer(&archive.finish())]);
        refused(name, &world, &layout, "the disk has no more room");
    }
    let layout = Layout::create(world.path().join("many"));
    let files = (0..200).fold(Tar::default(), |tar, number| {
        let size = (1_u64 << 30).to_string();
        tar.record("GNU.sparse.map", b"0,1").record("GNU.sparse.size", size.as_bytes()).file(&format!("f{number}"), "x")
    });
    image(&layout, &[layout.layer(&files.finish())]);
    let world = limited("max-size = \"40MB\"");
    refused("many", &world, &layout, "`max-size` of `[archives]` in kiln.toml allows more");
}

#[test]
fn sizes_that_no_file_has_are_refused() {
    let world = World::new();
    for (number, (key, value)) in [
        ("size", "18446744073709551615"),
        ("size", "18446744073709551616"),
        ("size", "9223372036854775807"),
        ("size", "-1"),
        ("GNU.sparse.size", "18446744073709551615"),
    ]
    .into_iter()
    .enumerate()
    {
        let layout = Layout::create(world.path().join(format!("size{number}")));
        let archive = Tar::default().record(key, value.as_bytes()).file("f", "x").file("g", "y");
        image(&layout, &[layout.layer(&archive.finish())]);
        refused(&format!("{key}={value}"), &world, &layout, "");
    }
}

#[test]
fn what_unpacks_to_more_than_is_allowed_is_refused() {
    let world = limited("max-size = \"64MB\"");
    let zeros = vec![0; 16 << 20];
    let layout = Layout::create(world.path().join("gzip"));
    let mut bomb = Bomb::new();
    (0..30).for_each(|number| bomb.put(&member(Tar::default().bytes(&format!("f{number}"), &zeros))));
    image(&layout, &[bomb.layer(&layout)]);
    refused("gzip", &world, &layout, "max-size");
    // One frame that claims a window of gigabytes, and one that holds much.
    let archive = (0..8).fold(Tar::default(), |tar, number| tar.bytes(&format!("f{number}"), &zeros)).finish();
    for window in [24, 31] {
        let layout = Layout::create(world.path().join(format!("zstd{window}")));
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(window).unwrap();
        encoder.write_all(&archive).unwrap();
        let blob = layout.blob("application/vnd.oci.image.layer.v1.tar+zstd", &encoder.finish().unwrap());
        image(&layout, &[layout::Layer { descriptor: blob, diff_id: format!("sha256:{}", sha256(&archive)) }]);
        refused("zstd", &world, &layout, if window == 31 { "" } else { "max-size" });
    }
}

/// What comes behind the end of an archive is read, for its digest, and kept nowhere.
#[test]
fn zeros_behind_the_end_take_nothing_but_time() {
    let world = World::new();
    let layout = Layout::create(world.path().join("zeros"));
    let mut bomb = Bomb::new();
    bomb.put(&Tar::default().file("f", "x").finish());
    let zeros = vec![0; 16 << 20];
    (0..24).for_each(|_| bomb.put(&zeros));
    image(&layout, &[bomb.layer(&layout)]);
    let (outcome, _) = build(&world, &layout);
    assert!(outcome.status.success(), "{outcome}");
}

#[test]
fn layers_of_too_many_entries_are_refused() {
    let world = limited("max-entries = 20000");
    let cases: [(&str, &dyn Fn(u32) -> Tar); 4] = [
        ("files", &|number| Tar::default().file(&format!("f{number}"), "")),
        ("the-same-file", &|_| Tar::default().file("same", "")),
        ("directories", &|number| Tar::default().file(&format!("{number}/{}f", "d/".repeat(1000)), "")),
        ("attributes", &|number| {
            let value = vec![b'x'; 60_000];
            (0..15)
                .fold(Tar::default(), |tar, n| tar.record(&format!("SCHILY.xattr.trusted.x{n}"), &value))
                .file(&format!("f{number}"), "")
        }),
    ];
    for (name, entry) in cases {
        let layout = Layout::create(world.path().join(name));
        let mut bomb = Bomb::new();
        let count = if name.contains("file") { 20_001 } else { 400 };
        (0..count).for_each(|number| bomb.put(&member(entry(number))));
        image(&layout, &[bomb.layer(&layout)]);
        // A file system has a limit for attributes, too.
        refused(name, &world, &layout, if name == "attributes" { "cannot unpack" } else { "max-entries" });
    }
}

/// A layer as large as they get takes memory in proportion; the limit of 2,000,000 entries is what bounds it.
#[test]
fn many_entries_take_little_memory() {
    let world = World::new();
    let layout = Layout::create(world.path().join("many"));
    let mut bomb = Bomb::new();
    for number in 0..30_000 {
        bomb.put(&member(Tar::default().directory(&format!("d{number}"))));
    }
    image(&layout, &[bomb.layer(&layout)]);
    let (outcome, kilobytes) = build(&world, &layout);
    assert!(outcome.status.success(), "{outcome}");
    assert!(kilobytes < 72 << 10, "{kilobytes} kB");
}

#[test]
fn headers_longer_than_any_name_are_refused() {
    let world = World::new();
    let path = format!("{}f", "d/".repeat(500_000));
    let cases = [
        ("a-path-of-1-MB", member(Tar::default().record("path", path.as_bytes()).file("f", "x"))),
        (
            "a-record-of-100-MB",
            member(Tar::default().record("SCHILY.xattr.user.a", &vec![b'x'; 100 << 20]).file("f", "x")),
        ),
        ("headers-without-end", {
            let records = member(Tar::default().record("comment", &vec![b'x'; 500_000]).file("f", "x"));
            records[..records.len() - 1024].repeat(100)
        }),
    ];
    for (name, archive) in cases {
        let layout = Layout::create(world.path().join(name));
        let mut bomb = Bomb::new();
        bomb.put(&archive);
        image(&layout, &[bomb.layer(&layout)]);
        refused(name, &world, &layout, "");
    }
}

/// Sets what a layout has to offer to a manifest of these bytes.
fn offer(layout: &Layout, media_type: &str, bytes: &[u8]) {
    let descriptor = layout.blob(media_type, bytes);
    layout.tag(&[("latest", &descriptor)]);
}

#[test]
fn documents_that_are_too_large_or_too_deep_are_refused() {
    let world = World::new();
    let spaces = |megabytes: usize| " ".repeat(megabytes << 20);
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(1_000_000), close.repeat(1_000_000));
    let config = |layout: &Layout, bytes: &[u8]| {
        let config = layout.blob("application/vnd.oci.image.config.v1+json", bytes);
        json!({ "schemaVersion": 2, "mediaType": layout::MANIFEST, "config": config, "layers": [] }).to_string()
    };
    let minimal = layout::config(json!({})).to_string();
    let with = |field: &str| format!("{{\"x\":{field},{}", &minimal[1..]);
    type Make<'a> = Box<dyn Fn(&Layout) -> String + 'a>;
    let cases: Vec<(&str, Make<'_>)> = vec![
        ("a-manifest-of-100-MB", Box::new(|_| format!("{{{}}}", spaces(100)))),
        ("a-deep-manifest", Box::new(|_| format!("{{\"schemaVersion\":2,\"x\":{}}}", nested("[", "]")))),
        ("a-config-of-100-MB", Box::new(|layout| config(layout, format!("{}{minimal}", spaces(100)).as_bytes()))),
        (
            "a-deep-config",
            Box::new(|layout| config(layout, with(&nested("{\"a\":", "}").replace(":}", ":1}")).as_bytes())),
        ),
        (
            "a-config-of-many-values",
            Box::new(|layout| config(layout, with(&format!("[{}0]", "0,".repeat(10 << 20))).as_bytes())),
        ),
    ];
    for (name, make) in cases {
        let layout = Layout::create(world.path().join(name));
        let manifest = make(&layout);
        offer(&layout, layout::MANIFEST, manifest.as_bytes());
        refused(name, &world, &layout, "");
    }
}

#[test]
fn documents_that_lie_are_refused() {
    let world = World::new();
    let archive = Tar::default().file("f", "x").finish();
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>); 5] = [
        ("a-layer-said-to-be-smaller", &|manifest| manifest["layers"][0]["size"] = json!(5)),
        ("a-layer-said-to-be-larger", &|manifest| manifest["layers"][0]["size"] = json!(5_u64 << 40)),
        ("a-layer-of-negative-size", &|manifest| manifest["layers"][0]["size"] = json!(-1)),
        ("a-layer-that-is-the-config", &|manifest| manifest["layers"][0] = manifest["config"].clone()),
        ("a-config-said-to-be-larger", &|manifest| manifest["config"]["size"] = json!(1_u64 << 62)),
    ];
    for (name, change) in cases {
        let layout = Layout::create(world.path().join(name));
        let manifest = layout.image(layout::config(json!({ "User": name })), &[layout.layer(&archive)]);
        let hex = manifest["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let mut manifest: Value =
            serde_json::from_slice(&std::fs::read(layout.path().join("blobs/sha256").join(hex)).unwrap()).unwrap();
        change(&mut manifest);
        offer(&layout, layout::MANIFEST, manifest.to_string().as_bytes());
        refused(name, &world, &layout, "");
    }
    let layout = Layout::create(world.path().join("pipe"));
    let manifest = layout.image(layout::config(json!({ "User": "pipe" })), &[layout.layer(&archive)]);
    layout.tag(&[("latest", &manifest)]);
    for blob in std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        std::fs::remove_file(&path).unwrap();
        kiln_tests::command::run(std::process::Command::new("mkfifo").arg(path));
    }
    refused("pipes", &world, &layout, "not a regular file");
    // Nothing can name its own digest; a layout can hold an index under a wrong one.
    let layout = Layout::create(world.path().join("circle"));
    let hex = "0".repeat(64);
    let entry = json!({ "mediaType": layout::INDEX, "digest": format!("sha256:{hex}"), "size": 300 });
    let mut index = json!({ "schemaVersion": 2, "mediaType": layout::INDEX, "manifests": [entry] }).to_string();
    index.push_str(&" ".repeat(300 - index.len()));
    std::fs::write(layout.path().join("blobs/sha256").join(&hex), index).unwrap();
    layout.tag(&[("latest", &entry)]);
    refused("circle", &world, &layout, "");
    let layout = Layout::create(world.path().join("nested"));
    let image = layout.image(layout::config(json!({})), &[layout.layer(&archive)]);
    let platform = json!({ "os": "linux", "architecture": layout::architecture() });
    let top = (0..100).fold(image, |inner, _| layout.index(&[(inner, platform.clone())]));
    layout.tag(&[("latest", &top)]);
    refused("nested", &world, &layout, "nested");
}

#[test]
fn a_hundred_thousand_layers_are_refused() {
    let world = World::new();
    let layout = Layout::create(world.path().join("layers"));
    let layer = layout.layer(&Tar::default().file("f", "x").finish());
    image(&layout, &vec![layer; 100_000]);
    refused("layers", &world, &layout, "larger than");
}

/// The kernel stacks 500 directories, and as many again in one of them.
#[test]
fn more_layers_than_can_be_mounted_are_refused() {
    let world = World::new();
    let layout = Layout::create(world.path().join("layers"));
    let layers: Vec<_> =
        (0..1010).map(|number| layout.layer(&Tar::default().file(&format!("f{number}"), "").finish())).collect();
    image(&layout, &layers);
    let project = world.project(&[("Dockerfile", "FROM bomb\nRUN [\"/nothing\"]\n")]);
    let context = format!("bomb=oci-layout://{}", layout.path().display());
    world.build(&project).args(["--build-context", &context]).fails().says("takes no more than 999 layers");
}

/// The outer one is what counts: nobody unpacks what is inside of files.
#[test]
fn archives_within_archives_stay_as_they_are() {
    let world = World::new();
    let layout = Layout::create(world.path().join("nested"));
    let mut inner = vec![0; 8 << 20];
    for _ in 0..3 {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&inner).unwrap();
        inner = gzip.finish().unwrap();
    }
    image(&layout, &[layout.layer(&inner)]);
    refused("a layer that is compressed three times", &world, &layout, "");
    let layout = Layout::create(world.path().join("file"));
    image(&layout, &[layout.layer(&Tar::default().bytes("a.gz", &inner).finish())]);
    let project = world.project(&[("Dockerfile", "FROM bomb\n")]);
    let context = format!("bomb=oci-layout://{}", layout.path().display());
    let outcome = world.build(&project).args(["--build-context", &context, "-o", "type=tar,dest=-"]).succeeds();
    let mut archive = tar::Archive::new(&outcome.stdout[..]);
    let mut found = Vec::new();
    archive.entries().unwrap().next().unwrap().unwrap().read_to_end(&mut found).unwrap();
    assert!(found == inner);
}
