//! `RUN --network`, `--security` and `--device`: what a command may do, and what a build has to be allowed for it.

use kiln_parser::{Diagnostic, Run, Word};
use kiln_solver::{Network, Security};

use crate::findings::{error_at, similar, unsupported};
use crate::{Entitlement, Options};

const NETWORKS: [(&str, Network); 3] =
    [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];
const SECURITIES: [(&str, Security); 2] = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];

/// Which network a command sees; what the build has by default where nothing is said.
pub(crate) fn network(run: &Run, options: &Options, errors: &mut Vec<Diagnostic>) -> Network {
    let written = value(run.network.as_ref(), "network", &NETWORKS, errors);
    let network = written.filter(|(_, network)| *network != Network::Default);
    let Some((word, network)) = network else { return options.network };
    if network == Network::Host {
        errors.extend(refused(word, "--network=host", Entitlement::NetworkHost, options));
    }
    network
}

/// How a command is confined.
pub(crate) fn security(run: &Run, options: &Options, errors: &mut Vec<Diagnostic>) -> Security {
    let Some((word, security)) = value(run.security.as_ref(), "security", &SECURITIES, errors) else {
        return Security::Sandbox;
    };
    if security == Security::Insecure {
        errors.extend(refused(word, "--security=insecure", Entitlement::SecurityInsecure, options));
    }
    security
}

/// Devices are nothing that kiln can give.
pub(crate) fn devices(run: &Run) -> impl Iterator<Item = Diagnostic> {
    run.devices.iter().map(|word| unsupported("`RUN --device`", word.span))
}

/// The word of a flag, where it says something, and what that means.
fn value<'w, T: Copy, const N: usize>(
    word: Option<&'w Word>,
    flag: &str,
    known: &[(&str, T); N],
    errors: &mut Vec<Diagnostic>,
) -> Option<(&'w Word, T)> {
    let word = word.filter(|word| !word.value.is_empty())?;
    if let Some((_, meaning)) = known.iter().find(|(name, _)| *name == word.value) {
        return Some((word, *meaning));
    }
    let names = known.each_ref().map(|(name, _)| *name);
    let error = error_at(word, "invalid-flag", format!("`{}` is no value of `--{flag}`", word.value))
        .label(format!("expected `{}`", names.join("`, `")));
    errors.push(match similar(&word.value, names) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    });
    None
}

fn refused(word: &Word, flag: &str, entitlement: Entitlement, options: &Options) -> Option<Diagnostic> {
    if options.entitlements.contains(&entitlement) {
        return None;
    }
    let name = entitlement.name();
    let error = error_at(word, "entitlement", format!("`RUN {flag}` needs the entitlement `{name}`"));
    Some(
        error
            .label("not allowed")
            .hint(format!("build with `--allow {name}`, if you trust the Dockerfile with {}", entitlement.gives())),
    )
}
