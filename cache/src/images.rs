//! Images by name, and references seen before.
//!
//! An image may be there for several platforms: then its record is that of one of them, with the others behind it.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use kiln_solver::{Digest, Layer, Origin, Platform};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

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
    /// The manifest that it came or went with, a blob of the store; none where it was only built here.
    pub manifest: Option<Digest>,
    /// The index that it belongs to, where the name stands for several platforms. The rest of this record is then one
    /// of its images: the one that suits this machine best.
    pub index: Option<ImageIndex>,
}

/// Images for several platforms under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageIndex {
    /// The digest of the index, which is a blob of the store.
    pub digest: Digest,
    /// Those of its images that are here, in its order.
    pub images: Vec<PlatformImage>,
    /// What else of it is here, all of it blobs of the store: attestations of its images.
    pub attached: Vec<Digest>,
}

/// One image of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformImage {
    /// The digest of its config, which is a blob of the store.
    pub id: Digest,
    /// The digest of its manifest, which is a blob of the store.
    pub manifest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// What it runs on.
    pub platform: Platform,
}

impl ImageRecord {
    /// An image for one platform that has no manifest yet.
    pub fn new(id: Digest, layers: Vec<Layer>, platform: Platform, tagged: SystemTime) -> Self {
        Self { id, layers, platform, tagged, manifest: None, index: None }
    }

    /// The images of an index, as that of the first one that `suits`, or else of the first. None where it has none.
    pub fn of_index(index: ImageIndex, suits: impl Fn(&Platform) -> bool) -> Option<Self> {
        let main = index.images.iter().find(|image| suits(&image.platform)).or(index.images.first())?.clone();
        let record = Self::new(main.id, main.layers, main.platform, SystemTime::now());
        Some(Self { manifest: Some(main.manifest), index: Some(index), ..record })
    }

    /// Whether another one says the same, but for the time.
    fn is_same(&self, other: &Self) -> bool {
        *self == Self { tagged: self.tagged, ..other.clone() }
    }

    /// What the whole of it is known by: the digest of its index, or of its config where it has none.
    pub fn identity(&self) -> &Digest {
        self.index.as_ref().map_or(&self.id, |index| &index.digest)
    }

    /// The image for each platform, each as a record of its own.
    pub fn platforms(&self) -> Vec<Self> {
        let Some(index) = &self.index else { return vec![self.clone()] };
        let record = |image: &PlatformImage| Self {
            manifest: Some(image.manifest),
            ..Self::new(image.id, image.layers.clone(), image.platform.clone(), self.tagged)
        };
        index.images.iter().map(record).collect()
    }

    /// The layers of all its platforms; some more than once.
    pub(crate) fn all_layers(&self) -> impl Iterator<Item = &Layer> {
        self.chains().flatten()
    }

    /// The same, those of each platform by themselves, the lowest first.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &[Layer]> {
        let others = self.index.iter().flat_map(|index| &index.images).map(|image| &image.layers[..]);
        [&self.layers[..]].into_iter().chain(others)
    }

    /// Its configs, without which it is none.
    pub(crate) fn configs(&self) -> impl Iterator<Item = Digest> {
        let others = self.index.iter().flat_map(|index| &index.images).map(|image| image.id);
        [self.id].into_iter().chain(others)
    }

    /// The documents of all its platforms.
    pub(crate) fn documents(&self) -> impl Iterator<Item = Digest> {
        let index = self.index.iter().map(|index| index.digest);
        let manifests = self.index.iter().flat_map(|index| &index.images).map(|image| image.manifest);
        let attached = self.index.iter().flat_map(|index| &index.attached).copied();
        self.configs().chain(self.manifest).chain(index).chain(manifests).chain(attached)
    }
}

/// [`ImageIndex`] as a column of the database has it.
#[derive(Serialize, Deserialize)]
struct RecordedIndex {
    digest: Digest,
    images: Vec<RecordedImage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attached: Vec<Digest>,
}

/// [`PlatformImage`] as a column of the database has it.
#[derive(Serialize, Deserialize)]
struct RecordedImage {
    id: Digest,
    manifest: Digest,
    layers: Vec<RecordedLayer>,
    platform: Platform,
}

impl From<&ImageIndex> for RecordedIndex {
    fn from(index: &ImageIndex) -> Self {
        let image = |image: &PlatformImage| RecordedImage {
            id: image.id,
            manifest: image.manifest,
            layers: image.layers.iter().map(RecordedLayer::from).collect(),
            platform: image.platform.clone(),
        };
        let images = index.images.iter().map(image).collect();
        Self { digest: index.digest, images, attached: index.attached.clone() }
    }
}

impl From<RecordedIndex> for ImageIndex {
    fn from(index: RecordedIndex) -> Self {
        let image = |image: RecordedImage| PlatformImage {
            id: image.id,
            manifest: image.manifest,
            layers: image.layers.into_iter().map(Layer::from).collect(),
            platform: image.platform,
        };
        let images = index.images.into_iter().map(image).collect();
        Self { digest: index.digest, images, attached: index.attached }
    }
}

