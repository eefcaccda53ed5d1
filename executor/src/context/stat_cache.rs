//! The stat cache of a context: which file, by all that `stat` tells of it, has which digest.
//!
//! ```text
//! $ROOT/contexts/HEX       HEX: the digest of the context's real path
//!   header   "kilnstat", version u32, generation u32, slots u64, records u64, 0 u64…     64 bytes
//!   slots    a hash table with linear probing over (dev, ino), three quarters full,      96 bytes each:
//!            empty slots are zero
//!            check u64, dev u64, ino u64, size u64, mtime i64, ctime i64,
//!            mtime nanoseconds u32, ctime nanoseconds u32, generation u32, flags u32, digest [u8; 32]
//! ```
//! All little-endian. It is a cache: written beside and renamed, without a lock, so that the last writer wins;
//! a damaged file or record counts as absent. A record that no build has used for [`MOST_AGE`] generations
//! (rewritings of the file) is dropped.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_cache::Timestamp;
use kiln_solver::Digest;
use memmap2::Mmap;
use rustix::fs::FlockOperation;

use super::map::map;

const MAGIC: &[u8; 8] = b"kilnstat";
const VERSION: u32 = 3;
const HEADER: usize = 64;
const RECORD: usize = 96;
/// Where things are in a record.
const CHECK: usize = 0;
const DEVICE: usize = 8;
const INODE: usize = 16;
const MOST_AGE: u32 = 64;

/// The kernel stamps files with the time of its last clock tick, 10 ms ago at most; a file that is no older than
/// this may change again without a change of its times.
const FINE: Duration = Duration::from_millis(25);
/// The same on file systems that keep whole seconds, or every second one.
const COARSE: Duration = Duration::from_millis(2100);

/// What tells a file from all others and from itself at other times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    pub(crate) changed: Timestamp,
}

/// What is known of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) digest: Digest,
    /// Whether it has extended attributes that count.
    pub(crate) attributes: bool,
}

/// What earlier builds learned.
#[derive(Default)]
pub(crate) struct StatCache {
    path: PathBuf,
    table: Option<Mmap>,
    slots: usize,
    generation: u32,
}

impl Identity {
    /// Whether the file was left alone long enough before `hashed` that any later change must show: git's rule
    /// for racy entries.
    pub(crate) fn settled(&self, hashed: SystemTime) -> bool {
        let settled = |time: Timestamp| {
            let slack = if time.nanos.is_multiple_of(1_000_000) { COARSE } else { FINE };
            let Ok(seconds) = u64::try_from(time.seconds) else { return true };
            let stamp = UNIX_EPOCH.checked_add(Duration::new(seconds, time.nanos));
            stamp.and_then(|stamp| stamp.checked_add(slack)).is_some_and(|stamp| stamp < hashed)
        };
        settled(self.modified) && settled(self.changed)
    }

    fn slot(&self, slots: usize) -> usize {
        let mixed = mix(mix(self.device) ^ self.inode);
        usize::try_from((u128::from(mixed) * slots as u128) >> 64).unwrap_or(0)
    }
}

impl StatCache {
    /// Opens the cache file; none, an unreadable or a damaged one is an empty cache.
    pub(crate) fn open(path: PathBuf) -> Self {
        let table = map(&path).ok().flatten();
        let header = table.as_deref().and_then(read_header);
        match header {
            Some((generation, slots)) => Self { path, table, slots, generation },
            None => Self { path, ..Self::default() },
        }
    }

    /// What is known of this very file.
    pub(crate) fn find(&self, file: &Identity) -> Option<Known> {
        let table = self.table.as_deref()?;
        let mut slot = file.slot(self.slots);
        for _ in 0..self.slots {
            let record = record(table, slot)?;
            if u64_at(record, CHECK) == 0 {
                return None;
            }
            if (u64_at(record, DEVICE), u64_at(record, INODE)) == (file.device, file.inode)
                && let Some((found, known, _)) = decode(record)
            {
                return (found == *file).then_some(known);
            }
            slot = next_slot(slot, self.slots);
        }
        None
    }

