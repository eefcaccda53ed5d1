//! What the end-to-end tests and the benchmarks share: a hermetic world to run `kiln` in, a real registry,
//! base images made from Debian packages, and the tools of others to check kiln's work with.
//!
//! Nothing here knows any crate of kiln: all of it goes through the command line and the files that come out.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "this crate is linked into tests and benchmarks alone, where a panic is how a failure is told"
)]

pub mod actions;
pub mod bases;
pub mod bucket;
pub mod buildah;
pub mod command;
pub mod compare;
pub mod disk;
pub mod emulation;
pub mod image;
pub mod layout;
pub mod podman;
pub mod progress;
pub mod proxy;
pub mod registry;
pub mod run;
pub mod sleeper;
pub mod terminal;
pub mod tree;
pub mod users;
pub mod web;
pub mod world;

pub use disk::Disk;
pub use image::Image;
pub use progress::Progress;
pub use tree::{Kind, Node, Tree};
pub use web::Web;
pub use world::{Kiln, Outcome, Project, World};
