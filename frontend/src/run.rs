//! `RUN`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv4Addr;

use kiln_parser::{Annotations, Diagnostic, Heredoc, Run, Span};
use kiln_solver::{Exec, Host, Operation};

use crate::findings::{error_at, similar};
use crate::mounts::{self, RunMount, StepMounts};
use crate::stage::{Current, StageLowering};
use crate::state::Tree;
use crate::{confinement, naming};

/// Where the script of a heredoc that names its interpreter is run.
const SCRIPTS: &str = "/dev/pipes";
const SCRIPT_MODE: u32 = 0o755;
/// The build argument that names the machine that commands see.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
/// What ssh looks for its agent in.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

impl StageLowering<'_, '_> {
    /// Lowers a `RUN`, or tells all that is wrong with it.
    pub(crate) fn run(&mut self, run: &Run, current: &Current<'_>) -> Result<(), Vec<Diagnostic>> {
        let options = self.planner.options;
        let mut errors: Vec<Diagnostic> = confinement::devices(run).collect();
        let network = confinement::network(run, options, &mut errors);
        let security = confinement::security(run, options, &mut errors);
        let mounts = self.run_mounts(run, &mut errors);
        let annotations = &current.instruction.annotations;
        let ignored_env = self.ignored_variables(annotations, &mut errors);
        let script = run.script().filter(|script| script.content.starts_with("#!"));
        let arguments = match script {
            Some(script) => self.in_shell(&format!("{SCRIPTS}/{}", script.name)),
            None => self.run_arguments(run),
        };
        if arguments.first().is_none_or(String::is_empty) {
            errors.push(empty_command(current.span));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let name = self.run_name(run, &mounts, current);
        let tree = self.state.tree.clone();
        let base = self.input(&tree);
        let history = self.run_history(&arguments);
        let mut step = StepMounts::new(base);
        if let Some(script) = script {
            let file = self.add_inline(&script.name, script.chomped(), SCRIPT_MODE);
            step.add_files(file, SCRIPTS);
        }
        for (mount, source) in mounts.iter().zip(current.sources) {
            self.add_mount(mount, *source, &mut step);
        }
        if let Some(size) = options.shm_size {
            step.add_memory(Some(size), "/dev/shm".to_owned(), false);
        }
        let inputs = step.inputs.clone();
        let untraced = annotations.untraced;
        let exec = Exec { network, security, ignored_env, untraced, ..self.exec(arguments, step, base.is_some()) };
        let made = self.add_step(Operation::Exec(exec), inputs, name, current.span);
        self.state.tree = Tree::Step(made);
        self.state.note_layer(history);
        Ok(())
    }

    /// The build arguments that are not to count. What `ENV` says is part of the image and always counts.
    fn ignored_variables(&self, annotations: &Annotations, errors: &mut Vec<Diagnostic>) -> Vec<String> {
        let declared = || self.state.arguments.iter().map(|(name, _)| name.as_str());
        let mut names = Vec::new();
        for word in &annotations.ignored_arguments {
            let name = &word.value;
            if self.state.is_of_image(name) {
                let error = error_at(word, "ignored-argument", format!("`{name}` is a variable of the image"));
                errors.push(error.label("set by `ENV`").hint("build arguments alone can be ignored"));
            } else if !declared().any(|argument| argument == name) {
                let error = error_at(word, "ignored-argument", format!("no build argument `{name}` is in scope here"));
                errors.push(error.label("not declared").hint(match similar(name, declared()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("`ARG {name}` above it declares it"),
                }));
            } else {
                names.push(name.clone());
            }
        }
        names
    }

    fn run_mounts(&self, run: &Run, errors: &mut Vec<Diagnostic>) -> Vec<RunMount> {
        let state = &self.state;
        let parse = |word| mounts::parse(word, &state.environment, self.planner.escape, &state.directory);
        run.mounts.iter().filter_map(|word| parse(word).map_err(|error| errors.push(error)).ok()).collect()
    }

    /// What people see of the step. Variables that are secrets have no value to show.
    fn run_name(&mut self, run: &Run, mounts: &[RunMount], current: &Current<'_>) -> String {
        let text = format!("{}{}", current.instruction.text, summary(run));
        let mut secrets = mounts.iter().filter_map(RunMount::secret_variable).peekable();
        let mut environment = Cow::Borrowed(&self.state.environment);
        if secrets.peek().is_some() {
            let masked = environment.to_mut();
            secrets.for_each(|name| masked.set(name, "****"));
        }
        let shown = naming::displayed_command(&text, &environment, self.planner.escape);
        self.next_name(&shown, current.is_trigger)
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

    fn exec(&self, args: Vec<String>, mut step: StepMounts, has_base: bool) -> Exec {
        let options = self.planner.options;
        let mut env = self.state.environment.entries();
        if let Some(agent) = step.agent().filter(|_| self.state.environment.get(AGENT_VARIABLE).is_none()) {
            env.push(format!("{AGENT_VARIABLE}={agent}"));
        }
        let hostname = options.build_args.get(HOSTNAME).cloned().unwrap_or_default();
        let mut hosts = options.hosts.clone();
        if !hostname.is_empty() {
            hosts.push(Host { name: hostname.clone(), address: Ipv4Addr::LOCALHOST.into() });
        }
        Exec {
            args,
            env,
            cwd: self.state.directory.clone(),
            user: self.state.image.config.user.clone(),
            secret_env: std::mem::take(&mut step.secret_env),
            mounts: step.into_mounts(has_base),
            hosts,
            hostname,
            limits: options.limits.clone(),
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

fn empty_command(span: Span) -> Diagnostic {
    Diagnostic::error("`RUN` without a command").at(span).label("nothing to run").code("empty-command")
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
