//! What tracing costs: the same command over the plain layer and over the traced one, taking turns.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_executor::trace::{Observations, Union};

use super::Place;
use crate::world::World;

const CASES: &[(&str, &str)] = &[
    ("grep -r", "cd /traced/src; ! grep -r nothing_like_it ."),
    ("find", "find /traced/src"),
    ("find -size", "find /traced/src -size +1000k"),
    ("cp -a", "cp -a /traced/src /tmp/copy"),
    ("cc", "cd /traced/c; for file in *.c; do cc -O1 -c $file -o /tmp/o.o; done"),
];
const TURNS: u32 = 7;

/// 20,000 files of text, and a few to compile.
fn layer(place: &Place<'_>) -> kiln_cache::StoredLayer {
    place.filled(|root| {
        for directory in 0..200 {
            let path = root.join(format!("traced/src/d{directory}"));
            fs::create_dir_all(&path).unwrap();
            for file in 0..100 {
                let text = format!("line of {file} in {directory}\n").repeat(80);
                fs::write(path.join(format!("f{file}.txt")), text).unwrap();
            }
        }
        fs::create_dir_all(root.join("traced/c")).unwrap();
        for file in 0..8 {
            let mut text = format!("#include <stdio.h>\n#include <stdlib.h>\n#include \"h{file}.h\"\n");
            (0..50).for_each(|number| {
                let _ = writeln!(text, "int f{number}(int x) {{ return printf(\"%d\", x * {number} + A); }}");
            });
            fs::write(root.join(format!("traced/c/f{file}.c")), text).unwrap();
            fs::write(root.join(format!("traced/c/h{file}.h")), "#define A 1\n").unwrap();
        }
    })
}

pub fn bench(world: &World) {
    let place = Place::new(world);
    let layer = layer(&place);
    let union = Arc::new(Union::new(std::slice::from_ref(&layer)));
    for (name, script) in CASES {
        // The time of the command alone, without that of mounting and unmounting.
        let script = format!("t=$(date +%s%N); {script} >/dev/null; echo $(($(date +%s%N) - t))");
        let mut best = [Duration::MAX; 2];
        let mut facts = 0;
        for _ in 0..TURNS {
            let plain = place.run(layer.mount_source().to_str().unwrap(), &script, false);
            let traced = place.traced(&union, &script, false);
            facts = traced.observations.len();
            for (best, output) in best.iter_mut().zip([plain, traced.output]) {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let nanos = text.trim().parse().unwrap_or_else(|_| panic!("{output:?}"));
                *best = Duration::from_nanos(nanos).min(*best);
            }
        }
        let ratio = best[1].as_secs_f64() / best[0].as_secs_f64();
        println!("{name}: plain {:.1?}, traced {:.1?}, ratio {ratio:.2}, {facts} facts", best[0], best[1]);
    }
    let traced = place.traced(&union, "grep -r nothing_like_it /traced/src", false);
    let (observations, bytes) = (&traced.observations, traced.observations.encode().to_vec());
    let start = Instant::now();
    assert_eq!(observations.check(&Union::new(&[layer])), None);
    println!("check of {} facts in {} bytes: {:?}", observations.len(), bytes.len(), start.elapsed());
    let start = Instant::now();
    Observations::decode(bytes).unwrap();
    println!("decoding them: {:?}", start.elapsed());
}
