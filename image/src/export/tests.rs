//! Archives and directories, checked by reading them back and by other tools.

mod attested;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use kiln_cache::{Compression, ImageRecord};
use kiln_solver::{Digest, Origin, Platform};

use super::*;
use crate::Reference;
use crate::assemble;
use crate::fixture::{Bench, Fixture};
use crate::registry::testing::Server;
use crate::spec::{History, Image, Index, Manifest, media_type};
use crate::{Location, Pull};

const AMD64: &str = "linux/amd64";

/// An image with one layer pulled from a registry, unless there is none, and one made here.
struct Built {
    bench: Bench,
    record: ImageRecord,
    fixture: Fixture,
    server: Server,
}

fn built() -> Built {
    let bench = Bench::new();
    let fixture = Fixture::new(AMD64, &[("base", "from the base")]);
    let serve = Fixture::new(AMD64, &[("base", "from the base")]);
    let server = Server::start(move |asked| serve.answer(asked));
    let location = Location::parse(&format!("{}/test:1", server.host())).unwrap();
    let platform: Platform = AMD64.parse().unwrap();
    let base = bench.images.resolve(&location, &platform, Pull::Missing).unwrap();
    let own = make_layer(&bench, |root| {
        std::fs::create_dir(root.join("dir")).unwrap();
        std::fs::write(root.join("dir/file"), "built").unwrap();
        std::fs::hard_link(root.join("dir/file"), root.join("a-link")).unwrap();
        symlink("/etc/passwd", root.join("dir/symlink")).unwrap();
        std::fs::set_permissions(root.join("dir/file"), std::fs::Permissions::from_mode(0o4750)).unwrap();
        std::fs::set_permissions(root.join("dir"), std::fs::Permissions::from_mode(0o711)).unwrap();
    });
    let mut image: Image = base.image.clone();
    image.history = vec![History { created_by: "RUN".to_owned(), ..History::default() }];
    let layers = [base.layers, vec![own]].concat();
    let record = assemble(bench.store(), &image, &layers, None).unwrap().record;
    Built { bench, record, fixture, server }
}

