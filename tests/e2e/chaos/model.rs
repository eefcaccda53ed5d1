//! What a recipe makes: each instruction carried out on a map, always, and nothing remembered.

use super::recipe::{Instruction, MANY, Recipe, Source, parent};
use kiln_tests::layout::sha256;
use kiln_tests::{Kind, Tree};
use std::collections::BTreeMap;

/// What is at a path below `/w`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File { text: Vec<u8>, executable: bool },
}

/// All that is below `/w`.
#[derive(Clone, Default)]
pub(super) struct Model(BTreeMap<String, Node>);

impl Model {
    /// What the image of a recipe holds.
    pub(super) fn of(recipe: &Recipe) -> Self {
        let mut first = Self::default();
        first.carry_out(&recipe.stages[0], &recipe.context, &Self::default());
        let mut last = Self::default();
        last.carry_out(&recipe.stages[1], &recipe.context, &first);
        last
    }

    /// What a tree has otherwise.
    pub(super) fn differences(&self, tree: &Tree) -> Vec<String> {
        let mut found: BTreeMap<String, String> = tree
            .below("w")
            .into_iter()
            .map(|path| {
                let node = tree.node(&format!("w/{path}"));
                let what = match &node.kind {
                    Kind::File { size, sha256, .. } => format!("{size} bytes {sha256}"),
                    Kind::Directory => "directory".to_owned(),
                    other => format!("{other:?}"),
                };
                (path, format!("{what} {:o} {}:{}", node.mode, node.uid, node.gid))
            })
            .collect();
        let mut differences = Vec::new();
        for (path, node) in &self.0 {
            let expected = match node {
                Node::Directory => "directory 755 0:0".to_owned(),
                Node::File { text, executable } => {
                    let mode = if *executable { "755" } else { "644" };
                    format!("{} bytes {} {mode} 0:0", text.len(), sha256(text))
                }
            };
            let there = found.remove(path).unwrap_or_else(|| "nothing".to_owned());
            if there != expected {
                differences.push(format!("/w/{path}: {there}, not {expected}"));
            }
        }
        differences.extend(found.into_iter().map(|(path, there)| format!("/w/{path}: {there}, not nothing")));
        differences
    }

    fn carry_out(&mut self, stage: &[Instruction], context: &BTreeMap<String, Source>, first: &Self) {
        for top in ["d0", "d1", "d2"] {
            self.make_directory(top);
        }
        for instruction in stage {
            self.step(instruction, context, first);
        }
    }

    fn step(&mut self, instruction: &Instruction, context: &BTreeMap<String, Source>, first: &Self) {
        match instruction {
            Instruction::Write { to, text } => self.write(to, format!("text {text}\n").into_bytes()),
            Instruction::Fill { to, text } => self.write(to, format!("many {text}\n").repeat(MANY).into_bytes()),
            Instruction::Join { from: [one, two], to } => {
                // Directories that are made for the result may be those of a source, which changes nothing.
                let text = [self.text(one), self.text(two)].concat();
                self.write(to, text);
            }
            Instruction::List { from, to } => {
                self.make_directory(parent(to));
                self.write(to, self.text(to));
                let names = self.children(from);
                let is_there = self.0.contains_key(from);
                self.write(to, if is_there { names.concat().into_bytes() } else { Vec::new() });
            }
            Instruction::Ask { about, to } => {
                self.make_directory(parent(to));
                // The shell makes the file before it asks.
                let yes = self.0.contains_key(about);
                self.write(to, if yes || about == to { b"yes\n".to_vec() } else { b"no\n".to_vec() });
            }
            Instruction::Remove { what } => drop(self.take(what)),
            Instruction::Rename { from, to } => {
                if self.0.contains_key(from) && !self.0.contains_key(to) {
                    for (path, node) in self.take(from) {
                        self.0.insert(format!("{to}{path}"), node);
                    }
                }
            }
            Instruction::CopyAll { from, to } => {
                self.make_directory(to);
                for (path, source) in context {
                    let Some(path) = path.strip_prefix(&format!("{from}/")) else { continue };
                    self.put(&format!("{to}/{path}"), source.text.clone().into_bytes(), source.executable);
                }
            }
            Instruction::CopyFile { from, to } => {
                let source = &context[&format!("{from}/f0")];
                self.put(to, source.text.clone().into_bytes(), source.executable);
            }
            Instruction::CopyStage { from, to } => {
                self.make_directory(to);
                for (path, node) in &first.0 {
                    let Some(path) = path.strip_prefix(&format!("{from}/")) else { continue };
                    match node {
                        Node::Directory => self.make_directory(&format!("{to}/{path}")),
                        Node::File { text, executable } => self.put(&format!("{to}/{path}"), text.clone(), *executable),
                    }
                }
            }
            Instruction::Workdir { what } => self.make_directory(what),
            Instruction::Bind { from, name, to } => {
                let source = context.get(&format!("{from}/{name}"));
                self.write(to, source.map(|source| source.text.clone().into_bytes()).unwrap_or_default());
            }
            Instruction::Cache { to, .. } => self.write(to, b"cached\n".to_vec()),
        }
    }

    fn text(&self, path: &str) -> Vec<u8> {
        match self.0.get(path) {
            Some(Node::File { text, .. }) => text.clone(),
            _ => Vec::new(),
        }
    }

    /// The names in a directory, a line each.
    fn children(&self, directory: &str) -> Vec<String> {
        let below = self.0.keys().filter_map(|path| path.strip_prefix(&format!("{directory}/")));
        below.filter(|name| !name.contains('/')).map(|name| format!("{name}\n")).collect()
    }

    fn make_directory(&mut self, path: &str) {
        for (place, _) in path.match_indices('/') {
            self.0.entry(path[..place].to_owned()).or_insert(Node::Directory);
        }
        self.0.entry(path.to_owned()).or_insert(Node::Directory);
    }

    /// As a shell writes: a file that is there keeps its mode.
    fn write(&mut self, path: &str, text: Vec<u8>) {
        let executable = matches!(self.0.get(path), Some(Node::File { executable: true, .. }));
        self.put(path, text, executable);
    }

    fn put(&mut self, path: &str, text: Vec<u8>, executable: bool) {
        self.make_directory(parent(path));
        self.0.insert(path.to_owned(), Node::File { text, executable });
    }

    /// Takes something out with all below it; yields that by what follows the path.
    fn take(&mut self, path: &str) -> Vec<(String, Node)> {
        let is_in =
            |other: &String| other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let taken: Vec<String> = self.0.keys().filter(|other| is_in(other)).cloned().collect();
        taken.into_iter().map(|other| (other[path.len()..].to_owned(), self.0.remove(&other).unwrap())).collect()
    }
}
