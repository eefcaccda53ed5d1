//! Global arguments: the `ARG`s before the first `FROM`, the automatic platform arguments and the proxies that
//! need no declaration.

use std::collections::{BTreeMap, BTreeSet};

use kiln_parser::{ArgDeclaration, Diagnostic, Dockerfile, Kind};
use kiln_solver::Platform;

use crate::Options;
use crate::environment::Environment;
use crate::findings::{Findings, error_at, similar};

const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The automatic arguments: `FROM` sees them, a stage has to declare them. A build argument overrides them.
pub(crate) fn automatic(options: &Options, target_stage: &str) -> Environment {
    let mut environment = Environment::default();
    let mut set = |name: &str, value: &str| {
        environment.set(name, options.build_args.get(name).map_or(value, String::as_str));
    };
    let mut set_platform = |prefix: &str, platform: &Platform| {
        set(&format!("{prefix}PLATFORM"), &platform.to_string());
        set(&format!("{prefix}OS"), &platform.os);
        set(&format!("{prefix}OSVERSION"), "");
        set(&format!("{prefix}ARCH"), &platform.architecture);
        set(&format!("{prefix}VARIANT"), platform.variant.as_deref().unwrap_or(""));
    };
    set_platform("BUILD", &options.build_platform);
    set_platform("TARGET", &options.platform);
    set("TARGETSTAGE", if target_stage.is_empty() { "default" } else { target_stage });
    environment
}

/// The automatic arguments and the declared ones, each declaration seeing the ones before it.
pub(crate) fn global(
    declarations: &[&ArgDeclaration],
    automatic: Environment,
    build_args: &BTreeMap<String, String>,
    escape: char,
    findings: &mut Findings,
) -> Environment {
    let mut environment = automatic;
    for declaration in declarations {
        let name = &declaration.name.value;
        if let Some(value) = build_args.get(name) {
            environment.set(name, value);
        } else if let Some(default) = &declaration.default {
            let value = environment
                .expand(&default.value, escape)
                .map_err(|error| error_at(default, "expansion", error.to_string()));
            if let Some(value) = findings.keep(value) {
                environment.set(name, &value);
            }
        }
    }
    environment
}

fn proxy_name(name: &str) -> Option<&'static str> {
    PROXIES.iter().find(|proxy| proxy.eq_ignore_ascii_case(name)).copied()
}

/// The proxies among the build arguments, under both spellings that programs look for.
pub(crate) fn proxies(build_args: &BTreeMap<String, String>) -> Vec<String> {
    let given: BTreeMap<&str, &str> = build_args
        .iter()
        .filter_map(|(name, value)| Some((proxy_name(name)?, value.as_str())))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let mut entries = Vec::new();
    for name in PROXIES {
        if let Some(value) = given.get(name) {
            entries.push(format!("{name}={value}"));
            entries.push(format!("{}={value}", name.to_lowercase()));
        }
    }
    entries
}

/// The build argument that has a meaning without any `ARG`: the time that an image is said to be made at.
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// What the names of those begin with that say how the build is done.
const BUILDKIT: &str = "BUILDKIT_";

/// A warning for each build argument that no `ARG` declares.
pub(crate) fn undeclared(dockerfile: &Dockerfile, options: &Options, automatic: &Environment) -> Vec<Diagnostic> {
    let declared: BTreeSet<&str> = dockerfile
        .instructions
        .iter()
        .filter_map(|instruction| match &instruction.kind {
            Kind::Arg(declarations) => Some(declarations),
            _ => None,
        })
        .flatten()
        .map(|declaration| declaration.name.value.as_str())
        .collect();
    let has_meaning = |name: &str| name == EPOCH || name.starts_with(BUILDKIT) || proxy_name(name).is_some();
    let is_known = |name: &str| declared.contains(name) || automatic.get(name).is_some() || has_meaning(name);
    let unknown = options.build_args.keys().filter(|name| !is_known(name));
    unknown.map(|name| undeclared_warning(name, &declared)).collect()
}

fn undeclared_warning(name: &str, declared: &BTreeSet<&str>) -> Diagnostic {
    let warning =
        Diagnostic::warning(format!("build argument `{name}` is not declared by any `ARG`, so it has no effect"))
            .code("undeclared-build-arg");
    match similar(name, declared.iter().copied()) {
        Some(other) => warning.hint(format!("did you mean `{other}`?")),
        None => warning.hint(format!("declare it with `ARG {name}` in the stage that uses it")),
    }
}
