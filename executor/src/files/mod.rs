//! File operations (`COPY`, `ADD`, `WORKDIR`), done on layers without mounting anything.

/// Why files could not be copied or made.
#[derive(Debug, thiserror::Error)]
pub enum FileError {}
