//! What a prune takes, and what it never does.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_solver::{
    Change, Digest, Exec, Key, Layer, Observation, Operation, Origin, Output, Platform, Record, Records as _, Step,
};

use super::{Bounds, Filter, Held, Policy, Prune, Space, UsageKind};
use crate::{Depth, ImageRecord, Store, StoredLayer, Whiteouts};

fn open(root: &Path) -> Store {
    Store::open(root, Whiteouts::Trusted).unwrap()
}

fn layer(store: &Store, content: &str) -> StoredLayer {
    let draft = store.begin_layer().unwrap();
    std::fs::create_dir(draft.files().join("dir")).unwrap();
    std::fs::write(draft.files().join("dir/file"), content.repeat(10_000)).unwrap();
    draft.commit(SystemTime::UNIX_EPOCH).unwrap()
}

fn built(layer: &StoredLayer) -> Layer {
    Layer { diff_id: *layer.diff_id(), origin: Origin::Built }
}

fn key(name: &str) -> Key {
    Key(Digest::of(name.as_bytes()))
}

fn remember(store: &Store, name: &str, layers: &[&StoredLayer]) {
    let step = Step::new(Operation::Exec(Exec { args: vec![name.into()], ..Exec::default() }), name);
    let outputs = [Output::Layers(layers.iter().map(|layer| built(layer)).collect())];
    store.save(&[key(name)], &Record { step: &step, inputs: &[], outputs: &outputs }).unwrap();
}

fn tag(store: &Store, name: &str, layers: &[&StoredLayer]) {
    let id = store.put_blob(name.as_bytes()).unwrap();
    let layers = layers.iter().map(|layer| built(layer)).collect();
    let platform = Platform::new("linux", "amd64", None);
    store.tag(name, &ImageRecord::new(id, layers, platform, SystemTime::UNIX_EPOCH)).unwrap();
}

fn is_on_disk(store: &Store, layer: &StoredLayer) -> bool {
    store.root().join("layers").join(layer.diff_id().hex()).exists()
}

fn filters(text: &str) -> Vec<Filter> {
    vec![Filter::parse(text).unwrap()]
}

fn at_most(bytes: u64) -> Bounds {
    Bounds { max_used: Some(Space::Bytes(bytes)), ..Bounds::default() }
}

fn find(store: &Store, name: &str) -> bool {
    store.find(&key(name)).unwrap().is_some()
}

#[test]
fn images_stay_and_the_rest_goes() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (base, kept, spare) = (layer(&store, "base"), layer(&store, "kept"), layer(&store, "spare"));
    remember(&store, "one", &[&base, &kept]);
    remember(&store, "two", &[&base, &spare]);
    let observation = Observation { facts: vec![1], changes: vec![Change { base: None, layers: vec![built(&spare)] }] };
    let step = Step::new(Operation::Exec(Exec::default()), "observed");
    store.save_observation(&key("observed"), &step, &observation).unwrap();
    tag(&store, "app", &[&base, &kept]);
    let blob = store.put_blob(b"nobody needs this").unwrap();

    let dry = store.prune(&Prune { dry_run: true, all: true, ..Prune::default() }).unwrap();
    assert!(is_on_disk(&store, &spare) && find(&store, "two"));
    let pruned = store.prune(&Prune { all: true, ..Prune::default() }).unwrap();
    assert_eq!(pruned, dry);
    let taken: Vec<&str> = pruned.taken.iter().map(|usage| usage.id.as_str()).collect();
    assert_eq!(taken.len(), 2);
    assert!(taken.contains(&spare.diff_id().to_string().as_str()) && taken.contains(&blob.to_string().as_str()));
    assert!(!is_on_disk(&store, &spare) && !find(&store, "two"));
    assert!(store.find_observations(&key("observed")).unwrap().is_empty());
    assert!(store.blob(&blob).unwrap().is_none());
    assert!(is_on_disk(&store, &base) && is_on_disk(&store, &kept) && find(&store, "one"));
    assert!(store.image("app").unwrap().is_some());
    assert_eq!(store.prune(&Prune { all: true, ..Prune::default() }).unwrap().taken, []);
}

