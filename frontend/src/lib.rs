//! From a parsed Dockerfile to a graph of steps and the config of an image, with the meaning that BuildKit's
//! Dockerfile frontend gives it.
//!
//! The way of [`lower`] (`lowering`): the stages as written (`stages`) and the global arguments (`args`); the
//! stages and what they copy from as nodes (`nodes`), with named contexts in their place (`contexts`); the nodes
//! that the target needs (`reach`) and their base images (`resolve`); then one stage after the other, one
//! instruction after the other (`stage`, and a file for each kind of instruction).
//!
//! **Invariant**: no I/O but what the caller's [`Resolver`] does, and nothing is run: the same Dockerfile,
//! options and base images always give the same graph.

mod args;
mod build;
pub mod checks;
mod command;
mod config;
mod confinement;
mod contexts;
mod copy;
mod csv;
mod duration;
mod environment;
mod findings;
mod go_format;
mod lowering;
mod modes;
mod mounts;
mod naming;
mod nodes;
mod options;
mod owner;
mod paths;
mod ports;
mod reach;
mod remote;
mod resolve;
mod resolver;
mod run;
mod scans;
mod signals;
mod stage;
mod stages;
mod state;
mod syntax;
mod triggers;
mod units;
mod workdir;

pub use build::Build;
pub use csv::fields as csv_fields;
pub use duration::parse as parse_duration;
pub use lowering::{lower, lower_onto};
pub use options::{Entitlement, NamedContext, NoCache, Options, Targeting};
pub use remote::{GitReference, Remote, parse as parse_remote};
pub use resolver::{BaseImage, Resolver};
pub use syntax::check_syntax;
pub use units::bytes as parse_bytes;
