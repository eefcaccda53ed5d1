//! Compressed archives of layers: made when asked for, once, with the same bytes on any machine.
//!
//! gzip: the archive is cut into blocks of 1 MiB, each compressed by libdeflate as a member of its own, on all
//! cores; the members one after the other are the blob. Noise is stored as it is. zstd: one stream by libzstd with at
//! least one worker, whose output does not depend on how many there are.

mod ahead;
mod clamped;
mod estargz;
mod gzip;
mod noise;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write as _};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use kiln_solver::{Digest, Hasher};
use rusqlite::params;
use zstd::zstd_safe::CParameter;

use crate::archive::{Block, Blocks};
use crate::blobs::BlobWriter;
use crate::{Store, StoreError, database};
pub(crate) use ahead::Urgency;
pub use estargz::EstargzLayer;
use gzip::gzip;

/// How the archive of a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    Uncompressed,
    /// gzip.
    Gzip {
        /// 0 (nothing is made smaller) to 9, or [`ELSEWHERE`].
        level: u8,
    },
    /// Zstandard.
    Zstd {
        /// 1 to 22, or [`ELSEWHERE`].
        level: u8,
    },
}

/// The level of a blob that was made elsewhere: nobody knows.
pub const ELSEWHERE: u8 = u8::MAX;

impl Compression {
    /// gzip, made elsewhere.
    pub const GZIP: Self = Self::Gzip { level: ELSEWHERE };
    /// Zstandard, made elsewhere.
    pub const ZSTD: Self = Self::Zstd { level: ELSEWHERE };

    /// How a stream is compressed that begins with these bytes, of which there should be four.
    pub fn of_stream(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::GZIP,
            // A frame, or one to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::ZSTD,
            _ => Self::Uncompressed,
        }
    }

    fn to_text(self) -> String {
        match self {
            Self::Uncompressed => "uncompressed".to_owned(),
            Self::GZIP => "gzip:0".to_owned(),
            Self::ZSTD => "zstd:0".to_owned(),
            Self::Gzip { level: 0 } => "gzip:stored".to_owned(),
            Self::Gzip { level } => format!("gzip:{level}"),
            Self::Zstd { level } => format!("zstd:{level}"),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None => (text == "uncompressed").then_some(Self::Uncompressed),
            Some(("gzip", "0")) => Some(Self::GZIP),
            Some(("zstd", "0")) => Some(Self::ZSTD),
            Some(("gzip", "stored")) => Some(Self::Gzip { level: 0 }),
            Some(("gzip", level)) => Some(Self::Gzip { level: level.parse().ok()? }),
            Some(("zstd", level)) => Some(Self::Zstd { level: level.parse().ok()? }),
            Some(_) => None,
        }
    }

    fn is_made_elsewhere(self) -> bool {
        matches!(self, Self::GZIP | Self::ZSTD)
    }

    fn check(self) -> Result<(), StoreError> {
        let (format, level, levels) = match self {
            Self::Uncompressed => return Ok(()),
            Self::Gzip { level } => ("gzip", level, 0..=9),
            Self::Zstd { level } => ("zstd", level, 1..=22),
        };
        if levels.contains(&level) { Ok(()) } else { Err(StoreError::CompressionLevel { format, level, levels }) }
    }
}

/// One form of a layer's archive that is in the store as a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// The digest of the blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How it is compressed.
    pub compression: Compression,
}

/// Undoes gzip (of any number of members) or Zstandard, whichever the first bytes tell; other streams pass as they are.
///
/// # Errors
/// When the first bytes cannot be read.
pub fn decompress<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut first = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut first)?;
    let kind = Compression::of_stream(&first);
    let whole = Cursor::new(first).chain(input);
    Ok(match kind {
        Compression::Uncompressed => Box::new(whole),
        Compression::Gzip { .. } => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd { .. } => Box::new(zstd::Decoder::with_buffer(whole)?),
    })
}

impl Store {
    /// A blob of this layer in this compression: found, or made now. The same layer and compression give the
    /// same bytes on any machine. Asked for by several threads at once, it is made by one.
    ///
    /// # Errors
    /// When the layer is not here, was imported without its blob, the level does not exist, or the store cannot be
    /// written.
    pub fn layer_blob(&self, diff_id: &Digest, compression: Compression) -> Result<LayerBlob, StoreError> {
        self.make_layer_blob(diff_id, compression, Urgency::Now)
    }

