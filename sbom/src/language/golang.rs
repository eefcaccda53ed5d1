//! Go: `go.mod`, whose `require` lines are the versions that are built with.
//!
//! Format: <https://go.dev/ref/mod#go-mod-file>.

use super::Listed;
use crate::{Ecosystem, Package};

pub(super) fn module(text: &str, found_in: &str) -> Listed {
    let mut packages = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let required = match line.strip_prefix("require") {
            Some(rest) if rest.trim() == "(" => {
                in_block = true;
                continue;
            }
            Some(rest) if rest.starts_with([' ', '\t']) => rest,
            _ if line == ")" => {
                in_block = false;
                continue;
            }
            _ if in_block => line,
            _ => continue,
        };
        let mut words = required.split_whitespace().map(|word| word.trim_matches('"'));
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            packages.push(Package::new(Ecosystem::Golang, name, version, found_in));
        }
    }
    Ok(packages)
}
