//! The git checkout around a context, as buildx tells of it: a note that nobody verifies.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::environment::Environment;

use super::parameters::redacted;

/// The commit that is checked out around a directory, and the repository that it comes from, as far as there are any.
pub(super) fn notes(directory: &Path, environment: &Environment) -> BTreeMap<String, String> {
    let ask = |words: &[&str]| -> Option<String> {
        let mut command = Command::new("git");
        command.env_clear().envs(environment.remote.iter().cloned()).env("GIT_OPTIONAL_LOCKS", "0");
        command.arg("-C").arg(directory).args(words).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    let Some(revision) = ask(&["rev-parse", "HEAD"]) else { return BTreeMap::new() };
    let source = ask(&["config", "--get", "remote.origin.url"]).map(|url| ("source".to_owned(), redacted(&url)));
    source.into_iter().chain([("revision".to_owned(), revision)]).collect()
}
