//! The union of layers as overlayfs wants a lower directory: whiteouts and opaque marks are part of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::OnceLock;

use kiln_cache::{Entry, EntryKind, StoredLayer};

/// The union of layers, known from their indexes alone. What it removes of layers beneath it stays to be seen: a
/// whiteout of it is an entry, and a directory that shows nothing of what lies beneath is opaque.
///
/// To make one costs next to nothing: nothing is read until it is asked for.
#[derive(Debug)]
pub struct Union {
    /// The highest first.
    layers: Vec<StoredLayer>,
    /// The number of the first entry of each.
    firsts: Vec<u64>,
    count: u64,
    xattrs: OnceLock<bool>,
    survey: OnceLock<Survey>,
}

/// What is to be known of all entries before the first one is shown.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Whether there may be an opaque directory.
    pub(super) opaque: bool,
    /// Of each name of a file with several in its layer: the number of the first one, and how many there are.
    links: HashMap<u64, (u64, u32)>,
}

/// What the union has at a path.
#[derive(Clone, Debug)]
pub(super) struct Node<'u> {
    /// A whiteout too.
    pub(super) entry: Entry<'u>,
    /// Which of all entries of all layers it is.
    pub(super) number: u64,
    /// Of a directory: whether it hides what lies beneath the union.
    pub(super) opaque: bool,
    /// Of a directory: what it is merged of.
    parts: Vec<Part>,
}

/// A directory, ready to be looked into.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// Its path; empty for the root.
    pub(super) path: Vec<u8>,
    /// Whether it hides what lies beneath the union.
    pub(super) opaque: bool,
    parts: Vec<Part>,
}

/// What one layer has of a directory.
#[derive(Clone, Debug)]
struct Part {
    layer: usize,
    /// The positions in its index of all that lies below.
    below: Range<usize>,
}

impl Node<'_> {
    /// The directory that this is.
    pub(super) fn directory(&self) -> Option<Directory> {
        self.entry.is_directory().then(|| Directory {
            path: self.entry.path.to_vec(),
            opaque: self.opaque,
            parts: self.parts.clone(),
        })
    }
}

impl Union {
    /// The union of these layers, the lowest first. Of a layer that comes more than once the highest occurrence has
    /// all of its say.
    pub fn new(layers: &[StoredLayer]) -> Self {
        let mut union =
            Self { layers: Vec::new(), firsts: Vec::new(), count: 0, xattrs: OnceLock::new(), survey: OnceLock::new() };
        for layer in layers.iter().rev().filter(|layer| !layer.index().is_empty()) {
            if union.layers.iter().all(|other| other.diff_id() != layer.diff_id()) {
                union.firsts.push(union.count);
                union.count += layer.index().len() as u64;
                union.layers.push(layer.clone());
            }
        }
        union
    }

