//! The tests of lowering, from the outside. Most of them are files in `cases/`: see `golden.rs`.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod golden;
mod growth;
mod images;
mod platforms;
mod properties;
mod render;
mod resolving;
mod scans;
