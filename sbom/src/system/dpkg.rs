//! Debian's `dpkg`: one file of stanzas, or (in images without `dpkg` itself) a directory of such files.
//!
//! Format: `deb822(5)`.

use kiln_cache::ViewError;

use crate::inventory::Found;
use crate::{Ecosystem, Package};

const STATUS: &[u8] = b"var/lib/dpkg/status";
const STATUS_DIRECTORY: &[u8] = b"var/lib/dpkg/status.d";

pub(super) fn find(found: &mut Found<'_>, distribution: &str) -> Result<(), ViewError> {
    let mut paths = vec![STATUS.to_vec()];
    if let Ok(files) = found.view.list(STATUS_DIRECTORY) {
        let is_status = |name: &[u8]| !name.ends_with(b".md5sums") && !name.ends_with(b".preinst");
        let files = files.iter().filter(|file| file.entry.is_file() && is_status(file.entry.name()));
        paths.extend(files.map(|file| file.entry.path.to_vec()));
    }
    for path in paths {
        let Some(text) = found.text(&path)? else { continue };
        let path = String::from_utf8_lossy(&path).into_owned();
        let packages = text.split("\n\n").filter_map(|stanza| package(stanza, distribution, &path));
        found.packages.extend(packages);
    }
    Ok(())
}

fn package(stanza: &str, distribution: &str, found_in: &str) -> Option<Package> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.eq_ignore_ascii_case(name)).then(|| value.trim().to_owned())
        })
    };
    // Removed packages stay listed while their configuration is kept.
    let is_installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
    let (name, version) = (field("Package")?, field("Version")?);
    is_installed.then(|| Package {
        namespace: Some(distribution.to_owned()),
        architecture: field("Architecture"),
        // `name (version)` where the version differs.
        source: field("Source").and_then(|source| source.split_whitespace().next().map(str::to_owned)),
        supplier: field("Maintainer"),
        ..Package::new(Ecosystem::Deb, &name, &version, found_in)
    })
}
