//! Indexes from names, over registries of the tests' own.

use std::sync::Arc;

use kiln_solver::Digest;

use super::*;
use crate::export::{AnnotationPlace, Annotations};
use crate::fixture::{Bench, Fixture};
use crate::push::{Document as Sent, Targets, push};
use crate::registry::Content;
use crate::registry::testing::{Hub, Server};
use crate::spec::Index;

/// A registry.
struct Place {
    hub: Arc<Hub>,
    server: Server,
}

impl Place {
    fn new() -> Self {
        let hub = Arc::new(Hub::default());
        Self { server: Server::hub(&hub), hub }
    }

    fn name(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.server.host())).unwrap()
    }

    /// Puts an image there.
    fn put(&self, name: &str, fixture: &Fixture) -> Reference {
        let blob = |(_, descriptor): &(_, Descriptor)| (descriptor.clone(), fixture.blobs[&descriptor.digest].clone());
        let mut blobs: Vec<(Descriptor, Vec<u8>)> = fixture.layers.iter().map(blob).collect();
        blobs.push((Descriptor::of(media_type::OCI_CONFIG, &fixture.config), fixture.config.clone()));
        let blob = |(descriptor, bytes): (Descriptor, Vec<u8>)| ParcelBlob {
            descriptor,
            at: crate::push::Place::Here(Content::of(&bytes)),
        };
        let document = Sent { media_type: media_type::OCI_MANIFEST.to_owned(), bytes: fixture.manifest.clone() };
        let parcel = Parcel { documents: vec![document], blobs: blobs.into_iter().map(blob).collect() };
        self.push(&parcel, name);
        self.name(name)
    }

    fn push(&self, parcel: &Parcel, name: &str) {
        let targets = Targets { names: vec![self.name(name)], by_digest: false };
        push(&Bench::new().images, parcel, &targets, &Cancel::new()).unwrap();
    }
}

fn images() -> [Fixture; 2] {
    [Fixture::new("linux/amd64", &[("a", "1")]), Fixture::new("linux/arm64", &[("b", "2")])]
}

fn found(references: &[Reference]) -> Vec<Found> {
    let images = Bench::new().images;
    references.iter().map(|reference| find(&images, reference, &Cancel::new()).unwrap()).collect()
}

fn index_of(combined: &Combined) -> Index {
    serde_json::from_slice(&combined.bytes).unwrap()
}

#[test]
fn manifests_make_an_index_with_their_platforms() {
    let place = Place::new();
    let [one, two] = images();
    let sources = found(&[place.put("app:amd64", &one), place.put("app:arm64", &two)]);
    let images = Bench::new().images;
    let combined = combine(&images, &sources, &Annotations::default(), true, &[]).unwrap();
    assert_eq!(index_of(&combined).manifests, [one.descriptor("linux/amd64"), two.descriptor("linux/arm64")]);
    assert_eq!(combined.descriptor.media_type, media_type::OCI_INDEX);

    let before = place.server.asked().len();
    place.push(&combined.parcel(&images, &Cancel::new()).unwrap(), "app:all");
    assert_eq!(place.hub.manifest("app", "all").unwrap().1, combined.bytes);
    assert!(place.server.asked()[before..].iter().all(|asked| asked.method != "POST"), "all blobs are there");
}

#[test]
fn what_is_listed_twice_is_one() {
    let place = Place::new();
    let [one, two] = images();
    let (first, second) = (place.put("app:amd64", &one), place.put("app:arm64", &two));
    let images = Bench::new().images;
    let none = Annotations::default();
    let index = combine(&images, &found(&[first.clone(), second.clone()]), &none, true, &[]).unwrap();
    place.push(&index.parcel(&images, &Cancel::new()).unwrap(), "app:all");
    let again = combine(&images, &found(&[place.name("app:all"), second, first]), &none, true, &[]).unwrap();
    assert_eq!(again.bytes, index.bytes);
    // An index alone stays as it is, and one manifest if that is wanted.
    let alone = combine(&images, &found(&[place.name("app:all")]), &none, true, &[]).unwrap();
    assert_eq!(alone.descriptor, index.descriptor);
    let [manifest, wrapped] = [false, true]
        .map(|prefer_index| combine(&images, &found(&[place.name("app:amd64")]), &none, prefer_index, &[]).unwrap());
    assert_eq!(manifest.descriptor.digest, one.digest());
    assert_eq!(index_of(&wrapped).manifests, [one.descriptor("linux/amd64")]);
}

#[test]
fn annotations_have_two_places() {
    let place = Place::new();
    let [one, two] = images();
    let sources = found(&[place.put("app:amd64", &one), place.put("app:arm64", &two)]);
    let mut annotations = Annotations::default();
    annotations.add(AnnotationPlace::Index, None, "of".to_owned(), "all".to_owned());
    let arm = Some("linux/arm64".parse().unwrap());
    annotations.add(AnnotationPlace::ManifestDescriptor, arm, "of".to_owned(), "arm".to_owned());
    let index = index_of(&combine(&Bench::new().images, &sources, &annotations, true, &[]).unwrap());
    assert_eq!(index.annotations["of"], "all");
    assert!(index.manifests[0].annotations.is_empty());
    assert_eq!(index.manifests[1].annotations["of"], "arm");
}

#[test]
fn another_repository_takes_the_blobs_over_and_another_registry_gets_them() {
    let (here, there) = (Place::new(), Place::new());
    let [one, two] = images();
    let sources = found(&[here.put("app:amd64", &one), there.put("app:arm64", &two)]);
    let images = Bench::new().images;
    let combined = combine(&images, &sources, &Annotations::default(), true, &[]).unwrap();
    let parcel = combined.parcel(&images, &Cancel::new()).unwrap();
    here.push(&parcel, "team/copy:1");
    for fixture in [&one, &two] {
        for (_, layer) in &fixture.layers {
            assert_eq!(here.hub.blob("team/copy", &layer.digest), Some(fixture.blobs[&layer.digest].clone()));
        }
        assert!(here.hub.manifest("team/copy", &fixture.digest().to_string()).is_some());
    }
    let fetched = |place: &Place, fixture: &Fixture| {
        let path = format!("/v2/app/blobs/{}", fixture.layers[0].1.digest);
        place.server.count("GET", &path)
    };
    assert_eq!((fetched(&here, &one), fetched(&there, &two)), (0, 1), "what can be mounted is not fetched");
}

#[test]
fn a_blob_that_is_another_is_not_passed_on() {
    let (here, there) = (Place::new(), Place::new());
    let [one, _] = images();
    let sources = found(&[here.put("app:1", &one)]);
    let layer = one.layers[0].1.digest;
    let bench = Bench::new();
    let images = &bench.images;
    let mut parcel =
        combine(images, &sources, &Annotations::default(), false, &[]).unwrap().parcel(images, &Cancel::new()).unwrap();
    // As if the registry gave other bytes of the same length.
    let wrong = Digest::of(b"wrong");
    for blob in parcel.blobs.iter_mut().filter(|blob| blob.descriptor.digest == layer) {
        blob.descriptor.digest = wrong;
    }
    here.hub.put_blob_as("app", &wrong, &one.blobs[&layer]);
    let targets = Targets { names: vec![there.name("app:1")], by_digest: false };
    let error = push(images, &parcel, &targets, &Cancel::new()).unwrap_err();
    assert!(matches!(error, ImageError::WrongDigest { what: "blob", .. }), "{error}");
    assert!(there.hub.manifest("app", "1").is_none());
}
