//! Random Dockerfiles of commands whose meaning is simple, random contexts, and edits of both.
//!
//! A name says what it is: `f…` is a file and `d…` a directory, wherever it stands. The directories `/w/d0` … `/w/d2`
//! are always there, and so are `a` and `b` of the context and the files `f0` in them; all else comes and goes.

use super::random::Random;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One instruction; paths are relative to `/w`, those of the context to the context.
#[derive(Clone, Debug)]
pub(super) enum Instruction {
    /// Writes a text, and the directories above it.
    Write { to: String, text: usize },
    /// Writes many bytes.
    Fill { to: String, text: usize },
    /// Puts two files together; one that is not there counts for nothing.
    Join { from: [String; 2], to: String },
    /// Lists the names in a directory.
    List { from: String, to: String },
    /// Says whether something is there.
    Ask { about: String, to: String },
    /// Removes something with all below it.
    Remove { what: String },
    /// Renames a directory, if it is there and the new name is free.
    Rename { from: String, to: String },
    /// Copies a directory of the context.
    CopyAll { from: String, to: String },
    /// Copies the file `f0` of a directory of the context.
    CopyFile { from: String, to: String },
    /// Copies a directory of the first stage.
    CopyStage { from: String, to: String },
    /// Makes a directory.
    Workdir { what: String },
    /// Reads a file of the context without copying it.
    Bind { from: String, name: String, to: String },
    /// Adds to a cache mount, which shows nowhere.
    Cache { id: usize, to: String },
}

/// A file of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) text: String,
    pub(super) executable: bool,
}

/// A Dockerfile of two stages and the context that it is built with.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) stages: [Vec<Instruction>; 2],
    pub(super) context: BTreeMap<String, Source>,
}

/// How many copies of a text [`Instruction::Fill`] writes.
pub(super) const MANY: usize = 100_000;

impl Recipe {
    pub(super) fn random(random: &mut Random) -> Self {
        let mut context = BTreeMap::new();
        for top in ["a", "b"] {
            context.insert(format!("{top}/f0"), source(random));
            for _ in 0..random.below(6) {
                context.insert(context_file(random), source(random));
            }
        }
        let mut stage = |number| (0..1 + random.below(4)).map(|_| instruction(random, number)).collect();
        let stages = [stage(0), stage(1)];
        Self { stages, context }
    }

    /// Changes a few things.
    pub(super) fn edit(&mut self, random: &mut Random) {
        for _ in 0..1 + random.below(3) {
            match random.below(6) {
                0 => {
                    let number = random.below(2);
                    let stage = &mut self.stages[number];
                    let place = random.below(stage.len());
                    stage[place] = instruction(random, number);
                }
                1 => {
                    let number = random.below(2);
                    let stage = &mut self.stages[number];
                    if stage.len() > 1 && random.once_in(2) {
                        stage.remove(random.below(stage.len()));
                    } else if stage.len() < 7 {
                        stage.insert(random.below(stage.len() + 1), instruction(random, number));
                    }
                }
                2 => {
                    let file = context_file(random);
                    if !file.ends_with("/f0") || file.contains("/d") {
                        self.context.remove(&file);
                    }
                }
                _ => drop(self.context.insert(context_file(random), source(random))),
            }
        }
    }

    pub(super) fn dockerfile(&self) -> String {
        let mut text = String::new();
        for (stage, name) in self.stages.iter().zip(["FROM busybox AS first", "FROM busybox"]) {
            writeln!(text, "{name}\nRUN --network=none mkdir -p /w/d0 /w/d1 /w/d2").unwrap();
            for instruction in stage {
                writeln!(text, "{}", instruction.line()).unwrap();
            }
        }
        text
    }
}

fn source(random: &mut Random) -> Source {
    Source { text: format!("source {}\n", random.below(5)), executable: random.once_in(4) }
}

fn context_file(random: &mut Random) -> String {
    let directory = *random.pick(&["a", "b", "a/d0", "b/d1", "b/d1/d0"]);
    format!("{directory}/f{}", random.below(4))
}

fn top(random: &mut Random) -> String {
    format!("d{}", random.below(3))
}

