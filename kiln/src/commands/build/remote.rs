//! Contexts that are not on this machine: standard input, git repositories and URLs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use kiln_executor::sources::{Commit, Found, Remote, SourceError, Sources, Unpacked, shown};
use kiln_frontend::{GitReference, parse_remote};
use kiln_solver::{Git, Http};

use super::Work;
use super::request::{DockerfileSource, Request, default_dockerfile};
use super::sources::read_limited;
use crate::environment::Environment;
use crate::error::{self, CliError, Kind};

/// The build argument with which a git context keeps its `.git`, as BuildKit calls it.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Where a context comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RemoteContext {
    /// Standard input: an archive, or a Dockerfile without any context.
    Stdin,
    /// A commit of a git repository.
    Git(Git),
    /// A URL: an archive, or a Dockerfile.
    Http(Http),
}

/// The main context, fetched.
pub(super) struct Fetched {
    /// The directory that it is in.
    pub(super) root: PathBuf,
    pub(super) dockerfile: DockerfileSource,
    /// Keeps the directory.
    pub(super) unpacked: Option<Unpacked>,
}

impl RemoteContext {
    /// What the main context is, unless it is a directory of this machine.
    pub(super) fn of_path(path: &Path, build_args: &[String]) -> Result<Option<Self>, CliError> {
        if path.as_os_str() == "-" {
            return Ok(Some(Self::Stdin));
        }
        let Some(text) = path.to_str().filter(|_| !path.exists()) else { return Ok(None) };
        let keep = build_args
            .iter()
            .filter_map(|arg| arg.split_once('='))
            .any(|(name, value)| name == KEEP_GIT_DIR && matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let context =
            Self::of_url(text).map_err(|error| error.context(format!("the build context `{}`", shown(text))))?;
        Ok(context.map(|context| match context {
            Self::Git(git) => Self::Git(Git { keep_git_dir: git.keep_git_dir || keep, ..git }),
            other => other,
        }))
    }

    /// What a URL stands for; nothing if it is none.
    pub(super) fn of_url(text: &str) -> Result<Option<Self>, CliError> {
        // Docker takes this for a repository whether it ends in `.git` or not.
        if let Some(rest) = text.strip_prefix("github.com/") {
            let (path, more) = rest.split_at(rest.find(['#', '?']).unwrap_or(rest.len()));
            let suffix = if path.ends_with(".git") { "" } else { ".git" };
            return Self::of_url(&format!("https://github.com/{path}{suffix}{more}"));
        }
        match parse_remote(text).transpose().map_err(CliError::user)? {
            None => Ok(None),
            Some(kiln_frontend::Remote::Git(reference)) => Ok(Some(Self::Git(git(reference)))),
            Some(kiln_frontend::Remote::Http { filename }) => {
                Ok(Some(Self::Http(Http { url: text.to_owned(), checksum: None, filename })))
            }
        }
    }

    /// What is shown while it is fetched.
    pub(super) fn title(&self, what: &str) -> String {
        match self {
            Self::Stdin => format!("[{what}] load build context from standard input"),
            Self::Git(_) => format!("[{what}] load git source {}", self.place()),
            Self::Http(_) => format!("[{what}] load remote build context {}", self.place()),
        }
    }

    /// Where it comes from, without passwords.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Stdin => "-".to_owned(),
            Self::Git(git) => {
                let reference = git.reference.as_ref().map(|reference| format!("#{reference}")).unwrap_or_default();
                format!("{}{reference}", shown(&git.remote))
            }
            Self::Http(http) => shown(&http.url),
        }
    }
}

fn git(reference: GitReference) -> Git {
    let GitReference { remote, reference, subdirectory, checksum, keep_git_dir, submodules } = reference;
    Git {
        remote,
        reference,
        subdirectory,
        checksum,
        keep_git_dir: keep_git_dir.unwrap_or(false),
        submodules: submodules.unwrap_or(true),
    }
}

/// How other machines are reached.
pub(super) fn settings(environment: &Environment) -> Remote {
    Remote { environment: environment.remote.clone(), ..Remote::default() }
}

/// Fetches the main context.
pub(super) fn fetch(
    context: &RemoteContext,
    request: &Request,
    environment: &Environment,
    work: &Work,
) -> Result<Fetched, CliError> {
    match context {
        RemoteContext::Stdin => from_stdin(request, environment, work),
        RemoteContext::Git(_) => {
            let root = fetch_tree(context, request, environment, work)?;
            Ok(Fetched { dockerfile: dockerfile_in(&root, request), root, unpacked: None })
        }
        RemoteContext::Http(http) => {
            let root = fetch_tree(context, request, environment, work)?;
            let file = root.join(&http.filename);
            if let Some(unpacked) = unpack(&file, request, environment, work)? {
                return Ok(of_archive(unpacked, request));
            }
            let bytes = read(&file, &http.filename)?;
            let dockerfile = DockerfileSource::Text { name: http.filename.clone(), bytes };
            Ok(Fetched { root, dockerfile, unpacked: None })
        }
    }
}

