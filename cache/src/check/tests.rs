//! The check as a whole: what it finds, what it leaves alone, and what is there after a repair.

use std::path::Path;
use std::time::SystemTime;

use kiln_solver::{
    Change, Key, Layer, Observation, Operation, Origin, Output, Platform, Record, Records as _, Source, Step,
};

use super::*;
use crate::testing::{layer, store};
use crate::{ImageRecord, StoredLayer, Whiteouts};

fn built(layer: &StoredLayer) -> Layer {
    Layer { diff_id: *layer.diff_id(), origin: Origin::Built }
}

/// A store with a layer that a record, an observation and an image need, and a blob.
fn furnished() -> (tempfile::TempDir, Store, StoredLayer) {
    let (root, store) = store();
    let made = layer(&store, |files| {
        std::fs::create_dir(files.join("d")).unwrap();
        std::fs::write(files.join("d/file"), "content").unwrap();
        std::fs::hard_link(files.join("d/file"), files.join("d/link")).unwrap();
        std::os::unix::fs::symlink("d", files.join("symlink")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(files.join("socket")).unwrap());
    });
    let step = Step::new(Operation::Source(Source::Local { name: "context".to_owned() }), "RUN make");
    let outputs = [Output::Layers(vec![built(&made)])];
    let key = Key(Digest::of(b"key"));
    store.save(&[key], &Record { step: &step, inputs: &[], outputs: &outputs }).unwrap();
    let change = Change { base: None, layers: vec![built(&made)] };
    store.save_observation(&key, &step, &Observation { facts: vec![1], changes: vec![change] }).unwrap();
    let id = store.put_blob(b"config").unwrap();
    let (platform, tagged) = (Platform::new("linux", "amd64", None), SystemTime::now());
    store.tag("app", &ImageRecord::new(id, vec![built(&made)], platform, tagged)).unwrap();
    (root, store, made)
}

fn reasons(report: &CheckReport) -> Vec<String> {
    report.problems.iter().map(ToString::to_string).collect()
}

fn left_behind(store: &Store) -> Vec<String> {
    let leftovers = store.check(Depth::Sizes).unwrap().leftovers;
    leftovers.iter().map(|leftover| leftover.path.display().to_string()).collect()
}

fn is_clean(store: &Store) -> bool {
    let report = store.check(Depth::Contents).unwrap();
    report.problems.is_empty() && report.leftovers.is_empty()
}

#[test]
fn a_sound_store_is_clean() {
    let (_root, store, _layer) = furnished();
    for depth in [Depth::Sizes, Depth::Contents] {
        let report = store.check(depth).unwrap();
        let expected = CheckReport { layers: 1, blobs: 1, records: 2, images: 1, ..CheckReport::default() };
        assert_eq!(report, expected);
    }
}

