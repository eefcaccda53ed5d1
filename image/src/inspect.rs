//! What commands such as `kiln images`, `inspect` and `history` ask about images of the store.

use kiln_cache::{EntryKind, ImageRecord, Store, StoredLayer};
use kiln_solver::{Layer, Platform};

use crate::documents::{self, Document};
use crate::registry::{CONFIG_LIMIT, MANIFEST_LIMIT};
use crate::spec::{Descriptor, Image, media_type};
use crate::{ImageError, Reference, choose};

/// The image that a name or the beginning of an id means. Names come first.
///
/// # Errors
/// When there is none, or the id is ambiguous.
pub fn find(store: &Store, name: &str) -> Result<ImageRecord, ImageError> {
    if let Ok(reference) = Reference::parse(name)
        && let Some(record) = store.image(&reference.to_string())?
    {
        return Ok(record);
    }
    let nothing = || ImageError::NoImage(name.to_owned());
    let prefix = name.strip_prefix("sha256:").unwrap_or(name).to_ascii_lowercase();
    if prefix.is_empty() {
        return Err(nothing());
    }
    let known_as = |record: &ImageRecord| {
        let platforms = record.index.iter().flat_map(|index| &index.images).map(|image| image.id);
        let mut digests = [*record.identity(), record.id].into_iter().chain(platforms);
        digests.find(|digest| digest.hex().starts_with(&prefix))
    };
    let images = store.images()?.into_iter();
    let mut matching = images.filter_map(|(_, record)| Some((known_as(&record)?, record)));
    let (digest, first) = matching.next().ok_or_else(nothing)?;
    match matching.find(|(other, _)| *other != digest) {
        Some(_) => Err(ImageError::AmbiguousId(name.to_owned())),
        None => Ok(first),
    }
}

/// The image for a platform, of those that are here under the name `name`.
///
/// # Errors
/// When there is none.
pub fn for_platform(record: &ImageRecord, name: &str, platform: &Platform) -> Result<ImageRecord, ImageError> {
    choose::image(record, platform).ok_or_else(|| ImageError::Platform {
        name: name.to_owned(),
        platform: Box::new(platform.clone()),
        available: record.platforms().iter().map(|image| image.platform.to_string()).collect(),
    })
}

/// The index or manifest that an image came or went with, if it did and that is here.
///
/// # Errors
/// When the store cannot be read, or the document is malformed.
pub fn descriptor(store: &Store, image: &ImageRecord) -> Result<Option<Descriptor>, ImageError> {
    let Some(digest) = image.index.as_ref().map(|index| index.digest).or(image.manifest) else { return Ok(None) };
    let Some(bytes) = store.read_blob(&digest, MANIFEST_LIMIT)? else { return Ok(None) };
    let media_type = match documents::read_document(&bytes, "", &digest.to_string())? {
        Document::Index(index) if index.media_type.is_empty() => media_type::OCI_INDEX.to_owned(),
        Document::Index(index) => index.media_type,
        Document::Manifest(manifest) if manifest.media_type.is_empty() => media_type::OCI_MANIFEST.to_owned(),
        Document::Manifest(manifest) => manifest.media_type,
    };
    Ok(Some(Descriptor::of(&media_type, &bytes)))
}

/// The bytes of an image's config.
///
/// # Errors
/// When it is not in the store any more.
pub fn config_bytes(store: &Store, image: &ImageRecord) -> Result<Vec<u8>, ImageError> {
    store.read_blob(&image.id, CONFIG_LIMIT)?.ok_or(ImageError::LostBlob { what: "config", digest: image.id })
}

/// The config of an image.
///
/// # Errors
/// When it is not in the store any more, or is malformed.
pub fn config(store: &Store, image: &ImageRecord) -> Result<Image, ImageError> {
    documents::read_config(&config_bytes(store, image)?, &image.id.to_string())
}

/// The size of the files of each layer, in bytes; `None` for a layer that was never fetched.
///
/// # Errors
/// When the store cannot be read.
pub fn layer_sizes(store: &Store, image: &ImageRecord) -> Result<Vec<Option<u64>>, ImageError> {
    let size = |layer: StoredLayer| {
        let files = layer.index().entries().filter(|entry| entry.kind == EntryKind::File);
        files.map(|file| file.size).sum()
    };
    image.layers.iter().map(|layer| Ok(store.layer(&layer.diff_id)?.map(size))).collect()
}

/// The sum of the sizes of the layers that are here, in bytes.
///
/// # Errors
/// When the store cannot be read.
pub fn size(store: &Store, image: &ImageRecord) -> Result<u64, ImageError> {
    Ok(layer_sizes(store, image)?.into_iter().flatten().sum())
}

/// How many bytes a layer has as it is transferred; `None` where it was neither fetched nor compressed.
///
/// # Errors
/// When the store cannot be read.
pub fn blob_size(store: &Store, layer: &Layer) -> Result<Option<u64>, ImageError> {
    Ok(store.known_blob(&layer.diff_id)?.map(|blob| blob.size))
}

#[cfg(test)]
mod tests {
    use kiln_solver::{Digest, Origin};

    use super::*;
    use crate::fixture::Bench;

    #[test]
    fn images_are_found_by_name_and_by_the_beginning_of_their_id() {
        let bench = Bench::new();
        let store = bench.store();
        let tag = |name: &str, id: Digest| {
            let tagged = std::time::SystemTime::UNIX_EPOCH;
            let record = ImageRecord::new(id, Vec::new(), kiln_solver::Platform::host(), tagged);
            store.tag(&Reference::parse(name).unwrap().to_string(), &record).unwrap();
        };
        let id = |hex: &str| Digest::from_hex(&format!("{hex:0<64}")).unwrap();
        tag("app:1", id("abc1"));
        tag("app", id("abc1"));
        tag("abc2", id("abc2"));
        for (name, expected) in
            [("app:1", "abc1"), ("app", "abc1"), ("abc1", "abc1"), ("sha256:ABC1", "abc1"), ("abc2", "abc2")]
        {
            assert_eq!(find(store, name).unwrap().id, id(expected), "{name}");
        }
        assert_eq!(find(store, &id("abc1").hex()).unwrap().id, id("abc1"));
        assert!(matches!(find(store, "abc"), Err(ImageError::AmbiguousId(_))));
        for name in ["", "sha256:", "other", "app:2", "fff", "A b"] {
            assert!(matches!(find(store, name), Err(ImageError::NoImage(_))), "{name}");
        }
        assert!(matches!(config(store, &find(store, "app").unwrap()), Err(ImageError::LostBlob { .. })));
    }

    #[test]
    fn an_image_is_as_big_as_its_files() {
        let bench = Bench::new();
        let draft = bench.store().begin_layer().unwrap();
        std::fs::write(draft.files().join("a"), [0; 1000]).unwrap();
        std::fs::hard_link(draft.files().join("a"), draft.files().join("b")).unwrap();
        let stored = draft.commit(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let layer = |diff_id, origin| Layer { diff_id, origin };
        let layers = vec![layer(Digest::of(b"absent"), Origin::Image), layer(*stored.diff_id(), Origin::Built)];
        let platform = kiln_solver::Platform::host();
        let record = ImageRecord::new(Digest::of(b""), layers, platform, std::time::SystemTime::UNIX_EPOCH);
        assert_eq!(layer_sizes(bench.store(), &record).unwrap(), [None, Some(1000)]);
        assert_eq!(size(bench.store(), &record).unwrap(), 1000);
    }
}
