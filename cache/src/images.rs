//! Images by name, and references seen before.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use kiln_solver::{Digest, Layer, Origin, Platform};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::records::RecordedLayer;
use crate::{Store, StoreError, database, gc};

/// An image of this store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    /// The digest of its config, which is a blob of the store.
    pub id: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// What it runs on.
    pub platform: Platform,
    /// When it got this name.
    pub tagged: SystemTime,
}

impl ImageRecord {
    /// Whether another one says the same, but for the time.
    fn is_same(&self, other: &Self) -> bool {
        (&self.id, &self.layers, &self.platform) == (&other.id, &other.layers, &other.platform)
    }
}

const COLUMNS: &str = "image, layers, platform, tagged, name";

fn read_row(row: &Row<'_>) -> rusqlite::Result<(String, ImageRecord)> {
    let layers: Vec<RecordedLayer> = from_json(row, 1)?;
    let layers = layers.into_iter().map(Layer::from).collect();
    let tagged = database::from_nanos(row.get(3)?);
    let record = ImageRecord { id: database::digest(row, 0)?, layers, platform: from_json(row, 2)?, tagged };
    Ok((row.get(4)?, record))
}

fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    let broken =
        |error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error));
    serde_json::from_str(&text).map_err(broken)
}

fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// All names and their images, sorted by name.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<(String, ImageRecord)>> {
    let query = format!("SELECT {COLUMNS} FROM images ORDER BY name");
    connection.prepare_cached(&query)?.query_map([], read_row)?.collect()
}

/// Drops the images whose config is not here, or that need a layer that is not here and could not get it again.
pub(crate) fn drop_broken(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.execute("DELETE FROM images WHERE image NOT IN (SELECT digest FROM blobs)", [])?;
    let mut query = transaction.prepare("SELECT diff_id FROM layers")?;
    let present: HashSet<Digest> = query.query_map([], |row| database::digest(row, 0))?.collect::<Result<_, _>>()?;
    let is_broken = |image: &ImageRecord| {
        image.layers.iter().any(|layer| layer.origin == Origin::Built && !present.contains(&layer.diff_id))
    };
    for (name, _) in all(transaction)?.iter().filter(|(_, image)| is_broken(image)) {
        transaction.execute("DELETE FROM images WHERE name = ?1", [name])?;
    }
    Ok(())
}

impl Store {
    /// Gives an image a name (a normalised reference), taking it from another image if need be. One that has it
    /// already, and has had it for a few minutes at most, is left as it is.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn tag(&self, name: &str, image: &ImageRecord) -> Result<(), StoreError> {
        /// What is tagged again and again need not be written each time.
        const FRESH: Duration = Duration::from_secs(600);
        // Nothing of an image that has a name is ever condemned.
        if self.image(name)?.is_some_and(|known| known.is_same(image) && image.tagged <= known.tagged + FRESH) {
            return Ok(());
        }
        let layers: Vec<RecordedLayer> = image.layers.iter().map(RecordedLayer::from).collect();
        let insert =
            "INSERT OR REPLACE INTO images (name, image, layers, platform, tagged) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.inner().database.write(|transaction| {
            gc::pardon(transaction, image.layers.iter().map(|layer| &layer.diff_id))?;
            gc::pardon_blob(transaction, &image.id)?;
            transaction.prepare_cached(insert)?.execute(params![
                name,
                image.id.as_bytes(),
                to_json(&layers)?,
                to_json(&image.platform)?,
                database::to_nanos(image.tagged),
            ])?;
            Ok(())
        })
    }

    /// Takes a name away; `false` where nothing had it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn untag(&self, name: &str) -> Result<bool, StoreError> {
        self.inner().database.write(|transaction| {
            Ok(transaction.prepare_cached("DELETE FROM images WHERE name = ?1")?.execute([name])? > 0)
        })
    }

    /// The image with this name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn image(&self, name: &str) -> Result<Option<ImageRecord>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM images WHERE name = ?1");
        self.inner().database.read(|connection| {
            let found = connection.prepare_cached(&query)?.query_row([name], read_row).optional()?;
            Ok(found.map(|(_, record)| record))
        })
    }

    /// All names and their images, sorted by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<(String, ImageRecord)>, StoreError> {
        self.inner().database.read(all)
    }

    /// Remembers which manifest a reference of a registry stood for.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remember_reference(
        &self,
        reference: &str,
        platform: &Platform,
        manifest: &Digest,
    ) -> Result<(), StoreError> {
        let insert =
            "INSERT OR REPLACE INTO image_references (reference, platform, manifest, seen) VALUES (?1, ?2, ?3, ?4)";
        let seen = database::to_nanos(SystemTime::now());
        self.inner().database.write(|transaction| {
            let parameters = params![reference, platform.to_string(), manifest.as_bytes(), seen];
            transaction.prepare_cached(insert)?.execute(parameters)?;
            Ok(())
        })
    }

    /// Which manifest a reference of a registry stood for when it was last seen.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn reference(&self, reference: &str, platform: &Platform) -> Result<Option<Digest>, StoreError> {
        let query = "SELECT manifest FROM image_references WHERE reference = ?1 AND platform = ?2";
        self.inner().database.read(|connection| {
            let mut query = connection.prepare_cached(query)?;
            query.query_row([reference, &platform.to_string()], |row| database::digest(row, 0)).optional()
        })
    }
}