#[test]
fn what_was_fetched_goes_only_where_all_may() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut archive = Vec::new();
    let source = tempfile::tempdir().unwrap();
    let made = layer(&open(source.path()), "fetched");
    made.write_archive(&mut archive).unwrap();
    let fetched = store.import_layer(&mut archive.as_slice(), made.diff_id()).unwrap();
    assert_eq!(store.prune(&Prune::default()).unwrap().taken, []);
    assert!(is_on_disk(&store, &fetched));
    assert_eq!(store.prune(&Prune { all: true, ..Prune::default() }).unwrap().taken.len(), 1);
    assert!(!is_on_disk(&store, &fetched));
}

/// The builds that run see what they have found until they end; later ones do not.
#[test]
fn nothing_is_taken_from_under_a_build_that_runs() {
    let root = tempfile::tempdir().unwrap();
    let running = open(root.path());
    let (used, tagged, lost) = (layer(&running, "used"), layer(&running, "tagged"), layer(&running, "lost"));
    for (name, layer) in [("used", &used), ("tagged", &tagged), ("lost", &lost)] {
        remember(&running, name, &[layer]);
    }
    drop(running);
    let running = open(root.path());
    assert!(find(&running, "used"));

    let pruning = open(root.path());
    assert_eq!(pruning.prune(&Prune::default()).unwrap().taken.len(), 3);
    assert!(is_on_disk(&pruning, &used));
    let usage = pruning.usage().unwrap();
    let layers: Vec<_> = usage.iter().filter(|usage| usage.kind == UsageKind::Layer).collect();
    assert!(layers.len() == 3 && layers.iter().all(|usage| usage.held == [Held::Build]), "{layers:?}");

    // It goes on with what it has found.
    assert_eq!(running.layer(used.diff_id()).unwrap().unwrap().diff_id(), used.diff_id());
    assert!(running.has_layer(tagged.diff_id()).unwrap());
    let later = open(root.path());
    assert!(later.layer(used.diff_id()).unwrap().is_none() && !find(&later, "used"));
    remember(&running, "used again", &[&used]);
    tag(&running, "app", &[&tagged]);
    drop((running, later));

    assert_eq!(
        pruning.prune(&Prune { unused_for: Some(Duration::from_secs(3600)), ..Prune::default() }).unwrap().taken,
        []
    );
    assert!(is_on_disk(&pruning, &used) && is_on_disk(&pruning, &tagged) && !is_on_disk(&pruning, &lost));
    assert!(find(&pruning, "used again"));
}

/// A generation used to end while what had been condemned in it was still to be seen: a build that began in that moment
/// found a layer, and then lost it.
#[test]
fn a_build_that_begins_while_a_prune_is_under_way_keeps_what_it_finds() {
    let root = tempfile::tempdir().unwrap();
    let pruning = open(root.path());
    let made = layer(&pruning, "made");
    pruning.condemn(&HashSet::from([*made.diff_id()]), &HashSet::new()).unwrap();
    let running = open(root.path());
    assert!(running.has_layer(made.diff_id()).unwrap());
    pruning.prune(&Prune::default()).unwrap();
    assert!(running.layer(made.diff_id()).unwrap().is_some());
    assert!(is_on_disk(&running, &made));
    assert!(!open(root.path()).has_layer(made.diff_id()).unwrap());
    drop(running);
    pruning.prune(&Prune::default()).unwrap();
    assert!(!is_on_disk(&pruning, &made));
}

