//! What a stage is at one point: its files, its config and what its next instruction sees.

use kiln_image::spec::{History, Image};
use kiln_solver::{Input, Platform};

use crate::environment::{self, EntryPlaces, Environment};
use crate::paths;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const COMMENT: &str = "buildkit.dockerfile.v0";

/// The files of a stage or of something to copy from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// None.
    Empty,
    /// What a step made.
    Step(Input),
    /// A directory of this machine, by the name of its context.
    Local(String),
}

/// A stage so far.
#[derive(Clone)]
pub(crate) struct StageState {
    pub(crate) tree: Tree,
    pub(crate) image: Image,
    /// Where in the image's environment each variable is.
    places: EntryPlaces,
    pub(crate) platform: Platform,
    /// What expansion and `RUN` see: `ENV` and `ARG` in one list, the later one of a name wins.
    pub(crate) environment: Environment,
    /// The declared arguments in order, with the values that they had then.
    pub(crate) arguments: Vec<(String, String)>,
    /// The working directory, absolute.
    pub(crate) directory: String,
    /// Whether the base could not be found, so that nothing is known about its variables.
    pub(crate) is_base_unknown: bool,
}

impl StageState {
    /// A stage that begins without files.
    pub(crate) fn scratch(platform: &Platform) -> Self {
        let mut image = Image::empty(platform);
        image.config.working_dir = "/".to_owned();
        Self::of_image(image, Tree::Empty, platform)
    }

    /// A stage that begins with an image.
    pub(crate) fn of_image(mut image: Image, tree: Tree, platform: &Platform) -> Self {
        image.created = None;
        image.config.on_build.clear();
        let mut places = EntryPlaces::of(&image.config.env);
        if !places.has("PATH") {
            places.set(&mut image.config.env, "PATH", DEFAULT_PATH);
        }
        let mut directory = "/".to_owned();
        if !image.config.working_dir.is_empty() {
            directory = paths::join("/", &image.config.working_dir);
            if !image.config.working_dir.starts_with('/') {
                image.config.working_dir.clone_from(&directory);
            }
        }
        let environment = Environment::of(&image.config.env);
        Self {
            tree,
            image,
            places,
            platform: platform.clone(),
            environment,
            arguments: Vec::new(),
            directory,
            is_base_unknown: false,
        }
    }

    /// A stage that begins with this one as it is at its end. What the image says of its environment is said anew: it
    /// comes after the arguments of the stage before, and wins over them.
    pub(crate) fn inherited(mut self) -> Self {
        self.image.config.on_build.clear();
        for entry in &self.image.config.env {
            let (name, value) = environment::split(entry);
            self.environment.set(name, value);
        }
        self
    }

    /// Whether a variable is set in the image, by `ENV` or by its base.
    pub(crate) fn is_of_image(&self, name: &str) -> bool {
        self.places.has(name)
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.environment.set(name, value);
        self.places.set(&mut self.image.config.env, name, value);
    }

    /// A line of history for an instruction that changes no files.
    pub(crate) fn note(&mut self, created_by: impl Into<String>) {
        self.add_history(created_by.into(), true);
    }

    /// A line of history for an instruction that makes a layer.
    pub(crate) fn note_layer(&mut self, created_by: impl Into<String>) {
        self.add_history(created_by.into(), false);
    }

    fn add_history(&mut self, created_by: String, empty_layer: bool) {
        self.image.history.push(History { created_by, empty_layer, comment: COMMENT.to_owned(), ..History::default() });
    }
}
