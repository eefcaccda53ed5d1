//! Whole images on their way to a registry.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::fixture::{Bench, hurry};
use crate::registry::Upload;
use crate::registry::testing::{Asked, Fault, Hub, Reply, Server};
use crate::spec::{Index, Manifest, media_type};
use crate::transfer::{Spared, Transfer, Watcher};
use crate::{Credentials, Patience};

/// An image of a config and some layers.
fn parcel(layers: &[&[u8]]) -> Parcel {
    let blob = |kind: &str, bytes: &[u8]| ParcelBlob {
        descriptor: Descriptor::of(kind, bytes),
        at: Place::Here(Content::of(bytes)),
    };
    let mut blobs: Vec<ParcelBlob> = layers.iter().map(|layer| blob(media_type::OCI_LAYER, layer)).collect();
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        config: Descriptor::of(media_type::OCI_CONFIG, b"{}"),
        layers: blobs.iter().map(|blob| blob.descriptor.clone()).collect(),
        annotations: BTreeMap::new(),
        extra: crate::spec::Extra::new(),
    };
    blobs.push(blob(media_type::OCI_CONFIG, b"{}"));
    let bytes = serde_json::to_vec(&manifest).unwrap();
    Parcel { documents: vec![Document { media_type: media_type::OCI_MANIFEST.to_owned(), bytes }], blobs }
}

fn targets(server: &Server, names: &[&str]) -> Targets {
    let name = |name: &&str| Reference::parse(&format!("{}/{name}", server.host())).unwrap();
    Targets { names: names.iter().map(name).collect(), by_digest: false }
}

fn methods(asked: &[Asked]) -> Vec<String> {
    asked.iter().map(|asked| format!("{} {}", asked.method, asked.path())).collect()
}

/// Writes down what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Watcher for Notes {
    fn spared(&self, transfer: &Transfer, why: &Spared) {
        self.0.lock().unwrap().push(format!("{} {why:?}", transfer.size));
    }
    fn started(&self, transfer: &Transfer) {
        self.0.lock().unwrap().push(format!("{} started", transfer.size));
    }
    fn moved(&self, transfer: &Transfer, bytes: u64) {
        self.0.lock().unwrap().push(format!("{} moved {bytes}", transfer.size));
    }
    fn ended(&self, transfer: &Transfer, arrived: bool) {
        self.0.lock().unwrap().push(format!("{} ended {arrived}", transfer.size));
    }
}

#[test]
fn only_what_is_lacking_is_sent_and_names_come_last() {
    let hub = Arc::new(Hub::default());
    let server = Server::hub(&hub);
    hub.put_blob("app", b"one");
    let notes = Arc::new(Notes::default());
    let Bench { images, .. } = Bench::new();
    let images = images.watched_by(notes.clone());
    let parcel = parcel(&[b"one", b"twice", b"twice"]);
    push(&images, &parcel, &targets(&server, &["app:1", "app:2"]), &Cancel::new()).unwrap();
    let digest = parcel.digest().unwrap();
    let manifest = (media_type::OCI_MANIFEST.to_owned(), parcel.documents[0].bytes.clone());
    for name in ["1", "2", &digest.to_string()] {
        assert_eq!(hub.manifest("app", name), Some(manifest.clone()));
    }
    let asked = methods(&server.asked());
    assert_eq!(asked[asked.len() - 2..], ["PUT /v2/app/manifests/1", "PUT /v2/app/manifests/2"]);
    assert_eq!(asked.iter().filter(|line| line.starts_with("POST")).count(), 2);
    let mut told = notes.0.lock().unwrap().clone();
    told.sort();
    let expected = ["2 ended true", "2 moved 2", "2 started", "3 There", "5 ended true", "5 moved 5", "5 started"];
    assert_eq!(told, expected);
    // All is there now: one question for each blob, and the names.
    let before = server.asked().len();
    push(&images, &parcel, &targets(&server, &["app:1"]), &Cancel::new()).unwrap();
    let mut again = methods(&server.asked()[before..]);
    assert_eq!(again.pop().unwrap(), "PUT /v2/app/manifests/1");
    assert!(again.len() == 3 && again.iter().all(|line| line.starts_with("HEAD /v2/app/blobs/")), "{again:?}");
}

