//! How long it takes to parse and lower a large Dockerfile: `cargo bench -p kiln-frontend`.
//!
//! Behind the table stands what is promised: 10,000 lines in less than [`LIMIT`], and 100,000 in no more than
//! [`GROWTH`] times that. The benchmark fails where it does not hold.

#![allow(
    missing_docs,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark: a panic is how a failure is told, and its table goes to stdout"
)]

#[path = "../../parser/benches/generated/mod.rs"]
mod generated;

use std::error::Error;
use std::time::{Duration, Instant};

use kiln_frontend::{BaseImage, Build, Options, Resolver, lower};
use kiln_image::spec::Image;
use kiln_parser::{Dockerfile, parse};
use kiln_solver::{Digest, Platform};

/// For parsing and lowering 10,000 lines.
const LIMIT: Duration = Duration::from_millis(20);
/// How many times as long ten times as many lines may take.
const GROWTH: f64 = 12.0;

const LINES: [usize; 3] = [1_000, 10_000, 100_000];

fn main() {
    divan::main();
    if !std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        check();
    }
}

/// Every image there may be, all of them the same.
struct AnyImage;

impl Resolver for AnyImage {
    fn resolve(&self, reference: &str, platform: &Platform) -> Result<BaseImage, Box<dyn Error + Send + Sync>> {
        let mut image = Image::empty(platform);
        image.config.env = vec!["PATH=/usr/bin:/bin".to_owned()];
        image.rootfs.diff_ids = vec![Digest::of(b"layer")];
        Ok(BaseImage { reference: reference.to_owned(), digest: Digest::of(reference.as_bytes()), image })
    }
}

fn lowered(dockerfile: &Dockerfile) -> Build {
    let options = Options::new("linux/amd64".parse().unwrap());
    match lower(dockerfile, &options, &AnyImage) {
        Ok(build) => build,
        Err(errors) => panic!("{:?}", errors.first()),
    }
}

fn both(text: &str) -> Build {
    let parsed = parse(text);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics.first());
    lowered(&parsed.dockerfile)
}

#[divan::bench(args = LINES, sample_count = 20)]
fn lower_only(bencher: divan::Bencher<'_, '_>, lines: usize) {
    let dockerfile = parse(&generated::dockerfile(lines)).dockerfile;
    bencher.bench(|| lowered(divan::black_box(&dockerfile)));
}

#[divan::bench(args = LINES, sample_count = 20)]
fn parse_and_lower(bencher: divan::Bencher<'_, '_>, lines: usize) {
    let text = generated::dockerfile(lines);
    bencher.bench(|| both(divan::black_box(&text)));
}

/// The best of several runs: whatever else the machine does only ever makes a run slower.
fn best(lines: usize) -> Duration {
    let text = generated::dockerfile(lines);
    assert_eq!(text.lines().count(), lines);
    let run = || {
        let start = Instant::now();
        // Dropping it is not part of it, as in the benchmarks above.
        let build = both(divan::black_box(&text));
        let time = start.elapsed();
        assert!(build.graph.steps().count() > lines / 20, "stages are left out");
        time
    };
    (0..15).map(|_| run()).min().unwrap_or_default()
}

fn check() {
    let (small, large) = (best(10_000), best(100_000));
    let growth = large.as_secs_f64() / small.as_secs_f64();
    println!(
        "10,000 lines: {small:.1?} of {LIMIT:.1?}; 100,000 lines: {large:.1?}, {growth:.1} of {GROWTH:.1} times that"
    );
    assert!(small < LIMIT, "too slow");
    assert!(growth <= GROWTH, "more than linear");
}
