//! What tracing costs: the same command over the plain layer and over the traced one, taking turns.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_cache::StoredLayer;
use kiln_executor::trace::{Observations, Tracing, Union};

use super::Place;
use super::table::{self, packages};
use crate::world::World;

/// A command, and how many times as long it may take when it is traced, where there is a goal.
struct Case {
    name: &'static str,
    goal: Option<f64>,
    script: &'static str,
}

const fn case(name: &'static str, goal: Option<f64>, script: &'static str) -> Case {
    Case { name, goal, script }
}

const CASES: &[Case] = &[
    case("cc, eight files", Some(1.05), "cd /app/c; for file in *.c; do cc -O1 -c $file -o /tmp/o.o; done"),
    case("npm ci, 60 packages", Some(1.05), packages::NPM_CI),
    case("apt-get install", Some(1.05), packages::APT_INSTALL),
    case("grep -r, 20,000 files", Some(2.0), "cd /app/src; ! grep -r nothing_like_it ."),
    case("cp -a of them", None, "cp -a /app/src /tmp/copy"),
    case("find, names only", None, "find /app/src"),
    case("find -size", None, "find /app/src -size +1000k"),
    case("cat, 256 MiB", None, "cat /app/big | cat"),
];
const TURNS: u32 = 7;

/// 20,000 files of text as they come with `COPY . .`, packages to install, and a few files to compile.
fn layer(place: &Place<'_>, with_packages: bool) -> StoredLayer {
    place.filled(|root| {
        let app = root.join("app");
        for directory in 0..200 {
            let path = app.join(format!("src/d{directory}"));
            fs::create_dir_all(&path).unwrap();
            for file in 0..100 {
                let text = format!("line of {file} in {directory}\n").repeat(80);
                fs::write(path.join(format!("f{file}.txt")), text).unwrap();
            }
        }
        fs::write(app.join("big"), vec![7; 256 << 20]).unwrap();
        sources(&app.join("c"));
        if with_packages {
            table::sh(&packages::npm(60), &app);
            table::sh(&[packages::DEB, packages::REPOSITORY].concat(), &app);
        }
    })
}

fn sources(directory: &Path) {
    fs::create_dir(directory).unwrap();
    for file in 0..8 {
        let mut text = format!("#include <stdio.h>\n#include <stdlib.h>\n#include \"h{file}.h\"\n");
        (0..50).for_each(|number| {
            let _ = writeln!(text, "int f{number}(int x) {{ return printf(\"%d\", x * {number} + A); }}");
        });
        fs::write(directory.join(format!("f{file}.c")), text).unwrap();
        fs::write(directory.join(format!("h{file}.h")), "#define A 1\n").unwrap();
    }
}

/// Compares each case, or those with a word in their names.
pub fn bench(world: &World, words: &[&str]) {
    let place = Place::new(world);
    let is_possible =
        |case: &&Case| place.is_machine() || case.name.starts_with("grep") || case.name.starts_with("cat");
    let is_chosen = |case: &&Case| words.is_empty() || words.iter().any(|word| case.name.contains(word));
    let cases: Vec<&Case> = CASES.iter().filter(is_possible).filter(is_chosen).collect();
    let layer =
        layer(&place, cases.iter().any(|case| [packages::NPM_CI, packages::APT_INSTALL].contains(&case.script)));
    let union = Arc::new(Union::new(std::slice::from_ref(&layer)));
    println!(
        "{:<24}{:>10}{:>10}{:>8}{:>7}{:>8}{:>14}",
        "command", "plain", "traced", "ratio", "goal", "facts", "begin and end"
    );
    cases.iter().for_each(|case| compare(&place, &layer, &union, case));
    let traced = place.traced(&union, "grep -r nothing_like_it /app/src", false);
    let (observations, bytes) = (&traced.observations, traced.observations.encode().to_vec());
    let start = Instant::now();
    assert_eq!(observations.check(&Union::new(&[layer])), None);
    println!("check of {} facts in {} bytes: {:?}", observations.len(), bytes.len(), start.elapsed());
    let start = Instant::now();
    Observations::decode(bytes).unwrap();
    println!("decoding them: {:?}", start.elapsed());
}

fn compare(place: &Place<'_>, layer: &StoredLayer, union: &Arc<Union>, case: &Case) {
    // The time of the command alone: mounting and unmounting comes on top of both, and is told apart.
    let script = format!(
        "export HOME=/tmp/home; cd /app; t=$(date +%s%N); {{ {}; }} >/dev/null; echo $(($(date +%s%N) - t))",
        case.script
    );
    let mut best = [Duration::MAX; 3];
    let mut facts = 0;
    for _ in 0..TURNS {
        let plain = taken(&place.run(layer.mount_source().to_str().unwrap(), &script, false));
        let start = Instant::now();
        let tracing = Tracing::start(union.clone()).unwrap();
        let begun = start.elapsed();
        let traced = taken(&place.over(&tracing, &script, false));
        let start = Instant::now();
        facts = tracing.finish().unwrap().len();
        for (best, time) in best.iter_mut().zip([plain, traced, begun + start.elapsed()]) {
            *best = time.min(*best);
        }
    }
    let [plain, traced, around] = best;
    let ratio = traced.as_secs_f64() / plain.as_secs_f64();
    let goal = case.goal.map_or_else(|| "-".to_owned(), |goal| format!("{goal:.2}"));
    let shown = |time: Duration| format!("{time:.1?}");
    let (plain, traced, around) = (shown(plain), shown(traced), shown(around));
    println!("{:<24}{plain:>10}{traced:>10}{ratio:>8.2}{goal:>7}{facts:>8}{around:>14}", case.name);
}

/// What a script said it took.
fn taken(output: &Output) -> Duration {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Duration::from_nanos(text.trim().parse().unwrap_or_else(|_| panic!("{output:?}")))
}
