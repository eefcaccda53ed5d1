//! What a request carries to a registry.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::blocking::RequestBuilder;

use super::interruptible::Meter;
use crate::ImageError;
use crate::credentials::Secret;

/// What a request carries. It can be sent again.
#[derive(Clone)]
pub(crate) enum Body {
    None,
    /// An encoded form with credentials in it.
    Form(Secret),
    /// A document.
    Bytes(Arc<[u8]>),
    /// Part of a blob, which is read while it is sent.
    Part(Part),
}

/// The bytes of a blob.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A file of them.
    File(PathBuf),
    /// These.
    Bytes(Arc<[u8]>),
}

/// Part of a blob.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) content: Content,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Told how much of the blob has been read.
    pub(crate) told: Arc<dyn Fn(u64) + Send + Sync>,
}

/// Tells how far it has been read.
struct Telling<R> {
    inner: R,
    position: u64,
    told: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Body {
    /// How many bytes, if it is what may take long to send.
    pub(super) fn size_of_part(&self) -> Option<u64> {
        match self {
            Self::Part(part) => Some(part.length),
            _ => None,
        }
    }

    /// Gives it to a request; what is sent of it passes the meter.
    pub(super) fn attach(&self, builder: RequestBuilder, meter: &Meter) -> Result<RequestBuilder, ImageError> {
        Ok(match self {
            Self::None => builder,
            Self::Form(form) => builder.body(form.reveal().to_owned()),
            Self::Bytes(bytes) => builder.body(bytes.to_vec()),
            Self::Part(part) => {
                let reader = part.open()?;
                builder.body(reqwest::blocking::Body::sized(meter.measure(reader), part.length))
            }
        })
    }
}

impl Part {
    fn open(&self) -> Result<impl Read + Send + 'static + use<>, ImageError> {
        let inner: Box<dyn Read + Send> = match &self.content {
            Content::File(path) => Box::new(open_at(path, self.offset).map_err(ImageError::io("read", path))?),
            Content::Bytes(bytes) => {
                let mut bytes = Cursor::new(bytes.clone());
                bytes.set_position(self.offset);
                Box::new(bytes)
            }
        };
        Ok(Telling { inner: inner.take(self.length), position: self.offset, told: self.told.clone() })
    }
}

fn open_at(path: &Path, offset: u64) -> io::Result<File> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file)
}

impl<R: Read> Read for Telling<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        (self.told)(self.position);
        Ok(count)
    }
}
