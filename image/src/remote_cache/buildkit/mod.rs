//! BuildKit's cache: which keys it would give the steps of a build, and its records by them.
//!
//! | file | |
//! |---|---|
//! | `llb.rs` | its operations, `json.rs` as the bytes that it hashes, `dialect.rs` what differs from version to version |
//! | `exec.rs`, `file.rs`, `merge.rs` | steps as such operations, `operation.rs` what is common to them |
//! | `vertices.rs` | the keys of a whole build |
//! | `records.rs` | records by these keys, written and found |
//! | `config.rs` | the document that they are in |
//!
//! What BuildKit would do in another way has no key: it is never a hit, and nothing that hangs on it is.

mod config;
mod dialect;
mod exec;
mod file;
mod json;
mod llb;
mod merge;
mod operation;
mod records;
mod vertices;

pub(super) use config::{Config, ConfigLayer, ConfigRecord, Foreign, ForeignLayer, LayerAnnotations};
pub use operation::{Select, Selector};
pub(super) use records::{Record, find, records};
pub use vertices::{Contents, Vertices};

#[cfg(test)]
mod tests;
