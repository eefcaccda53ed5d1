//! What commands of all sorts are seen to look at: all of it, and nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use kiln_executor::trace::{Tracing, Union};
use rustix::fs::XattrFlags;

use super::{Place, told};
use crate::world::World;

const TREE: &[&str] =
    &["traced/a", "traced/b", "traced/d/x.c", "traced/d/y.c", "traced/d/z.h", "traced/other/deep/file"];

#[track_caller]
fn check(place: &Place<'_>, things: &[&str], script: &str, expected: &[&str]) {
    assert_eq!(place.seen(things, script), expected, "{script}");
}

pub fn reading(world: &World) {
    let place = &Place::new(world);
    if !place.is_machine() {
        return;
    }
    check(place, TREE, "cat traced/a", &["traced", "traced/a read"]);
    check(
        place,
        TREE,
        "cd traced/d && cat ../d/./x.c /traced/a",
        &["traced", "traced/a read", "traced/d", "traced/d/x.c read"],
    );
    check(place, TREE, "head -c 1 traced/a", &["traced", "traced/a read"]);
    check(place, TREE, "wc -l < /traced/d/y.c", &["traced", "traced/d", "traced/d/y.c read"]);
    let all = [
        "traced listed",
        "traced/a read",
        "traced/b read",
        "traced/d listed",
        "traced/d/x.c read",
        "traced/d/y.c read",
        "traced/d/z.h read",
        "traced/other listed",
        "traced/other/deep listed",
        "traced/other/deep/file read",
    ];
    check(place, TREE, "! grep -r nothing_like_it traced", &all);
    let script = "import mmap,os; f=open('/traced/a','rb'); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[0]";
    check(place, TREE, &format!("python3 -c \"{script}\""), &["traced", "traced/a read"]);
    let script = "import os; d=os.open('/traced/d',os.O_PATH); os.read(os.open('y.c',os.O_RDONLY,dir_fd=d),1)";
    check(place, TREE, &format!("python3 -c \"{script}\""), &["traced", "traced/d", "traced/d/y.c read"]);
}

pub fn looking(world: &World) {
    let place = &Place::new(world);
    if !place.is_machine() {
        return;
    }
    check(place, TREE, "stat -c %s traced/a", &["traced", "traced/a read"]);
    check(place, TREE, "test -e traced/a && test -x /traced/d", &["traced", "traced/a read", "traced/d"]);
    check(place, TREE, "! test -e traced/none", &["traced", "traced/none absent"]);
    check(place, TREE, "! test -e traced/none/of/it", &["traced", "traced/none absent"]);
    check(place, TREE, "! cat traced/a/below 2>/dev/null", &["traced", "traced/a read"]);
    check(place, TREE, "! test -e tracedshop/a", &[]);
    check(place, TREE, "cd traced/other", &["traced", "traced/other"]);
    check(
        place,
        TREE,
        "PATH=/traced/d:/traced/other:/bin; true; env true",
        &[
            "traced",
            "traced/d",
            "traced/d/env absent",
            "traced/d/true absent",
            "traced/other",
            "traced/other/env absent",
            "traced/other/true absent",
        ],
    );
    let elsewhere = place.traced(&place.union(&[TREE]), "cat /etc/hostname /none 2>&1; ls / >/dev/null", false);
    assert_eq!(elsewhere.below("etc"), ["etc absent"]);
    assert_eq!(elsewhere.below("none"), ["none absent"]);
    assert_eq!(elsewhere.below("traced"), [""; 0]);
    assert!(elsewhere.observations.facts().any(|fact| fact.path.is_empty() && fact.seen.listing.is_some()));
}

pub fn listing(world: &World) {
    let place = &Place::new(world);
    if !place.is_machine() {
        return;
    }
    check(place, TREE, "ls traced", &["traced listed"]);
    check(place, TREE, "ls -a traced/d", &["traced", "traced/d listed"]);
    let long = ["traced", "traced/d listed", "traced/d/x.c read", "traced/d/y.c read", "traced/d/z.h read"];
    check(place, TREE, "ls -l traced/d", &long);
    check(place, TREE, "echo traced/d/*.c", &["traced", "traced/d listed"]);
    check(
        place,
        TREE,
        "echo traced/*/x.c",
        &[
            "traced listed",
            "traced/a read",
            "traced/b read",
            "traced/d",
            "traced/d/x.c read",
            "traced/other",
            "traced/other/x.c absent",
        ],
    );
    let script = "find traced -name '*.h' -type f";
    check(
        place,
        TREE,
        script,
        &["traced listed", "traced/d listed", "traced/other listed", "traced/other/deep listed"],
    );
    check(
        place,
        TREE,
        "find traced -path traced/other -prune -o -name none",
        &["traced listed", "traced/d listed", "traced/other"],
    );
    check(place, TREE, "test -d traced && : > traced/new", &["traced", "traced/new absent"]);
}

