//! What the language has and this version does not: each use is an error that names it.

use kiln_parser::{Diagnostic, Instruction, Kind, Run};

use crate::findings::{error_at, similar, unsupported};

const NETWORKS: [&str; 3] = ["default", "none", "host"];
const SECURITIES: [&str; 2] = ["sandbox", "insecure"];

/// An error for every feature of an instruction that this version lacks, and for values that nobody knows.
pub(crate) fn features(instruction: &Instruction) -> Vec<Diagnostic> {
    match &instruction.kind {
        Kind::Run(run) => of_run(run),
        _ => Vec::new(),
    }
}

fn of_run(run: &Run) -> Vec<Diagnostic> {
    let mut missing = Vec::new();
    missing.extend(run.devices.iter().map(|word| unsupported("`RUN --device`", word.span)));
    let flags = [
        ("network", &run.network, NETWORKS.as_slice(), ("host", "network.host")),
        ("security", &run.security, SECURITIES.as_slice(), ("insecure", "security.insecure")),
    ];
    for (flag, word, known, (privileged, entitlement)) in flags {
        let Some(word) = word.as_ref().filter(|word| !word.value.is_empty()) else { continue };
        if word.value == privileged {
            let message = format!("`RUN --{flag}={privileged}` needs the entitlement `{entitlement}`");
            missing.push(
                error_at(word, "entitlement", message)
                    .label("not allowed")
                    .hint("this version of kiln has no way to allow it: leave the flag out"),
            );
        } else if !known.contains(&word.value.as_str()) {
            let error = error_at(word, "invalid-flag", format!("`{}` is no value of `--{flag}`", word.value));
            let list = format!("expected `{}`", known.join("`, `"));
            missing.push(match similar(&word.value, known.iter().copied()) {
                Some(near) => error.label(list).hint(format!("did you mean `{near}`?")),
                None => error.label(list),
            });
        }
    }
    if let Some(script) = run.script().filter(|script| script.chomped().starts_with("#!")) {
        missing.push(
            unsupported("a heredoc that begins with `#!`", script.span)
                .hint("leave out the first line to have the shell run it, or make a file of it with `COPY <<EOF`"),
        );
    }
    missing
}
