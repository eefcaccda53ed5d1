//! Ruby: Bundler's lock file, and the specifications of what is installed.

use super::Listed;
use crate::{Ecosystem, Package};

/// Below `specs:`, four spaces deep: `    name (version)`, or with a platform behind the version.
pub(super) fn lock(text: &str, found_in: &str) -> Listed {
    let packages = text.lines().filter_map(|line| {
        let line = line.strip_prefix("    ").filter(|line| !line.starts_with(' '))?;
        let (name, version) = line.split_once(" (")?;
        Some(Package::new(Ecosystem::Gem, name, version.strip_suffix(')')?, found_in))
    });
    Ok(packages.collect())
}

/// A program that sets the fields of a specification; those of installed gems are written by RubyGems, alike.
pub(super) fn installed(text: &str, found_in: &str) -> Listed {
    let field = |name: &str| {
        let prefix = format!("s.{name} = ");
        let value = text.lines().find_map(|line| line.trim().strip_prefix(prefix.as_str()))?;
        let value = value.trim_end_matches(".freeze").trim_matches('"');
        (!value.contains('"')).then(|| value.to_owned())
    };
    let (Some(name), Some(version)) = (field("name"), field("version")) else {
        return Err("no name or version".to_owned());
    };
    let licenses = text.lines().find_map(|line| line.trim().strip_prefix("s.licenses = ["));
    let license = licenses.and_then(|licenses| licenses.split('"').nth(1)).map(str::to_owned);
    Ok(vec![Package { license, ..Package::new(Ecosystem::Gem, &name, &version, found_in) }])
}
