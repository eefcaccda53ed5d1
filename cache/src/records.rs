//! What steps produced, by key.

use std::sync::PoisonError;
use std::time::SystemTime;

use kiln_solver::{Digest, Key, Layer, Observation, Origin, Output, Past, Record, Records, Step, StepError};
use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, database, gc, past};

/// How many keys of one result others are told.
const MOST_KEYS: u32 = 16;

/// A layer in a record.
#[derive(Serialize, Deserialize)]
pub(crate) struct RecordedLayer {
    diff_id: Digest,
    origin: RecordedOrigin,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordedOrigin {
    Built,
    Image,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecordedOutput {
    Layers(Vec<RecordedLayer>),
    Local(String),
}

impl From<&Layer> for RecordedLayer {
    fn from(layer: &Layer) -> Self {
        let origin = match layer.origin {
            Origin::Built => RecordedOrigin::Built,
            Origin::Image => RecordedOrigin::Image,
        };
        Self { diff_id: layer.diff_id, origin }
    }
}

impl From<RecordedLayer> for Layer {
    fn from(layer: RecordedLayer) -> Self {
        let origin = match layer.origin {
            RecordedOrigin::Built => Origin::Built,
            RecordedOrigin::Image => Origin::Image,
        };
        Self { diff_id: layer.diff_id, origin }
    }
}

impl From<&Output> for RecordedOutput {
    fn from(output: &Output) -> Self {
        match output {
            Output::Layers(layers) => Self::Layers(layers.iter().map(RecordedLayer::from).collect()),
            Output::Local(name) => Self::Local(name.clone()),
        }
    }
}

impl RecordedOutput {
    /// The layers in the outputs of a row; none where they cannot be understood.
    pub(crate) fn layers_in(outputs: &str) -> Vec<Layer> {
        Self::chains_in(outputs).into_iter().flatten().collect()
    }

    /// The same, those of each output by themselves.
    pub(crate) fn chains_in(outputs: &str) -> Vec<Vec<Layer>> {
        let outputs: Vec<Self> = serde_json::from_str(outputs).unwrap_or_default();
        let chains = outputs.into_iter().filter_map(|output| match output {
            Self::Layers(layers) => Some(layers.into_iter().map(Layer::from).collect()),
            Self::Local(_) => None,
        });
        chains.collect()
    }
}

impl From<RecordedOutput> for Output {
    fn from(output: RecordedOutput) -> Self {
        match output {
            RecordedOutput::Layers(layers) => Self::Layers(layers.into_iter().map(Layer::from).collect()),
            RecordedOutput::Local(name) => Self::Local(name),
        }
    }
}

/// The layers of outputs.
fn layers_of(outputs: &[Output]) -> impl Iterator<Item = &Digest> {
    let trees = outputs.iter().filter_map(|output| match output {
        Output::Layers(layers) => Some(layers),
        Output::Local(_) => None,
    });
    trees.flatten().map(|layer| &layer.diff_id)
}

/// Outputs as a column of the database has them.
fn to_text(outputs: &[Output]) -> rusqlite::Result<String> {
    let outputs: Vec<RecordedOutput> = outputs.iter().map(RecordedOutput::from).collect();
    serde_json::to_string(&outputs).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

impl Store {
    fn find_record(&self, key: &Key) -> Result<Option<Vec<Output>>, StoreError> {
        let text: Option<String> = self.inner().database.read(|connection| {
            let mut query = connection.prepare_cached("SELECT outputs FROM records WHERE key = ?1")?;
            query.query_row([key.0.as_bytes()], |row| row.get(0)).optional()
        })?;
        // A record that cannot be understood is none: the step runs again.
        let Some(outputs) = text.and_then(|text| serde_json::from_str::<Vec<RecordedOutput>>(&text).ok()) else {
            return Ok(None);
        };
        let outputs: Vec<Output> = outputs.into_iter().map(Output::from).collect();
        for output in &outputs {
            if let Output::Layers(layers) = output
                && !self.are_present(layers)?
            {
                return Ok(None);
            }
        }
        Ok(Some(outputs))
    }

    /// The other keys under which steps that did this and came to this are recorded, the newest of them, sorted: for
    /// telling others what this store knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn keys_of(&self, own: &Digest, outputs: &[Output]) -> Result<Vec<Key>, StoreError> {
        let outputs = to_text(outputs)?;
        let mut keys: Vec<Key> = self.inner().database.read(|connection| {
            let select = "SELECT key FROM records WHERE step = ?1 AND outputs = ?2 ORDER BY id DESC LIMIT ?3";
            let mut query = connection.prepare_cached(select)?;
            let parameters = params![own.as_bytes(), outputs, MOST_KEYS];
            query.query_map(parameters, |row| database::digest(row, 0).map(Key))?.collect()
        })?;
        keys.sort();
        Ok(keys)
    }

    /// Whether every layer that only running a step again would bring back is here, or promised.
    pub(crate) fn are_present(&self, layers: &[Layer]) -> Result<bool, StoreError> {
        for layer in layers.iter().filter(|layer| layer.origin == Origin::Built) {
            if !self.is_present(&layer.diff_id)? && self.promise(&layer.diff_id).is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a layer is here; asks the disk once.
    fn is_present(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let is_known = self.inner().present.lock().unwrap_or_else(PoisonError::into_inner).contains(diff_id);
        Ok(is_known || self.has_layer(diff_id)?)
    }

    fn save_record(&self, keys: &[Key], record: &Record<'_>) -> Result<(), StoreError> {
        let (own, name) = (record.step.own_digest(), &record.step.metadata.name);
        self.inner().database.write(|transaction| {
            past::put(transaction, &own, record)?;
            self.insert(transaction, keys, &own, name, record.outputs)
        })
    }

    /// Remembers what a step came to that was carried out elsewhere, under each of these keys.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn learn_record(&self, keys: &[Key], own: &Digest, name: &str, outputs: &[Output]) -> Result<(), StoreError> {
        self.inner().database.write(|transaction| self.insert(transaction, keys, own, name, outputs))
    }

    fn insert(
        &self,
        transaction: &Transaction<'_>,
        keys: &[Key],
        own: &Digest,
        name: &str,
        outputs: &[Output],
    ) -> Result<(), StoreError> {
        gc::pardon(transaction, layers_of(outputs))?;
        let text = to_text(outputs)?;
        let saved = database::to_nanos(SystemTime::now());
        let insert = "INSERT OR REPLACE INTO records (key, step, name, outputs, saved, boot)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = transaction.prepare_cached(insert)?;
        for key in keys {
            insert.execute(params![key.0.as_bytes(), own.as_bytes(), name, text, saved, self.inner().boot])?;
        }
        Ok(())
    }
}

impl Records for Store {
    /// Every layer that a step made must be here; those of images can be fetched again.
    fn find(&self, key: &Key) -> Result<Option<Vec<Output>>, StepError> {
        self.find_record(key).map_err(StepError::other)
    }

    fn save(&self, keys: &[Key], record: &Record<'_>) -> Result<(), StepError> {
        self.save_record(keys, record).map_err(StepError::other)
    }

    fn nearest(&self, step: &Step) -> Result<Option<Past>, StepError> {
        self.nearest_step(step).map_err(StepError::other)
    }

    fn find_observations(&self, key: &Key) -> Result<Vec<Observation>, StepError> {
        self.observations(key).map_err(StepError::other)
    }

    fn save_observation(&self, key: &Key, step: &Step, observation: &Observation) -> Result<(), StepError> {
        self.put_observation(key, step, observation).map_err(StepError::other)
    }
}
