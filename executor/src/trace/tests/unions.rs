//! A union is what overlayfs takes as one layer in the place of several.

use super::super::union::{Directory, Walk};
use super::*;

/// Everything in a union, in words.
fn all(union: &Union) -> Vec<String> {
    let mut lines = Vec::new();
    describe(union, &union.root(), &mut lines);
    lines
}

fn describe(union: &Union, directory: &Directory, lines: &mut Vec<String>) {
    for number in union.list(directory) {
        let (_, listed) = union.entry(number).unwrap();
        let node = union.child(directory, listed.name()).unwrap();
        assert_eq!(node.number, number, "a listing has what a look-up finds");
        let path = String::from_utf8_lossy(node.entry.path).into_owned();
        let kind = Kind::from(node.entry.kind);
        let opaque = if node.opaque && kind == Kind::Directory { " opaque" } else { "" };
        lines.push(format!("{path} {kind}{opaque}"));
        if let Some(directory) = node.directory() {
            describe(union, &directory, lines);
        }
    }
}

#[test]
fn nothing_makes_the_empty_union() {
    let place = Place::new();
    assert!(Union::new(&[]).is_empty() && all(&Union::new(&[])).is_empty());
    assert!(place.union(&[&[], &[]]).is_empty());
}

#[test]
fn higher_layers_hide_lower_ones() {
    let place = Place::new();
    let union = place.union(&[&["d/low", "d/both: low", "only-low"], &["d/both: high", "d/high"]]);
    assert_eq!(all(&union), ["d a directory", "d/both a file", "d/high a file", "d/low a file", "only-low a file"]);
    let both = Walk::new(&union).node(b"d/both").unwrap();
    assert_eq!(both.entry.content, Some(kiln_solver::Digest::of(b"high")));
}

#[test]
fn whiteouts_stay() {
    let place = Place::new();
    let union = place.union(&[&["d/file", "d/other", "gone/deep"], &["-d/file", "-gone", "-of-the-base"]]);
    assert_eq!(
        all(&union),
        ["d a directory", "d/file removed", "d/other a file", "gone removed", "of-the-base removed"]
    );
    assert!(Walk::new(&union).node(b"gone/deep").is_none());
}

#[test]
fn opaque_directories_stay() {
    let place = Place::new();
    let union = place.union(&[&["d/low", "e/low"], &["d/ opaque", "d/high"], &["d/top", "e/top"]]);
    assert_eq!(
        all(&union),
        ["d a directory opaque", "d/high a file", "d/top a file", "e a directory", "e/low a file", "e/top a file"]
    );
    assert!(union.survey().opaque && !place.union(&[&["d/low"], &["d/top"]]).survey().opaque);
}

#[test]
fn a_directory_over_something_else_is_opaque() {
    let place = Place::new();
    let union = place.union(&[&["a/file", "b: file", "c/"], &["-a", "-c"], &["a/new", "b/new", "c/new"]]);
    let expected = ["a", "b", "c"].map(|name| [format!("{name} a directory opaque"), format!("{name}/new a file")]);
    assert_eq!(all(&union), expected.concat());
    assert!(union.survey().opaque);
}

#[test]
fn a_file_over_a_directory_ends_it() {
    let place = Place::new();
    let union = place.union(&[&["d/deep/file"], &["d: file"], &["e"]]);
    assert_eq!(all(&union), ["d a file", "e a file"]);
    assert!(Walk::new(&union).node(b"d/deep").is_none());
}

#[test]
fn directories_merge_only_with_what_their_parents_merge_with() {
    let place = Place::new();
    let union = place.union(&[&["a/b/low"], &["a/ opaque", "a/x"], &["a/b/high"]]);
    assert_eq!(all(&union), ["a a directory opaque", "a/b a directory", "a/b/high a file", "a/x a file"]);
}

