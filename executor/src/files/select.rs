//! What a copy selects of the tree that it reads from.

use std::collections::HashMap;

use kiln_parser::ignore::{Ignore, Verdict};
use kiln_parser::pattern::{self, Pattern};
use kiln_solver::{Cancel, CopyAction};

use super::include::Include;
use super::tree::{Inode, Item};
use super::{FileError, Kind, Tree};
use crate::paths::{self, Seen};

/// One thing that the source of a copy names, with all below it.
pub(crate) struct Match {
    /// Its name, which a copy into a directory keeps. That of a symbolic link, not of what it leads to.
    pub(crate) name: Vec<u8>,
    /// Its path in the tree, links followed.
    pub(crate) path: Vec<u8>,
    /// Itself and what lies below it, as far as it is selected: directories before what is in them, siblings sorted by name.
    pub(crate) items: Vec<Item>,
    /// For each item that is one of several names of one file, the position of the first of them.
    pub(crate) twins: HashMap<usize, usize>,
}

impl Match {
    /// The path of an item below the match; empty for the match itself.
    pub(crate) fn below<'a>(&self, item: &'a Item) -> &'a [u8] {
        let rest = item.path.get(self.path.len()..).unwrap_or_default();
        rest.strip_prefix(b"/").unwrap_or(rest)
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.items.first().is_some_and(|item| item.kind() == Kind::Directory)
    }
}

/// Everything that a copy selects.
pub(crate) fn select(tree: &Tree, copy: &CopyAction, cancel: &Cancel) -> Result<Vec<Match>, FileError> {
    let exclude = Ignore::from_patterns(&copy.exclude)?;
    let mut matches = match copy.parents {
        true => select_with_parents(tree, copy, &exclude, cancel)?,
        false => select_plain(tree, copy, &exclude, cancel)?,
    };
    tree.hash(matches.iter().flat_map(|found| &found.items), cancel)?;
    for found in &mut matches {
        found.twins = twins(&found.items);
    }
    Ok(matches)
}

/// Sees to it that something is at a path, links followed.
pub(crate) fn must_exist(tree: &Tree, path: &str) -> Result<(), FileError> {
    let path = paths::clean(path.as_bytes());
    let (resolved, seen) = tree.resolve(&path)?;
    if seen.is_some() { Ok(()) } else { Err(missing(tree, &path, &resolved, None)) }
}

fn select_plain(tree: &Tree, copy: &CopyAction, exclude: &Ignore, cancel: &Cancel) -> Result<Vec<Match>, FileError> {
    let mut matches = Vec::new();
    for (base, path) in sources(tree, copy)? {
        let name = paths::name(&path).to_vec();
        if !exclude.is_empty()
            && exclude.is_ignored(path.get(base..).unwrap_or_default())
            && is_no_directory(tree, &path)?
        {
            continue;
        }
        let (resolved, seen) = tree.resolve(&path)?;
        if seen.is_none() {
            return Err(not_found(tree, copy, &path, &resolved));
        }
        let items = collect(tree, &resolved, Rules { include: None, exclude }, cancel)?;
        if items.len() < 2 && tree.only_for_below(&resolved)? {
            return Err(not_found(tree, copy, &path, &resolved));
        }
        matches.push(Match { name, path: resolved, items, twins: HashMap::new() });
    }
    Ok(matches)
}

