//! `Packages.db`: a table of slots that say where headers lie, little-endian.

const FILE_MAGIC: &[u8] = b"RpmP";
const SLOT_MAGIC: &[u8] = b"Slot";
const BLOB_MAGIC: &[u8] = b"BlbS";
/// Slots take pages of this size.
const PAGE: usize = 4096;
const SLOT: usize = 16;
/// Blobs lie at multiples of this.
const BLOCK: usize = 16;
/// The first slots' room has the file's own header.
const HEADER: usize = 32;
const BLOB_HEADER: usize = 16;

/// The headers of all packages, or what is wrong with the file.
pub(super) fn headers(bytes: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    if bytes.get(..4) != Some(FILE_MAGIC) {
        return Err("not an RPM database");
    }
    let pages = number(bytes, 12).ok_or("a truncated RPM database")?;
    let end = pages.checked_mul(PAGE).ok_or("a damaged RPM database")?;
    let slots = bytes.get(HEADER..end).ok_or("a truncated RPM database")?;
    let mut headers = Vec::new();
    for slot in slots.chunks_exact(SLOT) {
        if slot.get(..4) != Some(SLOT_MAGIC) {
            return Err("an RPM database with a damaged slot");
        }
        let place = number(slot, 8).unwrap_or_default();
        if place == 0 {
            continue;
        }
        let header = blob(bytes, place, number(slot, 4).unwrap_or_default());
        headers.push(header.ok_or("an RPM database with a damaged header")?.to_vec());
    }
    Ok(headers)
}

fn blob(bytes: &[u8], place: usize, package: usize) -> Option<&[u8]> {
    let blob = bytes.get(place.checked_mul(BLOCK)?..)?;
    let is_it = blob.get(..4)? == BLOB_MAGIC && number(blob, 4)? == package;
    let length = number(blob, 12)?;
    blob.get(BLOB_HEADER..BLOB_HEADER.checked_add(length)?).filter(|_| is_it)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}
