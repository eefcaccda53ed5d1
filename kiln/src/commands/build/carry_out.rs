//! Carrying out the steps of a build, and telling of what failed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kiln_executor::sandbox::{Sandbox, SandboxSettings, hosts_with_own_name};
use kiln_executor::{Context, Executor, Interpreters};
use kiln_image::remote_cache::{CachedRecords, Vertices};
use kiln_parser::Diagnostic;
use kiln_parser::ignore::Ignore;
use kiln_solver::{Cancel, Graph, Input, Layer, Operation, Output, SolveError, Source, StepError, StepId, solve};

use super::cache::Keys;
use super::explain::{Explanations, Form};
use super::lower::{Lowered, LoweredImage};
use super::request::NamedContext;
use super::{Builder, MAIN_CONTEXT, Work, ahead, glue, network, remote, sources};
use crate::diagnostics::SourceFile;
use crate::error::{CliError, Kind};
use crate::progress::Steps;
use crate::{failure, terminal};

/// What carrying out a build came to.
pub(super) struct Solved {
    /// The layers for each platform.
    pub(super) layers: Vec<Vec<Layer>>,
    /// What was made for each platform to be scanned for packages.
    pub(super) scanned: Vec<Scanned>,
    /// Why steps ran, where that was asked for.
    pub(super) explanation: String,
    /// The definition keys of the steps.
    pub(super) keys: Keys,
    /// Those that BuildKit would give them, where somebody is told of them.
    pub(super) vertices: Vertices,
    /// What is remembered of them, here and elsewhere.
    pub(super) records: CachedRecords,
}

/// What was made beside an image, for a list of packages.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanned {
    /// What is to be scanned beside it: names and layers.
    pub(super) scans: Vec<(String, Vec<Layer>)>,
    /// The reports of a scanner image.
    pub(super) reports: Option<Vec<Layer>>,
}

