//! From times to a table for people and JSON for programs.

use crate::workloads::Workload;
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

/// The times of one workload.
pub(crate) struct Measured {
    name: &'static str,
    what: &'static str,
    goal: Duration,
    /// How many steps of `true` it has; 0 where it is about something else.
    steps: u32,
    /// The times of `true` alone.
    pub(crate) bare: Vec<Duration>,
    pub(crate) kiln: Vec<Duration>,
    pub(crate) buildah: Vec<Duration>,
}

impl Measured {
    pub(crate) fn new(workload: &Workload) -> Self {
        let &Workload { name, what, goal, steps, .. } = workload;
        Self { name, what, goal, steps, bare: Vec::new(), kiln: Vec::new(), buildah: Vec::new() }
    }

    /// What a step costs over its command, in milliseconds: the whole build by the number of its steps.
    fn step(&self, times: &[Duration]) -> f64 {
        (median(times).as_secs_f64() / f64::from(self.steps) - median(&self.bare).as_secs_f64()) * 1e3
    }

    fn ratio(&self) -> f64 {
        median(&self.buildah).as_secs_f64() / median(&self.kiln).as_secs_f64()
    }
}

pub(crate) fn table(all: &[Measured]) -> String {
    let mut text =
        String::from("                                                         kiln      buildah    times\n");
    text.push_str("workload                                         median (least)       median   faster     goal\n");
    for one in all {
        let least = one.kiln.iter().min().copied().unwrap_or_default();
        writeln!(
            text,
            "{:<3} {:<40} {:>10} ({:>8}) {:>10} {:>7.1}x {:>8}",
            one.name,
            one.what,
            milliseconds(median(&one.kiln)),
            milliseconds(least),
            milliseconds(median(&one.buildah)),
            one.ratio(),
            milliseconds(one.goal),
        )
        .expect("writing to a string");
    }
    for one in all.iter().filter(|one| one.steps > 0) {
        let (kiln, buildah) = (one.step(&one.kiln), one.step(&one.buildah));
        writeln!(
            text,
            "{:<3} a step over `true` alone ({}): kiln {kiln:.1} ms, buildah {buildah:.1} ms, {:.1} times as much",
            one.name,
            milliseconds(median(&one.bare)),
            buildah / kiln,
        )
        .expect("writing to a string");
    }
    text
}

pub(crate) fn json(all: &[Measured]) -> String {
    let times = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let workloads: Vec<_> = all
        .iter()
        .map(|one| {
            json!({
                "name": one.name, "what": one.what, "goal": one.goal.as_secs_f64(), "ratio": one.ratio(),
                "kiln": { "median": median(&one.kiln).as_secs_f64(), "times": times(&one.kiln) },
                "steps": one.steps, "bare": median(&one.bare).as_secs_f64(),
                "buildah": { "median": median(&one.buildah).as_secs_f64(), "times": times(&one.buildah) },
            })
        })
        .collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let report = json!({ "unit": "seconds", "cores": cores, "kernel": kernel.trim(), "workloads": workloads });
    serde_json::to_string_pretty(&report).expect("JSON") + "\n"
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => Duration::ZERO,
        length if length % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2,
        _ => sorted[middle],
    }
}

fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}