/// A directory that may be there or not.
fn directory(random: &mut Random) -> String {
    let deeper = if random.once_in(3) { format!("/d{}", random.below(2)) } else { String::new() };
    format!("{}/d{}{deeper}", top(random), random.below(2))
}

fn any_directory(random: &mut Random) -> String {
    if random.once_in(2) { top(random) } else { directory(random) }
}

fn file(random: &mut Random) -> String {
    format!("{}/f{}", any_directory(random), random.below(4))
}

fn instruction(random: &mut Random, stage: usize) -> Instruction {
    let context = |random: &mut Random| (*random.pick(&["a", "b"])).to_owned();
    match random.below(26) {
        0..4 => Instruction::Write { to: file(random), text: random.below(5) },
        4 => Instruction::Fill { to: file(random), text: random.below(5) },
        5..8 => Instruction::Join { from: [file(random), file(random)], to: file(random) },
        8..10 => Instruction::List { from: any_directory(random), to: file(random) },
        10 => Instruction::Ask { about: file(random), to: file(random) },
        11 => Instruction::Ask { about: directory(random), to: file(random) },
        12 => Instruction::Remove { what: file(random) },
        13 => Instruction::Remove { what: directory(random) },
        14..16 => Instruction::Rename { from: format!("{}/d0", top(random)), to: format!("{}/d1", top(random)) },
        16..19 => Instruction::CopyAll { from: context(random), to: any_directory(random) },
        19..21 => Instruction::CopyFile { from: context(random), to: file(random) },
        21..23 if stage == 1 => Instruction::CopyStage { from: top(random), to: any_directory(random) },
        21..23 => Instruction::Workdir { what: directory(random) },
        23..25 => Instruction::Bind { from: context(random), name: format!("f{}", random.below(4)), to: file(random) },
        _ => Instruction::Cache { id: random.below(2), to: file(random) },
    }
}

impl Instruction {
    /// As it stands in a Dockerfile.
    fn line(&self) -> String {
        let run = |command: String| format!("RUN --network=none {command}");
        match self {
            Self::Write { to, text } => run(format!("mkdir -p /w/{0} && echo text {text} > /w/{to}", parent(to))),
            Self::Fill { to, text } => {
                run(format!("mkdir -p /w/{0} && yes many {text} | head -n {MANY} > /w/{to}", parent(to)))
            }
            Self::Join { from: [one, two], to } => run(format!(
                "mkdir -p /w/{0}; cat /w/{one} /w/{two} > /tmp/x; cat /tmp/x > /w/{to}; rm /tmp/x",
                parent(to)
            )),
            Self::List { from, to } => run(format!("mkdir -p /w/{0}; ls /w/{from} > /w/{to} || true", parent(to))),
            Self::Ask { about, to } => run(format!(
                "mkdir -p /w/{0}; if [ -e /w/{about} ]; then echo yes; else echo no; fi > /w/{to}",
                parent(to)
            )),
            Self::Remove { what } => run(format!("rm -rf /w/{what}")),
            Self::Rename { from, to } => {
                run(format!("if [ -e /w/{from} ] && [ ! -e /w/{to} ]; then mv /w/{from} /w/{to}; fi"))
            }
            Self::CopyAll { from, to } => format!("COPY {from} /w/{to}/"),
            Self::CopyFile { from, to } => format!("COPY {from}/f0 /w/{to}"),
            Self::CopyStage { from, to } => format!("COPY --from=first /w/{from} /w/{to}/"),
            Self::Workdir { what } => format!("WORKDIR /w/{what}\nWORKDIR /"),
            Self::Bind { from, name, to } => format!(
                "RUN --network=none --mount=type=bind,source={from},target=/m \
                 mkdir -p /w/{0}; cat /m/{name} > /w/{to} || true",
                parent(to)
            ),
            Self::Cache { id, to } => format!(
                "RUN --network=none --mount=type=cache,id=c{id},target=/c \
                 echo once >> /c/log && mkdir -p /w/{0} && echo cached > /w/{to}",
                parent(to)
            ),
        }
    }
}

pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').unwrap().0
}