/// Fetches what a URL stands for; the directory that it is in.
pub(super) fn fetch_tree(
    context: &RemoteContext,
    request: &Request,
    environment: &Environment,
    work: &Work,
) -> Result<PathBuf, CliError> {
    let layer = with_sources(request, environment, work, |sources| match context {
        RemoteContext::Stdin => Ok(None),
        RemoteContext::Git(git) => {
            let Commit { layer, commit } = sources.git(git, &work.cancel)?;
            Ok(Some((layer, Some(Found::Commit(commit)))))
        }
        RemoteContext::Http(http) => {
            let layer = sources.http(http, &work.cancel)?;
            let found = Found::file(&layer);
            Ok(Some((layer, found)))
        }
    })?;
    let (layer, found) =
        layer.ok_or_else(|| CliError::usage("only the build context itself can come from standard input"))?;
    if let Some(found) = found {
        work.fetched.borrow_mut().push((context.clone(), found));
    }
    Ok(layer.mount_source().to_owned())
}

fn from_stdin(request: &Request, environment: &Environment, work: &Work) -> Result<Fetched, CliError> {
    let path = work.scratch.path().join("stdin");
    let failed = |error: std::io::Error| error::io("read standard input into", &path, &error);
    let mut file = std::fs::File::create_new(&path).map_err(failed)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file).and_then(|_| file.flush()).map_err(failed)?;
    if let Some(unpacked) = unpack(&path, request, environment, work)? {
        return Ok(of_archive(unpacked, request));
    }
    if request.file.is_some() {
        return Err(CliError::user(
            "standard input is no archive, so it is taken for the Dockerfile, and `-f` names another",
        )
        .hint("give the context as a tar archive, or leave `-f` away"));
    }
    let bytes = read(&path, "<stdin>")?;
    if bytes.is_empty() {
        return Err(CliError::user("standard input is empty: it has neither a context nor a Dockerfile"));
    }
    let unpacked = with_sources(request, environment, work, |sources| sources.empty())?;
    let dockerfile = DockerfileSource::Text { name: "<stdin>".to_owned(), bytes };
    Ok(Fetched { root: unpacked.path().to_owned(), dockerfile, unpacked: Some(unpacked) })
}

fn of_archive(unpacked: Unpacked, request: &Request) -> Fetched {
    let root = unpacked.path().to_owned();
    Fetched { dockerfile: dockerfile_in(&root, request), root, unpacked: Some(unpacked) }
}

/// The Dockerfile of a context from elsewhere. A path from the root is one of this machine.
fn dockerfile_in(root: &Path, request: &Request) -> DockerfileSource {
    match &request.file {
        Some(file) if file.is_absolute() => DockerfileSource::File(file.clone()),
        Some(file) => DockerfileSource::Within { root: root.to_owned(), path: file.clone() },
        None => {
            let path = default_dockerfile(root).file_name().map(PathBuf::from).unwrap_or_default();
            DockerfileSource::Within { root: root.to_owned(), path }
        }
    }
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>, CliError> {
    let file = std::fs::File::open(path).map_err(|error| error::io("open", path, &error))?;
    read_limited(name, file)
}

fn unpack(
    file: &Path,
    request: &Request,
    environment: &Environment,
    work: &Work,
) -> Result<Option<Unpacked>, CliError> {
    with_sources(request, environment, work, |sources| sources.unpack(file, &work.cancel))
}

fn with_sources<T>(
    request: &Request,
    environment: &Environment,
    work: &Work,
    fetch: impl FnOnce(&Sources<'_>) -> Result<T, SourceError>,
) -> Result<T, CliError> {
    let remote = settings(environment);
    let created = request.source_date_epoch.unwrap_or_else(std::time::SystemTime::now);
    let sources = Sources { store: &work.session.store, remote: &remote, created };
    fetch(&sources).map_err(|error| source_error(&error))
}

/// An error of fetching, what may help apart from the message.
fn source_error(error: &SourceError) -> CliError {
    let kind = match error {
        SourceError::Cancelled => return CliError::interrupted(),
        SourceError::Unreachable { .. } | SourceError::GitMissing { .. } | SourceError::Store(_) => Kind::Environment,
        _ => Kind::User,
    };
    let message = error::chain(error);
    let mut parts = message.split("\nhint: ");
    let mut cli = CliError::from_error(kind, error);
    cli.message = parts.next().unwrap_or_default().to_owned();
    parts.fold(cli, CliError::hint)
}
