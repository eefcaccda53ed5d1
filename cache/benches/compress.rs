//! How fast a layer of 20,000 files is compressed, with its digest and written: `cargo bench -p kiln-cache`. Megabytes
//! of its archive a second, the best of three, with one core and with all.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::process::Command;
use std::time::{Instant, SystemTime};

use kiln_cache::{Compression, Store, StoredLayer, Whiteouts};
use rustix::thread::CpuSet;

/// Makes the content of the next file, of a number that is never the same.
type Content = fn(&mut u64) -> Vec<u8>;

const FILES: usize = 20_000;
const ROUNDS: usize = 3;
const ONE_CORE: &str = "--one-core";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == ONE_CORE) {
        let (all, mut first) = (rustix::thread::sched_getaffinity(None).unwrap(), CpuSet::new());
        first.set((0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap());
        rustix::thread::sched_setaffinity(None, &first).unwrap();
        measure();
    } else if arguments.iter().any(|argument| argument == "--bench") {
        // Threads are started once for a process, as many as it has cores.
        Command::new(std::env::current_exe().unwrap()).arg(ONE_CORE).status().unwrap();
        measure();
    }
}

fn measure() {
    let cores = std::thread::available_parallelism().unwrap();
    let contents: [(&str, Content); 2] = [("text", text), ("noise", noise)];
    for (name, content) in contents {
        let mut best = [Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 }].map(|form| (form, 0.0, 0));
        for _ in 0..ROUNDS {
            let root = tempfile::tempdir().unwrap();
            let store = Store::open(root.path(), Whiteouts::Trusted).unwrap();
            let layer = layer(&store, content);
            let size = store.layer_blob(layer.diff_id(), Compression::Uncompressed).unwrap().size;
            for (form, speed, made) in &mut best {
                let start = Instant::now();
                *made = store.layer_blob(layer.diff_id(), *form).unwrap().size * 100 / size;
                *speed = f64::max(*speed, size as f64 / 1e6 / start.elapsed().as_secs_f64());
            }
        }
        for (form, speed, made) in best {
            println!("{cores} cores, {name:5}, {form:?}: {speed:4.0} MB/s, to {made} %");
        }
    }
}

fn layer(store: &Store, content: Content) -> StoredLayer {
    let draft = store.begin_layer().unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for number in 0..FILES {
        let directory = draft.files().join(format!("d{}", number / 100));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("f{number}")), content(&mut state)).unwrap();
    }
    draft.commit(SystemTime::now()).unwrap()
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
