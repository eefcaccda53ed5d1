//! What is known of a build at its end, put together as the provenance of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use kiln_executor::sources::Found;
use kiln_image::Images;
use kiln_image::attest::provenance::{Material, Provenance};
use kiln_image::spec::format_time;
use kiln_solver::{Exec, Graph, Input, MountKind, Network, Operation, Platform, Source, StepId};

use super::super::MAIN_CONTEXT;
use super::super::remote::RemoteContext;
use super::super::request::{DockerfileSource, NamedContext, Request};
use super::llb::Steps;
use super::{materials, parameters, vcs};
use crate::diagnostics::SourceFile;
use crate::environment::Environment;

/// The name that BuildKit has for the directory of the Dockerfile.
const DOCKERFILE: &str = "dockerfile";

/// What is known of a build.
pub(in crate::commands::build) struct Facts<'a> {
    pub(in crate::commands::build) request: &'a Request,
    pub(in crate::commands::build) environment: &'a Environment,
    pub(in crate::commands::build) images: &'a Images,
    pub(in crate::commands::build) file: &'a SourceFile,
    pub(in crate::commands::build) graph: &'a Graph,
    /// What steps found at servers and in repositories.
    pub(in crate::commands::build) found: &'a BTreeMap<StepId, Found>,
    /// Contexts from elsewhere, and what they turned out to be.
    pub(in crate::commands::build) fetched: &'a [(RemoteContext, Found)],
    pub(in crate::commands::build) started: SystemTime,
    /// The name of the build in the history.
    pub(in crate::commands::build) id: Option<String>,
}

/// Secrets or agents by id, and whether all who want one do without.
type Ids = BTreeMap<String, bool>;

impl Facts<'_> {
    /// Where the image comes from that this target makes.
    pub(super) fn provenance(&self, target: Option<Input>) -> Provenance {
        let request = self.request;
        let needed = target.map(|target| self.graph.needed(&[target.step])).unwrap_or_default();
        let execs: Vec<&Exec> = needed.iter().filter_map(|id| exec_of(self.graph, *id)).collect();
        let (secrets, ssh) = credentials(&execs);
        let locals = self.locals(&needed);
        let steps = Steps::new(self.graph, target, self.images);
        let is_told = request.source_date_epoch.is_none();
        let asked = request.attest.provenance.as_ref();
        Provenance {
            builder_id: asked.map(|asked| asked.builder_id.clone()).unwrap_or_default(),
            context: self.main_context(),
            dockerfile: self.dockerfile(),
            args: parameters::args(request),
            withholds_args: parameters::withholds(request),
            secrets: secrets.into_iter().collect(),
            ssh: ssh.into_iter().collect(),
            // BuildKit calls no build hermetic that it cannot tell all materials of.
            is_hermetic: locals.is_empty() && execs.iter().all(|exec| exec.network == Network::None),
            locals,
            platform: Platform::host().to_string(),
            materials: self.materials(&needed),
            invocation: self.id.clone().filter(|_| is_told),
            started: is_told.then(|| format_time(self.started)),
            finished: is_told.then(|| format_time(SystemTime::now())),
            is_reproducible: asked.is_some_and(|asked| asked.is_reproducible),
            vcs: self.vcs(),
            steps: steps.definition(),
            source: Some(steps.source(self.file)),
            digests: steps.digests(),
            outputs: steps.outputs(),
            layers: Vec::new(),
        }
    }

    fn main_context(&self) -> Option<Material> {
        let main = self.request.remote_context.as_ref()?;
        let (context, found) = self.fetched.iter().find(|(context, _)| context == main)?;
        Some(materials::of_context(context, found))
    }

    /// The Dockerfile's path in its context, or its name where it is of this machine.
    fn dockerfile(&self) -> String {
        match &self.request.dockerfile {
            DockerfileSource::Within { path, .. } => path.display().to_string(),
            DockerfileSource::File(path) => {
                let within = std::path::absolute(path).ok();
                let within = within.as_deref().and_then(|path| path.strip_prefix(&self.request.context).ok());
                let name = path.file_name().map(std::path::Path::new);
                within.or(name).unwrap_or(path).display().to_string()
            }
            DockerfileSource::Stdin | DockerfileSource::Text { .. } => "Dockerfile".to_owned(),
        }
    }

    /// The directories of this machine that went into it, by the names that BuildKit has for them.
    fn locals(&self, needed: &[StepId]) -> Vec<String> {
        let mut names = BTreeSet::new();
        if self.request.remote_context.is_none() {
            // At least its `.dockerignore` is looked for.
            names.insert(MAIN_CONTEXT.to_owned());
        }
        for id in needed {
            let Operation::Source(Source::Local { name }) = &self.graph.step(*id).operation else { continue };
            let is_here = match self.request.contexts.get(name) {
                Some(NamedContext::Remote(_)) => false,
                Some(_) => true,
                None if name == MAIN_CONTEXT => {
                    matches!(self.request.remote_context, None | Some(RemoteContext::Stdin))
                }
                None => true,
            };
            if is_here {
                names.insert(name.clone());
            }
        }
        let of_machine = match &self.request.dockerfile {
            DockerfileSource::File(_) | DockerfileSource::Stdin => true,
            DockerfileSource::Within { .. } | DockerfileSource::Text { .. } => {
                self.request.remote_context == Some(RemoteContext::Stdin)
            }
        };
        if of_machine {
            names.insert(DOCKERFILE.to_owned());
        }
        names.into_iter().collect()
    }

    /// What came from elsewhere, each once.
    fn materials(&self, needed: &[StepId]) -> Vec<Material> {
        let steps = needed.iter().filter_map(|id| materials::of_step(self.graph, *id, self.found, self.images));
        let contexts = self.fetched.iter().map(|(context, found)| materials::of_context(context, found));
        let mut all: Vec<Material> = Vec::new();
        for material in steps.chain(contexts) {
            if !all.contains(&material) {
                all.push(material);
            }
        }
        all
    }

    fn vcs(&self) -> BTreeMap<String, String> {
        if !self.request.attest.git_info || self.request.remote_context.is_some() {
            return BTreeMap::new();
        }
        vcs::notes(&self.request.context, self.environment)
    }
}

fn exec_of(graph: &Graph, id: StepId) -> Option<&Exec> {
    match &graph.step(id).operation {
        Operation::Exec(exec) => Some(exec),
        _ => None,
    }
}

/// The secrets and the agents that commands may have.
fn credentials(execs: &[&Exec]) -> (Ids, Ids) {
    let (mut secrets, mut ssh) = (Ids::new(), Ids::new());
    let note = |ids: &mut Ids, id: &str, required: bool| *ids.entry(id.to_owned()).or_insert(true) &= !required;
    for exec in execs {
        for mount in &exec.mounts {
            match &mount.kind {
                MountKind::Secret(secret) => note(&mut secrets, &secret.id, secret.required),
                MountKind::Ssh(agent) => note(&mut ssh, &agent.id, agent.required),
                _ => {}
            }
        }
        for secret in &exec.secret_env {
            note(&mut secrets, &secret.id, secret.required);
        }
    }
    (secrets, ssh)
}
