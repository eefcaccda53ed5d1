//! Images from registries and layouts into a store.

use kiln_solver::Origin;

use super::*;
use crate::Reference;
use crate::fixture::{Bench, Fixture, hurry, write_index};
use crate::registry::testing::{Reply, Server};
use crate::spec::{Descriptor, Index, media_type};

const FILES: [(&str, &str); 3] = [("a", "from gzip"), ("b", "from zstd"), ("c", "plain")];
const AMD64: &str = "linux/amd64";

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn location(server: &Server) -> Location {
    Location::parse(&format!("{}/test:1", server.host())).unwrap()
}

fn serve(fixture: Fixture) -> Server {
    Server::start(move |asked| fixture.answer(asked))
}

/// The text of each file of each layer.
fn contents(store: &Store, layers: &[Layer]) -> Vec<(String, String)> {
    let mut contents = Vec::new();
    for layer in layers {
        let layer = store.layer(&layer.diff_id).unwrap().unwrap();
        for entry in layer.index().entries() {
            let text = std::io::read_to_string(layer.open(&entry).unwrap()).unwrap();
            contents.push((String::from_utf8(entry.path.to_vec()).unwrap(), text));
        }
    }
    contents
}

fn expected() -> Vec<(String, String)> {
    FILES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn layers_come_from_a_registry_once() {
    let (bench, fixture) = (Bench::new(), Fixture::new(AMD64, &FILES));
    let digest = fixture.digest();
    let server = serve(fixture);
    let resolved = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap();
    assert_eq!(resolved.digest, digest);
    assert_eq!(resolved.image.config.env, ["FIXTURE=yes"]);
    assert!(resolved.layers.iter().all(|layer| layer.origin == Origin::Image));
    assert_eq!(bench.images.stack(&digest).unwrap(), resolved.layers);
    assert_eq!(server.asked().len(), 2, "the layers are not needed yet");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| bench.images.ensure(&resolved.layers, &Cancel::new()).unwrap());
        }
    });
    assert_eq!(contents(bench.store(), &resolved.layers), expected());
    assert_eq!(server.asked().len(), 5);
    for layer in &resolved.layers {
        assert!(bench.store().known_blob(&layer.diff_id).unwrap().is_some());
    }
}

#[test]
fn another_process_finds_all_without_a_network() {
    let (bench, fixture) = (Bench::new(), Fixture::new(AMD64, &FILES));
    let server = serve(fixture);
    let location = location(&server);
    let first = bench.images.resolve(&location, &platform(AMD64), Pull::Missing).unwrap();
    let asked = server.asked().len();
    let again = bench.again();
    let second = again.resolve(&location, &platform(AMD64), Pull::Missing).unwrap();
    assert_eq!((second.digest, &second.layers), (first.digest, &first.layers));
    assert_eq!(server.asked().len(), asked);
    // A third one knows only the layers, and still where to fetch them.
    bench.again().ensure(&first.layers, &Cancel::new()).unwrap();
    assert_eq!(contents(bench.store(), &first.layers), expected());
    assert_eq!(bench.again().stack(&first.digest).unwrap(), first.layers);
    drop(server);
    bench.again().ensure(&first.layers, &Cancel::new()).unwrap();
}

