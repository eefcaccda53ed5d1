//! What the tests of this crate share.

use std::time::SystemTime;

use kiln_cache::{Store, View, Whiteouts};
use tempfile::TempDir;

use crate::{Inventory, Package};

/// The files of an image.
pub(crate) struct Tree(TempDir);

impl Tree {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        files.iter().fold(tree, |tree, (path, text)| tree.with(path, text.as_bytes()))
    }

    pub(crate) fn with(self, path: &str, bytes: &[u8]) -> Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) fn inventory(&self) -> Inventory {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), Whiteouts::Trusted).unwrap();
        let draft = store.begin_layer().unwrap();
        let copied = std::process::Command::new("cp").arg("-aT").args([self.0.path(), draft.files()]).status().unwrap();
        assert!(copied.success());
        let layer = draft.commit(SystemTime::UNIX_EPOCH).unwrap();
        Inventory::of(&View::new(vec![layer])).unwrap()
    }
}

/// Names and versions.
pub(crate) fn names(packages: &[Package]) -> Vec<String> {
    packages.iter().map(|package| format!("{} {}", package.full_name(), package.version)).collect()
}
