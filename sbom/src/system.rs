//! Packages of the operating system, from the databases of its package manager.

mod apk;
mod dpkg;
mod rpm;
#[cfg(test)]
mod tests;

use kiln_cache::ViewError;

use crate::Release;
use crate::inventory::Found;

/// Finds the packages that any package manager knows of.
pub(crate) fn find(found: &mut Found<'_>, release: Option<&Release>) -> Result<(), ViewError> {
    let id = release.map(|release| release.id.as_str());
    dpkg::find(found, id.unwrap_or("debian"))?;
    apk::find(found, id.unwrap_or("alpine"))?;
    rpm::find(found, id)
}