#[test]
fn pull_asks_again_but_fetches_nothing_known() {
    let (bench, fixture) = (Bench::new(), Fixture::new(AMD64, &FILES));
    let server = serve(fixture);
    let resolve = |images: &Images| images.resolve(&location(&server), &platform(AMD64), Pull::Always).unwrap();
    let first = resolve(&bench.images);
    let second = resolve(&bench.again());
    assert_eq!(first.digest, second.digest);
    assert_eq!(server.count("GET", "/v2/test/manifests/1"), 1);
    assert_eq!(server.count("HEAD", "/v2/test/manifests/1"), 1);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_pulled_image_has_a_name_and_is_the_same_base_as_before() {
    let (bench, fixture) = (Bench::new(), Fixture::new(AMD64, &FILES));
    let (digest, id) = (fixture.digest(), Digest::of(&fixture.config));
    let server = serve(fixture);
    let Location::Reference(reference) = location(&server) else { unreachable!() };
    let pulled = bench.images.pull(&reference, Some(&platform(AMD64)), &Cancel::new()).unwrap();
    assert_eq!((pulled.digest, pulled.record.id, pulled.is_new), (digest, id, true));
    assert_eq!(bench.store().image(&reference.to_string()).unwrap(), Some(pulled.record.clone()));
    assert_eq!(contents(bench.store(), &pulled.record.layers), expected());
    let resolved = bench.again().resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap();
    assert_eq!(resolved.digest, digest, "the cache knows it by its manifest");
    let asked = server.asked().len();
    assert!(!bench.again().pull(&reference, None, &Cancel::new()).unwrap().is_new);
    assert_eq!(server.asked().len(), asked + 1, "only what it is called was asked for");
}

#[test]
fn an_image_that_was_built_here_comes_first() {
    let (bench, fixture) = (Bench::new(), Fixture::new(AMD64, &FILES[..1]));
    let reference = Reference::parse("app:1").unwrap();
    let layers = vec![Layer { diff_id: fixture.layers[0].0, origin: Origin::Built }];
    let id = bench.store().put_blob(&fixture.config).unwrap();
    let tagged = std::time::SystemTime::UNIX_EPOCH;
    let record = ImageRecord::new(id, layers.clone(), platform(AMD64), tagged);
    bench.store().tag(&reference.to_string(), &record).unwrap();
    let location = Location::Reference(reference);
    let resolved = bench.images.resolve(&location, &platform(AMD64), Pull::Missing).unwrap();
    assert_eq!((resolved.digest, resolved.layers), (id, layers.clone()));
    assert_eq!(bench.again().stack(&id).unwrap(), layers);
    let error = bench.images.ensure(&layers, &Cancel::new()).unwrap_err();
    assert!(matches!(error, ImageError::LostLayer(_)), "{error}");
}

#[test]
fn an_index_is_followed_to_the_platform() {
    let (amd64, arm) = (Fixture::new(AMD64, &FILES[..1]), Fixture::new("linux/arm/v6", &FILES[1..2]));
    let index = Index::of(vec![arm.descriptor("linux/arm/v6"), amd64.descriptor(AMD64)]);
    let (index, arm_digest) = (serde_json::to_vec(&index).unwrap(), arm.digest());
    let index_digest = Digest::of(&index);
    let server = Server::start(move |asked| match asked.path() {
        "/v2/test/manifests/1" => Reply::ok(media_type::OCI_INDEX, index.clone()),
        path if path.ends_with(&amd64.digest().to_string()) => amd64.answer(asked),
        _ if amd64.blobs.keys().any(|digest| asked.path().ends_with(&digest.to_string())) => amd64.answer(asked),
        _ => arm.answer(asked),
    });
    let bench = Bench::new();
    let resolve = |name: &str| bench.images.resolve(&location(&server), &platform(name), Pull::Missing);
    assert_eq!(resolve("linux/arm/v7").unwrap().digest, arm_digest);
    assert_eq!(resolve(AMD64).unwrap().image.architecture, "amd64");
    let error = resolve("linux/s390x").unwrap_err().to_string();
    assert!(error.contains("`linux/s390x`; it has `linux/arm/v6`, `linux/amd64`"), "{error}");
    // It is remembered which index a manifest was taken from.
    let Location::Reference(reference) = location(&server) else { panic!("no reference") };
    let again = bench.again();
    assert_eq!(again.index_of(&reference, &arm_digest).unwrap(), Some(index_digest));
    assert_eq!(again.index_of(&reference, &index_digest).unwrap(), None);
}

#[test]
fn a_corrupted_layer_leaves_nothing() {
    let mut fixture = Fixture::new(AMD64, &FILES);
    let (diff_id, descriptor) = fixture.layers[1].clone();
    let blob = fixture.blobs.get_mut(&descriptor.digest).unwrap();
    *blob.last_mut().unwrap() ^= 1;
    let found = Digest::of(blob);
    let server = serve(fixture);
    let bench = Bench::new();
    let resolved = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap();
    let error = bench.images.ensure(&resolved.layers[1..2], &Cancel::new()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ImageError::WrongDigest { .. }), "{text}");
    for part in [descriptor.digest.to_string(), found.to_string(), server.host()] {
        assert!(text.contains(&part), "{text}");
    }
    assert!(bench.store().layer(&diff_id).unwrap().is_none());
    assert!(bench.store().blob(&descriptor.digest).unwrap().is_none());
    assert!(bench.store().blob(&found).unwrap().is_none());
}