const COLUMNS: &str = "image, layers, platform, tagged, name, manifest, platforms";

fn read_row(row: &Row<'_>) -> rusqlite::Result<(String, ImageRecord)> {
    let layers: Vec<RecordedLayer> = from_json(row, 1)?;
    let index: Option<RecordedIndex> = match row.get_ref(6)? {
        ValueRef::Null => None,
        _ => Some(from_json(row, 6)?),
    };
    let record = ImageRecord {
        id: database::digest(row, 0)?,
        layers: layers.into_iter().map(Layer::from).collect(),
        platform: from_json(row, 2)?,
        tagged: database::from_nanos(row.get(3)?),
        manifest: row.get::<_, Option<[u8; 32]>>(5)?.map(Digest::from_bytes),
        index: index.map(ImageIndex::from),
    };
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
    let digests = |query: &str| -> rusqlite::Result<HashSet<Digest>> {
        transaction.prepare(query)?.query_map([], |row| database::digest(row, 0))?.collect()
    };
    let (present, blobs) = (digests("SELECT diff_id FROM layers")?, digests("SELECT digest FROM blobs")?);
    let is_broken = |image: &ImageRecord| {
        image.configs().any(|config| !blobs.contains(&config))
            || image.all_layers().any(|layer| layer.origin == Origin::Built && !present.contains(&layer.diff_id))
    };
    for (name, _) in all(transaction)?.iter().filter(|(_, image)| is_broken(image)) {
        transaction.execute("DELETE FROM images WHERE name = ?1", [name])?;
    }
    Ok(())
}

/// The reference under which is remembered where a layer comes from. With its space it is none of a registry.
fn origin_reference(diff_id: &Digest) -> String {
    format!("layer {diff_id}")
}

/// The reference under which is remembered which index another one stood for.
fn index_reference(reference: &str) -> String {
    format!("index {reference}")
}

/// The platform of such references: a layer is what it is on any, and an index is for all.
fn any_platform() -> Platform {
    Platform { os: "any".to_owned(), architecture: "any".to_owned(), variant: None }
}

/// The blobs that say where layers come from.
pub(crate) fn origins(connection: &Connection) -> rusqlite::Result<Vec<(Digest, Digest)>> {
    let mut query = connection.prepare("SELECT reference, manifest FROM image_references WHERE platform = ?1")?;
    let rows = query.query_map([any_platform().to_string()], |row| {
        let reference: String = row.get(0)?;
        let diff_id = reference.strip_prefix("layer ").and_then(|diff_id| diff_id.parse().ok());
        Ok(diff_id.zip(Some(database::digest(row, 1)?)))
    })?;
    rows.filter_map(Result::transpose).collect()
}

impl Store {
    /// Remembers where a layer comes from, in words that whoever fetches it understands. They stay for as long as an
    /// image needs the layer.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remember_origin(&self, diff_id: &Digest, origin: &[u8]) -> Result<(), StoreError> {
        let blob = self.put_fetched_blob(origin)?;
        self.remember_reference(&origin_reference(diff_id), &any_platform(), &blob)
    }

    /// Where a layer comes from, if that is known and took at most `limit` bytes to say.
    ///
    /// # Errors
    /// When the store cannot be read, or it is longer.
    pub fn origin(&self, diff_id: &Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self.reference(&origin_reference(diff_id), &any_platform())? {
            Some(blob) => self.read_blob(&blob, limit),
            None => Ok(None),
        }
    }

    /// The blobs that say where layers come from, by layer.
    pub(crate) fn origins(&self) -> Result<Vec<(Digest, Digest)>, StoreError> {
        self.inner().database.read(origins)
    }

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
        let insert = "INSERT OR REPLACE INTO images (name, image, layers, platform, tagged, manifest, platforms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let index = image.index.as_ref().map(|index| to_json(&RecordedIndex::from(index))).transpose()?;
        self.inner().database.write(|transaction| {
            gc::pardon(transaction, image.all_layers().map(|layer| &layer.diff_id))?;
            for document in image.documents() {
                gc::pardon_blob(transaction, &document)?;
            }
            transaction.prepare_cached(insert)?.execute(params![
                name,
                image.id.as_bytes(),
                to_json(&layers)?,
                to_json(&image.platform)?,
                database::to_nanos(image.tagged),
                image.manifest.as_ref().map(Digest::as_bytes),
                index,
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

    /// Remembers which index a reference of a registry stood for, of which a manifest was taken.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remember_index(&self, reference: &str, index: &Digest) -> Result<(), StoreError> {
        self.remember_reference(&index_reference(reference), &any_platform(), index)
    }

    /// Which index a reference of a registry stood for when it was last seen, if it was one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn index_of_reference(&self, reference: &str) -> Result<Option<Digest>, StoreError> {
        self.reference(&index_reference(reference), &any_platform())
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
