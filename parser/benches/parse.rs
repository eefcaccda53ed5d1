//! How long it takes to parse a large Dockerfile: `cargo bench -p kiln-parser`.

#![allow(missing_docs, reason = "a benchmark")]

mod generated;

fn main() {
    divan::main();
}

#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 20)]
fn parse(bencher: divan::Bencher<'_, '_>, lines: usize) {
    let text = generated::dockerfile(lines);
    bencher.counter(divan::counter::ItemsCount::new(lines)).bench(|| kiln_parser::parse(divan::black_box(&text)));
}