#[test]
fn a_second_repository_takes_what_the_first_has() {
    let hub = Arc::new(Hub::default());
    let server = Server::hub(&hub);
    let parcel = parcel(&[b"one"]);
    push(&Bench::new().images, &parcel, &targets(&server, &["app:1", "team/copy:1"]), &Cancel::new()).unwrap();
    assert_eq!(server.asked().iter().filter(|asked| asked.method == "PUT").count(), 4);
    assert!(hub.blob("team/copy", &Digest::of(b"one")).is_some());
    assert!(hub.manifest("team/copy", "1").is_some());
}

#[test]
fn a_repository_that_may_not_be_read_is_no_obstacle() {
    let hub = Arc::new(Hub::with(|_, target, _| target.contains("mount=").then(|| Fault::Answer(Reply::new(403)))));
    let server = Server::hub(&hub);
    push(&Bench::new().images, &parcel(&[b"one"]), &targets(&server, &["app:1", "copy:1"]), &Cancel::new()).unwrap();
    assert!(hub.blob("copy", &Digest::of(b"one")).is_some());
}

#[test]
fn by_digest_there_are_no_tags() {
    let hub = Arc::new(Hub::default());
    let server = Server::hub(&hub);
    let parcel = parcel(&[b"one"]);
    let targets = Targets { by_digest: true, ..targets(&server, &["app:1", "app:2"]) };
    push(&Bench::new().images, &parcel, &targets, &Cancel::new()).unwrap();
    assert_eq!(hub.names(), [format!("app:{}", parcel.digest().unwrap())]);
}

#[test]
fn the_images_of_an_index_come_before_it() {
    let hub = Arc::new(Hub::default());
    let server = Server::hub(&hub);
    let (one, two) = (parcel(&[b"one"]), parcel(&[b"two"]));
    let manifests = [&one, &two].map(|image| Descriptor::of(media_type::OCI_MANIFEST, &image.documents[0].bytes));
    let bytes = serde_json::to_vec(&Index::of(manifests.to_vec())).unwrap();
    let index = Document { media_type: media_type::OCI_INDEX.to_owned(), bytes };
    let documents = [one.documents, two.documents, vec![index]].concat();
    let parcel = Parcel { documents, blobs: [one.blobs, two.blobs].concat() };
    push(&Bench::new().images, &parcel, &targets(&server, &["app:1"]), &Cancel::new()).unwrap();
    assert_eq!(hub.manifest("app", "1").unwrap().0, media_type::OCI_INDEX);
    let puts: Vec<String> = server
        .asked()
        .iter()
        .filter(|asked| asked.path().contains("manifests"))
        .map(|asked| asked.path().to_owned())
        .collect();
    assert_eq!(puts.len(), 3);
    assert_eq!(puts[2], "/v2/app/manifests/1");
    assert!(manifests.iter().all(|manifest| puts[..2].iter().any(|put| put.ends_with(&manifest.digest.to_string()))));
}

#[test]
fn nothing_gets_a_name_that_is_not_whole() {
    let hub = Arc::new(Hub::with(|method, target, _| {
        (method == "PUT" && target.contains("uploads")).then(|| Fault::Answer(Reply::new(500)))
    }));
    let server = Server::hub(&hub);
    let error = push(&Bench::new().images, &parcel(&[b"one"]), &targets(&server, &["app:1"]), &Cancel::new());
    assert!(matches!(error, Err(ImageError::Status { .. })), "{error:?}");
    assert!(hub.names().is_empty());
}