#[test]
fn bytes_behind_the_archive_count_for_the_digest() {
    let mut fixture = Fixture::new(AMD64, &FILES[2..]);
    // The first layer of the fixture is gzip; its blob gets an empty member that the descriptor knows nothing of.
    let (diff_id, descriptor) = fixture.layers[0].clone();
    let blob = fixture.blobs.get_mut(&descriptor.digest).unwrap();
    blob.extend(crate::fixture::gzip(b""));
    fixture.layers[0].1.size = blob.len() as u64;
    fixture.describe();
    let server = serve(fixture);
    let bench = Bench::new();
    let resolved = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap();
    let error = bench.images.ensure(&resolved.layers, &Cancel::new()).unwrap_err();
    assert!(matches!(error, ImageError::WrongDigest { .. }), "{error}");
    assert!(bench.store().layer(&diff_id).unwrap().is_none());
}

/// Serves an image whose config claims this diffID for a layer that has another.
fn serve_lying() -> (Server, Digest) {
    let mut fixture = Fixture::new(AMD64, &FILES[..1]);
    let wrong = Digest::of(b"another archive");
    let mut image: Image = serde_json::from_slice(&fixture.config).unwrap();
    image.rootfs.diff_ids = vec![wrong];
    fixture.config = serde_json::to_vec(&image).unwrap();
    fixture.describe();
    (serve(fixture), wrong)
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let (server, wrong) = serve_lying();
    let bench = Bench::new();
    let resolved = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap();
    let error = bench.images.ensure(&resolved.layers, &Cancel::new()).unwrap_err();
    assert!(matches!(error, ImageError::Unpack { .. }) && error.to_string().contains(&wrong.to_string()), "{error}");
    assert!(bench.store().layer(&wrong).unwrap().is_none());
}

/// A blob that is only sent elsewhere is read by nobody else, and is the layer's for all images that have the layer.
#[test]
fn a_blob_of_another_layer_is_not_taken_for_it() {
    let (server, wrong) = serve_lying();
    let bench = Bench::new();
    let resolved = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap();
    let error = bench.images.ensure_blobs(&resolved.layers, &Cancel::new()).unwrap_err();
    assert!(matches!(error, ImageError::Unpack { .. }) && error.to_string().contains(&wrong.to_string()), "{error}");
    assert!(bench.store().known_blob(&wrong).unwrap().is_none());
}

#[test]
fn a_truncated_layer_leaves_nothing() {
    let fixture = Fixture::new(AMD64, &FILES[..1]);
    let (diff_id, descriptor) = fixture.layers[0].clone();
    let server = Server::start(move |asked| {
        let reply = fixture.answer(asked);
        if asked.path().ends_with(&descriptor.digest.to_string()) { reply.cut_after(20) } else { reply }
    });
    let bench = Bench::new();
    let resolved = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap();
    let error = bench.images.ensure(&resolved.layers, &Cancel::new()).unwrap_err();
    assert!(matches!(error, ImageError::Truncated { received: 20, .. }), "{error}");
    assert!(bench.store().layer(&diff_id).unwrap().is_none());
}

