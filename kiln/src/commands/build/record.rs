//! Has the build written down in the history.

use std::path::Path;

use kiln_cache::Store;
use kiln_cache::history::{BuildCommand, BuildEnd};
use kiln_solver::Digest;

use super::request::{DockerfileSource, Request};
use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::progress::Progress;
use crate::session::{Session, store_error};
use crate::terminal;

/// Build arguments that may hold passwords, whatever their case (the proxies that Docker passes on).
pub(super) const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/// From now on what happens is written down, if this is a build.
pub(super) fn begin(progress: &Progress, store: &Store, request: &Request, environment: &Environment) {
    if !request.is_recorded {
        return;
    }
    if let Err(error) = progress.record(store, &command(request)) {
        complain(&store_error(&error), request, environment);
    }
}

/// The build is over. One that never got as far as the store is written down now.
pub(super) fn finish(
    progress: &Progress,
    result: Result<Option<Digest>, &CliError>,
    request: &Request,
    environment: &Environment,
) {
    if !request.is_recorded {
        return;
    }
    if !progress.is_recorded() {
        // A store that cannot be opened is what the build itself has complained about already.
        let Ok(session) = Session::open(environment) else { return };
        begin(progress, &session.store, request, environment);
    }
    if let Err(error) = progress.conclude(&end(result)) {
        complain(&store_error(&error), request, environment);
    }
}

fn complain(error: &CliError, request: &Request, environment: &Environment) {
    if request.style.is_for_people() {
        terminal::warn(&format!("this build will be missing from the history: {error}"), environment.colour);
    }
}

fn end(result: Result<Option<Digest>, &CliError>) -> BuildEnd {
    match result {
        Ok(image) => BuildEnd::Completed { image },
        Err(error) if error.kind == Kind::Interrupted => BuildEnd::Cancelled,
        Err(error) => BuildEnd::Failed { error: error.summary().to_owned(), place: error.place.clone() },
    }
}

fn command(request: &Request) -> BuildCommand {
    let is_proxy = |name: &str| PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy));
    let build_args = request.build_args.iter().filter(|(name, _)| !is_proxy(name));
    let (context, dockerfile) = match (&request.remote_context, &request.dockerfile) {
        (Some(context), DockerfileSource::Stdin) => (context.place(), "-".to_owned()),
        (Some(context), _) => {
            let file = request.file.as_ref().map_or("Dockerfile".into(), |file| file.display().to_string());
            (context.place(), file)
        }
        (None, DockerfileSource::File(path)) => (request.context.display().to_string(), absolute(path)),
        (None, source) => (request.context.display().to_string(), source.name()),
    };
    BuildCommand {
        context,
        dockerfile,
        target: request.target.clone(),
        tags: request.tags.iter().map(|tag| tag.familiar()).collect(),
        platform: request.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        build_args: build_args.map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
