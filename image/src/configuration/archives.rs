//! How much one archive may hold that is unpacked, a layer of an image or one that is added.

use kiln_cache::ArchiveLimits;
use serde::Deserialize;

use super::history::size;

/// The section `[archives]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSettings {
    /// The most that all files of one archive may have: bytes, or a text such as `100GB`.
    #[serde(default, rename = "max-size", deserialize_with = "size")]
    max_size: Option<u64>,
    /// The most files, directories and other things in one archive.
    #[serde(default, rename = "max-entries")]
    max_entries: Option<u64>,
}

impl ArchiveSettings {
    /// What is written down; else the usual limits.
    pub fn limits(&self) -> ArchiveLimits {
        let usual = ArchiveLimits::default();
        ArchiveLimits { size: self.max_size.or(usual.size), entries: self.max_entries.unwrap_or(usual.entries) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Configuration;
    use super::*;

    #[test]
    fn limits_have_units_and_defaults() {
        let parse = |text: &str| Configuration::parse(text).unwrap().archives.limits();
        assert_eq!(parse(""), ArchiveLimits::default());
        let text = "[archives]\nmax-size = \"2 GB\"\nmax-entries = 5";
        assert_eq!(parse(text), ArchiveLimits { size: Some(2_000_000_000), entries: 5 });
        assert!(Configuration::parse("[archives]\nmax-layers = 1").is_err());
    }
}
