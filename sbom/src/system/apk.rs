//! Alpine's `apk`: one file of stanzas, a letter for each field.
//!
//! Format: <https://wiki.alpinelinux.org/wiki/Apk_spec>.

use kiln_cache::ViewError;

use crate::inventory::Found;
use crate::{Ecosystem, Package};

/// Where it is, the newer place first.
const INSTALLED: [&str; 2] = ["usr/lib/apk/db/installed", "lib/apk/db/installed"];

pub(super) fn find(found: &mut Found<'_>, distribution: &str) -> Result<(), ViewError> {
    for path in INSTALLED {
        // One is often a link to the other.
        if let Some(text) = found.text(path.as_bytes())? {
            found.packages.extend(text.split("\n\n").filter_map(|stanza| package(stanza, distribution, path)));
            return Ok(());
        }
    }
    Ok(())
}

fn package(stanza: &str, distribution: &str, found_in: &str) -> Option<Package> {
    let field = |letter: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'));
        line.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let (name, version) = (field("P")?, field("V")?);
    Some(Package {
        namespace: Some(distribution.to_owned()),
        architecture: field("A"),
        source: field("o").filter(|origin| *origin != name),
        license: field("L"),
        supplier: field("m"),
        ..Package::new(Ecosystem::Apk, &name, &version, found_in)
    })
}