/// Killed when the files were moved away and their rows still there, a prune used to leave a store with missing layers.
#[test]
fn a_prune_that_was_killed_half_way_leaves_a_sound_store() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let made = layer(&store, "made");
    let blob = store.put_blob(b"blob").unwrap();
    store.condemn(&HashSet::from([*made.diff_id()]), &HashSet::from([blob])).unwrap();
    std::fs::remove_dir_all(store.inner().layer_directory(made.diff_id())).unwrap();
    std::fs::remove_file(store.inner().blob_path(&blob)).unwrap();
    drop(store);
    let store = open(root.path());
    assert_eq!(store.check(Depth::Contents).unwrap().problems, []);
    let rows = |table: &str| -> i64 {
        let query = format!("SELECT count(*) FROM {table}");
        store.inner().database.read(|connection| connection.query_row(&query, [], |row| row.get(0))).unwrap()
    };
    assert_eq!((rows("layers"), rows("blobs")), (1, 1));
    store.prune(&Prune::default()).unwrap();
    assert_eq!((rows("layers"), rows("blobs")), (0, 0));
    let again = layer(&store, "made");
    assert!(is_on_disk(&store, &again));
}

#[test]
fn a_layer_that_is_made_again_is_pardoned() {
    let root = tempfile::tempdir().unwrap();
    let running = open(root.path());
    let made = layer(&running, "made");
    open(root.path()).prune(&Prune::default()).unwrap();
    let later = open(root.path());
    assert!(later.layer(made.diff_id()).unwrap().is_none());
    let again = layer(&later, "made");
    assert_eq!(again.diff_id(), made.diff_id());
    remember(&later, "again", &[&again]);
    drop((running, later));
    let store = open(root.path());
    store.prune(&Prune { filters: filters("id=none"), ..Prune::default() }).unwrap();
    assert!(find(&store, "again") && is_on_disk(&store, &again));
}

#[test]
fn the_least_recently_used_go_first_and_no_more_than_need_be() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let layers = ["a", "b", "c"].map(|name| layer(&store, name));
    let used = |layer: &StoredLayer, hours: i64| {
        let nanos = hours * 3_600_000_000_000;
        let update = "UPDATE layers SET saved = 0, used = ?2 WHERE diff_id = ?1";
        let database = &store.inner().database;
        database
            .write(|write| Ok(write.execute(update, rusqlite::params![layer.diff_id().as_bytes(), nanos])?))
            .unwrap();
    };
    [2, 1, 3].iter().zip(&layers).for_each(|(hours, layer)| used(layer, *hours));
    let used: u64 = store.usage().unwrap().iter().filter(|usage| usage.is_cache()).map(|usage| usage.size).sum();
    let pruned = store.prune(&Prune { bounds: at_most(used - 1), ..Prune::default() }).unwrap();
    assert_eq!(
        pruned.taken.iter().map(|usage| usage.id.clone()).collect::<Vec<_>>(),
        [layers[1].diff_id().to_string()]
    );
    assert_eq!(store.prune(&Prune { bounds: at_most(used), ..Prune::default() }).unwrap().taken, []);

    // Looking at a layer is using it.
    let store = open(root.path());
    store.layer(layers[0].diff_id()).unwrap();
    store.note_use().unwrap();
    let day = Some(Duration::from_secs(86_400));
    let pruned = store.prune(&Prune { unused_for: day, ..Prune::default() }).unwrap();
    assert_eq!(
        pruned.taken.iter().map(|usage| usage.id.clone()).collect::<Vec<_>>(),
        [layers[2].diff_id().to_string()]
    );
}

#[test]
fn cache_mounts_go_unless_somebody_has_them() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let copies = ["mounts/aa/0", "mounts/aa/1"].map(|copy| root.path().join(copy));
    for copy in &copies {
        std::fs::create_dir_all(copy.join("data")).unwrap();
        std::fs::write(copy.join("lock"), "").unwrap();
        std::fs::write(copy.join("data/x"), "x").unwrap();
    }
    std::fs::write(root.path().join("mounts/aa/lock"), "").unwrap();
    let user = std::fs::File::open(copies[1].join("lock")).unwrap();
    rustix::fs::flock(&user, rustix::fs::FlockOperation::LockShared).unwrap();
    let pruned = store.prune(&Prune { filters: filters("type=cachemount"), ..Prune::default() }).unwrap();
    assert_eq!(pruned.taken.iter().map(|usage| usage.id.as_str()).collect::<Vec<_>>(), ["mounts/aa/0"]);
    assert!(!copies[0].exists() && copies[1].join("data/x").exists());
}

