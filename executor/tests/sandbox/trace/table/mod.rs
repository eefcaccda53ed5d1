//! What a `RUN` depends on, shown by commands that people run: a table of commands, each with edits after which it must
//! run again and edits after which it must stay cached. `docs/run-cache.md` shows the same table.
//!
//! | file | |
//! |---|---|
//! | `edit.rs` | edits of trees of files |
//! | `files.rs` | commands that look at files, or change them |
//! | `builds.rs` | compilers, interpreters and what starts them |
//! | `packages.rs` | package managers |
//! | `system.rs` | users, libraries, and unusual ways to read a file |
//! | `docs.rs` | the table in the documentation |
//!
//! That a command stays cached is shown to be right: it runs once more with all such edits made, those of the table and
//! one to each file that no fact is about, and must end the same.

mod builds;
pub mod docs;
mod edit;
mod files;
pub mod packages;
mod system;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kiln_executor::trace::{Fact, Observations, Union};
use tempfile::TempDir;

use super::{Place, programs, told};
use crate::world::World;
use edit::{Blind, Edit};

/// A command, and what it depends on.
#[derive(Clone, Copy)]
pub struct Row {
    /// As the documentation shows it.
    command: &'static str,
    /// What is run instead, in `/app`, if it is more than that.
    script: &'static str,
    /// What `/app` holds.
    tree: &'static [Edit],
    /// Scripts that run there once, before the tree becomes a layer.
    setup: [&'static str; 2],
    /// After these it must run again.
    reruns: &'static [Edit],
    /// After these it must stay cached.
    cached: &'static [Edit],
    /// Parts of lines of the outcome that are never twice the same.
    unlike: &'static [&'static str],
}

/// Where the programs in C are that some rows run.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox/trace/table/programs");

/// What most commands are tried on.
const PROJECT: &[Edit] = &[
    Edit::File("a.txt", "one\ntwo\n"),
    Edit::File("b.txt", "three\n"),
    Edit::File("src/main.c", "#include \"lib.h\"\nint main(void) { return answer(); }\n"),
    Edit::File("src/lib.c", "#include \"lib.h\"\nint answer(void) { return ANSWER; }\n"),
    Edit::File("src/lib.h", "#define ANSWER 0\nint answer(void);\n"),
    Edit::File("docs/guide.md", "guide\n"),
    Edit::File("docs/deep/er/note", "note\n"),
    Edit::Program("bin/tool", "#!/bin/sh\necho tool\n"),
    Edit::Link("guide", "docs/guide.md"),
    Edit::Directory("empty"),
];

const fn row(command: &'static str) -> Row {
    Row { command, script: "", tree: PROJECT, setup: ["", ""], reruns: &[], cached: &[], unlike: &[] }
}

impl Row {
    const fn script(self, script: &'static str) -> Self {
        Self { script, ..self }
    }

    const fn tree(self, tree: &'static [Edit]) -> Self {
        Self { tree, ..self }
    }

    const fn setup(self, setup: &'static str) -> Self {
        Self { setup: [setup, ""], ..self }
    }

    const fn then(self, more: &'static str) -> Self {
        Self { setup: [self.setup[0], more], ..self }
    }

    const fn reruns(self, reruns: &'static [Edit]) -> Self {
        Self { reruns, ..self }
    }

    const fn cached(self, cached: &'static [Edit]) -> Self {
        Self { cached, ..self }
    }

    const fn unlike(self, unlike: &'static [&'static str]) -> Self {
        Self { unlike, ..self }
    }
}

/// The rows, by what they are about.
const TABLE: &[(&str, &[Row])] = &[
    ("Looking at files", files::LOOKING),
    ("Changing files", files::CHANGING),
    ("Compilers and interpreters", builds::ROWS),
    ("Packages", packages::ROWS),
    ("The system", system::ROWS),
    ("Unusual ways to a file", system::UNUSUAL),
];

/// Every row of the table.
pub fn commands_run_again_or_stay_cached(world: &World) {
    let place = Place::new(world);
    if !place.is_machine() {
        return;
    }
    let chosen = std::env::var("TRACE_COMMAND").unwrap_or_default();
    let rows = TABLE.iter().flat_map(|(_, rows)| rows.iter()).filter(|row| row.command.contains(&chosen));
    let mut failures = Vec::new();
    for row in rows {
        let start = std::time::Instant::now();
        if let Err(problems) = Trial::new(&place, row).and_then(|trial| trial.check()) {
            failures.push(format!("`{}`:\n  {}", row.command, problems.join("\n  ")));
        }
        if !chosen.is_empty() {
            println!("{}: {:?}", row.command, start.elapsed());
        }
    }
    assert!(failures.is_empty(), "{} commands are not as the table says\n{}", failures.len(), failures.join("\n"));
}