fn make_layer(bench: &Bench, fill: impl FnOnce(&Path)) -> Layer {
    let draft = bench.store().begin_layer().unwrap();
    fill(draft.files());
    let stored = draft.commit(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    Layer { diff_id: *stored.diff_id(), origin: Origin::Built }
}

fn options(names: &[&str]) -> ImageOptions {
    let names = names.iter().map(|name| Reference::parse(name).unwrap()).collect();
    ImageOptions { names, ..ImageOptions::default() }
}

/// Makes a package of an image and writes it; yields the digest of its manifest.
fn export(
    images: &Images,
    record: &ImageRecord,
    format: Format,
    options: &ImageOptions,
    destination: Destination<'_>,
    cancel: &Cancel,
) -> Result<Digest, ImageError> {
    let package = Package::make(images, std::slice::from_ref(record), false, options, cancel)?;
    write(std::slice::from_ref(&package), format, destination, cancel)?;
    Ok(package.root().digest)
}

impl Built {
    fn files(&self) -> Vec<Files> {
        vec![Files { directory: String::new(), layers: self.record.layers.clone() }]
    }

    fn archive(&self, format: Format, options: &ImageOptions) -> Vec<u8> {
        let media_types = if format == Format::Docker { MediaTypes::Docker } else { MediaTypes::Oci };
        let options = ImageOptions { media_types, ..options.clone() };
        let mut bytes = Vec::new();
        let destination = Destination::Stream(&mut bytes);
        export(&self.bench.images, &self.record, format, &options, destination, &self.bench.cancel).unwrap();
        bytes
    }
}

/// The files of an archive, in order.
fn unpack(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

fn manifest_of(files: &BTreeMap<String, Vec<u8>>) -> (Index, Manifest) {
    let index: Index = serde_json::from_slice(&files["index.json"]).unwrap();
    let name = format!("blobs/sha256/{}", index.manifests[0].digest.hex());
    (index, serde_json::from_slice(&files[&name]).unwrap())
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_archive_says_when_its_image_was_made() {
    let Built { bench, record, server: _server, .. } = built();
    let make = |record: &ImageRecord| {
        let records = std::slice::from_ref(record);
        Package::make(&bench.images, records, false, &options(&["a:1", "b:2"]), &Cancel::new()).unwrap()
    };
    assert!(make(&record).root().annotations.is_empty());
    let directory = tempfile::tempdir().unwrap();
    let place = Destination::Directory(directory.path().to_owned());
    write(&[make(&record).dated()], Format::Oci, place, &Cancel::new()).unwrap();
    let index: Index = serde_json::from_slice(&std::fs::read(directory.path().join("index.json")).unwrap()).unwrap();
    let times = index.manifests.iter().map(|listed| listed.annotations["org.opencontainers.image.created"].as_str());
    assert_eq!(times.collect::<Vec<_>>(), ["2001-09-09T01:46:40Z"; 2]);
    // One that has no time, as one of no layers, has nothing to say.
    let empty = Image::empty(&AMD64.parse().unwrap());
    let nothing = assemble(bench.store(), &empty, &[], None).unwrap().record;
    assert!(make(&nothing).dated().root().annotations.is_empty());
}

#[test]
fn an_archive_is_the_same_every_time() {
    let built = built();
    let first = built.archive(Format::Docker, &options(&["app:1"]));
    assert!(first == built.archive(Format::Docker, &options(&["app:1"])));
    let names: Vec<String> = unpack(&first).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(names[names.len() - 3..], ["oci-layout", "manifest.json", "index.json"]);
    assert!(names.is_sorted_by_key(|name| if name.starts_with("blobs/") { name.as_str() } else { "z" }));
}

#[test]
fn the_base_keeps_its_blobs_and_is_not_unpacked() {
    let built = built();
    let options =
        ImageOptions { compression: Some(Compression::Zstd { level: 3 }), ..options(&["app:1", "r.example/x:2"]) };
    let files = unpack(&built.archive(Format::Oci, &options)).into_iter().collect();
    let (index, manifest) = manifest_of(&files);
    assert_eq!(manifest.layers[0], built.fixture.layers[0].1);
    assert_eq!(manifest.layers[1].media_type, media_type::OCI_LAYER_ZSTD);
    assert!(built.bench.store().layer(&built.record.layers[0].diff_id).unwrap().is_none());
    let annotation = |key: &str| -> Vec<String> {
        index.manifests.iter().map(|descriptor| descriptor.annotations[key].clone()).collect()
    };
    assert_eq!(annotation("io.containerd.image.name"), ["docker.io/library/app:1", "r.example/x:2"]);
    assert_eq!(annotation("org.opencontainers.image.ref.name"), ["1", "2"]);
    for (name, bytes) in files.iter().filter(|(name, bytes)| name.starts_with("blobs/") && !bytes.is_empty()) {
        assert_eq!(*name, format!("blobs/sha256/{}", Digest::of(bytes).hex()));
    }
}

#[test]
fn other_tools_take_the_archives() {
    let built = built();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(path(name), bytes).unwrap();
    write("oci.tar", built.archive(Format::Oci, &options(&["app:1"])));
    write("docker.tar", built.archive(Format::Docker, &options(&["app:1", "app:latest"])));
    let no_names = built.archive(Format::Docker, &options(&[]));
    write("bare.tar", no_names);
    for source in
        ["oci-archive:oci.tar", "docker-archive:docker.tar", "docker-archive:bare.tar", "oci-archive:bare.tar"]
    {
        let (kind, name) = source.split_once(':').unwrap();
        let tag = if name == "docker.tar" { ":app:1" } else { "" };
        let source = format!("{kind}:{}{tag}", path(name));
        let config = run("skopeo", &["inspect", "--config", &source]);
        assert!(config.contains("FIXTURE=yes"), "{config}");
    }
    let target = path("layout");
    run("skopeo", &["copy", &format!("docker-archive:{}:app:1", path("docker.tar")), &format!("oci:{target}:1")]);
    run("umoci", &["raw", "unpack", "--rootless", "--image", &format!("{target}:1"), &path("rootfs")]);
    assert_eq!(std::fs::read(path("rootfs/base")).unwrap(), b"from the base");
    assert_eq!(std::fs::read(path("rootfs/a-link")).unwrap(), b"built");
}

#[test]
fn a_layout_directory_takes_several_images() {
    let built = built();
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let export_as = |name: &str| {
        let destination = Destination::Directory(layout.clone());
        export(&built.bench.images, &built.record, Format::Oci, &options(&[name]), destination, &built.bench.cancel)
            .unwrap()
    };
    let digests = [export_as("app:1"), export_as("app:2"), export_as("app:1")];
    assert_eq!(digests[0], digests[2]);
    let index: Index = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(index.manifests.len(), 2);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["layout"]);
    for tag in ["1", "2"] {
        run("umoci", &["stat", "--image", &format!("{}:{tag}", layout.display())]);
        let location = Location::parse(&format!("oci-layout://{}:{tag}", layout.display())).unwrap();
        let resolved = built.bench.images.resolve(&location, &AMD64.parse().unwrap(), Pull::Missing).unwrap();
        assert_eq!(resolved.digest, digests[0]);
    }
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let built = built();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.tar");
    let export = |images: &Images, path: &Path| {
        let destination = Destination::File(path.to_owned());
        super::tests::export(images, &built.record, Format::Oci, &options(&["app:1"]), destination, &built.bench.cancel)
    };
    export(&built.bench.images, &path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o111, 0);
    let other = folder.path().join("link.tar");
    symlink("out.tar", &other).unwrap();
    export(&built.bench.images, &other).unwrap();
    assert!(std::fs::symlink_metadata(&other).unwrap().is_symlink());
    export(&built.bench.images, Path::new("/dev/null")).unwrap();
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    for bad in [folder.path().to_owned(), folder.path().join("absent/out.tar")] {
        let error = export(&built.bench.images, &bad).unwrap_err();
        assert!(error.to_string().contains(bad.to_str().unwrap()), "{error}");
    }
    built.bench.cancel.request();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(export(&built.bench.images, &path), Err(ImageError::Cancelled)));
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["link.tar"]);
}

