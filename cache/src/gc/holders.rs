//! Who holds what of the store: images, and what is remembered of steps.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kiln_solver::{Digest, Layer};

use super::Held;
use crate::observations::RecordedChange;
use crate::records::RecordedOutput;
use crate::{Store, StoreError, database};

/// Who holds which layers and blobs, and where layers lie and come from.
#[derive(Default)]
pub(super) struct Holders {
    pub(super) layers: HashMap<Digest, Vec<Held>>,
    pub(super) blobs: HashMap<Digest, Vec<Held>>,
    /// What lies right below each layer.
    pub(super) parents: HashMap<Digest, BTreeSet<Digest>>,
    /// The steps that made layers.
    pub(super) makers: HashMap<Digest, String>,
}

impl Holders {
    fn note_parents(&mut self, chain: &[Layer]) {
        for (below, above) in chain.iter().zip(chain.iter().skip(1)) {
            self.parents.entry(above.diff_id).or_default().insert(below.diff_id);
        }
    }
}

impl Store {
    pub(super) fn holders(&self) -> Result<Holders, StoreError> {
        let mut layers: BTreeMap<Digest, BTreeSet<Held>> = BTreeMap::new();
        let mut holders = Holders::default();
        for (name, image) in self.images()? {
            let held = Held::Image(name);
            for document in image.documents() {
                let holders = holders.blobs.entry(document).or_default();
                if !holders.contains(&held) {
                    holders.push(held.clone());
                }
            }
            for chain in image.chains() {
                holders.note_parents(chain);
            }
            for layer in image.all_layers() {
                layers.entry(layer.diff_id).or_default().insert(held.clone());
            }
        }
        for (name, chain) in self.remembered()? {
            holders.note_parents(&chain);
            if let Some(top) = chain.last() {
                holders.makers.entry(top.diff_id).or_insert_with(|| name.clone());
            }
            for layer in chain {
                layers.entry(layer.diff_id).or_default().insert(Held::Step(name.clone()));
            }
        }
        for (diff_id, held) in layers {
            holders.layers.insert(diff_id, held.into_iter().collect());
        }
        // Whoever exports an image may have to fetch a layer of its base first, and so has to know from where.
        for (diff_id, blob) in self.origins()? {
            if let Some(held) = holders.layers.get(&diff_id) {
                let images = held.iter().filter(|held| matches!(held, Held::Image(_)));
                holders.blobs.entry(blob).or_default().extend(images.cloned());
            }
        }
        for (diff_id, blob) in self.all_layer_blobs()? {
            if let Some(held) = holders.layers.get(&diff_id) {
                let images = held.iter().filter(|held| matches!(held, Held::Image(_)));
                holders.blobs.entry(blob).or_default().extend(images.cloned());
            }
        }
        Ok(holders)
    }

    /// The names of the steps that are remembered, with the layers that they made or would be found by: each output by
    /// itself, the lowest layer first.
    fn remembered(&self) -> Result<Vec<(String, Vec<Layer>)>, StoreError> {
        let texts = |query: &str| {
            self.inner().database.read(|connection| {
                let mut query = connection.prepare(query)?;
                let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
        };
        let mut all = Vec::new();
        for (name, outputs) in texts("SELECT name, outputs FROM records")? {
            all.extend(RecordedOutput::chains_in(&outputs).into_iter().map(|chain| (name.clone(), chain)));
        }
        for (name, changes) in texts("SELECT name, changes FROM observations")? {
            all.extend(RecordedChange::chains_in(&changes).into_iter().map(|chain| (name.clone(), chain)));
        }
        Ok(all)
    }

    /// Which blobs are compressed layers, and of which layer.
    pub(super) fn all_layer_blobs(&self) -> Result<Vec<(Digest, Digest)>, StoreError> {
        self.inner().database.read(|connection| {
            let mut query = connection.prepare("SELECT diff_id, digest FROM layer_blobs")?;
            let rows = query.query_map([], |row| Ok((database::digest(row, 0)?, database::digest(row, 1)?)))?;
            rows.collect()
        })
    }
}
