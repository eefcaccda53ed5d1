//! The config of an image that was built.

use std::collections::BTreeMap;
use std::time::SystemTime;

use kiln_cache::{Compression, ImageRecord, Store, StoreError};
use kiln_solver::{Digest, Layer, Origin};

use crate::spec::{History, Image, format_time, parse_time};
use crate::{ImageError, inspect};

/// An image that was put together.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// What the store lists: the id is the digest of the config, which is a blob of the store now.
    pub record: ImageRecord,
    /// The config.
    pub image: Image,
    /// The bytes of the config.
    pub config: Vec<u8>,
}

/// Makes the config of an image and stores it.
///
/// `image` is the config as the frontend leaves it: the base's `rootfs` still in it, and its own history behind
/// the base's, without times. `layers` are all layers of the image, the base's first. Nothing depends on the
/// clock: a step's entry gets the time at which its layer was made, an entry without a layer that of the one
/// before, and the image the time of its last entry; one without any layer has no times. So the same layers give the
/// same image again. `fixed` is the time of the image and of everything of the build's own in its history that is
/// younger (`SOURCE_DATE_EPOCH`), where there is one.
///
/// # Errors
/// When the store cannot be read or written.
pub fn assemble(
    store: &Store,
    image: &Image,
    layers: &[Layer],
    fixed: Option<SystemTime>,
) -> Result<Assembled, ImageError> {
    let times = layer_times(store, layers)?;
    let mut image = image.clone();
    fit_history(&mut image, layers.len());
    let own_part = own_part(&image.history);
    date_history(&mut image, &times);
    image.created = image.history.iter().rev().find_map(|entry| entry.created.clone());
    if let Some(fixed) = fixed {
        let own = image.history.iter_mut().skip(own_part);
        own.for_each(|entry| hold_back(entry, fixed));
        image.created = Some(format_time(fixed));
    }
    image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    // A document of plain maps, lists and texts always has a JSON form.
    let config = serde_json::to_vec(&image).unwrap_or_default();
    let id = store.put_blob(&config)?;
    let record = ImageRecord::new(id, layers.to_vec(), image.platform(), SystemTime::now());
    Ok(Assembled { record, image, config })
}

/// The image with no file of the layers that were made here younger than `latest` (`rewrite-timestamp`). Layers that
/// change are stored in this compression.
///
/// # Errors
/// When the store cannot be read or written.
pub fn clamp(
    store: &Store,
    record: &ImageRecord,
    latest: SystemTime,
    compression: Compression,
) -> Result<ImageRecord, ImageError> {
    let mut layers = record.layers.clone();
    for layer in layers.iter_mut().filter(|layer| layer.origin == Origin::Built) {
        let clamped = store.clamp_layer(&layer.diff_id, latest, compression)?;
        if clamped != layer.diff_id {
            *layer = Layer { diff_id: clamped, origin: Origin::Image };
        }
    }
    if layers == record.layers {
        return Ok(record.clone());
    }
    with_layers(store, record, layers)
}

/// Notes on layers of a manifest, by the digests of their blobs.
pub type LayerNotes = BTreeMap<Digest, BTreeMap<String, String>>;

/// The image with the layers that were made here as eStargz, at this level of gzip and with no file younger than
/// `latest`; and the notes by which lazy snapshotters know them. A layer of which a blob alone is at hand stays as it is, as
/// those of a base do.
///
/// # Errors
/// When the store cannot be read or written, or a layer cannot be made so.
pub fn estargz(
    store: &Store,
    record: &ImageRecord,
    latest: Option<SystemTime>,
    level: u8,
) -> Result<(ImageRecord, LayerNotes), ImageError> {
    let (mut layers, mut notes) = (record.layers.clone(), LayerNotes::new());
    for layer in layers.iter_mut().filter(|layer| layer.origin == Origin::Built) {
        let made = match store.estargz_layer(&layer.diff_id, latest, level) {
            Err(StoreError::NoLayer(_) | StoreError::NoArchive(_)) => continue,
            made => made?,
        };
        let own = [
            ("containerd.io/snapshot/stargz/toc.digest".to_owned(), made.table.to_string()),
            ("io.containers.estargz.uncompressed-size".to_owned(), made.size.to_string()),
        ];
        notes.insert(made.blob.digest, own.into());
        *layer = Layer { diff_id: made.diff_id, origin: Origin::Image };
    }
    Ok((with_layers(store, record, layers)?, notes))
}

/// The image with other layers in the place of its own.
fn with_layers(store: &Store, record: &ImageRecord, layers: Vec<Layer>) -> Result<ImageRecord, ImageError> {
    let mut image = inspect::config(store, record)?;
    image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let id = store.put_blob(&serde_json::to_vec(&image).unwrap_or_default())?;
    Ok(ImageRecord::new(id, layers, record.platform.clone(), record.tagged))
}

/// When each layer was made; `None` for one of a base that nobody needed yet.
fn layer_times(store: &Store, layers: &[Layer]) -> Result<Vec<Option<String>>, ImageError> {
    let time = |layer: &Layer| {
        let created = store.layer_created(&layer.diff_id)?;
        Ok(created.or_else(|| Some(store.promise(&layer.diff_id)?.created)).map(format_time))
    };
    layers.iter().map(time).collect()
}

/// Where the build's own entries begin, as long as they have no times: behind the last of the base that has one.
fn own_part(history: &[History]) -> usize {
    history.iter().rposition(|entry| entry.created.is_some()).map_or(0, |last| last + 1)
}

/// Makes as many entries stand for a layer as there are layers. The history of a base image may have fewer
/// (tools that flatten images leave it out) or more; its part is what gets mended, never the build's own.
fn fit_history(image: &mut Image, layers: usize) {
    let own_part = own_part(&image.history);
    let entries = image.history.iter().filter(|entry| !entry.empty_layer).count();
    if entries < layers {
        let created = image.created.clone();
        let filler = History { created, comment: "layer without history".to_owned(), ..History::default() };
        image.history.splice(own_part..own_part, vec![filler; layers - entries]);
    }
    let (base, own) = image.history.split_at_mut(own_part);
    let surplus = entries.saturating_sub(layers);
    let with_layer = base.iter_mut().rev().chain(own.iter_mut().rev()).filter(|entry| !entry.empty_layer);
    with_layer.take(surplus).for_each(|entry| entry.empty_layer = true);
}

/// Fills in the times that are absent: that of the layer, or else of the entry before, or else of the first one that
/// has any, or of the base. An image of no layers at all has none.
fn date_history(image: &mut Image, times: &[Option<String>]) {
    let mut times = times.iter();
    for entry in &mut image.history {
        let own = if entry.empty_layer { None } else { times.next().cloned().flatten() };
        entry.created = entry.created.take().or(own);
    }
    let first = image.history.iter().find_map(|entry| entry.created.clone());
    let Some(mut before) = first.or_else(|| image.created.clone()) else { return };
    for entry in &mut image.history {
        before = entry.created.get_or_insert(before).clone();
    }
}

/// Makes an entry no younger than a time.
fn hold_back(entry: &mut History, fixed: SystemTime) {
    let is_older = |created: &String| parse_time(created).is_some_and(|time| time <= fixed);
    if !entry.created.as_ref().is_some_and(is_older) {
        entry.created = Some(format_time(fixed));
    }
}

#[cfg(test)]
mod tests;
