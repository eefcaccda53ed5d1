//! `kiln build`
//!
//! [`args`] are the flags as typed, [`request`] what they mean, [`sources`] what is read at the start, [`remote`]
//! contexts from elsewhere, [`explain`] why steps ran, [`network`] how commands reach others, [`glue`] what the crates
//! need of each other, [`export`] the end, [`collect`] pruning afterwards, [`call`] what is told instead of building,
//! [`enter`] shells in what a build
//! has left. Here is the way from one to the next.

mod args;
mod call;
mod call_json;
mod call_text;
mod collect;
mod enter;
mod explain;
mod export;
mod glue;
mod network;
mod output;
mod record;
mod remote;
mod request;
mod run;
mod sources;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kiln_cache::Scratch;
use kiln_executor::rootless::Identity;
use kiln_executor::sandbox::{Sandbox, SandboxSettings, hosts_with_own_name};
use kiln_executor::sources::Unpacked;
use kiln_executor::{Context, Executor};
use kiln_frontend::Build;
use kiln_frontend::checks::KnownBases;
use kiln_image::{Configuration, Images, Pull};
use kiln_parser::ignore::Ignore;
use kiln_parser::{Diagnostic, Parsed, Severity};
use kiln_solver::{Cancel, Digest, Layer, Operation, Output, SolveError, Source, solve};

pub(crate) use args::Args;
pub(super) use enter::enter;
pub(super) use request::parse_tag;

use crate::diagnostics::{self, SourceFile};
use crate::environment::{Environment, history_limits};
use crate::error::{self, CliError, Kind};
use crate::failure;
use crate::local::image_error;
use crate::progress::{Progress, Steps};
use crate::registry;
use crate::session::{Session, store_error};
use crate::signals::Interrupt;
use crate::terminal;
use explain::{Explanations, Form};
use request::{NamedContext, Request};

/// The name of the main context in the step graph.
const MAIN_CONTEXT: &str = "context";

/// Builds what the flags ask for.
pub(super) fn run(args: Args, environment: &Environment) -> Result<(), CliError> {
    with_builder(args, environment, InHistory::Kept, |builder| builder.run())
}

/// Whether what is done is kept in the history.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InHistory {
    /// It is.
    Kept,
    /// It is no build.
    Left,
}

fn with_builder<T>(
    args: Args,
    environment: &Environment,
    in_history: InHistory,
    work: impl FnOnce(&Builder<'_>) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let mut request = Request::new(args, environment, &|name| std::env::var_os(name))?;
    request.is_recorded &= in_history == InHistory::Kept;
    export::check_stdout(&request.outputs)?;
    export::warn_of_no_time(&request, environment);
    if request.shell_on_error {
        enter::console_for("`--on-error=shell`")?;
    }
    let progress = Progress::new(request.style, environment.colour);
    let mut image = None;
    let result = fetch_context(&mut request, environment, &progress).and_then(|begun| {
        let (begun, made) = (RefCell::new(begun), Cell::new(None));
        let builder = Builder { request: &request, environment, progress: &progress, begun, made };
        let result = work(&builder);
        image = builder.made.get();
        result
    });
    progress.finish();
    record::finish(&progress, result.as_ref().map(|_| image), &request, environment);
    result
}

/// One build.
struct Builder<'a> {
    request: &'a Request,
    environment: &'a Environment,
    progress: &'a Progress,
    /// Where fetching the context was the beginning.
    begun: RefCell<Option<Work>>,
    /// The ID of the image that was built.
    made: Cell<Option<Digest>>,
}

/// What came of a build.
struct Built {
    file: SourceFile,
    build: Build,
    warnings: Vec<Diagnostic>,
    layers: Vec<Layer>,
    /// Why steps ran, where that is wanted.
    explanation: String,
    /// What carried it out.
    executor: Executor,
    work: Work,
}

