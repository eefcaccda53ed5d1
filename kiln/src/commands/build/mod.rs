//! `kiln build`
//!
//! [`args`] are the flags as typed, [`request`] what they mean, [`sources`] what is read at the start, [`remote`]
//! contexts from elsewhere, [`lower`] makes one graph of steps for all platforms, [`carry_out`] has it solved, [`ahead`]
//! compresses meanwhile,
//! [`explain`] tells why steps ran, [`network`] how commands reach others, [`glue`] what the crates need of each other,
//! [`finish`] is the end with its files, [`attest`] what is said of images beside them, [`export`] the writing of images,
//! [`collect`] pruning afterwards, [`call`] what is told instead of building, [`enter`] shells in what a build has left.
//! Here is the way from one to the next.

mod ahead;
mod args;
mod attest;
mod cache;
mod call;
mod call_json;
mod call_text;
mod carry_out;
mod collect;
mod enter;
mod explain;
mod export;
mod finish;
mod glue;
mod lower;
mod network;
mod output;
mod record;
mod remote;
mod request;
mod run;
mod sources;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::SystemTime;

use kiln_cache::Scratch;
use kiln_executor::Executor;
use kiln_executor::rootless::Identity;
use kiln_executor::sources::{Found, Unpacked};
use kiln_image::{Configuration, Images};
use kiln_parser::{Diagnostic, Parsed};
use kiln_solver::{Cancel, Digest};

pub(crate) use args::{Args, ProgressStyle};
pub(super) use enter::enter;
pub(super) use output::parse_annotation;
pub(super) use request::parse_tag;

use crate::diagnostics::SourceFile;
use crate::engine::Engine;
use crate::environment::{Environment, history_limits};
use crate::error::CliError;
use crate::progress::Progress;
use crate::registry;
use crate::session::{Session, store_error};
use crate::signals::Interrupt;
use crate::terminal;
use cache::Imports;
use carry_out::Solved;
use lower::Lowered;
use output::Output;
use remote::RemoteContext;
use request::Request;

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
    let engine = engine(&request, environment)?;
    let progress = Progress::new(request.style, environment.colour);
    let started = SystemTime::now();
    let mut image = None;
    let result = fetch_context(&mut request, environment, &progress).and_then(|begun| {
        let (begun, made) = (RefCell::new(begun), Cell::new(None));
        let builder = Builder { request: &request, environment, progress: &progress, started, begun, made, engine };
        let result = work(&builder);
        image = builder.made.get();
        result
    });
    progress.finish();
    record::finish(&progress, result.as_ref().map(|_| image), &request, environment);
    result
}

/// The container engine that the image is loaded into, where that is asked for: found before anything is built.
fn engine(request: &Request, environment: &Environment) -> Result<Option<Engine>, CliError> {
    let mut contexts: Vec<Option<&str>> = request.outputs.iter().filter_map(Output::engine).collect();
    contexts.dedup();
    let context = match contexts.as_slice() {
        [] => return Ok(None),
        [only] => *only,
        _ => return Err(CliError::usage("an image is loaded into one container engine at a time")),
    };
    if !request.is_recorded {
        return Ok(None);
    }
    let engine = Engine::find(context, &environment.engines)?;
    if !engine.takes_indexes() {
        request.check_without_index(&engine.name())?;
    }
    Ok(Some(engine))
}

/// One build.
struct Builder<'a> {
    request: &'a Request,
    environment: &'a Environment,
    progress: &'a Progress,
    /// When it began.
    started: SystemTime,
    /// Where fetching the context was the beginning.
    begun: RefCell<Option<Work>>,
    /// The ID of the image that was built.
    made: Cell<Option<Digest>>,
    /// What the image is loaded into.
    engine: Option<Engine>,
}

/// What came of a build.
struct Built {
    file: SourceFile,
    lowered: Lowered,
    warnings: Vec<Diagnostic>,
    /// What carrying it out came to.
    solved: Solved,
    /// What carried it out.
    executor: Executor,
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
    /// Caches elsewhere, on their way here.
    caches: Imports,
    /// The contexts that were fetched from elsewhere, and what they turned out to be.
    fetched: RefCell<Vec<(RemoteContext, Found)>>,
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
    let images = Arc::new(registry::images(&session, configuration.clone(), environment, progress, &cancel));
    let caches = Imports::begin(&request.cache, &images, progress, &cancel);
    let fetched = RefCell::default();
    Ok(Work { session, scratch, images, configuration, cancel, interrupt, unpacked: None, caches, fetched })
}

impl Builder<'_> {
    fn run(&self) -> Result<(), CliError> {
        let (file, parsed) = self.read_dockerfile()?;
        if self.request.call.method != call::Method::Build {
            return self.call(self.request.call, &file, &parsed);
        }
        self.remove_stale_id()?;
        let work = self.begin_with(&file, &parsed)?;
        let result = self.run_with(file, parsed, &work);
        // What was used is pruned last, and a build that fails leaves things behind, too.
        let noted = work.session.store.note_use().map_err(|error| store_error(&error));
        collect::start(&work.session.store, &work.configuration, self.request, self.environment);
        result.and(noted)
    }

    fn run_with(&self, file: SourceFile, parsed: Parsed, work: &Work) -> Result<(), CliError> {
        let Built { file, lowered, warnings, solved, executor } = self.build_dockerfile(file, parsed, work)?;
        let found = executor.found();
        drop(executor);
        let image = self
            .finish(&file, &lowered, &solved, &found, work)
            .map_err(|error| if work.interrupt.is_set() { CliError::interrupted() } else { error })?;
        self.made.set(Some(image));
        self.list_warnings(&warnings, &file);
        self.warn_of_caches(work);
        self.tell(&solved.explanation)
    }

    /// What a build of this Dockerfile works with, if it is one.
    fn begin_with(&self, file: &SourceFile, parsed: &Parsed) -> Result<Work, CliError> {
        self.refuse_syntax(file, parsed)?;
        self.refuse(&parsed.diagnostics, file)?;
        self.begin()
    }

    /// Brings about the files of the target.
    fn build_dockerfile(&self, file: SourceFile, parsed: Parsed, work: &Work) -> Result<Built, CliError> {
        let (lowered, warnings) = self.lower(&parsed, &file, work)?;
        let executor = self.executor(&lowered, work)?;
        let solved = self.solve(&lowered, &file, work, &executor, &warnings)?;
        Ok(Built { file, lowered, warnings, solved, executor })
    }

    /// What the build works with: from here on things may be fetched and stored.
    fn begin(&self) -> Result<Work, CliError> {
        match self.begun.take() {
            Some(work) => Ok(work),
            None => begin(self.request, self.environment, self.progress),
        }
    }
}
