//! Whether what rows refer to is here.

use std::collections::HashSet;

use kiln_solver::{Digest, Layer, Origin};
use rusqlite::{Connection, Transaction};

use super::Problem;
use crate::observations::RecordedChange;
use crate::records::RecordedOutput;
use crate::{StoreError, images};

/// Reads the layers out of a column.
type LayersIn = fn(&str) -> Vec<Layer>;

/// What was found.
#[derive(Default)]
pub(super) struct References {
    pub(super) problems: Vec<Problem>,
    pub(super) records: usize,
    pub(super) images: usize,
}

/// A row that refers to layers.
struct Referring {
    table: &'static str,
    row: i64,
    name: String,
    layers: Vec<Layer>,
}

impl Referring {
    /// The first layer that only running a step again would bring back, and that is not among these.
    fn missing(&self, present: &HashSet<Digest>) -> Option<Digest> {
        let built = self.layers.iter().filter(|layer| layer.origin == Origin::Built);
        built.map(|layer| layer.diff_id).find(|layer| !present.contains(layer))
    }
}

pub(super) fn check(connection: &Connection) -> Result<References, StoreError> {
    let present = digests(connection, "SELECT diff_id FROM layers")?;
    let blobs = digests(connection, "SELECT digest FROM blobs")?;
    let mut found = References::default();
    for referring in referring(connection)? {
        found.records += 1;
        let Some(layer) = referring.missing(&present) else { continue };
        let name = referring.name;
        found.problems.push(match referring.table {
            "records" => Problem::Record { name, layer },
            _ => Problem::Observation { name, layer },
        });
    }
    for (name, image) in images::all(connection)? {
        found.images += 1;
        let is_lost = |layer: &&Layer| layer.origin == Origin::Built && !present.contains(&layer.diff_id);
        let lost = image.all_layers().find(is_lost);
        if let Some(config) = image.configs().find(|config| !blobs.contains(config)) {
            found.problems.push(Problem::Image { name, what: format!("blob `{config}`") });
        } else if let Some(layer) = lost {
            found.problems.push(Problem::Image { name, what: format!("layer `{}`", layer.diff_id) });
        }
    }
    Ok(found)
}

/// Drops the records and observations that need a layer that is not here.
pub(crate) fn drop_dependents(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let present = digests(transaction, "SELECT diff_id FROM layers")?;
    for referring in referring(transaction)? {
        if referring.missing(&present).is_some() {
            transaction.execute(&format!("DELETE FROM {} WHERE id = ?1", referring.table), [referring.row])?;
        }
    }
    Ok(())
}

/// Records and observations. What cannot be understood refers to nothing, and counts for nothing.
fn referring(connection: &Connection) -> Result<Vec<Referring>, StoreError> {
    let mut found = Vec::new();
    let queries: [(_, _, LayersIn); 2] = [
        ("records", "SELECT id, name, outputs FROM records", RecordedOutput::layers_in),
        ("observations", "SELECT id, name, changes FROM observations", RecordedChange::layers_in),
    ];
    for (table, query, layers_in) in queries {
        let mut query = connection.prepare(query)?;
        let rows = query.query_map([], |row| {
            let text: String = row.get(2)?;
            Ok(Referring { table, row: row.get(0)?, name: row.get(1)?, layers: layers_in(&text) })
        })?;
        for row in rows {
            found.push(row?);
        }
    }
    Ok(found)
}

fn digests(connection: &Connection, query: &str) -> rusqlite::Result<HashSet<Digest>> {
    connection.prepare(query)?.query_map([], |row| crate::database::digest(row, 0))?.collect()
}
