//! `kiln history trace`: [`jaeger`] writes the spans of a build down.

mod jaeger;

use std::path::PathBuf;

use kiln_image::ImageError;
use kiln_image::export;
use kiln_solver::Cancel;

use super::find_ended;
use super::spans::Trace;
use crate::environment::Environment;
use crate::error::CliError;
use crate::local::image_error;
use crate::output::Output;
use crate::session::Session;

/// Write a build down as a trace: its steps with their times, as JSON that Jaeger shows
///
/// Each step is a span with its cache key, its reasons and its error, and refers to the steps that it builds on. The
/// user interface of Jaeger shows such files at "Search", "Upload".
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The build, by the beginning of its ID or as `^N`, the build N before the last [default: the last one]
    #[arg(value_name = "BUILD")]
    build: Option<String>,

    /// Another build, into the same file, for Jaeger to compare them
    #[arg(long, value_name = "BUILD")]
    compare: Option<String>,

    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let mut output = Output::new(args.output.as_deref(), "a trace")?;
    let store = Session::open(environment)?.store;
    let builds = [args.build.as_deref()].into_iter().chain(args.compare.as_deref().map(Some));
    let traces = builds.map(|build| Trace::read(&store, &find_ended(&store, build)?));
    let text = jaeger::json(&traces.collect::<Result<Vec<_>, _>>()?);
    export::stream(output.destination(), &Cancel::new(), |file| {
        file.write_all(text.as_bytes()).map_err(ImageError::Output)
    })
    .map_err(|error| image_error(&error))
}
