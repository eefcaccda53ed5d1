//! What the language has and this version does not: each use is an error that names it.

use kiln_parser::{Command, Copy, Diagnostic, Instruction, Kind, Run, Word};

use crate::findings::unsupported;

/// An error for every feature of an instruction that this version lacks.
pub(crate) fn features(instruction: &Instruction) -> Vec<Diagnostic> {
    match &instruction.kind {
        Kind::Run(run) => of_run(run),
        Kind::Copy(copy) | Kind::Add(copy) => of_copy(copy, instruction),
        _ => Vec::new(),
    }
}

fn of_run(run: &Run) -> Vec<Diagnostic> {
    let mut missing = Vec::new();
    missing.extend(run.mounts.iter().map(|word| unsupported("`RUN --mount`", word.span)));
    missing.extend(run.devices.iter().map(|word| unsupported("`RUN --device`", word.span)));
    let not_default = |word: &Option<Word>, default: &str| {
        word.as_ref().filter(|word| !word.value.is_empty() && word.value != default).cloned()
    };
    if let Some(word) = not_default(&run.network, "default") {
        missing.push(unsupported(&format!("`RUN --network={}`", word.value), word.span));
    }
    if let Some(word) = not_default(&run.security, "sandbox") {
        missing.push(unsupported(&format!("`RUN --security={}`", word.value), word.span));
    }
    if let Some(script) = run.script().filter(|script| script.chomped().starts_with("#!")) {
        missing.push(
            unsupported("a heredoc that begins with `#!`", script.span)
                .hint("leave out the first line to have the shell run it, or copy the script from the context"),
        );
    }
    if let (Command::Exec(_, span), Some(_)) = (&run.command, run.heredocs.first()) {
        missing.push(unsupported("a heredoc behind the JSON form of `RUN`", *span));
    }
    missing
}

fn of_copy(copy: &Copy, instruction: &Instruction) -> Vec<Diagnostic> {
    let keyword = instruction.keyword.value.to_uppercase();
    let mut missing = Vec::new();
    let mut flag = |name: &str, span| missing.push(unsupported(&format!("`{keyword} --{name}`"), span));
    if copy.parents {
        flag("parents", instruction.span);
    }
    copy.exclude.iter().for_each(|word| flag("exclude", word.span));
    if let Some(word) = &copy.checksum {
        flag("checksum", word.span);
    }
    if copy.keep_git_dir {
        flag("keep-git-dir", instruction.span);
    }
    missing.extend(copy.heredocs.iter().map(|heredoc| {
        unsupported(&format!("a heredoc as a source of `{keyword}`"), heredoc.span)
            .hint("put the text into a file of the context")
    }));
    missing
}
