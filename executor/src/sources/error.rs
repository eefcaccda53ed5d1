//! What can go wrong while things are brought from afar. URLs in these are without their secrets.

use std::io;
use std::path::PathBuf;

use kiln_cache::StoreError;
use kiln_solver::Digest;

use crate::FileError;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Not a URL that can be fetched.
    #[error("`{url}` cannot be fetched: {reason}")]
    BadUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot be talked to.
    #[error("cannot fetch `{url}`: {reason}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The server does not give the file.
    #[error("cannot fetch `{url}`: the server answered {status}{}", status_hint(*.code))]
    Status {
        /// The URL.
        url: String,
        /// The status, in words.
        status: String,
        /// The status, as a number.
        code: u16,
    },
    /// The file is another than the one that is asked for.
    #[error("`{url}` is not what `--checksum` says: expected `{expected}`, but it is `{found}`")]
    Checksum {
        /// The URL.
        url: String,
        /// What it was to be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// The file would have no usable name.
    #[error("the file of `{url}` cannot be named `{name}`")]
    BadName {
        /// The URL.
        url: String,
        /// The name.
        name: String,
    },
    /// There is no git program.
    #[error(
        "cannot fetch the git repository `{remote}`: the program `git` is not installed\n\
         hint: install it, with `apt-get install git` for example"
    )]
    GitMissing {
        /// The repository.
        remote: String,
    },
    /// There is no such repository, or it is not for everybody's eyes.
    #[error("cannot fetch the git repository `{remote}`: it was not found: {reason}")]
    RepositoryNotFound {
        /// The repository.
        remote: String,
        /// What git said.
        reason: String,
    },
    /// The server wants to know who asks.
    #[error(
        "cannot fetch the git repository `{remote}`: it needs authentication: {reason}\n\
         hint: give it over ssh with a key in the agent (`git@host:path`), or check that the address is right"
    )]
    Authentication {
        /// The repository.
        remote: String,
        /// What git said.
        reason: String,
    },
    /// A transport that is not allowed.
    #[error(
        "cannot fetch the git repository `{remote}`: {reason}\n\
         hint: `http`, `https`, `ssh` and `git` are; `GIT_ALLOW_PROTOCOL` can name others"
    )]
    Protocol {
        /// The repository.
        remote: String,
        /// What git said.
        reason: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("the git repository `{remote}` has no {what}")]
    ReferenceNotFound {
        /// The repository.
        remote: String,
        /// What was looked for.
        what: String,
    },
    /// The commit is another than the one that is asked for.
    #[error(
        "`{reference}` of `{remote}` is not the commit that the checksum says: expected `{expected}`, but it is `{found}`"
    )]
    CommitChecksum {
        /// The repository.
        remote: String,
        /// The branch or tag.
        reference: String,
        /// What it was to be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The directory that is to be the root is not one.
    #[error("`{subdirectory}` is not a directory of `{remote}` at commit `{commit}`")]
    Subdirectory {
        /// The repository.
        remote: String,
        /// The directory.
        subdirectory: String,
        /// The commit.
        commit: String,
    },
    /// Any other failure of git.
    #[error("cannot fetch the git repository `{remote}`: `git {command}` failed: {reason}")]
    Git {
        /// The repository.
        remote: String,
        /// What git was to do.
        command: String,
        /// What it said.
        reason: String,
    },
    /// Something on this machine failed.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Local {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An archive could not be unpacked.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread could not be started, or died.
    #[error("cannot {0}")]
    Thread(&'static str),
    /// The build was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn status_hint(code: u16) -> &'static str {
    match code {
        401 | 403 | 407 => "\nhint: it needs authentication, or a proxy refuses it",
        404 | 410 => "\nhint: check that the address is right",
        _ => "",
    }
}
