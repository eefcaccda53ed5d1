//! The keys of changes of files (`FileOp`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_solver::{CopyAction, Digest, FileAction, FileActionKind, FileMode, Input, Owner, Step, UserRef};
use serde::Serialize;

use super::dialect::{Dialect, Dialects};
use super::json;
use super::llb::{ChownOpt, FileActionCopy, FileActionMkDir, FileActionMkFile, NamedUserOpt, User, UserOpt};
use super::merge;
use super::operation::{Dependency, Operation, Select, Selector, Taken, selector_of, without_nested};

/// What BuildKit writes for a time that nobody gave. Older generations give none at all.
const NO_TIME: i64 = -1;
/// What it writes for a mode that nobody gave.
const NO_MODE: i32 = -1;
/// What it writes for no input or output.
const NONE: i64 = -1;

/// What BuildKit hashes.
#[derive(Serialize)]
struct Hashed {
    #[serde(rename = "Type")]
    kind: &'static str,
    /// In base64.
    #[serde(rename = "Actions")]
    actions: Vec<String>,
    #[serde(rename = "indexes", skip_serializing_if = "Option::is_none")]
    indexes: Option<Vec<[i64; 3]>>,
}

/// The actions of a step as BuildKit knows them; none where it would do them in another way. `time` is what directories
/// and files that it makes are given, in nanoseconds since 1970.
pub(super) fn operation(step: &Step, actions: &[FileAction], time: Option<i64>) -> Option<Operation> {
    let is_linked = |action: &FileAction| matches!(&action.kind, FileActionKind::Copy(copy) if copy.linked);
    match step.inputs.split_first() {
        Some((base, others)) if actions.iter().any(is_linked) && actions.first()?.base == Some(0) => {
            merge::operation(*base, plain(others, &merge::apart(actions)?, time)?)
        }
        _ => plain(&step.inputs, actions, time),
    }
}

/// Actions one after the other.
fn plain(inputs: &[Input], actions: &[FileAction], time: Option<i64>) -> Option<Operation> {
    let mut digests = Vec::new();
    for timestamp in [NO_TIME].into_iter().chain(time) {
        for &makes_parents in parents_made(inputs, actions) {
            let form = |dialect| Form { dialect, timestamp, makes_parents };
            let digest = |dialect| Some((dialect, form(dialect).digest(inputs.len(), actions)?));
            let all = Dialect::ALL.into_iter().map(digest).collect::<Option<Vec<_>>>()?;
            digests.extend(Dialects::group(all));
        }
    }
    let dependency = |(position, input): (usize, &Input)| dependency(*input, actions, position);
    Some(Operation { digests, dependencies: inputs.iter().enumerate().map(dependency).collect() })
}

/// Whether directories are made with those above them. All are but that of a new cache mount, which is the only one in
/// an empty tree whatever it is for.
fn parents_made(inputs: &[Input], actions: &[FileAction]) -> &'static [bool] {
    match actions {
        [FileAction { kind: FileActionKind::Mkdir(_), .. }] if inputs.is_empty() => &[true, false],
        _ => &[true],
    }
}

struct Form {
    dialect: Dialect,
    timestamp: i64,
    makes_parents: bool,
}

impl Form {
    fn digest(&self, inputs: usize, actions: &[FileAction]) -> Option<Digest> {
        let encode = |action: &FileAction| Some(STANDARD.encode(self.action(action, inputs)?));
        let indexes: Vec<[i64; 3]> = actions.iter().map(indexes).collect();
        let hashed = Hashed {
            kind: "buildkit.file.v0",
            actions: actions.iter().map(encode).collect::<Option<_>>()?,
            indexes: (!are_usual(&indexes)).then_some(indexes),
        };
        Some(Digest::of(&json::to_vec(&hashed)))
    }

    fn action(&self, action: &FileAction, inputs: usize) -> Option<Vec<u8>> {
        let has_base = inputs > 0 && action.base.is_some();
        match &action.kind {
            FileActionKind::Copy(copy) => self.copy(copy, has_base),
            FileActionKind::Mkdir(mkdir) => Some(json::to_vec(&FileActionMkDir {
                path: &mkdir.path,
                mode: i32::try_from(mkdir.mode).ok()?,
                make_parents: self.makes_parents,
                owner: mkdir.owner.as_ref().map(|owner| self.owner(owner, has_base)),
                timestamp: self.timestamp,
            })),
            FileActionKind::Mkfile(mkfile) => Some(json::to_vec(&FileActionMkFile {
                path: &mkfile.path,
                mode: i32::try_from(mkfile.mode).ok()?,
                data: STANDARD.encode(&mkfile.content),
                owner: mkfile.owner.as_ref().map(|owner| self.owner(owner, has_base)),
                timestamp: self.timestamp,
            })),
        }
    }

