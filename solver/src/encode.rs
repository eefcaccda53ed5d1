//! The canonical encoding behind every digest of a step or key: each field with its kind and its length, so
//! that no two different values share an encoding.

use crate::{Digest, Hasher};

/// Takes fields in and yields their digest.
pub(crate) struct Encoder(Hasher);

impl Encoder {
    /// An encoder of one format; the version is part of the name.
    pub(crate) fn new(format: &str) -> Self {
        let mut encoder = Self(Hasher::new());
        encoder.tag(format);
        encoder
    }

    fn field(&mut self, kind: u8, bytes: &[u8]) -> &mut Self {
        self.0.update(&[kind]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// A word of the encoding itself: a variant's name, a format's version.
    pub(crate) fn tag(&mut self, tag: &str) -> &mut Self {
        self.field(b'T', tag.as_bytes())
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.field(b's', text.as_bytes())
    }

    pub(crate) fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.field(b'n', &number.to_le_bytes())
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.field(b'f', &[u8::from(flag)])
    }

    /// A number that may be absent.
    pub(crate) fn position(&mut self, position: Option<usize>) -> &mut Self {
        match position {
            Some(position) => self.number(position as u64),
            None => self.field(b'-', &[]),
        }
    }

    pub(crate) fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.field(b'd', digest.as_bytes())
    }

    pub(crate) fn finish(self) -> Digest {
        self.0.finish()
    }
}
