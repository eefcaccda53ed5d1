//! The solver's worker: sends each step to what carries it out, and says what a step sees of its inputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_cache::{Store, StoredLayer};
use kiln_solver::{Cancel, Digest, Job, Layer, Output, Step, StepError, Worker};

use crate::sandbox::Sandbox;
use crate::{Context, ExecutorError};

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
}

impl Executor {
    /// An executor over these.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
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

    /// When a layer made now is said to be made.
    pub(crate) fn created(&self) -> SystemTime {
        self.settings.created.unwrap_or_else(SystemTime::now)
    }

    /// These layers, the lowest first; what the store lacks of images' layers is fetched.
    pub(crate) fn stored(&self, _layers: &[Layer], _cancel: &Cancel) -> Result<Vec<StoredLayer>, ExecutorError> {
        todo!()
    }
}

impl Worker for Executor {
    fn content(
        &self,
        _step: &Step,
        _input: usize,
        _output: &Output,
        _cancel: &Cancel,
    ) -> Result<Option<Digest>, StepError> {
        todo!()
    }

    fn run(&self, _job: Job<'_>) -> Result<Vec<Output>, StepError> {
        todo!()
    }
}
