//! Blobs on their way to a registry with which everything can go wrong.

use std::sync::Mutex;

use super::*;
use crate::fixture::hurry;
use crate::registry::testing::{Fault, Hub, Reply, Server};
use crate::{Configuration, Credentials, Patience};

const MIB: usize = 1 << 20;

/// What came of sending a blob to the repository `test`.
struct Sent {
    hub: Arc<Hub>,
    server: Server,
    outcome: Result<(), ImageError>,
    digest: Digest,
    told: Vec<u64>,
}

impl Sent {
    fn arrived(&self) -> bool {
        self.hub.blob("test", &self.digest).is_some()
    }

    /// What was asked, each with the range of what it carried.
    fn requests(&self) -> Vec<String> {
        let line = |asked: crate::registry::testing::Asked| {
            let range = asked.header("content-range").map(|range| format!(" {range}")).unwrap_or_default();
            format!("{}{range}", asked.method)
        };
        self.server.asked().into_iter().map(line).collect()
    }
}

fn send(size: usize, hub: Hub) -> Sent {
    send_with(size, hub, hurry())
}

fn send_with(size: usize, hub: Hub, patience: Patience) -> Sent {
    let hub = Arc::new(hub);
    let server = Server::hub(&hub);
    let registries = Registries::new(Configuration::default(), Credentials::none(), patience);
    let bytes: Vec<u8> = (0..size).map(|number| (number / 7) as u8).collect();
    let digest = Digest::of(&bytes);
    let log: Arc<Mutex<Vec<u64>>> = Arc::default();
    let written = log.clone();
    let told = Arc::new(move |sent| written.lock().unwrap().push(sent));
    let upload = Upload { digest, size: size as u64, content: Content::of(&bytes), told };
    let target = Reference::parse(&format!("{}/test:1", server.host())).unwrap();
    let outcome = registries.send_blob(&target, &upload, None, &Cancel::new());
    let told = log.lock().unwrap().clone();
    Sent { hub, server, outcome, digest, told }
}

#[test]
fn a_small_blob_takes_two_requests_and_a_large_one_three() {
    let small = send(1000, Hub::default());
    small.outcome.as_ref().unwrap();
    assert!(small.arrived());
    assert_eq!(small.requests(), ["POST", "PUT"]);
    assert_eq!(small.told.last(), Some(&1000));
    let empty = send(0, Hub::default());
    assert!(empty.arrived());
    let large = send(5 * MIB, Hub::default());
    large.outcome.as_ref().unwrap();
    assert!(large.arrived());
    assert_eq!(large.requests(), ["POST", "PATCH 0-5242879", "PUT"]);
    assert!(large.told.is_sorted() && large.told.last() == Some(&(5 * MIB as u64)), "{:?}", large.told);
}

#[test]
fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let hub = Hub::with(|method, _, before| (method == "PATCH" && before == 0).then_some(Fault::Cut(3 * MIB)));
    let sent = send(5 * MIB, hub);
    sent.outcome.as_ref().unwrap();
    assert!(sent.arrived());
    assert_eq!(sent.requests(), ["POST", "PATCH 0-5242879", "GET", "PATCH 3145728-5242879", "PUT"]);
}

#[test]
fn a_registry_that_lost_it_is_sent_all_of_it_again() {
    let hub = Hub::with(|method, _, before| match (method, before) {
        ("PATCH", 0) => Some(Fault::Cut(3 * MIB)),
        ("GET", _) => Some(Fault::Answer(Reply::new(404))),
        _ => None,
    });
    let sent = send(5 * MIB, hub);
    sent.outcome.as_ref().unwrap();
    assert!(sent.arrived());
    let expected = ["POST", "PATCH 0-5242879", "GET", "HEAD", "POST", "PATCH 0-5242879", "PUT"];
    assert_eq!(sent.requests(), expected);
}

#[test]
fn what_is_too_large_goes_in_parts() {
    let too_large = |method: &str, _: &str, before: usize| {
        (method == "PATCH" && before == 0).then(|| Fault::Answer(Reply::new(413)))
    };
    let sent = send(40 * MIB, Hub::with(too_large));
    sent.outcome.as_ref().unwrap();
    assert!(sent.arrived());
    let patches: Vec<String> = sent.requests().into_iter().filter(|line| line.starts_with("PATCH")).collect();
    let expected = ["PATCH 0-41943039", "PATCH 0-16777215", "PATCH 16777216-33554431", "PATCH 33554432-41943039"];
    assert_eq!(patches, expected);
}

#[test]
fn a_lost_answer_is_no_lost_blob() {
    let sent = send(1000, Hub::with(|method, _, _| (method == "PUT").then_some(Fault::Mute)));
    sent.outcome.as_ref().unwrap();
    assert!(sent.arrived());
    assert_eq!(sent.requests(), ["POST", "PUT", "GET", "HEAD"]);
    // The last part arrived, and its answer did not.
    let sent = send(5 * MIB, Hub::with(|method, _, _| (method == "PATCH").then_some(Fault::Mute)));
    sent.outcome.as_ref().unwrap();
    assert!(sent.arrived());
    assert_eq!(sent.requests(), ["POST", "PATCH 0-5242879", "GET", "PUT"]);
}