#[test]
fn a_base_that_cannot_be_had_any_more_is_an_error() {
    let Built { bench, record, server, .. } = built();
    drop(server);
    let mut bytes = Vec::new();
    let outcome =
        export(&bench.images, &record, Format::Oci, &options(&[]), Destination::Stream(&mut bytes), &bench.cancel);
    assert!(matches!(outcome, Err(ImageError::Unreachable { .. })));
    assert!(bytes.is_empty());
}

#[test]
fn files_go_into_a_new_directory() {
    let built = built();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let keep = LocalOptions { keep_owners: rustix::process::geteuid().is_root(), ..LocalOptions::default() };
    local(&built.bench.images, &built.files(), &root, keep, &built.bench.cancel).unwrap();
    assert_eq!(std::fs::read(root.join("base")).unwrap(), b"from the base");
    let (file, link) =
        (std::fs::metadata(root.join("dir/file")).unwrap(), std::fs::metadata(root.join("a-link")).unwrap());
    assert_eq!((file.mode() & 0o7777, file.ino()), (0o4750, link.ino()));
    assert_eq!(std::fs::metadata(root.join("dir")).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(std::fs::read_link(root.join("dir/symlink")).unwrap(), Path::new("/etc/passwd"));
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["root"]);
}

#[test]
fn files_are_merged_and_no_link_leads_out() {
    let built = built();
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    std::fs::create_dir_all(root.join("base/old")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "untouched").unwrap();
    std::fs::write(root.join("other"), "stays").unwrap();
    symlink(&outside, root.join("dir")).unwrap();
    symlink(outside.join("file"), root.join("a-link")).unwrap();
    let belongs_to_user = LocalOptions::default();
    for _ in 0..2 {
        local(&built.bench.images, &built.files(), &root, belongs_to_user, &built.bench.cancel).unwrap();
        assert_eq!(std::fs::read(root.join("dir/file")).unwrap(), b"built");
    }
    assert_eq!(std::fs::read(root.join("base")).unwrap(), b"from the base");
    assert_eq!(std::fs::read(root.join("other")).unwrap(), b"stays");
    assert!(std::fs::symlink_metadata(root.join("dir")).unwrap().is_dir());
    let untouched: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(untouched, ["file"]);
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"untouched");
    assert!(
        std::fs::read_dir(&root).unwrap().all(|entry| !entry.unwrap().file_name().to_str().unwrap().contains("tmp"))
    );
}

#[test]
fn files_go_into_an_archive() {
    let built = built();
    let mut bytes = Vec::new();
    tar(&built.bench.images, &built.files(), None, Destination::Stream(&mut bytes), &built.bench.cancel).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
    let names: Vec<PathBuf> = names.collect();
    for name in ["a-link", "base", "dir/file", "dir/symlink"] {
        assert!(names.contains(&PathBuf::from(name)), "{names:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error =
        tar(&built.bench.images, &[], None, Destination::Directory(folder.path().to_owned()), &built.bench.cancel);
    assert!(matches!(error, Err(ImageError::Export { .. })));
}

#[test]
fn an_image_of_nothing_can_be_written() {
    let bench = Bench::new();
    let image = Image::empty(&AMD64.parse().unwrap());
    let record = assemble(bench.store(), &image, &[], None).unwrap().record;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.tar");
    export(
        &bench.images,
        &record,
        Format::Docker,
        &options(&["empty"]),
        Destination::File(path.clone()),
        &bench.cancel,
    )
    .unwrap();
    run("skopeo", &["inspect", "--config", &format!("docker-archive:{}", path.display())]);
    local(&bench.images, &[Files::default()], &folder.path().join("empty"), LocalOptions::default(), &bench.cancel)
        .unwrap();
    assert!(folder.path().join("empty").is_dir());
}