impl Builder<'_> {
    /// Runs what has to be run.
    pub(super) fn solve(
        &self,
        lowered: &Lowered,
        file: &SourceFile,
        work: &Work,
        executor: &Executor,
        warnings: &[Diagnostic],
    ) -> Result<Solved, CliError> {
        let graph = &lowered.graph;
        let targets: Vec<StepId> = lowered.images.iter().flat_map(wanted).map(|input| input.step).collect();
        let mut records = self.records(graph, &targets, executor, work);
        let Some(&first) = targets.first() else {
            let count = lowered.images.len();
            let (layers, scanned) = (vec![Vec::new(); count], vec![Scanned::default(); count]);
            let (explanation, keys, vertices) = (String::new(), Keys::default(), Vertices::default());
            return Ok(Solved { layers, scanned, explanation, keys, vertices, records });
        };
        let steps = Steps::new(self.progress, graph, &file.text);
        let explanations = Explanations::new(&steps, self.request.explain.is_some());
        let ends: Vec<Input> = lowered.images.iter().filter_map(|image| image.target).collect();
        let solve = |records: &CachedRecords, cancel: &Cancel| {
            let store = &work.session.store;
            let outputs = ahead::compressing(self.request, (graph, &ends), store, &explanations, cancel, |observer| {
                solve(graph, &targets, executor, records, observer, cancel)
            })?;
            self.fetch_made(&outputs, work, cancel)
                .map(|()| outputs)
                .map_err(|error| SolveError { step: first, error: StepError::other(error) })
        };
        let mut solved = match records.is_alone() {
            true => solve(&records, &work.cancel),
            false => {
                // What fails for the fault of a cache is tried again.
                let attempt = Cancel::new();
                let stopped = attempt.clone();
                let _hook = work.cancel.on_request(move || stopped.request());
                solve(&records, &attempt)
            }
        };
        if solved.is_err()
            && !work.interrupt.is_set()
            && let Some(why) = work.images.broken_promise()
        {
            self.give_up_caches(work, &why);
            steps.forget();
            explanations.clear();
            records = CachedRecords::new(work.session.store.clone(), Vec::new());
            solved = solve(&records, &work.cancel);
        }
        let untraced = executor.untraced();
        if let Some(why) = &untraced {
            self.progress.untraced(why);
        }
        let explanation = match self.request.explain {
            None => String::new(),
            Some(Form::Text) => explanations.text(graph, untraced.as_deref(), &records.origins()),
            Some(Form::Json) => explanations.json(graph, &records.origins())?,
        };
        let outputs = match solved {
            Ok(outputs) => outputs,
            Err(failed) => {
                self.list_warnings(warnings, file);
                self.warn_of_caches(work);
                self.tell(&explanation)?;
                let error = self.report(&failed, graph, file, &steps, work);
                self.enter_failed(&failed, &error, executor, work);
                return Err(error);
            }
        };
        let mut made = outputs.into_iter();
        let all = lowered.images.iter().map(|image| put_together(image, &mut made)).collect::<Result<Vec<_>, _>>()?;
        let (layers, scanned) = all.into_iter().unzip();
        let vertices = match self.tells() {
            true => self.vertices(graph, &targets, executor, work),
            false => Vertices::default(),
        };
        Ok(Solved { layers, scanned, explanation, keys: explanations.keys(), vertices, records })
    }

    pub(super) fn executor(&self, lowered: &Lowered, work: &Work) -> Result<Executor, CliError> {
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
            contexts: self.contexts(&lowered.graph, work)?,
            images: Arc::new(glue::Layers(work.images.clone())),
            sandbox: Arc::new(sandbox),
            created: self.request.source_date_epoch,
        });
        let executor = executor
            .with_environment(lowered.proxy_env.clone())
            .with_networks(networks)
            .with_interpreters(Interpreters::of("/proc/sys/fs/binfmt_misc"))
            .with_remote(remote::settings(self.environment))
            .with_credentials(self.request.run.credentials.clone())
            .with_limits(self.request.run.limits.clone())
            .map_err(|error| CliError::from_error(Kind::Environment, &error))?;
        let executor = if self.request.run.is_traced { executor.with_tracing() } else { executor };
        Ok(if self.request.shell_on_error { executor.keeping_failed() } else { executor })
    }

    /// Opens the contexts that the build reads.
    fn contexts(&self, graph: &Graph, work: &Work) -> Result<BTreeMap<String, Arc<Context>>, CliError> {
        let mut contexts = BTreeMap::new();
        for (_, step) in graph.steps() {
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
    pub(super) fn tell(&self, explanation: &str) -> Result<(), CliError> {
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
        graph: &Graph,
        file: &SourceFile,
        steps: &Steps<'_>,
        work: &Work,
    ) -> CliError {
        if work.interrupt.is_set() {
            return CliError::interrupted();
        }
        self.progress.finish();
        let step = graph.step(failed.step);
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
}

/// All that is to be made for one platform.
fn wanted(image: &LoweredImage) -> impl Iterator<Item = Input> {
    // A scanner image reads what is scanned, and nobody else does.
    let scans = image.scans.iter().filter(|_| image.reports.is_none()).map(|(_, input)| *input);
    image.target.into_iter().chain(scans).chain(image.reports)
}

/// Puts together what was made for one platform, of the results in the order of [`wanted`].
fn put_together(
    image: &LoweredImage,
    made: &mut dyn Iterator<Item = Vec<Output>>,
) -> Result<(Vec<Layer>, Scanned), CliError> {
    let mut next = |input: Input| layers_of(made.next().unwrap_or_default(), input);
    let layers = image.target.map(&mut next).transpose()?.unwrap_or_default();
    let scans = image.scans.iter().filter(|_| image.reports.is_none());
    let scans = scans.map(|(name, input)| Ok((name.clone(), next(*input)?))).collect::<Result<_, CliError>>()?;
    let reports = image.reports.map(&mut next).transpose()?;
    Ok((layers, Scanned { scans, reports }))
}

/// The layers that the target is.
fn layers_of(outputs: Vec<Output>, target: Input) -> Result<Vec<Layer>, CliError> {
    match outputs.into_iter().nth(target.output as usize) {
        Some(Output::Layers(layers)) => Ok(layers),
        Some(Output::Local(name)) => {
            Err(CliError::user(format!("the target is the context `{name}` itself, which is no image"))
                .hint("copy what you need of it into a stage"))
        }
        None => Err(CliError::bug("the target has no result")),
    }
}

/// A file of the machine that commands see a copy of; a machine without it is fine.
fn read_or_empty(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(path)).unwrap_or_default()
}