/// Layers, observations, blobs, cache mounts, contexts, repositories, the history and what is being made: all of it
/// counts, and all of it once.
#[test]
fn the_figures_are_those_of_du() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    for number in 0..20 {
        let layer = layer(&store, &number.to_string());
        remember(&store, &number.to_string(), &[&layer]);
        store.put_blob(number.to_string().repeat(20_000).as_bytes()).unwrap();
    }
    let digest = |name: &str| Digest::of(name.as_bytes()).hex();
    let write = |path: &str, size: usize| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![b'x'; size]).unwrap();
    };
    for (path, size) in [("id", 9), ("lock", 0), ("0/lock", 0), ("0/data/deep/file", 200_000)] {
        write(&format!("mounts/aa/{path}"), size);
    }
    write(&format!("contexts/{}", digest("stat cache")), 300_000);
    write(&format!("contexts/git/{}.git/objects/pack/1", digest("remote")), 400_000);
    write(&format!("contexts/git/{}.lock", digest("remote")), 0);
    for number in 0..50 {
        write(&format!("contexts/http/{}", digest(&number.to_string())), 100);
    }
    let command = crate::history::BuildCommand::default();
    let mut build = store.record_build(SystemTime::now(), &command).unwrap();
    build.output(Duration::ZERO, 0, kiln_solver::LogStream::Stdout, &vec![b'x'; 100_000]);
    let draft = store.begin_layer().unwrap();
    std::fs::write(draft.files().join("half"), vec![b'x'; 500_000]).unwrap();
    let du = || -> u64 {
        let du = std::process::Command::new("du").args(["-s", "--block-size=1"]).arg(root.path()).output().unwrap();
        String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    // The database's log grows with the first figures, and a thread empties it.
    let (usage, du) = loop {
        let (before, usage, after) = (du(), store.usage().unwrap(), du());
        if before == after {
            break (usage, after);
        }
    };
    let total: u64 = usage.iter().map(|usage| usage.size).sum();
    assert!(total.abs_diff(du) * 100 <= du, "{total} and {du}: {usage:#?}");
    let kinds: std::collections::BTreeSet<_> = usage.iter().map(|usage| usage.kind.name()).collect();
    let all = ["blob", "cachemount", "context", "database", "git", "history", "layer", "temporary"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn what_is_kept_of_sources_goes_unless_somebody_has_it() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let made = layer(&store, "of a commit");
    let name = |name: &str| root.path().join("contexts").join(name.replace('#', &Digest::of(b"").hex()));
    for folder in ["git/#.git", "git/1.git", "http"] {
        std::fs::create_dir_all(name(folder)).unwrap();
    }
    std::fs::write(name("#"), "stat cache").unwrap();
    std::fs::write(name("git/#"), format!("{}\nend\n", made.diff_id())).unwrap();
    std::fs::write(name("http/#"), format!("{}\nend\n", Digest::of(b"gone"))).unwrap();
    for lock in ["git/#.lock", "git/1.lock"] {
        std::fs::write(name(lock), "").unwrap();
    }
    let user = std::fs::File::open(name("git/#.lock")).unwrap();
    rustix::fs::flock(&user, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let everything = Policy { filters: filters("type=context,type=git"), ..Policy::default() };
    let taken = store.collect(&[everything]).unwrap().taken;
    let kinds: Vec<_> = taken.iter().map(|usage| usage.kind).collect();
    assert!(kinds.len() == 2 && kinds.contains(&UsageKind::Context) && kinds.contains(&UsageKind::Git), "{taken:?}");
    assert!(!name("#").exists() && !name("git/1.git").exists());
    assert!(name("git/#.git").exists(), "somebody uses it");
    assert!(name("git/#").exists(), "its layer is here");
    assert!(!name("http/#").exists(), "its layer is gone");
}

/// What a prune must not take from an image is also where its base's layers can be had, should they not be here.
#[test]
fn where_layers_come_from_is_known_for_as_long_as_an_image_needs_them() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let kept = layer(&store, "kept");
    let absent = Digest::of(b"a layer that was never fetched");
    store.remember_origin(&absent, b"a registry").unwrap();
    store.remember_origin(&Digest::of(b"another"), b"another registry").unwrap();
    let id = store.put_blob(b"config").unwrap();
    let layers = vec![Layer { diff_id: absent, origin: Origin::Image }, built(&kept)];
    let platform = Platform::new("linux", "amd64", None);
    store.tag("app", &ImageRecord::new(id, layers, platform, SystemTime::UNIX_EPOCH)).unwrap();
    assert_eq!(store.prune(&Prune::default()).unwrap().taken, []);
    assert_eq!(store.prune(&Prune { all: true, ..Prune::default() }).unwrap().taken.len(), 1);
    assert_eq!(store.origin(&absent, 100).unwrap().as_deref(), Some(&b"a registry"[..]));
    assert_eq!(store.origin(&Digest::of(b"another"), 100).unwrap(), None);
}

/// The config of an image that lost its name was made here: it goes without `all`.
#[test]
fn configs_that_no_image_has_any_more_were_not_fetched() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    tag(&store, "app", &[]);
    store.put_fetched_blob(b"the manifest of a base image").unwrap();
    assert_eq!(store.prune(&Prune::default()).unwrap().taken, []);
    store.untag("app").unwrap();
    let taken = store.prune(&Prune::default()).unwrap().taken;
    let ids: Vec<_> = taken.iter().map(|usage| usage.id.clone()).collect();
    assert_eq!(ids, [Digest::of(b"app").to_string()]);
}

