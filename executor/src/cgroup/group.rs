//! The groups of one step.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::directory::Directory;
use super::parents::{Parent, Parents, inherit_cpuset};
use super::settings::Setting;
use super::{CgroupError, unified};
use crate::sandbox::ControlGroup;

/// The groups of one step, one in each hierarchy that matters. They are gone when this is dropped; by then nothing may
/// run in them.
pub(crate) struct Group {
    directories: Vec<Directory>,
    parents: Arc<Parents>,
}

/// Processes of a step were killed for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryKill {
    /// The limit that they reached, in bytes; nothing where it was not the step's own.
    pub(crate) limit: Option<u64>,
    /// As much as there ever was of it at once, in bytes.
    pub(crate) peak: Option<u64>,
}

impl Group {
    /// Makes them, with all limits set.
    pub(super) fn make(parents: Arc<Parents>) -> Result<Self, CgroupError> {
        let mut directories = Vec::with_capacity(parents.all.len());
        for parent in &parents.all {
            let directory = Directory::make(&parent.path)
                .map_err(|error| CgroupError::refused("make groups below", &parent.path, error))?;
            limit(&directory.path, parent)?;
            directories.push(directory);
        }
        Ok(Self { directories, parents })
    }

    /// What the sandbox puts the step's processes into.
    pub(crate) fn describe(&self) -> Vec<ControlGroup> {
        let pairs = self.directories.iter().zip(&self.parents.all);
        let describe = |(directory, parent): (&Directory, &Parent)| ControlGroup {
            directory: directory.path.clone(),
            controllers: parent.controllers.clone(),
        };
        pairs.map(describe).collect()
    }

    /// Whether processes of the step were killed for memory.
    pub(crate) fn memory_kill(&self) -> Option<MemoryKill> {
        self.directories.iter().find_map(|directory| memory_kill(&directory.path, self.parents.memory))
    }
}

fn limit(group: &Path, parent: &Parent) -> Result<(), CgroupError> {
    if parent.controllers.iter().any(|controller| controller == "cpuset") {
        inherit_cpuset(group)?;
    }
    for Setting { file, value, implied, .. } in &parent.settings {
        match unified::write(group, file, value) {
            Err(error) if *implied && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CgroupError::refused(format!("set `{file}` to `{value}` for"), group, error)),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Reads what either version says of that.
fn memory_kill(group: &Path, limit: Option<u64>) -> Option<MemoryKill> {
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    if let Some(events) = read("memory.events") {
        let reached = field(&events, "oom") > 0;
        return (field(&events, "oom_kill") > 0)
            .then(|| MemoryKill { limit: limit.filter(|_| reached), peak: number("memory.peak") });
    }
    let control = read("memory.oom_control")?;
    let peak = number("memory.max_usage_in_bytes");
    // Newer kernels no longer count here how often a limit was reached.
    let reached = |limit: &u64| peak.is_none_or(|peak| peak >= limit / 16 * 15);
    (field(&control, "oom_kill") > 0).then(|| MemoryKill { limit: limit.filter(reached), peak })
}

/// The number behind a name in lines of both.
fn field(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name).and_then(|(_, value)| value.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    #[test]
    fn version_2_tells_of_kills() {
        let events = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n";
        let killed = group(&[("memory.events", events), ("memory.peak", "67108864\n")]);
        let expected = MemoryKill { limit: Some(1), peak: Some(67_108_864) };
        assert_eq!(memory_kill(killed.path(), Some(1)), Some(expected));
        let others = group(&[("memory.events", "max 0\noom 0\noom_kill 1\n")]);
        assert_eq!(memory_kill(others.path(), Some(1)), Some(MemoryKill { limit: None, peak: None }));
        let fine = group(&[("memory.events", "max 31\noom 1\noom_kill 0\n")]);
        assert_eq!(memory_kill(fine.path(), Some(1)), None);
        assert_eq!(memory_kill(group(&[]).path(), Some(1)), None);
    }

    #[test]
    fn version_1_tells_of_kills() {
        let files = [
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("memory.max_usage_in_bytes", "1000\n"),
        ];
        let killed = |limit| memory_kill(group(&files).path(), Some(limit)).unwrap();
        assert_eq!(killed(1000), MemoryKill { limit: Some(1000), peak: Some(1000) });
        assert_eq!(killed(5000), MemoryKill { limit: None, peak: Some(1000) }, "somebody else's limit");
        let fine = group(&[("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")]);
        assert_eq!(memory_kill(fine.path(), Some(7)), None);
    }

    #[test]
    fn what_nobody_asked_for_may_be_missing() {
        let setting = |file, implied| Setting { controller: "memory", file, value: "1".to_owned(), implied };
        let parent = |settings| Parent { path: "/".into(), controllers: Vec::new(), settings };
        let there = group(&[("memory.max", "")]);
        let settings = vec![setting("memory.max", false), setting("memory.swap.max", true)];
        limit(there.path(), &parent(settings)).unwrap();
        assert_eq!(fs::read_to_string(there.path().join("memory.max")).unwrap(), "1");
        let error = limit(there.path(), &parent(vec![setting("memory.swap.max", false)])).unwrap_err().to_string();
        assert!(error.starts_with("cannot set `memory.swap.max` to `1` for the control group"), "{error}");
        assert!(!there.path().join("memory.swap.max").exists());
    }
}
