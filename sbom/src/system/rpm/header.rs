//! The header of an RPM package, as databases have it: without magic, big-endian.

use crate::{Ecosystem, Package};

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;
const SOURCE: u32 = 1044;

/// The types of values that are texts.
const TEXTS: [u32; 2] = [6, 9];
/// The type of a 32-bit number.
const NUMBER: u32 = 4;
/// The length of an entry.
const ENTRY: usize = 16;

/// A header: its entries, and the values that these point into.
pub(super) struct Header<'h> {
    entries: &'h [u8],
    values: &'h [u8],
}

impl<'h> Header<'h> {
    /// Takes a header apart; nothing where it is none.
    pub(super) fn parse(bytes: &'h [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
        let (entries, rest) = rest.split_at_checked(count.checked_mul(ENTRY)?)?;
        let values = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some(Self { entries, values })
    }

    /// The package; nothing for keys of signatures, which are kept among packages.
    pub(super) fn package(&self, distribution: Option<&str>, found_in: &str) -> Option<Package> {
        let name = self.text(NAME).filter(|name| name != "gpg-pubkey")?;
        let version = match (self.number(EPOCH), self.text(VERSION)?, self.text(RELEASE)) {
            (Some(epoch), version, Some(release)) if epoch > 0 => format!("{epoch}:{version}-{release}"),
            (_, version, Some(release)) => format!("{version}-{release}"),
            (_, version, None) => version,
        };
        Some(Package {
            namespace: distribution.map(str::to_owned),
            architecture: self.text(ARCHITECTURE),
            source: self.text(SOURCE),
            license: self.text(LICENSE),
            supplier: self.text(VENDOR),
            ..Package::new(Ecosystem::Rpm, &name, &version, found_in)
        })
    }

    /// The values from where those of a tag begin, if they are of one of these types.
    fn values(&self, tag: u32, types: &[u32]) -> Option<&'h [u8]> {
        self.entries.chunks_exact(ENTRY).find_map(|entry| {
            let field = |index: usize| Some(u32::from_be_bytes(entry.get(index * 4..index * 4 + 4)?.try_into().ok()?));
            if field(0)? != tag || !types.contains(&field(1)?) {
                return None;
            }
            self.values.get(usize::try_from(field(2)?).ok()?..)
        })
    }

    fn text(&self, tag: u32) -> Option<String> {
        let text = self.values(tag, &TEXTS)?.split(|byte| *byte == 0).next()?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }

    fn number(&self, tag: u32) -> Option<u32> {
        Some(u32::from_be_bytes(*self.values(tag, &[NUMBER])?.first_chunk()?))
    }
}
