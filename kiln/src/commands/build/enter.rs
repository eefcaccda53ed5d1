//! Looking around in what a build has left: the step that failed, for `--on-error=shell`; a stage or an image, for
//! `kiln debug`.

use std::path::PathBuf;

use kiln_executor::sandbox::ExitStatus;
use kiln_executor::{Container, Executor};
use kiln_frontend::{Resolver as _, Targeting};
use kiln_image::{ImageError, inspect, spec};
use kiln_solver::{Exec, Graph, Layer, SolveError, StepError};

use super::args::Args;
use super::lower::Lowered;
use super::{Builder, Work, request};
use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::local::image_error;
use crate::{console, container, terminal};

/// What Docker gives to commands of images that have no `PATH` of their own.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `words`, or else a shell, in an image of the store or the registry, or in the stage that `args` ask for.
pub(in crate::commands) fn enter(
    args: Args,
    words: &[String],
    environment: &Environment,
) -> Result<ExitStatus, CliError> {
    refuse_outputs(&args)?;
    if request::platforms(&args.platforms, &|name| std::env::var_os(name))?.len() > 1 {
        return Err(CliError::usage("`kiln debug` looks into an image for one platform").hint("give one `--platform`"));
    }
    if words.is_empty() {
        console_for("a shell").map_err(|error| error.hint("run a command instead: `kiln debug IMAGE -- COMMAND`"))?;
    }
    let image = image_of(&args);
    // No context is read for an image.
    let args = if image.is_some() { Args { path: PathBuf::from("/"), ..args } } else { args };
    super::with_builder(args, environment, super::InHistory::Left, |builder| match &image {
        Some(image) => builder.enter_image(image, words),
        None => builder.enter_stage(words),
    })
}

/// Fails where nobody sits at a terminal that `what` could have.
pub(super) fn console_for(what: &str) -> Result<(), CliError> {
    if console::is_there() {
        return Ok(());
    }
    Err(CliError::usage(format!("{what} needs a terminal as standard input and output")))
}

/// What a build would write is of no use here.
fn refuse_outputs(args: &Args) -> Result<(), CliError> {
    let flags = [
        ("--output", !args.outputs.is_empty()),
        ("--tag", !args.tags.is_empty()),
        ("--iidfile", args.iidfile.is_some()),
        ("--check", args.check),
        ("--call", args.call != "build"),
        ("--on-error", args.on_error.is_some()),
        ("--explain", args.explain.is_some()),
    ];
    match flags.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(CliError::usage(format!("`kiln debug` writes no image: it has no `{flag}`"))),
        None => Ok(()),
    }
}

/// The image that is meant, unless it is a build context: one that is spelled as a path or a URL, or goes with a flag
/// that only a Dockerfile can have.
fn image_of(args: &Args) -> Option<String> {
    let text = args.path.to_str()?;
    let of_build = args.target.is_some() || args.file.is_some();
    let is_path = text.starts_with(['.', '/', '~']) || text == "-" || text.contains("://") || text.starts_with("git@");
    (!of_build && !is_path).then(|| text.to_owned())
}

impl Builder<'_> {
    fn enter_stage(&self, words: &[String]) -> Result<ExitStatus, CliError> {
        let (file, parsed) = self.read_dockerfile()?;
        let work = self.begin_with(&file, &parsed)?;
        let built = self.build_dockerfile(file, parsed, &work)?;
        self.list_warnings(&built.warnings, &built.file);
        let ([layers], [lowered]) = (built.solved.layers.as_slice(), built.lowered.images.as_slice()) else {
            return Err(CliError::bug("a stage without a platform"));
        };
        self.enter(&built.executor, layers, &lowered.image.config, words, &work)
    }

    fn enter_image(&self, name: &str, words: &[String]) -> Result<ExitStatus, CliError> {
        let work = self.begin()?;
        let (image, layers) = self.find_image(name, &work)?;
        let nothing = Lowered { graph: Graph::new(), images: Vec::new(), proxy_env: Vec::new() };
        let executor = self.executor(&nothing, &work)?;
        self.enter(&executor, &layers, &image.config, words, &work)
    }

    /// An image of the store, or else one that a registry has.
    fn find_image(&self, name: &str, work: &Work) -> Result<(spec::Image, Vec<Layer>), CliError> {
        let store = &work.session.store;
        match inspect::find(store, name) {
            Ok(record) => {
                let platform = self.request.first_platform();
                let record = match self.request.targeting() {
                    Targeting::Default => record,
                    _ => inspect::for_platform(&record, name, platform).map_err(|error| image_error(&error))?,
                };
                let image = inspect::config(store, &record).map_err(|error| image_error(&error))?;
                Ok((image, record.layers))
            }
            Err(ImageError::NoImage(_)) => {
                let base = self
                    .base_images(work)
                    .resolve(name, self.request.first_platform())
                    .map_err(|error| CliError::from_error(Kind::User, &*error))?;
                let layers = work.images.stack(&base.digest).map_err(|error| image_error(&error))?;
                Ok((base.image, layers))
            }
            Err(error) => Err(image_error(&error)),
        }
    }

    fn enter(
        &self,
        executor: &Executor,
        layers: &[Layer],
        config: &spec::Config,
        words: &[String],
        work: &Work,
    ) -> Result<ExitStatus, CliError> {
        let stop = work.interrupt.cancel();
        let opened = self.progress.during("[internal] load layers", |_| {
            Container::open(executor, layers, command_of(config), stop).map_err(|error| match error {
                StepError::Cancelled => CliError::interrupted(),
                error => CliError::from_error(Kind::User, &error),
            })
        });
        let mut opened = opened?;
        self.progress.finish();
        if !console::is_there() {
            return container::run(&mut opened, words, stop);
        }
        if words.is_empty() {
            terminal::note(
                "`exit` or Ctrl-D leaves this shell; what is changed in it is not kept",
                self.environment.colour,
            );
        }
        let hint = "give a command that is there: `kiln debug IMAGE -- COMMAND`";
        container::interact(&mut opened, words, stop)
            .map_err(|error| if words.is_empty() && error.kind == Kind::User { error.hint(hint) } else { error })
    }

    /// Opens a shell in the step that failed, if that is wanted and the step is one to have a shell in.
    pub(super) fn enter_failed(&self, failed: &SolveError, why: &CliError, executor: &Executor, work: &Work) {
        let Some(mut left) = executor.take_failed(failed.step) else { return };
        if work.interrupt.is_set() {
            return;
        }
        let colour = self.environment.colour;
        let message = "this is a shell in the step that failed, with the files as it left them; \
                       `exit` or Ctrl-D leaves it and ends the build";
        terminal::note(&format!("{}\n{message}", why.message), colour);
        if let Err(error) = container::interact(&mut left, &[], work.interrupt.cancel()) {
            terminal::warn(&format!("cannot open a shell in the step that failed: {}", error.message), colour);
        }
    }
}

/// A command in a container of an image.
fn command_of(config: &spec::Config) -> Exec {
    let mut env = config.env.clone();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.push(PATH.to_owned());
    }
    let shell = config.shell.first().cloned().unwrap_or_else(|| "/bin/sh".to_owned());
    let cwd = if config.working_dir.starts_with('/') { config.working_dir.clone() } else { "/".to_owned() };
    Exec { args: vec![shell], env, cwd, user: config.user.clone(), ..Exec::default() }
}