    fn make_layer_blob(
        &self,
        diff_id: &Digest,
        compression: Compression,
        urgency: Urgency<'_>,
    ) -> Result<LayerBlob, StoreError> {
        if let Some(blob) = self.find_layer_blob(diff_id, compression)? {
            return Ok(blob);
        }
        compression.check()?;
        let _turn = self.inner().compressing.enter((*diff_id, compression));
        if let Some(blob) = self.find_layer_blob(diff_id, compression)? {
            return Ok(blob);
        }
        let (writer, ()) = self.compress(compression, urgency, |pass_on| self.each_block(diff_id, pass_on))?;
        let expected = (compression == Compression::Uncompressed).then(|| (*diff_id, writer.size()));
        let blob = writer.commit(expected)?;
        let blob = LayerBlob { digest: blob.digest, size: blob.size, compression };
        self.remember_blob(diff_id, &blob)?;
        Ok(blob)
    }

    /// A blob of this layer in whatever compression is here; the one it was pulled as, if it was pulled.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn known_blob(&self, diff_id: &Digest) -> Result<Option<LayerBlob>, StoreError> {
        let mut known = self.layer_blobs(diff_id)?;
        known.sort_by_key(|(compression, _)| !compression.is_made_elsewhere());
        for (compression, digest) in known {
            if let Some(blob) = self.blob(&digest)? {
                return Ok(Some(LayerBlob { digest, size: blob.size, compression }));
            }
        }
        Ok(None)
    }

    /// Notes that a blob in the store is the archive of this layer.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remember_blob(&self, diff_id: &Digest, blob: &LayerBlob) -> Result<(), StoreError> {
        let insert = "INSERT OR REPLACE INTO layer_blobs (diff_id, compression, digest, saved) VALUES (?1, ?2, ?3, ?4)";
        self.inner().database.write(|transaction| {
            transaction.prepare_cached(insert)?.execute(params![
                diff_id.as_bytes(),
                blob.compression.to_text(),
                blob.digest.as_bytes(),
                database::to_nanos(SystemTime::now()),
            ])?;
            Ok(())
        })
    }

    fn find_layer_blob(&self, diff_id: &Digest, compression: Compression) -> Result<Option<LayerBlob>, StoreError> {
        let known = self.layer_blobs(diff_id)?;
        let Some((_, digest)) = known.into_iter().find(|(known, _)| *known == compression) else { return Ok(None) };
        Ok(self.blob(&digest)?.map(|blob| LayerBlob { digest, size: blob.size, compression }))
    }

    fn layer_blobs(&self, diff_id: &Digest) -> Result<Vec<(Compression, Digest)>, StoreError> {
        let query = "SELECT compression, digest FROM layer_blobs WHERE diff_id = ?1 ORDER BY saved";
        let rows: Vec<(String, Digest)> = self.inner().database.read(|connection| {
            let mut query = connection.prepare_cached(query)?;
            query.query_map([diff_id.as_bytes()], |row| Ok((row.get(0)?, database::digest(row, 1)?)))?.collect()
        })?;
        let known = |(text, digest): (String, Digest)| Some((Compression::from_text(&text)?, digest));
        Ok(rows.into_iter().filter_map(known).collect())
    }

    /// Compresses what `produce` hands on into a blob.
    fn compress<T: Send>(
        &self,
        compression: Compression,
        urgency: Urgency<'_>,
        produce: impl FnOnce(&mut PassOn<'_>) -> Result<T, StoreError> + Send,
    ) -> Result<(BlobWriter, T), StoreError> {
        let writer = self.blob_writer()?.hashed_apart();
        let produce = |pass_on: &mut PassOn<'_>| {
            produce(&mut |block| {
                urgency.check()?;
                pass_on(block)
            })
        };
        match compression {
            Compression::Uncompressed => self.pipe(produce, writer, copy),
            Compression::Gzip { level } => self.pipe(produce, writer, |blocks, writer| {
                let pool = urgency.pool().ok_or_else(|| io::Error::other("cannot start threads to compress with"))?;
                gzip(blocks, writer, level, pool)
            }),
            Compression::Zstd { level } => self.pipe(produce, writer, |blocks, writer| zstd(blocks, writer, level)),
        }
    }

    /// Makes an archive on one thread and lets `consume` take its blocks on this one.
    fn pipe<T: Send>(
        &self,
        produce: impl FnOnce(&mut PassOn<'_>) -> Result<T, StoreError> + Send,
        writer: BlobWriter,
        consume: impl FnOnce(Incoming, BlobWriter) -> io::Result<BlobWriter>,
    ) -> Result<(BlobWriter, T), StoreError> {
        let (send, blocks) = mpsc::sync_channel(IN_FLIGHT);
        let (give_back, empty) = mpsc::channel();
        std::thread::scope(|scope| {
            let mut made = 1;
            let producer = std::thread::Builder::new()
                .spawn_scoped(scope, move || produce(&mut |block| pass_on(&send, &empty, &mut made, block)));
            let producer = producer.map_err(|_| StoreError::Thread("start a thread to read a layer"))?;
            let consumed = consume(Incoming { blocks, give_back }, writer);
            let died = || StoreError::Thread("go on: a thread that read a layer died");
            let produced = producer.join().map_err(|_| died())?;
            match consumed {
                // The producer has only noticed that nobody listens any more.
                Err(error) => Err(StoreError::io("write a blob in", self.root().join("tmp"))(error)),
                Ok(writer) => produced.map(|produced| (writer, produced)),
            }
        })
    }

    /// Hands on the blocks of a layer's archive: from its files where it was made here, else from a blob.
    fn each_block(&self, diff_id: &Digest, pass_on: &mut PassOn<'_>) -> Result<(), StoreError> {
        match self.layer(diff_id)? {
            Some(layer) if !layer.is_imported() => return layer.write_blocks(pass_on),
            _ => {}
        }
        let known = self.known_blob(diff_id)?;
        let Some(known) = known else { return Err(self.no_archive(diff_id)?) };
        let Some(blob) = self.blob(&known.digest)? else { return Err(StoreError::NoArchive(*diff_id)) };
        let io = || StoreError::io("read", &blob.path);
        let file = File::open(&blob.path).map_err(io())?;
        let archive = decompress(BufReader::with_capacity(256 << 10, file)).map_err(io())?;
        let mut hasher = Hasher::new();
        let mut blocks = Blocks::new(pass_on);
        let copied = blocks.put_from(archive, u64::MAX, |bytes| hasher.update(bytes));
        copied.and_then(|_| blocks.finish()).map_err(io())?;
        let found = hasher.finish();
        if found != *diff_id {
            return Err(StoreError::WrongDigest { what: "the layer's archive", expected: *diff_id, found });
        }
        Ok(())
    }

    fn no_archive(&self, diff_id: &Digest) -> Result<StoreError, StoreError> {
        Ok(if self.has_layer(diff_id)? { StoreError::NoArchive(*diff_id) } else { StoreError::NoLayer(*diff_id) })
    }
}