/// A registry that wants a token for each repository and what is done there, each good for so many requests.
fn token_server(uses: usize) -> (Arc<Hub>, Server) {
    let hub = Arc::new(Hub::default());
    let serve = hub.clone();
    let left: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let server = Server::start(move |asked| {
        let mut left = left.lock().unwrap();
        if asked.path() == "/token" {
            let token = format!("token{}", left.len());
            left.insert(token.clone(), uses);
            return Reply::ok("application/json", format!(r#"{{"token": "{token}", "expires_in": 300}}"#));
        }
        let token = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match token.and_then(|token| left.get_mut(token)) {
            Some(count) if *count > 0 => *count -= 1,
            _ => {
                let host = asked.header("host").unwrap();
                let scope = "repository:app:pull";
                let challenge = format!(r#"Bearer realm="http://{host}/token",service="s",scope="{scope}""#);
                return Reply::new(401).header("WWW-Authenticate", &challenge);
            }
        }
        drop(left);
        serve.answer(asked)
    });
    (hub, server)
}

#[test]
fn a_token_that_ends_in_the_middle_is_renewed() {
    let (hub, server) = token_server(1);
    let bench = Bench::new();
    let (registries, cancel) = (bench.images.registries(), Cancel::new());
    let target = Reference::parse(&format!("{}/app:1", server.host())).unwrap();
    let bytes = vec![7; 5 << 20];
    let (digest, content) = (Digest::of(&bytes), Content::of(&bytes));
    let upload = Upload { digest, size: bytes.len() as u64, content, told: Arc::new(|_| {}) };
    assert!(!registries.has_blob(&target, &digest, &cancel).unwrap());
    registries.send_blob(&target, &upload, None, &cancel).unwrap();
    registries.put_manifest(&target, media_type::OCI_MANIFEST, b"{}", &cancel).unwrap();
    assert!(hub.blob("app", &digest).is_some() && hub.manifest("app", "1").is_some());
    let asked = server.asked();
    let tokens: Vec<&Asked> = asked.iter().filter(|asked| asked.path() == "/token").collect();
    assert_eq!(tokens.len(), 5, "HEAD, POST, PATCH, PUT and PUT");
    assert!(tokens.iter().all(|asked| asked.target.contains("scope=repository%3Aapp%3Apull%2Cpush")));
}

/// Of a token whose end is known nobody waits to be told.
#[test]
fn a_token_that_is_about_to_end_is_not_used() {
    let server = Server::start(|asked| match (asked.path(), asked.header("authorization")) {
        ("/token", _) => Reply::ok("application/json", r#"{"token": "t", "expires_in": 1}"#),
        (_, Some(_)) => Reply::new(404),
        _ => {
            let challenge = format!(r#"Bearer realm="http://{}/token""#, asked.header("host").unwrap());
            Reply::new(401).header("WWW-Authenticate", &challenge)
        }
    });
    let bench = Bench::new();
    let target = Reference::parse(&format!("{}/app:1", server.host())).unwrap();
    for _ in 0..2 {
        bench.images.registries().has_blob(&target, &Digest::of(b""), &Cancel::new()).unwrap();
    }
    let targets: Vec<String> = server.asked().iter().map(|asked| asked.path().replace("/v2/app/", "")).collect();
    let blob = format!("blobs/{}", Digest::of(b""));
    assert_eq!(targets, [&blob, "/token", &blob, "/token", &blob]);
}

#[test]
fn several_threads_ask_for_one_token() {
    let (_, server) = token_server(1000);
    let layers: Vec<Vec<u8>> = (0..20_u8).map(|number| vec![number; 10]).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    push(&Bench::new().images, &parcel(&layers), &targets(&server, &["app:1"]), &Cancel::new()).unwrap();
    assert_eq!(server.count("GET", "/token"), 1);
}

#[test]
fn a_refusal_says_what_to_do() {
    let server = Server::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic"));
    let bench = Bench::with("", Credentials::none(), Patience { attempts: 1, ..hurry() });
    let error = push(&bench.images, &parcel(&[b"one"]), &targets(&server, &["app:1"]), &Cancel::new()).unwrap_err();
    assert!(error.to_string().contains(&format!("kiln login {}", server.host())), "{error}");
}
