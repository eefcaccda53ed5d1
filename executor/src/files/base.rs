//! What a file step changes, as it finds it; and what it looked at there, so that the same change can be taken for
//! another base that looks the same.

use std::cell::RefCell;
use std::collections::BTreeMap;

use kiln_cache::{View, ViewError};
use kiln_solver::{Digest, Hasher, Mismatch};
use serde::{Deserialize, Serialize};

use super::tree::{Bytes, Origin, kind, metadata};
use super::{Kind, Metadata};
use crate::paths::{self, Seen};

/// Beyond that many the facts would cost more than the copy.
const MOST_FACTS: usize = 10_000;

/// The first byte of encoded facts.
const FORMAT: u8 = 1;

/// Far more than any file that is read here has.
const LARGEST: u64 = 16 << 20;

/// The tree below the new layer. Every question to it is remembered with its answer.
pub(crate) struct Base {
    view: View,
    facts: RefCell<BTreeMap<Question, Answer>>,
}

/// Something that a file step wants to know of its base.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Question {
    /// What is at this path.
    Kind(Vec<u8>),
    /// The metadata of the directory at this path; times do not count.
    Directory(Vec<u8>),
    /// The content of the regular file at this path.
    Content(Vec<u8>),
    /// The content and the metadata of the regular file at this path.
    File(Vec<u8>),
}

/// What it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// Nothing (of the kind).
    Absent,
    /// A directory.
    IsDirectory,
    /// A symbolic link to this.
    Link(Vec<u8>),
    /// Anything else.
    Other,
    /// The digest of a content.
    Content(Digest),
    /// Mode, owner, group, and the digest of all extended attributes.
    Metadata(u32, u32, u32, Digest),
    /// The content and the metadata.
    File(Digest, u32, u32, u32, Digest),
}

/// The questions with their answers.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts(Vec<(Question, Answer)>);

impl Base {
    pub(crate) fn new(view: View) -> Self {
        Self { view, facts: RefCell::default() }
    }

    /// What is at a path.
    pub(crate) fn seen(&self, path: &[u8]) -> Option<Seen> {
        let seen = self.view.entry(path).map(|found| match kind(found.entry.kind) {
            Kind::Directory => Seen::Directory,
            Kind::Symlink => Seen::Link(found.entry.target.to_vec()),
            _ => Seen::Other,
        });
        self.note(Question::Kind(path.to_vec()), || match &seen {
            None => Answer::Absent,
            Some(Seen::Directory) => Answer::IsDirectory,
            Some(Seen::Link(target)) => Answer::Link(target.clone()),
            Some(Seen::Other) => Answer::Other,
        });
        seen
    }

    /// The metadata of a directory.
    pub(crate) fn directory(&self, path: &[u8]) -> Option<Metadata> {
        let found = self.view.entry(path).filter(|found| found.entry.is_directory());
        let metadata = found.map(|found| metadata(&found));
        self.note(Question::Directory(path.to_vec()), || match &metadata {
            None => Answer::Absent,
            Some(Metadata { mode, uid, gid, attributes, .. }) => {
                Answer::Metadata(*mode, *uid, *gid, digest(attributes))
            }
        });
        metadata
    }

    /// A regular file.
    pub(crate) fn file(&self, path: &[u8]) -> Option<(Bytes, Metadata)> {
        let file = self.view.entry(path).and_then(|found| {
            let origin = Origin::Layer(found.layer.clone(), found.entry.path.to_vec());
            let bytes = Bytes { origin, digest: found.entry.content?, size: found.entry.size };
            Some((bytes, metadata(&found)))
        });
        self.note(Question::File(path.to_vec()), || match &file {
            None => Answer::Absent,
            Some((bytes, Metadata { mode, uid, gid, attributes, .. })) => {
                Answer::File(bytes.digest, *mode, *uid, *gid, digest(attributes))
            }
        });
        file
    }

    /// The content of the regular file at a path without links.
    ///
    /// # Errors
    /// When it is something else or larger than any file should be.
    pub(crate) fn read(&self, path: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let content = self.view.read(path, LARGEST)?;
        self.note(Question::Content(path.to_vec()), || match &content {
            None => Answer::Absent,
            Some(content) => Answer::Content(Digest::of(content)),
        });
        Ok(content)
    }

    fn note(&self, question: Question, answer: impl FnOnce() -> Answer) {
        let mut facts = self.facts.borrow_mut();
        if facts.len() <= MOST_FACTS {
            facts.entry(question).or_insert_with(answer);
        }
    }

    /// All that was asked; `None` where it was too much to remember.
    pub(crate) fn into_facts(self) -> Option<Facts> {
        let facts = self.facts.into_inner();
        (facts.len() <= MOST_FACTS).then(|| Facts(facts.into_iter().collect()))
    }

    fn ask(&self, question: &Question) -> Option<Answer> {
        match question {
            Question::Kind(path) => drop(self.seen(path)),
            Question::Directory(path) => drop(self.directory(path)),
            Question::File(path) => drop(self.file(path)),
            // A file that cannot be read is not what it was.
            Question::Content(path) => drop(self.read(path)),
        }
        self.facts.borrow_mut().remove(question)
    }
}

fn digest(attributes: &[(Vec<u8>, Vec<u8>)]) -> Digest {
    let mut hasher = Hasher::new();
    for field in attributes.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    hasher.finish()
}

impl Facts {
    /// The facts as bytes; `None` where that fails, which only a lack of memory could bring about.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_extend(self, vec![FORMAT]).ok()
    }

    /// `None` for what is not facts of this format.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, facts) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        postcard::from_bytes(facts).ok()
    }

    /// The first fact that does not hold for another base.
    pub(crate) fn recheck(&self, view: View) -> Option<Mismatch> {
        let base = Base::new(view);
        let changed = |(question, was): &(Question, Answer)| {
            let is = base.ask(question);
            (is.as_ref() != Some(was)).then(|| mismatch(question, was, is.as_ref()))
        };
        self.0.iter().find_map(changed)
    }
}

fn mismatch(question: &Question, was: &Answer, is: Option<&Answer>) -> Mismatch {
    let (Question::Kind(path) | Question::Directory(path) | Question::Content(path) | Question::File(path)) = question;
    let is = is.map_or_else(|| "unreadable".to_owned(), ToString::to_string);
    Mismatch { subject: paths::display(path), was: was.to_string(), is }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => formatter.write_str("absent"),
            Self::IsDirectory => formatter.write_str("a directory"),
            Self::Link(target) => write!(formatter, "a link to `{}`", String::from_utf8_lossy(target)),
            Self::Other => formatter.write_str("a file"),
            Self::Content(digest) => write!(formatter, "content {}", digest.short()),
            Self::Metadata(mode, uid, gid, attributes) => {
                write!(formatter, "mode {mode:04o}, owner {uid}:{gid}, attributes {}", attributes.short())
            }
            Self::File(content, mode, uid, gid, attributes) => write!(
                formatter,
                "content {}, mode {mode:04o}, owner {uid}:{gid}, attributes {}",
                content.short(),
                attributes.short()
            ),
        }
    }
}
