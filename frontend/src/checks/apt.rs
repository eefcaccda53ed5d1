//! `AptListsLeft`: lists of packages that stay in a layer.

use kiln_parser::{Command, Diagnostic, Instruction, Run};

use super::from::mount_option;
use super::reporter::Reporter;
use super::rules::APT_LISTS_LEFT;

const LISTS: &str = "/var/lib/apt";
/// A longer command is not repeated in a hint.
const LONGEST: usize = 120;

pub(crate) fn check(text: &str, instruction: &Instruction, run: &Run, number: usize, reporter: &mut Reporter) {
    let script = script(run);
    let words: Vec<&str> = script.split_whitespace().collect();
    let updates = words.windows(2).any(|pair| matches!(pair, ["apt-get" | "apt", "update" | "update;"]))
        || words
            .windows(3)
            .any(|three| matches!(three, ["apt-get" | "apt", flag, "update" | "update;"] if flag.starts_with('-')));
    let removes = script.contains("rm ") && script.contains("/var/lib/apt/lists");
    let mounts = run.mounts.iter().filter_map(|mount| {
        let target = ["target", "dst", "destination"].iter().find_map(|name| mount_option(&mount.value, name))?;
        target.starts_with(LISTS).then_some(())
    });
    if !updates || removes || mounts.count() > 0 {
        return;
    }
    let finding = Diagnostic::warning("`apt-get update` leaves its lists in the layer").at(instruction.span);
    reporter.add(APT_LISTS_LEFT, number, finding.hint(rewrite(text, instruction, run)));
}

/// What is run, in one text.
pub(crate) fn script(run: &Run) -> String {
    let mut script = match &run.command {
        Command::Shell(line) => line.value.clone(),
        Command::Exec(arguments, _) => arguments.join(" "),
    };
    for heredoc in &run.heredocs {
        script.push('\n');
        script.push_str(&heredoc.content);
    }
    script
}

fn rewrite(text: &str, instruction: &Instruction, run: &Run) -> String {
    let written = text.get(instruction.span.range()).unwrap_or_default();
    let is_line = matches!(run.command, Command::Shell(_)) && run.heredocs.is_empty();
    if is_line && written.len() <= LONGEST && !written.contains('\n') {
        format!("write `{written} && rm -rf /var/lib/apt/lists/*`")
    } else {
        "remove them in the same `RUN`: `rm -rf /var/lib/apt/lists/*`".to_owned()
    }
}