/// A row that has been run.
struct Trial<'p> {
    place: &'p Place<'p>,
    row: &'p Row,
    prepared: TempDir,
    observations: Observations,
    outcome: Vec<String>,
}

impl<'p> Trial<'p> {
    fn new(place: &'p Place<'p>, row: &'p Row) -> Result<Self, Vec<String>> {
        let prepared = tempfile::tempdir_in(place.directory.path()).unwrap();
        std::fs::create_dir(prepared.path().join("app")).unwrap();
        row.tree.iter().for_each(|edit| edit.apply(prepared.path()));
        sh(&row.setup.concat(), &prepared.path().join("app"));
        let union = edited(place, prepared.path(), |_| {});
        let traced = place.traced(&union, &script(row), true);
        let outcome = outcome(&traced.stdout(), row);
        let observations = Observations::decode(traced.observations.encode().to_vec()).unwrap();
        let trial = Self { place, row, prepared, observations, outcome };
        if !traced.output.status.success() {
            return Err(vec![format!("fails: {:?}", traced.output)]);
        }
        Ok(trial)
    }

    fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for edit in self.row.reruns {
            if self.misses(|root| edit.apply(root)).is_none() {
                problems.push(format!("must run again: {}", edit.describe(self.row)));
            }
        }
        for edit in self.row.cached {
            if let Some(mismatch) = self.misses(|root| edit.apply(root)) {
                problems.push(format!("must stay cached: {}: {mismatch}", edit.describe(self.row)));
            }
        }
        if problems.is_empty() {
            self.check_that_hits_are_right(&mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// With all that is said not to matter changed at once, the command does the same.
    fn check_that_hits_are_right(&self, problems: &mut Vec<String>) {
        let mut blind = Blind::all(self.prepared.path());
        let facts: HashMap<PathBuf, Fact> =
            self.observations.facts().map(|fact| (PathBuf::from(OsStr::from_bytes(&fact.path)), fact)).collect();
        blind.retain(|edit| !edit.shows_in(&facts));
        let all = edited(self.place, self.prepared.path(), |root| {
            self.row.cached.iter().for_each(|edit| edit.apply(root));
            blind.iter().for_each(|edit| edit.apply(root));
        });
        if let Some(mismatch) = self.observations.check(&all) {
            problems.push(format!("each edit hits, but not all of them together: {}", told(&mismatch)));
            return;
        }
        let again = outcome(&self.place.traced(&all, &script(self.row), true).stdout(), self.row);
        for line in again.iter().filter(|line| !self.outcome.contains(line)) {
            problems.push(format!("a wrong hit: now `{line}`"));
        }
        for line in self.outcome.iter().filter(|line| !again.contains(line)) {
            problems.push(format!("a wrong hit: was `{line}`"));
        }
    }

    /// The first fact that does not hold after an edit.
    fn misses(&self, edit: impl FnOnce(&Path)) -> Option<String> {
        let union = edited(self.place, self.prepared.path(), edit);
        self.observations.check(&union).map(|mismatch| told(&mismatch))
    }
}

fn script(row: &Row) -> String {
    let script = if row.script.is_empty() { row.command } else { row.script };
    format!("export HOME=/tmp/home; cd /app; {script}")
}

/// The lines of what a command printed and left, but for those that differ each time.
fn outcome(text: &str, row: &Row) -> Vec<String> {
    let is_alike = |line: &&str| !row.unlike.iter().any(|unlike| line.contains(unlike));
    text.lines().filter(is_alike).map(str::to_owned).collect()
}

/// The layer that comes of a tree after an edit.
fn edited(place: &Place<'_>, prepared: &Path, edit: impl FnOnce(&Path)) -> Arc<Union> {
    Arc::new(Union::new(&[place.filled(|root| {
        let copied = Command::new("cp").arg("-a").arg(prepared.join(".")).arg(root).status().unwrap();
        assert!(copied.success());
        edit(root);
    })]))
}

/// Runs a script of the test itself.
pub fn sh(script: &str, directory: &Path) {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(directory).env_clear().envs([("PATH", &*programs()), ("LC_ALL", "C")]);
    let output = command.env("HOME", "/nonexistent").env("SOURCES", SOURCES).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}
