//! What runs a command: `RUN`, `CMD`, `ENTRYPOINT`, and `SHELL` that says with which shell.

use crate::json::{self, Form};
use crate::statement::Statement;
use crate::{Command, Diagnostic, Kind, Run};

pub(super) fn parse(statement: &mut Statement<'_>) -> Option<Kind> {
    let mut flags = statement.flags();
    let command = command(statement)?;
    if matches!(&command, Command::Exec(arguments, _) if arguments.is_empty()) {
        let problem = statement.error(statement.body, "`RUN` needs a command", "missing-argument");
        statement.tell(problem.label("empty"));
        return None;
    }
    Some(Kind::Run(Run {
        command,
        network: flags.value("network"),
        security: flags.value("security"),
        mounts: flags.values("mount"),
        devices: flags.values("device"),
        heredocs: std::mem::take(&mut statement.heredocs),
    }))
}

/// The body as a command.
pub(super) fn command(statement: &mut Statement<'_>) -> Option<Command> {
    if statement.body.is_empty() {
        statement.missing("a command");
        return None;
    }
    statement.command(statement.body)
}

/// `SHELL ["executable", …]`, in this form only.
pub(super) fn shell(statement: &mut Statement<'_>) -> Option<Kind> {
    let body = statement.body;
    statement.body_word("a shell as a JSON array")?;
    let hint = "write `SHELL [\"/bin/sh\", \"-c\"]`";
    match json::read(body) {
        Form::Strings(strings) if !strings.is_empty() => {
            Some(Kind::Shell(strings.into_iter().map(|(decoded, _)| decoded).collect()))
        }
        Form::Strings(_) => {
            let problem = statement.error(body, "`SHELL` needs at least one argument", "missing-argument");
            statement.tell(problem.label("empty").hint(hint));
            None
        }
        Form::Mixed(_) => {
            statement.strings(body).ok();
            None
        }
        Form::Text(at) => {
            let problem = Diagnostic::error("`SHELL` takes a JSON array of strings").hint(hint);
            let problem = match at {
                Some(at) => statement.not_json(body, at, problem),
                None => problem.at(statement.span(body)).label("not JSON").code("invalid-json"),
            };
            statement.tell(problem);
            None
        }
    }
}
