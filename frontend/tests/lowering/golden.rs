//! Golden cases: each file in `cases/` is a Dockerfile with options and what lowering makes of it.
//!
//! A file has sections that begin with `=== name`: first a comment, then `options` (one flag a line),
//! `Dockerfile`, and what is expected, `errors` or else `steps`, `config`, `history` and `warnings`; an expected
//! section that is absent is not looked at, but for `warnings`, of which there are none then.
//! `KILN_BLESS=1 cargo test -p kiln-frontend` writes the expected sections that are there anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_frontend::{NamedContext, Options, lower};

use crate::images::Registry;
use crate::render;

#[test]
fn every_case_is_lowered_as_expected() {
    let bless = std::env::var_os("KILN_BLESS").is_some();
    let mut failures = Vec::new();
    let files = files();
    assert!(files.len() > 30, "there are cases");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let actual = run(&text, bless);
        if bless {
            fs::write(&file, actual).unwrap();
        } else if actual != text {
            failures.push(format!("--- {}\n{}", file.display(), difference(&text, &actual)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The case with its expected sections as they should be.
fn run(text: &str, bless: bool) -> String {
    let sections = sections(text);
    let find = |name: &str| sections.iter().find(|(known, _)| known == name).map(|(_, body)| body.as_str());
    let dockerfile = find("Dockerfile").expect("a case has a Dockerfile");
    let mut actual = lowered(dockerfile, &options(find("options").unwrap_or_default()));
    let is_error = actual.contains_key("errors");
    let warnings = actual.get("warnings").cloned().unwrap_or_default();
    let expects_success = ["steps", "config", "history"].iter().any(|name| find(name).is_some());

    let mut result = String::new();
    for (name, body) in &sections {
        let is_expected = ["errors", "steps", "config", "history", "warnings"].contains(&name.as_str());
        if is_expected && is_error != (name == "errors") && bless {
            continue;
        }
        let body = if is_expected { actual.remove(name).unwrap_or_default() } else { body.clone() };
        if !name.is_empty() {
            result.push_str(&format!("=== {name}\n"));
        }
        result.push_str(&body);
    }
    if is_error && find("errors").is_none() {
        result.push_str(&format!("=== errors\n{}", actual["errors"]));
    }
    if !is_error && bless && !expects_success {
        result.push_str(&format!("=== steps\n{}=== history\n{}", actual["steps"], actual["history"]));
    }
    if !warnings.is_empty() && find("warnings").is_none() {
        result.push_str(&format!("=== warnings\n{warnings}"));
    }
    result
}

fn lowered(dockerfile: &str, options: &Options) -> BTreeMap<String, String> {
    let parsed = kiln_parser::parse(dockerfile);
    if parsed.has_errors() {
        // A case is about lowering: this makes it fail, and says why.
        let entry = ("errors".to_owned(), format!("PARSER: {}", render::diagnostics(&parsed.diagnostics, dockerfile)));
        return BTreeMap::from([entry]);
    }
    let entry = |name: &str, text: String| (name.to_owned(), text);
    match lower(&parsed.dockerfile, options, &Registry::default()) {
        Ok(build) => BTreeMap::from([
            entry("steps", render::steps(&build)),
            entry("config", render::config(&build)),
            entry("history", render::history(&build)),
            entry("warnings", render::diagnostics(&build.warnings, dockerfile)),
        ]),
        Err(errors) => BTreeMap::from([entry("errors", render::diagnostics(&errors, dockerfile))]),
    }
}

fn sections(text: &str) -> Vec<(String, String)> {
    let mut sections = vec![(String::new(), String::new())];
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("=== ") {
            Some(name) => sections.push((name.trim().to_owned(), String::new())),
            None => sections.last_mut().unwrap().1.push_str(line),
        }
    }
    sections
}

fn options(text: &str) -> Options {
    let mut options = Options::new("linux/amd64".parse().unwrap());
    for line in text.lines() {
        let (flag, value) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        match flag {
            "--target" => options.target = Some(value.to_owned()),
            "--build-arg" => options.build_args.extend([pair()]),
            "--label" => options.labels.extend([pair()]),
            "--platform" => options.platform = value.parse().unwrap(),
            "--no-cache" => options.no_cache = true,
            "--build-context" => {
                let (name, image) = pair();
                let context = if image == "." { NamedContext::Local } else { NamedContext::Image(image) };
                options.contexts.insert(name, context);
            }
            _ => panic!("unknown option: {line}"),
        }
    }
    options
}

/// The lines that differ, with `-` as expected and `+` as it is.
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let mut text = String::new();
    for index in 0..expected.len().max(actual.len()) {
        let (old, new) = (expected.get(index), actual.get(index));
        if old != new {
            text.push_str(&old.map(|line| format!("- {line}\n")).unwrap_or_default());
            text.push_str(&new.map(|line| format!("+ {line}\n")).unwrap_or_default());
        }
    }
    text
}
