//! Facts hold, or say what is different.

use std::os::unix::fs::{PermissionsExt, chown};

use super::super::fact::{CONTENT, LISTING, XATTRS};
use super::*;

/// What is said about the first fact of `looks` at the one layer that no longer holds in the other.
fn difference(looks: &[(&str, Aspects)], before: &[&str], now: &[&str]) -> Option<String> {
    let place = Place::new();
    let observations = observe(&place.union(&[before]), looks);
    assert_eq!(observations.check(&place.union(&[before])), None);
    observations.check(&place.union(&[now])).map(told)
}

/// A fact that no longer holds, in words.
fn told(mismatch: Mismatch) -> String {
    kiln_solver::Mismatch::from(&mismatch).to_string()
}

fn says(looks: &[(&str, Aspects)], before: &[&str], now: &[&str]) -> String {
    difference(looks, before, now).unwrap_or_default()
}

#[test]
fn what_was_not_looked_at_does_not_count() {
    let looks = [("d", 0), ("d/read", CONTENT), ("d/looked-up", 0), ("missing", 0)];
    let before = ["d/read", "d/looked-up: 1", "d/other"];
    assert_eq!(difference(&looks, &before, &["d/read", "d/looked-up: 2", "d/new", "more/deep"]), None);
}

#[test]
fn each_aspect_is_told() {
    let digest = |text: &str| kiln_solver::Digest::of(text.as_bytes()).short();
    assert_eq!(
        says(&[("f", CONTENT)], &["f: 1"], &["f: 2"]),
        format!("`/f`: content {} → content {}", digest("1"), digest("2"))
    );
    assert_eq!(says(&[("f", 0)], &["f: 1"], &["f: 23"]), "`/f`: 1 bytes → 2 bytes");
    assert_eq!(says(&[("f", 0)], &["f"], &["g"]), "`/f`: a file → absent");
    assert_eq!(says(&[("f", 0)], &["g"], &["f"]), "`/f`: absent → a file");
    assert_eq!(says(&[("f", 0)], &["f"], &["f/"]), "`/f`: a file → a directory");
    assert_eq!(says(&[("f", 0)], &["g"], &["-f"]), "`/f`: absent → removed");
    assert_eq!(says(&[("f", 0)], &["f"], &["-f"]), "`/f`: a file → removed");
    assert_eq!(says(&[("l", 0)], &["l -> a"], &["l -> b"]), "`/l`: a link to `a` → to `b`");
    assert_eq!(says(&[("d", 0)], &["d/"], &["d/ opaque"]), "`/d`: shows what lies beneath → hides it");
    assert_eq!(says(&[("d", 0)], &["d/ opaque"], &["d/"]), "`/d`: hides what lies beneath → shows it");
    assert_eq!(
        says(&[("d", LISTING)], &["d/a", "d/b", "d/c"], &["d/a/", "d/b", "d/x", "d/y", "d/z", "d/zz"]),
        "`/d`: a listing of other names → new: x, y, z and 1 more; gone: c; of another kind: a"
    );
    assert_eq!(says(&[("", LISTING)], &["a"], &["a", "b"]), "`/`: a listing of other names → new: b");
}

#[test]
fn metadata_is_told() {
    let place = Place::new();
    let layer = |change: &dyn Fn(&Path)| {
        Union::new(&[place.filled(|root| {
            std::fs::write(root.join("f"), "").unwrap();
            change(&root.join("f"));
        })])
    };
    let plain = layer(&|_| {});
    let mode = layer(&|path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o4755)).unwrap());
    let owner = layer(&|path| chown(path, Some(3), Some(4)).unwrap());
    let xattr = layer(&|path| rustix::fs::setxattr(path, "user.a", b"1", XattrFlags::empty()).unwrap());
    let says = |looks: Aspects, union: &Union| observe(&plain, &[("f", looks)]).check(union).map(told);
    assert_eq!(says(0, &mode).unwrap(), "`/f`: mode 0644 → mode 4755");
    assert_eq!(says(0, &owner).unwrap(), "`/f`: owner 0:0 → owner 3:4");
    assert_eq!(says(XATTRS, &xattr).unwrap(), "`/f`: extended attributes → others: user.a");
    assert_eq!(says(CONTENT, &xattr), None);
    let none = Observations::new(&plain, &Looks { no_xattrs: true, ..Looks::default() });
    assert_eq!(none.check(&plain), None);
    assert!(told(none.check(&xattr).unwrap()).contains("extended attributes"));
}

