//! The solver's worker: sends each step to what carries it out, and says what a step sees of its inputs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use kiln_cache::{Store, StoredLayer, View};
use kiln_solver::{
    Cancel, CopyAction, Digest, FileAction, FileActionKind, Job, Layer, Made, Mismatch, Operation, Origin, Output,
    Platform, Source, Step, StepError, StepId, Worker,
};

use crate::cgroup::{CgroupError, Groups};
use crate::differences::differences;
use crate::emulation::{Interpreters, Support};
use crate::exec::container::Container;
use crate::exec::limits::StepLimits;
use crate::exec::observed::{self, Watching};
use crate::exec::{Prepared, check_exec, expect_exec, mounted_content, run_exec};
use crate::files::{Part, Tree, changed_input, content_hash, recheck, run_actions, selected};
use crate::network::Networks;
use crate::sandbox::Sandbox;
use crate::sources::{Commit, Found, Remote, Sources};
use crate::{Context, Credentials, ExecutorError};

/// Any error of the world outside this crate.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where the layers of images come from.
pub trait ImageLayers: Send + Sync {
    /// The layers of an image by the digest that its step carries, the lowest first. Nothing is fetched.
    ///
    /// # Errors
    /// When the image is not known or its metadata cannot be read.
    fn stack(&self, image: &Digest) -> Result<Vec<Layer>, BoxError>;

    /// Brings into the store whatever it lacks of these layers, in parallel. Layers that no image has are left
    /// alone.
    ///
    /// # Errors
    /// When a layer cannot be fetched or unpacked.
    fn ensure(&self, layers: &[Layer], cancel: &Cancel) -> Result<(), BoxError>;
}

/// Everything that an [`Executor`] works with.
pub struct Settings {
    /// Where layers are.
    pub store: Arc<Store>,
    /// The build contexts by name; the main one is `context`.
    pub contexts: BTreeMap<String, Arc<Context>>,
    /// The layers of images.
    pub images: Arc<dyn ImageLayers>,
    /// Where commands run.
    pub sandbox: Arc<Sandbox>,
    /// The time that every new layer is said to be made at; now where absent.
    pub created: Option<SystemTime>,
}

/// Carries steps out.
pub struct Executor {
    settings: Settings,
    environment: Vec<String>,
    remote: Remote,
    limits: StepLimits,
    groups: Groups,
    credentials: Credentials,
    /// The containers of steps that failed, where they are to be kept.
    failed: Option<Mutex<HashMap<StepId, Container>>>,
    networks: Option<Networks>,
    interpreters: Option<Interpreters>,
    watching: Watching,
    /// What came from afar.
    found: Mutex<BTreeMap<StepId, Found>>,
}