/// `--parents`: below the directory that stands before `/./`, or the root, whatever the rest matches, with the
/// directories on the way to it.
fn select_with_parents(
    tree: &Tree,
    copy: &CopyAction,
    exclude: &Ignore,
    cancel: &Cancel,
) -> Result<Vec<Match>, FileError> {
    let (pivot, pattern) = copy.source.split_once("/./").unwrap_or(("", &copy.source));
    let include = Include::new(pattern)?;
    let pivots = CopyAction { source: pivot.to_owned(), ..copy.clone() };
    let mut matches = Vec::new();
    for (_, path) in sources(tree, &pivots)? {
        let (resolved, seen) = tree.resolve(&path)?;
        match seen {
            Some(Seen::Directory) => {}
            Some(_) => return Err(FileError::NotADirectory { path: paths::display(&path), place: tree.place() }),
            None => return Err(not_found(tree, &pivots, &path, &resolved)),
        }
        if let Some(needed) = include.literal() {
            require(tree, copy, &resolved, needed)?;
        }
        let rules = Rules { include: Some(&include), exclude };
        let items = collect(tree, &resolved, rules, cancel)?;
        matches.push(Match { name: paths::name(&path).to_vec(), path: resolved, items, twins: HashMap::new() });
    }
    Ok(matches)
}

/// Sees to it that a path without wildcards is there. Links on the way to it are not followed.
fn require(tree: &Tree, copy: &CopyAction, pivot: &[u8], needed: &[u8]) -> Result<(), FileError> {
    let path = paths::join(pivot, needed);
    let steps = paths::ancestors(&path).chain([&path[..]]).filter(|step| step.len() > pivot.len());
    for step in steps {
        let found = match tree.seen(step)? {
            Some(Seen::Directory) => continue,
            Some(_) if step.len() == path.len() => continue,
            Some(Seen::Link(_)) => {
                let hint = format!("`{}` is a symbolic link, which `--parents` does not follow", paths::display(step));
                return Err(FileError::NotFound { path: paths::display(&path), place: tree.place(), hint: Some(hint) });
            }
            Some(Seen::Other) => FileError::NotADirectory { path: paths::display(step), place: tree.place() },
            None => not_found(tree, copy, &path, &path),
        };
        return Err(found);
    }
    Ok(())
}

fn is_no_directory(tree: &Tree, path: &[u8]) -> Result<bool, FileError> {
    Ok(tree.resolve(path)?.1 != Some(Seen::Directory))
}

/// The paths that the source names, and where in each the part begins that `--exclude` is about.
pub(super) fn sources(tree: &Tree, copy: &CopyAction) -> Result<Vec<(usize, Vec<u8>)>, FileError> {
    let cleaned = paths::clean(copy.source.as_bytes());
    let start = |path: &[u8]| if path.is_empty() { 0 } else { path.len() + 1 };
    let components: Vec<&str> = match std::str::from_utf8(&cleaned) {
        Ok(cleaned) if copy.wildcard => cleaned.split('/').collect(),
        _ => Vec::new(),
    };
    let Some(first) = components.iter().position(|component| pattern::has_wildcards(component)) else {
        return Ok(vec![(start(paths::parent(&cleaned)), cleaned)]);
    };
    let base = components[..first].join("/").into_bytes();
    let (resolved, seen) = tree.resolve(&base)?;
    let found = match seen {
        None => return Err(not_found(tree, copy, &base, &resolved)),
        Some(Seen::Directory) => expand(tree, &resolved, &components[first..])?,
        Some(_) => Vec::new(),
    };
    if found.is_empty() && !copy.allow_empty_wildcard {
        return Err(not_found(tree, copy, &cleaned, &cleaned));
    }
    Ok(found.into_iter().map(|path| (start(&resolved), path)).collect())
}

/// What matches below a directory, component by component, in order. Links on the way are not followed.
fn expand(tree: &Tree, directory: &[u8], components: &[&str]) -> Result<Vec<Vec<u8>>, FileError> {
    let Some((component, rest)) = components.split_first() else { return Ok(vec![directory.to_vec()]) };
    let pattern = Pattern::new(component)?;
    let mut found = Vec::new();
    for (item, only_for_below) in tree.children(directory)? {
        let fits = pattern.matches(paths::name(&item.path)) && item.kind() != Kind::Socket;
        if !fits || (!rest.is_empty() && item.kind() != Kind::Directory) {
            continue;
        }
        let rules = Rules { include: None, exclude: &Ignore::default() };
        if rest.is_empty() && only_for_below && collect(tree, &item.path, rules, &Cancel::new())?.len() < 2 {
            continue;
        }
        found.extend(expand(tree, &item.path, rest)?);
    }
    Ok(found)
}