/// Fetches a main context that is not on this machine: then the request knows the directory that it is in.
fn fetch_context(
    request: &mut Request,
    environment: &Environment,
    progress: &Progress,
) -> Result<Option<Work>, CliError> {
    let Some(context) = request.remote_context.clone() else { return Ok(None) };
    let mut work = begin(request, environment, progress)?;
    let fetched = progress.during(&context.title("internal"), |_| {
        remote::fetch(&context, request, environment, &work)
            .map_err(|error| if work.interrupt.is_set() { CliError::interrupted() } else { error })
    })?;
    if !matches!(request.dockerfile, request::DockerfileSource::Stdin) {
        request.dockerfile = fetched.dockerfile;
    }
    request.context = fetched.root;
    work.unpacked = fetched.unpacked;
    Ok(Some(work))
}

/// What a build works with once it has begun.
struct Work {
    session: Session,
    scratch: Scratch,
    images: Arc<Images>,
    /// What the configuration says.
    configuration: Configuration,
    cancel: Cancel,
    interrupt: Interrupt,
    /// The main context, where it was unpacked for this build.
    unpacked: Option<Unpacked>,
}

/// Becomes whoever can build, opens the store and watches for signals; in this order, because the first works for a
/// process of one thread alone.
fn begin(request: &Request, environment: &Environment, progress: &Progress) -> Result<Work, CliError> {
    let mut configuration = environment.configuration()?;
    request.trust_registries(&mut configuration);
    let session = Session::open(environment)?;
    if let Identity::UserSingle { why } = &session.identity
        && request.style.is_for_people()
    {
        let message = format!("files of all users will belong to one: {why}");
        terminal::warn(&message, environment.colour);
    }
    progress.keep_up();
    record::begin(progress, &session.store, request, environment);
    session.store.prune_builds_in_background(history_limits(&configuration));
    let scratch = session.store.scratch().map_err(|error| store_error(&error))?;
    let cancel = Cancel::new();
    let interrupt = Interrupt::watch(&cancel, environment.colour)?;
    let images = registry::images(&session, configuration.clone(), environment, progress, &cancel);
    Ok(Work { session, scratch, images: Arc::new(images), configuration, cancel, interrupt, unpacked: None })
}