impl Executor {
    /// An executor over these.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            environment: Vec::new(),
            remote: Remote::default(),
            limits: StepLimits::default(),
            groups: Groups::none(),
            credentials: Credentials::default(),
            networks: None,
            interpreters: None,
            failed: None,
            watching: Watching::default(),
            found: Mutex::default(),
        }
    }

    /// What was found at the servers and repositories that steps bring something in from, by step.
    pub fn found(&self) -> BTreeMap<StepId, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The digest that BuildKit knows a part of a build context by (its `cache/contenthash`). None where that cannot be
    /// told, or is not what the build has seen any more.
    pub fn content_hash(&self, context: &str, part: Part<'_>, cancel: &Cancel) -> Option<Digest> {
        let tree = self.tree(&Output::Local(context.to_owned()), cancel).ok()?;
        // Whoever needs what is not there says so; here it is something that no cache can have.
        content_hash(&tree, part, cancel).ok().flatten()
    }

    fn note_found(&self, step: StepId, found: Found) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(step, found);
    }

    /// The same, giving these variables (`NAME=value` each) to every command that does not set them itself. They
    /// are no part of a step and so of no key: it is for proxies and the like.
    #[must_use]
    pub fn with_environment(self, environment: Vec<String>) -> Self {
        Self { environment, ..self }
    }

    /// The same, reaching web servers and git repositories in this way.
    #[must_use]
    pub fn with_remote(self, remote: Remote) -> Self {
        Self { remote, ..self }
    }

    /// The same, keeping every command to these limits. Where kiln itself has to make room for control groups in the
    /// one that it was started in, it is done now, and undone when the executor is dropped.
    ///
    /// # Errors
    /// When the limits make no sense, or this machine cannot keep to them.
    pub fn with_limits(self, limits: StepLimits) -> Result<Self, CgroupError> {
        let groups = Groups::new(&limits.resources, limits.cgroup_parent.as_deref())?;
        Ok(Self { limits, groups, ..self })
    }

    /// The same, giving commands what they ask for of these.
    #[must_use]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// The same, giving commands that ask for nothing else networks of their own; else they have the host's.
    #[must_use]
    pub fn with_networks(self, networks: Networks) -> Self {
        Self { networks: Some(networks), ..self }
    }

    /// The same, knowing which commands of other platforms these can run; else they are tried.
    #[must_use]
    pub fn with_interpreters(self, interpreters: Interpreters) -> Self {
        Self { interpreters: Some(interpreters), ..self }
    }

    /// What it takes to run the commands of a platform.
    pub(crate) fn support(&self, platform: Option<&Platform>) -> Support {
        match (&self.interpreters, platform) {
            (Some(interpreters), Some(platform)) => interpreters.support(platform),
            _ => Support::Native,
        }
    }

    /// The same, observing what commands look at in the layers above their base image, where the machine lets it.
    #[must_use]
    pub fn with_tracing(self) -> Self {
        Self { watching: Watching::new(true), ..self }
    }

    /// Why commands could not be observed, if they should have been.
    pub fn untraced(&self) -> Option<String> {
        self.watching.refused()
    }

    /// The same, keeping what commands that fail ran in, for [`Executor::take_failed`]. They are not observed: who
    /// looks around in there afterwards would be, too.
    #[must_use]
    pub fn keeping_failed(self) -> Self {
        Self { failed: Some(Mutex::default()), watching: Watching::new(false), ..self }
    }

    pub(crate) fn watching(&self) -> &Watching {
        &self.watching
    }

    /// What the command of this step ran in, if it failed by itself: its root as the command left it.
    pub fn take_failed(&self, step: StepId) -> Option<Container> {
        self.failed.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).remove(&step)
    }

    pub(crate) fn keep_failed(&self, step: StepId, prepared: Prepared) {
        if let Some(failed) = &self.failed {
            let container = Container::used(prepared, self);
            failed.lock().unwrap_or_else(PoisonError::into_inner).insert(step, container);
        }
    }

    fn sources(&self) -> Sources<'_> {
        Sources { store: self.store(), remote: &self.remote, created: self.created() }
    }

    pub(crate) fn environment(&self) -> &[String] {
        &self.environment
    }

    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(crate) fn limits(&self) -> &StepLimits {
        &self.limits
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn networks(&self) -> Option<&Networks> {
        self.networks.as_ref()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.settings.store
    }

    pub(crate) fn images(&self) -> &dyn ImageLayers {
        &*self.settings.images
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.settings.sandbox
    }

    pub(crate) fn shared_sandbox(&self) -> Arc<Sandbox> {
        self.settings.sandbox.clone()
    }

    /// When a layer made now is said to be made.
    pub(crate) fn created(&self) -> SystemTime {
        self.settings.created.unwrap_or_else(SystemTime::now)
    }

    /// These layers, the lowest first; what the store lacks of images' layers, and of those of caches elsewhere, is
    /// fetched.
    pub(crate) fn stored(&self, layers: &[Layer], cancel: &Cancel) -> Result<Vec<StoredLayer>, ExecutorError> {
        let find = || layers.iter().map(|layer| self.store().layer(&layer.diff_id)).collect::<Result<Vec<_>, _>>();
        let mut stored = find()?;
        if stored.iter().any(Option::is_none) {
            let can_be_had =
                |layer: &&Layer| layer.origin == Origin::Image || self.store().promise(&layer.diff_id).is_some();
            let wanted: Vec<Layer> = layers.iter().filter(can_be_had).copied().collect();
            self.images().ensure(&wanted, cancel).map_err(|error| self.failed(error, cancel))?;
            stored = find()?;
        }
        let missing =
            |(layer, stored): (&Layer, Option<StoredLayer>)| stored.ok_or(ExecutorError::MissingLayer(layer.diff_id));
        layers.iter().zip(stored).map(missing).collect()
    }

    /// An error of fetching, unless it is because the build was told to stop.
    fn failed(&self, error: BoxError, cancel: &Cancel) -> ExecutorError {
        if cancel.is_requested() { ExecutorError::Cancelled } else { ExecutorError::Image(error) }
    }

    /// An output as something to copy from.
    pub(crate) fn tree(&self, output: &Output, cancel: &Cancel) -> Result<Tree, ExecutorError> {
        match output {
            Output::Layers(layers) => Ok(Tree::Layers(View::new(self.stored(layers, cancel)?))),
            Output::Local(name) => {
                let context = self.settings.contexts.get(name);
                let context = context.ok_or_else(|| ExecutorError::UnknownContext(name.clone()))?;
                Ok(Tree::Context(context.clone()))
            }
        }
    }

    /// What identifies a whole stack of layers: for a layer made here its content, times left out. `None` where a
    /// layer is not here to be asked.
    pub(crate) fn identity(&self, layers: &[Layer]) -> Result<Option<Digest>, ExecutorError> {
        let mut bytes = Vec::with_capacity(layers.len() * 33 + 16);
        bytes.extend_from_slice(b"kiln.stack.v1");
        for layer in layers {
            let (kind, digest) = match layer.origin {
                Origin::Image => (b'i', layer.diff_id),
                Origin::Built => match self.store().layer_content(&layer.diff_id)? {
                    Some(content) => (b'b', content),
                    None => return Ok(None),
                },
            };
            bytes.push(kind);
            bytes.extend_from_slice(digest.as_bytes());
        }
        Ok(Some(Digest::of(&bytes)))
    }

    /// The digest of what a step sees of an input: what its copies select, where it only copies from it.
    fn seen(
        &self,
        step: &Step,
        input: usize,
        output: &Output,
        cancel: &Cancel,
    ) -> Result<Option<Digest>, ExecutorError> {
        if let Operation::File(actions) = &step.operation
            && !actions.iter().any(|action| action.base == Some(input))
        {
            let from_input = actions.iter().filter(|action| action.from == Some(input));
            let copies: Vec<&CopyAction> = from_input.filter_map(copy_of).collect();
            return Ok(Some(selected(&self.tree(output, cancel)?, &copies, cancel)?));
        }
        match output {
            Output::Layers(layers) => self.identity(layers),
            Output::Local(_) => {
                let all = CopyAction::everything();
                Ok(Some(selected(&self.tree(output, cancel)?, &[&all], cancel)?))
            }
        }
    }
}

