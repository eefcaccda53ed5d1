//! Carrying steps out: file operations, and commands in a sandbox.
//!
//! [`Executor`] is the solver's [`Worker`](kiln_solver::Worker). It reads build contexts ([`Context`]), copies
//! files into new layers without mounting anything, fetches what comes from afar ([`sources`]), and runs commands in a
//! namespaced [`sandbox`], each in a [`network`] of its own.
//!
//! **Invariant**: nothing here knows of Dockerfiles, registries or the command line, and nothing here reads the
//! environment or prints. A path that an image, a context or an archive gave is only ever resolved below the
//! root that it belongs to.

pub mod cgroup;
mod context;
mod credentials;
mod differences;
mod emulation;
mod error;
mod exec;
mod files;
pub mod network;
mod paths;
pub mod rootless;
pub mod sandbox;
pub mod sources;
pub mod trace;
mod worker;

pub use context::{Context, ContextError};
pub use credentials::Credentials;
pub use emulation::Interpreters;
pub use error::ExecutorError;
pub use exec::container::{Container, ContainerCommand};
pub use exec::limits::StepLimits;
pub use files::{FileError, Part, UnpackError};
pub use worker::{BoxError, Executor, ImageLayers, Settings};
