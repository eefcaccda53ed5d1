//! What steps observed of their inputs, by key.

use std::time::SystemTime;

use kiln_solver::{Change, Digest, Key, Layer, Observation, Step};
use rusqlite::params;
use serde::{Deserialize, Serialize};

use crate::records::RecordedLayer;
use crate::{Store, StoreError, database, gc};

#[derive(Serialize, Deserialize)]
pub(crate) struct RecordedChange {
    base: Option<usize>,
    layers: Vec<RecordedLayer>,
}

/// How many observations are kept under one key: a step that looks at something new each time must not have all of
/// them checked each time.
const MOST_OBSERVATIONS: u32 = 16;

impl RecordedChange {
    /// The layers in the changes of a row; none where they cannot be understood.
    pub(crate) fn layers_in(changes: &str) -> Vec<Layer> {
        Self::chains_in(changes).into_iter().flatten().collect()
    }

    /// The same, those of each change by themselves.
    pub(crate) fn chains_in(changes: &str) -> Vec<Vec<Layer>> {
        let changes: Vec<Self> = serde_json::from_str(changes).unwrap_or_default();
        changes.into_iter().map(|change| change.layers.into_iter().map(Layer::from).collect()).collect()
    }
}

impl From<RecordedChange> for Change {
    fn from(change: RecordedChange) -> Self {
        Self { base: change.base, layers: change.layers.into_iter().map(Layer::from).collect() }
    }
}

impl Store {
    /// What steps with this key observed, the last first, as far as the layers that they made are here.
    pub(crate) fn observations(&self, key: &Key) -> Result<Vec<Observation>, StoreError> {
        let rows: Vec<(Vec<u8>, String)> = self.inner().database.read(|connection| {
            let select = "SELECT facts, changes FROM observations WHERE key = ?1 ORDER BY id DESC LIMIT ?2";
            let mut query = connection.prepare_cached(select)?;
            let rows =
                query.query_map(params![key.0.as_bytes(), MOST_OBSERVATIONS], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })?;
        let mut found = Vec::new();
        for (facts, changes) in rows {
            // As with records: what cannot be understood is not there.
            let Ok(changes) = serde_json::from_str::<Vec<RecordedChange>>(&changes) else { continue };
            let changes: Vec<Change> = changes.into_iter().map(Change::from).collect();
            let layers: Vec<Layer> = changes.iter().flat_map(|change| change.layers.iter().copied()).collect();
            if self.are_present(&layers)? {
                found.push(Observation { facts, changes });
            }
        }
        Ok(found)
    }

    /// What steps that did this observed, the newest of it, with the keys that it goes by; sorted. For telling others
    /// what this store knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn observations_of(&self, own: &Digest) -> Result<Vec<(Key, Observation)>, StoreError> {
        let mut rows: Vec<(Key, Vec<u8>, String)> = self.inner().database.read(|connection| {
            let select = "SELECT key, facts, changes FROM observations WHERE step = ?1 ORDER BY id DESC LIMIT ?2";
            let mut query = connection.prepare_cached(select)?;
            let row = |row: &rusqlite::Row<'_>| Ok((Key(database::digest(row, 0)?), row.get(1)?, row.get(2)?));
            query.query_map(params![own.as_bytes(), MOST_OBSERVATIONS], row)?.collect()
        })?;
        rows.sort();
        let observation = |(key, facts, changes): (Key, Vec<u8>, String)| {
            // As with records: what cannot be understood is not there.
            let changes = serde_json::from_str::<Vec<RecordedChange>>(&changes).ok()?;
            Some((key, Observation { facts, changes: changes.into_iter().map(Change::from).collect() }))
        };
        Ok(rows.into_iter().filter_map(observation).collect())
    }

    /// The same facts are remembered once, with what came of them last; the oldest ones beyond
    /// [`MOST_OBSERVATIONS`] are forgotten.
    pub(crate) fn put_observation(&self, key: &Key, step: &Step, observation: &Observation) -> Result<(), StoreError> {
        self.learn_observation(key, &step.own_digest(), &step.metadata.name, observation)
    }

    /// Remembers what a step observed, here or elsewhere.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn learn_observation(
        &self,
        key: &Key,
        own: &Digest,
        name: &str,
        observation: &Observation,
    ) -> Result<(), StoreError> {
        let change = |change: &Change| RecordedChange {
            base: change.base,
            layers: change.layers.iter().map(RecordedLayer::from).collect(),
        };
        let changes: Vec<RecordedChange> = observation.changes.iter().map(change).collect();
        let changes =
            serde_json::to_string(&changes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let saved = database::to_nanos(SystemTime::now());
        let (key, own, facts) = (key.0.as_bytes(), own.as_bytes(), &observation.facts);
        self.inner().database.write(|transaction| {
            let layers = observation.changes.iter().flat_map(|change| &change.layers);
            gc::pardon(transaction, layers.map(|layer| &layer.diff_id))?;
            transaction.execute("DELETE FROM observations WHERE key = ?1 AND facts = ?2", params![key, facts])?;
            transaction.execute(
                "INSERT INTO observations (key, facts, changes, step, name, saved) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![key, facts, changes, own, name, saved],
            )?;
            transaction.execute(
                "DELETE FROM observations WHERE key = ?1 AND id NOT IN
                    (SELECT id FROM observations WHERE key = ?1 ORDER BY id DESC LIMIT ?2)",
                params![key, MOST_OBSERVATIONS],
            )?;
            Ok(())
        })
    }
}
