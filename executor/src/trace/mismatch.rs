//! Facts that no longer hold, for people.

use std::collections::BTreeMap;

use kiln_cache::Device;
use kiln_solver::Digest;

use super::fact::{Kind, Seen};

/// A fact that no longer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where: relative, without leading slash; empty for the root of what was traced.
    pub path: Vec<u8>,
    /// What is different.
    pub change: Change,
}

/// How a fact no longer holds: what the step saw, and what it would see now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is of another kind; [`Kind::Absent`] and [`Kind::Removed`] are kinds too.
    Kind {
        /// What it was.
        before: Kind,
        /// What it is.
        now: Kind,
    },
    /// A file that was opened holds other bytes.
    Content {
        /// The digest of what it held.
        before: Digest,
        /// The digest of what it holds.
        now: Digest,
    },
    /// A file that was looked up has another size.
    Size {
        /// In bytes.
        before: u64,
        /// In bytes.
        now: u64,
    },
    /// A file has more names, or fewer.
    Links {
        /// How many it had.
        before: u32,
        /// How many it has.
        now: u32,
    },
    /// Two names were those of one file and are no longer, or the reverse.
    Link {
        /// Whether they are now.
        now: bool,
    },
    /// A symbolic link leads elsewhere.
    Target {
        /// Where to it led.
        before: Vec<u8>,
        /// Where to it leads.
        now: Vec<u8>,
    },
    /// A device has another number.
    Device {
        /// What it had.
        before: Device,
        /// What it has.
        now: Device,
    },
    /// The permissions differ.
    Mode {
        /// Of the bits 07777.
        before: u32,
        /// Of the bits 07777.
        now: u32,
    },
    /// User or group differ.
    Owner {
        /// User and group.
        before: (u32, u32),
        /// User and group.
        now: (u32, u32),
    },
    /// A directory hides what lies beneath, or no longer does.
    Opaque {
        /// Whether it does now.
        now: bool,
    },
    /// A directory that was listed has other names in it.
    Listing {
        /// What is new.
        added: Vec<Vec<u8>>,
        /// What is gone.
        removed: Vec<Vec<u8>>,
        /// What is of another kind.
        changed: Vec<Vec<u8>>,
    },
    /// Extended attributes that were asked for differ.
    Xattrs {
        /// The names of those that do.
        names: Vec<Vec<u8>>,
    },
    /// Something in the traced layers has extended attributes; the step saw that nothing had any.
    SomeXattrs,
    /// What the step saw cannot be read back.
    Unreadable,
}

/// Everything of it in words.
impl From<&Mismatch> for kiln_solver::Mismatch {
    fn from(mismatch: &Mismatch) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (was, is) = match &mismatch.change {
            Change::Kind { before, now } => (before.to_string(), now.to_string()),
            Change::Content { before, now } => {
                (format!("content {}", before.short()), format!("content {}", now.short()))
            }
            Change::Size { before, now } => (format!("{before} bytes"), format!("{now} bytes")),
            Change::Links { before, now } => (format!("a file with {before} name(s)"), format!("with {now}")),
            Change::Link { now } => {
                let say = |one: bool| if one { "one file with another path" } else { "a file of its own" };
                (say(!now).to_owned(), say(*now).to_owned())
            }
            Change::Target { before, now } => (format!("a link to `{}`", text(before)), format!("to `{}`", text(now))),
            Change::Device { before, now } => {
                (format!("device {}:{}", before.major, before.minor), format!("device {}:{}", now.major, now.minor))
            }
            Change::Mode { before, now } => (format!("mode {before:04o}"), format!("mode {now:04o}")),
            Change::Owner { before, now } => {
                (format!("owner {}:{}", before.0, before.1), format!("owner {}:{}", now.0, now.1))
            }
            Change::Opaque { now: true } => ("shows what lies beneath".to_owned(), "hides it".to_owned()),
            Change::Opaque { now: false } => ("hides what lies beneath".to_owned(), "shows it".to_owned()),
            Change::Listing { added, removed, changed } => {
                let mut parts = Vec::new();
                for (what, some) in [("new: ", added), ("gone: ", removed), ("of another kind: ", changed)] {
                    if !some.is_empty() {
                        parts.push(format!("{what}{}", list(some)));
                    }
                }
                ("a listing of other names".to_owned(), parts.join("; "))
            }
            Change::Xattrs { names: changed } => {
                ("extended attributes".to_owned(), format!("others: {}", list(changed)))
            }
            Change::SomeXattrs => ("no extended attributes".to_owned(), "some".to_owned()),
            Change::Unreadable => ("something".to_owned(), "not to be compared".to_owned()),
        };
        Self { subject: crate::paths::display(&mismatch.path), was, is }
    }
}

impl Mismatch {
    /// The first difference of two that differ.
    pub(super) fn between(path: Vec<u8>, before: Option<&Seen>, now: Option<&Seen>) -> Self {
        let change = match (before, now) {
            (Some(before), Some(now)) => change(before, now),
            _ => Change::Unreadable,
        };
        Self { path, change }
    }
}

fn change(before: &Seen, now: &Seen) -> Change {
    if before.kind != now.kind {
        return Change::Kind { before: before.kind, now: now.kind };
    }
    if let (Some(before), Some(now)) = (before.content, now.content)
        && before != now
    {
        return Change::Content { before, now };
    }
    if before.size != now.size {
        return Change::Size { before: before.size, now: now.size };
    }
    if before.links != now.links {
        return Change::Links { before: before.links, now: now.links };
    }
    if before.same_as != now.same_as {
        return Change::Link { now: now.same_as.is_some() };
    }
    if before.target != now.target {
        return Change::Target { before: before.target.clone(), now: now.target.clone() };
    }
    if before.device != now.device {
        return Change::Device { before: before.device, now: now.device };
    }
    if before.mode != now.mode {
        return Change::Mode { before: before.mode, now: now.mode };
    }
    if (before.uid, before.gid) != (now.uid, now.gid) {
        return Change::Owner { before: (before.uid, before.gid), now: (now.uid, now.gid) };
    }
    if before.opaque != now.opaque {
        return Change::Opaque { now: now.opaque };
    }
    if before.listing != now.listing {
        let names = |seen: &Seen| seen.listing.iter().flatten().cloned().collect();
        let [added, removed, changed] = compare(&names(before), &names(now));
        return Change::Listing { added, removed, changed };
    }
    let xattrs = |seen: &Seen| seen.xattrs.iter().flatten().cloned().collect();
    let [added, removed, changed] = compare(&xattrs(before), &xattrs(now));
    Change::Xattrs { names: [added, removed, changed].concat() }
}

/// Which keys are new, gone, or have another value.
fn compare<V: PartialEq>(before: &BTreeMap<Vec<u8>, V>, now: &BTreeMap<Vec<u8>, V>) -> [Vec<Vec<u8>>; 3] {
    let pick = |keep: &dyn Fn(&[u8]) -> bool, from: &BTreeMap<Vec<u8>, V>| -> Vec<Vec<u8>> {
        from.keys().filter(|key| keep(key)).cloned().collect()
    };
    let added = pick(&|key| !before.contains_key(key), now);
    let removed = pick(&|key| !now.contains_key(key), before);
    let changed = pick(&|key| now.get(key).is_some_and(|value| Some(value) != before.get(key)), before);
    [added, removed, changed]
}

/// At most three names, and how many more there are.
fn list(names: &[Vec<u8>]) -> String {
    let shown: Vec<_> = names.iter().take(3).map(|name| String::from_utf8_lossy(name)).collect();
    let shown = shown.join(", ");
    match names.len().checked_sub(3) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