#[test]
fn devices_are_told() {
    let place = Place::new();
    let device = |minor| {
        Union::new(&[place.filled(|root| {
            let number = rustix::fs::makedev(1, minor);
            rustix::fs::mknodat(CWD, root.join("n"), FileType::CharacterDevice, Mode::RUSR, number).unwrap();
        })])
    };
    let mismatch = observe(&device(3), &[("n", 0)]).check(&device(5)).unwrap();
    assert_eq!(told(mismatch), "`/n`: device 1:3 → device 1:5");
}

#[test]
fn which_names_are_one_file_is_a_fact_where_both_were_looked_at() {
    let place = Place::new();
    let linked = place.union(&[&["f: x", "g = f", "h: x"]]);
    let others = place.union(&[&["f: x", "g: x", "h = g"]]);
    let (f, g, h) = (("f", CONTENT), ("g", CONTENT), ("h", CONTENT));
    let says = |looks: &[(&str, Aspects)], was: &Union, is: &Union| observe(was, looks).check(is).map(told);
    // `f` is not looked at.
    assert_eq!(says(&[g, h], &linked, &linked), None);
    assert_eq!(says(&[g, h], &others, &others), None);
    assert_eq!(says(&[g, h], &linked, &others).unwrap(), "`/h`: a file with 1 name(s) → with 2");
    assert_eq!(says(&[g], &linked, &others), None);
    let crossed = place.union(&[&["f: x", "g = f", "h: x", "i = h"]]);
    let parallel = place.union(&[&["f: x", "g: x", "h = f", "i = g"]]);
    assert_eq!(says(&[f, g, h], &crossed, &crossed), None);
    let was = "`/g`: one file with another path → a file of its own";
    assert_eq!(says(&[f, g], &crossed, &parallel).as_deref(), Some(was));
    let is = "`/g`: a file of its own → one file with another path";
    assert_eq!(says(&[f, g], &parallel, &crossed).as_deref(), Some(is));
    assert_eq!(says(&[f, ("i", 0)], &crossed, &parallel), None);
}

#[test]
fn how_many_names_a_file_has_is_a_fact() {
    let place = Place::new();
    let (one, two) = (place.union(&[&["f: x"]]), place.union(&[&["f: x", "g = f"]]));
    for (was, is) in [(&one, &two), (&two, &one)] {
        assert!(told(observe(was, &[("f", 0)]).check(is).unwrap()).starts_with("`/f`: a file with "));
        assert_eq!(observe(was, &[("h", 0)]).check(is), None);
    }
}

#[test]
fn names_are_one_file_only_where_both_can_be_seen() {
    let place = Place::new();
    let linked = place.union(&[&["d/f: x", "g = d/f"]]);
    let covered = place.union(&[&["d/f: x", "g = d/f"], &["d/f: x"]]);
    let looks = [("d", 0), ("d/f", CONTENT), ("g", CONTENT)];
    assert!(observe(&linked, &looks).check(&covered).is_some());
    assert_eq!(observe(&covered, &looks).check(&covered), None);
    let other = place.union(&[&["g: x", "h = g"], &["d/f: x"]]);
    assert_eq!(observe(&covered, &looks).check(&other), None, "`g` has another name, whatever that is");
}

#[test]
fn how_layers_are_cut_does_not_count() {
    let place = Place::new();
    let looks = [("", LISTING), ("d", LISTING), ("d/a", CONTENT), ("d/b", CONTENT), ("d/c", 0)];
    let observations = observe(&place.union(&[&["d/a: 1", "d/b: 2"]]), &looks);
    assert_eq!(observations.check(&place.union(&[&["d/a: 1"], &["d/b: 2"]])), None);
    assert_eq!(observations.check(&place.union(&[&["d/a: old", "d/b: 2"], &["d/a: 1"]])), None);
    assert!(observations.check(&place.union(&[&["d/a: 1", "d/b: 2"], &["-d/a"]])).is_some());
}

#[test]
fn the_first_fact_in_order_is_told() {
    let looks = [("z", CONTENT), ("a/b", CONTENT), ("a-b", CONTENT)];
    let mismatch = says(&looks, &["z: 1", "a/b: 1", "a-b: 1"], &["z: 2", "a/b: 2", "a-b: 2"]);
    assert!(mismatch.starts_with("`/a/b`"), "{mismatch}");
}