    /// Whether it has nothing in it.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Its layers, the highest first, each once, and no empty ones.
    pub fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }

    /// Whether it is of the same layers as another.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.layers.iter().map(StoredLayer::diff_id).eq(other.layers.iter().map(StoredLayer::diff_id))
    }

    /// How many entries its layers have together.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether any entry of any layer has extended attributes, be it hidden or not.
    pub(super) fn has_xattrs(&self) -> bool {
        let any = |layer: &StoredLayer| layer.index().entries().any(|entry| entry.xattrs().next().is_some());
        *self.xattrs.get_or_init(|| self.layers.iter().any(any))
    }

    /// What is to be known of all entries, found out once.
    pub(super) fn survey(&self) -> &Survey {
        self.survey.get_or_init(|| self.make_survey())
    }

    /// The root.
    pub(super) fn root(&self) -> Directory {
        let part = |(layer, stored): (usize, &StoredLayer)| Part { layer, below: 0..stored.index().len() };
        Directory { path: Vec::new(), opaque: false, parts: self.layers.iter().enumerate().map(part).collect() }
    }

    /// The entry with a number, and the layer that has it.
    pub(super) fn entry(&self, number: u64) -> Option<(usize, Entry<'_>)> {
        let layer = self.firsts.partition_point(|first| *first <= number).checked_sub(1)?;
        let position = usize::try_from(number - self.firsts.get(layer)?).ok()?;
        Some((layer, self.layers.get(layer)?.index().at(position)?))
    }

    /// The number that stands for all names of a regular file.
    pub(super) fn file(&self, node: &Node<'_>) -> Option<u64> {
        match node.entry.kind {
            EntryKind::File => Some(node.number),
            EntryKind::HardLink => Some(self.first_name(self.entry(node.number)?.0, node.entry.target)?),
            _ => None,
        }
    }

    /// The number of the first name of a file with several, which is where the others lead.
    fn first_name(&self, layer: usize, target: &[u8]) -> Option<u64> {
        let index = self.layers.get(layer)?.index();
        Some(self.firsts.get(layer)? + index.position_in(0..index.len(), &[], target)? as u64)
    }

    /// What a directory has under a name.
    pub(super) fn child(&self, directory: &Directory, name: &[u8]) -> Option<Node<'_>> {
        let mut found: Option<Node<'_>> = None;
        for Part { layer, below } in &directory.parts {
            let Some(index) = self.layers.get(*layer).map(StoredLayer::index) else { continue };
            let Some(position) = index.position_in(below.clone(), &directory.path, name) else { continue };
            let Some(entry) = index.at(position) else { continue };
            if let Some(node) = &mut found {
                // What is no directory ends what a higher one is merged of, as a whiteout does.
                node.opaque = entry.kind != EntryKind::Directory { opaque: false };
            } else {
                let number = self.firsts.get(*layer).map_or(0, |first| first + position as u64);
                let opaque = entry.kind == EntryKind::Directory { opaque: true };
                found = Some(Node { entry, number, opaque, parts: Vec::new() });
            }
            let Some(node) = &mut found else { continue };
            if entry.is_directory() && node.entry.is_directory() {
                node.parts.push(Part { layer: *layer, below: index.positions_below(position) });
            }
            if node.opaque || !node.entry.is_directory() {
                break;
            }
        }
        found
    }

    /// The numbers of what is directly in a directory, sorted by name.
    pub(super) fn list(&self, directory: &Directory) -> Vec<u64> {
        if let [part] = &directory.parts[..] {
            return self.part(part).map(|(_, number)| number).collect();
        }
        let mut all: BTreeMap<&[u8], u64> = BTreeMap::new();
        for (name, number) in directory.parts.iter().flat_map(|part| self.part(part)) {
            all.entry(name).or_insert(number);
        }
        all.into_values().collect()
    }

    /// Whether overlayfs merges a directory with one that lies beneath the union, in a union of the layers there.
    pub(super) fn is_merged(&self, directory: &Directory, beneath: &Self) -> bool {
        let (mut here, mut below) = (self.root(), beneath.root());
        directory.path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).all(|name| {
            let next = |union: &Self, at: &Directory| union.child(at, name).and_then(|node| node.directory());
            match (next(self, &here), next(beneath, &below)) {
                (Some(above), Some(lower)) if !above.opaque => {
                    (here, below) = (above, lower);
                    true
                }
                _ => false,
            }
        })
    }

    /// What one layer has directly in a directory: names and numbers.
    fn part(&self, part: &Part) -> impl Iterator<Item = (&[u8], u64)> {
        let Part { layer, below } = part.clone();
        let index = self.layers.get(layer).map(StoredLayer::index);
        let first = self.firsts.get(layer).copied().unwrap_or_default();
        let mut next = below.start;
        std::iter::from_fn(move || {
            let (index, position) = (index?, next);
            if position >= below.end {
                return None;
            }
            next = index.positions_below(position).end;
            let path = index.path_at(position);
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            Some((name, first + position as u64))
        })
    }

    fn make_survey(&self) -> Survey {
        let mut survey = Survey::default();
        for (layer, stored) in self.layers.iter().enumerate() {
            for (position, entry) in stored.index().entries().enumerate() {
                let number = self.firsts.get(layer).map_or(0, |first| first + position as u64);
                match entry.kind {
                    EntryKind::HardLink => self.count_link(&mut survey, layer, number, entry.target),
                    EntryKind::Directory { opaque } => {
                        survey.opaque |= opaque || self.is_blocked(layer, entry.path);
                    }
                    _ => {}
                }
            }
        }
        survey
    }

    /// Whether a layer lower than this one has something else than a directory at the path of one.
    fn is_blocked(&self, layer: usize, path: &[u8]) -> bool {
        let lower = self.layers.iter().skip(layer + 1);
        lower.filter_map(|layer| layer.index().get(path)).any(|entry| !entry.is_directory())
    }

    fn count_link(&self, survey: &mut Survey, layer: usize, number: u64, target: &[u8]) {
        let Some(first) = self.first_name(layer, target) else { return };
        let count = survey.links.get(&first).map_or(2, |(_, count)| count + 1);
        survey.links.insert(first, (first, count));
        // The others need no count: they have that of the first.
        survey.links.insert(number, (first, 0));
    }
}

impl Survey {
    /// The number that stands for all names of a file, and how many names there are.
    pub(super) fn link(&self, number: u64) -> (u64, u32) {
        let Some((first, _)) = self.links.get(&number) else { return (number, 1) };
        (*first, self.links.get(first).map_or(1, |(_, count)| *count))
    }
}

/// Looks many paths up, the cheaper the more they come in the order of an index.
pub(super) struct Walk<'u> {
    union: &'u Union,
    /// From the root down to where the walk is.
    trail: Vec<Directory>,
}

impl<'u> Walk<'u> {
    /// At the root.
    pub(super) fn new(union: &'u Union) -> Self {
        Self { union, trail: vec![union.root()] }
    }

    /// What is at a path; nothing for the root. Paths must come in the order of an index.
    pub(super) fn node(&mut self, path: &[u8]) -> Option<Node<'u>> {
        while self.trail.len() > 1 && self.trail.last().is_some_and(|here| !is_below(path, &here.path)) {
            self.trail.pop();
        }
        let done = self.trail.last().map_or(0, |here| if here.path.is_empty() { 0 } else { here.path.len() + 1 });
        let mut names = path.get(done..)?.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            let node = self.next_child(name)?;
            if names.peek().is_none() {
                return Some(node);
            }
            self.trail.push(node.directory()?);
        }
        None
    }

    /// What the directory where the walk is has under a name that comes no earlier than the last one.
    fn next_child(&mut self, name: &[u8]) -> Option<Node<'u>> {
        let here = self.trail.last_mut()?;
        let node = self.union.child(here, name)?;
        let (layer, _) = self.union.entry(node.number)?;
        for part in &mut here.parts {
            if let Some(found) = node.parts.iter().find(|found| found.layer == part.layer) {
                part.below.start = found.below.start.saturating_sub(1);
            } else if part.layer == layer {
                let first = self.union.firsts.get(layer).copied().unwrap_or_default();
                part.below.start = usize::try_from(node.number - first).unwrap_or(part.below.start);
            }
        }
        Some(node)
    }
}

/// Whether `path` lies below `directory` at any depth.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || (path.starts_with(directory) && path.get(directory.len()) == Some(&b'/'))
}
