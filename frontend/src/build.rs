//! What lowering yields.

use kiln_image::spec::Image;
use kiln_parser::Diagnostic;
use kiln_solver::{Graph, Input};

/// A Dockerfile, lowered.
pub struct Build {
    /// The steps of every stage that the target needs.
    pub graph: Graph,
    /// What makes the files of the image; an empty tree where absent.
    pub target: Option<Input>,
    /// The image: the base's config with the Dockerfile's changes, and the base's history with the
    /// Dockerfile's behind it. What lowering cannot know is left open: `created` is absent here and in the
    /// history's new lines, and the root file system is still the base's.
    pub image: Image,
    /// What is worth saying about the Dockerfile and the options; none of it keeps the build from going on.
    pub warnings: Vec<Diagnostic>,
    /// The stages that the target needs, in the order of the file: a name, or `stage-N`.
    pub stages: Vec<String>,
    /// What the Dockerfile wants to be scanned for packages beside the target, by the name of the stage or `context`;
    /// nothing where that is not asked for.
    pub scans: Vec<(String, Input)>,
    /// Proxies from the build arguments, `NAME=value` each: for every `RUN`, but in no key and no history.
    pub proxy_env: Vec<String>,
}
