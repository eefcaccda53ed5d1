//! The same image from any machine: with `SOURCE_DATE_EPOCH`, and with `--reproducible`.

use kiln_tests::layout::sha256;
use kiln_tests::{Image, Kiln, Project, World, command, users};
use std::process::Command;

const DOCKERFILE: &str = "FROM busybox AS make
WORKDIR /made/here
RUN echo $RANDOM > /dev/null && echo text > a && ln a b && mkdir -p c/d && ln -s a e && chmod 4750 a && mkfifo f
RUN rm /etc/group
COPY tree /tree
FROM scratch
ARG SOURCE_DATE_EPOCH
COPY --from=make / /
COPY --chown=3:4 tree /other
LABEL a=b
";

fn project(world: &World) -> Project {
    world.project(&[("Dockerfile", DOCKERFILE), ("tree/one", "1"), ("tree/two/three", "3")])
}

/// What a build writes as an OCI archive.
fn archive(world: &World, build: Kiln, attributes: &str) -> Vec<u8> {
    let file = world.home().join("app.tar");
    let _ = std::fs::remove_file(&file);
    build.args(["-t", "app:1", "-o", &format!("type=oci,{attributes}dest={}", file.display())]).succeeds();
    std::fs::read(&file).unwrap()
}

/// One build as root, with all cores; the other of an ordinary user on one core, whose store has the steps from a build
/// without any fixed time, and whose files are younger.
#[test]
fn two_users_with_different_stores_make_the_same_archive() {
    let (one, two) = (World::new(), World::of(users::with_ranges()));
    let (of_one, of_two) = (project(&one), project(&two));
    two.build(&of_two).succeeds();
    of_two.touch("tree/one");
    for attributes in ["", "compression=zstd,", "compression=uncompressed,"] {
        let first = one.build(&of_one).env("SOURCE_DATE_EPOCH", "1700000000");
        let second = two.build(&of_two).args(["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]).on_one_core();
        assert!(archive(&one, first, attributes) == archive(&two, second, attributes), "{attributes}");
    }
    let first = archive(&one, one.build(&of_one).arg("--reproducible"), "");
    assert!(first == archive(&two, two.build(&of_two).arg("--reproducible"), ""));
    let ids = [&one, &two].map(|world| world.kiln(["images", "-q", "--no-trunc", "app:1"]).succeeds().stdout_text());
    assert_eq!(ids[0], ids[1], "the stores list the same image");
}

/// Archives of one image with gzip, zstd and no compression at all.
const DIGESTS: [&str; 3] = [
    "f4c468f0766ec97ec2769476e71239e4cfcb3cb1d3517994fe11940a3c2fc9e5",
    "e9d63ec9fa1f08c05a4fb9aa75c8ef6a9d08aa2e5d6f49d72950ae6656eb6e0f",
    "d860295f59f9431afbe6aff5a91c2dce519573d2c6ed01d58ee31448765a1f5c",
];

/// Without a base image there is nothing in an archive that is not in this file.
#[test]
fn the_digests_stay_what_they_are() {
    let world = World::new();
    let dockerfile = "FROM scratch\nCOPY tree /tree\nWORKDIR /srv/dir\nENV A=b\nLABEL c=d\nCMD [\"/x\"]\n";
    let project = world.project(&[("Dockerfile", dockerfile), ("tree/one", "1"), ("tree/two/three", "3")]);
    let digest = |attributes: &str| {
        let build = world.build(&project).args(["--platform", "linux/amd64", "--reproducible"]);
        sha256(&archive(&world, build, attributes))
    };
    let digests = ["", "compression=zstd,", "compression=uncompressed,"].map(digest);
    assert_eq!(digests, DIGESTS);
}

#[test]
fn nothing_is_younger_than_it_may_be() {
    let world = World::new();
    let project = project(&world);
    let build = || world.build(&project).env("SOURCE_DATE_EPOCH", "1000000000");
    archive(&world, build(), "");
    let image = Image::from_oci_archive(&world.home().join("app.tar"));
    assert_eq!(image.config["created"], "2001-09-09T01:46:40Z");
    let latest = |image: &Image| {
        let times = image.layers.iter().flat_map(|(_, archive)| mtimes(archive));
        times.max().unwrap()
    };
    assert_eq!(latest(&image), 1_000_000_000);
    archive(&world, build(), "rewrite-timestamp=false,");
    assert!(latest(&Image::from_oci_archive(&world.home().join("app.tar"))) > 1_000_000_000);
    // It can be a base, with its own times.
    let above = world.project(&[("Dockerfile", "FROM app:1\nCOPY Dockerfile /\n")]);
    let tree = world.tree(&above);
    assert_eq!(tree.text("made/here/a"), "text\n");
    let out = world.path().join("out");
    build().args(["-o", out.to_str().unwrap()]).succeeds();
    let text = command::run(Command::new("find").arg(&out).args(["-printf", "%T@\\n"]));
    let times: std::collections::BTreeSet<&str> = text.lines().collect();
    assert!(times.contains("1000000000.0000000000") && times.len() <= 2, "all but the top: {times:?}");
    let warned = world.build(&project).args(["-o", "type=image,rewrite-timestamp=true"]).succeeds();
    assert!(warned.stderr.contains("SOURCE_DATE_EPOCH"), "{warned}");
}

fn mtimes(archive: &[u8]) -> Vec<u64> {
    let mut archive = tar::Archive::new(archive);
    archive.entries().unwrap().map(|entry| entry.unwrap().header().mtime().unwrap()).collect()
}

#[test]
fn the_store_is_whole_with_reproducible_images() {
    let world = World::new();
    let project = project(&world);
    world.build(&project).args(["-t", "app:1", "--reproducible"]).succeeds();
    world.kiln(["prune", "--force", "--all"]).succeeds();
    world.kiln(["fsck", "--deep"]).succeeds();
    let saved = |world: &World| archive(world, world.build(&project).arg("--reproducible"), "");
    let (again, fresh) = (saved(&world), saved(&World::new()));
    assert!(again == fresh, "after a prune, too");
}
