//! Below which groups those of steps are made.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::group::Group;
use super::machine::{Hierarchy, Machine};
use super::settings::{self, Setting};
use super::unified::{self, Leaf};
use super::{CgroupError, Resources, directory};

/// Makes the groups of steps.
pub(crate) struct Groups {
    resources: Resources,
    /// By the parent that was asked for.
    known: Mutex<HashMap<String, Arc<Parents>>>,
    /// Where a step does not ask for one.
    usual: Option<Arc<Parents>>,
    /// Those beside kiln itself, in each hierarchy in which it may make groups; unknown until somebody asks.
    everywhere: OnceLock<Option<Arc<Parents>>>,
}

/// One group of each hierarchy that matters.
pub(super) struct Parents {
    pub(super) all: Vec<Parent>,
    pub(super) memory: Option<u64>,
    /// Where kiln has moved to.
    _leaf: Option<Leaf>,
}

/// A group below which one of a step is made.
pub(super) struct Parent {
    pub(super) path: PathBuf,
    /// What the hierarchy controls, if it is one of version 1.
    pub(super) controllers: Vec<String>,
    /// What is written to the files of the step's group.
    pub(super) settings: Vec<Setting>,
}

impl Groups {
    /// None for any step that does not ask for one.
    pub(crate) fn none() -> Self {
        Self { resources: Resources::default(), known: Mutex::default(), usual: None, everywhere: OnceLock::new() }
    }

    /// Groups with these limits, below this parent where one was asked for.
    ///
    /// # Errors
    /// When the limits make no sense or the machine cannot keep to them.
    pub(crate) fn new(resources: &Resources, parent: Option<&str>) -> Result<Self, CgroupError> {
        resources.check()?;
        let usual = match parent {
            None if resources.is_empty() => None,
            _ => Some(Arc::new(find(resources, parent)?)),
        };
        Ok(Self { resources: resources.clone(), usual, ..Self::none() })
    }

    /// The groups of one step, which may ask for a parent of its own; nothing where nobody asked for any.
    pub(crate) fn make(&self, parent: Option<&str>) -> Result<Option<Group>, CgroupError> {
        let parents = match parent {
            Some(parent) => Some(self.below(parent)?),
            None => self.usual.clone(),
        };
        parents.map(Group::make).transpose()
    }

    /// The groups of a step that may do all and was not given any, so that it can make more below them: one in each
    /// hierarchy, as far as they can be had.
    pub(crate) fn make_everywhere(&self) -> Option<Group> {
        Group::make(self.everywhere.get_or_init(|| everywhere().map(Arc::new)).clone()?).ok()
    }

    fn below(&self, parent: &str) -> Result<Arc<Parents>, CgroupError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parents) = known.get(parent) {
            return Ok(parents.clone());
        }
        let parents = Arc::new(find(&self.resources, Some(parent))?);
        known.insert(parent.to_owned(), parents.clone());
        Ok(parents)
    }
}

/// Finds the parents of all hierarchies that matter, and removes what killed kilns have left behind there.
fn find(resources: &Resources, parent: Option<&str>) -> Result<Parents, CgroupError> {
    let machine = Machine::find()?;
    let parents = match parent {
        Some(name) => named(&machine, resources, &relative(name)?)?,
        None => own(&machine, resources)?,
    };
    for parent in &parents.all {
        directory::sweep(&parent.path);
    }
    Ok(parents)
}

/// Which settings are for version 2: those of controllers that no hierarchy of version 1 has.
fn unified_settings(machine: &Machine, resources: &Resources) -> Vec<Setting> {
    let is_legacy = |setting: &Setting| machine.legacy.iter().any(|hierarchy| hierarchy.has(setting.controller));
    settings::unified(resources).into_iter().filter(|setting| !is_legacy(setting)).collect()
}

fn controllers_of(settings: &[Setting]) -> Vec<&'static str> {
    let mut controllers: Vec<_> = settings.iter().map(|setting| setting.controller).collect();
    controllers.dedup();
    controllers
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }

    /// The parent of this hierarchy of version 1 at a path.
    fn legacy_parent(&self, path: PathBuf, resources: &Resources) -> Parent {
        let own = settings::legacy(resources).into_iter().filter(|setting| self.has(setting.controller));
        Parent { path, controllers: self.controllers.clone(), settings: own.collect() }
    }
}

