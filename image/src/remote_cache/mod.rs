//! Caches elsewhere: what steps came to, told to other machines (`--cache-to`) and taken from them (`--cache-from`).
//!
//! What is told is a [`ledger`]: of each step the keys that it goes by, what it observed, and the layers that it came
//! to, each with its blob, its diffID, and the digest of its content. [`gather`] writes it from what the store and the
//! caches that were read know, [`wrap`] puts it, and the blobs, into the documents of a BuildKit cache, with records by
//! BuildKit's own keys ([`buildkit`]); [`place`] sends those to a directory, a registry, a bucket ([`shelf`]) or the cache
//! of GitHub Actions ([`actions`]); inside an image it is [`inline`]. On the other side [`import`] reads a ledger, or the
//! records of a cache that BuildKit wrote ([`foreign`]), and [`lookup`] answers the solver where the store knows nothing.
//!
//! No layer is fetched before something needs its files or bytes: the store is promised it
//! ([`kiln_cache::Promise`]), and holds whoever sends it to that.

mod actions;
mod buildkit;
mod foreign;
mod gather;
mod import;
mod inline;
mod ledger;
mod lookup;
mod place;
mod shelf;
mod wrap;

pub use actions::Actions;
pub use buildkit::{Contents, Select, Selector, Vertices};
pub use gather::{Gathered, Mode, gather};
pub use import::{Cache, ImportPlace, import};
pub use inline::{inline, remove_inline};
pub use lookup::CachedRecords;
pub use place::{ExportPlace, export};
pub use shelf::{Shelf, ShelfOptions};
pub use wrap::ExportOptions;