#[test]
fn directories_merge_with_those_beneath_unless_something_is_between() {
    let place = Place::new();
    let union = place.union(&[&["a/b/c/x", "d/e/x", "new/x"], &["-a/b/c/x", "d/ opaque", "d/e/", "-new/x"]]);
    let base = place.union(&[&["a/b/c/x", "d/e/x", "gone/x", "new: a file"], &["-a/b/c/y", "-gone"]]);
    let is_merged = |path: &[u8]| {
        let directory = Walk::new(&union).node(path).and_then(|node| node.directory()).unwrap();
        union.is_merged(&directory, &base)
    };
    let merged = [&b"a"[..], b"a/b", b"a/b/c", b"d", b"d/e", b"new"].map(is_merged);
    assert_eq!(merged, [true, true, true, false, false, false]);
    assert!(union.is_merged(&union.root(), &Union::new(&[])), "the root always lies over another");
    let gone = place.union(&[&["gone/x"]]);
    let directory = Walk::new(&gone).node(b"gone").and_then(|node| node.directory()).unwrap();
    assert!(!gone.is_merged(&directory, &base), "a whiteout of the base ends it");
}

#[test]
fn names_need_not_be_text() {
    let place = Place::new();
    let layer = place.filled(|root| {
        std::fs::create_dir(not_utf8(root)).unwrap();
        std::fs::write(not_utf8(&not_utf8(root)), "").unwrap();
    });
    let union = Union::new(&[layer]);
    assert!(Walk::new(&union).node(b"not-\xff-utf8/not-\xff-utf8").is_some());
    assert!(Walk::new(&union).node("not-\u{fffd}-utf8".as_bytes()).is_none());
}

#[test]
fn names_of_one_file_share_its_number() {
    let place = Place::new();
    let union = place.union(&[&["a/z", "b = a/z", "a/m = a/z", "lone"], &["c"]]);
    let mut walk = Walk::new(&union);
    let link = |path: &str, walk: &mut Walk<'_>| union.survey().link(walk.node(path.as_bytes()).unwrap().number);
    let (first, names) = link("a/m", &mut walk);
    assert_eq!((link("a/z", &mut walk), link("b", &mut walk)), ((first, names), (first, names)));
    assert_eq!(names, 3);
    assert_eq!(link("c", &mut walk).1, 1);
    assert_ne!(link("lone", &mut walk).0, first);
}

#[test]
fn the_highest_of_equal_layers_counts() {
    let place = Place::new();
    let (one, two) = (place.layer(&["f: one"]), place.layer(&["f: two"]));
    let union = Union::new(&[one.clone(), two, one.clone()]);
    assert_eq!(union.layers().len(), 2);
    assert_eq!(union.layers()[0].diff_id(), one.diff_id());
}

#[test]
fn a_walk_in_order_finds_what_look_ups_find() {
    let place = Place::new();
    let names: Vec<String> = (0..300).map(|n| format!("d{}/e{}/f{n}", n % 7, n % 3)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let union = place.union(&[&names[..200], &["-d0/e0", "d1/ opaque"], &names[150..]]);
    let mut paths: Vec<String> = (0..320).map(|n| format!("d{}/e{}/f{n}", n % 7, n % 3)).collect();
    paths.extend((0..8).flat_map(|d| [format!("d{d}"), format!("d{d}/e0"), format!("d{d}/nothing")]));
    paths.sort_by(|a, b| kiln_cache::compare_paths(a.as_bytes(), b.as_bytes()));
    let mut walk = Walk::new(&union);
    for path in &paths {
        let alone = Walk::new(&union).node(path.as_bytes()).map(|node| (node.number, node.opaque));
        assert_eq!(walk.node(path.as_bytes()).map(|node| (node.number, node.opaque)), alone, "{path}");
    }
}

#[test]
fn the_base_ends_with_its_image() {
    let layers = |origins: &str| -> Vec<kiln_solver::Layer> {
        let origin = |kind| if kind == 'i' { kiln_solver::Origin::Image } else { kiln_solver::Origin::Built };
        let layer = |kind| kiln_solver::Layer { diff_id: kiln_solver::Digest::of(b""), origin: origin(kind) };
        origins.chars().map(layer).collect()
    };
    let lengths = ["", "i", "b", "iibb", "ibib"].map(|origins| base_length(&layers(origins)));
    assert_eq!(lengths, [0, 1, 0, 2, 3]);
}