/// Beside kiln itself, without any limit.
fn everywhere() -> Option<Parents> {
    let (machine, resources) = (Machine::find().ok()?, Resources::default());
    let legacy = machine.legacy.iter().map(|hierarchy| hierarchy.legacy_parent(hierarchy.own.clone(), &resources));
    let mut all: Vec<Parent> = legacy.filter(|parent| check_writable(&parent.path).is_ok()).collect();
    let unified = machine.unified.and_then(|hierarchy| unified::below_own(&hierarchy, &[]).ok());
    all.extend(unified.map(|(path, _)| Parent { path, controllers: Vec::new(), settings: Vec::new() }));
    all.iter().for_each(|parent| directory::sweep(&parent.path));
    (!all.is_empty()).then_some(Parents { all, memory: None, _leaf: None })
}

/// Beside kiln itself, in the hierarchies that limit something.
fn own(machine: &Machine, resources: &Resources) -> Result<Parents, CgroupError> {
    let own = machine.legacy.iter().map(|hierarchy| hierarchy.legacy_parent(hierarchy.own.clone(), resources));
    let mut all: Vec<Parent> = own.filter(|parent| !parent.settings.is_empty()).collect();
    all.iter().try_for_each(|parent| check_writable(&parent.path))?;
    let settings = unified_settings(machine, resources);
    let mut leaf = None;
    if !settings.is_empty() {
        let hierarchy = unified_of(machine, &settings)?;
        let (path, moved) = unified::below_own(hierarchy, &controllers_of(&settings))?;
        leaf = moved;
        all.push(Parent { path, controllers: Vec::new(), settings });
    }
    Ok(Parents { all, memory: resources.memory, _leaf: leaf })
}

/// The hierarchy of version 2, for controllers that no other has.
fn unified_of<'a>(machine: &'a Machine, settings: &[Setting]) -> Result<&'a Hierarchy, CgroupError> {
    machine.unified.as_ref().ok_or_else(|| match settings.first() {
        Some(setting) if !machine.legacy.is_empty() => CgroupError::NoController {
            controller: setting.controller,
            within: None,
            hint: "the kernel may lack it, or have been told to go without".to_owned(),
        },
        _ => CgroupError::None,
    })
}

/// At a path, in every hierarchy: whoever prepared a parent wants it to hold. Where nothing is limited, one may be
/// out of reach.
fn named(machine: &Machine, resources: &Resources, path: &Path) -> Result<Parents, CgroupError> {
    let mut all = Vec::new();
    let mut refused = None;
    let mut keep = |made: Result<(), CgroupError>, parent: Parent| {
        match made {
            Ok(()) => all.push(parent),
            Err(error) if parent.settings.is_empty() => refused = refused.take().or(Some(error)),
            Err(error) => return Err(error),
        }
        Ok(())
    };
    for hierarchy in &machine.legacy {
        let parent = hierarchy.legacy_parent(hierarchy.mount.join(path), resources);
        keep(make_legacy(hierarchy, path), parent)?;
    }
    let settings = unified_settings(machine, resources);
    if !settings.is_empty() || machine.unified.is_some() {
        let hierarchy = unified_of(machine, &settings)?;
        let parent = Parent { path: hierarchy.mount.join(path), controllers: Vec::new(), settings };
        let made = make_all(&parent.path)
            .and_then(|()| unified::enable(&hierarchy.mount, &parent.path, &controllers_of(&parent.settings)));
        keep(made, parent)?;
    }
    if all.is_empty() {
        return Err(refused.unwrap_or(CgroupError::None));
    }
    Ok(Parents { all, memory: resources.memory, _leaf: None })
}

fn make_all(path: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(path).map_err(|error| CgroupError::refused("make", path, error))?;
    check_writable(path)
}

/// That a group is there does not say that anything can be made in it.
fn check_writable(path: &Path) -> Result<(), CgroupError> {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK)
        .map_err(|error| CgroupError::refused("make groups below", path, error))
}

/// A group of `cpuset` has neither processors nor memory until somebody says so.
fn make_legacy(hierarchy: &Hierarchy, path: &Path) -> Result<(), CgroupError> {
    let parent = hierarchy.mount.join(path);
    make_all(&parent)?;
    if hierarchy.has("cpuset") {
        let groups: Vec<&Path> = parent.ancestors().take_while(|group| *group != hierarchy.mount).collect();
        for group in groups.iter().rev() {
            inherit_cpuset(group)?;
        }
    }
    Ok(())
}

