//! Where an image comes from, as SLSA provenance with BuildKit's extensions.
//!
//! Specifications: <https://slsa.dev/spec/v0.2/provenance>, <https://slsa.dev/spec/v1.1/provenance>, and what BuildKit
//! puts into the fields (<https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md>).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Attestation;
use crate::spec::Descriptor;

const BUILDKIT: &str = "https://mobyproject.org/buildkit@v1";
const DEFINITIONS: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// Which version of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// v0.2, what BuildKit writes where nothing else is asked for.
    #[default]
    V02,
    /// v1.
    V1,
}

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing that could be meant to stay private: no build arguments, no labels, no names of secrets, no steps.
    #[default]
    Min,
    /// Everything.
    Max,
}

/// Where an image comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// Who built it: a URL; may be empty.
    pub builder_id: String,
    /// The context, where it came from elsewhere.
    pub context: Option<Material>,
    /// The Dockerfile's path in the context.
    pub dockerfile: String,
    /// What was asked for, by the names that BuildKit has for it: `build-arg:NAME`, `label:NAME`, `target` and so on.
    pub args: BTreeMap<String, String>,
    /// The ids of secrets, and whether the build does without.
    pub secrets: Vec<(String, bool)>,
    /// The ids of ssh agents, and whether the build does without.
    pub ssh: Vec<(String, bool)>,
    /// The names of local directories.
    pub locals: Vec<String>,
    /// The platform of the machine that built it, such as `linux/amd64`.
    pub platform: String,
    /// What it was built from, apart from local directories.
    pub materials: Vec<Material>,
    /// Whether `args` lacks build arguments that nobody else is to see, whatever is told.
    pub withholds_args: bool,
    /// What tells this build from all others; nothing where the same build is to say the same each time.
    pub invocation: Option<String>,
    /// When it began (RFC 3339), where that may be said.
    pub started: Option<String>,
    /// When it ended (RFC 3339), where that may be said.
    pub finished: Option<String>,
    /// Whether no step could reach a network.
    pub is_hermetic: bool,
    /// Whether the result is meant to be the same to the byte each time.
    pub is_reproducible: bool,
    /// Notes on the version control of the context: `source`, `revision`.
    pub vcs: BTreeMap<String, String>,
    /// The steps, as BuildKit shows its own.
    pub steps: Vec<Value>,
    /// The Dockerfile itself and which lines of it each step is of.
    pub source: Option<Value>,
    /// Which of the steps has which digest: their names by digests.
    pub digests: BTreeMap<String, String>,
    /// The outputs of steps, the target's first, each of which is the one behind it and a layer.
    pub outputs: Vec<String>,
    /// The descriptors of the layers of the target.
    pub layers: Vec<Descriptor>,
}

/// Something that went into an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// What: a URL or a package URL.
    pub uri: String,
    /// The algorithm of the digest, such as `sha256`.
    pub algorithm: &'static str,
    /// The digest in hexadecimal.
    pub digest: String,
}

impl Material {
    fn json(&self) -> Value {
        json!({ "uri": self.uri, "digest": { self.algorithm: self.digest } })
    }
}

impl Provenance {
    /// The attestation that says so.
    pub fn attest(&self, version: Version, mode: Mode) -> Attestation {
        let (predicate_type, predicate) = match version {
            Version::V02 => ("https://slsa.dev/provenance/v0.2", self.v02(mode)),
            Version::V1 => ("https://slsa.dev/provenance/v1", self.v1(mode)),
        };
        Attestation { predicate_type: predicate_type.to_owned(), predicate }
    }

    fn v02(&self, mode: Mode) -> Value {
        let mut source = self.config_source();
        source.insert("entryPoint".to_owned(), json!(self.dockerfile));
        let mut metadata = json!({
            "completeness": {
                "parameters": self.has_all_args(mode),
                "environment": true,
                "materials": self.is_complete(),
            },
            "reproducible": self.is_reproducible,
        });
        self.add_times(&mut metadata, ["buildInvocationID", "buildStartedOn", "buildFinishedOn"]);
        if self.is_hermetic {
            metadata[format!("{BUILDKIT}#hermetic")] = json!(true);
        }
        metadata[format!("{BUILDKIT}#metadata")] = self.metadata(mode);
        let mut predicate = json!({
            "builder": { "id": self.builder_id },
            "buildType": BUILDKIT,
            "invocation": {
                "configSource": source,
                "parameters": self.request(mode),
                "environment": { "platform": self.platform },
            },
            "metadata": metadata,
        });
        if !self.materials.is_empty() {
            predicate["materials"] = self.materials();
        }
        if mode == Mode::Max {
            predicate["buildConfig"] = self.build_config();
        }
        predicate
    }

