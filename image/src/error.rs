//! What can go wrong with images.

use std::io;
use std::path::{Path, PathBuf};

use kiln_cache::{StoreError, ViewError};
use kiln_solver::{Digest, Platform};

use crate::reference::ParseReferenceError;

/// Why something could not be done with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A reference breaks the grammar.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// An `oci-layout://` location breaks the grammar.
    #[error("invalid image location `{text}`: {reason}")]
    Location {
        /// As written.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The build was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree of an image could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The operating system refused something.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, such as `create`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Standard output, or whatever else the caller passed in, does not take any more.
    #[error("cannot write the exported archive: {0}")]
    Output(#[source] io::Error),
    /// A registry could not be talked to.
    #[error("cannot reach registry `{registry}`: {reason}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// Why not, in the words of the network stack.
        reason: String,
    },
    /// A container engine could not be talked to, or refused what it was given.
    #[error("the container engine at `{daemon}` failed: {reason}")]
    Daemon {
        /// Where it listens.
        daemon: String,
        /// What it said, or why it said nothing.
        reason: String,
    },
    /// A registry stopped in the middle.
    #[error("registry `{registry}` stopped sending {what} after {received} of {expected} bytes")]
    Truncated {
        /// Host and port.
        registry: String,
        /// `blob sha256:…`
        what: String,
        /// How many bytes came.
        received: u64,
        /// How many were promised.
        expected: u64,
    },
    /// A registry wants other credentials, or any.
    #[error("registry `{registry}` refused access to `{repository}` ({status}): {hint}")]
    Denied {
        /// Host and port.
        registry: String,
        /// The repository asked for.
        repository: String,
        /// The HTTP status.
        status: u16,
        /// What to do about it.
        hint: String,
    },
    /// A registry did not take the credentials that it was shown.
    #[error("registry `{registry}` did not accept the user name and password ({status})")]
    Login {
        /// Host and port.
        registry: String,
        /// The HTTP status.
        status: u16,
    },
    /// There is no such tag, manifest or repository.
    #[error("`{reference}` does not exist: registry `{registry}` has no such {what}")]
    NotFound {
        /// What was asked for.
        reference: String,
        /// Host and port.
        registry: String,
        /// `tag 1.0`, `manifest sha256:…` or `blob sha256:…`
        what: String,
    },
    /// A registry answered with an error, again and again where that was worth a try.
    #[error("registry `{registry}` answered {status} to {method} {url}{detail}")]
    Status {
        /// Host and port.
        registry: String,
        /// The HTTP method.
        method: &'static str,
        /// Where, without credentials and query.
        url: String,
        /// The HTTP status, with its reason.
        status: String,
        /// What the registry said about it, `: …`, or nothing.
        detail: String,
    },
    /// A registry answered with something that is not in its protocol.
    #[error("registry `{registry}` broke the protocol: {reason}")]
    Protocol {
        /// Host and port.
        registry: String,
        /// How.
        reason: String,
    },
    /// Settings of a registry cannot be used.
    #[error("cannot use the settings of registry `{registry}`: {reason}")]
    RegistrySettings {
        /// Host and port.
        registry: String,
        /// Why not.
        reason: String,
    },
    /// Credentials could not be had.
    #[error("cannot get credentials for `{registry}`: {reason}")]
    Credentials {
        /// Host and port.
        registry: String,
        /// Why not; never a secret.
        reason: String,
    },
    /// A file with credentials is malformed. What it says there is not told: it may be secret.
    #[error("`{}` is malformed at line {line}, column {column}", path.display())]
    CredentialFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// The column, from 1 on.
        column: usize,
    },
    /// Bytes do not have the digest that they were asked for by.
    #[error("{what} from `{source_name}` is corrupted: expected `{expected}`, got `{found}`")]
    WrongDigest {
        /// `manifest`, `config` or `blob`.
        what: &'static str,
        /// The registry or layout that they came from.
        source_name: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Bytes are not as many as their descriptor says.
    #[error("{what} `{digest}` from `{source_name}` has {found} bytes instead of {expected}")]
    WrongSize {
        /// `manifest`, `config` or `blob`.
        what: &'static str,
        /// The registry or layout that they came from.
        source_name: String,
        /// Its digest.
        digest: Digest,
        /// The size promised.
        expected: u64,
        /// The size it has, or the least that it has.
        found: u64,
    },
    /// A document is larger than kiln takes.
    #[error("{what} of `{name}` is larger than {limit} bytes")]
    TooLarge {
        /// `manifest` or `config`.
        what: &'static str,
        /// Of which image.
        name: String,
        /// The most allowed.
        limit: u64,
    },
    /// A document is not what it should be.
    #[error("{what} of `{name}` is malformed: {reason}")]
    Malformed {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// Of which image.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A document of a kind that kiln does not read.
    #[error("`{name}` is not an image that kiln can use: {what} has media type `{media_type}`")]
    MediaType {
        /// Which image.
        name: String,
        /// `its manifest`, `its config` or `layer 3`
        what: String,
        /// The media type.
        media_type: String,
    },
    /// An index has nothing for the platform.
    #[error("`{name}` has no image for platform `{platform}`; it has {}", list(available))]
    Platform {
        /// Which image.
        name: String,
        /// The platform asked for.
        platform: Box<Platform>,
        /// What there is.
        available: Vec<String>,
    },
    /// An OCI layout does not have what was asked for.
    #[error("OCI layout `{}` has no image `{wanted}`; it has {}", path.display(), list(available))]
    NotInLayout {
        /// The directory.
        path: PathBuf,
        /// The tag or digest asked for.
        wanted: String,
        /// The tags and digests that are there.
        available: Vec<String>,
    },
    /// A directory is no OCI layout.
    #[error("`{}` is not an OCI layout: {reason}", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An archive of images is none, or a broken one.
    #[error("cannot load images from `{name}`: {reason}")]
    ImageArchive {
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer `{digest}` from `{source_name}`: {reason}")]
    Unpack {
        /// The blob.
        digest: Digest,
        /// Where it came from.
        source_name: String,
        /// Why not.
        reason: Box<StoreError>,
    },
    /// A layer is neither here nor is it known where to fetch it.
    #[error("layer `{0}` is not in the store and it is not known where it came from; pull its image again (`--pull`)")]
    LostLayer(Digest),
    /// A config or manifest that the store should have is not there.
    #[error("{what} `{digest}` is not in the store; pull or build its image again")]
    LostBlob {
        /// `config` or `manifest`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// Annotations were given that only an index can have.
    #[error("annotations of an index need one, and an image for one platform has none")]
    NoIndex,
    /// Files of several images were to be written to one place, and more than one of them has this one.
    #[error("more than one platform has a file `{}`, and only one can be written\nhint: leave `platform-split=false` out: then each platform gets a directory of its own", .0.escape_ascii())]
    Overlap(Vec<u8>),
    /// No image of the store has this name or id.
    #[error("no image `{0}` in the store")]
    NoImage(String),
    /// More than one image has an id that starts like this.
    #[error("image id `{0}` is ambiguous: more than one starts like this")]
    AmbiguousId(String),
    /// The file system below a destination does not fit what is exported.
    #[error("cannot export `{}`: {reason}", path.display())]
    Export {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A thread could not be started or died.
    #[error("cannot {0}")]
    Thread(&'static str),
}

impl ImageError {
    /// Wraps an error of the operating system; to be used with `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
