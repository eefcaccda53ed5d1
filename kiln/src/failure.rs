//! The report on a step that failed: what it printed last, where in the Dockerfile it stands, and why.

use std::fmt::Write as _;

use kiln_solver::{Exec, Operation, SourceSpan, Step, StepError};

use crate::error;
use crate::progress::clean;

/// How many lines of the Dockerfile are shown before and after the instruction.
const AROUND: usize = 2;

const RULE: &str = "--------------------";

/// What libraries put between a message and what may help.
const HINT: &str = "\nhint: ";

/// Why a step failed, in one line.
pub(crate) fn describe(step: &Step, error: &StepError) -> String {
    let how = match error {
        StepError::ExitCode(code) => format!("exit code: {code}"),
        StepError::Signal(number) => {
            format!("killed by signal {number}{} (exit code: {})", signal_name(*number), 128 + number)
        }
        StepError::TimedOut(_) | StepError::OutOfMemory { .. } => error.to_string(),
        StepError::Cancelled => return "cancelled".to_owned(),
        StepError::Other(error) => {
            let message = error::chain(&**error);
            let message = message.split(HINT).next().unwrap_or_default().trim_end();
            return message.lines().map(clean).collect::<Vec<_>>().join(" ");
        }
    };
    match &step.operation {
        Operation::Exec(exec) => format!("process {} did not complete successfully: {how}", command_line(exec)),
        _ => how,
    }
}

