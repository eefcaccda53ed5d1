//! Everything OCI: image configs and manifests, references, registries, layouts and exporters.
//!
//! A code map, along the way of a base image through a build: [`Reference`] says which image, [`Images`] finds
//! it (in the store, in an OCI layout or at a registry, as [`Configuration`] and [`Credentials`] say) and
//! brings its layers into the store when something needs them; [`assemble`] makes the config of the image that
//! was built; [`export`] writes it out, [`push`] sends it to registries, and [`remote_cache`]
//! shares what steps came to with other machines. [`spec`] holds the documents that all of them speak.
//!
//! **Invariant**: nothing here prints, reads the environment or knows the home directory, and no TLS client and
//! no thread is made before a byte has to come from a network.

mod actions;
mod assemble;
pub mod attest;
mod azure;
mod bucket;
mod choose;
pub mod configuration;
mod credentials;
pub mod daemon;
mod documents;
mod error;
pub mod export;
#[cfg(test)]
mod fixture;
mod images;
pub mod imagetools;
pub mod inspect;
mod layout;
mod location;
mod parallel;
pub mod push;
pub mod reference;
mod registry;
pub mod remote_cache;
pub mod spec;
pub mod transfer;

pub use actions::ActionsSettings;
pub use assemble::{Assembled, LayerNotes, assemble, clamp, estargz};
pub use bucket::{AwsSurroundings, BucketLogin, BucketSettings, Keys, WebIdentity};
pub use configuration::{Configuration, Dns};
pub use credentials::{Credentials, Login, Secret, Stored};
pub use error::ImageError;
pub use images::load;
pub use images::{Images, Pull, Pulled, Resolved, Settings};
pub use location::{LayoutLocation, Location};
pub use reference::{ParseReferenceError, Reference};
pub use registry::{Patience, verify, verify_kept};
