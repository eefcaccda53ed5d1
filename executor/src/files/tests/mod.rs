//! The rules of copying, over a real store.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_cache::{EntryKind, Store, View, Whiteouts};
use kiln_parser::ignore::Ignore;
use kiln_solver::{
    Cancel, CopyAction, Digest, FileAction, FileActionKind, Layer, MkdirAction, MkfileAction, Operation, Origin,
    Output, Owner, Step, UserRef,
};

use super::plan::Plan;
use super::run::{commit, timestamp};
use super::{FileError, Tree, copy, owner, select};
use crate::{Context, paths};

mod archives;
mod contenthash;
mod keys;
mod observations;
mod parents;
mod rules;
mod steps;

/// A store, a context and what is needed to copy between them.
struct World {
    directory: tempfile::TempDir,
    store: Arc<Store>,
}

impl World {
    /// A world whose context has these files, each holding its own name; a trailing slash makes a directory, `->`
    /// a link.
    fn new(files: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&directory.path().join("store"), Whiteouts::Trusted).unwrap());
        let world = Self { directory, store };
        fill(&world.root(), files);
        world
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    fn context(&self) -> Tree {
        self.context_without("")
    }

    fn context_without(&self, ignore: &str) -> Tree {
        let ignore = Ignore::parse(ignore).unwrap();
        let stat_cache = self.directory.path().join("store/contexts");
        Tree::Context(Arc::new(Context::open("context", &self.root(), ignore, stat_cache).unwrap()))
    }

    /// A layer with these files.
    fn layer(&self, files: &[&str]) -> Vec<Layer> {
        self.layer_of(|root| fill(root, files))
    }

    fn layer_of(&self, make: impl FnOnce(&Path)) -> Vec<Layer> {
        let draft = self.store.begin_layer().unwrap();
        make(draft.files());
        let layer = draft.commit(UNIX_EPOCH).unwrap();
        vec![Layer { diff_id: *layer.diff_id(), origin: Origin::Built }]
    }

    fn view(&self, layers: &[Layer]) -> View {
        View::new(layers.iter().map(|layer| self.store.layer(&layer.diff_id).unwrap().unwrap()).collect())
    }

    fn plan(&self, base: &[Layer]) -> Plan {
        Plan::new(base.to_vec(), self.view(base), timestamp(now()))
    }

    fn commit(&self, plan: Plan) -> Result<Vec<Layer>, FileError> {
        Ok(commit(&self.store, plan, now(), &Cancel::new())?.0)
    }

    fn copy_from(&self, tree: &Tree, base: &[Layer], action: &CopyAction) -> Result<Vec<Layer>, FileError> {
        let mut plan = self.plan(base);
        copy::copy(&mut plan, tree, action, &self.store, &Cancel::new())?;
        self.commit(plan)
    }

    /// Copies from the context; what the tree holds then.
    fn copy(&self, base: &[Layer], action: &CopyAction) -> Result<Vec<String>, FileError> {
        Ok(self.show(&self.copy_from(&self.context(), base, action)?))
    }

    /// Every path of the merged tree: directories with a slash, links with their target, files with content
    /// where that is not their own name.
    fn show(&self, layers: &[Layer]) -> Vec<String> {
        let view = self.view(layers);
        let show = |path: String, kind, target: &[u8]| match kind {
            EntryKind::Directory { .. } => format!("{path}/"),
            EntryKind::Symlink => format!("{path}->{}", String::from_utf8_lossy(target)),
            EntryKind::File | EntryKind::HardLink => {
                let content = view.read(path.as_bytes(), 1 << 20).unwrap().unwrap();
                format!("{path}={}", String::from_utf8_lossy(&content))
            }
            other => format!("{path}:{other:?}"),
        };
        let found = view.walk(b"").unwrap();
        let entries = found.iter().map(|found| found.entry);
        entries.map(|entry| show(String::from_utf8_lossy(entry.path).into_owned(), entry.kind, entry.target)).collect()
    }

    fn select(&self, ignore: &str, action: &CopyAction) -> Result<Vec<String>, FileError> {
        let matches = select::select(&self.context_without(ignore), action, &Cancel::new())?;
        let paths = matches.iter().flat_map(|found| found.items.iter().map(|item| item.path.to_vec()));
        Ok(paths.map(|path| String::from_utf8_lossy(&path).into_owned()).collect())
    }

    fn key(&self, tree: &Tree, action: &CopyAction) -> Digest {
        super::selected(tree, &[action], &Cancel::new()).unwrap()
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn fill(root: &Path, files: &[&str]) {
    fs::create_dir_all(root).unwrap();
    for file in files {
        if let Some((link, target)) = file.split_once("->") {
            fs::create_dir_all(root.join(link).parent().unwrap()).unwrap();
            symlink(target, root.join(link)).unwrap();
        } else if file.ends_with('/') {
            fs::create_dir_all(root.join(file)).unwrap();
        } else {
            let (path, content) = file.split_once('=').unwrap_or((file, file));
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
    }
}

/// What the Dockerfile frontend makes of `COPY source destination`.
fn from_to(source: &str, destination: &str) -> CopyAction {
    CopyAction {
        source: format!("/{source}"),
        destination: destination.to_owned(),
        owner: None,
        mode: None,
        wildcard: true,
        allow_empty_wildcard: true,
        unpack: false,
        contents_only: true,
        parents: false,
        exclude: Vec::new(),
        linked: false,
    }
}
