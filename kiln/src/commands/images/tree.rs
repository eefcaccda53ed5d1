//! `kiln images --tree`: each image with its names and platforms.

use kiln_cache::{ImageRecord, Store};
use kiln_image::inspect;

use super::{Listed, id};
use crate::error::CliError;
use crate::human;
use crate::local::image_error;

/// Names of one image stand under each other, its platforms below them.
pub(super) fn show(store: &Store, images: &[Listed], whole: bool) -> Result<String, CliError> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut shown = Vec::new();
    for image in images {
        let identity = image.record.identity();
        if shown.contains(&identity) {
            continue;
        }
        shown.push(identity);
        let same: Vec<&Listed> = images.iter().filter(|other| other.record.identity() == identity).collect();
        rows.extend(block(store, &image.record, &same, whole)?);
    }
    Ok(human::table(&["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE"], &rows))
}

fn block(store: &Store, record: &ImageRecord, names: &[&Listed], whole: bool) -> Result<Vec<Vec<String>>, CliError> {
    let name = |listed: &&Listed| listed.name.as_ref().map_or_else(|| "<untagged>".to_owned(), |name| name.familiar());
    let platforms = record.platforms();
    let sizes = platforms.iter().map(|platform| sizes(store, platform)).collect::<Result<Vec<_>, _>>()?;
    let all = all_sizes(store, &platforms)?;
    let mut rows: Vec<Vec<String>> = names.iter().map(|listed| row(&name(listed), &id(record, whole), all)).collect();
    let last = platforms.len().saturating_sub(1);
    for (number, (platform, sizes)) in platforms.iter().zip(sizes).enumerate() {
        let branch = if number == last { "└─" } else { "├─" };
        let digest = platform.manifest.unwrap_or(platform.id);
        let id = if whole { digest.to_string() } else { digest.short() };
        rows.push(row(&format!("{branch} {}", platform.platform), &id, sizes));
    }
    Ok(rows)
}

/// What the files of an image take, and what its blobs would, as far as that is known.
type Sizes = (u64, Option<u64>);

fn row(name: &str, id: &str, (files, blobs): Sizes) -> Vec<String> {
    let blobs = blobs.map_or_else(|| "N/A".to_owned(), human::size);
    vec![name.to_owned(), id.to_owned(), human::size(files), blobs]
}

fn sizes(store: &Store, record: &ImageRecord) -> Result<Sizes, CliError> {
    all_sizes(store, std::slice::from_ref(record))
}

/// Of several images, each layer once.
fn all_sizes(store: &Store, records: &[ImageRecord]) -> Result<Sizes, CliError> {
    let mut seen = Vec::new();
    let (mut files, mut blobs) = (0, Some(0));
    for record in records {
        let layers = inspect::layer_sizes(store, record).map_err(|error| image_error(&error))?;
        for (layer, size) in record.layers.iter().zip(layers) {
            if seen.contains(&layer.diff_id) {
                continue;
            }
            seen.push(layer.diff_id);
            files += size.unwrap_or(0);
            let blob = inspect::blob_size(store, layer).map_err(|error| image_error(&error))?;
            blobs = blobs.zip(blob).map(|(all, blob)| all + blob);
        }
    }
    Ok((files, blobs))
}