#[test]
fn rules_are_applied_one_after_the_other_and_only_when_due() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let kept = layer(&store, "in an image");
    tag(&store, "app", &[&kept]);
    let (one, two) = (layer(&store, "one"), layer(&store, "two"));
    let none = Policy { keep_duration: Some(Duration::from_secs(3600)), ..Policy::default() };
    assert_eq!(store.collect(std::slice::from_ref(&none)).unwrap().taken, [], "all of it is young");
    let used: u64 = store.usage().unwrap().iter().filter(|usage| usage.is_cache()).map(|usage| usage.size).sum();
    let smaller = Policy { bounds: at_most(used - 1), ..Policy::default() };
    assert_eq!(
        store.collect(&[none, smaller.clone(), smaller]).unwrap().taken.len(),
        1,
        "the second rule sees the first"
    );
    assert!(is_on_disk(&store, &one) != is_on_disk(&store, &two) && is_on_disk(&store, &kept));

    let marker = root.path().join("gc");
    std::fs::remove_file(&marker).unwrap();
    assert!(!store.collection_is_due(), "a new store");
    let old = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&marker).unwrap().set_modified(old).unwrap();
    assert!(store.collection_is_due() && !store.collection_is_due());
    let other = std::fs::File::open(&marker).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(store.collect(&[Policy::default()]).unwrap().taken, [], "somebody else is at it");
    drop(other);
    assert_eq!(store.collect(&[Policy::default()]).unwrap().taken.len(), 1);
    assert_eq!(store.collection_failure(), None);
    store.note_collection(Some("the disk is on fire")).unwrap();
    assert_eq!(store.collection_failure().as_deref(), Some("the disk is on fire"));
    store.note_collection(None).unwrap();
    assert_eq!(store.collection_failure(), None);
}
