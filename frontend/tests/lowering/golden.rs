//! Golden cases: each directory of `cases/` is a Dockerfile and what lowering makes of it.
//!
//! | file | |
//! |---|---|
//! | `Dockerfile` | what is lowered |
//! | `options` | the flags of the build, one a line; may be absent |
//! | `README` | what the case is about, where its name does not say it |
//! | `errors` | the diagnostics of a Dockerfile that cannot be built; else: |
//! | `graph`, `config`, `history` | the steps, the image's config and its history; what is absent is not looked at |
//! | `warnings` | what is told all the same; none where absent |
//!
//! `UPDATE_EXPECTED=1 cargo test -p kiln-frontend` writes the expected files that are there anew, and for a new case
//! those that it needs (an empty `config` asks for one, too); read the difference then.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_frontend::{Entitlement, NamedContext, NoCache, Options, lower};
use kiln_solver::{Host, Network, Ulimit};

use crate::images::Registry;
use crate::render;

#[test]
fn every_case_is_lowered_as_expected() {
    let cases = cases();
    assert!(cases.len() > 180, "there are cases");
    let is_update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let differences: Vec<String> = cases.iter().filter_map(|case| check(case, is_update)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Cases that fail are worth as much as those that do not.
#[test]
fn many_cases_fail() {
    let failing = cases().iter().filter(|case| case.join("errors").exists()).count();
    assert!(failing >= 50, "{failing}");
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// What is not as expected in a case, if anything is.
fn check(case: &Path, is_update: bool) -> Option<String> {
    let read = |name: &str| fs::read_to_string(case.join(name)).ok();
    let dockerfile = read("Dockerfile").expect("a case has a Dockerfile");
    let mut actual = lowered(&dockerfile, &options(&read("options").unwrap_or_default()));
    let is_new = ["errors", "graph", "history"].iter().all(|name| read(name).is_none());
    if !actual.contains_key("errors") {
        let looked_at = |name: &str| read(name).is_some() || (is_new && name != "config");
        actual.retain(|name, text| looked_at(name) || (*name == "warnings" && !text.is_empty()));
    }
    let mut differences = String::new();
    for name in ["errors", "graph", "config", "history", "warnings"] {
        let (expected, actual) = (read(name), actual.get(name).filter(|text| !text.is_empty()));
        if expected.as_ref() == actual {
            continue;
        }
        match actual {
            Some(text) if is_update => fs::write(case.join(name), text).unwrap(),
            None if is_update => fs::remove_file(case.join(name)).unwrap(),
            _ => differences.push_str(&difference(
                name,
                expected.as_deref().unwrap_or_default(),
                actual.map_or("", String::as_str),
            )),
        }
    }
    (!differences.is_empty()).then(|| format!("--- {}\n{differences}", case.display()))
}

fn lowered(dockerfile: &str, options: &Options) -> BTreeMap<&'static str, String> {
    let parsed = kiln_parser::parse(dockerfile);
    if parsed.has_errors() {
        // A case is about lowering: this makes it fail, and says why.
        panic!("PARSER: {}", render::diagnostics(&parsed.diagnostics, dockerfile));
    }
    match lower(&parsed.dockerfile, options, &Registry::default()) {
        Ok(build) => BTreeMap::from([
            ("graph", render::steps(&build)),
            ("config", render::config(&build)),
            ("history", render::history(&build)),
            ("warnings", render::diagnostics(&build.warnings, dockerfile)),
        ]),
        Err(errors) => BTreeMap::from([("errors", render::diagnostics(&errors, dockerfile))]),
    }
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
            "--no-cache" => options.no_cache = NoCache::All,
            "--no-cache-filter" => options.no_cache = NoCache::Stages(value.split(',').map(str::to_owned).collect()),
            "--allow" => {
                let known = Entitlement::ALL.into_iter().find(|entitlement| entitlement.name() == value);
                options.entitlements.insert(known.unwrap());
            }
            "--network" => {
                options.network = if value == "host" { Network::Host } else { Network::None };
            }
            "--add-host" => {
                let (name, address) = pair();
                options.hosts.push(Host { name, address: address.parse().unwrap() });
            }
            "--ulimit" => {
                let (name, limit) = pair();
                let limit = limit.parse().unwrap();
                options.limits.ulimits.push(Ulimit { name, soft: limit, hard: limit });
            }
            "--cgroup-parent" => options.limits.cgroup_parent = Some(value.to_owned()),
            "--shm-size" => options.shm_size = kiln_frontend::parse_bytes(value),
            "--build-context" => {
                let (name, value) = pair();
                let context = match value.strip_prefix("target:") {
                    _ if value == "." => NamedContext::Local,
                    Some(stage) => NamedContext::Stage(stage.to_owned()),
                    None => NamedContext::Image(value),
                };
                options.contexts.insert(name, context);
            }
            _ => panic!("unknown option: {line}"),
        }
    }
    options
}

/// The lines that differ, with `-` as expected and `+` as it is.
fn difference(name: &str, expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let mut text = format!("{name}:\n");
    for index in 0..expected.len().max(actual.len()) {
        let (old, new) = (expected.get(index), actual.get(index));
        if old != new {
            text.push_str(&old.map(|line| format!("- {line}\n")).unwrap_or_default());
            text.push_str(&new.map(|line| format!("+ {line}\n")).unwrap_or_default());
        }
    }
    text
}
