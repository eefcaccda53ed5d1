//! Changes to a tree of files: those that make it, and those that are tried on it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use kiln_executor::trace::Fact;
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::Row;

/// A change. Paths are those of the layer: relative ones begin in `/app`.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    /// A file with this content takes the place of what is there.
    File(&'static str, &'static str),
    /// The same, and it can be executed.
    Program(&'static str, &'static str),
    /// An empty directory takes the place of a file.
    Directory(&'static str),
    /// A symbolic link, and where it leads.
    Link(&'static str, &'static str),
    /// One more name for the file at the second path.
    Name(&'static str, &'static str),
    /// A file of so many bytes that take no room on the disk.
    Sparse(&'static str, u64),
    /// Nothing is there any more, nor below.
    Gone(&'static str),
    /// The base's file is hidden.
    Hidden(&'static str),
    Mode(&'static str, u32),
    /// User and group.
    Owner(&'static str, u32),
    /// The extended attribute `user.note`.
    Note(&'static str, &'static str),
    /// Another time.
    Touched(&'static str),
    /// What a script does that runs in `/app`, in words.
    Made(&'static str, &'static str),
}

use Edit::{Directory, File, Gone, Hidden, Link, Made, Name, Note, Owner, Program, Sparse, Touched};

impl Edit {
    /// What is changed.
    pub fn path(&self) -> &'static str {
        match *self {
            File(path, _) | Program(path, _) | Directory(path) | Link(path, _) | Name(path, _) | Sparse(path, _) => {
                path
            }
            Gone(path) | Hidden(path) | Edit::Mode(path, _) | Owner(path, _) | Note(path, _) | Touched(path) => path,
            Made(..) => "",
        }
    }

    /// Makes it below the root of a layer.
    pub fn apply(&self, root: &Path) {
        let path = at(root, self.path());
        match *self {
            File(_, content) => write(&path, content, 0o644),
            Program(_, content) => write(&path, content, 0o755),
            Directory(_) => {
                remove(&path);
                fs::create_dir_all(&path).unwrap();
            }
            Link(_, target) => {
                remove(&path);
                make_parent(&path);
                symlink(target, &path).unwrap();
            }
            Name(_, first) => {
                remove(&path);
                fs::hard_link(at(root, first), &path).unwrap();
            }
            Sparse(_, size) => fs::File::create(&path).unwrap().set_len(size).unwrap(),
            Gone(_) => remove(&path),
            Hidden(_) => {
                make_parent(&path);
                rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            }
            Edit::Mode(_, mode) => fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap(),
            Owner(_, id) => lchown(&path, Some(id), Some(id)).unwrap(),
            Note(_, value) => rustix::fs::setxattr(&path, "user.note", value.as_bytes(), XattrFlags::empty()).unwrap(),
            Touched(_) => {
                let time = Timespec { tv_sec: 1_700_000_000, tv_nsec: 5 };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
            }
            Made(_, script) => super::sh(script, &root.join("app")),
        }
    }

    /// In words, as an edit of what a row has.
    pub fn describe(&self, row: &Row) -> String {
        let path = self.path();
        let inside = format!("{path}/");
        let is_given = row.tree.iter().any(|edit| edit.path() == path || edit.path().starts_with(&inside));
        let is_there = is_given || row.setup.iter().any(|script| script.contains(&format!("> {path}\n")));
        let was_a_link = row.tree.iter().any(|edit| matches!(edit, Link(link, _) if *link == path));
        match *self {
            File(..) | Program(..) | Sparse(..) if is_there && !was_a_link => format!("`{path}` edited"),
            File(..) | Program(..) | Sparse(..) => format!("`{path}` added"),
            Directory(_) if is_there => format!("`{path}` now a directory"),
            Directory(_) => format!("`{path}/` added"),
            Link(_, target) if was_a_link => format!("`{path}` leads to `{target}`"),
            Link(..) if is_there => format!("`{path}` now a link"),
            Link(..) => format!("`{path}` added, a link"),
            Name(_, first) => format!("`{path}` a hard link to `{first}`"),
            Gone(_) => format!("`{path}` removed"),
            Hidden(_) => format!("`{path}` of the base removed"),
            Edit::Mode(..) => format!("mode of `{path}`"),
            Owner(..) => format!("owner of `{path}`"),
            Note(..) => format!("attributes of `{path}`"),
            Touched(_) => format!("`touch {path}`"),
            Made(words, _) => words.to_owned(),
        }
    }
}

/// Where a path of the layer is.
fn at(root: &Path, path: &str) -> PathBuf {
    path.strip_prefix('/').map_or_else(|| root.join("app").join(path), |path| root.join(path))
}

fn make_parent(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
}

/// Another file at the path, with the mode of the one that was there.
fn write(path: &Path, content: &str, mode: u32) {
    let mode = path.symlink_metadata().ok().filter(fs::Metadata::is_file).map_or(mode, |old| old.permissions().mode());
    remove(path);
    make_parent(path);
    fs::write(path, content).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Edits that nobody thought of: one to each file and directory of a tree, and what it is made of.
pub enum Blind {
    /// One more line in a file.
    Longer(PathBuf),
    /// No such file or link any more.
    Gone(PathBuf),
    /// Other permissions.
    Mode(PathBuf),
    /// A new file in a directory.
    More(PathBuf),
}

impl Blind {
    /// All of them for the first files of a tree. Paths are relative to it.
    pub fn all(root: &Path) -> Vec<Self> {
        let mut paths = Vec::new();
        list(root, &root.join("app"), &mut paths);
        paths.sort();
        let each = |path: &PathBuf| match root.join(path).symlink_metadata().unwrap().file_type() {
            kind if kind.is_dir() => vec![Self::More(path.clone())],
            kind if kind.is_file() => {
                vec![Self::Longer(path.clone()), Self::Gone(path.clone()), Self::Mode(path.clone())]
            }
            _ => vec![Self::Gone(path.clone())],
        };
        paths.iter().take(MOST).flat_map(each).collect()
    }

    /// Whether there are facts about what it changes.
    pub fn shows_in(&self, facts: &HashMap<PathBuf, Fact>) -> bool {
        let is_listed = |path: &Path| facts.get(path).is_some_and(|fact| fact.seen.listing.is_some());
        match self {
            Self::Longer(path) | Self::Mode(path) => facts.contains_key(path),
            Self::Gone(path) => facts.contains_key(path) || is_listed(path.parent().unwrap()),
            Self::More(path) => is_listed(path),
        }
    }

    /// Makes it below the root of a layer, if that can be done after other edits.
    pub fn apply(&self, root: &Path) {
        match self {
            Self::Longer(path) if root.join(path).is_file() => {
                let mut content = fs::read(root.join(path)).unwrap();
                content.push(b'\n');
                fs::write(root.join(path), content).unwrap();
            }
            Self::Gone(path) => remove(&root.join(path)),
            Self::Mode(path) if root.join(path).is_file() => {
                let mode = root.join(path).metadata().unwrap().permissions().mode();
                fs::set_permissions(root.join(path), PermissionsExt::from_mode(mode ^ 0o011)).unwrap();
            }
            Self::More(path) if root.join(path).is_dir() => {
                fs::write(root.join(path).join("unforeseen"), "new").unwrap()
            }
            _ => {}
        }
    }
}

/// More files than these need no edit each.
const MOST: usize = 40;

fn list(root: &Path, directory: &Path, paths: &mut Vec<PathBuf>) {
    paths.push(directory.strip_prefix(root).unwrap().to_owned());
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            list(root, &path, paths);
        } else {
            paths.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
}
