//! End-to-end tests over the real `kiln` binary: real registry, real namespaces, real files.
//!
//! One binary, a module per topic. They need root, and the programs that `make deps` installs.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of this is tests, and what they call: a panic is how a failure is told"
)]

mod ahead;
mod archives;
mod attestations;
mod bad_input;
mod bombs;
mod caching;
mod carried_mounts;
mod chaos;
mod checks;
mod config;
mod contexts;
mod debug;
mod differential;
mod elsewhere;
mod engines;
mod exporters;
mod failing;
mod faults;
mod flags;
mod history;
mod hostile;
mod hostile_tar;
mod images;
mod imagetools;
mod interrupted;
mod language;
mod likeness;
mod limits;
mod mounts;
mod network;
mod observed_mounts;
mod odd;
mod oracle;
mod parallel;
mod platforms;
mod progress;
mod prune;
mod push;
mod registry;
mod reproducible;
mod rootless;
mod run;
mod sandbox;
mod stages;
mod unreliable;
