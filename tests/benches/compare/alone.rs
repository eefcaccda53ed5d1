//! What is measured of kiln alone: how long the export after the last step takes, and how much memory it has.

use kiln_tests::{Kiln, World};
use std::time::Duration;

/// Something with a goal of its own.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) goal: &'static str,
    /// Tells what it came to.
    pub(crate) measure: fn() -> String,
}

pub(crate) const FIGURES: [Figure; 2] = [
    Figure { name: "x", what: "export, 100 MiB in layers before the last step", goal: "100 ms", measure: last_export },
    Figure { name: "m", what: "peak memory with a layer of 1 GiB", goal: "96 MiB", measure: peak_memory },
];

/// The large layer is compressed while the next step runs, and the last one is small.
fn last_export() -> String {
    let world = World::new();
    let dockerfile = "FROM busybox\nRUN seq 1 13000000 > /numbers\nRUN sleep 2\nRUN echo small > /small\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    let output = format!("type=oci,dest={}", world.path().join("image.tar").display());
    let built = world.build(&project).args(["--progress", "rawjson", "-o", &output]).succeeds();
    let exported = built.stderr.lines().rev().find_map(exported).expect("an export");
    format!("{:.1} ms", exported.as_secs_f64() * 1e3)
}

/// How long an export took, if a line of the progress tells it.
fn exported(line: &str) -> Option<Duration> {
    let status: serde_json::Value = serde_json::from_str(line).ok()?;
    let vertex = status["vertexes"].as_array()?.iter().find(|vertex| {
        vertex["name"].as_str().is_some_and(|name| name.starts_with("exporting to")) && !vertex["completed"].is_null()
    })?;
    let time = |name: &str| vertex[name].as_str()?.parse::<jiff::Timestamp>().ok();
    time("completed")?.duration_since(time("started")?).try_into().ok()
}

/// Of kiln while it builds, exports, pushes and pulls noise, which no compression makes smaller.
fn peak_memory() -> String {
    let mut world = World::new();
    let dockerfile = "FROM busybox\nRUN dd if=/dev/urandom of=/noise bs=1M count=1024 2>/dev/null\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    let archive = world.path().join("image.tar");
    let output = |compression: &str| format!("type=oci,dest={},compression={compression}", archive.display());
    let name = format!("{}/bench/noise:1", world.registry().address);
    let mut peaks = vec![
        ("gzip", peak(&world, world.build(&project).args(["-o", &output("gzip")]))),
        ("zstd", peak(&world, world.build(&project).args(["-o", &output("zstd")]))),
        ("push", peak(&world, world.build(&project).args(["--push", "-t", &name]))),
    ];
    world.set_root(world.path().join("other"));
    peaks.push(("pull", peak(&world, world.kiln(["pull", &name]))));
    peaks.iter().map(|(what, mebibytes)| format!("{what} {mebibytes:.0} MiB")).collect::<Vec<_>>().join(", ")
}

/// The most memory of a command, in MiB.
fn peak(world: &World, kiln: Kiln) -> f64 {
    let file = world.path().join("peak");
    kiln.noting_memory(&file).succeeds();
    std::fs::read_to_string(&file).unwrap().parse::<f64>().unwrap() / 1024.0
}
