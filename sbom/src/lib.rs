//! Software bills of materials: which packages the tree of an image has, and an SPDX document that says so.
//!
//! [`Inventory::of`] goes through a tree once. What belongs to the operating system comes from the databases of its
//! package manager (`system/`), what belongs to a language from lock files and from the metadata of what is installed
//! (`language/`). [`spdx`] writes what was found down. Nothing of the image is run.
//!
//! **Invariant**: a pure function of the tree; a file that cannot be understood is a [`Problem`], never a panic and
//! never the end.

mod inventory;
mod language;
mod package;
mod release;
pub mod spdx;
mod system;
#[cfg(test)]
mod testing;

pub use inventory::{Inventory, Problem};
pub use package::{Ecosystem, Package};
pub use release::Release;
