//! A daemon that answers as Docker's does, and what it is told.

use std::time::SystemTime;

use kiln_cache::ImageRecord;
use kiln_solver::{Layer, Origin, Platform};

use super::*;
use crate::assemble;
use crate::export::ImageOptions;
use crate::fixture::Bench;
use crate::registry::testing::{Asked, Reply, Server, tls_file};
use crate::spec::Image;

fn json(text: &str) -> Reply {
    Reply::ok("application/json", text)
}

/// What Docker's daemon says where `stack` is the only image and `loaded` its answer to an archive.
fn docker(asked: &Asked, storage: &str, stack: &str, loaded: Reply) -> Reply {
    match (asked.method.as_str(), asked.path()) {
        ("GET", "/version") => json(r#"{"Version":"20.10.24","Components":[{"Name":"Engine","Version":"20.10.24"}]}"#),
        ("GET", "/info") => json(&format!(r#"{{"DriverStatus":[["{storage}","x"]]}}"#)),
        ("GET", "/images/json") => json(r#"[{"Id":"sha256:gone"},{"Id":"sha256:1","Labels":null}]"#),
        ("GET", "/images/sha256:1/json") => json(&format!(r#"{{"RootFS":{{"Type":"layers","Layers":{stack}}}}}"#)),
        ("POST", "/images/load") => loaded,
        _ => json(r#"{"message":"No such image"}"#).with_status(404),
    }
}

fn address(server: &Server) -> DaemonAddress {
    DaemonAddress::Tcp { authority: server.host(), tls: None }
}

fn record(bench: &Bench) -> ImageRecord {
    let draft = bench.store().begin_layer().unwrap();
    std::fs::write(draft.files().join("file"), "content").unwrap();
    let stored = draft.commit(SystemTime::UNIX_EPOCH).unwrap();
    let platform: Platform = "linux/amd64".parse().unwrap();
    let layer = Layer { diff_id: *stored.diff_id(), origin: Origin::Built };
    assemble(bench.store(), &Image::empty(&platform), &[layer], None).unwrap().record
}

fn package(bench: &Bench) -> Package {
    Package::make(&bench.images, &[record(bench)], false, &ImageOptions::default(), &Cancel::new()).unwrap()
}

#[test]
fn the_longest_common_stack_counts() {
    let [a, b, c] = ["a", "b", "c"].map(|name| Digest::of(name.as_bytes()));
    let server = Server::start(move |asked| docker(asked, "Backing", &format!(r#"["{a}","{b}","{b}"]"#), json("")));
    let daemon = Daemon::connect(&address(&server)).unwrap();
    assert_eq!((daemon.version(), daemon.is_docker(), daemon.takes_indexes()), ("20.10.24", true, false));
    assert_eq!(daemon.known_layers(&[a, b, c], &Cancel::new()), 2);
    assert_eq!(daemon.known_layers(&[a], &Cancel::new()), 1);
    assert_eq!(daemon.known_layers(&[c], &Cancel::new()), 0);
}

#[test]
fn one_that_keeps_indexes_needs_every_layer() {
    let layer = Digest::of(b"a");
    let storage = "io.containerd.snapshotter.v1";
    let server = Server::start(move |asked| docker(asked, storage, &format!(r#"["{layer}"]"#), json("")));
    let daemon = Daemon::connect(&address(&server)).unwrap();
    assert!(daemon.takes_indexes());
    assert_eq!(daemon.known_layers(&[layer], &Cancel::new()), 0);
}

#[test]
fn an_archive_arrives_whole() {
    let bench = Bench::new();
    let said = "{\"stream\":\"Loaded image: \"}\r\n{\"stream\":\"app:1\\n\"}\r\n";
    let server = Server::start(move |asked| docker(asked, "x", "[]", json(said)));
    let package = package(&bench);
    let said = Daemon::connect(&address(&server)).unwrap().load(&package, &Cancel::new()).unwrap();
    assert_eq!(said, "Loaded image: app:1");
    let asked = server.asked();
    let archive = &asked.iter().find(|asked| asked.method == "POST").unwrap().body;
    let mut members = tar::Archive::new(archive.as_slice());
    let names: Vec<String> =
        members.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.contains(&"manifest.json".to_owned()) && names.contains(&"index.json".to_owned()), "{names:?}");
}

#[test]
fn what_a_daemon_complains_of_is_told() {
    let bench = Bench::new();
    let package = package(&bench);
    let load = |reply: fn() -> Reply| {
        let server = Server::start(move |asked| docker(asked, "x", "[]", reply()));
        let daemon = Daemon::connect(&address(&server)).unwrap();
        daemon.load(&package, &Cancel::new()).unwrap_err().to_string()
    };
    let refused = load(|| json(r#"{"message":"no space left"}"#).with_status(500));
    assert!(refused.ends_with("failed: no space left"), "{refused}");
    let midway = load(|| json(r#"{"stream":"x"}{"errorDetail":{"message":"bad"},"error":"bad layer"}"#));
    assert!(midway.ends_with("failed: bad layer"), "{midway}");
    assert!(load(|| Reply::ok("text/plain", "hello")).contains("its answer is malformed"));
}

/// The body of the request ends without the last chunk, so that no daemon takes it for an archive.
#[test]
fn an_archive_that_cannot_be_made_does_not_end() {
    let bench = Bench::new();
    let package = package(&bench);
    let server = Server::start(|asked| docker(asked, "x", "[]", json(r#"{"stream":"Loaded"}"#)));
    let daemon = Daemon::connect(&address(&server)).unwrap();
    for blob in package.blobs().values() {
        std::fs::remove_file(&blob.path).unwrap();
    }
    let error = daemon.load(&package, &Cancel::new()).unwrap_err();
    assert!(!matches!(error, ImageError::Daemon { .. }), "{error}");
    assert_eq!(server.count("POST", "/images/load"), 0);
}

#[test]
fn nobody_and_somebody_else_are_told_apart() {
    let message = |address| Daemon::connect(&address).unwrap_err().to_string();
    let nowhere = message(DaemonAddress::Unix("/nowhere/docker.sock".into()));
    assert!(nowhere.contains("`unix:///nowhere/docker.sock` failed: No such file"), "{nowhere}");
    let server = Server::start(|_| Reply::ok("text/html", "<html>"));
    assert!(message(address(&server)).contains("`/version` is malformed"));
}

#[test]
fn both_sides_show_certificates() {
    let server = Server::start_tls(true, |asked| docker(asked, "x", "[]", json("")));
    let connect = |tls| Daemon::connect(&DaemonAddress::Tcp { authority: server.host(), tls: Some(tls) });
    let ca = Some(tls_file("ca.pem"));
    let pair = Some((tls_file("client.pem"), tls_file("client.key")));
    let both = DaemonTls { ca: ca.clone(), pair: pair.clone(), is_unverified: false };
    assert_eq!(connect(both).unwrap().version(), "20.10.24");
    assert!(connect(DaemonTls { ca, pair: None, is_unverified: false }).is_err());
    assert!(connect(DaemonTls { ca: None, pair: pair.clone(), is_unverified: false }).is_err());
    assert!(connect(DaemonTls { ca: None, pair, is_unverified: true }).is_ok());
}
