//! Finished layers are compressed while the next step runs, where an output will want them so.

use kiln_tests::layout::sha256;
use kiln_tests::{Image, World};
use rustix::process::Signal;
use std::path::Path;

/// How many of the store's blobs are compressed.
fn compressed(root: &Path) -> usize {
    let is_compressed = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
    };
    let blobs = std::fs::read_dir(root.join("blobs/sha256")).unwrap();
    blobs.filter(|blob| is_compressed(&blob.as_ref().unwrap().path())).count()
}

/// The first stage is in no image, and so of no use.
const DOCKERFILE: &str = "FROM busybox AS other
RUN seq 1000 > /other
FROM busybox
COPY --from=other /other /copied
RUN seq 100000 > /made
";

#[test]
fn layers_are_compressed_before_the_build_ends() {
    for (output, epoch) in [
        ("type=oci,dest=out.tar", None),
        ("type=docker,dest=out.tar,compression=zstd", None),
        ("type=registry,name=127.0.0.1:1/nowhere", None),
        ("type=oci,dest=out.tar", Some("1000000000")),
    ] {
        let world = World::new();
        let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
        world.build(&project).succeeds();
        let before = compressed(world.root());
        project.write("Dockerfile", &format!("{DOCKERFILE}RUN sleep 1000\n"));
        let kiln = world.build(&project).args(["--progress=plain", "-o", output]);
        let running = match epoch {
            Some(epoch) => kiln.env("SOURCE_DATE_EPOCH", epoch),
            None => kiln,
        }
        .start();
        world.until("two layers are compressed", || compressed(world.root()) == before + 2);
        running.signal(Signal::INT);
        assert_eq!(running.finish().status.code(), Some(130));
        assert_eq!(compressed(world.root()), before + 2, "the other stage is in no image");
    }
}

#[test]
fn what_stays_in_the_store_is_not_compressed() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", &format!("{DOCKERFILE}RUN echo end > /end\n"))]);
    let file = world.path().join("files.tar");
    world.build(&project).args(["-t", "app", "-o", &format!("type=tar,dest={}", file.display())]).succeeds();
    // What came from the registry is.
    let base = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    let other = World::new();
    other.build(&base).succeeds();
    assert_eq!(compressed(world.root()), compressed(other.root()));
}

#[test]
fn what_was_compressed_ahead_is_what_is_exported() {
    let project_of = |world: &World| {
        world.project(&[(
            "Dockerfile",
            &format!("{DOCKERFILE}RUN while ! test -e /made; do :; done; echo end > /end\n"),
        )])
    };
    let build = |world: &World, more: &[&str]| {
        let file = world.path().join("image.tar");
        let output = format!("type=oci,dest={}", file.display());
        let project = project_of(world);
        if more.is_empty() {
            // Built first and exported later, nothing is made ahead.
            world.build(&project).env("SOURCE_DATE_EPOCH", "1").args(["-o", "type=cacheonly"]).succeeds();
        }
        world.build(&project).env("SOURCE_DATE_EPOCH", "1").args(["-o", &output]).args(more).succeeds();
        Image::from_oci_archive(&file);
        sha256(&std::fs::read(&file).unwrap())
    };
    assert_eq!(build(&World::new(), &["--no-cache"]), build(&World::new(), &[]));
}
