//! What `--output` takes, and what it does not.

use kiln_image::export::AnnotationPlace;

use super::*;

fn image(format: Format, compression: Option<Compression>, destination: Destination) -> Output {
    let docker = format == Format::Docker && !matches!(compression, Some(Compression::Zstd { .. }));
    let media_types = if docker { MediaTypes::Docker } else { MediaTypes::Oci };
    Output::Image { format, image: ImageAttributes { compression, media_types, ..Default::default() }, destination }
}

fn files(directory: &str) -> Output {
    Output::Files(FilesOutput {
        directory: directory.into(),
        platform_split: None,
        is_mirror: false,
        attestation_prefix: String::new(),
    })
}

fn archive(destination: ArchiveDestination) -> Output {
    Output::Archive { destination, platform_split: None, attestation_prefix: String::new() }
}

#[test]
fn outputs_are_understood() {
    use Compression::{Gzip, Uncompressed, Zstd};
    use Format::{Docker, Oci};
    let file = |path: &str| Destination::File(path.into());
    let stdout = || Destination::Stdout;
    let engine = || Destination::Engine(None);
    let cases = [
        ("out", files("out")),
        ("a=b", files("a=b")),
        ("-", archive(ArchiveDestination::Stdout)),
        ("type=local,dest=out", files("out")),
        ("type=local,dest=out,mode=copy", files("out")),
        ("type=tar", archive(ArchiveDestination::Stdout)),
        ("type=tar,dest=-", archive(ArchiveDestination::Stdout)),
        ("dest=a.tar,type=tar", archive(ArchiveDestination::File("a.tar".into()))),
        ("type=oci", image(Oci, None, stdout())),
        ("type=docker,dest=app.tar", image(Docker, None, file("app.tar"))),
        ("type=docker,dest=app,tar=false", image(Docker, None, Destination::Directory("app".into()))),
        ("type=oci,\"dest=a,b\"", image(Oci, None, file("a,b"))),
        ("type=oci,dest=out,tar=false", image(Oci, None, Destination::Directory("out".into()))),
        ("type=oci,compression=zstd,compression-level=22", image(Oci, Some(Zstd { level: 22 }), stdout())),
        ("type=oci,compression-level=9", image(Oci, Some(Gzip { level: 9 }), stdout())),
        ("type=oci,compression=gzip,compression-level=0", image(Oci, Some(Gzip { level: 0 }), stdout())),
        ("type=docker,compression=gzip", image(Docker, Some(Gzip { level: 6 }), engine())),
        ("type=docker,compression=zstd", image(Docker, Some(Zstd { level: 3 }), engine())),
        ("type=docker,dest=-,compression=uncompressed", image(Docker, Some(Uncompressed), stdout())),
        ("type=docker", image(Docker, None, engine())),
        ("type=docker,context=far", image(Docker, None, Destination::Engine(Some("far".to_owned())))),
        ("type=cacheonly", Output::CacheOnly),
    ];
    for (text, expected) in cases {
        assert_eq!(Output::parse(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn images_have_attributes() {
    let text = "type=image,\"name=app,r.example/app:2\",oci-mediatypes=true,force-compression=true,store=false,\
                rewrite-timestamp=false,unpack=true,registry.insecure=false,push=false";
    let Output::Store { image, is_kept: false, push: None } = Output::parse(text).unwrap() else { panic!("{text}") };
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["docker.io/library/app:latest", "r.example/app:2"]);
    assert!(image.force_compression && image.rewrite_timestamp == Some(false) && image.media_types == MediaTypes::Oci);
    let text = "type=image,oci-mediatypes=false,push=true,name=a\\,b:1";
    let Output::Store { image, is_kept: true, push: Some(_) } = Output::parse(text).unwrap() else { panic!() };
    assert_eq!((image.media_types, image.names.len()), (MediaTypes::Docker, 2));
    let text = "type=registry,push-by-digest=true,registry.insecure=true";
    let Output::Store { is_kept: false, push, .. } = Output::parse(text).unwrap() else { panic!() };
    assert_eq!(push, Some(Push { by_digest: true, is_insecure: true }));
    let text = "type=local,dest=out,platform-split=false,mode=delete";
    let Output::Files(files) = Output::parse(text).unwrap() else { panic!("{text}") };
    assert!(files.is_mirror && files.platform_split == Some(false));
}

#[test]
fn annotations_have_places_and_platforms() {
    let text = "type=oci,annotation.a.b=1,annotation-index.C=2,annotation[linux/arm64].d=3,\
                annotation-manifest-descriptor[linux/arm/v7].e.f[x]=4";
    let found = Output::parse(text).unwrap().image().unwrap().annotations.clone();
    let mut expected = Annotations::default();
    let mut add = |place, platform: Option<&str>, key: &str, value: &str| {
        expected.add(place, platform.map(|text| text.parse().unwrap()), key.to_owned(), value.to_owned());
    };
    add(AnnotationPlace::Manifest, None, "a.b", "1");
    add(AnnotationPlace::Index, None, "C", "2");
    add(AnnotationPlace::Manifest, Some("linux/arm64"), "d", "3");
    add(AnnotationPlace::ManifestDescriptor, Some("linux/arm/v7"), "e.f[x]", "4");
    assert_eq!(found, expected);
    let mut flags = Annotations::default();
    for flag in ["a.b=1", "index:C=2", "manifest[linux/arm64]:d=3", "manifest-descriptor[linux/arm/v7]:e.f[x]=4"] {
        parse_annotation(&mut flags, flag).unwrap();
    }
    assert_eq!(flags, expected);
    for flag in ["a", "=b", "layer:a=b", "manifest[linux:a=b", "manifest[a b]:c=d"] {
        assert_eq!(parse_annotation(&mut flags, flag).unwrap_err().exit_code(), 2, "{flag}");
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let cases = [
        ("", "the destination is empty"),
        ("type=", "`type` is missing"),
        ("dest=a,x", "`x` is not of the form `key=value`"),
        ("type=squashfs", "unknown type `squashfs`: expected image, registry, oci, docker, local, tar or cacheonly"),
        ("type=registry,push=false", "type `registry` is always pushed: `push=false` is for type `image`"),
        ("type=registry,dest=x", "type `registry` has no attribute `dest`"),
        ("type=image,push-by-digest=true", "`push-by-digest` and `registry.insecure` need `push=true`"),
        ("type=image,name=A", "invalid image reference `A`: the repository name must be lower-case: `library/A`"),
        ("type=oci,push=true", "type `oci` has no attribute `push`"),
        ("type=local", "type `local` needs `dest=DIRECTORY`"),
        ("type=local,dest=-", "type `local` needs `dest=DIRECTORY`"),
        ("type=local,dest=", "`dest` is empty"),
        ("type=local,dest=x,mode=move", "`mode` is `copy` or `delete`, not `move`"),
        ("type=tar,compression=gzip", "type `tar` has no attribute `compression`"),
        ("type=tar,annotation.a=b", "type `tar` has no attribute `annotation`"),
        ("type=oci,store=true", "type `oci` has no attribute `store`"),
        ("type=oci,mode=delete", "type `oci` has no attribute `mode`"),
        ("type=cacheonly,dest=x", "type `cacheonly` has no attribute `dest`"),
        ("type=oci,tar=false", "`tar=false` needs `dest=DIRECTORY`"),
        ("type=oci,tar=no", "`tar` is `true` or `false`, not `no`"),
        ("type=oci,compression=xz", "unknown compression `xz`: expected gzip, zstd or uncompressed"),
        (
            "type=oci,compression=estargz,force-compression=true",
            "`force-compression` is not supported with `estargz` in this version",
        ),
        ("type=oci,compression=gzip,compression-level=10", "level 10 is not between 0 and 9"),
        ("type=oci,compression=zstd,compression-level=23", "level 23 is not between 1 and 22"),
        ("type=oci,color=red", "unknown attribute `color`"),
        ("type=oci,annotation=x", "unknown attribute `annotation`"),
        (
            "type=oci,annotation-layer.a=x",
            "annotations have no place `layer`: expected manifest, index, \
            manifest-descriptor or index-descriptor",
        ),
        ("type=oci,\"dest=x", "a quote `\"` is not closed"),
    ];
    for (text, expected) in cases {
        let error = Output::parse(text).unwrap_err();
        assert_eq!(error.message, format!("`--output {text}`: {expected}"));
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn only_what_is_below_may_be_mirrored_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let current = folder.path().join("here");
    std::fs::create_dir_all(current.join("out")).unwrap();
    std::os::unix::fs::symlink(folder.path(), current.join("link")).unwrap();
    let is_below = |path: &Path| {
        FilesOutput {
            directory: path.to_owned(),
            platform_split: None,
            is_mirror: true,
            attestation_prefix: String::new(),
        }
        .is_below(&current)
    };
    assert!(is_below(&current.join("out")) && is_below(&current.join("new/deep")));
    for outside in [&current, folder.path(), &current.join("link"), &current.join("link/x"), &current.join("out/..")] {
        assert!(!is_below(outside), "{}", outside.display());
    }
}
