//! The sandbox that commands run in.

/// Where commands run.
pub struct Sandbox {}
