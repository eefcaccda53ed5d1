//! Unions and facts, without a mount. What real commands are seen to look at is tested in `tests/sandbox`.

mod facts;
mod unions;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use kiln_cache::{Store, StoredLayer, Whiteouts};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::fact::Aspects;
use super::observations::Looks;
use super::*;

/// A store that goes away with it.
struct Place {
    store: Store,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { store: Store::open(directory.path(), Whiteouts::Trusted).unwrap(), _directory: directory }
    }

    /// A layer of these: `name/` a directory, `name/ opaque` too, `name -> target` a symbolic link, `name = target` a
    /// hard link, `-name` a whiteout, anything else a file with its name in it, or with what follows a `: `.
    fn layer(&self, things: &[&str]) -> StoredLayer {
        self.filled(|root| things.iter().for_each(|thing| make(root, thing)))
    }

    fn filled(&self, fill: impl FnOnce(&Path)) -> StoredLayer {
        let draft = self.store.begin_layer().unwrap();
        fill(draft.files());
        draft.commit(SystemTime::UNIX_EPOCH).unwrap()
    }

    fn union(&self, layers: &[&[&str]]) -> Union {
        Union::new(&layers.iter().map(|things| self.layer(things)).collect::<Vec<_>>())
    }
}

fn make(root: &Path, thing: &str) {
    let at = |name: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    if let Some(name) = thing.strip_prefix('-') {
        whiteout(&at(name));
    } else if let Some((name, target)) = thing.split_once(" -> ") {
        std::os::unix::fs::symlink(target, at(name)).unwrap();
    } else if let Some((name, target)) = thing.split_once(" = ") {
        std::fs::hard_link(root.join(target), at(name)).unwrap();
    } else if let Some(name) = thing.strip_suffix("/ opaque") {
        std::fs::create_dir_all(at(name)).unwrap();
        rustix::fs::setxattr(at(name), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    } else if let Some(name) = thing.strip_suffix('/') {
        std::fs::create_dir_all(at(name)).unwrap();
    } else {
        let (name, content) = thing.split_once(": ").unwrap_or((thing, thing));
        std::fs::write(at(name), content).unwrap();
    }
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn not_utf8(root: &Path) -> std::path::PathBuf {
    root.join(OsStr::from_bytes(b"not-\xff-utf8"))
}

/// What is observed by looking at these.
fn observe(union: &Union, looks: &[(&str, Aspects)]) -> Observations {
    let paths = looks.iter().map(|(path, aspects)| (path.as_bytes().to_vec(), *aspects)).collect();
    Observations::new(union, &Looks { paths, no_xattrs: false })
}