    /// Writes the cache anew: these files and what other files it held that are not too long unused.
    pub(crate) fn save(&self, files: impl IntoIterator<Item = (Identity, Known)>) -> io::Result<()> {
        let generation = self.generation.wrapping_add(1);
        let mut records: HashMap<(u64, u64), (Identity, Known, u32)> = HashMap::new();
        for (file, known, used) in self.records() {
            if generation.wrapping_sub(used) <= MOST_AGE {
                records.insert((file.device, file.inode), (file, known, used));
            }
        }
        for (file, known) in files {
            records.insert((file.device, file.inode), (file, known, generation));
        }
        write(&self.path, &encode_table(generation, records.into_values()))
    }

    fn records(&self) -> impl Iterator<Item = (Identity, Known, u32)> + '_ {
        let table = self.table.as_deref().unwrap_or_default();
        (0..self.slots).filter_map(move |slot| decode(record(table, slot)?))
    }
}

/// Bit mixing of splitmix64: neighbouring inodes must not crowd one stretch of the table.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn read_header(table: &[u8]) -> Option<(u32, usize)> {
    let slots = usize::try_from(u64_at(table, 16)).ok()?;
    let fits = slots > 0 && slots.checked_mul(RECORD)?.checked_add(HEADER)? == table.len();
    (table.get(..8)? == MAGIC && u32_at(table, 8) == VERSION && fits).then(|| (u32_at(table, 12), slots))
}

/// The slot to look at next.
fn next_slot(slot: usize, slots: usize) -> usize {
    if slot + 1 == slots { 0 } else { slot + 1 }
}

fn record(table: &[u8], slot: usize) -> Option<&[u8]> {
    let start = HEADER + slot * RECORD;
    table.get(start..start + RECORD)
}

/// A checksum, against files that a crash left half-written: a wrong digest would be a wrong cache hit. Each word is
/// mixed by itself, with its place, so that the processor can do several at once.
fn check(record: &[u8]) -> u64 {
    (8..RECORD).step_by(8).fold(1, |sum, at| sum.wrapping_add(mix(u64_at(record, at) ^ mix(at as u64))))
}

fn decode(record: &[u8]) -> Option<(Identity, Known, u32)> {
    if check(record) != u64_at(record, CHECK) {
        return None;
    }
    let time = |seconds, nanos| Timestamp {
        seconds: i64::from_le_bytes(u64_at(record, seconds).to_le_bytes()),
        nanos: u32_at(record, nanos),
    };
    let file = Identity {
        device: u64_at(record, DEVICE),
        inode: u64_at(record, INODE),
        size: u64_at(record, 24),
        modified: time(32, 48),
        changed: time(40, 52),
    };
    let digest = Digest::from_bytes(record.get(64..RECORD)?.try_into().ok()?);
    Some((file, Known { digest, attributes: u32_at(record, 60) & 1 != 0 }, u32_at(record, 56)))
}

fn encode(file: &Identity, known: &Known, generation: u32) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let mut put = |at: usize, field: &[u8]| record[at..at + field.len()].copy_from_slice(field);
    put(DEVICE, &file.device.to_le_bytes());
    put(INODE, &file.inode.to_le_bytes());
    put(24, &file.size.to_le_bytes());
    put(32, &file.modified.seconds.to_le_bytes());
    put(40, &file.changed.seconds.to_le_bytes());
    put(48, &file.modified.nanos.to_le_bytes());
    put(52, &file.changed.nanos.to_le_bytes());
    put(56, &generation.to_le_bytes());
    put(60, &u32::from(known.attributes).to_le_bytes());
    put(64, known.digest.as_bytes());
    let sum = check(&record);
    record[..8].copy_from_slice(&sum.to_le_bytes());
    record
}