pub fn links(world: &World) {
    let place = &Place::new(world);
    if !place.is_machine() {
        return;
    }
    let tree = &[
        "traced/one -> two",
        "traced/two -> /traced/way/../three",
        "traced/way/",
        "traced/three -> d/file",
        "traced/d/file",
        "traced/loose -> nowhere",
        "traced/first",
        "traced/second = traced/first",
    ];
    let chain = ["traced", "traced/d", "traced/d/file read", "traced/one", "traced/three", "traced/two", "traced/way"];
    check(place, tree, "cat traced/one", &chain);
    check(place, tree, "readlink traced/one; ls -d traced/two", &["traced", "traced/one", "traced/two"]);
    check(place, tree, "! cat traced/loose 2>/dev/null", &["traced", "traced/loose", "traced/nowhere absent"]);
    check(place, tree, "cat traced/second", &["traced", "traced/second read"]);
    let both = place.traced(&place.union(&[tree]), "cd traced; [ first -ef second ] && stat -c %h first second", false);
    assert_eq!(both.stdout(), "2\n2\n");
}

/// A program of this machine that is dynamically linked, and its loader, into a layer.
fn copy_program(root: &Path) {
    let loader = fs::canonicalize("/lib64/ld-linux-x86-64.so.2")
        .or_else(|_| fs::canonicalize("/lib/ld-linux-aarch64.so.1"))
        .unwrap();
    for (from, to) in
        [(Path::new("/usr/bin/true"), Path::new("traced/program")), (&loader, loader.strip_prefix("/").unwrap())]
    {
        fs::create_dir_all(root.join(to).parent().unwrap()).unwrap();
        fs::copy(from, root.join(to)).unwrap();
    }
    fs::write(root.join("traced/script"), "#!/traced/interpreter\nexit 3\n").unwrap();
    fs::set_permissions(root.join("traced/script"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("/bin/sh", root.join("traced/interpreter")).unwrap();
}

pub fn programs(world: &World) {
    let place = &Place::new(world);
    if !place.is_machine() {
        return;
    }
    let union = Arc::new(Union::new(&[place.filled(copy_program)]));
    let program = place.traced(&union, "/traced/program", false);
    assert!(program.output.status.success(), "{:?}", program.output);
    assert_eq!(program.below("traced"), ["traced", "traced/program read"]);
    assert!(program.below("usr").iter().any(|fact| fact.contains("ld-linux") && fact.ends_with(" read")));
    let script = place.traced(&union, "/traced/script", false);
    assert_eq!(script.output.status.code(), Some(3), "{:?}", script.output);
    assert_eq!(script.below("traced"), ["traced", "traced/interpreter", "traced/script read"]);

    let tree =
        &["traced/lib/mod.py: import sub.leaf\n", "traced/lib/sub/leaf.py: pass\n", "traced/lib/unused.py: pass\n"];
    let python = place.seen(tree, "cd / && PYTHONPATH=/traced/lib PYTHONDONTWRITEBYTECODE=1 python3 -c 'import mod'");
    for fact in ["traced/lib listed", "traced/lib/mod.py read", "traced/lib/sub/leaf.py read", "traced/lib/sub listed"]
    {
        assert!(python.iter().any(|seen| seen == fact), "{fact} in {python:?}");
    }
    assert!(python.iter().all(|seen| !seen.contains("unused")), "{python:?}");

    let tree = &[
        "traced/m.c: #include \"h.h\"\nint main(void){return A;}\n",
        "traced/h.h: #define A 0\n",
        "traced/n.c",
        "traced/inc/stdio.h: ",
    ];
    let compiler = place.seen(tree, "cd traced && cc -Iinc -c m.c -o /tmp/m.o");
    for fact in ["traced/m.c read", "traced/h.h read", "traced/inc"] {
        assert!(compiler.iter().any(|seen| seen == fact), "{fact} in {compiler:?}");
    }
    assert!(compiler.iter().all(|seen| !seen.contains("n.c") && !seen.contains("stdio.h")), "{compiler:?}");
}

pub fn changing(world: &World) {
    let place = &Place::new(world);
    if !place.is_machine() {
        return;
    }
    check(place, TREE, "echo more >> traced/a", &["traced", "traced/a read"]);
    check(place, TREE, "chmod 600 traced/a", &["traced", "traced/a read"]);
    check(place, TREE, "mv traced/a traced/c", &["traced", "traced/a read", "traced/c absent"]);
    check(place, TREE, "mv traced/a traced/b", &["traced", "traced/a read", "traced/b read"]);
    check(place, TREE, "rm traced/a", &["traced", "traced/a read"]);
    check(place, TREE, "mkdir traced/new && echo > traced/new/file", &["traced", "traced/new absent"]);
    check(place, TREE, "ln traced/a traced/link", &["traced", "traced/a read", "traced/link absent"]);
    check(
        place,
        TREE,
        "rm -rf traced/d",
        &["traced", "traced/d listed", "traced/d/x.c read", "traced/d/y.c read", "traced/d/z.h read"],
    );
    let mut edited = place.seen(TREE, "sed -i s/a/b/ traced/d/x.c");
    edited.retain(|fact| !fact.starts_with("traced/d/sed"));
    assert_eq!(edited, ["traced", "traced/d", "traced/d/x.c read"], "but for a file of a random name");
    let copied = [
        "traced",
        "traced/copy absent",
        "traced/d listed",
        "traced/d/x.c read",
        "traced/d/y.c read",
        "traced/d/z.h read",
    ];
    check(place, TREE, "cp -a traced/d traced/copy", &copied);
}

/// The same with the programs of busybox, which look at a little more.
pub fn busybox(world: &World) {
    let place = &Place::new(world);
    if place.is_machine() {
        return;
    }
    let all = ["traced listed", "traced/a read", "traced/b read", "traced/d", "traced/other"];
    check(place, TREE, "ls traced", &all);
    check(place, TREE, "cat traced/a; test -e traced/none || :", &["traced", "traced/a read", "traced/none absent"]);
    let copied = [
        "traced",
        "traced/copy absent",
        "traced/d listed",
        "traced/d/x.c read",
        "traced/d/y.c read",
        "traced/d/z.h read",
    ];
    check(place, TREE, "cp -a traced/d traced/copy", &copied);
    check(
        place,
        TREE,
        "rm -rf traced/d",
        &["traced", "traced/d listed", "traced/d/x.c read", "traced/d/y.c read", "traced/d/z.h read"],
    );
    check(place, TREE, "mv traced/a traced/c", &["traced", "traced/a read", "traced/c absent"]);
    check(
        place,
        &["traced/l -> d/f", "traced/d/f"],
        "cat traced/l",
        &["traced", "traced/d", "traced/d/f read", "traced/l"],
    );
}

pub fn attributes(world: &World) {
    let place = &Place::new(world);
    if !place.is_machine() {
        return;
    }
    let union = Arc::new(Union::new(&[place.filled(|root| {
        fs::create_dir(root.join("traced")).unwrap();
        for name in ["a", "b"] {
            fs::write(root.join("traced").join(name), name).unwrap();
        }
        rustix::fs::setxattr(root.join("traced/a"), "user.note", b"hello", XattrFlags::empty()).unwrap();
    })]));
    let script = "python3 -c \"import os; print(os.getxattr('/traced/a','user.note'), os.listxattr('/traced/a'))\"; stat traced/b";
    let traced = place.traced(&union, script, false);
    assert!(traced.stdout().starts_with("b'hello' ['user.note']\n"), "{:?}", traced.output);
    assert_eq!(traced.below("traced"), ["traced", "traced/a read xattrs", "traced/b read"]);
    assert!(!traced.observations.saw_no_xattrs());
    let without = place.traced(&place.union(&[TREE]), "cp -a traced/a /tmp/a", false);
    assert!(without.observations.saw_no_xattrs());
    assert_eq!(without.observations.check(&union).unwrap().path, b"traced/a");
}

pub fn hiding_the_base(world: &World) {
    let place = &Place::new(world);
    let union = place.union(&[
        &["etc/apt/mine", "etc/passwd: mine"],
        &["-etc/hostname", "-etc/passwd"],
        &["etc/apt/ opaque", "etc/apt/new"],
    ]);
    let traced =
        place.traced(&union, "ls -A /etc/apt; cat /etc/hostname /etc/passwd; ls /etc | grep -cx hostname", false);
    assert_eq!(traced.stdout(), "new\n0\n", "{:?}", traced.output);
    let facts = traced.below("etc");
    for fact in ["etc listed", "etc/apt listed", "etc/hostname removed", "etc/passwd removed"] {
        assert!(facts.iter().any(|seen| seen == fact), "{fact} in {facts:?}");
    }
    assert_eq!(traced.observations.check(&union), None);
    let mismatch =
        traced.observations.check(&place.union(&[&["etc/apt/new", "-etc/hostname", "-etc/passwd"]])).unwrap();
    assert_eq!(told(&mismatch), "`/etc/apt`: hides what lies beneath → shows it");
}

pub fn what_was_removed_is_not_listed(world: &World) {
    let place = Place::new(world);
    let union = place.union(&[&["traced/d/e/f", "traced/d/g", "traced/kept"], &["-traced/d/e", "-traced/d/g"]]);
    // Nothing beneath has the directory, so overlayfs shows of it what is there.
    let tracing = Tracing::start_over(union, &[]).unwrap();
    let output = place.over(&tracing, "ls -A traced traced/d; rm -r traced/d", false);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "traced:\nd\nkept\n\ntraced/d:\n", "{output:?}");
    assert!(output.status.success(), "{output:?}");
    tracing.finish().unwrap();
}
