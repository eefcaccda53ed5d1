//! Bringing layers into the store: from a blob that is there already, a registry or a layout.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::path::Path;
use std::sync::PoisonError;

use kiln_cache::{ArchiveError, Blob, Compression, LayerBlob, StoreError, decompress};
use kiln_solver::{Cancel, Digest, Hasher, Layer};

use super::Images;
use super::intake::{Intake, Shared, Verified};
use super::source::{LayerSource, Source};
use super::watched::Watched;
use crate::layout;
use crate::parallel;
use crate::registry::Failure;
use crate::remote_cache::Actions;
use crate::spec::{Descriptor, media_type};
use crate::{ImageError, Reference};

/// How many layers are fetched at a time.
const MOST_AT_A_TIME: usize = 4;
const BUFFER: usize = 256 << 10;

/// Does something for each layer that is not present yet, several at a time. The first error stops the others.
pub(super) fn in_parallel(
    layers: &[Layer],
    cancel: &Cancel,
    present: impl Fn(&Layer) -> Result<bool, ImageError>,
    work: impl Fn(&Layer, &Cancel) -> Result<(), ImageError> + Sync,
) -> Result<(), ImageError> {
    let mut seen = HashSet::new();
    let mut missing = Vec::new();
    for layer in layers {
        if seen.insert(layer.diff_id) && !present(layer)? {
            missing.push(*layer);
        }
    }
    parallel::for_each(missing, MOST_AT_A_TIME, cancel, |layer, cancel| work(&layer, cancel))
}

/// Bytes of a blob on their way.
pub(super) struct Incoming {
    pub(super) bytes: Box<dyn Read>,
    /// Where the reason is found should they stop coming.
    pub(super) failure: Failure,
    /// Where they come from, for errors.
    pub(super) source: String,
}

impl Images {
    /// Fetches and unpacks a layer.
    pub(super) fn fetch_layer(&self, layer: &Layer, cancel: &Cancel) -> Result<(), ImageError> {
        let fetched = self.fetch_and_unpack(layer, cancel);
        match &fetched {
            Err(error) if !cancel.is_requested() && self.store().promise(&layer.diff_id).is_some() => {
                let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.get_or_insert_with(|| error.to_string());
            }
            _ => {}
        }
        fetched
    }

    fn fetch_and_unpack(&self, layer: &Layer, cancel: &Cancel) -> Result<(), ImageError> {
        let _flight = self.flights.take_off(layer.diff_id, cancel)?;
        if self.store().layer(&layer.diff_id)?.is_some() {
            return Ok(());
        }
        if let Some(known) = self.store().known_blob(&layer.diff_id)?
            && let Some(blob) = self.store().blob(&known.digest)?
        {
            return self.unpack_stored(layer, &blob);
        }
        let LayerSource { source, blob } = self.source_of(layer)?;
        let incoming = self.open(&source, &blob, cancel)?;
        let compression = self.unpack_incoming(layer, &blob, incoming, cancel)?;
        self.note_blob(layer, &LayerBlob { digest: blob.digest, size: blob.size, compression })
    }

    /// The form of a layer that is here, or else the one in which it can be had.
    pub(crate) fn form_of(&self, layer: &Layer) -> Result<LayerBlob, ImageError> {
        if let Some(known) = self.store().known_blob(&layer.diff_id)? {
            return Ok(known);
        }
        let blob = self.source_of(layer)?.blob;
        match compression_of(&blob.media_type) {
            Some(compression) => Ok(LayerBlob { digest: blob.digest, size: blob.size, compression }),
            // Its first bytes will tell.
            None => self.fetch_blob(layer, &self.settings.cancel),
        }
    }

    /// The repository that a blob of a layer came from, if that is where it came from.
    pub(crate) fn repository_of(&self, layer: &Layer, blob: &Digest) -> Result<Option<Reference>, ImageError> {
        match self.sources.find(self.store(), layer)? {
            Some(LayerSource { source: Source::Repository(name), blob: known }) if known.digest == *blob => {
                Ok(Reference::parse(&name).ok())
            }
            _ => Ok(None),
        }
    }

