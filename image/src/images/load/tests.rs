//! Archives as docker, podman and skopeo write them, and as nobody should.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use kiln_cache::ArchiveLimits;
use kiln_solver::Digest;
use serde_json::json;

use super::*;
use crate::export::{self, Destination, Format, ImageOptions, Package};
use crate::fixture::{Bench, Fixture, archive, gzip};
use crate::spec::{Index, media_type};

const PLATFORM: &str = "linux/amd64";

/// A tar archive: a file's content, or `-> TARGET` for a symbolic link.
fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match content.strip_prefix(b"-> ") {
            Some(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, std::str::from_utf8(target).unwrap()).unwrap();
            }
            None => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, name, content.as_slice()).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn member(name: &str, content: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), content.into())
}

/// An image of two layers as docker wrote it before version 25, the second layer through a link.
fn docker_members() -> Vec<(String, Vec<u8>)> {
    let layers = [archive(&[("a", "1")]), archive(&[("b", "2")])];
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let manifest = json!([{"Config": "c0ffee.json", "RepoTags": ["app:1.0", "r.example/team/app:2"],
        "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    vec![
        member("one/layer.tar", layers[0].clone()),
        member("two/layer.tar", "-> ../three/layer.tar"),
        member("three/layer.tar", layers[1].clone()),
        member("c0ffee.json", config.to_string()),
        member("manifest.json", manifest.to_string()),
        member("repositories", "{}"),
    ]
}

fn load(bench: &Bench, bytes: &[u8]) -> Result<Vec<Loaded>, ImageError> {
    bench.images.load(Source::Stream(&mut &*bytes), None, &bench.cancel)
}

fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("archive");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[track_caller]
fn refused(bench: &Bench, bytes: &[u8], why: &str) {
    let error = load(bench, bytes).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    assert!(bench.store().images().unwrap().is_empty(), "{error}");
}

#[test]
fn an_archive_of_old_docker_is_read() {
    let bench = Bench::new();
    let loaded = load(&bench, &tar(&docker_members())).unwrap();
    let [Loaded { names, record }] = loaded.as_slice() else { panic!("{loaded:?}") };
    assert_eq!(names.iter().map(Reference::familiar).collect::<Vec<_>>(), ["app:1.0", "r.example/team/app:2"]);
    assert_eq!(bench.store().image("docker.io/library/app:1.0").unwrap().unwrap().id, record.id);
    assert_eq!(record.platform, PLATFORM.parse().unwrap());
    for layer in &record.layers {
        assert!(bench.store().layer(&layer.diff_id).unwrap().is_some());
    }
}

#[test]
fn compression_is_found_out_in_files_and_streams() {
    let plain = tar(&docker_members());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 9);
    xz.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for bytes in [plain.clone(), gzip(&plain), xz.finish().unwrap(), bzip2.finish().unwrap(), zstd] {
        let bench = Bench::new();
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &bytes);
        assert_eq!(load(&bench, &bytes).unwrap().len(), 1);
        let bench = Bench::new();
        assert_eq!(bench.images.load(Source::File(&path), None, &bench.cancel).unwrap().len(), 1);
    }
}

