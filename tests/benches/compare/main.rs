//! Times kiln against buildah: the same work, in the same run, one after the other in turns.
//!
//! `make bench`, or `cargo bench -p kiln-tests --bench compare -- [--runs N] [--json FILE] [WORKLOAD…]`.
//! Prints medians and ratios as a table, and writes every single time to `target/bench.json`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark: a panic is how a failure is told, and its table goes to stdout"
)]

mod alone;
mod large_store;
mod report;
mod workloads;

use report::Measured;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use workloads::{Pair, Workload};

/// What was asked for on the command line.
struct Options {
    runs: usize,
    json: PathBuf,
    workloads: Vec<String>,
}

fn main() {
    let Some(options) = options() else { return };
    let is_wanted = |name: &str| options.workloads.is_empty() || options.workloads.iter().any(|asked| asked == name);
    // ext4 without a journal is slow to make files where many were just removed: what has many stays to the end.
    let mut kept = Vec::new();
    let measured: Vec<_> = workloads::all()
        .into_iter()
        .filter(|workload| is_wanted(workload.name))
        .map(|workload| {
            let mut pair = (workload.prepare)();
            let measured = measure(&workload, &mut pair, options.runs);
            if !workload.is_large {
                kept.push(pair);
            }
            measured
        })
        .collect();
    let figures: Vec<_> = alone::FIGURES.iter().filter(|figure| is_wanted(figure.name)).collect();
    assert!(!measured.is_empty() || !figures.is_empty(), "no such workload: there are {:?}", names());
    println!("{}", report::table(&measured));
    for figure in figures {
        println!("{:<3} {:<46} {} (goal {})", figure.name, figure.what, (figure.measure)(), figure.goal);
    }
    std::fs::write(&options.json, report::json(&measured)).expect("writing the JSON file");
    println!("every time is in {}", options.json.display());
}

fn names() -> Vec<&'static str> {
    let figures = alone::FIGURES.iter().map(|figure| figure.name);
    workloads::all().iter().map(|workload| workload.name).chain(figures).collect()
}

/// None where there is nothing to do: `cargo test` runs this without `--bench`.
fn options() -> Option<Options> {
    let mut options =
        Options { runs: 5, json: kiln_tests::run::target_directory().join("bench.json"), workloads: Vec::new() };
    let mut asked = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("`{argument}` takes a value"));
        match argument.as_str() {
            "--bench" => asked = true,
            "--runs" => options.runs = value().parse().expect("a number behind `--runs`"),
            "--json" => options.json = value().into(),
            name => options.workloads.push(name.to_owned()),
        }
    }
    asked.then_some(options)
}

/// One warm-up of each, and then so many runs in turns.
fn measure(workload: &Workload, pair: &mut Pair, runs: usize) -> Measured {
    eprintln!("{}: {}", workload.name, workload.what);
    let runs = if workload.is_large { runs.min(3) } else { runs }.max(1);
    let mut measured = Measured::new(workload);
    for run in 0..=runs {
        let (kiln, buildah) = (time(&mut pair.kiln), time(&mut pair.buildah));
        if run > 0 {
            measured.bare.extend((0..workload.steps).map(|_| bare()));
            measured.kiln.push(kiln);
            measured.buildah.push(buildah);
        }
    }
    measured
}

/// The time that `true` takes, without anything around it.
fn bare() -> Duration {
    time(
        &mut (Box::new(|| {
            let mut command = Command::new("/bin/busybox");
            command.arg("true").env_clear();
            vec![command]
        }) as workloads::Make),
    )
}

/// The time that a list of commands takes from the start of the first to the end of the last.
fn time(make: &mut workloads::Make) -> Duration {
    let mut commands = make();
    let start = Instant::now();
    let ended: Vec<_> = commands.iter_mut().map(|command| command.output().expect("starting a command")).collect();
    let taken = start.elapsed();
    for (command, output) in commands.iter().zip(&ended) {
        assert!(output.status.success(), "{}", kiln_tests::command::describe(command as &Command, output));
    }
    taken
}
