//! End-to-end tests over the real `kiln` binary: real registry, real namespaces, real files.

mod differential;
mod hello;
