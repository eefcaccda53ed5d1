//! The keys that BuildKit would give the steps of a build.
//!
//! Sources: BuildKit's `solver/llbsolver/ops` and `solver/cachemanager.go`. A record of its cache goes by the digest of
//! an operation and the number of an output, and hangs on the records of the inputs: each by itself, with the digest of
//! what is selected of it, or by its content alone.

use std::collections::{BTreeMap, HashMap};

use kiln_solver::{Digest, Graph, Operation as Kind, Platform, Source, Step, StepId};
use serde::Serialize;

use super::dialect::Dialects;
use super::json;
use super::operation::{Dependency, Operation, Selector, Taken};

/// What an input that is known by content has for the number of its output.
const BY_CONTENT: i64 = -1;

/// Knows what contexts hold, in BuildKit's way of hashing, and images.
pub trait Contents {
    /// The digest of parts of a context, each as BuildKit's `cache/contenthash` has it; none where it cannot be told.
    fn of_context(&self, name: &str, selectors: &[Selector]) -> Option<Vec<Digest>>;

    /// The diffIDs of the layers of an image, the lowest first.
    fn layers_of(&self, image: &Digest) -> Option<Vec<Digest>>;
}

/// The keys that BuildKit would give the steps of a build, as far as that can be told.
#[derive(Debug, Default)]
pub struct Vertices {
    pub(super) of: BTreeMap<StepId, Vertex>,
}

/// One operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Vertex {
    /// The digests that a record of it may have.
    pub(super) digests: Vec<(Dialects, Digest)>,
    /// What it hangs on: for each input, any of these.
    pub(super) inputs: Vec<Vec<Link>>,
}

/// What a record may hang on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The record of a step, of which this is selected.
    Step(StepId, Dialects, Option<Digest>),
    /// A record of nothing but a content, by its digest.
    Content(Dialects, Digest),
    /// The record of something in the middle of a step.
    Made(Box<Vertex>),
}

impl Vertices {
    /// The keys of these steps, which come after those that they build on. `time` is `SOURCE_DATE_EPOCH`, in nanoseconds
    /// since 1970.
    pub fn of(graph: &Graph, needed: &[StepId], contents: &dyn Contents, time: Option<i64>) -> Self {
        let mut vertices = Self::default();
        let mut known = Known { contents, digests: HashMap::new() };
        for &id in needed {
            let step = graph.step(id);
            let vertex = match &step.operation {
                Kind::Source(Source::Image { digest, .. }) => Some(image(step, digest, contents)),
                _ => Operation::of(step, time).and_then(|operation| vertices.vertex(graph, &operation, &mut known)),
            };
            if let Some(vertex) = vertex {
                vertices.of.insert(id, vertex);
            }
        }
        vertices
    }

    fn vertex(&self, graph: &Graph, operation: &Operation, known: &mut Known<'_>) -> Option<Vertex> {
        let links = |dependency: &Dependency| {
            let links = self.links(graph, dependency, known);
            (!links.is_empty()).then_some(links)
        };
        let inputs = operation.dependencies.iter().map(links).collect::<Option<_>>()?;
        let digests = operation.digests.iter().map(|(dialects, digest)| (*dialects, key(digest, 0)));
        Some(Vertex { digests: digests.collect(), inputs })
    }

    fn links(&self, graph: &Graph, dependency: &Dependency, known: &mut Known<'_>) -> Vec<Link> {
        let Dependency { from, selectors, contents } = dependency;
        let input = match from {
            Taken::Step(input) => input,
            Taken::Operation(operation) => {
                let vertex = self.vertex(graph, operation, known);
                return vertex.map(|vertex| Link::Made(Box::new(vertex))).into_iter().collect();
            }
        };
        // Outputs beside the first are none that BuildKit would number in the same way.
        if input.output != 0 {
            return Vec::new();
        }
        let mut links = Vec::new();
        if self.of.contains_key(&input.step) {
            links.extend(selectors.iter().map(|(dialects, selector)| Link::Step(input.step, *dialects, *selector)));
        }
        // What steps made is not hashed: it may not be here, and the same is to be told of it then.
        if let Kind::Source(Source::Local { name }) = &graph.step(input.step).operation {
            for (dialects, selectors) in contents {
                let digest = known.content(name, selectors);
                links.extend(digest.map(|digest| Link::Content(*dialects, key(&digest, BY_CONTENT))));
            }
        }
        links
    }
}

/// What was hashed already.
struct Known<'a> {
    contents: &'a dyn Contents,
    digests: HashMap<(String, Vec<Selector>), Option<Digest>>,
}

impl Known<'_> {
    fn content(&mut self, context: &str, selectors: &[Selector]) -> Option<Digest> {
        let hash = |contents: &dyn Contents| {
            let parts: Vec<String> = contents.of_context(context, selectors)?.iter().map(ToString::to_string).collect();
            Some(Digest::of(parts.join("\0").as_bytes()))
        };
        *self.digests.entry((context.to_owned(), selectors.to_vec())).or_insert_with(|| hash(self.contents))
    }
}

/// The key of an output of an operation, or of a content.
fn key(digest: &Digest, output: i64) -> Digest {
    Digest::of(format!("{digest}@{output}").as_bytes())
}

/// What BuildKit hashes of the manifest of an image.
#[derive(Serialize)]
struct Manifest<'a> {
    #[serde(rename = "Digest")]
    digest: String,
    #[serde(rename = "OS")]
    os: &'a str,
    #[serde(rename = "Arch")]
    architecture: &'a str,
    #[serde(rename = "Variant", skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

/// An image goes by its manifest and by its layers.
fn image(step: &Step, digest: &Digest, contents: &dyn Contents) -> Vertex {
    let host = Platform::host();
    let platform = step.platform.as_ref().unwrap_or(&host);
    let manifest = Manifest {
        digest: digest.to_string(),
        os: &platform.os,
        architecture: &platform.architecture,
        variant: platform.variant.as_deref(),
    };
    let chain = contents.layers_of(digest).and_then(|layers| chain_id(&layers));
    let source = |identity: Digest| {
        let digest = Digest::of(format!("buildkit.source.v0:{identity}").as_bytes());
        (Dialects::all(), key(&digest, 0))
    };
    let identities = [Some(Digest::of(&json::to_vec(&manifest))), chain];
    Vertex { digests: identities.into_iter().flatten().map(source).collect(), inputs: Vec::new() }
}

/// The name of a stack of layers (OCI image specification: ChainID).
fn chain_id(layers: &[Digest]) -> Option<Digest> {
    let (first, rest) = layers.split_first()?;
    Some(rest.iter().fold(*first, |chain, layer| Digest::of(format!("{chain} {layer}").as_bytes())))
}
