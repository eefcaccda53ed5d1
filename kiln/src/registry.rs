//! What commands that talk to registries have in common.

use std::sync::Arc;

use kiln_image::{Configuration, Credentials, Images, Patience, Reference, Settings};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::CliError;
use crate::progress::{Progress, Transfers};
use crate::session::Session;

/// The images of a store and of registries, with a display of the blobs that move.
pub(crate) fn images(
    session: &Session,
    configuration: Configuration,
    environment: &Environment,
    progress: &Progress,
    cancel: &Cancel,
) -> Images {
    session.store.limit_archives(configuration.archives.limits());
    let settings = Settings {
        store: session.store.clone(),
        configuration,
        credentials: credentials(environment),
        patience: Patience::default(),
        cancel: cancel.clone(),
    };
    Images::new(settings).watched_by(Arc::new(Transfers::new(progress)))
}

/// Who the user is at registries.
pub(crate) fn credentials(environment: &Environment) -> Credentials {
    Credentials::from_files(environment.credentials.iter().cloned())
}

/// The host and port that a user means by `r.example`, `https://r.example/v2/` or one of the names of Docker Hub.
pub(crate) fn host_of(text: &str) -> Result<String, CliError> {
    let address = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = address.split('/').next().unwrap_or_default();
    if matches!(host, "index.docker.io" | "registry-1.docker.io" | "docker.io") {
        return Ok("docker.io".to_owned());
    }
    match Reference::parse(&format!("{host}/x")) {
        Ok(reference) if reference.registry == host => Ok(reference.registry),
        _ => Err(CliError::usage(format!("`{text}` is not a registry: expected `HOST[:PORT]`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_hosts() {
        let cases = [
            ("r.example", "r.example"),
            ("localhost:5000", "localhost:5000"),
            ("https://r.example:8443/v2/", "r.example:8443"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
        ];
        for (text, expected) in cases {
            assert_eq!(host_of(text).unwrap(), expected);
        }
        for text in ["", "registry", "a b", "https://"] {
            assert!(host_of(text).is_err(), "{text}");
        }
    }
}
