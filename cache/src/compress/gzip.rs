//! gzip: a member for each block, made by all cores at once.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::sync::mpsc::{self, Receiver};

use libdeflater::{CompressionLvl, Compressor};
use rayon::ThreadPool;

use super::noise::is_noise;
use super::{IN_FLIGHT, Incoming};
use crate::archive::Block;
use crate::blobs::BlobWriter;

/// Writes a member for each block, in their order.
pub(super) fn gzip(
    incoming: Incoming,
    mut writer: BlobWriter,
    level: u8,
    pool: &'static ThreadPool,
) -> io::Result<BlobWriter> {
    let Incoming { blocks, give_back } = incoming;
    let (send, members) = mpsc::sync_channel::<Receiver<io::Result<(Block, Vec<u8>)>>>(IN_FLIGHT / 2);
    std::thread::scope(|scope| {
        let feeder = std::thread::Builder::new().spawn_scoped(scope, move || {
            for block in blocks {
                let (done, member) = mpsc::sync_channel(1);
                pool.spawn(move || drop(done.send(compress_block(block, level))));
                if send.send(member).is_err() {
                    break;
                }
            }
        });
        feeder?;
        for member in members {
            let (block, bytes) = member.recv().map_err(|_| io::Error::other("a thread that compressed died"))??;
            writer.write_all(&bytes)?;
            let _ = give_back.send(block);
        }
        Ok(writer)
    })
}

fn compress_block(block: Block, level: u8) -> io::Result<(Block, Vec<u8>)> {
    let member = compress(block.filled(), level)?;
    Ok((block, member))
}

/// A whole gzip member of these bytes: stored as they are, where they are noise.
pub(super) fn compress(bytes: &[u8], level: u8) -> io::Result<Vec<u8>> {
    let level = if level > 0 && is_noise(bytes, compress_at)? { 0 } else { level };
    compress_at(bytes, level)
}

/// A whole gzip member of this level, whatever the bytes are.
fn compress_at(bytes: &[u8], level: u8) -> io::Result<Vec<u8>> {
    thread_local! {
        static COMPRESSORS: RefCell<Vec<(u8, Compressor)>> = const { RefCell::new(Vec::new()) };
    }
    COMPRESSORS.with_borrow_mut(|known| {
        let position = match known.iter().position(|(of, _)| *of == level) {
            Some(position) => position,
            None => {
                let valid = CompressionLvl::new(i32::from(level));
                let valid = valid.map_err(|_| io::Error::other("no such compression level"))?;
                known.push((level, Compressor::new(valid)));
                known.len() - 1
            }
        };
        let compressor = &mut known[position].1;
        let mut member = vec![0; compressor.gzip_compress_bound(bytes.len())];
        let count = compressor.gzip_compress(bytes, &mut member).map_err(io::Error::other)?;
        member.truncate(count);
        Ok(member)
    })
}