/// A path and all below it that is not left out.
fn collect(tree: &Tree, path: &[u8], rules: Rules<'_>, cancel: &Cancel) -> Result<Vec<Item>, FileError> {
    let Some(mut item) = tree.item(path)? else { return Ok(Vec::new()) };
    match item.kind() {
        Kind::Socket => Err(FileError::Socket(paths::display(path))),
        Kind::Directory => {
            if rules.include.is_none_or(|include| include.is_open_at(b"")) {
                tree.walk(path, cancel)?;
            }
            tree.complete(&mut item)?;
            let mut collector = Collector { tree, rules, cancel, root: path.len(), items: vec![item] };
            collector.descend(path)?;
            Ok(collector.items)
        }
        _ => Ok(vec![item]),
    }
}

/// What is taken of a directory.
#[derive(Clone, Copy)]
struct Rules<'a> {
    /// Only what this matches, where it is given.
    include: Option<&'a Include>,
    /// Without what this matches.
    exclude: &'a Ignore,
}

struct Collector<'a> {
    tree: &'a Tree,
    rules: Rules<'a>,
    cancel: &'a Cancel,
    root: usize,
    items: Vec<Item>,
}

/// A directory that is being collected. There may be thousands on top of each other, so they are kept in a list and
/// not on the stack.
struct Level {
    children: std::vec::IntoIter<(Item, bool)>,
    /// What the rules say of it.
    judgement: Judgement,
    /// Where it is among the items, if it is left out: it is there all the same if something below it is not.
    left_out: Option<usize>,
}

/// What the rules say of something.
#[derive(Clone, Copy)]
struct Judgement {
    exclude: Verdict,
    /// Whether it, or a directory above it, is asked for.
    included: bool,
}

impl Collector<'_> {
    fn descend(&mut self, directory: &[u8]) -> Result<(), FileError> {
        let children = self.tree.children(directory)?.into_iter();
        let judgement = Judgement { exclude: Verdict::default(), included: self.rules.include.is_none() };
        let mut levels = vec![Level { children, judgement, left_out: None }];
        while let Some(level) = levels.last_mut() {
            match level.children.next() {
                Some((item, only_for_below)) => {
                    let above = level.judgement;
                    levels.extend(self.child(item, only_for_below, above)?);
                }
                None => {
                    if level.left_out.is_some_and(|position| self.items.len() == position + 1) {
                        self.items.pop();
                    }
                    levels.pop();
                }
            }
        }
        Ok(())
    }

    /// Takes something in; a directory is to be gone through next.
    fn child(&mut self, mut item: Item, only_for_below: bool, above: Judgement) -> Result<Option<Level>, FileError> {
        let (judgement, prune) = self.judge(&item, above);
        let left_out = only_for_below || judgement.exclude.is_ignored() || !judgement.included;
        match item.kind() {
            Kind::Directory if !prune => {
                item.implied = !judgement.included;
                if judgement.included && !above.included || self.is_open_at(&item) {
                    self.tree.walk(&item.path, self.cancel)?;
                }
                self.directory(item, judgement, left_out).map(Some)
            }
            // A socket means nothing without the process behind it; Docker leaves them out, too.
            Kind::Directory | Kind::Socket => Ok(None),
            _ => {
                self.items.extend((!left_out).then_some(item));
                Ok(None)
            }
        }
    }

    fn directory(&mut self, mut item: Item, judgement: Judgement, left_out: bool) -> Result<Level, FileError> {
        if self.cancel.is_requested() {
            return Err(FileError::Cancelled);
        }
        self.tree.complete(&mut item)?;
        let children = self.tree.children(&item.path)?.into_iter();
        let left_out = left_out.then_some(self.items.len());
        self.items.push(item);
        Ok(Level { children, judgement, left_out })
    }

    /// What the rules say of an item, and whether nothing below it needs to be looked at.
    fn judge(&self, item: &Item, above: Judgement) -> (Judgement, bool) {
        let Rules { include, exclude } = self.rules;
        let below = self.below(item);
        let included = above.included || include.is_some_and(|include| include.matches(below));
        let mut prune = !included && include.is_some_and(|include| !include.leads_below(below));
        let mut verdict = above.exclude;
        if !exclude.is_empty() {
            verdict = exclude.verdict(below, above.exclude);
            prune |= verdict.is_ignored() && !exclude.may_include_below(below);
        }
        (Judgement { exclude: verdict, included }, prune)
    }

    fn is_open_at(&self, item: &Item) -> bool {
        self.rules.include.is_some_and(|include| include.is_open_at(self.below(item)))
    }

    /// The path of an item below the directory that is collected.
    fn below<'i>(&self, item: &'i Item) -> &'i [u8] {
        let below = item.path.get(self.root..).unwrap_or_default();
        below.strip_prefix(b"/").unwrap_or(below)
    }
}