fn copy_of(action: &FileAction) -> Option<&CopyAction> {
    match &action.kind {
        FileActionKind::Copy(copy) => Some(copy),
        FileActionKind::Mkdir(_) | FileActionKind::Mkfile(_) => None,
    }
}

/// A tree of one layer that was made here.
fn built(layer: &StoredLayer) -> Output {
    Output::Layers(vec![Layer { diff_id: *layer.diff_id(), origin: Origin::Built }])
}

impl Worker for Executor {
    fn content(
        &self,
        step: &Step,
        input: usize,
        output: &Output,
        cancel: &Cancel,
    ) -> Result<Option<Digest>, StepError> {
        if let Operation::Exec(exec) = &step.operation
            && let Some(digest) = mounted_content(self, exec, input, output, cancel)?
        {
            return Ok(Some(digest));
        }
        Ok(self.seen(step, input, output, cancel)?)
    }

    fn run(&self, job: Job<'_>) -> Result<Made, StepError> {
        let outputs = match &job.step.operation {
            Operation::Source(Source::Image { digest, .. }) => {
                let stack = self.images().stack(digest).map_err(|error| self.failed(error, job.cancel))?;
                vec![Output::Layers(stack)]
            }
            Operation::Source(Source::Local { name }) => {
                self.tree(&Output::Local(name.clone()), job.cancel)?;
                vec![Output::Local(name.clone())]
            }
            Operation::Source(Source::Http(http)) => {
                let layer = self.sources().http(http, job.cancel).map_err(ExecutorError::from)?;
                if let Some(found) = Found::file(&layer) {
                    self.note_found(job.id, found);
                }
                vec![built(&layer)]
            }
            Operation::Source(Source::Git(git)) => {
                let Commit { layer, commit } = self.sources().git(git, job.cancel).map_err(ExecutorError::from)?;
                self.note_found(job.id, Found::Commit(commit));
                vec![built(&layer)]
            }
            Operation::File(actions) => return Ok(run_actions(self, &job, actions)?),
            Operation::Exec(exec) => return run_exec(self, &job, exec),
        };
        Ok(outputs.into())
    }

    fn check(&self, step: &Step) -> Result<(), StepError> {
        match &step.operation {
            Operation::Exec(_) => Ok(check_exec(self, step)?),
            Operation::Source(_) | Operation::File(_) => Ok(()),
        }
    }

    fn expect(&self, step: &Step) {
        if let Operation::Exec(exec) = &step.operation {
            expect_exec(self, exec);
        }
    }

    /// Of what a file step changes nothing counts as a whole: it looks at few paths of it. Of what a command sees it is
    /// base images.
    fn unobserved(&self, step: &Step, input: usize, output: &Output) -> Result<Option<Digest>, StepError> {
        match &step.operation {
            Operation::File(actions) => {
                let is_changed = changed_input(actions, step.inputs.len()) == Some(input);
                Ok(is_changed.then(|| Digest::of(b"kiln.files.v1")))
            }
            Operation::Exec(exec) => Ok(observed::unobserved(self, exec, input, output)?),
            Operation::Source(_) => Ok(None),
        }
    }

    fn differences(&self, was: &Output, is: &Output) -> Vec<Mismatch> {
        match (was, is) {
            (Output::Layers(was), Output::Layers(is)) => differences(self, was, is),
            _ => Vec::new(),
        }
    }

    fn recheck(
        &self,
        step: &Step,
        inputs: &[Output],
        facts: &[u8],
        cancel: &Cancel,
    ) -> Result<Option<Mismatch>, StepError> {
        let changed = |actions| changed_input(actions, inputs.len()).and_then(|input| inputs.get(input));
        match &step.operation {
            Operation::Exec(exec) => Ok(observed::recheck(self, exec, inputs, facts, cancel)?),
            Operation::File(actions) => match changed(actions) {
                Some(Output::Layers(layers)) => Ok(recheck(self, layers, facts, cancel)?),
                _ => Err(StepError::other("facts of a step that observes nothing")),
            },
            Operation::Source(_) => Err(StepError::other("facts of a source")),
        }
    }
}
