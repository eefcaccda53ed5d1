//! Files on disk, whoever put them there, as far as a layer can hold them: to compare what tools make of one image.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::layout::sha256;

/// Everything below a directory, by path, the directory itself left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk(BTreeMap<Vec<u8>, Thing>);

/// One file, directory or other thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thing {
    /// Type, mode, owner and what it holds, in words.
    looks: String,
    /// When a file was changed, in seconds.
    changed: Option<i64>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The first of its names, where a regular file has several; other things need not keep that.
    same_as: Option<Vec<u8>>,
}

impl Disk {
    /// Reads a directory.
    pub fn read(root: &Path) -> Self {
        let mut disk = Self::default();
        let mut names = BTreeMap::new();
        disk.add_below(root, b"", &mut names);
        for paths in names.into_values().filter(|paths: &Vec<Vec<u8>>| paths.len() > 1) {
            for path in &paths {
                disk.0.get_mut(path).unwrap().same_as = paths.iter().min().cloned();
            }
        }
        disk
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without what is at a path, and all below it.
    pub fn without(mut self, path: &str) -> Self {
        let below = format!("{path}/");
        self.0.retain(|other, _| other != path.as_bytes() && !other.starts_with(below.as_bytes()));
        self
    }

    /// Without the times at which files were changed.
    pub fn timeless(mut self) -> Self {
        self.0.values_mut().for_each(|thing| thing.changed = None);
        self
    }

    /// Panics unless another one is the same; `what` tells which two are compared.
    pub fn assert_same(&self, other: &Self, what: &str) {
        let mut paths: Vec<_> = self.0.keys().chain(other.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let shown =
            |disk: &Self, path: &[u8]| disk.0.get(path).map_or("nothing".to_owned(), |thing| format!("{thing:?}"));
        let different = paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path)).take(8);
        let lines: String = different
            .map(|path| {
                let name: String = String::from_utf8_lossy(path).chars().take(80).collect();
                format!("\n  {name:?}\n    {}\n    {}", shown(self, path), shown(other, path))
            })
            .collect();
        assert!(lines.is_empty(), "{what}:{lines}");
    }

    fn add_below(&mut self, directory: &Path, prefix: &[u8], names: &mut BTreeMap<u64, Vec<Vec<u8>>>) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let (name, metadata) = (entry.file_name(), entry.metadata().unwrap());
            let path =
                if prefix.is_empty() { name.as_bytes().to_vec() } else { [prefix, b"/", name.as_bytes()].concat() };
            let at = directory.join(&name);
            let kind = metadata.file_type();
            let holds = if kind.is_file() {
                let bytes = fs::read(&at).unwrap();
                format!("file of {} {}", bytes.len(), &sha256(&bytes)[..12])
            } else if kind.is_symlink() {
                format!("link to {:?}", fs::read_link(&at).unwrap())
            } else if kind.is_block_device() || kind.is_char_device() {
                let device = metadata.rdev();
                format!("device {} {}:{}", kind.is_block_device(), rustix::fs::major(device), rustix::fs::minor(device))
            } else {
                if kind.is_dir() { "directory" } else { "pipe" }.to_owned()
            };
            let looks = format!("{:o} {}:{} {holds}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
            if kind.is_file() && metadata.nlink() > 1 {
                names.entry(metadata.ino()).or_default().push(path.clone());
            }
            let changed = kind.is_file().then(|| metadata.mtime());
            self.0.insert(path.clone(), Thing { looks, changed, xattrs: xattrs(&at), same_as: None });
            if kind.is_dir() {
                self.add_below(&at, &path, names);
            }
        }
    }
}

/// Those that a layer can hold.
fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let count = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..count].split(|byte| *byte == 0);
    let counts = |name: &&[u8]| name.starts_with(b"user.") || *name == b"security.capability";
    names
        .filter(counts)
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let count = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(count);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}