/// Gives a group of version 1's `cpuset` what the group above it has, where it has nothing.
pub(super) fn inherit_cpuset(group: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let refused = |error| CgroupError::refused(format!("set `{file}` of"), group, error);
        if fs::read_to_string(group.join(file)).map_err(refused)?.trim().is_empty() {
            let above = fs::read_to_string(group.join("..").join(file)).map_err(refused)?;
            unified::write(group, file, above.trim()).map_err(refused)?;
        }
    }
    Ok(())
}

/// The path of a parent within each hierarchy. The name of a slice of systemd stands for its place: `a-b.slice` is in
/// `a.slice`.
fn relative(name: &str) -> Result<PathBuf, CgroupError> {
    let invalid = || CgroupError::InvalidParent(name.to_owned());
    if let Some(slice) = name.strip_suffix(".slice").filter(|slice| !slice.contains('/')) {
        let ends = slice.match_indices('-').map(|(end, _)| end).chain([slice.len()]);
        let above: Vec<&str> = ends.map(|end| &slice[..end]).collect();
        if above.iter().any(|slice| slice.is_empty() || slice.ends_with('-')) {
            return Err(invalid());
        }
        return Ok(above.iter().map(|slice| format!("{slice}.slice")).collect());
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(invalid()),
        }
    }
    // What Docker hands to systemd, `SLICE:PREFIX:NAME`, is no path.
    if name.is_empty() || name.contains(':') { Err(invalid()) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_paths_or_slices() {
        let path = |name: &str| relative(name).ok().map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(path("/a/b").as_deref(), Some("a/b"));
        assert_eq!(path("a//./b/").as_deref(), Some("a/b"));
        assert_eq!(path("/").as_deref(), Some(""));
        assert_eq!(path("build.slice").as_deref(), Some("build.slice"));
        assert_eq!(path("a-b-c.slice").as_deref(), Some("a.slice/a-b.slice/a-b-c.slice"));
        assert_eq!(path("a.slice/b-c.slice").as_deref(), Some("a.slice/b-c.slice"));
        for name in ["", "..", "a/../b", "x.slice:docker:1", "-.slice", ".slice", "a--b.slice", "a-.slice"] {
            assert_eq!(path(name), None, "{name}");
        }
    }

    #[test]
    fn version_1_goes_before_version_2() {
        let hierarchy = |name: &str, controllers: &[&str]| Hierarchy {
            mount: format!("/c/{name}").into(),
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            own: format!("/c/{name}/own").into(),
        };
        let resources = Resources { memory: Some(1 << 30), processes: Some(9), ..Resources::default() };
        let legacy = vec![hierarchy("cpu", &["cpu"]), hierarchy("memory", &["memory"])];
        let machine = Machine { unified: Some(hierarchy("u", &[])), legacy };
        assert_eq!(controllers_of(&unified_settings(&machine, &resources)), ["pids"]);
        let all_unified = Machine { unified: Some(hierarchy("u", &[])), legacy: Vec::new() };
        assert_eq!(controllers_of(&unified_settings(&all_unified, &resources)), ["memory", "pids"]);
        let only = Resources { memory: Some(1 << 30), ..Resources::default() };
        // Hierarchies that limit nothing are left alone.
        let error = own(&machine, &only).err().unwrap().to_string();
        assert!(
            error.starts_with("cannot make groups below the control group `/c/memory/own`: No such file"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_there_is_told() {
        let resources = Resources { memory: Some(1 << 30), ..Resources::default() };
        let nothing = own(&Machine::default(), &resources).err().unwrap().to_string();
        assert!(nothing.starts_with("there are no control groups on this machine"), "{nothing}");
        let cpu = Hierarchy { mount: "/c".into(), controllers: vec!["cpu".to_owned()], own: "/c".into() };
        let machine = Machine { unified: None, legacy: vec![cpu] };
        let missing = own(&machine, &resources).err().unwrap().to_string();
        assert!(missing.starts_with("there is no controller `memory` in the control groups of this machine\nhint: "));
        assert!(named(&Machine::default(), &Resources::default(), Path::new("x")).is_err());
    }
}
