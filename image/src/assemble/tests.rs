//! Configs of built images: histories that fit, times that depend on layers alone.

use std::time::Duration;

use kiln_solver::{Digest, Origin, Platform};

use super::*;
use crate::fixture::Bench;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A layer with one file, made at a time.
fn layer(bench: &Bench, name: &str, created: SystemTime) -> Layer {
    let draft = bench.store().begin_layer().unwrap();
    std::fs::write(draft.files().join(name), name).unwrap();
    Layer { diff_id: *draft.commit(created).unwrap().diff_id(), origin: Origin::Built }
}

/// A layer of a base image that nobody needed yet.
fn absent() -> Layer {
    Layer { diff_id: Digest::of(b"absent"), origin: Origin::Image }
}

fn entry(created: Option<u64>, by: &str, empty_layer: bool) -> History {
    let created = created.map(|seconds| format_time(at(seconds)));
    History { created, created_by: by.to_owned(), empty_layer, ..History::default() }
}

fn base(created: u64, layers: usize, history: Vec<History>) -> Image {
    let mut image = Image::empty(&"linux/amd64".parse::<Platform>().unwrap());
    image.created = Some(format_time(at(created)));
    image.rootfs.diff_ids = vec![Digest::of(b"absent"); layers];
    image.history = history;
    image
}

/// `seconds by` of each entry, those without layer in brackets.
fn told(image: &Image) -> Vec<String> {
    let tell = |entry: &History| {
        let created = parse_time(entry.created.as_deref().unwrap()).unwrap();
        let seconds = created.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let text = format!("{seconds} {}", entry.created_by);
        if entry.empty_layer { format!("({text})") } else { text }
    };
    image.history.iter().map(tell).collect()
}

#[test]
fn entries_get_the_times_of_their_layers() {
    let bench = Bench::new();
    let history = vec![
        entry(Some(10), "base", false),
        entry(None, "env", true),
        entry(None, "run", false),
        entry(None, "cmd", true),
    ];
    let layers = [absent(), layer(&bench, "a", at(50))];
    let built = assemble(bench.store(), &base(10, 1, history), &layers, None).unwrap();
    assert_eq!(told(&built.image), ["10 base", "(10 env)", "50 run", "(50 cmd)"]);
    assert_eq!(built.image.created, Some(format_time(at(50))));
    assert_eq!(built.image.rootfs.diff_ids, [layers[0].diff_id, layers[1].diff_id]);
    assert_eq!(built.record.layers, layers);
    assert_eq!(built.record.id, Digest::of(&built.config));
    assert!(bench.store().blob(&built.record.id).unwrap().is_some());
}

#[test]
fn the_same_layers_give_the_same_image() {
    let bench = Bench::new();
    let image = base(10, 0, vec![entry(None, "env", true), entry(None, "copy", false)]);
    let layers = [layer(&bench, "a", at(50))];
    let first = assemble(bench.store(), &image, &layers, None).unwrap();
    let second = assemble(bench.store(), &image, &layers, None).unwrap();
    assert_eq!(first.record.id, second.record.id);
    assert_eq!(told(&first.image), ["(50 env)", "50 copy"]);
}

#[test]
fn a_base_without_history_is_padded_below_the_build() {
    let bench = Bench::new();
    let own = vec![entry(None, "run", false)];
    let layers = [absent(), absent(), layer(&bench, "a", at(50))];
    let built = assemble(bench.store(), &base(10, 2, own), &layers, None).unwrap();
    assert_eq!(told(&built.image), ["10 ", "10 ", "50 run"]);
}

#[test]
fn a_base_with_too_much_history_gives_in() {
    let bench = Bench::new();
    let history = vec![entry(Some(10), "x", false), entry(Some(20), "y", false), entry(None, "run", false)];
    let layers = [absent(), layer(&bench, "a", at(50))];
    let built = assemble(bench.store(), &base(10, 1, history), &layers, None).unwrap();
    assert_eq!(told(&built.image), ["10 x", "(20 y)", "50 run"]);
}

#[test]
fn an_image_of_nothing_is_as_old_as_its_base_or_has_no_time() {
    let bench = Bench::new();
    let mut image = base(10, 0, vec![entry(None, "env", true)]);
    assert_eq!(told(&assemble(bench.store(), &image, &[], None).unwrap().image), ["(10 env)"]);
    image.created = None;
    let timeless = assemble(bench.store(), &image, &[], None).unwrap().image;
    assert_eq!((timeless.created, &timeless.history[0].created), (None, &None));
    assert_eq!(told(&assemble(bench.store(), &image, &[], Some(at(30))).unwrap().image), ["(30 env)"]);
    image.history.clear();
    let empty = assemble(bench.store(), &image, &[], None).unwrap().image;
    assert_eq!((empty.created, empty.history), (None, Vec::new()));
}

#[test]
fn a_fixed_time_holds_back_what_is_younger() {
    let bench = Bench::new();
    let base_part = [entry(Some(10), "base", false), entry(Some(40), "younger base", true)];
    let history = [&base_part[..], &[entry(None, "run", false)]].concat();
    let layers = [absent(), layer(&bench, "a", at(50))];
    let built = assemble(bench.store(), &base(10, 1, history), &layers, Some(at(30))).unwrap();
    assert_eq!(told(&built.image), ["10 base", "(40 younger base)", "30 run"]);
    assert_eq!(built.image.created, Some(format_time(at(30))));
}
