//! Images with attestations: they stay with it wherever it goes.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::attest::Attestation;
use crate::push::{Targets, push};
use crate::registry::testing::Hub;

const KIND: &str = "https://example.org/said";

fn said() -> Attestation {
    Attestation { predicate_type: KIND.to_owned(), predicate: json!({ "well": "made" }) }
}

fn attested(built: &Built, names: &[&str]) -> Package {
    let options = options(names);
    let records = std::slice::from_ref(&built.record);
    let package = Package::make(&built.bench.images, records, true, &options, &built.bench.cancel).unwrap();
    package.attest(&[vec![said()]], &options)
}

fn digests(package: &Package) -> Vec<Digest> {
    package.documents().keys().copied().collect()
}

#[test]
fn an_index_lists_them_behind_the_image() {
    let built = built();
    let package = attested(&built, &["app:1"]);
    let index: Index = serde_json::from_slice(&package.documents()[&package.root().digest]).unwrap();
    let [image, attestation] = index.manifests.as_slice() else { panic!("{index:?}") };
    assert_eq!(attestation.annotations["vnd.docker.reference.digest"], image.digest.to_string());
    assert_eq!(attestation.platform.as_ref().unwrap().architecture, "unknown");
    assert_eq!(package.config(), None);
    // Index, manifest and config; the attestations' own and what they say; no index that was there before.
    assert_eq!(package.documents().len(), 6);
    let statement = package.documents().values().find(|document| document.starts_with(br#"{"_type""#)).unwrap();
    let statement: serde_json::Value = serde_json::from_slice(statement).unwrap();
    assert_eq!(statement["subject"][0]["name"], "pkg:docker/app@1?platform=linux%2Famd64");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], image.digest.hex());
    let records = std::slice::from_ref(&built.record);
    let plain = Package::make(&built.bench.images, records, false, &options(&[]), &built.bench.cancel);
    let plain = plain.unwrap().attest(&[Vec::new()], &options(&[]));
    assert!(plain.config().is_some(), "nothing said, nothing changed");
}

#[test]
fn the_store_keeps_them_as_long_as_the_image() {
    let built = built();
    let package = attested(&built, &["app:1"]);
    let store = built.bench.store();
    let record = package.keep(store).unwrap();
    store.tag("docker.io/library/app:1", &record).unwrap();
    let found = store.image("docker.io/library/app:1").unwrap().unwrap();
    assert_eq!(found.index.as_ref().unwrap().attached.len(), 3);
    let prune = kiln_cache::Prune { all: true, ..kiln_cache::Prune::default() };
    store.prune(&prune).unwrap();
    let again = Package::of(&built.bench.images, &found, &[], &built.bench.cancel).unwrap();
    assert_eq!(digests(&again), digests(&package));
    assert_eq!(again.root().digest, package.root().digest);
    let attested = built.bench.images.stored_attestations(&package.root().digest, |_| true).unwrap();
    assert_eq!(attested[0].attestations, [said()]);
    store.untag("docker.io/library/app:1").unwrap();
    store.prune(&prune).unwrap();
    assert!(found.index.unwrap().attached.iter().all(|digest| store.blob(digest).unwrap().is_none()));
}

#[test]
fn they_travel_from_registry_to_registry() {
    let built = built();
    let (hub, other) = (Arc::new(Hub::default()), Arc::new(Hub::default()));
    let (server, second) = (Server::hub(&hub), Server::hub(&other));
    let name = |server: &Server| Reference::parse(&format!("{}/app:1", server.host())).unwrap();
    let targets = |server: &Server| Targets { names: vec![name(server)], by_digest: false };
    let package = attested(&built, &["app:1"]);
    push(&built.bench.images, &package.parcel(), &targets(&server), &built.bench.cancel).unwrap();
    let away = Bench::new();
    let pulled = away.images.pull(&name(&server), None, &away.cancel).unwrap();
    assert_eq!(pulled.digest, package.root().digest);
    let package = Package::to_push(&away.images, &pulled.record, &[], &away.cancel).unwrap();
    push(&away.images, &package.parcel(), &targets(&second), &away.cancel).unwrap();
    assert_eq!(hub.manifest("app", "1"), other.manifest("app", "1"));
    for registry in [&server, &second] {
        let attested = away.images.attestations(&name(registry), |kind| kind == KIND, &away.cancel).unwrap();
        assert_eq!(attested[0].attestations, [said()]);
    }
    assert!(away.images.pull(&name(&second), None, &away.cancel).is_ok());
}
