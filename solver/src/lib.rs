//! The step graph and the engine that solves it.
//!
//! This crate owns the vocabulary that every other crate speaks: [`Digest`], [`Platform`], [`Step`] and its
//! [`Operation`], the [`Graph`] of steps, and the traits by which the solver reaches the outside:
//! [`Worker`] carries a step out, [`Records`] remembers what it produced, [`Observer`] is told what happens.
//!
//! **Invariant**: nothing here does I/O, knows Linux or knows OCI. A [`Layer`] is a digest and nothing more.

mod cancel;
mod digest;
mod encode;
mod explain;
mod graph;
mod key;
mod mode;
mod observation;
mod platform;
mod solve;
mod step;
mod traits;

pub use cancel::{Cancel, CancelHook};
pub use digest::{Digest, Hasher, ParseDigestError};
pub use explain::{Past, Properties, Reason, Taken, properties};
pub use graph::{Graph, StepId};
pub use key::Key;
pub use mode::{FileMode, ModeChanges, ParseModeError};
pub use observation::{Change, Made, Mismatch, Observation};
pub use platform::{ParsePlatformError, Platform};
pub use solve::{SolveError, solve};
pub use step::{
    CopyAction, Credential, Exec, FileAction, FileActionKind, Git, Host, Http, IgnoreCache, Input, Limits, Metadata,
    MkdirAction, MkfileAction, Mount, MountKind, Network, Operation, Owner, SecretEnv, Security, Sharing, Source,
    SourceSpan, Step, Ulimit, UserRef,
};
pub use traits::{Hit, Job, Layer, LogStream, Observer, Origin, Output, Record, Records, StepError, Worker};