fn encode_table(generation: u32, records: impl ExactSizeIterator<Item = (Identity, Known, u32)>) -> Vec<u8> {
    let count = records.len();
    let slots = count + count / 3 + 1;
    let mut table = vec![0; HEADER + slots * RECORD];
    table[..8].copy_from_slice(MAGIC);
    table[8..12].copy_from_slice(&VERSION.to_le_bytes());
    table[12..16].copy_from_slice(&generation.to_le_bytes());
    table[16..24].copy_from_slice(&(slots as u64).to_le_bytes());
    table[24..32].copy_from_slice(&(count as u64).to_le_bytes());
    for (file, known, used) in records {
        let mut slot = file.slot(slots);
        while record(&table, slot).is_some_and(|record| u64_at(record, CHECK) != 0) {
            slot = next_slot(slot, slots);
        }
        let start = HEADER + slot * RECORD;
        table[start..start + RECORD].copy_from_slice(&encode(&file, &known, used));
    }
    table
}

/// Beside and renamed, under a name that nobody else has. It is locked in the meantime: the next start of kiln removes
/// one that nobody holds.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.{}", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let beside = PathBuf::from(beside);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let written = fs::File::create_new(&beside)
        .and_then(|mut file| {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(bytes)?;
            Ok(file)
        })
        .and_then(|_locked| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> Identity {
        let time = Timestamp { seconds: 1_700_000_000, nanos: 5 };
        Identity { device: 66, inode, size: inode * 3, modified: time, changed: time }
    }

    fn known(inode: u64) -> Known {
        Known { digest: Digest::of(&inode.to_le_bytes()), attributes: inode.is_multiple_of(2) }
    }

    fn saved(count: u64) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("contexts/cache");
        StatCache::open(path.clone()).save((1..=count).map(|inode| (file(inode), known(inode)))).unwrap();
        (directory, path)
    }

    #[test]
    fn what_was_saved_is_found_and_nothing_else() {
        let (_directory, path) = saved(1000);
        let cache = StatCache::open(path);
        for inode in 1..=1000 {
            assert_eq!(cache.find(&file(inode)), Some(known(inode)));
            assert_eq!(cache.find(&Identity { size: 1_000_000, ..file(inode) }), None);
            let changed = Timestamp { seconds: 1_700_000_000, nanos: 6 };
            assert_eq!(cache.find(&Identity { changed, ..file(inode) }), None);
        }
        assert_eq!(cache.find(&file(1001)), None);
        assert_eq!(cache.find(&Identity { device: 67, ..file(1) }), None);
    }

    #[test]
    fn saving_keeps_the_others_until_they_are_old() {
        let (_directory, path) = saved(3);
        for _ in 0..MOST_AGE {
            StatCache::open(path.clone()).save([(file(1), known(7))]).unwrap();
        }
        let cache = StatCache::open(path.clone());
        assert_eq!((cache.find(&file(1)), cache.find(&file(2))), (Some(known(7)), Some(known(2))));
        cache.save([(file(1), known(7))]).unwrap();
        assert_eq!(StatCache::open(path).find(&file(2)), None);
    }

    #[test]
    fn a_damaged_file_is_an_empty_cache_and_a_damaged_record_is_no_record() {
        let (_directory, path) = saved(100);
        let whole = fs::read(&path).unwrap();
        for length in [0, 7, HEADER, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(StatCache::open(path.clone()).find(&file(1)), None);
        }
        for byte in HEADER..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x10;
            if byte % 37 == 0 {
                fs::write(&path, &damaged).unwrap();
                let cache = StatCache::open(path.clone());
                assert!((1..=100).all(|inode| cache.find(&file(inode)).is_none_or(|found| found == known(inode))));
            }
        }
        let mut endless = whole;
        endless[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        fs::write(&path, &endless).unwrap();
        assert_eq!(StatCache::open(path).find(&file(1)), None);
    }

    #[test]
    fn a_young_file_is_not_trusted() {
        let at = |nanos: u64| UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_nanos(nanos);
        let fine = file(1);
        assert!(!fine.settled(at(0)) && !fine.settled(at(20_000_000)) && fine.settled(at(30_000_000)));
        let whole = Timestamp { seconds: 1_700_000_000, nanos: 0 };
        let coarse = Identity { changed: whole, ..fine };
        assert!(!coarse.settled(at(30_000_000)) && coarse.settled(at(3_000_000_000)));
        let future = Timestamp { seconds: i64::MAX, nanos: 1 };
        assert!(!Identity { modified: future, ..fine }.settled(at(0)));
    }
}