#[test]
fn what_may_pass_is_tried_again() {
    let busy = |before: usize| match before {
        0 => Some(Fault::Answer(Reply::new(429).header("Retry-After", "86400"))),
        1 => Some(Fault::Answer(Reply::new(503))),
        _ => None,
    };
    for method in ["POST", "PATCH", "PUT"] {
        let sent = send(5 * MIB, Hub::with(move |own, _, before| if own == method { busy(before) } else { None }));
        sent.outcome.as_ref().unwrap();
        assert!(sent.arrived(), "{method}");
    }
}

#[test]
fn what_never_passes_ends() {
    let sent = send(5 * MIB, Hub::with(|method, _, _| (method == "PATCH").then(|| Fault::Answer(Reply::new(500)))));
    let error = sent.outcome.unwrap_err().to_string();
    assert!(error.contains("answered 500") && error.contains("PATCH"), "{error}");
    let sent = send(5 * MIB, Hub::with(|method, _, _| (method == "PATCH").then_some(Fault::Cut(0))));
    let error = sent.outcome.unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
    let sent = send(1000, Hub::with(|method, _, _| (method == "PUT").then(|| Fault::Answer(Reply::new(403)))));
    assert!(matches!(sent.outcome, Err(ImageError::Denied { status: 403, .. })));
    assert_eq!(sent.server.asked().len(), 2);
}

#[test]
fn a_registry_that_takes_nothing_is_given_up_in_bounded_time() {
    let patience =
        Patience { silence: Duration::from_millis(100), commit: Duration::from_millis(100), attempts: 2, ..hurry() };
    let hub = Hub::with(|method, _, _| (method == "PATCH").then(|| Fault::Answer(Reply::silent())));
    let sent = send_with(5 * MIB, hub, patience);
    let error = sent.outcome.unwrap_err().to_string();
    assert!(error.contains("timed out"), "{error}");
}

#[test]
fn a_wrong_digest_is_an_error() {
    let other = Digest::of(b"other").to_string();
    let answer = move || Fault::Answer(Reply::new(201).header("Docker-Content-Digest", &other));
    let sent = send(1000, Hub::with(move |method, _, _| (method == "PUT").then(&answer)));
    assert!(matches!(sent.outcome, Err(ImageError::WrongDigest { what: "blob", .. })));
}

#[test]
fn a_registry_that_counts_wrong_is_an_error() {
    for range in ["0-99999999", "0-0"] {
        let answer = move || Fault::Answer(Reply::new(202).header("Range", range));
        let sent = send(5 * MIB, Hub::with(move |method, _, _| (method == "PATCH").then(answer)));
        assert!(matches!(sent.outcome, Err(ImageError::Protocol { .. })), "{range}");
    }
}

#[test]
fn an_upload_elsewhere_takes_no_credentials_along() {
    let storage = Server::start(|_| Reply::new(201));
    let elsewhere = format!("http://{}/upload?signature=1", storage.host());
    let server = Server::start(move |asked| match (asked.method.as_str(), asked.header("authorization")) {
        (_, None) => Reply::new(401).header("WWW-Authenticate", "Basic"),
        ("POST", _) => Reply::new(202).header("Location", &elsewhere),
        _ => Reply::new(500),
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let auth = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6aHVudGVyMg=="}}}}}}"#, server.host());
    std::fs::write(&file, auth).unwrap();
    let registries = Registries::new(Configuration::default(), Credentials::from_files([file]), hurry());
    let upload = Upload { digest: Digest::of(b"x"), size: 1, content: Content::of(b"x"), told: Arc::new(|_| {}) };
    let target = Reference::parse(&format!("{}/test:1", server.host())).unwrap();
    registries.send_blob(&target, &upload, None, &Cancel::new()).unwrap();
    let asked = &storage.asked()[0];
    assert_eq!((asked.header("authorization"), asked.body.as_slice()), (None, &b"x"[..]));
    assert!(asked.target.starts_with("/upload?signature=1&digest=sha256%3A"), "{}", asked.target);
}

#[test]
fn places_are_where_the_registry_says_but_never_without_encryption() {
    let configuration = Configuration::default();
    let (endpoint, _) = endpoint::endpoints(&configuration, "r.example:8443").unwrap();
    let asked = endpoint.uploads("a").unwrap();
    let placed = |location: &str| {
        let server = Server::start({
            let location = location.to_owned();
            move |_| Reply::new(202).header("Location", &location)
        });
        let registries = Registries::new(Configuration::default(), Credentials::none(), hurry());
        let url = Url::parse(&format!("http://{}/", server.host())).unwrap();
        let response = registries.http.send(&Request::get(url), &Cancel::new()).unwrap();
        place(&endpoint, &asked, &response).map(|url| url.unwrap().to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(placed("/x?y").unwrap(), "https://r.example:8443/x?y");
    assert_eq!(placed("http://r.example/x").unwrap(), "https://r.example:8443/x");
    assert_eq!(placed("https://s3.example/x").unwrap(), "https://s3.example/x");
    assert!(placed("http://s3.example/x").unwrap_err().contains("without encryption"));
    assert!(placed("ftp://r.example/x").unwrap_err().contains("not HTTP"));
}