/// Takes a full block and gives an empty one.
type PassOn<'a> = dyn FnMut(Block) -> io::Result<Block> + 'a;

/// How many blocks wait between threads.
const IN_FLIGHT: usize = 8;

/// Blocks that another thread makes.
struct Incoming {
    blocks: Receiver<Block>,
    give_back: mpsc::Sender<Block>,
}

/// Sends a block and waits for an empty one. There are more than fit into the channel, so the last of them is
/// with the consumer, who gives it back.
fn pass_on(send: &SyncSender<Block>, empty: &Receiver<Block>, made: &mut usize, block: Block) -> io::Result<Block> {
    let gone = || io::Error::other("nobody takes the blocks");
    send.send(block).map_err(|_| gone())?;
    match empty.try_recv() {
        Ok(block) => Ok(block),
        Err(_) if *made < 2 * IN_FLIGHT => {
            *made += 1;
            Ok(Block::new())
        }
        Err(_) => empty.recv().map_err(|_| gone()),
    }
}

fn copy(incoming: Incoming, mut writer: BlobWriter) -> io::Result<BlobWriter> {
    for block in incoming.blocks {
        writer.write_all(block.filled())?;
        let _ = incoming.give_back.send(block);
    }
    Ok(writer)
}

/// Up to this level Zstandard looks back no further than a [`JOB`].
const SHORT_WINDOWS: u8 = 8;
/// How much a worker compresses at a time. libzstd would take four times as much, and as much more memory for each
/// worker, for archives that are smaller by a 150th.
const JOB: u32 = 2 << 20;

fn zstd(incoming: Incoming, writer: BlobWriter, level: u8) -> io::Result<BlobWriter> {
    let mut encoder = zstd_encoder(writer, level, workers())?;
    for block in incoming.blocks {
        encoder.write_all(block.filled())?;
        let _ = incoming.give_back.send(block);
    }
    encoder.finish()
}

/// With at least one worker.
fn zstd_encoder<W: io::Write>(output: W, level: u8, workers: u32) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(output, i32::from(level))?;
    encoder.multithread(workers)?;
    if level <= SHORT_WINDOWS {
        encoder.set_parameter(CParameter::JobSize(JOB))?;
    }
    Ok(encoder)
}

fn workers() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)).min(16)
}

/// What is being made, so that nobody makes it twice at once.
#[derive(Default)]
pub(crate) struct Compressing {
    busy: Mutex<HashSet<(Digest, Compression)>>,
    freed: Condvar,
}

struct Turn<'a> {
    compressing: &'a Compressing,
    what: (Digest, Compression),
}

impl Compressing {
    /// Waits until nobody makes it.
    fn enter(&self, what: (Digest, Compression)) -> Turn<'_> {
        let mut busy = self.lock();
        while !busy.insert(what) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { compressing: self, what }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(Digest, Compression)>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.compressing.lock().remove(&self.what);
        self.compressing.freed.notify_all();
    }
}

#[cfg(test)]
mod tests;