/// The command of a step in quotes.
fn command_line(exec: &Exec) -> String {
    let words = exec.args.join(" ");
    format!("\"{}\"", words.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t"))
}

fn signal_name(number: i32) -> &'static str {
    match number {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// What could be done about a step that failed this way.
pub(crate) fn hints(step: &Step, error: &StepError) -> Vec<String> {
    let known = match (error, &step.operation) {
        (StepError::Other(error), _) => {
            return error::chain(&**error).split(HINT).skip(1).map(str::to_owned).collect();
        }
        (StepError::ExitCode(127), Operation::Exec(_)) => {
            "exit code 127 means that the command was not found: is it installed in this image?"
        }
        (StepError::ExitCode(126), Operation::Exec(_)) => {
            "exit code 126 means that the command was found but cannot be run: is the file executable?"
        }
        (StepError::ExitCode(code @ 129..=192), Operation::Exec(_)) => {
            // How a shell reports it.
            let number = code - 128;
            return vec![format!(
                "exit code {code} means that signal {number}{} killed a process",
                signal_name(number)
            )];
        }
        (StepError::OutOfMemory { limit: Some(_), .. }, _) => "`--memory` says how much each RUN may use",
        (StepError::TimedOut(_), _) => "`--step-timeout` says how long each RUN may take",
        (StepError::Signal(9), Operation::Exec(_)) => "the kernel sends SIGKILL when memory runs out: `dmesg` tells",
        _ => return Vec::new(),
    };
    vec![known.to_owned()]
}

/// The last output of a step, between rules.
pub(crate) fn output(name: &str, tail: &[String]) -> String {
    if tail.is_empty() {
        return String::new();
    }
    let mut report = format!("------\n > {}:\n", clean(name));
    for line in tail {
        let _ = writeln!(report, "{line}");
    }
    report.push_str("------\n");
    report
}

/// The line of a text that this byte is on, counted from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// The lines of a Dockerfile around a span, the span's own marked with `>>>`.
pub(crate) fn excerpt(file: &str, text: &str, span: SourceSpan) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let first = line_of(text, span.start) - 1;
    let last = (line_of(text, span.end.saturating_sub(1).max(span.start)) - 1).min(lines.len().saturating_sub(1));
    if lines.is_empty() || first > last {
        return String::new();
    }
    let mut report = format!("{}:{}\n{RULE}\n", clean(file), first + 1);
    let shown = first.saturating_sub(AROUND)..(last + 1 + AROUND).min(lines.len());
    for (number, line) in lines.iter().enumerate().take(shown.end).skip(shown.start) {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let line = format!("{:4} | {mark} {}", number + 1, clean(line));
        let _ = writeln!(report, "{}", line.trim_end());
    }
    let _ = writeln!(report, "{RULE}");
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERFILE: &str =
        "FROM debian\nWORKDIR /src\nCOPY . .\nRUN make \\\n    test\nCMD [\"app\"]\nUSER 1000\nEXPOSE 80\n";

    fn span_of(part: &str) -> SourceSpan {
        let start = DOCKERFILE.find(part).unwrap();
        SourceSpan { start, end: start + part.len() }
    }

    #[test]
    fn the_instruction_is_marked() {
        insta::assert_snapshot!(excerpt("Dockerfile", DOCKERFILE, span_of("RUN make \\\n    test")), @r#"
        Dockerfile:4
        --------------------
           2 |     WORKDIR /src
           3 |     COPY . .
           4 | >>> RUN make \
           5 | >>>     test
           6 |     CMD ["app"]
           7 |     USER 1000
        --------------------
        "#);
    }

    #[test]
    fn the_ends_of_the_file_are_no_obstacle() {
        insta::assert_snapshot!(excerpt("a/Dockerfile", DOCKERFILE, span_of("FROM debian\n")), @r"
        a/Dockerfile:1
        --------------------
           1 | >>> FROM debian
           2 |     WORKDIR /src
           3 |     COPY . .
        --------------------
        ");
        insta::assert_snapshot!(excerpt("Dockerfile", DOCKERFILE, span_of("EXPOSE 80\n")), @r#"
        Dockerfile:8
        --------------------
           6 |     CMD ["app"]
           7 |     USER 1000
           8 | >>> EXPOSE 80
        --------------------
        "#);
        assert_eq!(excerpt("Dockerfile", "", SourceSpan { start: 0, end: 0 }), "");
        assert_eq!(
            excerpt("Dockerfile", "x", SourceSpan { start: 90, end: 99 }),
            excerpt("Dockerfile", "x", SourceSpan { start: 0, end: 1 })
        );
    }

    fn exec(args: &[&str]) -> Step {
        let exec = Exec { args: args.iter().map(|&word| word.to_owned()).collect(), ..kiln_solver::Exec::default() };
        Step::new(Operation::Exec(exec), "RUN")
    }

    #[test]
    fn failures_are_described() {
        let step = exec(&["/bin/sh", "-c", "echo \"a\tb\" && false"]);
        assert_eq!(
            describe(&step, &StepError::ExitCode(1)),
            r#"process "/bin/sh -c echo \"a\tb\" && false" did not complete successfully: exit code: 1"#
        );
        assert_eq!(
            describe(&exec(&["kill"]), &StepError::Signal(9)),
            r#"process "kill" did not complete successfully: killed by signal 9 (SIGKILL) (exit code: 137)"#
        );
        let memory = StepError::OutOfMemory { limit: Some(64 << 20), peak: Some((64 << 20) - 100_000) };
        assert_eq!(
            describe(&exec(&["make"]), &memory),
            "process \"make\" did not complete successfully: \
             killed: it wanted more memory than the limit of 64 MiB (peak 63.9 MiB)"
        );
        assert_eq!(hints(&step, &memory), ["`--memory` says how much each RUN may use"]);
        let error = StepError::other("no\x1b[2Jspace\nleft\nhint: make some\nhint: now");
        let killed = hints(&step, &StepError::ExitCode(137));
        assert_eq!(killed, ["exit code 137 means that signal 9 (SIGKILL) killed a process"]);
        assert_eq!(hints(&step, &StepError::ExitCode(1)), [] as [&str; 0]);
        assert_eq!(describe(&step, &error), "nospace left");
        assert_eq!(hints(&step, &error), ["make some", "now"]);
    }
}
