//! Compares two images: every file with its metadata, and the configuration, but no times.

use crate::{Image, Kind, Node, Tree};
use serde_json::Value;

/// The fields of the `config` object that are compared.
const FIELDS: [&str; 12] = [
    "User",
    "Env",
    "Entrypoint",
    "Cmd",
    "WorkingDir",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
];

/// One difference: where it is, and what the two have there.
#[derive(Clone, Debug)]
pub struct Difference {
    /// `file PATH`, or `config FIELD`.
    pub place: String,
    /// What the first has, and what the second.
    pub what: String,
}

/// A difference that is known and has a reason.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// As in [`Difference::place`].
    pub place: String,
    /// Why it is there, and why it stays.
    pub reason: String,
}

impl Accepted {
    /// Reads a list: a line each, `PLACE | REASON`; empty lines and those that begin with `#` say nothing.
    pub fn parse(text: &str) -> Vec<Self> {
        text.lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|line| {
                let (place, reason) = line.split_once('|').unwrap_or_else(|| panic!("no `|` in `{line}`"));
                assert!(reason.trim().len() > 10, "`{line}` explains nothing");
                Self { place: place.trim().to_owned(), reason: reason.trim().to_owned() }
            })
            .collect()
    }
}

/// Every difference between two images.
pub fn differences(ours: &Image, theirs: &Image) -> Vec<Difference> {
    let mut found = Vec::new();
    trees(&ours.tree(), &theirs.tree(), &mut found);
    for field in FIELDS {
        let (ours, theirs) = (meaning(ours.field(field)), meaning(theirs.field(field)));
        if ours != theirs {
            found.push(Difference { place: format!("config {field}"), what: format!("{ours} against {theirs}") });
        }
    }
    found
}

/// Panics unless exactly the accepted differences are there.
pub fn assert_same(ours: &Image, theirs: &Image, accepted: &[Accepted]) {
    let found = differences(ours, theirs);
    let unexpected: Vec<_> =
        found.iter().filter(|difference| !accepted.iter().any(|known| known.place == difference.place)).collect();
    let gone: Vec<_> =
        accepted.iter().filter(|known| !found.iter().any(|difference| difference.place == known.place)).collect();
    let lines: String = unexpected.iter().map(|found| format!("\n  {}: {}", found.place, found.what)).collect();
    assert!(unexpected.is_empty(), "kiln against buildah:{lines}");
    assert!(gone.is_empty(), "accepted differences that are no more: {gone:?}");
}

fn trees(ours: &Tree, theirs: &Tree, found: &mut Vec<Difference>) {
    for (path, node) in &ours.nodes {
        match theirs.nodes.get(path) {
            Some(other) if same(node, other) => {}
            Some(other) => found.push(at(path, format!("{} against {}", brief(node), brief(other)))),
            None => found.push(at(path, format!("{} against nothing", brief(node)))),
        }
    }
    for (path, node) in theirs.nodes.iter().filter(|(path, _)| !ours.nodes.contains_key(*path)) {
        found.push(at(path, format!("nothing against {}", brief(node))));
    }
}

fn at(path: &[u8], what: String) -> Difference {
    Difference { place: format!("file /{}", String::from_utf8_lossy(path)), what }
}

fn same(ours: &Node, theirs: &Node) -> bool {
    (&ours.kind, ours.mode_if_any(), ours.uid, ours.gid, &ours.xattrs)
        == (&theirs.kind, theirs.mode_if_any(), theirs.uid, theirs.gid, &theirs.xattrs)
}

fn brief(node: &Node) -> String {
    let kind = match &node.kind {
        Kind::File { size, sha256, .. } => format!("file of {size} bytes {}", &sha256[..8]),
        Kind::Directory => "directory".to_owned(),
        Kind::Symlink(target) => format!("link to {}", String::from_utf8_lossy(target)),
        Kind::Special(kind, major, minor) => format!("special {} {major}:{minor}", char::from(*kind)),
    };
    format!("{kind} {:o} {}:{} {:?}", node.mode, node.uid, node.gid, node.xattrs)
}

impl Node {
    /// The mode of a symbolic link means nothing.
    fn mode_if_any(&self) -> u32 {
        if matches!(self.kind, Kind::Symlink(_)) { 0 } else { self.mode }
    }
}

/// Absent, null and empty mean the same.
fn meaning(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Object(fields) if fields.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        other => other.clone(),
    }
}
