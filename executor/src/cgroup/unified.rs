//! What version 2 asks for: a controller must be enabled in every group above those that it limits, and a group that
//! has it enabled for others has no processes itself.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::directory::Directory;
use super::machine::Hierarchy;
use super::{CgroupError, DELEGATE};

/// Says which controllers the groups below a group have.
const ENABLED: &str = "cgroup.subtree_control";

/// Says which controllers a group has.
const AVAILABLE: &str = "cgroup.controllers";

/// The processes in a group.
pub(super) const PROCESSES: &str = "cgroup.procs";

/// Makes sure that the groups below `group`, itself at or below `mount`, have these controllers.
pub(super) fn enable(mount: &Path, group: &Path, needed: &[&'static str]) -> Result<(), CgroupError> {
    let missing = lacking(group, ENABLED, needed)?;
    if missing.is_empty() {
        return Ok(());
    }
    let unavailable = lacking(group, AVAILABLE, &missing)?;
    if let Some(controller) = unavailable.first() {
        let above = group.parent().filter(|above| above.starts_with(mount));
        let Some(above) = above else { return Err(no_controller(controller, group)) };
        enable(mount, above, &unavailable)?;
        if let Some(controller) = lacking(group, AVAILABLE, &missing)?.first() {
            return Err(no_controller(controller, group));
        }
    }
    let words: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
    write(group, ENABLED, &words.join(" "))
        .map_err(|error| CgroupError::refused(format!("enable `{}` below", missing.join("`, `")), group, error))
}

fn no_controller(controller: &'static str, group: &Path) -> CgroupError {
    CgroupError::NoController {
        controller,
        within: Some(group.to_owned()),
        hint: format!("the kernel may lack it, or have been told to go without; {DELEGATE}"),
    }
}

/// Which of these names a file of a group does not have.
fn lacking(group: &Path, file: &str, names: &[&'static str]) -> Result<Vec<&'static str>, CgroupError> {
    let text = fs::read_to_string(group.join(file))
        .map_err(|error| CgroupError::refused(format!("read `{file}` of"), group, error))?;
    Ok(names.iter().filter(|name| !text.split_whitespace().any(|word| word == **name)).copied().collect())
}

/// Writes to a file of a group, which has to be there.
pub(super) fn write(group: &Path, file: &str, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(group.join(file))?.write_all(value.as_bytes())
}

/// The group below which those of steps are made where nobody asked for one: kiln's own, or else the nearest above.
pub(super) fn below_own(
    hierarchy: &Hierarchy,
    needed: &[&'static str],
) -> Result<(PathBuf, Option<Leaf>), CgroupError> {
    let Hierarchy { mount, own, .. } = hierarchy;
    let mut reason = None;
    for group in own.ancestors().take_while(|group| group.starts_with(mount)) {
        match adopt(mount, group, group == own, needed) {
            Ok(leaf) => return Ok((group.to_owned(), leaf)),
            // No other group has what the topmost one lacks.
            Err(error @ CgroupError::NoController { .. }) => return Err(error),
            Err(error) => reason = reason.or(Some(error)),
        }
    }
    let reason = reason.map_or_else(|| "it is out of sight".to_owned(), |error| first_line(&error));
    Err(CgroupError::NoParent { own: own.clone(), reason, hint: DELEGATE.to_owned() })
}

fn first_line(error: &CgroupError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Makes a group one that can have groups of steps below it.
fn adopt(mount: &Path, group: &Path, own: bool, needed: &[&'static str]) -> Result<Option<Leaf>, CgroupError> {
    // A process can be moved only by who may write to the group above both places.
    let refused = |error: io::Error| CgroupError::refused("make groups below", group, error);
    for file in ["", PROCESSES] {
        rustix::fs::access(group.join(file), Access::WRITE_OK).map_err(|error| refused(error.into()))?;
    }
    if needed.is_empty() {
        // Nothing has to be enabled, so there may be processes beside.
        return Ok(None);
    }
    let processes = processes(group).map_err(refused)?;
    if processes.is_empty() || is_top(group) {
        enable(mount, group, needed)?;
        return Ok(None);
    }
    if !own || processes != [std::process::id()] {
        return Err(refused(io::Error::other("there are other processes in it")));
    }
    Leaf::move_into(mount, group, needed).map(Some)
}

/// The topmost group of all, not of a namespace: the one that may have both processes and groups below it.
fn is_top(group: &Path) -> bool {
    !group.join("cgroup.type").exists()
}

fn processes(group: &Path) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(group.join(PROCESSES))?;
    // A process of another namespace is 0 here.
    Ok(text.split_whitespace().map(|number| number.parse().unwrap_or_default()).collect())
}

/// The group that kiln has moved itself to, out of the one that it was started in, for as long as this lives.
#[derive(Debug)]
pub(super) struct Leaf {
    directory: Directory,
    home: PathBuf,
    enabled: Vec<&'static str>,
}

impl Leaf {
    fn move_into(mount: &Path, home: &Path, needed: &[&'static str]) -> Result<Self, CgroupError> {
        let directory =
            Directory::make(home).map_err(|error| CgroupError::refused("make groups below", home, error))?;
        let enabled = lacking(home, ENABLED, needed)?;
        let leaf = Self { directory, home: home.to_owned(), enabled };
        write(&leaf.directory.path, PROCESSES, "0")
            .map_err(|error| CgroupError::refused("enter", &leaf.directory.path, error))?;
        enable(mount, home, needed)?;
        Ok(leaf)
    }
}

impl Drop for Leaf {
    /// Leaves all as it was found, as far as can be: whoever made the group may want to use it again.
    fn drop(&mut self) {
        let words: Vec<String> = self.enabled.iter().map(|name| format!("-{name}")).collect();
        let _ = write(&self.home, ENABLED, &words.join(" "));
        for process in processes(&self.directory.path).unwrap_or_default() {
            let _ = write(&self.home, PROCESSES, &process.to_string());
        }
    }
}
