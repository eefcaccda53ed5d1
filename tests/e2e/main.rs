//! End-to-end tests over the real `kiln` binary: real registry, real namespaces, real files.
//!
//! One binary, a module per topic. They need root, and the programs that `make deps` installs.

mod bad_input;
mod caching;
mod config;
mod differential;
mod exporters;
mod failing;
mod flags;
mod images;
mod interrupted;
mod parallel;
mod registry;
mod rootless;
mod sandbox;
mod stages;