#[test]
fn facts_come_back() {
    let place = Place::new();
    let union = place.union(&[&["d/f: x", "l -> d"], &["-gone"]]);
    let looks = [("", LISTING), ("d", LISTING | XATTRS), ("d/f", CONTENT), ("l", 0), ("gone", 0), ("e", 0)];
    let observations = observe(&union, &looks);
    let decoded = Observations::decode(observations.encode().to_vec()).unwrap();
    assert_eq!(decoded, observations);
    let facts: Vec<Fact> = decoded.facts().collect();
    assert_eq!((facts.len(), decoded.len()), (6, 6));
    let paths: Vec<_> = facts.iter().map(|fact| String::from_utf8_lossy(&fact.path).into_owned()).collect();
    assert_eq!(paths, ["", "d", "d/f", "e", "gone", "l"]);
    let kinds: Vec<Kind> = facts.iter().map(|fact| fact.seen.kind).collect();
    assert_eq!(kinds[1..], [Kind::Directory, Kind::File, Kind::Absent, Kind::Removed, Kind::Symlink]);
    assert_eq!(facts[1].seen.listing, Some(vec![(b"f".to_vec(), Kind::File)]));
    assert_eq!(facts[2].seen.content, Some(kiln_solver::Digest::of(b"x")));
    assert_eq!((facts[2].seen.mode, facts[2].seen.size, &facts[5].seen.target[..]), (0o644, 1, &b"d"[..]));
}

#[test]
fn the_binary_form_is_pinned() {
    let place = Place::new();
    let union = place.union(&[&["d/f: x", "d/g = d/f"]]);
    let observations = observe(&union, &[("d", LISTING), ("d/f", CONTENT), ("d/g", 0), ("nothing", 0)]);
    let digest = kiln_solver::Digest::of(b"x");
    let expected = [
        &b"kilnobs\x02\x00\x04"[..],
        b"\x00\x01d\x03\x02\xed\x03\x00\x00\x00\x02\x02\x01f\x02\x01g",
        b"\x01\x02/f\x02\x01\xa4\x03\x00\x00\x01\x02\x00",
        digest.as_bytes(),
        // As the second of all facts has it.
        b"\x02\x01g\x02\x00\xa4\x03\x00\x00\x01\x02\x02",
        b"\x00\x07nothing\x00",
    ];
    assert_eq!(observations.encode(), expected.concat());
}

#[test]
fn hostile_bytes_are_an_error() {
    let place = Place::new();
    let union = place.union(&[&["d/f: x", "l -> d", "d/g"], &["-gone"]]);
    let looks = [("", LISTING), ("d", LISTING | XATTRS), ("d/f", CONTENT), ("l", XATTRS), ("gone", 0), ("e", 0)];
    let whole = observe(&union, &looks).encode().to_vec();
    for length in 0..whole.len() {
        assert!(Observations::decode(whole[..length].to_vec()).is_err(), "{length}");
    }
    for position in 0..whole.len() {
        for value in 0..=255 {
            let mut damaged = whole.clone();
            damaged[position] = value;
            if let Ok(decoded) = Observations::decode(damaged) {
                assert_eq!(decoded.facts().count(), decoded.len());
                decoded.check(&union);
            }
        }
    }
    assert_eq!(Observations::decode([&whole[..], b"\0"].concat()), Err(DecodeError::Damaged));
    assert_eq!(Observations::decode(b"kilnobs\x03\0\0".to_vec()), Err(DecodeError::Version));
    let path = |text: &[u8]| [&b"kilnobs\x02\0\x01\0"[..], &[text.len() as u8], text, b"\0"].concat();
    assert!(Observations::decode(path(b"a/b")).is_ok());
    for improper in [&b"/a"[..], b"a//b", b"a/", b"..", b"a/./b", b"a\0b"] {
        assert_eq!(Observations::decode(path(improper)), Err(DecodeError::Damaged));
    }
    // Numbers that would have much room made for them.
    let many = [&b"kilnobs\x02\0"[..], &[0xff; 9], &[1]].concat();
    assert_eq!(Observations::decode(many), Err(DecodeError::Damaged));
}

#[test]
fn a_result_implies_what_it_changed() {
    let place = Place::new();
    let union = place.union(&[&["d/f: x", "d/g", "e/h", "k: file"]]);
    let result = place.layer(&["d/f: y", "-e", "new/deep/file", "k/now/a/directory", "-d/base"]);
    let observations = observe(&union, &[("d", LISTING)]).with_result(&union, result.index());
    let facts: Vec<String> = observations
        .facts()
        .map(|fact| format!("{} {}", String::from_utf8_lossy(&fact.path), fact.seen.kind))
        .collect();
    let expected = ["d a directory", "d/base absent", "d/f a file", "e a directory", "k a file", "new absent"];
    assert_eq!(facts, expected);
    let directory = observations.facts().next().unwrap().seen;
    assert!(directory.listing.is_some() && directory.xattrs.is_some());
    assert_eq!(observations.check(&union), None);
    assert_eq!(
        observations.check(&place.union(&[&["d/f: x", "d/g", "e/h", "e/more", "k: file"]])).map(|m| m.path),
        None
    );
    let without = place.union(&[&["d/f: x", "d/g", "k: file"]]);
    assert_eq!(observations.check(&without).unwrap().path, b"e");
}
