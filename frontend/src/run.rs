//! `RUN`.

use std::collections::HashMap;

use kiln_parser::{Diagnostic, Heredoc, Run};
use kiln_solver::{Exec, Mount, MountKind, Network, Operation};

use crate::naming;
use crate::stage::{Current, StageLowering};
use crate::state::Tree;

impl StageLowering<'_, '_> {
    pub(crate) fn run(&mut self, run: &Run, current: &Current<'_>) -> Result<(), Diagnostic> {
        let arguments = self.run_arguments(run);
        if arguments.first().is_none_or(String::is_empty) {
            return Err(Diagnostic::error("`RUN` without a command")
                .at(current.span)
                .label("nothing to run")
                .code("empty-command"));
        }
        let text = format!("{}{}", current.instruction.text, summary(run));
        let shown = naming::displayed_command(&text, &self.state.environment, self.planner.escape);
        let name = self.naming.next(&shown, current.is_trigger);
        let tree = self.state.tree.clone();
        let base = self.input(&tree);
        let history = self.run_history(&arguments);
        let exec = Operation::Exec(Exec { network: network(run), ..self.exec(arguments, base.is_some()) });
        let made = self.add_step(exec, base.into_iter().collect(), name, current.span);
        self.state.tree = Tree::Step(made);
        self.state.note_layer(history);
        Ok(())
    }

    /// A heredoc is a script for the shell, or is handed to the shell as it was written.
    fn run_arguments(&self, run: &Run) -> Vec<String> {
        match (run.script(), run.heredocs.as_slice(), &run.command) {
            (Some(script), ..) => self.in_shell(&script.chomped()),
            (None, heredocs @ [_, ..], kiln_parser::Command::Shell(line)) => {
                self.in_shell(&with_heredocs(&line.value, heredocs))
            }
            (None, _, command) => self.arguments(command),
        }
    }

    fn exec(&self, args: Vec<String>, has_base: bool) -> Exec {
        let root = Mount {
            kind: MountKind::Bind { input: has_base.then_some(0), selector: String::new() },
            destination: "/".to_owned(),
            readonly: false,
            output: Some(0),
        };
        Exec {
            args,
            env: self.state.environment.entries(),
            cwd: self.state.directory.clone(),
            user: self.state.image.config.user.clone(),
            mounts: vec![root],
            ..Exec::default()
        }
    }

    /// `RUN |1 VERSION=1 /bin/sh -c make # buildkit`: the declared arguments with the values that they have now.
    fn run_history(&self, arguments: &[String]) -> String {
        let mut declared: Vec<(&str, &str)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (name, value) in &self.state.arguments {
            let value = self.state.environment.get(name).unwrap_or(value);
            match places.get(name.as_str()).and_then(|&place| declared.get_mut(place)) {
                Some(entry) => entry.1 = value,
                None => {
                    places.insert(name, declared.len());
                    declared.push((name, value));
                }
            }
        }
        let mut words = vec!["RUN".to_owned()];
        if !declared.is_empty() {
            words.push(format!("|{}", declared.len()));
        }
        words.extend(declared.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend_from_slice(arguments);
        words.push("# buildkit".to_owned());
        words.join(" ")
    }
}

/// Which network a command sees; others than these were refused.
fn network(run: &Run) -> Network {
    match run.network.as_ref().map(|word| word.value.as_str()) {
        Some("none") => Network::None,
        _ => Network::Default,
    }
}

fn with_heredocs(line: &str, heredocs: &[Heredoc]) -> String {
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    text
}

/// The first line of a script, for its name.
fn summary(run: &Run) -> String {
    let Some(script) = run.script() else { return String::new() };
    let mut lines = script.content.trim().lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { "..." } else { "" };
    format!(" ({first}{more})")
}
