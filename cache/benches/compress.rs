//! How fast a layer of 20,000 files is compressed, with its digest and written: `cargo bench -p kiln-cache`. Megabytes
//! of its archive a second, the best of five, with one core and with all. Its own digest was made when it was
//! committed, and how fast that was is told first.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

use kiln_cache::{Compression, LayerDraft, Store, Whiteouts};
use kiln_solver::Digest;
use rustix::thread::CpuSet;

/// Makes the content of the next file, of a number that is never the same.
type Content = fn(&mut u64) -> Vec<u8>;

const CONTENTS: [(&str, Content); 2] = [("text", text), ("noise", noise)];
const FORMS: [Compression; 2] = [Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 }];
const FILES: usize = 20_000;
const ROUNDS: usize = 5;
const ONE_CORE: &str = "--one-core";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [option, root, layers @ ..] if option == ONE_CORE => {
            use_one_core();
            let layers: Vec<Digest> = layers.iter().map(|layer| layer.parse().unwrap()).collect();
            speeds(root.as_ref(), &layers).iter().for_each(|speed| println!("{speed}"));
        }
        _ if arguments.iter().any(|argument| argument == "--bench") => compare(),
        _ => {}
    }
}

fn compare() {
    let root = tempfile::tempdir().unwrap();
    let layers = CONTENTS.map(|(name, content)| commit(root.path(), name, content));
    // Threads are started once for a process, as many as it has cores.
    let mut one = Command::new(std::env::current_exe().unwrap());
    one.arg(ONE_CORE).arg(root.path()).args(layers.map(|layer| layer.to_string()));
    let one = String::from_utf8(one.output().unwrap().stdout).unwrap();
    let one = one.lines().map(|speed| speed.parse::<f64>().unwrap());
    let cores = std::thread::available_parallelism().unwrap();
    println!("{:24}   one core    {cores} cores  times", "");
    let rows = CONTENTS.iter().flat_map(|(name, _)| FORMS.map(|form| (name, form)));
    for ((name, form), (one, all)) in rows.zip(one.zip(speeds(root.path(), &layers))) {
        println!("{name:5} {:18} {one:5.0} MB/s {all:5.0} MB/s  {:5.2}", format!("{form:?}"), all / one);
    }
}

/// Makes a layer of such files.
fn commit(root: &Path, name: &str, content: Content) -> Digest {
    let store = Store::open(&root.join(name), Whiteouts::Trusted).unwrap();
    let draft = draft(&store, content);
    let start = Instant::now();
    let layer = draft.commit(SystemTime::now()).unwrap();
    let taken = start.elapsed();
    let size = store.layer_blob(layer.diff_id(), Compression::Uncompressed).unwrap().size;
    println!("{name:5} committed: {:.0} MB/s", megabytes(size) / taken.as_secs_f64());
    *layer.diff_id()
}

/// Of each layer in each form.
fn speeds(root: &Path, layers: &[Digest]) -> Vec<f64> {
    let mut speeds = Vec::new();
    for ((name, _), layer) in CONTENTS.iter().zip(layers) {
        let store = Store::open(&root.join(name), Whiteouts::Trusted).unwrap();
        let size = store.layer_blob(layer, Compression::Uncompressed).unwrap().size;
        for form in FORMS {
            let times = (0..ROUNDS).map(|_| {
                let start = Instant::now();
                let blob = store.layer_blob(layer, form).unwrap();
                let taken = start.elapsed();
                // Else it would be found the next time.
                std::fs::remove_file(store.blob(&blob.digest).unwrap().unwrap().path).unwrap();
                taken
            });
            speeds.push(megabytes(size) / times.min().unwrap().as_secs_f64());
        }
    }
    speeds
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn use_one_core() {
    let (all, mut first) = (rustix::thread::sched_getaffinity(None).unwrap(), CpuSet::new());
    first.set((0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap());
    rustix::thread::sched_setaffinity(None, &first).unwrap();
}
fn draft(store: &Store, content: Content) -> LayerDraft {
    let draft = store.begin_layer().unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for number in 0..FILES {
        let directory = draft.files().join(format!("d{}", number / 100));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("f{number}")), content(&mut state)).unwrap();
    }
    draft
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn noise(state: &mut u64) -> Vec<u8> {
    std::iter::repeat_with(|| next(state).to_le_bytes()).flatten().take(4096).collect()
}

/// Words, of which a few are frequent.
fn text(state: &mut u64) -> Vec<u8> {
    let word = |number: u64| {
        let common = (number % 4096) * (number / 4096 % 4096) / 4096;
        format!("{:x} ", (common + 300) * 40_503)
    };
    std::iter::repeat_with(|| word(next(state) >> 8).into_bytes()).flatten().take(4096).collect()
}
