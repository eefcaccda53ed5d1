//! The steps that were carried out last, for telling why the next one was not found in the cache.

use std::time::SystemTime;

use kiln_solver::{Digest, Output, Past, Properties, Record, Step, Taken, properties};
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::records::RecordedOutput;
use crate::{Store, StoreError, database};

#[derive(Serialize, Deserialize)]
struct RecordedStep {
    properties: Properties,
    inputs: Vec<RecordedInput>,
    outputs: Vec<RecordedOutput>,
}

#[derive(Serialize, Deserialize)]
struct RecordedInput {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    identity: String,
    content: Option<Digest>,
    output: RecordedOutput,
}

impl From<&Record<'_>> for RecordedStep {
    fn from(record: &Record<'_>) -> Self {
        let input = |taken: &Taken| RecordedInput {
            name: taken.name.clone(),
            identity: taken.identity.clone(),
            content: taken.content,
            output: RecordedOutput::from(&taken.output),
        };
        Self {
            properties: properties(&record.step.operation),
            inputs: record.inputs.iter().map(input).collect(),
            outputs: record.outputs.iter().map(RecordedOutput::from).collect(),
        }
    }
}

impl RecordedStep {
    fn into_past(self, same_definition: bool) -> Past {
        let taken = |input: RecordedInput| Taken {
            name: input.name,
            identity: input.identity,
            content: input.content,
            output: input.output.into(),
        };
        Past {
            same_definition,
            properties: self.properties,
            inputs: self.inputs.into_iter().map(taken).collect(),
            outputs: self.outputs.into_iter().map(Output::from).collect(),
        }
    }
}

/// Remembers a step in the place of what was remembered of the same one.
pub(crate) fn put(transaction: &Transaction<'_>, own: &Digest, record: &Record<'_>) -> Result<(), StoreError> {
    let detail = serde_json::to_string(&RecordedStep::from(record))
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let insert = "INSERT OR REPLACE INTO steps (own, likeness, detail, saved) VALUES (?1, ?2, ?3, ?4)";
    let saved = database::to_nanos(SystemTime::now());
    let mut insert = transaction.prepare_cached(insert)?;
    insert.execute(params![own.as_bytes(), record.step.metadata.likeness(), detail, saved])?;
    Ok(())
}

impl Store {
    /// The last step that did the same as this one; else the last that is like it.
    pub(crate) fn nearest_step(&self, step: &Step) -> Result<Option<Past>, StoreError> {
        let own = step.own_digest();
        let detail = |row: &Row<'_>| row.get::<_, String>(0);
        let (same, detail) = self.inner().database.read(|connection| {
            let mut query = connection.prepare_cached("SELECT detail FROM steps WHERE own = ?1")?;
            if let Some(same) = query.query_row([own.as_bytes()], detail).optional()? {
                return Ok((true, Some(same)));
            }
            let mut query = connection
                .prepare_cached("SELECT detail FROM steps WHERE likeness = ?1 ORDER BY saved DESC LIMIT 1")?;
            Ok((false, query.query_row([step.metadata.likeness()], detail).optional()?))
        })?;
        // What cannot be understood is not there.
        let recorded = detail.and_then(|detail| serde_json::from_str::<RecordedStep>(&detail).ok());
        Ok(recorded.map(|recorded| recorded.into_past(same)))
    }
}
