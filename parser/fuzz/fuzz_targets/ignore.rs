//! A `.dockerignore`, and in its last line a path: reading and matching end without a panic, a walk from the top
//! down comes to the same verdict, and small patterns give what the plain reference of the tests gives.

#![no_main]

#[path = "../../src/ignore_reference.rs"]
mod reference;

use kiln_parser::ignore::{Ignore, Verdict};
use kiln_parser::pattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().rposition(|byte| *byte == b'\n').unwrap_or(data.len());
    let (text, path) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(ignore) = Ignore::parse(text) {
        check_walk(&ignore, path);
    }
    for line in text.lines() {
        let _ = pattern::matches(line, path);
        assert!(line.starts_with(pattern::literal_prefix(line)));
    }
    check_against_reference(text, path);
});

/// A walk that passes verdicts on agrees with [`Ignore::is_ignored`], and what it need not enter has nothing in it.
fn check_walk(ignore: &Ignore, path: &[u8]) {
    let mut verdict = Verdict::default();
    let mut is_pruned = false;
    let ends = (1..path.len()).filter(|at| path[*at] == b'/');
    for directory in ends.map(|at| &path[..at]) {
        verdict = ignore.verdict(directory, verdict);
        is_pruned |= verdict.is_ignored() && !ignore.may_include_below_verdict(directory, verdict);
    }
    let is_ignored = ignore.is_ignored(path);
    assert_eq!(ignore.verdict(path, verdict).is_ignored(), is_ignored);
    // Below a directory there is always a name.
    assert!(!is_pruned || is_ignored || path.ends_with(b"/"), "pruned, but not ignored");
}

fn check_against_reference(text: &str, path: &[u8]) {
    let clean = |text: &str, alphabet: &str| {
        let kept: String = text.chars().filter(|c| alphabet.contains(*c)).take(10).collect();
        kept.split('/').filter(|component| !component.is_empty()).collect::<Vec<_>>().join("/")
    };
    let pattern = |line: &str| {
        let path = clean(line, "ab*?/");
        if line.starts_with('!') { format!("!{path}") } else { path }
    };
    let patterns: Vec<String> = text.lines().take(5).map(pattern).filter(|p| !p.is_empty() && p != "!").collect();
    let path = clean(&String::from_utf8_lossy(path), "ab/");
    if let (Ok(ignore), false) = (Ignore::from_patterns(&patterns), path.is_empty()) {
        let expected = reference::ignored_slowly(&patterns, &path);
        assert_eq!(ignore.is_ignored(path.as_bytes()), expected, "{patterns:?} and {path:?}");
    }
}