    fn v1(&self, mode: Mode) -> Value {
        let mut source = self.config_source();
        source.insert("path".to_owned(), json!(self.dockerfile));
        let mut internal = json!({ "builderPlatform": self.platform });
        if mode == Mode::Max {
            internal["buildConfig"] = self.build_config();
        }
        let mut metadata = json!({
            "buildkit_metadata": self.metadata(mode),
            "buildkit_completeness": {
                "request": self.has_all_args(mode),
                "resolvedDependencies": self.is_complete(),
            },
        });
        for (name, holds) in [("buildkit_hermetic", self.is_hermetic), ("buildkit_reproducible", self.is_reproducible)]
        {
            if holds {
                metadata[name] = json!(true);
            }
        }
        self.add_times(&mut metadata, ["invocationID", "startedOn", "finishedOn"]);
        let mut definition = json!({
            "buildType": DEFINITIONS,
            "externalParameters": { "configSource": source, "request": self.request(mode) },
            "internalParameters": internal,
        });
        if !self.materials.is_empty() {
            definition["resolvedDependencies"] = self.materials();
        }
        json!({
            "buildDefinition": definition,
            "runDetails": {
                "builder": { "id": self.builder_id },
                "metadata": metadata,
            },
        })
    }

    /// Adds what differs from build to build under these names, as far as it may be said.
    fn add_times(&self, metadata: &mut Value, names: [&str; 3]) {
        for (name, value) in names.into_iter().zip([&self.invocation, &self.started, &self.finished]) {
            if let Some(value) = value {
                metadata[name] = json!(value);
            }
        }
    }

    fn has_all_args(&self, mode: Mode) -> bool {
        !self.withholds_args && (mode == Mode::Max || !self.args.keys().any(|name| is_private(name)))
    }

    fn config_source(&self) -> Map<String, Value> {
        match self.context.as_ref().map(Material::json) {
            Some(Value::Object(source)) => source,
            _ => Map::new(),
        }
    }

    fn materials(&self) -> Value {
        self.materials.iter().map(Material::json).collect()
    }

    /// What is in a local directory has no digest here.
    fn is_complete(&self) -> bool {
        self.locals.is_empty()
    }

    fn request(&self, mode: Mode) -> Value {
        let is_told = |name: &str| mode == Mode::Max || !is_private(name);
        let args: BTreeMap<_, _> = self.args.iter().filter(|(name, _)| is_told(name)).collect();
        let mut request = json!({ "frontend": "dockerfile.v0" });
        if !args.is_empty() {
            request["args"] = json!(args);
        }
        if !self.locals.is_empty() {
            request["locals"] = self.locals.iter().map(|name| json!({ "name": name })).collect();
        }
        if mode == Mode::Max {
            for (key, ids) in [("secrets", &self.secrets), ("ssh", &self.ssh)] {
                if !ids.is_empty() {
                    request[key] = ids.iter().map(|(id, optional)| credential(id, *optional)).collect();
                }
            }
        }
        request
    }

    fn metadata(&self, mode: Mode) -> Value {
        let mut metadata = Map::new();
        if !self.vcs.is_empty() {
            metadata.insert("vcs".to_owned(), json!(self.vcs));
        }
        if let Some(source) = self.source.as_ref().filter(|_| mode == Mode::Max) {
            metadata.insert("source".to_owned(), source.clone());
        }
        let layers = self.layers_of_outputs();
        if mode == Mode::Max && !layers.is_empty() {
            metadata.insert("layers".to_owned(), Value::Object(layers));
        }
        Value::Object(metadata)
    }

    /// The descriptors of the layers that each output has.
    fn layers_of_outputs(&self) -> Map<String, Value> {
        let layers = (1..=self.layers.len()).rev().filter_map(|count| self.layers.get(..count));
        self.outputs.iter().zip(layers).map(|(output, layers)| (output.clone(), json!([layers]))).collect()
    }

    fn build_config(&self) -> Value {
        json!({ "llbDefinition": self.steps, "digestMapping": self.digests })
    }
}

fn credential(id: &str, is_optional: bool) -> Value {
    if is_optional { json!({ "id": id, "optional": true }) } else { json!({ "id": id }) }
}

/// Whether an argument may be meant for the builder alone.
fn is_private(name: &str) -> bool {
    name.starts_with("build-arg:") || name.starts_with("label:")
}