impl Builder<'_> {
    fn run(&self) -> Result<(), CliError> {
        let (file, parsed) = self.read_dockerfile()?;
        if self.request.call.method != call::Method::Build {
            return self.call(self.request.call, &file, &parsed);
        }
        self.remove_stale_id()?;
        let Built { file, build, warnings, layers, explanation, executor, work } =
            self.build_dockerfile(file, parsed)?;
        drop(executor);
        let image = self
            .finish(&build, &layers, &work)
            .map_err(|error| if work.interrupt.is_set() { CliError::interrupted() } else { error })?;
        self.made.set(Some(image));
        self.list_warnings(&warnings, &file);
        // What was used is pruned last.
        work.session.store.note_use().map_err(|error| store_error(&error))?;
        self.tell(&explanation)?;
        collect::start(&work.session.store, &work.configuration, self.request, self.environment);
        Ok(())
    }

    /// Brings about the files of the target.
    fn build_dockerfile(&self, file: SourceFile, parsed: Parsed) -> Result<Built, CliError> {
        // What is written for another frontend need not look like a Dockerfile.
        let syntax = kiln_frontend::check_syntax(&parsed.dockerfile.directives, &self.options());
        self.refuse(&syntax.err().into_iter().collect::<Vec<_>>(), &file)?;
        self.refuse(&parsed.diagnostics, &file)?;
        let work = self.begin()?;
        let (build, warnings) = self.lower(&parsed, &file, &work)?;
        let executor = self.executor(&build, &work)?;
        let (layers, explanation) = self.solve(&build, &file, &work, &executor, &warnings)?;
        Ok(Built { file, build, warnings, layers, explanation, executor, work })
    }

    fn read_dockerfile(&self) -> Result<(SourceFile, Parsed), CliError> {
        let source = &self.request.dockerfile;
        let title = format!("[internal] load build definition from {}", source.name());
        let file = self.progress.during(&title, |_| sources::dockerfile(source))?;
        self.progress.dockerfile(&file.text);
        let parsed = kiln_parser::parse(&file.text);
        Ok((file, parsed))
    }

    /// Ends the build if there are errors: all of them are shown.
    fn refuse(&self, findings: &[Diagnostic], file: &SourceFile) -> Result<(), CliError> {
        let is_error = |finding: &&Diagnostic| finding.severity == Severity::Error;
        let errors: Vec<Diagnostic> = findings.iter().filter(is_error).cloned().collect();
        let Some(first) = errors.first() else { return Ok(()) };
        self.progress.finish();
        terminal::say(&diagnostics::render(&errors, file, self.environment.colour));
        let line = first.span.map_or(1, |span| failure::line_of(&file.text, span.start));
        Err(CliError::reported(&first.message).at(&file.name, line))
    }

    /// Lists warnings, a line for each.
    fn list_warnings(&self, warnings: &[Diagnostic], file: &SourceFile) {
        if !warnings.is_empty() && self.request.style.is_for_people() {
            self.progress.finish();
            terminal::say(&diagnostics::list(warnings, file));
        }
    }

    /// What the build works with: from here on things may be fetched and stored.
    fn begin(&self) -> Result<Work, CliError> {
        match self.begun.take() {
            Some(work) => Ok(work),
            None => begin(self.request, self.environment, self.progress),
        }
    }

    /// So that nobody takes the ID of an earlier image for that of this build, should it fail.
    fn remove_stale_id(&self) -> Result<(), CliError> {
        let Some(path) = &self.request.iidfile else { return Ok(()) };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error::io("replace", path, &error)),
            _ => Ok(()),
        }
    }

    /// Lowers and checks the Dockerfile; yields the warnings too.
    fn lower(&self, parsed: &Parsed, file: &SourceFile, work: &Work) -> Result<(Build, Vec<Diagnostic>), CliError> {
        let resolver = self.base_images(work);
        let bases = KnownBases::new(&resolver);
        match kiln_frontend::lower(&parsed.dockerfile, &self.options(), &bases) {
            Ok(build) => {
                let ignore = self.ignore(&build);
                let checked = self.check_build(file, parsed, &bases, ignore.as_ref())?;
                let warnings = parsed.diagnostics.iter().chain(&build.warnings).cloned().chain(checked).collect();
                Ok((build, warnings))
            }
            Err(_) if work.interrupt.is_set() => Err(CliError::interrupted()),
            Err(findings) => {
                self.refuse(&findings, file)?;
                Err(CliError::bug("the Dockerfile cannot be built, and nothing says why"))
            }
        }
    }

    fn base_images<'a>(&'a self, work: &'a Work) -> glue::BaseImages<'a> {
        let pull = if self.request.pull { Pull::Always } else { Pull::Missing };
        glue::BaseImages { images: &work.images, progress: self.progress, pull }
    }

    /// What is left out of the main context, if the build reads it. What is wrong with it is told later, when the
    /// context is opened.
    fn ignore(&self, build: &Build) -> Option<Ignore> {
        let is_main = |operation: &Operation| matches!(operation, Operation::Source(Source::Local { name }) if name == MAIN_CONTEXT);
        build.graph.steps().any(|(_, step)| is_main(&step.operation)).then_some(())?;
        self.request.ignore().ok()
    }

    fn options(&self) -> kiln_frontend::Options {
        let request = self.request;
        let context = |(name, context): (&String, &NamedContext)| {
            let context = match context {
                NamedContext::Directory(_) | NamedContext::Remote(_) => kiln_frontend::NamedContext::Local,
                NamedContext::Image(image) => kiln_frontend::NamedContext::Image(image.clone()),
                NamedContext::Stage(stage) => kiln_frontend::NamedContext::Stage(stage.clone()),
            };
            (name.clone(), context)
        };
        kiln_frontend::Options {
            target: request.target.clone(),
            build_args: request.build_args.clone(),
            labels: request.labels.clone(),
            platform: request.platform.clone(),
            build_platform: kiln_solver::Platform::host(),
            no_cache: request.no_cache.clone(),
            contexts: request.contexts.iter().map(context).collect(),
            entitlements: request.run.entitlements.clone(),
            network: request.run.network,
            hosts: request.run.hosts.clone(),
            limits: kiln_solver::Limits { ulimits: request.run.ulimits.clone(), cgroup_parent: None },
            shm_size: request.run.shm_size,
        }
    }

    /// Runs what has to be run; yields the layers of the target, and why steps ran where that was asked for.
    fn solve(
        &self,
        build: &Build,
        file: &SourceFile,
        work: &Work,
        executor: &Executor,
        warnings: &[Diagnostic],
    ) -> Result<(Vec<Layer>, String), CliError> {
        let Some(target) = build.target else { return Ok((Vec::new(), String::new())) };
        let steps = Steps::new(self.progress, &build.graph, &file.text);
        let store = &*work.session.store;
        let explanations = Explanations::new(&steps, self.request.explain.is_some());
        let solved = solve(&build.graph, &[target.step], executor, store, &explanations, &work.cancel);
        let untraced = executor.untraced();
        if let Some(why) = &untraced {
            self.progress.untraced(why);
        }
        let explanation = match self.request.explain {
            None => String::new(),
            Some(Form::Text) => explanations.text(&build.graph, untraced.as_deref()),
            Some(Form::Json) => explanations.json(&build.graph)?,
        };
        let outputs = match solved {
            Ok(outputs) => outputs,
            Err(failed) => {
                self.list_warnings(warnings, file);
                self.tell(&explanation)?;
                let error = self.report(&failed, build, file, &steps, work);
                self.enter_failed(&failed, &error, executor, work);
                return Err(error);
            }
        };
        let output = outputs.into_iter().next().and_then(|made| made.into_iter().nth(target.output as usize));
        match output {
            Some(Output::Layers(layers)) => Ok((layers, explanation)),
            Some(Output::Local(name)) => {
                Err(CliError::user(format!("the target is the context `{name}` itself, which is no image"))
                    .hint("copy what you need of it into a stage"))
            }
            None => Err(CliError::bug("the target has no result")),
        }
    }

    fn executor(&self, build: &Build, work: &Work) -> Result<Executor, CliError> {
        let plan = network::Plan::new(&work.configuration.dns);
        let networks = plan.networks(&work.session.identity, self.environment);
        let sandbox = Sandbox::new(SandboxSettings {
            identity: work.session.identity.clone(),
            directory: work.scratch.path().join("sandbox"),
            resolv_conf: plan.resolver.host,
            own_resolv_conf: plan.resolver.own,
            hosts: hosts_with_own_name(&read_or_empty("/etc/hosts")),
        });
        let executor = Executor::new(kiln_executor::Settings {
            store: work.session.store.clone(),
            contexts: self.contexts(build, work)?,
            images: Arc::new(glue::Layers(work.images.clone())),
            sandbox: Arc::new(sandbox),
            created: self.request.source_date_epoch,
        });
        let executor = executor
            .with_environment(build.proxy_env.clone())
            .with_networks(networks)
            .with_remote(remote::settings(self.environment))
            .with_credentials(self.request.run.credentials.clone())
            .with_limits(self.request.run.limits.clone())
            .map_err(|error| CliError::from_error(Kind::Environment, &error))?;
        let executor = if self.request.run.is_traced { executor.with_tracing() } else { executor };
        Ok(if self.request.shell_on_error { executor.keeping_failed() } else { executor })
    }

    /// Opens the contexts that the build reads.
    fn contexts(&self, build: &Build, work: &Work) -> Result<BTreeMap<String, Arc<Context>>, CliError> {
        let mut contexts = BTreeMap::new();
        for (_, step) in build.graph.steps() {
            let Operation::Source(Source::Local { name }) = &step.operation else { continue };
            if !contexts.contains_key(name) {
                contexts.insert(name.clone(), Arc::new(self.context(name, work)?));
            }
        }
        Ok(contexts)
    }

    fn context(&self, name: &str, work: &Work) -> Result<Context, CliError> {
        let (root, ignore) = match self.request.contexts.get(name) {
            Some(NamedContext::Directory(directory)) => (directory.clone(), sources::ignore_of(directory)?),
            Some(NamedContext::Remote(context)) => {
                let title = context.title(&format!("context {name}"));
                let fetch = |_| remote::fetch_tree(context, self.request, self.environment, work);
                (self.progress.during(&title, fetch)?, Ignore::default())
            }
            _ if name == MAIN_CONTEXT && self.request.remote_context.is_some() => {
                (self.request.context.clone(), Ignore::default())
            }
            _ if name == MAIN_CONTEXT => {
                let ignore = self.progress.during("[internal] load .dockerignore", |_| self.request.ignore())?;
                (self.request.context.clone(), ignore)
            }
            _ => return Err(CliError::bug(format!("nobody knows the context `{name}`"))),
        };
        let stat_cache = self.environment.root.join("contexts");
        Context::open(name, &root, ignore, stat_cache).map_err(|error| CliError::from_error(Kind::User, &error))
    }

    /// Says why steps ran, where that was asked for.
    fn tell(&self, explanation: &str) -> Result<(), CliError> {
        self.progress.finish();
        match self.request.explain {
            Some(Form::Json) => terminal::print(explanation)?,
            Some(Form::Text) => terminal::say(explanation),
            None => {}
        }
        Ok(())
    }

    /// The report on a step that failed.
    fn report(
        &self,
        failed: &SolveError,
        build: &Build,
        file: &SourceFile,
        steps: &Steps<'_>,
        work: &Work,
    ) -> CliError {
        if work.interrupt.is_set() {
            return CliError::interrupted();
        }
        self.progress.finish();
        let step = build.graph.step(failed.step);
        let mut report = failure::output(&step.metadata.name, &steps.tail(failed.step));
        if let Some(span) = step.metadata.span {
            report.push_str(&failure::excerpt(&file.name, &file.text, span));
        }
        terminal::say(&report);
        let mut error = CliError::user(failure::describe(step, &failed.error));
        if let Some(span) = step.metadata.span {
            error = error.at(&file.name, failure::line_of(&file.text, span.start));
        }
        error.hints = failure::hints(step, &failed.error);
        error
    }

    fn finish(&self, build: &Build, layers: &[Layer], work: &Work) -> Result<Digest, CliError> {
        let request = self.request;
        let fixed = request.source_date_epoch;
        let image = kiln_image::assemble(&work.session.store, &build.image, layers, fixed)
            .map_err(|error| image_error(&error))?
            .record;
        let exporter = export::Exporter {
            images: &work.images,
            progress: self.progress,
            cancel: &work.cancel,
            request,
            made: &[export::Made { image, layers: layers.to_vec() }],
        };
        let exported = exporter.run()?;
        let id = exported.id();
        if let Some(path) = &request.iidfile {
            std::fs::write(path, id.to_string()).map_err(|error| error::io("write", path, &error))?;
        }
        if let Some(path) = &request.metadata_file {
            let metadata = exported.metadata(&request.tags, self.progress.build_id());
            std::fs::write(path, format!("{metadata:#}\n")).map_err(|error| error::io("write", path, &error))?;
        }
        if request.print_id {
            terminal::print(&format!("{id}\n"))?;
        }
        Ok(id)
    }
}

/// A file of the machine that commands see a copy of; a machine without it is fine.
fn read_or_empty(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(path)).unwrap_or_default()
}