#[test]
fn a_stopped_fetch_ends_and_leaves_nothing() {
    let fixture = Fixture::new(AMD64, &FILES[..2]);
    let diff_ids = fixture.layers.clone();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let silent: Vec<String> = fixture.layers.iter().map(|(_, blob)| blob.digest.to_string()).collect();
    let server = Server::start(move |asked| {
        if silent.iter().any(|digest| asked.path().ends_with(digest)) {
            stop.request();
            return Reply::silent();
        }
        fixture.answer(asked)
    });
    let bench = Bench::new();
    let resolved = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap();
    assert!(matches!(bench.images.ensure(&resolved.layers, &cancel), Err(ImageError::Cancelled)));
    for (diff_id, _) in diff_ids {
        assert!(bench.store().layer(&diff_id).unwrap().is_none());
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let bench = Bench::new();
    let chart = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json",
        "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
    let server = Server::start(move |_| Reply::ok(media_type::OCI_MANIFEST, chart));
    let error = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap_err().to_string();
    assert!(error.contains("helm"), "{error}");
    let server = Server::start(|_| Reply::ok("text/html", "<html>"));
    let error = bench.images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap_err().to_string();
    assert!(error.contains("manifest of") && error.contains("malformed"), "{error}");
}

#[test]
fn a_config_and_a_manifest_that_disagree_are_refused() {
    let mut fixture = Fixture::new(AMD64, &FILES);
    fixture.layers.pop();
    fixture.describe();
    let server = serve(fixture);
    let error =
        Bench::new().images.resolve(&location(&server), &platform(AMD64), Pull::Missing).unwrap_err().to_string();
    assert!(error.contains("names 3 layers where the manifest has 2"), "{error}");
}

#[test]
fn layers_come_from_a_layout() {
    let (bench, fixture) = (Bench::new(), Fixture::new(AMD64, &FILES));
    let folder = tempfile::tempdir().unwrap();
    fixture.write_blobs(folder.path());
    let mut tagged = fixture.descriptor(AMD64);
    tagged.annotations.insert("org.opencontainers.image.ref.name".to_owned(), "base".to_owned());
    write_index(folder.path(), vec![tagged, Descriptor::of(media_type::OCI_MANIFEST, b"not here")]);
    let resolve = |suffix: &str| {
        let location = Location::parse(&format!("oci-layout://{}{suffix}", folder.path().display())).unwrap();
        bench.images.resolve(&location, &platform(AMD64), Pull::Missing)
    };
    let resolved = resolve(":base").unwrap();
    assert_eq!(resolved.digest, fixture.digest());
    assert_eq!(resolve(&format!("@{}", fixture.digest())).unwrap().digest, fixture.digest());
    for missing in ["", ":other", ":latest"] {
        let error = resolve(missing).unwrap_err().to_string();
        assert!(error.contains("it has `base`"), "{missing}: {error}");
    }
    assert!(resolve(&format!("@{}", Digest::of(b"not here"))).is_err());
    bench.again().ensure(&resolved.layers, &Cancel::new()).unwrap();
    assert_eq!(contents(bench.store(), &resolved.layers), expected());
}

#[test]
fn a_damaged_layout_is_refused() {
    let (bench, fixture) = (Bench::new(), Fixture::new(AMD64, &FILES[..1]));
    let folder = tempfile::tempdir().unwrap();
    let resolve = || {
        let location = Location::parse(&format!("oci-layout://{}", folder.path().display())).unwrap();
        bench.images.resolve(&location, &platform(AMD64), Pull::Missing)
    };
    assert!(matches!(resolve(), Err(ImageError::NotALayout { .. })));
    fixture.write_blobs(folder.path());
    write_index(folder.path(), vec![fixture.descriptor(AMD64)]);
    let (diff_id, descriptor) = &fixture.layers[0];
    let blob = folder.path().join("blobs/sha256").join(descriptor.digest.hex());
    let bytes = std::fs::read(&blob).unwrap();
    let resolved = resolve().unwrap();
    let damage = |bytes: &[u8]| {
        std::fs::write(&blob, bytes).unwrap();
        bench.images.ensure(&resolved.layers, &Cancel::new()).unwrap_err()
    };
    assert!(matches!(damage(&bytes[1..]), ImageError::WrongSize { .. }));
    assert!(matches!(damage(&vec![0; bytes.len()]), ImageError::WrongDigest { .. }));
    assert!(bench.store().layer(diff_id).unwrap().is_none());
    let config = folder.path().join("blobs/sha256").join(Digest::of(&fixture.config).hex());
    std::fs::write(config, "{}").unwrap();
    let fresh = Bench::with("", Credentials::none(), hurry());
    let location = Location::parse(&format!("oci-layout://{}", folder.path().display())).unwrap();
    let error = fresh.images.resolve(&location, &platform(AMD64), Pull::Missing).unwrap_err();
    assert!(matches!(error, ImageError::WrongDigest { what: "config", .. }), "{error}");
}
