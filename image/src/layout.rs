//! OCI image layouts: directories with `oci-layout`, `index.json` and `blobs/`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use kiln_solver::Digest;
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::location::LayoutLocation;
use crate::registry::MANIFEST_LIMIT;
use crate::spec::{Descriptor, Index};
use crate::{ImageError, Reference};

/// The annotation with the tag of an image.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's annotation with the full name of an image.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A layout directory that has been looked at.
pub(crate) struct Layout {
    directory: PathBuf,
    index: Index,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl Layout {
    pub(crate) fn open(directory: &Path) -> Result<Self, ImageError> {
        let broken = |reason: String| ImageError::NotALayout { path: directory.to_owned(), reason };
        let document = |name: &str| {
            let bytes = read_limited(&directory.join(name), MANIFEST_LIMIT);
            let bytes = bytes.map_err(|error| broken(format!("cannot read `{name}`: {error}")))?;
            bytes.ok_or_else(|| broken(format!("`{name}` is larger than {MANIFEST_LIMIT} bytes")))
        };
        let marker: Marker = serde_json::from_slice(&document("oci-layout")?)
            .map_err(|error| broken(format!("`oci-layout` is malformed: {error}")))?;
        if !marker.image_layout_version.starts_with("1.") {
            return Err(broken(format!("its version `{}` is not supported", marker.image_layout_version)));
        }
        let index = serde_json::from_slice(&document("index.json")?)
            .map_err(|error| broken(format!("`index.json` is malformed: {error}")))?;
        Ok(Self { directory: directory.to_owned(), index })
    }

    /// The descriptors of the image that is asked for: several where it is there for several platforms.
    pub(crate) fn find(&self, location: &LayoutLocation) -> Result<Vec<Descriptor>, ImageError> {
        if let Some(digest) = &location.digest {
            // A digest may also name a manifest that is not in the index itself but below it.
            let named = self.index.manifests.iter().find(|descriptor| descriptor.digest == *digest).cloned();
            let found = named.or_else(|| self.describe(digest));
            return found.map(|descriptor| vec![descriptor]).ok_or_else(|| self.missing(&digest.to_string()));
        }
        let tagged = |tag: &str| -> Vec<Descriptor> {
            self.index.manifests.iter().filter(|descriptor| has_tag(descriptor, tag)).cloned().collect()
        };
        let found = match &location.tag {
            Some(tag) => tagged(tag),
            None if self.index.manifests.iter().all(|descriptor| tags(descriptor).is_empty()) => {
                self.index.manifests.clone()
            }
            None if self.index.manifests.len() == 1 => self.index.manifests.clone(),
            None => tagged("latest"),
        };
        if found.is_empty() { Err(self.missing(location.tag.as_deref().unwrap_or("latest"))) } else { Ok(found) }
    }

    /// The file of a blob and its size.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<(File, u64), ImageError> {
        open_blob(&self.directory, digest)
    }

    /// The bytes of a small blob, verified.
    pub(crate) fn read(&self, descriptor: &Descriptor, what: &'static str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let path = blob_path(&self.directory, &descriptor.digest);
        let too_large = || ImageError::TooLarge { what, name: self.directory.display().to_string(), limit };
        let bytes = read_limited(&path, limit).map_err(ImageError::io("read", &path))?.ok_or_else(too_large)?;
        let source_name = self.directory.display().to_string();
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(ImageError::WrongDigest { what, source_name, expected: descriptor.digest, found });
        }
        let (digest, expected, found) = (descriptor.digest, descriptor.size, bytes.len() as u64);
        if found != expected {
            return Err(ImageError::WrongSize { what, source_name, digest, expected, found });
        }
        Ok(bytes)
    }

    fn describe(&self, digest: &Digest) -> Option<Descriptor> {
        let (_, size) = self.blob(digest).ok()?;
        Some(Descriptor::new("", *digest, size))
    }

    fn missing(&self, wanted: &str) -> ImageError {
        let name = |descriptor: &Descriptor| match tags(descriptor).first() {
            Some(tag) => (*tag).to_owned(),
            None => descriptor.digest.to_string(),
        };
        ImageError::NotInLayout {
            path: self.directory.clone(),
            wanted: wanted.to_owned(),
            available: self.index.manifests.iter().map(name).collect(),
        }
    }
}

/// Opens a blob of a layout directory.
pub(crate) fn open_blob(directory: &Path, digest: &Digest) -> Result<(File, u64), ImageError> {
    let path = blob_path(directory, digest);
    open_regular(&path).map_err(ImageError::io("open", &path))
}

/// Opens a file of a layout, of which nobody knows who made it; a pipe would be waited for without end.
fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

fn tags(descriptor: &Descriptor) -> Vec<&str> {
    [REF_NAME, CONTAINERD_NAME].iter().filter_map(|key| descriptor.annotations.get(*key)).map(String::as_str).collect()
}

/// Tools write the bare tag, or the whole name, or both.
fn has_tag(descriptor: &Descriptor, tag: &str) -> bool {
    let ends_in_tag = |name: &str| {
        name.contains([':', '/']) && Reference::parse(name).is_ok_and(|name| name.tag.as_deref() == Some(tag))
    };
    tags(descriptor).into_iter().any(|name| name == tag || ends_in_tag(name))
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    open_regular(path)?.0.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= limit))
}
