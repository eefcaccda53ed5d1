//! What the files of a context hold: known from the stat cache, else read, in parallel.

use std::io::Read;
use std::sync::PoisonError;
use std::time::SystemTime;

use kiln_solver::{Cancel, Hasher};
use rayon::prelude::*;

use super::listing::{Content, Node, look_at, open_file};
use super::stat_cache::{Identity, Known, StatCache};
use super::{Context, ContextError};
use crate::files::{Kind, attributes_of};

/// Small enough to stay in the processor's cache between reading and hashing.
const CHUNK: usize = 256 * 1024;
/// How often a file is read again that changes while it is read.
const TRIES: usize = 3;

/// What there is to remember of a file that was read.
type Learned = Option<(Identity, Known)>;

impl Context {
    /// Finds out what these files hold, wherever that is not known yet.
    pub(crate) fn hash<'a>(
        &self,
        files: impl Iterator<Item = (&'a [u8], &'a Node)> + Clone,
        cancel: &Cancel,
    ) -> Result<(), ContextError> {
        let open: Vec<_> = files.clone().filter(|(_, node)| node.content.get().is_none()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let known = self.known();
        let learn = |buffer: &mut Vec<u8>, (path, node): &(&[u8], &Node)| {
            if cancel.is_requested() {
                return Err(ContextError::Cancelled);
            }
            let (content, learned) = self.find_out(known, path, node, buffer)?;
            let _ = node.content.set(content);
            Ok(learned)
        };
        let learned: Vec<Learned> =
            open.par_iter().with_min_len(16).map_init(Vec::new, learn).collect::<Result<_, _>>()?;
        if learned.iter().any(Option::is_some) {
            let mut all = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(learned.into_iter().flatten());
            let again = files.filter_map(|(_, node)| found_again(known, node));
            // It is a cache: a disk that is full or read-only makes the next build slower and this one no worse.
            let _ = known.save(again.chain(all.iter().copied()));
        }
        Ok(())
    }

    fn find_out(
        &self,
        known: &StatCache,
        path: &[u8],
        node: &Node,
        buffer: &mut Vec<u8>,
    ) -> Result<(Content, Learned), ContextError> {
        match known.find(&node.identity) {
            Some(Known { digest, attributes: false }) => {
                Ok((Content { digest, size: node.identity.size, attributes: None }, None))
            }
            Some(Known { digest, attributes: true }) => {
                let file = open_file(self.descriptor(), path).map_err(|errno| self.error("open", path, errno))?;
                let attributes = attributes_of(&file).map_err(|errno| self.error("read", path, errno))?;
                Ok((Content::new(digest, node.identity.size, attributes), None))
            }
            None => self.read(path, buffer),
        }
    }

    fn read(&self, path: &[u8], buffer: &mut Vec<u8>) -> Result<(Content, Learned), ContextError> {
        buffer.resize(CHUNK, 0);
        for _ in 0..TRIES {
            let started = SystemTime::now();
            let mut file = open_file(self.descriptor(), path).map_err(|errno| self.error("open", path, errno))?;
            let (kind, before) = look_at(&file).map_err(|errno| self.error("read", path, errno))?;
            if kind != Kind::File {
                return Err(self.changed(path));
            }
            let mut hasher = Hasher::new();
            let mut size = 0;
            loop {
                match file.read(buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        hasher.update(&buffer[..count]);
                        size += count as u64;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(self.error("read", path, error)),
                }
            }
            let attributes = attributes_of(&file).map_err(|errno| self.error("read", path, errno))?;
            let (_, after) = look_at(&file).map_err(|errno| self.error("read", path, errno))?;
            if before == after && size == after.size {
                let content = Content::new(hasher.finish(), size, attributes);
                let known = Known { digest: content.digest, attributes: content.attributes.is_some() };
                return Ok((content, after.settled(started).then_some((after, known))));
            }
        }
        Err(self.changed(path))
    }
}

/// A file that the stat cache knew already, to be remembered on.
fn found_again(known: &StatCache, node: &Node) -> Learned {
    known.find(&node.identity).map(|found| (node.identity, found))
}
