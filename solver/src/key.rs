//! Cache keys.

use crate::Digest;
use crate::encode::Encoder;

/// A key of the cache: what names the result of a step before it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Digest);

/// What stands for one input in a key.
#[derive(Clone, Copy)]
pub(crate) enum KeyPart {
    /// The key of the step that makes it, and which of its outputs it is.
    Key(Key, u32),
    /// The digest of what is selected of it.
    Content(Digest),
    /// The digest of what counts as a whole of an input that is observed.
    Unobserved(Digest),
}

impl Key {
    /// The key of a step with this digest of its own over these inputs.
    pub(crate) fn of(own: &Digest, inputs: &[KeyPart]) -> Self {
        let mut encoder = Encoder::new("kiln.key.v1");
        encoder.digest(own).number(inputs.len() as u64);
        for input in inputs {
            match input {
                KeyPart::Key(key, output) => encoder.tag("key").digest(&key.0).number(u64::from(*output)),
                KeyPart::Content(content) => encoder.tag("content").digest(content),
                KeyPart::Unobserved(content) => encoder.tag("unobserved").digest(content),
            };
        }
        Self(encoder.finish())
    }
}
