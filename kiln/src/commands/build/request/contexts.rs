//! Where the Dockerfile and what it is built from come from.

use std::path::{Path, PathBuf};

use kiln_image::Reference;

use super::super::remote::RemoteContext;
use crate::error::{self, CliError, Kind};

/// Where the Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands::build) enum DockerfileSource {
    /// A file of this machine.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// A file of a context from elsewhere.
    Within {
        /// The context.
        root: PathBuf,
        /// The path in it.
        path: PathBuf,
    },
    /// What was fetched in the place of a context.
    Text {
        /// What to call it.
        name: String,
        /// What it holds.
        bytes: Vec<u8>,
    },
}

impl DockerfileSource {
    /// What to call it in one word.
    pub(in crate::commands::build) fn name(&self) -> String {
        match self {
            Self::File(path) | Self::Within { path, .. } => {
                path.file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
            Self::Stdin => "standard input".to_owned(),
            Self::Text { name, .. } => name.clone(),
        }
    }
}

/// The value of a `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands::build) enum NamedContext {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A reference, or `oci-layout://DIR[:TAG][@DIGEST]`.
    Image(String),
    /// A stage of the Dockerfile, `target:STAGE`.
    Stage(String),
    /// What another machine has.
    Remote(RemoteContext),
}

/// `Dockerfile`, or `dockerfile` where that is what there is.
pub(in crate::commands::build) fn default_dockerfile(context: &Path) -> PathBuf {
    let [usual, lower] = ["Dockerfile", "dockerfile"].map(|name| context.join(name));
    if !usual.exists() && lower.exists() { lower } else { usual }
}

pub(super) fn directory(what: &str, path: &Path) -> Result<PathBuf, CliError> {
    let metadata = std::fs::metadata(path).map_err(|error| error::io(&format!("open {what}"), path, &error))?;
    if !metadata.is_dir() {
        return Err(CliError::user(format!("cannot open {what} `{}`: it is not a directory", path.display())));
    }
    path.canonicalize().map_err(|error| error::io(&format!("open {what}"), path, &error))
}

pub(super) fn parse_context(text: &str) -> Result<(String, NamedContext), CliError> {
    let flag = format!("`--build-context {text}`");
    let Some((name, value)) = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty()) else {
        return Err(CliError::usage(format!("{flag} is not of the form `NAME=VALUE`")));
    };
    if name.eq_ignore_ascii_case("context") || name.eq_ignore_ascii_case("dockerfile") {
        return Err(CliError::usage(format!("{flag}: the name `{name}` is taken by kiln itself")));
    }
    let name = name.to_lowercase();
    let context = if let Some(reference) = value.strip_prefix("docker-image://") {
        Reference::parse(reference).map_err(|error| CliError::from_error(Kind::User, &error).context(&flag))?;
        NamedContext::Image(reference.to_owned())
    } else if value.starts_with("oci-layout://") {
        NamedContext::Image(value.to_owned())
    } else if let Some(stage) = value.strip_prefix("target:").filter(|stage| !stage.is_empty()) {
        NamedContext::Stage(stage.to_owned())
    } else if let Some(remote) = RemoteContext::of_url(value).map_err(|error| error.context(&flag))? {
        NamedContext::Remote(remote)
    } else if value.contains("://") {
        return Err(CliError::user(format!("{flag}: nothing is known of contexts of this kind")).hint(
            "give a directory, `docker-image://REF`, `oci-layout://DIR`, `target:STAGE`, a git repository or a URL",
        ));
    } else {
        NamedContext::Directory(directory(&format!("the context `{name}`"), Path::new(value))?)
    };
    Ok((name, context))
}