    /// Fetches the blob of a layer without unpacking it.
    pub(crate) fn fetch_blob(&self, layer: &Layer, cancel: &Cancel) -> Result<LayerBlob, ImageError> {
        let _flight = self.flights.take_off(layer.diff_id, cancel)?;
        if let Some(known) = self.store().known_blob(&layer.diff_id)? {
            return Ok(known);
        }
        let LayerSource { source, blob } = self.source_of(layer)?;
        let incoming = self.open(&source, &blob, cancel)?;
        let compression = self.take_in(layer, &blob, incoming, cancel)?;
        let known = LayerBlob { digest: blob.digest, size: blob.size, compression };
        self.note_blob(layer, &known)?;
        Ok(known)
    }

    /// A document that is kept as a blob, such as a config.
    pub(crate) fn small_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, ImageError> {
        if descriptor.size > limit {
            return Err(ImageError::TooLarge { what, name: reference.to_string(), limit });
        }
        let mut reader = self.registries().blob(reference, descriptor, &self.settings.cancel)?;
        let (failure, source_name) = (reader.failure(), reader.source().to_owned());
        let mut bytes = Vec::new();
        if let Err(error) = reader.read_to_end(&mut bytes) {
            let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(failure.unwrap_or(ImageError::Unreachable { registry: source_name, reason: error.to_string() }));
        }
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(ImageError::WrongDigest { what, source_name, expected: descriptor.digest, found });
        }
        Ok(bytes)
    }

    /// Fetches a blob into a file that is made for it.
    pub(crate) fn fetch_to(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        path: &Path,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let mut reader = self.registries().blob(repository, descriptor, cancel)?;
        let (failure, source_name) = (reader.failure(), reader.source().to_owned());
        let mut file = File::create_new(path).map_err(ImageError::io("create", path))?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = reader.read(&mut buffer).map_err(|error| {
                let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                failure.unwrap_or(ImageError::Unreachable { registry: source_name.clone(), reason: error.to_string() })
            })?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            file.write_all(bytes).map_err(ImageError::io("write", path))?;
        }
        let found = hasher.finish();
        match found == descriptor.digest {
            true => Ok(()),
            false => Err(ImageError::WrongDigest { what: "blob", source_name, expected: descriptor.digest, found }),
        }
    }

    fn source_of(&self, layer: &Layer) -> Result<LayerSource, ImageError> {
        let found = self.sources.find(self.store(), layer)?.ok_or(ImageError::LostLayer(layer.diff_id))?;
        let kind = &found.blob.media_type;
        let readable = kind.is_empty() || kind.contains("tar") && !kind.contains("encrypted");
        if !readable || media_type::is_foreign_layer(kind) {
            let what = format!("layer `{}`", found.blob.digest);
            return Err(ImageError::MediaType { name: found.source.to_string(), what, media_type: kind.clone() });
        }
        Ok(found)
    }

    fn open(&self, source: &Source, blob: &Descriptor, cancel: &Cancel) -> Result<Incoming, ImageError> {
        match source {
            Source::Repository(name) => {
                let reader = self.registries().blob(&Reference::parse(name)?, blob, cancel)?;
                let source = reader.source().to_owned();
                let failure = reader.failure();
                let bytes = Box::new(Watched::new(reader, blob, self.watcher()));
                Ok(Incoming { failure, source, bytes })
            }
            Source::Bucket { settings, blobs } => {
                let reader = self.bucket(settings)?.blob(format!("{blobs}{}", blob.digest), blob, cancel)?;
                let (source, failure) = (reader.source().to_owned(), reader.failure());
                let bytes = Box::new(Watched::new(reader, blob, self.watcher()));
                Ok(Incoming { failure, source, bytes })
            }
            Source::Actions(settings) => {
                let reader = self.actions(settings)?.blob(Actions::blob(&blob.digest), blob, cancel)?;
                let (source, failure) = (reader.source().to_owned(), reader.failure());
                let bytes = Box::new(Watched::new(reader, blob, self.watcher()));
                Ok(Incoming { failure, source, bytes })
            }
            Source::Layout(directory) => {
                let (file, size) = layout::open_blob(directory, &blob.digest)?;
                let source = directory.display().to_string();
                if size != blob.size {
                    let (digest, expected) = (blob.digest, blob.size);
                    return Err(ImageError::WrongSize {
                        what: "blob",
                        source_name: source,
                        digest,
                        expected,
                        found: size,
                    });
                }
                Ok(Incoming { bytes: Box::new(file), failure: Failure::default(), source })
            }
        }
    }

    /// Takes in a blob without unpacking it, if it holds the archive of the layer: it may be sent elsewhere as that,
    /// also with images that have the layer from somebody else.
    pub(super) fn take_in(
        &self,
        layer: &Layer,
        blob: &Descriptor,
        incoming: Incoming,
        cancel: &Cancel,
    ) -> Result<Compression, ImageError> {
        self.receive(blob, incoming, cancel, |archive, _| self.check_archive(layer, archive))
    }

    /// Whether this is the archive of a layer; reads no further than an archive may go.
    fn check_archive(&self, layer: &Layer, archive: Box<dyn Read + '_>) -> Result<(), StoreError> {
        let mut archive = archive.take(self.store().allowance()?.bytes());
        let (mut hasher, mut buffer) = (Hasher::new(), vec![0; BUFFER]);
        loop {
            match archive.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::Archive(ArchiveError::Read(error))),
            }
        }
        let (expected, found) = (layer.diff_id, hasher.finish());
        match found == expected {
            true => Ok(()),
            false => Err(StoreError::WrongDigest { what: "the layer's archive", expected, found }),
        }
    }

    fn intake(&self, blob: &Descriptor, incoming: Incoming, cancel: &Cancel) -> Result<Shared, ImageError> {
        let Incoming { bytes, failure, source } = incoming;
        let writer = self.store().blob_writer()?.fetched();
        Ok(Shared::new(Intake::new(bytes, writer, blob, source, failure, cancel.clone())))
    }

    /// Unpacks a layer while it comes in. The store takes neither blob nor layer before the digest of the blob
    /// has been verified.
    pub(super) fn unpack_incoming(
        &self,
        layer: &Layer,
        blob: &Descriptor,
        incoming: Incoming,
        cancel: &Cancel,
    ) -> Result<Compression, ImageError> {
        self.receive(blob, incoming, cancel, |archive, intake| {
            self.store().import_layer(&mut Verified::new(archive, intake), &layer.diff_id).map(drop)
        })
    }

    /// Takes in a blob, which `read` reads as an archive meanwhile.
    fn receive(
        &self,
        blob: &Descriptor,
        incoming: Incoming,
        cancel: &Cancel,
        read: impl FnOnce(Box<dyn Read>, Shared) -> Result<(), StoreError>,
    ) -> Result<Compression, ImageError> {
        let source = incoming.source.clone();
        let intake = self.intake(blob, incoming, cancel)?;
        let archive = decompress(BufReader::with_capacity(BUFFER, intake.clone()));
        let archive = archive.map_err(|error| StoreError::Archive(ArchiveError::Read(error)));
        match archive.and_then(|archive| read(archive, intake.clone())) {
            Ok(()) => {
                // What `read` had no need of belongs to the blob, too: a layer that another process unpacked meanwhile.
                intake.finish()?;
                Ok(intake.compression())
            }
            Err(reason) => Err(intake.explain(reason, |reason| unpack_error(blob, source, reason))),
        }
    }

    fn unpack_stored(&self, layer: &Layer, blob: &Blob) -> Result<(), ImageError> {
        let file = File::open(&blob.path).map_err(ImageError::io("open", &blob.path))?;
        let archive = decompress(BufReader::with_capacity(BUFFER, file));
        let mut archive = archive.map_err(ImageError::io("read", &blob.path))?;
        let unpacked = self.store().import_layer(&mut archive, &layer.diff_id);
        let descriptor = Descriptor::new("", blob.digest, blob.size);
        unpacked.map(drop).map_err(|reason| unpack_error(&descriptor, "the store".to_owned(), reason))
    }
}

/// What a media type says of the compression of a layer, if anything.
fn compression_of(media_type: &str) -> Option<Compression> {
    match media_type {
        _ if media_type.ends_with("gzip") => Some(Compression::GZIP),
        _ if media_type.ends_with("zstd") => Some(Compression::ZSTD),
        _ if media_type.ends_with(".tar") => Some(Compression::Uncompressed),
        _ => None,
    }
}

fn unpack_error(blob: &Descriptor, source_name: String, reason: StoreError) -> ImageError {
    ImageError::Unpack { digest: blob.digest, source_name, reason: Box::new(reason) }
}
