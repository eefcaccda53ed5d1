//! `kiln fsck`

use std::fmt::Write as _;

use kiln_cache::{CheckReport, Depth};

use crate::environment::Environment;
use crate::error::CliError;
use crate::progress::clean;
use crate::session::{Session, store_error};
use crate::{human, terminal};

/// Check the store: the cache, the images and the database
///
/// Looks whether all that the database names is there, and has the size that it should have. Builds may run
/// meanwhile. Ends with 1 if something is broken.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Read every file and compare it with its digest, too
    #[arg(long)]
    deep: bool,

    /// Drop what is broken, so that the next build makes it again, and what a crash left behind
    #[arg(long)]
    repair: bool,

    /// Print nothing but what is broken
    #[arg(short, long)]
    quiet: bool,
}

/// Checks it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let depth = if args.deep { Depth::Contents } else { Depth::Sizes };
    let check = || store.check(depth).map_err(|error| store_error(&error));
    let mut report = check()?;
    terminal::print(&describe(&report, args.quiet))?;
    if args.repair && (!report.problems.is_empty() || !report.leftovers.is_empty()) {
        store.repair(&report).map_err(|error| store_error(&error))?;
        report = check()?;
        if !args.quiet || !report.problems.is_empty() {
            terminal::print(&format!("\nafter the repair:\n{}", describe(&report, args.quiet)))?;
        }
    }
    match report.problems.len() {
        0 => Ok(()),
        count if args.repair => Err(CliError::environment(format!("{} left", problems(count)))
            .hint("move the store away to start with an empty one")),
        count => Err(CliError::environment(problems(count))
            .hint("`kiln fsck --repair` drops what is broken, and the next build makes it again")),
    }
}

fn problems(count: usize) -> String {
    if count == 1 { "the store has 1 problem".to_owned() } else { format!("the store has {count} problems") }
}

fn describe(report: &CheckReport, quiet: bool) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "problem: {}", clean(&problem.to_string()));
    }
    if quiet {
        return text;
    }
    for leftover in &report.leftovers {
        let path = clean(&leftover.path.to_string_lossy());
        let _ = writeln!(text, "left behind: {path} ({})", human::size(leftover.size));
    }
    let CheckReport { layers, blobs, records, images, .. } = report;
    let _ = writeln!(text, "checked {layers} layers, {blobs} blobs, {records} records, {images} image names");
    if !report.leftovers.is_empty() {
        let size = human::size(report.leftovers.iter().map(|leftover| leftover.size).sum());
        let _ = writeln!(text, "{size} were left behind by a crash; `kiln fsck --repair` removes that");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_cache::{Leftover, Problem};
    use kiln_solver::Digest;

    #[test]
    fn what_was_found_is_told() {
        let digest = Digest::of(b"layer");
        let report = CheckReport {
            problems: vec![
                Problem::Layer { diff_id: digest, reason: "`/a` is missing".to_owned(), row: 1 },
                Problem::Record { name: "[2/2] RUN\x1b[2J make".to_owned(), layer: digest },
            ],
            leftovers: vec![
                Leftover { path: "tmp/0123".into(), size: 4096 },
                Leftover { path: "layers/00".into(), size: 1_000_000 },
            ],
            layers: 3,
            blobs: 2,
            records: 7,
            images: 1,
        };
        insta::assert_snapshot!(describe(&report, false), @r"
        problem: layer `sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85`: `/a` is missing
        problem: the record of `[2/2] RUN make` needs layer `sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85`, which is not here
        left behind: tmp/0123 (4.096kB)
        left behind: layers/00 (1MB)
        checked 3 layers, 2 blobs, 7 records, 1 image names
        1.004MB were left behind by a crash; `kiln fsck --repair` removes that
        ");
        assert_eq!(describe(&report, true).lines().count(), 2);
        assert_eq!(describe(&CheckReport::default(), true), "");
    }
}