    fn copy(&self, copy: &CopyAction, has_base: bool) -> Option<Vec<u8>> {
        let mode = match &copy.mode {
            None => NO_MODE,
            Some(FileMode::Exact(bits)) => i32::try_from(*bits).ok()?,
            Some(FileMode::Changes(_)) => return None,
        };
        if copy.parents || !copy.exclude.is_empty() {
            return None;
        }
        let source = source(copy);
        let name = source.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(source);
        Some(json::to_vec(&FileActionCopy {
            src: name,
            dest: &copy.destination,
            owner: copy.owner.as_ref().map(|owner| self.owner(owner, has_base)),
            mode,
            // A file that BuildKit made itself is taken as it is.
            follow_symlink: copy.wildcard,
            dir_copy_contents: copy.contents_only,
            attempt_unpack: copy.unpack,
            create_dest_path: true,
            allow_wildcard: copy.wildcard,
            allow_empty_wildcard: copy.wildcard && copy.allow_empty_wildcard,
            timestamp: NO_TIME,
        }))
    }

    fn owner<'a>(&self, owner: &'a Owner, has_base: bool) -> ChownOpt<'a> {
        let user = |user: &'a UserRef| UserOpt {
            user: match user {
                UserRef::Name(name) => {
                    let input = self.dialect.number(if has_base { 0 } else { NONE });
                    User { by_name: Some(NamedUserOpt { name, input }), ..User::default() }
                }
                UserRef::Id(id) if self.dialect < Dialect::V0_18 => User { by_id_old: *id, ..User::default() },
                UserRef::Id(id) => User { by_id: *id, ..User::default() },
            },
        };
        ChownOpt { user: user(&owner.user), group: owner.group.as_ref().map(user) }
    }
}

/// Without the slash at the end, which makes no difference.
fn source(copy: &CopyAction) -> &str {
    match copy.source.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

fn indexes(action: &FileAction) -> [i64; 3] {
    let number = |position: Option<usize>| position.and_then(|position| i64::try_from(position).ok()).unwrap_or(NONE);
    [number(action.base), number(action.from), action.output.map_or(NONE, i64::from)]
}

/// Whether BuildKit leaves the indexes out, as it once did always: if the first action changes the first input, each
/// other one what came before it (counted as if there were as many inputs as actions), all read the second input, and
/// the last gives the result.
fn are_usual(indexes: &[[i64; 3]]) -> bool {
    let count = indexes.len() as i64;
    let is_usual = |(position, [base, from, output]): (i64, &[i64; 3])| {
        let before = if position == 0 { 0 } else { count + position - 1 };
        let made = if position == count - 1 { 0 } else { NONE };
        *base == before && matches!(*from, NONE | 1) && *output == made
    };
    (0..).zip(indexes).all(is_usual)
}

fn dependency(input: Input, actions: &[FileAction], position: usize) -> Dependency {
    let from = Taken::Step(input);
    let is_changed = actions.iter().any(|action| action.base == Some(position));
    let from_input = actions.iter().filter(|action| action.from == Some(position));
    let copies = from_input.filter_map(|action| match &action.kind {
        FileActionKind::Copy(copy) => Some(copy),
        FileActionKind::Mkdir(_) | FileActionKind::Mkfile(_) => None,
    });
    let sources: Vec<(&str, bool)> =
        copies.map(|copy| (source(copy), copy.wildcard && has_wildcards(source(copy)))).collect();
    if is_changed || sources.is_empty() {
        return Dependency { from, selectors: vec![(Dialects::all(), None)], contents: Vec::new() };
    }
    let mut paths: Vec<&str> = sources.iter().map(|(path, _)| *path).collect();
    paths.sort_unstable_by(|one, other| other.cmp(one));
    let selectors = vec![(Dialects::all(), selector_of(&paths))];
    let contents = Dialects::group(Dialect::ALL.map(|dialect| (dialect, contents(&sources, dialect))));
    Dependency { from, selectors, contents }
}

/// What is hashed of these paths: plain ones each once and those with wildcards, in their order.
fn contents(sources: &[(&str, bool)], dialect: Dialect) -> Vec<Selector> {
    let select = if dialect >= Dialect::V0_12 { Select::Matches } else { Select::Wholes };
    let plain: Vec<&str> = sources.iter().filter(|(_, wildcard)| !wildcard).map(|(path, _)| *path).collect();
    let mut all: Vec<Selector> = without_nested(&plain).into_iter().map(Selector::of).collect();
    let matching = sources.iter().filter(|(_, wildcard)| *wildcard);
    all.extend(matching.map(|(path, _)| Selector { path: (*path).to_owned(), select }));
    all.sort_by(|one, other| one.path.cmp(&other.path));
    all
}

/// Whether a path has wildcards of Go's `filepath.Match` in it.
fn has_wildcards(path: &str) -> bool {
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}
