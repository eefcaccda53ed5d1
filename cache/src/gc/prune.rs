//! Taking away what nobody needs, the least recently used first.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_solver::{Digest, Layer};
use rusqlite::{Transaction, params};
use rustix::fs::FlockOperation;

use super::policy::Disk;
use super::{Bounds, Filter, Usage, UsageKind};
use crate::generation::Generations;
use crate::observations::RecordedChange;
use crate::records::RecordedOutput;
use crate::{Store, StoreError, database, images, mounts, session};

/// What a prune may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Also what was fetched of base images, where no image of this store needs it.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Only what fits one of these, where there are any.
    pub filters: Vec<Filter>,
    /// No more than it takes to bring the cache (what images need does not count) within these.
    pub bounds: Bounds,
    /// Say what would go, and take nothing.
    pub dry_run: bool,
}

/// What a prune has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Each thing.
    pub taken: Vec<Usage>,
    /// The bytes of disk that are free now, or will be once the builds that run now have ended.
    pub size: u64,
}

impl Store {
    /// Takes away what `prune` allows. Images stay whole, and so does all that a running build uses, whatever it
    /// is that it does at the moment.
    ///
    /// # Errors
    /// When the store cannot be read or written. What was taken until then is gone.
    pub fn prune(&self, prune: &Prune) -> Result<Pruned, StoreError> {
        self.prune_of(&mut self.usage()?, prune)
    }

    /// The same of what is known to be in the store; what was taken is removed from that.
    pub(super) fn prune_of(&self, usage: &mut Vec<Usage>, prune: &Prune) -> Result<Pruned, StoreError> {
        let used: u64 = usage.iter().filter(|usage| usage.is_reclaimable()).map(|usage| usage.size).sum();
        // What is condemned is as good as free: it goes when the builds that run have ended.
        let condemned: u64 = usage.iter().filter(|usage| usage.is_condemned()).map(|usage| usage.size).sum();
        let mut disk = self.disk()?;
        disk.free = disk.free.saturating_add(condemned);
        let keep = prune.bounds.keep(used, disk);
        let mut excess = used.saturating_sub(keep);
        let mut candidates: Vec<Usage> = usage.iter().filter(|usage| prune.may_take(usage)).cloned().collect();
        candidates.sort_by_key(|usage| usage.used.or(usage.created));
        let wanted = candidates.into_iter().take_while(|usage| {
            let is_wanted = keep == 0 || excess > 0;
            excess = excess.saturating_sub(usage.size);
            is_wanted
        });
        let wanted: Vec<Usage> = wanted.collect();
        let taken = if prune.dry_run { wanted } else { self.take(wanted)? };
        usage.retain(|usage| !taken.iter().any(|taken| taken.id == usage.id));
        let size = taken.iter().map(|usage| usage.size).sum();
        Ok(Pruned { taken, size })
    }

    /// The disk that the store lies on.
    fn disk(&self) -> Result<Disk, StoreError> {
        let disk = rustix::fs::statvfs(self.root()).map_err(StoreError::io("ask for the space of", self.root()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Disk { size: bytes(disk.f_blocks), free: bytes(disk.f_bavail) })
    }

    /// The size of the disk that the store lies on, in bytes.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn disk_size(&self) -> Result<u64, StoreError> {
        Ok(self.disk()?.size)
    }

    fn take(&self, wanted: Vec<Usage>) -> Result<Vec<Usage>, StoreError> {
        let of = |kind| -> HashSet<Digest> {
            let of = wanted.iter().filter(|usage| usage.kind == kind);
            of.filter_map(|usage| usage.id.parse().ok()).collect()
        };
        let (layers, blobs) = (of(UsageKind::Layer), of(UsageKind::Blob));
        let mut condemned = HashSet::new();
        if !layers.is_empty() || !blobs.is_empty() {
            condemned = self.condemn(&layers, &blobs)?;
        }
        self.end_generation()?;
        self.reap()?;
        let mut taken = Vec::new();
        for usage in wanted {
            let is_gone = match usage.kind {
                UsageKind::CacheMount => self.take_mount(&self.root().join(&usage.id))?,
                UsageKind::Context | UsageKind::Git => self.take_context(&self.root().join(&usage.id))?,
                _ => condemned.contains(&usage.id),
            };
            if is_gone {
                taken.push(usage);
            }
        }
        Ok(taken)
    }

    /// Takes rows out of sight, with what is remembered of the steps that made them. What an image has come to need
    /// in the meantime stays.
    pub(super) fn condemn(
        &self,
        layers: &HashSet<Digest>,
        blobs: &HashSet<Digest>,
    ) -> Result<HashSet<String>, StoreError> {
        self.inner().database.write(|transaction| {
            let (held_layers, held_blobs) = held(transaction)?;
            let generation = Generations::of(self.root()).number()?;
            let layers: HashSet<&Digest> = layers.iter().filter(|digest| !held_layers.contains(digest)).collect();
            let blobs = blobs.iter().filter(|digest| !held_blobs.contains(digest));
            let mut gone = HashSet::new();
            for digest in &layers {
                let update = "UPDATE layers SET condemned = ?2 WHERE diff_id = ?1 AND condemned IS NULL";
                transaction.prepare_cached(update)?.execute(params![digest.as_bytes(), generation])?;
                gone.insert(digest.to_string());
            }
            for digest in blobs {
                let update = "UPDATE blobs SET condemned = ?2 WHERE digest = ?1 AND condemned IS NULL";
                transaction.prepare_cached(update)?.execute(params![digest.as_bytes(), generation])?;
                gone.insert(digest.to_string());
            }
            forget(transaction, &layers)?;
            transaction.execute(
                "DELETE FROM image_references WHERE manifest IN (SELECT digest FROM blobs WHERE condemned IS NOT NULL)",
                [],
            )?;
            Ok(gone)
        })
    }

