//! `kiln history logs`

use std::io::{ErrorKind, IsTerminal as _, Write};
use std::time::Duration;

use kiln_cache::history::{Event, Events};

use super::{build_error, find};
use crate::environment::Environment;
use crate::error::{self, CliError};
use crate::progress::{Display, Group, Style};
use crate::session::Session;

/// Print what a build printed
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The build, by the beginning of its ID or as `^N`, the build N before the last [default: the last one]
    #[arg(value_name = "BUILD")]
    build: Option<String>,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Form::Plain, value_name = "STYLE")]
    progress: Form,

    /// Print the bytes that the steps printed and nothing else, escape sequences included
    #[arg(long, conflicts_with = "progress")]
    raw: bool,

    /// With `--raw`: only of the step with this number
    #[arg(long, value_name = "NUMBER", requires = "raw")]
    step: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Line by line, as `kiln build --progress=plain` does
    Plain,
    /// A line of JSON for each thing that happened
    Rawjson,
}

/// Prints it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let id = find(&store, args.build.as_deref())?;
    let began = store.build(&id).map_err(|error| build_error(&error))?.began;
    let events = store.build_events(&id).map_err(|error| build_error(&error))?;
    let mut stdout = std::io::stdout().lock();
    let printed = if args.raw {
        print_raw(events, args.step, &mut stdout)
    } else {
        let style = if args.progress == Form::Plain { Style::Plain } else { Style::RawJson };
        let colour = environment.colour && stdout.is_terminal();
        replay(events, &mut *style.display(colour, began), &mut stdout)
    };
    match printed {
        Err(Failed::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(Failed::Output(error)) => {
            Err(CliError::environment(format!("cannot write to stdout: {}", error::plain_io(&error))))
        }
        Err(Failed::Store(error)) => Err(build_error(&error)),
        Ok(()) => Ok(()),
    }
}

enum Failed {
    Store(kiln_cache::StoreError),
    Output(std::io::Error),
}

/// Steps are counted from 0 in the history, and from 1 by people.
fn print_raw(events: Events, chosen: Option<usize>, output: &mut dyn Write) -> Result<(), Failed> {
    for event in events {
        let (_, step, event) = event.map_err(Failed::Store)?;
        if let Event::Output(_, bytes) = event
            && chosen.is_none_or(|chosen| chosen == step + 1)
        {
            output.write_all(&bytes).map_err(Failed::Output)?;
        }
    }
    output.flush().map_err(Failed::Output)
}

/// Shows the events to a display again, and prints what it makes of them.
fn replay(events: Events, display: &mut dyn Display, output: &mut dyn Write) -> Result<(), Failed> {
    let mut last = Duration::ZERO;
    for event in events {
        let (time, step, event) = event.map_err(Failed::Store)?;
        let group = Group(step);
        match event {
            Event::Start(title) => display.start(time, group, &title),
            Event::Output(stream, bytes) => display.output(time, group, stream, &bytes),
            Event::Note(note) => display.note(time, group, &note),
            Event::End(end) => display.end(time, group, &end),
        }
        output.write_all(display.take().as_bytes()).map_err(Failed::Output)?;
        last = last.max(time);
    }
    display.finish(last);
    output.write_all(display.take().as_bytes()).and_then(|()| output.flush()).map_err(Failed::Output)
}
