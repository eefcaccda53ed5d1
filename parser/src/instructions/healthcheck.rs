//! `HEALTHCHECK NONE` and `HEALTHCHECK [options] CMD command`

use crate::flags::Flags;
use crate::statement::Statement;
use crate::words::split_first;
use crate::{Command, Healthcheck, Kind, suggest};

pub(super) fn parse(statement: &mut Statement<'_>) -> Option<Kind> {
    let flags = statement.flags();
    let (form, rest) = split_first(statement.body);
    let rest = rest.trim_start();
    let check = match form.to_ascii_uppercase().as_str() {
        "" => {
            statement.missing("`CMD` and a command, or `NONE`");
            return None;
        }
        "NONE" => none(statement, rest)?,
        "CMD" => with_options(flags, command(statement, form, rest)?),
        _ => {
            let problem = statement.error(form, format!("`HEALTHCHECK` has no form `{form}`"), "wrong-arguments");
            statement.tell(problem.hint(match suggest::nearest(form, ["CMD", "NONE"]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write `HEALTHCHECK CMD {form} …`"),
            }));
            return None;
        }
    };
    Some(Kind::Healthcheck(check))
}

fn none(statement: &mut Statement<'_>, rest: &str) -> Option<Healthcheck> {
    if !rest.is_empty() {
        let problem = statement.error(rest, "`HEALTHCHECK NONE` takes no arguments", "wrong-arguments");
        statement.tell(problem.label("unexpected"));
        return None;
    }
    Some(Healthcheck::None)
}

fn command<'s>(statement: &mut Statement<'s>, form: &str, text: &'s str) -> Option<Command> {
    let message = "`HEALTHCHECK CMD` needs a command";
    if text.is_empty() {
        statement.tell(statement.error(form, message, "missing-argument").label("nothing follows"));
        return None;
    }
    let command = statement.command(text)?;
    if matches!(&command, Command::Exec(arguments, _) if arguments.is_empty()) {
        statement.tell(statement.error(text, message, "missing-argument").label("empty"));
        return None;
    }
    Some(command)
}

fn with_options(mut flags: Flags, command: Command) -> Healthcheck {
    Healthcheck::Cmd {
        command,
        interval: flags.value("interval"),
        timeout: flags.value("timeout"),
        start_period: flags.value("start-period"),
        start_interval: flags.value("start-interval"),
        retries: flags.value("retries"),
    }
}
