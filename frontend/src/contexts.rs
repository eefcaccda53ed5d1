//! Named contexts (`--build-context`): what stands in for a stage or an image.

use kiln_image::Reference;
use kiln_parser::Diagnostic;
use kiln_solver::Platform;

use crate::findings::Findings;
use crate::{NamedContext, Options};

/// The named contexts, by the names that Docker compares.
pub(crate) struct Contexts<'a> {
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    /// As the user wrote it.
    key: &'a str,
    /// Its short form, as [`short_name`] makes it.
    name: String,
    platform: Option<Platform>,
    context: &'a NamedContext,
}

/// A context that stands in for a name.
pub(crate) struct Replacement<'a> {
    /// The context's name as the user wrote it.
    pub(crate) key: &'a str,
    pub(crate) context: &'a NamedContext,
}

impl<'a> Contexts<'a> {
    pub(crate) fn new(options: &'a Options, findings: &mut Findings) -> Self {
        let mut entries = Vec::new();
        for (key, context) in &options.contexts {
            if is_reserved(key) {
                findings.add(reserved(key));
                continue;
            }
            let entry = Entry::new(key, context);
            entries.extend(findings.keep(entry));
        }
        let contexts = Self { entries };
        contexts.check_cycles(findings);
        contexts
    }

    /// What stands in for a stage or image of this name on this platform.
    pub(crate) fn find(&self, name: &str, platform: &Platform) -> Option<Replacement<'a>> {
        if is_reserved(name) {
            return None;
        }
        let entry = self.entry(&short_name(name), platform)?;
        Some(Replacement { key: entry.key, context: entry.context })
    }

    /// An entry for the very platform comes before one for all.
    fn entry(&self, name: &str, platform: &Platform) -> Option<&Entry<'a>> {
        let named = |wanted: Option<&Platform>| {
            self.entries.iter().find(|entry| entry.name == name && entry.platform.as_ref() == wanted)
        };
        named(Some(platform)).or_else(|| named(None))
    }

    fn check_cycles(&self, findings: &mut Findings) {
        for start in 0..self.entries.len() {
            let Some(cycle) = self.cycle_from(start) else { continue };
            // Each cycle is told once, from its first member.
            if cycle.iter().min() == Some(&start) {
                findings.add(self.cycle_error(&cycle));
            }
        }
    }

    /// The entries of the cycle that this one is in. An image that stands in for its own name is none: that is
    /// how an image is pinned.
    fn cycle_from(&self, start: usize) -> Option<Vec<usize>> {
        let mut path = vec![start];
        loop {
            let next = self.target(*path.last()?)?;
            if next == start {
                return (path.len() > 1).then_some(path);
            }
            if path.contains(&next) {
                return None;
            }
            path.push(next);
        }
    }

    /// The entry that an entry's image names.
    fn target(&self, index: usize) -> Option<usize> {
        let entry = self.entries.get(index)?;
        let NamedContext::Image(reference) = entry.context else { return None };
        let reference = reference.strip_prefix("docker-image://").unwrap_or(reference);
        let name = short_name(reference);
        self.entries.iter().position(|other| other.name == name)
    }

    fn cycle_error(&self, cycle: &[usize]) -> Diagnostic {
        let mut names: Vec<String> =
            cycle.iter().filter_map(|&index| Some(format!("`{}`", self.entries.get(index)?.key))).collect();
        names.extend(names.first().cloned());
        Diagnostic::error(format!("the named contexts {} form a cycle", names.join(" → ")))
            .hint("let one of them name a directory, an OCI layout or an image that is no context itself")
            .code("context-cycle")
    }
}

impl<'a> Entry<'a> {
    fn new(key: &'a str, context: &'a NamedContext) -> Result<Self, Diagnostic> {
        let (name, platform) = match key.split_once("::") {
            Some((name, platform)) => (name, Some(platform.parse().map_err(|error| bad_name(key, &error))?)),
            None => (key, None),
        };
        if name.is_empty() {
            return Err(bad_name(key, &"it is empty"));
        }
        Ok(Self { key, name: short_name(name), platform, context })
    }
}

/// Docker's familiar form without `:latest`; a name that is no reference is compared as it is.
fn short_name(name: &str) -> String {
    let Ok(reference) = Reference::parse(name) else { return name.to_lowercase() };
    let familiar = reference.familiar();
    familiar.strip_suffix(":latest").map(str::to_owned).unwrap_or(familiar)
}

/// `scratch` and the main context keep their meaning.
fn is_reserved(name: &str) -> bool {
    name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context")
}

fn reserved(key: &str) -> Diagnostic {
    Diagnostic::warning(format!("the named context `{key}` has no effect: the name is reserved"))
        .hint("give the context another name")
        .code("reserved-context")
}

fn bad_name(key: &str, problem: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(format!("`{key}` is not the name of a build context: {problem}")).code("context-name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(contexts: &[(&str, &str)]) -> Options {
        let mut options = Options::new("linux/amd64".parse().unwrap());
        for (name, image) in contexts {
            let context = if image.is_empty() { NamedContext::Local } else { NamedContext::Image((*image).to_owned()) };
            options.contexts.insert((*name).to_owned(), context);
        }
        options
    }

    #[test]
    fn names_are_compared_in_their_short_form() {
        let options = options(&[("docker.io/library/alpine:latest", ""), ("app", "x"), ("app::linux/arm64", "y")]);
        let contexts = Contexts::new(&options, &mut Findings::default());
        let amd64 = "linux/amd64".parse().unwrap();
        let arm64 = "linux/arm64".parse().unwrap();
        assert_eq!(contexts.find("alpine", &amd64).unwrap().key, "docker.io/library/alpine:latest");
        assert_eq!(contexts.find("app:latest", &amd64).unwrap().key, "app");
        assert_eq!(contexts.find("app", &arm64).unwrap().key, "app::linux/arm64");
        assert!(contexts.find("alpine:3", &amd64).is_none());
        assert!(contexts.find("scratch", &amd64).is_none());
    }

    #[test]
    fn a_cycle_is_told_once_and_pinning_is_none() {
        let options = options(&[("a", "b"), ("b", "c"), ("c", "docker-image://a"), ("d", "a"), ("e", "e")]);
        let mut findings = Findings::default();
        Contexts::new(&options, &mut findings);
        let messages: Vec<String> = findings.sorted().into_iter().map(|found| found.message).collect();
        assert_eq!(messages, ["the named contexts `a` → `b` → `c` → `a` form a cycle"]);
    }
}
