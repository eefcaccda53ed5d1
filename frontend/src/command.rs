//! The instructions that set a command of the image: `CMD`, `ENTRYPOINT`, `SHELL`, `HEALTHCHECK`.

use kiln_image::spec;
use kiln_parser::{Command, Diagnostic, Healthcheck, Span, Word};

use crate::duration;
use crate::findings::error_at;
use crate::go_format::{self, list, quoted_list};
use crate::stage::StageLowering;

const DEFAULT_SHELL: &[&str] = &["/bin/sh", "-c"];
/// Docker takes no shorter time than a millisecond, but for zero.
const SHORTEST: i64 = 1_000_000;

impl StageLowering<'_, '_> {
    /// The arguments that a command runs with: those of the shell before a line for the shell.
    pub(crate) fn arguments(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(arguments, _) => arguments.clone(),
            Command::Shell(line) => self.in_shell(&line.value),
        }
    }

    /// The shell's arguments for this line.
    pub(crate) fn in_shell(&self, line: &str) -> Vec<String> {
        let shell = &self.state.image.config.shell;
        let mut arguments: Vec<String> =
            if shell.is_empty() { DEFAULT_SHELL.iter().map(ToString::to_string).collect() } else { shell.clone() };
        arguments.push(line.to_owned());
        arguments
    }

    pub(crate) fn cmd(&mut self, command: &Command) -> Result<(), Diagnostic> {
        let arguments = self.arguments(command);
        self.state.note(format!("CMD {}", quoted_list(&arguments)));
        let config = &mut self.state.image.config;
        config.cmd = Some(arguments).filter(|arguments| !arguments.is_empty());
        config.args_escaped = true;
        self.has_command = true;
        Ok(())
    }

    /// A `CMD` of the base is arguments to the base's entrypoint: a new one drops it.
    pub(crate) fn entrypoint(&mut self, command: &Command) -> Result<(), Diagnostic> {
        let arguments = self.arguments(command);
        self.state.note(format!("ENTRYPOINT {}", quoted_list(&arguments)));
        let config = &mut self.state.image.config;
        config.entrypoint = Some(arguments).filter(|arguments| !arguments.is_empty());
        if !self.has_command {
            config.cmd = None;
        }
        Ok(())
    }

    pub(crate) fn shell(&mut self, shell: &[String], span: Span) -> Result<(), Diagnostic> {
        if shell.is_empty() {
            return Err(Diagnostic::error("`SHELL` needs at least the program").at(span).code("empty-shell"));
        }
        self.state.note(format!("SHELL {}", list(shell)));
        self.state.image.config.shell = shell.to_vec();
        Ok(())
    }

    pub(crate) fn healthcheck(&mut self, check: &Healthcheck) -> Result<(), Diagnostic> {
        let check = health(check)?;
        self.state.note(format!("HEALTHCHECK {}", printed(&check)));
        self.state.image.config.healthcheck = Some(check);
        Ok(())
    }
}

fn health(check: &Healthcheck) -> Result<spec::Healthcheck, Diagnostic> {
    match check {
        Healthcheck::None => Ok(spec::Healthcheck { test: vec!["NONE".to_owned()], ..spec::Healthcheck::default() }),
        Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } => {
            Ok(spec::Healthcheck {
                test: test(command),
                interval: time(interval.as_ref(), "interval")?,
                timeout: time(timeout.as_ref(), "timeout")?,
                start_period: time(start_period.as_ref(), "start-period")?,
                start_interval: time(start_interval.as_ref(), "start-interval")?,
                retries: count(retries.as_ref())?,
                ..spec::Healthcheck::default()
            })
        }
    }
}

/// A line for the shell is marked as one: the container's runtime puts the shell before it.
fn test(command: &Command) -> Vec<String> {
    let (kind, arguments) = match command {
        Command::Shell(line) => ("CMD-SHELL", vec![line.value.clone()]),
        Command::Exec(arguments, _) => ("CMD", arguments.clone()),
    };
    std::iter::once(kind.to_owned()).chain(arguments).collect()
}

/// Nanoseconds; 0 where nothing is said.
fn time(word: Option<&Word>, flag: &str) -> Result<i64, Diagnostic> {
    let Some(word) = word.filter(|word| !word.value.is_empty()) else { return Ok(0) };
    let nanoseconds = duration::parse(&word.value).ok_or_else(|| {
        error_at(word, "duration", format!("`{}` in `--{flag}` is not a time", word.value))
            .label("not a time")
            .hint("write a number and a unit, such as `30s`, `1m30s` or `500ms`")
    })?;
    if nanoseconds != 0 && nanoseconds < SHORTEST {
        return Err(
            error_at(word, "duration", format!("`--{flag}={}` is shorter than `1ms`", word.value)).label("too short")
        );
    }
    Ok(nanoseconds)
}

fn count(word: Option<&Word>) -> Result<i64, Diagnostic> {
    let Some(word) = word.filter(|word| !word.value.is_empty()) else { return Ok(0) };
    match word.value.parse::<i32>() {
        Ok(count) if count >= 0 => Ok(i64::from(count)),
        _ => Err(error_at(word, "retries", format!("`{}` in `--retries` is not a count", word.value))
            .label("not a count")
            .hint("write a whole number that is not negative")),
    }
}

/// As Go prints a pointer to the struct with `%q`: the count is the character of that number.
fn printed(check: &spec::Healthcheck) -> String {
    let times = [check.interval, check.timeout, check.start_period, check.start_interval];
    let times = times.map(|time| go_format::quoted(&go_format::duration(time))).join(" ");
    let retries = go_format::quoted_character(check.retries);
    format!("&{{{} {times} {retries}}}", go_format::quoted_list(&check.test))
}