    /// Ends the generation if anything was condemned in it or before, also by somebody who was killed then. That is out
    /// of sight by now: one who entered the next generation earlier could have found it and lost it again.
    fn end_generation(&self) -> Result<(), StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM layers WHERE condemned IS NOT NULL AND condemned <= ?1)
            OR EXISTS (SELECT 1 FROM blobs WHERE condemned IS NOT NULL AND condemned <= ?1)";
        self.inner().database.write(|transaction| {
            let generations = Generations::of(self.root());
            if transaction.query_row(query, [generations.number()?], |row| row.get(0))? {
                generations.advance()?;
            }
            Ok(())
        })
    }

    /// Removes a copy of a cache mount; `false` where somebody uses it.
    fn take_mount(&self, copy: &Path) -> Result<bool, StoreError> {
        let io = || StoreError::io("remove", copy);
        let Some(cache) = copy.parent() else { return Ok(false) };
        // Whoever looks for a copy holds the first lock, whoever uses one the second.
        let mut locks = Vec::new();
        for path in [cache.join("lock"), copy.join("lock")] {
            let file = match std::fs::File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                file => file.map_err(io())?,
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if !mounts::is_at(&file, &path).map_err(io())? => return Ok(false),
                Ok(()) => locks.push(file),
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
                Err(error) => return Err(io()(error.into())),
            }
        }
        let trash = self.inner().session()?.name("trash");
        std::fs::rename(copy, &trash).map_err(io())?;
        drop(locks);
        session::remove_tree(&trash).map_err(io())?;
        Ok(true)
    }

    /// Notes that the layers which this store has looked at are in use now. Cheap where they were not long ago.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn note_use(&self) -> Result<(), StoreError> {
        /// Nothing is pruned by the minute.
        const FRESH: Duration = Duration::from_secs(600);
        let now = SystemTime::now();
        let stale = now.checked_sub(FRESH).map_or(i64::MIN, database::to_nanos);
        let layers = self.layers_in_use();
        let old: Vec<Digest> = self.inner().database.read(|connection| {
            let query = "SELECT 1 FROM layers WHERE diff_id = ?1 AND max(saved, ifnull(used, 0)) < ?2";
            let mut query = connection.prepare_cached(query)?;
            let mut old = Vec::new();
            for layer in layers {
                if query.exists(params![layer.as_bytes(), stale])? {
                    old.push(layer);
                }
            }
            Ok(old)
        })?;
        if old.is_empty() {
            return Ok(());
        }
        self.inner().database.write(|transaction| {
            let mut update = transaction.prepare_cached("UPDATE layers SET used = ?2 WHERE diff_id = ?1")?;
            for layer in &old {
                update.execute(params![layer.as_bytes(), database::to_nanos(now)])?;
            }
            Ok(())
        })
    }
}

impl Prune {
    fn may_take(&self, usage: &Usage) -> bool {
        let fits = self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches(usage));
        let is_old = self.unused_for.is_none_or(|unused_for| {
            let age = usage.used.or(usage.created).and_then(|used| SystemTime::now().duration_since(used).ok());
            age.is_some_and(|age| age >= unused_for)
        });
        usage.is_reclaimable() && (self.all || !usage.is_fetched) && fits && is_old
    }
}

/// The layers and blobs that images need.
fn held(transaction: &Transaction<'_>) -> Result<(HashSet<Digest>, HashSet<Digest>), StoreError> {
    let images = images::all(transaction)?;
    let mut blobs: HashSet<Digest> = images.iter().flat_map(|(_, image)| image.documents()).collect();
    let layers: HashSet<Digest> =
        images.iter().flat_map(|(_, image)| image.all_layers().map(|layer| layer.diff_id)).collect();
    let mut query = transaction.prepare("SELECT diff_id, digest FROM layer_blobs")?;
    let rows = query.query_map([], |row| Ok((database::digest(row, 0)?, database::digest(row, 1)?)))?;
    for row in rows.chain(images::origins(transaction)?.into_iter().map(Ok)) {
        let (diff_id, digest) = row?;
        if layers.contains(&diff_id) {
            blobs.insert(digest);
        }
    }
    Ok((layers, blobs))
}

/// Forgets the steps whose result needs one of these layers.
fn forget(transaction: &Transaction<'_>, layers: &HashSet<&Digest>) -> Result<(), StoreError> {
    let needs = |found: Vec<Layer>| found.iter().any(|layer| layers.contains(&layer.diff_id));
    for (table, column, layers_in) in [
        ("records", "outputs", RecordedOutput::layers_in as fn(&str) -> Vec<Layer>),
        ("observations", "changes", RecordedChange::layers_in),
    ] {
        let mut query = transaction.prepare(&format!("SELECT id, {column} FROM {table}"))?;
        let rows = query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        let mut gone = Vec::new();
        for row in rows {
            let (id, text) = row?;
            if needs(layers_in(&text)) {
                gone.push(id);
            }
        }
        let mut delete = transaction.prepare(&format!("DELETE FROM {table} WHERE id = ?1"))?;
        for id in gone {
            delete.execute([id])?;
        }
    }
    Ok(())
}