fn twins(items: &[Item]) -> HashMap<usize, usize> {
    let mut first: HashMap<Inode<'_>, usize> = HashMap::new();
    let mut twins = HashMap::new();
    for (position, item) in items.iter().enumerate() {
        let Some(inode) = item.inode() else { continue };
        let first = *first.entry(inode).or_insert(position);
        if first != position {
            twins.insert(first, first);
            twins.insert(position, first);
        }
    }
    twins
}

fn not_found(tree: &Tree, copy: &CopyAction, path: &[u8], resolved: &[u8]) -> FileError {
    missing(tree, path, resolved, Some(copy))
}

fn missing(tree: &Tree, path: &[u8], resolved: &[u8], copy: Option<&CopyAction>) -> FileError {
    let hint = left_out(tree, resolved)
        .or_else(|| leads_astray(tree, path, resolved))
        .or_else(|| outside(copy?))
        .or_else(|| near(tree, resolved));
    FileError::NotFound { path: paths::display(path), place: tree.place(), hint }
}

fn left_out(tree: &Tree, path: &[u8]) -> Option<String> {
    let Tree::Context(context) = tree else { return None };
    let above = paths::ancestors(path).chain([path]).find(|path| context.leaves_out(path))?;
    Some(format!("`{}` is there, but `.dockerignore` leaves it out", paths::display(above)))
}

fn leads_astray(tree: &Tree, path: &[u8], resolved: &[u8]) -> Option<String> {
    let link = paths::ancestors(path).chain([path]).find_map(|path| match tree.seen(path) {
        Ok(Some(Seen::Link(target))) => Some((path.to_vec(), target)),
        _ => None,
    });
    link.filter(|_| path != resolved).map(|(link, target)| {
        let (link, target) = (paths::display(&link), String::from_utf8_lossy(&target).into_owned());
        format!("`{link}` is a symbolic link to `{target}`, and links are never followed out of {}", tree.place())
    })
}

fn outside(copy: &CopyAction) -> Option<String> {
    let leaves = copy.source.split('/').any(|component| component == "..");
    leaves.then(|| format!("`{}`: nothing above the root can be copied; `..` there means the root itself", copy.source))
}

/// Something in the same directory with a name much like the one that is missing.
fn near(tree: &Tree, path: &[u8]) -> Option<String> {
    let missing = paths::ancestors(path).chain([path]).find(|path| !matches!(tree.seen(path), Ok(Some(_))))?;
    let name = String::from_utf8_lossy(paths::name(missing)).into_owned();
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let children = tree.children(paths::parent(missing)).ok()?;
    let names = children.iter().map(|(item, _)| String::from_utf8_lossy(paths::name(&item.path)).into_owned());
    let (closest, found) = names.map(|found| (distance(&found), found)).min()?;
    let meant = paths::display(&paths::join(paths::parent(missing), found.as_bytes()));
    (closest <= name.chars().count().div_ceil(3).min(3)).then(|| format!("there is `{meant}`"))
}
