//! Images, archives, contexts and mounts that mean harm: nothing is read or written outside of what they belong to.

use crate::hostile_tar::Tar;
use kiln_tests::layout::{self, Layout};
use kiln_tests::{World, users};
use serde_json::json;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// A directory that anybody may write to, with a file that must stay what it is.
struct Outside(PathBuf);

impl Outside {
    fn new(world: &World) -> Self {
        let path = world.path().join("outside");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("victim"), "untouched").unwrap();
        for path in [&path, &path.join("victim")] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Relative to any root that is not too deep, with as many steps up as one likes.
    fn up(&self) -> String {
        format!("{}{}", "../".repeat(40), self.path().trim_start_matches('/'))
    }

    fn assert_untouched(&self, what: &str) {
        let names: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["victim"], "{what}: something was made outside");
        assert_eq!(std::fs::read_to_string(self.0.join("victim")).unwrap(), "untouched", "{what}");
    }
}

/// What becomes of an archive.
enum Fate {
    /// It is refused, for a reason that has one of these in it.
    Refused(&'static str),
    /// It is taken; everything is inside.
    Taken,
}
use Fate::{Refused, Taken};

type Case = (&'static str, Tar, Fate);

/// Archives that try to reach the outside, whether they are layers or added.
fn archives(outside: &Outside) -> Vec<Case> {
    let (path, up) = (outside.path().to_owned(), outside.up());
    let victim = format!("{path}/victim");
    let link = || Tar::default().symlink("link", &path).symlink("up", &up);
    vec![
        ("steps up", Tar::default().file(&format!("{up}/victim"), "x"), Refused("leads out of")),
        ("steps up behind a name", Tar::default().file(&format!("a/../{up}/victim"), "x"), Refused("leads out of")),
        ("steps up to a directory", Tar::default().directory("../made"), Refused("leads out of")),
        ("an absolute name", Tar::default().file(&victim, "x"), Taken),
        ("through a link", link().file("link/victim", "x"), Taken),
        ("through a link that goes up", link().file("up/victim", "x"), Taken),
        ("through a link to a link", link().symlink("two", "link").file("two/made", "x"), Taken),
        ("through a link and up again", link().file("link/../made", "x"), Taken),
        ("a directory in place of a link", link().directory("link").file("link/victim", "x"), Taken),
        ("a link out of a directory that was made", link().directory("link/made"), Taken),
        ("a link made behind a link", link().symlink("link/more", "/").file("link/more/made", "x"), Taken),
        ("a link to a file, overwritten", Tar::default().symlink("l", &victim).file("l", "x"), Taken),
        (
            "a hard link to a link, overwritten",
            Tar::default().symlink("l", &victim).hard_link("h", "l").file("h", "x"),
            Taken,
        ),
        ("a hard link to the outside", Tar::default().hard_link("h", &victim), Refused("`h`|leads out of")),
        (
            "a hard link that goes up",
            Tar::default().hard_link("h", &format!("{up}/victim")),
            Refused("`h`|leads out of"),
        ),
        ("a hard link through a link", link().hard_link("h", "link/victim"), Refused("`h`|leads out of")),
        ("a hard link, then written through", link().hard_link("link/h", "link").file("link/h/victim", "x"), Taken),
        ("a name with line ends", Tar::default().file("a\nb\r/c\u{1b}[2J", "x"), Taken),
        ("a name too long for any disk", Tar::default().file(&"n".repeat(300), "x"), Refused("n")),
        (
            "a circle of links",
            Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "x"),
            Refused("a/x|too many levels"),
        ),
        ("a name with a NUL", Tar::default().file("first", "x").record("path", b"a\0b").file("x", "x"), Refused("NUL")),
        (
            "a hundred thousand components",
            Tar::default().file(&format!("{}f", "d/".repeat(100_000)), "x"),
            Refused("d/d|too long"),
        ),
        ("a hundred thousand steps", Tar::default().file(&format!("{}f", "d/../".repeat(100_000)), "x"), Taken),
    ]
}

/// Layers whose marks make no sense.
fn whiteouts() -> Vec<Case> {
    let mut cases: Vec<Case> = [".wh.", "d/.wh..", ".wh...", ".wh..wh..opq", ".wh.d/file"]
        .map(|name| ("a senseless whiteout", Tar::default().file(name, ""), Refused(".wh.")))
        .into();
    cases.push(("a whiteout of the machine", Tar::default().file("../.wh.victim", ""), Refused("leads out of")));
    cases.push((
        "whiteouts of all",
        Tar::default().file(".wh.etc", "").file(".wh.proc", "").file(".wh.dev", ""),
        Taken,
    ));
    cases
}

/// An image of busybox and more layers on top.
fn image(world: &World, name: &str, layers: Vec<Vec<u8>>) -> String {
    let layout = Layout::create(world.path().join(name));
    let program = std::fs::read("/bin/busybox").unwrap();
    let base = Tar::default()
        .mode(0o755)
        .bytes("bin/busybox", &program)
        .symlink("bin/sh", "busybox")
        .file("data/file", "of the base")
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n");
    let all = std::iter::once(base.finish()).chain(layers);
    let layers: Vec<_> = all.map(|archive| layout.layer(&archive)).collect();
    let manifest = layout.image(layout::config(json!({ "Env": ["PATH=/bin"] })), &layers);
    layout.tag(&[("latest", &manifest)]);
    format!("hostile=oci-layout://{}", layout.path().display())
}

fn judge(world: &World, outside: &Outside, what: &str, fate: &Fate, kiln: kiln_tests::Kiln) {
    let outcome = kiln.run();
    outside.assert_untouched(what);
    outcome.does_not_say("panicked");
    match fate {
        Taken => assert_eq!(outcome.status.code(), Some(0), "{what}\n{outcome}"),
        Refused(reason) => {
            assert_eq!(outcome.status.code(), Some(1), "{what} was to be refused\n{outcome}");
            let told = reason.split('|').any(|reason| outcome.stderr.contains(reason));
            assert!(told, "{what}: {reason}?\n{outcome}");
        }
    }
    let left = std::fs::read_dir(world.root().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "{what}: something is left in the store");
}

fn layers_stay_inside(world: &World) {
    let outside = Outside::new(world);
    for (number, (what, tar, fate)) in archives(&outside).into_iter().chain(whiteouts()).enumerate() {
        let context = image(world, &format!("image{number}"), vec![tar.finish()]);
        let project = world.project(&[
            (
                "Dockerfile",
                "FROM hostile\nRUN [\"/bin/busybox\", \"true\"]\nCOPY file /link/copied\nCOPY file /up/copied\n",
            ),
            ("file", "x"),
        ]);
        judge(world, &outside, what, &fate, world.build(&project).args(["--build-context", &context]));
    }
}

#[test]
fn layers_of_images_stay_inside() {
    layers_stay_inside(&World::new());
}

#[test]
fn layers_of_images_stay_inside_without_root() {
    layers_stay_inside(&World::of(users::with_ranges()));
}

fn added_archives_stay_inside(world: &World) {
    let outside = Outside::new(world);
    for (what, tar, fate) in archives(&outside) {
        for place in ["/", "/into/"] {
            let project = world.project(&[("Dockerfile", &format!("FROM busybox\nADD hostile.tar {place}\n"))]);
            std::fs::write(project.join("hostile.tar"), tar.clone().finish()).unwrap();
            world.give(project.path());
            judge(world, &outside, what, &fate, world.build(&project));
        }
    }
}

#[test]
fn added_archives_stay_in_their_directory() {
    added_archives_stay_inside(&World::new());
}

#[test]
fn added_archives_stay_in_their_directory_without_root() {
    added_archives_stay_inside(&World::of(users::with_ranges()));
}

#[test]
fn marks_of_overlayfs_in_layers_mean_nothing() {
    for world in [World::new(), World::of(users::with_ranges())] {
        let marks: &[(&str, &[u8])] =
            &[("opaque", b"y"), ("redirect", b"/bin"), ("metacopy", b""), ("whiteout", b""), ("origin", b"x")];
        let mut tar = Tar::default();
        for (mark, value) in marks {
            for class in ["trusted", "user"] {
                tar = tar.record(&format!("SCHILY.xattr.{class}.overlay.{mark}"), value);
            }
        }
        let context = image(&world, "marked", vec![tar.directory("data").finish()]);
        let script = "FROM hostile\nRUN test \"$(cat /data/file)\" = 'of the base' && test ! -e /data/busybox && busybox touch /data/new\n";
        let project = world.project(&[("Dockerfile", script)]);
        let tree = world.image(&project, &["--build-context", &context]).tree();
        assert_eq!((tree.text("data/file"), tree.has("data/new")), ("of the base".into(), true));
    }
}

#[test]
fn a_directory_that_becomes_a_link_between_layers_leads_nowhere() {
    let world = World::new();
    let outside = Outside::new(&world);
    for target in [outside.path().to_owned(), outside.up(), "/proc/self/root/tmp".into()] {
        let layers = vec![
            Tar::default().directory("place").file("place/first", "x").finish(),
            Tar::default().file(".wh.place", "").symlink("place", &target).finish(),
            Tar::default().file("place/victim", "overwritten").finish(),
        ];
        let context = image(&world, &format!("swapped{}", target.len()), layers);
        let project = world.project(&[
            (
                "Dockerfile",
                "FROM hostile\nRUN echo x > /place/by-run && test ! -e /place/first\nCOPY file /place/by-copy\nWORKDIR /place/made\n",
            ),
            ("file", "x"),
        ]);
        let tree = world.image(&project, &["--build-context", &context]).tree();
        outside.assert_untouched(&target);
        let expected = ["by-copy", "by-run", "made", "victim"];
        assert_eq!(tree.below("place"), expected, "{target}");
    }
}

#[test]
fn devices_of_an_image_cannot_be_opened() {
    let world = World::new();
    let devices = Tar::default().device("zero", b'3', 1, 5).device("memory", b'3', 1, 1).device("loop", b'4', 7, 0);
    let context = image(&world, "devices", vec![devices.finish()]);
    let project = world.project(&[(
        "Dockerfile",
        "FROM hostile\nRUN for f in /memory /loop; do busybox head -c 1 $f && exit 3; done; busybox mknod /made c 1 1; \
         busybox head -c 1 /made && exit 4; busybox head -c 1 /zero > /read\n",
    )]);
    let tree = world.image(&project, &["--build-context", &context]).tree();
    assert!(tree.has("zero") && tree.has("made"), "nodes are kept all the same");
    assert_eq!(tree.text("read"), "\0");
}

#[test]
fn links_of_a_context_do_not_lead_out() {
    links_do_not_lead_out(&World::new());
}

#[test]
fn links_of_a_context_do_not_lead_out_without_root() {
    links_do_not_lead_out(&World::of(users::with_ranges()));
}

fn links_do_not_lead_out(world: &World) {
    let outside = Outside::new(world);
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY file /\n"), ("file", "x")]);
    symlink(outside.path(), project.join("link")).unwrap();
    symlink(outside.up(), project.join("up")).unwrap();
    symlink(format!("{}/victim", outside.path()), project.join("direct")).unwrap();
    for source in ["link/victim", "up/victim", "direct", "link/", "up/*", "lin[k]/vic*"] {
        for instruction in ["COPY", "ADD"] {
            project.write("Dockerfile", &format!("FROM scratch\n{instruction} {source} /got\n"));
            let outcome = world.build(&project).args(["-o", "type=tar,dest=-"]).run();
            let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
            assert!(!text.contains("untouched"), "{instruction} {source} read what is outside");
            // As with BuildKit, wildcards may match nothing.
            if !source.contains(['*', '[']) {
                assert_eq!(outcome.status.code(), Some(1), "{instruction} {source}\n{outcome}");
            }
        }
    }
    project.write("Dockerfile", "FROM scratch\nCOPY . /all/\n");
    let tree = world.tree(&project);
    assert_eq!(tree.link("all/link"), outside.path());
    assert_eq!(tree.link("all/direct"), format!("{}/victim", outside.path()));
}

/// Somebody who can write to the context swaps directories and files for links while they are being copied.
#[test]
fn a_context_that_changes_under_the_hand_leads_nowhere() {
    let world = World::new();
    let outside = Outside::new(&world);
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY place /place\nCOPY place/victim /one\n")]);
    project.write("place/victim", "inside");
    project.write("away/victim", "inside");
    let stop = AtomicBool::new(false);
    let path = |name: &str| project.join(name);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::fs::rename(path("place"), path("kept")).unwrap();
                symlink(outside.path(), path("place")).unwrap();
                std::fs::remove_file(path("place")).unwrap();
                std::fs::rename(path("kept"), path("place")).unwrap();
                std::fs::remove_file(path("place/victim")).unwrap();
                symlink(format!("{}/victim", outside.path()), path("place/victim")).unwrap();
                std::fs::remove_file(path("place/victim")).unwrap();
                std::fs::write(path("place/victim"), "inside").unwrap();
            }
        });
        for _ in 0..60 {
            let outcome = world.build(&project).args(["--no-cache", "-o", "type=tar,dest=-"]).run();
            let leaked = String::from_utf8_lossy(&outcome.stdout).contains("untouched");
            if leaked || outcome.stderr.contains("panicked") {
                stop.store(true, Ordering::Relaxed);
                panic!("a link was followed out of the context\n{outcome}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    outside.assert_untouched("a context in motion");
}

/// Another name of a file is a way to its content, if it is not copied.
fn hard_links_lead_nowhere(world: &World) {
    let outside = Outside::new(world);
    let layer = Tar::default().file("one", "of the layer").hard_link("other", "one").hard_link("dir/third", "one");
    let context = image(world, "linked", vec![layer.finish()]);
    let change = |path: &str| format!("echo overwritten > {path} && busybox chmod 600 {path} && busybox rm {path}");
    let dockerfile = format!(
        "FROM hostile\nCOPY hard /copied\nADD hard /added\nRUN {copied} && {added}\n\
         RUN --mount=target=/c,rw busybox ln /c/hard /c/more && {bound} && {more}\n\
         RUN --mount=type=cache,target=/c,from=hostile,source=/ ! busybox ln /c/one /out && {cached} && {third}\n\
         RUN --mount=from=hostile,target=/c,rw ! busybox ln /c/one /out && {mounted}\n\
         COPY file /other\nADD replacing.tar /\nRUN test \"$(busybox cat /one)\" = 'of the layer'\n",
        copied = change("/copied"),
        added = change("/added"),
        bound = change("/c/hard"),
        more = change("/c/more"),
        cached = change("/c/one"),
        third = change("/c/dir/third"),
        mounted = change("/c/other"),
    );
    let project = world.project(&[("Dockerfile", &dockerfile), ("file", "new")]);
    std::fs::write(project.join("replacing.tar"), Tar::default().file("dir/third", "new").finish()).unwrap();
    std::fs::hard_link(outside.0.join("victim"), project.join("hard")).unwrap();
    let before = std::fs::metadata(outside.0.join("victim")).unwrap().permissions();
    let tree = world.image(&project, &["--build-context", &context]).tree();
    outside.assert_untouched("hard links");
    assert_eq!(std::fs::metadata(outside.0.join("victim")).unwrap().permissions(), before);
    let texts = ["one", "other", "dir/third"].map(|path| tree.text(path));
    assert_eq!(texts, ["of the layer", "new", "new"]);
}

#[test]
fn hard_links_of_contexts_and_layers_lead_nowhere() {
    hard_links_lead_nowhere(&World::new());
}

#[test]
fn hard_links_of_contexts_and_layers_lead_nowhere_without_root() {
    hard_links_lead_nowhere(&World::of(users::with_ranges()));
}

#[test]
fn mounts_lead_nowhere() {
    mounts_stay_inside(&World::new());
}

#[test]
fn mounts_lead_nowhere_without_root() {
    mounts_stay_inside(&World::of(users::with_ranges()));
}

fn mounts_stay_inside(world: &World) {
    let outside = Outside::new(world);
    let links = Tar::default()
        .symlink("link", outside.path())
        .symlink("up", &outside.up())
        .symlink("process", "/proc/self/root")
        .symlink("etc/hosts", &format!("{}/victim", outside.path()));
    let context = image(world, "links", vec![links.finish()]);
    let try_it = |mount: &str, script: &str| {
        let text = format!("FROM hostile\nRUN --mount={mount} {script}\n");
        let project = world.project(&[("Dockerfile", &text)]);
        let outcome = world.build(&project).args(["--build-context", &context]).run();
        outside.assert_untouched(mount);
        outcome.does_not_say("panicked").does_not_say("untouched");
        outcome.status.code()
    };
    // What is bound is looked up in what it comes from.
    for source in ["/link", "/link/victim", "/up/victim", "/process/tmp", "../../../../etc/shadow", "/etc/hosts"] {
        let code = try_it(&format!("type=bind,from=hostile,source={source},target=/seen"), "cat /seen /seen/victim");
        assert_eq!(code, Some(1), "{source}");
    }
    // Places for mounts are in the root, wherever links lead.
    for target in ["/link/x", "/up/x", "/link", "/../../../link/x"] {
        for kind in ["tmpfs", "cache", "bind,from=hostile,source=/bin"] {
            let code = try_it(&format!("type={kind},target={target}"), "true");
            assert_eq!(code, Some(0), "{kind} at {target}");
        }
    }
    // The name of a cache mount is not a path, and neither is what was left in it.
    for id in ["../../../../outside", outside.path(), "..", ".", "a/b", "\u{1b}[2J"] {
        let mount = format!("type=cache,id={id},target=/cache");
        let leave = format!("busybox ln -sf {} /cache/link; echo x > /cache/x", outside.path());
        assert_eq!(try_it(&mount, &leave), Some(0), "{id}");
        let inner = format!("{mount} --mount=type=tmpfs,target=/cache/link/inner");
        try_it(&inner, "true");
        try_it(&format!("{mount},source=link"), "echo x > /cache/x");
        try_it(&format!("type=cache,id={id}2,from=hostile,source=/link,target=/cache"), "echo x > /cache/x");
    }
}

#[test]
fn names_that_look_like_whiteouts_do_not_become_some() {
    let world = World::new();
    let project = world.project(&[
        ("Dockerfile", "FROM busybox\nRUN mkdir /d && touch /d/kept\nRUN touch /d/.wh.kept /d/.wh..wh..opq\n"),
        ("file", "x"),
    ]);
    let outcome = world.build(&project).run();
    outcome.does_not_say("panicked");
    if outcome.status.success() {
        assert!(world.tree(&project).has("d/kept"), "a file became a whiteout in the image");
    }
    project.write("Dockerfile", "FROM busybox\nRUN mkdir /d && touch /d/kept\nCOPY file /d/.wh.kept\n");
    let outcome = world.build(&project).run();
    if outcome.status.success() {
        assert!(world.tree(&project).has("d/kept"), "a file became a whiteout in the image");
    }
}