/// The members of an OCI layout with these images, all under one index.
fn layout_members(images: &[(&str, &Fixture)], name: &str) -> Vec<(String, Vec<u8>)> {
    let descriptors = images.iter().map(|(platform, image)| image.descriptor(platform)).collect();
    let index = serde_json::to_vec(&Index::of(descriptors)).unwrap();
    let mut root = Descriptor::of(media_type::OCI_INDEX, &index);
    root.annotations.insert("io.containerd.image.name".to_owned(), name.to_owned());
    let blobs = images.iter().flat_map(|(_, image)| image.blobs.values().chain([&image.manifest])).chain([&index]);
    let mut members: Vec<_> =
        blobs.map(|blob| member(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob.clone())).collect();
    members.push(member("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#));
    members.push(member("index.json", serde_json::to_vec(&Index::of(vec![root])).unwrap()));
    members
}

#[test]
fn an_index_keeps_its_digest_and_all_platforms() {
    let amd = Fixture::new(PLATFORM, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let arm = Fixture::new("linux/arm64", &[("a", "4")]);
    let members = layout_members(&[(PLATFORM, &amd), ("linux/arm64", &arm)], "docker.io/library/app:1.0");
    let bench = Bench::new();
    let loaded = load(&bench, &tar(&members)).unwrap();
    let record = bench.store().image("docker.io/library/app:1.0").unwrap().unwrap();
    assert_eq!(record.platforms().len(), 2);
    assert_eq!(*record.identity(), *loaded[0].record.identity());
    let package = Package::of(&bench.images, &record, &loaded[0].names, &bench.cancel).unwrap();
    assert_eq!(package.root().digest, *record.identity(), "as it came");

    let one = Bench::new();
    let loaded = one.images.load(
        Source::Stream(&mut tar(&members).as_slice()),
        Some(&"linux/arm64".parse().unwrap()),
        &one.cancel,
    );
    assert_eq!(loaded.unwrap()[0].record.platforms()[0].platform.to_string(), "linux/arm64");
    let none = one.images.load(
        Source::Stream(&mut tar(&members).as_slice()),
        Some(&"linux/s390x".parse().unwrap()),
        &one.cancel,
    );
    assert!(matches!(none, Err(ImageError::Platform { .. })));

    // docker leaves out the blobs of platforms that it has not pulled.
    let own: Vec<_> =
        members.into_iter().filter(|(_, content)| !arm.blobs.values().any(|blob| blob == content)).collect();
    let partial = Bench::new();
    assert_eq!(load(&partial, &tar(&own)).unwrap()[0].record.platforms().len(), 1);
}

#[test]
fn what_was_saved_is_loaded() {
    let from = Bench::new();
    let record = load(&from, &tar(&docker_members())).unwrap().remove(0).record;
    for format in [Format::Docker, Format::Oci] {
        let names = vec![Reference::parse("saved:1").unwrap(), Reference::parse("r.example/saved").unwrap()];
        let options = ImageOptions { names: names.clone(), ..ImageOptions::default() };
        let package =
            Package::make(&from.images, std::slice::from_ref(&record), false, &options, &from.cancel).unwrap();
        let mut bytes = Vec::new();
        export::write(&[package], format, Destination::Stream(&mut bytes), &from.cancel).unwrap();
        let to = Bench::new();
        let loaded = load(&to, &bytes).unwrap();
        assert_eq!((loaded.len(), &loaded[0].names, loaded[0].record.id), (1, &names, record.id));
    }
}

#[test]
fn an_image_without_a_name_goes_by_its_id() {
    let mut members = docker_members();
    members[4].1 = String::from_utf8(members[4].1.clone())
        .unwrap()
        .replace(r#"["app:1.0","r.example/team/app:2"]"#, "null")
        .into();
    let bench = Bench::new();
    let loaded = load(&bench, &tar(&members)).unwrap().remove(0);
    assert!(loaded.names.is_empty());
    assert!(bench.store().image(&loaded.record.id.to_string()).unwrap().is_some());
}

#[test]
fn broken_archives_are_refused() {
    let bench = Bench::new();
    let with = |name: &str, content: &str| {
        let mut members = docker_members();
        let place = members.iter().position(|(known, _)| known == name).unwrap();
        members[place].1 = content.as_bytes().to_vec();
        tar(&members)
    };
    let whole = tar(&docker_members());
    refused(&bench, b"", "neither `index.json` nor `manifest.json`");
    refused(&bench, b"no archive at all", "cannot load images from `standard input`");
    refused(&bench, &whole[..2000], "cannot load");
    refused(&bench, &gzip(&whole)[..300], "cannot");
    refused(&bench, &tar(&[member("repositories", "{}")]), "docker 1.9");
    refused(&bench, &with("manifest.json", "[]"), "no image in it");
    refused(&bench, &with("manifest.json", "{"), "malformed");
    refused(&bench, &with("c0ffee.json", "[]"), "malformed");
    refused(&bench, &with("one/layer.tar", "no layer"), "is corrupted");
    refused(&bench, &with("two/layer.tar", "-> ../two/layer.tar"), "has no `two/layer.tar`");
    refused(&bench, &with("two/layer.tar", "-> ../../../etc/passwd"), "has no `two/layer.tar`");
    refused(&bench, &with("manifest.json", r#"[{"Config":"c0ffee.json","Layers":["one/layer.tar"]}]"#), "2 layers");
    refused(
        &bench,
        &with("manifest.json", r#"[{"Config":"../../etc/passwd","Layers":[]}]"#),
        "has no `../../etc/passwd`",
    );
}

#[test]
fn a_blob_that_is_not_what_it_is_called_is_refused() {
    let image = Fixture::new(PLATFORM, &[("a", "1")]);
    let members = layout_members(&[(PLATFORM, &image)], "app");
    for blob in [&image.manifest, &image.config, &image.blobs[&image.layers[0].1.digest]] {
        let other = |(name, content): &(String, Vec<u8>)| {
            let mut content = content.clone();
            if content == *blob {
                content[20] ^= 1;
            }
            (name.clone(), content)
        };
        let changed: Vec<_> = members.iter().map(other).collect();
        refused(&Bench::new(), &tar(&changed), "");
    }
}

#[test]
fn a_layer_that_is_here_gets_no_blob_of_another() {
    let bench = Bench::new();
    let record = load(&bench, &tar(&docker_members())).unwrap().remove(0).record;
    let known = |bench: &Bench| bench.store().known_blob(&record.layers[0].diff_id).unwrap();
    let before = known(&bench);
    let mut members = docker_members();
    members[0].1 = gzip(&archive(&[("a", "evil")]));
    let error = load(&bench, &tar(&members)).unwrap_err();
    assert!(matches!(error, ImageError::Unpack { .. }), "{error}");
    assert_eq!(known(&bench), before);
    members[0].1 = gzip(&archive(&[("a", "1")]));
    load(&bench, &tar(&members)).unwrap();
    assert_ne!(known(&bench), before, "the same in another form");
}

#[test]
fn hostile_archives_end_in_bounds() {
    let bench = Bench::new();
    bench.store().limit_archives(ArchiveLimits { size: Some(4 << 20), entries: 1000 });
    let bomb = zstd::encode_all(vec![0_u8; 64 << 20].as_slice(), 1).unwrap();
    refused(&bench, &bomb, "larger than the disk has room for");
    let many: Vec<_> = (0..2000).map(|number| member(&format!("member-{number}"), "")).collect();
    refused(&bench, &tar(&many), "more than 1000 entries");
    let mut large = docker_members();
    large[4].1 = vec![b' '; 5 << 20];
    bench.store().limit_archives(ArchiveLimits::default());
    refused(&bench, &tar(&large), "larger than");
    let deep = "[".repeat(100_000);
    large[4].1 = deep.into();
    refused(&bench, &tar(&large), "malformed");
}

#[test]
fn a_name_stays_with_its_image_until_the_new_one_is_whole() {
    let bench = Bench::new();
    let first = load(&bench, &tar(&docker_members())).unwrap().remove(0).record;
    let mut members = docker_members();
    members[3].1 = String::from_utf8(members[3].1.clone()).unwrap().replace("\"sh\"", "\"other\"").into();
    members[2].1 = b"broken".to_vec();
    let fresh = Bench::new();
    assert!(load(&fresh, &tar(&members)).is_err());
    assert!(fresh.store().images().unwrap().is_empty());
    bench.cancel.request();
    assert!(matches!(load(&bench, &tar(&docker_members())), Err(ImageError::Cancelled)));
    assert_eq!(bench.store().image("docker.io/library/app:1.0").unwrap().unwrap().id, first.id);
}
