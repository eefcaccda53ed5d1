//! Containers: what a command runs in, kept open for others. It is how one looks around in a step that failed, or in a
//! tree that was built.

use std::io;
use std::sync::Arc;

use kiln_solver::{
    Cancel, Exec, Graph, Input, Job, Layer, LogStream, Mount, MountKind, Observer, Operation, Output, Step, StepError,
};

use super::{Prepared, is_set, prepare};
use crate::Executor;
use crate::sandbox::{ExitStatus, RunSpec, Sandbox, SandboxError, TerminalSize, TerminalSocket};

/// What terminals are taken for where an image does not say otherwise: Docker's choice, which every image knows.
const TERM: &str = "TERM=xterm";

/// Programs that talk to whoever sits at a terminal.
const SHELLS: [&str; 9] = ["sh", "bash", "ash", "dash", "ksh", "mksh", "zsh", "fish", "yash"];

/// Where shells are looked for in a root that has not named its own.
const PLACES: [&[&str]; 6] = [
    &["/bin/sh"],
    &["/bin/bash"],
    &["/usr/bin/sh"],
    &["/busybox/sh"],
    &["/bin/busybox", "sh"],
    &["/usr/bin/busybox", "sh"],
];

/// A root with mounts, an environment, a user and a network, in which commands can be run. What they change stays for
/// the next one, and is gone with the container.
pub struct Container {
    prepared: Prepared,
    sandbox: Arc<Sandbox>,
    /// Whether a command has been run in it.
    used: bool,
}

/// A command that can be run in a [`Container`], once, and with no other beside it.
pub struct ContainerCommand<'a> {
    spec: RunSpec,
    container: &'a mut Container,
}

impl Container {
    /// What a command ran in.
    pub(crate) fn used(prepared: Prepared, executor: &Executor) -> Self {
        Self { prepared, sandbox: executor.shared_sandbox(), used: true }
    }

    /// A container over these layers, for commands such as `exec`, whose mounts do not count.
    ///
    /// # Errors
    /// When a layer cannot be had or `exec` makes no sense.
    pub fn open(executor: &Executor, layers: &[Layer], exec: Exec, cancel: &Cancel) -> Result<Self, StepError> {
        let mut graph = Graph::new();
        let input = Input { step: graph.add(Step::new(Operation::File(Vec::new()), "layers")), output: 0 };
        let mut step = Step::new(Operation::Exec(over_root(exec)), "container");
        step.inputs = vec![input];
        let id = graph.add(step);
        let step = graph.step(id);
        let Operation::Exec(exec) = &step.operation else { return Err(StepError::other("no command")) };
        let inputs = [Output::Layers(layers.to_vec())];
        let job = Job { id, step, inputs: &inputs, cancel, observer: &Nobody };
        Ok(Self { used: false, ..Self::used(prepare(executor, &job, exec)?, executor) })
    }

    /// A command with these arguments, with nothing to read and all the time that it likes.
    pub fn command(&mut self, args: Vec<String>) -> ContainerCommand<'_> {
        let mut spec = RunSpec { args, ..self.prepared.spec.clone() };
        // Who sits at a terminal takes the time that it takes.
        spec.limits.time = None;
        ContainerCommand { spec, container: self }
    }

    /// What may be a shell here, the likeliest first: the one that the container's own command was run by, if that is
    /// one to talk to.
    pub fn shells(&self) -> Vec<Vec<String>> {
        shells_for(&self.prepared.spec.args)
    }
}

impl ContainerCommand<'_> {
    /// Gives it a terminal of this size, whose other end comes out of the socket once it runs.
    ///
    /// # Errors
    /// When no socket can be made.
    pub fn with_terminal(&mut self, size: TerminalSize) -> io::Result<TerminalSocket> {
        if !is_set("TERM", &self.spec.env) {
            self.spec.env.push(TERM.to_owned());
        }
        TerminalSocket::attach(&mut self.spec, size)
    }

    /// Runs it to its end and tells `on_output` what it prints, where it has no terminal.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub fn run(
        self,
        on_output: &(dyn Fn(LogStream, &[u8]) + Sync),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        if std::mem::replace(&mut self.container.used, true) {
            self.container.sandbox.run_again(&self.spec, on_output, cancel)
        } else {
            self.container.sandbox.run(&self.spec, on_output, cancel)
        }
    }
}

/// The same command with the first input as its root, and nothing else.
fn over_root(exec: Exec) -> Exec {
    let kind = MountKind::Bind { input: Some(0), selector: String::new() };
    let root = Mount { kind, destination: "/".to_owned(), readonly: false, output: None };
    Exec { mounts: vec![root], ..exec }
}

fn shells_for(args: &[String]) -> Vec<Vec<String>> {
    let own = args.first().filter(|program| {
        let name = program.rsplit('/').next().unwrap_or_default();
        SHELLS.contains(&name)
    });
    let places = PLACES.iter().map(|words| words.iter().map(|&word| word.to_owned()).collect());
    let mut shells: Vec<Vec<String>> = own.map(|own| vec![own.clone()]).into_iter().collect();
    for place in places {
        if !shells.contains(&place) {
            shells.push(place);
        }
    }
    shells
}

/// Opening a container is no step that anybody follows.
struct Nobody;

impl Observer for Nobody {}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(args: &[&str]) -> Vec<String> {
        shells_for(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>()).swap_remove(0)
    }

    #[test]
    fn the_shell_of_the_step_comes_first() {
        assert_eq!(first(&["/bin/bash", "-o", "pipefail", "-c", "make"]), ["/bin/bash"]);
        assert_eq!(first(&["zsh", "-c", "make"]), ["zsh"]);
        for other in [&["make"][..], &["/usr/bin/python3", "-c", "1"], &["/usr/bin/env", "bash", "-c", "x"], &[]] {
            assert_eq!(first(other), ["/bin/sh"], "{other:?}");
        }
    }

    #[test]
    fn no_shell_is_tried_twice() {
        let shells = shells_for(&["/bin/sh".to_owned()]);
        assert_eq!(shells.iter().filter(|words| words[0] == "/bin/sh").count(), 1);
        assert_eq!(shells.len(), PLACES.len());
    }
}