#[test]
fn every_damage_is_found_and_repaired() {
    type Damage = (&'static str, Depth, fn(&Path));
    let damages: [Damage; 10] = [
        ("`/d/file` is missing", Depth::Sizes, |files| std::fs::remove_file(files.join("d/file")).unwrap()),
        ("`/symlink` is missing", Depth::Sizes, |files| std::fs::remove_file(files.join("symlink")).unwrap()),
        ("`/e` does not belong", Depth::Sizes, |files| std::fs::write(files.join("e"), "").unwrap()),
        ("`/zz` does not belong", Depth::Sizes, |files| std::fs::write(files.join("zz"), "").unwrap()),
        ("`/d/file` is of another kind or size", Depth::Sizes, |files| {
            std::fs::write(files.join("d/file"), "longer than it was").unwrap();
        }),
        ("its index is missing", Depth::Sizes, |files| std::fs::remove_file(files.with_file_name("index")).unwrap()),
        ("its index is damaged", Depth::Sizes, |files| {
            std::fs::write(files.with_file_name("index"), [7; 500]).unwrap();
        }),
        ("`/` is missing", Depth::Sizes, |files| std::fs::remove_dir_all(files).unwrap()),
        ("`/d/file` has other bytes", Depth::Contents, |files| {
            let path = files.join("d/file");
            let modified = path.metadata().unwrap().modified().unwrap();
            std::fs::write(&path, "CONTENT").unwrap();
            std::fs::File::open(&path).unwrap().set_modified(modified).unwrap();
        }),
        ("a file or attribute of it was changed", Depth::Contents, |files| {
            std::fs::set_permissions(files.join("d"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        }),
    ];
    for (reason, depth, damage) in damages {
        let (_root, store, layer) = furnished();
        damage(layer.mount_source());
        let store = Store::open(store.root(), Whiteouts::Trusted).unwrap();
        let report = store.check(depth).unwrap();
        assert_eq!(report.problems.len(), 1, "{reason}: {:?}", reasons(&report));
        assert!(reasons(&report)[0].contains(reason), "{reason}: {:?}", reasons(&report));
        if depth == Depth::Contents {
            assert_eq!(store.check(Depth::Sizes).unwrap().problems, []);
        }
        store.repair(&report).unwrap();
        assert!(is_clean(&store), "{reason}: {:?}", store.check(Depth::Contents));
        assert_eq!(store.find(&Key(Digest::of(b"key"))).unwrap(), None);
        assert_eq!(store.images().unwrap(), [], "an image without its layer is none");
        assert!(store.layer(layer.diff_id()).unwrap().is_none());
    }
}

#[test]
fn damaged_blobs_are_found_and_repaired() {
    for (reason, depth, bytes) in [
        ("its size is not the one recorded", Depth::Sizes, Some(&b"conf"[..])),
        ("it is missing", Depth::Sizes, None),
        ("its bytes have another digest", Depth::Contents, Some(b"CONFIG")),
    ] {
        let (_root, store, layer) = furnished();
        let path = store.blob(&Digest::of(b"config")).unwrap().unwrap().path;
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let report = store.check(depth).unwrap();
        assert_eq!(report.problems.len(), 1, "{reason}: {:?}", reasons(&report));
        assert!(reasons(&report)[0].contains(reason), "{:?}", reasons(&report));
        store.repair(&report).unwrap();
        assert!(is_clean(&store));
        assert_eq!(store.images().unwrap(), []);
        assert!(store.layer(layer.diff_id()).unwrap().is_some());
        store.put_blob(b"config").unwrap();
        assert!(is_clean(&store));
    }
}

#[test]
fn references_to_nothing_are_found() {
    let (_root, store, layer) = furnished();
    let forget = |table: &str| {
        let delete = format!("DELETE FROM {table}");
        store.inner().database.write(|transaction| Ok(transaction.execute(&delete, [])?)).unwrap();
    };
    forget("layers");
    let report = store.check(Depth::Sizes).unwrap();
    let digest = layer.diff_id();
    let expected = [
        format!("the record of `RUN make` needs layer `{digest}`, which is not here"),
        format!("what `RUN make` observed goes with layer `{digest}`, which is not here"),
        format!("image `app` needs layer `{digest}`, which is not here"),
    ];
    assert_eq!(reasons(&report), expected);
    assert_eq!(report.leftovers.len(), 1, "the folder of the layer");
    store.repair(&report).unwrap();
    assert!(!layer.mount_source().exists());
    forget("blobs");
    store.repair(&store.check(Depth::Sizes).unwrap()).unwrap();
    assert!(is_clean(&store));
}

#[test]
fn leftovers_are_told_from_what_lives() {
    let (_root, store, _layer) = furnished();
    let draft = store.begin_layer().unwrap();
    let root = store.root().to_owned();
    let hex = Digest::of(b"nobody").hex();
    std::fs::create_dir_all(root.join("layers").join(&hex).join("files")).unwrap();
    std::fs::write(root.join("blobs/sha256").join(&hex), vec![1; 10_000]).unwrap();
    std::fs::write(root.join("blobs/sha256/README"), "what").unwrap();
    std::fs::write(root.join("tmp/part"), "of something").unwrap();
    let report = store.check(Depth::Sizes).unwrap();
    assert_eq!(report.problems, []);
    let mut paths: Vec<_> = report.leftovers.iter().map(|leftover| leftover.path.display().to_string()).collect();
    paths.sort();
    let blob = format!("blobs/sha256/{hex}");
    let mut expected = [blob.as_str(), "blobs/sha256/README", &format!("layers/{hex}"), "tmp/part"];
    expected.sort_unstable();
    assert_eq!(paths, expected);
    assert!(report.leftovers.iter().any(|leftover| leftover.size >= 10_000));
    store.repair(&report).unwrap();
    assert!(is_clean(&store));
    draft.commit(SystemTime::now()).unwrap();
}

/// What a process had put into place when it was killed, and not recorded, used to lie there until somebody asked for a
/// repair.
#[test]
fn what_a_killed_process_did_not_record_goes_at_the_next_start() {
    let (_root, store, layer) = furnished();
    let root = store.root().to_owned();
    let hex = Digest::of(b"nobody").hex();
    std::fs::create_dir_all(root.join("layers").join(&hex).join("files")).unwrap();
    std::fs::write(root.join("blobs/sha256").join(&hex), "x").unwrap();
    let cache = root.join("contexts").join(&hex);
    let [dead, live] = ["1.0", "2.0"].map(|part| root.join("contexts").join(format!("{hex}.{part}")));
    for path in [&cache, &dead, &live] {
        std::fs::write(path, "x").unwrap();
    }
    let writer = std::fs::File::open(&live).unwrap();
    rustix::fs::flock(&writer, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(store.check(Depth::Sizes).unwrap().leftovers.len(), 2);
    // Of those who were killed, a session is left.
    std::fs::create_dir(root.join("tmp/0123456789abcdef")).unwrap();
    let later = Store::open(&root, Whiteouts::Trusted).unwrap();
    assert_eq!(left_behind(&later), ["tmp/0123456789abcdef"]);
    assert!(cache.exists() && !dead.exists() && live.exists());
    assert!(later.has_layer(layer.diff_id()).unwrap());
    drop(writer);
    let later = Store::open(&root, Whiteouts::Trusted).unwrap();
    assert!(is_clean(&later));
    assert!(cache.exists() && !live.exists());
    assert!(!root.join("tmp/0123456789abcdef").exists());
}

#[test]
fn others_may_write_and_repair_meanwhile() {
    let (_root, store, _layer) = furnished();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let other = Store::open(store.root(), Whiteouts::Trusted).unwrap();
                // A folder without its lock yet would look left behind.
                drop(other.scratch().unwrap());
                scope.spawn(move || {
                    for number in 0..60 {
                        let text = format!("{writer} {number}");
                        other.put_blob(text.as_bytes()).unwrap();
                        let made = layer(&other, |files| std::fs::write(files.join("a"), &text).unwrap());
                        assert!(other.layer(made.diff_id()).unwrap().is_some());
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let report = store.check(Depth::Contents).unwrap();
                assert_eq!(reasons(&report), [] as [&str; 0]);
                assert_eq!(report.leftovers, []);
                store.repair(&report).unwrap();
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert_eq!(store.check(Depth::Contents).unwrap().problems, []);
}
