//! The tests of lowering, from the outside. Most of them are files in `cases/`: see `golden.rs`.

mod golden;
mod images;
mod properties;
mod render;
mod resolving;
