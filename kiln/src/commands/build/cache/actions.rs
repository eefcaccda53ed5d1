//! The cache of GitHub Actions, in the words of BuildKit and of the variables that a job has.

use std::time::Duration;

use kiln_frontend::parse_duration;
use kiln_image::remote_cache::Actions;
use kiln_image::{ActionsSettings, Secret};

use super::bucket::from_environment;
use super::request::{Attributes, Variables};
use crate::error::CliError;

/// What a cache is called where nothing is said.
const SCOPE: &str = "buildkit";
/// How long reading or writing may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The host of version 2 at GitHub itself, which tools have put into `url`, too.
const HOST: &str = "results-receiver.actions.githubusercontent.com";

/// Where the cache is; nowhere outside of a job.
pub(super) fn place(attributes: &mut Attributes, variables: Variables<'_>) -> Result<Option<Actions>, CliError> {
    let get = |name: &str| from_environment(name, variables);
    let token = attributes.take("token").or_else(|| get("ACTIONS_RUNTIME_TOKEN"));
    let scope = attributes.take("scope").unwrap_or_else(|| SCOPE.to_owned());
    let timeout = timeout(attributes)?;
    // With these BuildKit asks another service of GitHub's what there is. kiln asks once for each blob that it writes.
    for key in ["repository", "ghtoken"] {
        attributes.take(key);
    }
    let version = attributes.take("version");
    let (second, first) = (attributes.take("url_v2"), attributes.take("url"));
    let second = second.or_else(|| first.clone().filter(|url| url.contains(HOST) || version.as_deref() == Some("2")));
    let is_first = match version.as_deref() {
        Some("1") => true,
        Some("2") => false,
        None => second.is_none() && first.is_some(),
        Some(other) => return Err(CliError::usage(format!("`version` is `1` or `2`, not `{other}`"))),
    };
    if is_first {
        return Err(CliError::usage("version 1 of the cache of GitHub Actions is not supported: GitHub has ended it")
            .hint("leave `version` away, and name the service with `url_v2` where it is not that of the job"));
    }
    let url = second.or_else(|| get("ACTIONS_RESULTS_URL"));
    let settings = url.zip(token).map(|(url, token)| ActionsSettings { url, token: Secret::new(token) });
    Ok(settings.map(|settings| Actions { settings, scope, timeout }))
}

fn timeout(attributes: &mut Attributes) -> Result<Duration, CliError> {
    let Some(text) = attributes.take("timeout") else { return Ok(TIMEOUT) };
    let nanos = parse_duration(&text).and_then(|nanos| u64::try_from(nanos).ok());
    let wrong = || CliError::usage(format!("`timeout` is a time such as `10m`, not `{text}`"));
    nanos.map(Duration::from_nanos).ok_or_else(wrong)
}
