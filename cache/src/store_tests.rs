//! The store as a whole: boots, processes, records and images.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use kiln_solver::{
    Change, Digest, Exec, Key, Layer, Observation, Operation, Origin, Output, Platform, Record, Records as _, Source,
    Step, Taken,
};

use rustix::fs::inotify;

use crate::testing::*;
use crate::{ImageRecord, Store, StoredLayer, Whiteouts, sys};

fn open(root: &std::path::Path, boot: &str) -> Store {
    Store::open_in_boot(root, Whiteouts::Trusted, boot.to_owned()).unwrap()
}

fn key(text: &str) -> Key {
    Key(Digest::of(text.as_bytes()))
}

fn step() -> Step {
    Step::new(Operation::Source(Source::Local { name: "context".to_owned() }), "a step")
}

/// That the step produced this.
fn record(outputs: &[Output]) -> Record<'_> {
    static STEP: LazyLock<Step> = LazyLock::new(step);
    Record { step: &STEP, inputs: &[], outputs }
}

fn built(layer: &StoredLayer) -> Layer {
    Layer { diff_id: *layer.diff_id(), origin: Origin::Built }
}

fn file_layer(store: &Store, content: &str) -> StoredLayer {
    layer(store, |files| std::fs::write(files.join("a"), content).unwrap())
}

fn image(store: &Store, content: &str) -> ImageRecord {
    ImageRecord::new(
        store.put_blob(content.as_bytes()).unwrap(),
        vec![Layer { diff_id: Digest::of(content.as_bytes()), origin: Origin::Image }],
        Platform::new("linux", "arm", Some("v7")),
        SystemTime::UNIX_EPOCH + Duration::from_nanos(5),
    )
}

#[test]
fn records_come_back_while_their_layers_are_here() {
    let (_root, store) = store();
    let made = file_layer(&store, "a");
    let elsewhere = Layer { diff_id: Digest::of(b"not here"), origin: Origin::Image };
    let outputs = vec![
        Output::Layers(vec![elsewhere, built(&made)]),
        Output::Layers(Vec::new()),
        Output::Local("context".to_owned()),
    ];
    store.save(&[key("definition"), key("content")], &record(&outputs)).unwrap();
    assert_eq!(store.find(&key("definition")).unwrap().as_ref(), Some(&outputs));
    assert_eq!(store.find(&key("content")).unwrap().as_ref(), Some(&outputs));
    assert_eq!(store.find(&key("other")).unwrap(), None);
    let lost = Layer { diff_id: Digest::of(b"not here"), origin: Origin::Built };
    store.save(&[key("lost")], &record(&[Output::Layers(vec![lost])])).unwrap();
    assert_eq!(store.find(&key("lost")).unwrap(), None);
    std::fs::remove_dir_all(made.mount_source().parent().unwrap()).unwrap();
    let reopened = Store::open(store.root(), Whiteouts::Trusted).unwrap();
    assert_eq!(reopened.find(&key("definition")).unwrap(), None);
    assert!(reopened.layer(made.diff_id()).unwrap().is_none());
    reopened.save(&[key("lost")], &record(&[Output::Layers(Vec::new())])).unwrap();
    assert_eq!(reopened.find(&key("lost")).unwrap(), Some(vec![Output::Layers(Vec::new())]));
}

#[test]
fn observations_come_back_the_last_first() {
    let (_root, store) = store();
    let made = file_layer(&store, "a");
    let observation = |facts: &str, layer: Layer| Observation {
        facts: facts.into(),
        changes: vec![Change { base: Some(0), layers: vec![layer] }, Change { base: None, layers: Vec::new() }],
    };
    let here = |facts: &str| observation(facts, built(&made));
    let lost = observation("lost", Layer { diff_id: Digest::of(b"not here"), origin: Origin::Built });
    for observation in [&here("one"), &here("two"), &lost, &here("one")] {
        store.save_observation(&key("a"), &step(), observation).unwrap();
    }
    assert_eq!(store.find_observations(&key("a")).unwrap(), [here("one"), here("two")]);
    assert_eq!(store.find_observations(&key("b")).unwrap(), []);
    for number in 0..40 {
        store.save_observation(&key("a"), &step(), &here(&number.to_string())).unwrap();
    }
    let kept: Vec<Observation> = (24..40).rev().map(|number| here(&number.to_string())).collect();
    assert_eq!(store.find_observations(&key("a")).unwrap(), kept);
}

#[test]
fn the_nearest_step_did_the_same_or_is_like_it() {
    let (_root, store) = store();
    let exec = |name: &str, command: &str| {
        let exec = Exec { args: vec![command.to_owned()], ..Exec::default() };
        Step::new(Operation::Exec(exec), name)
    };
    let taken = Taken {
        name: "image".into(),
        identity: "sha256:1".into(),
        content: Some(Digest::of(b"content")),
        output: Output::Layers(Vec::new()),
    };
    let save = |step: &Step, outputs: &[Output]| {
        let inputs = std::slice::from_ref(&taken);
        store.save(&[key("any")], &Record { step, inputs, outputs }).unwrap();
    };
    let (one, other) = (exec("RUN", "one"), exec("RUN", "other"));
    assert_eq!(store.nearest(&one).unwrap(), None);
    save(&other, &[Output::Local("first".into())]);
    save(&other, &[Output::Local("second".into())]);
    let past = store.nearest(&one).unwrap().unwrap();
    assert_eq!((past.same_definition, past.properties["command"].as_str()), (false, "other"));
    save(&one, &[]);
    save(&other, &[Output::Local("third".into())]);
    let past = store.nearest(&one).unwrap().unwrap();
    assert_eq!((past.same_definition, past.inputs, past.outputs), (true, vec![taken.clone()], Vec::new()));
    assert_eq!(store.nearest(&other).unwrap().unwrap().outputs, [Output::Local("third".into())]);
    assert_eq!(store.nearest(&exec("COPY", "new")).unwrap(), None);
}

/// What an orderly reboot leaves is all there, durable or not.
#[test]
fn another_boot_keeps_what_reached_the_disk() {
    let (_folder, root) = folder();
    let first = open(&root, "first");
    let made = file_layer(&first, "made");
    let mut archive = Vec::new();
    let rich = layer(&first, fill_with_everything);
    rich.write_archive(&mut archive).unwrap();
    let tagged = ImageRecord { layers: vec![built(&made)], ..image(&first, "config") };
    first.tag("image", &tagged).unwrap();
    first.save(&[key("made")], &record(&[Output::Layers(vec![built(&made)])])).unwrap();
    drop(first);

    let (_other, elsewhere) = folder();
    let other = open(&elsewhere, "first");
    other.import_layer(&mut archive.as_slice(), rich.diff_id()).unwrap();
    drop(other);
    assert!(open(&elsewhere, "second").layer(rich.diff_id()).unwrap().is_some());

    let second = open(&root, "second");
    assert!(second.find(&key("made")).unwrap().is_some());
    assert!(second.layer(rich.diff_id()).unwrap().is_some());
    assert_eq!(second.image("image").unwrap(), Some(tagged));
    assert_eq!(second.read_blob(&Digest::of(b"config"), 100).unwrap().as_deref(), Some(&b"config"[..]));
    assert_eq!(undurable(&second), 0);
    assert_eq!(left_in_tmp(&second), 0);
}

#[test]
fn another_boot_drops_what_a_power_loss_cut() {
    type Damage = (&'static str, fn(&std::path::Path));
    let damages: [Damage; 6] = [
        ("emptied", |files| std::fs::write(files.join("a"), "").unwrap()),
        ("zeroed", |files| std::fs::write(files.join("a"), "\0\0\0\0\0\0\0").unwrap()),
        ("gone", |files| std::fs::remove_file(files.join("a")).unwrap()),
        ("mode", |files| {
            std::fs::set_permissions(files.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap()
        }),
        ("index", |files| std::fs::write(files.with_file_name("index"), vec![0; 200]).unwrap()),
        ("nothing", |files| std::fs::remove_dir_all(files.parent().unwrap()).unwrap()),
    ];
    for (name, damage) in damages {
        let (_folder, root) = folder();
        let first = open(&root, "first");
        let layer = layer(&first, |files| {
            std::fs::write(files.join("a"), "content").unwrap();
            set_mtime(&files.join("a"), 7);
        });
        first.save(&[key("step")], &record(&[Output::Layers(vec![built(&layer)])])).unwrap();
        first.tag("image", &ImageRecord { layers: vec![built(&layer)], ..image(&first, "config") }).unwrap();
        first.tag("other", &image(&first, "config of the other")).unwrap();
        drop(first);
        let files = layer.mount_source().to_owned();
        damage(&files);
        if files.join("a").exists() {
            set_mtime(&files.join("a"), 7);
        }

        let second = open(&root, "second");
        assert_eq!(second.find(&key("step")).unwrap(), None, "{name}");
        assert!(second.layer(layer.diff_id()).unwrap().is_none(), "{name}");
        assert!(!files.exists(), "{name}");
        assert_eq!(second.image("image").unwrap(), None, "{name}");
        assert!(second.image("other").unwrap().is_some(), "{name}");
        assert_eq!(left_in_tmp(&second), 0);
        assert_eq!(paths(&file_layer(&second, "content")), ["a"]);
    }
}

#[test]
fn another_boot_drops_a_blob_that_a_power_loss_cut() {
    let (_folder, root) = folder();
    let first = open(&root, "first");
    first.tag("image", &image(&first, "config")).unwrap();
    first.put_blob(b"whole").unwrap();
    std::fs::write(root.join("blobs/sha256").join(Digest::of(b"config").hex()), "c\0nfig").unwrap();
    drop(first);
    let second = open(&root, "second");
    assert!(second.blob(&Digest::of(b"config")).unwrap().is_none());
    assert!(second.blob(&Digest::of(b"whole")).unwrap().is_some());
    assert_eq!(second.image("image").unwrap(), None);
    assert_eq!(std::fs::read_dir(root.join("blobs/sha256")).unwrap().count(), 1);
}

/// What is durable is not read again.
#[test]
fn another_boot_takes_what_is_durable_at_its_word() {
    let (_folder, root) = folder();
    let first = open(&root, "first");
    let layer = file_layer(&first, "durable");
    first.save(&[key("durable")], &record(&[Output::Layers(vec![built(&layer)])])).unwrap();
    first.make_durable().unwrap();
    drop(first);
    std::fs::write(layer.mount_source().join("a"), "changed").unwrap();
    assert!(open(&root, "second").find(&key("durable")).unwrap().is_some());
}

fn undurable(store: &Store) -> i64 {
    let query = "SELECT (SELECT count(*) FROM layers WHERE boot IS NOT NULL)
        + (SELECT count(*) FROM blobs WHERE boot IS NOT NULL)";
    store.inner().database.read(|connection| connection.query_row(query, [], |row| row.get(0))).unwrap()
}

#[test]
fn only_what_was_there_before_the_sync_is_durable() {
    let (_folder, root) = folder();
    let store = open(&root, "first");
    file_layer(&store, "early");
    store.make_durable().unwrap();
    assert_eq!(undurable(&store), 0);
    file_layer(&store, "late");
    store.put_blob(b"late").unwrap();
    assert_eq!(undurable(&store), 2);
}

#[test]
fn an_old_record_is_made_durable_in_the_background() {
    let (_folder, root) = folder();
    let store = open(&root, "first");
    store.put_blob(b"old").unwrap();
    let age = |seconds: i64| {
        let update = "UPDATE blobs SET saved = saved - ?1";
        let nanos = seconds * 1_000_000_000;
        store.inner().database.write(|transaction| Ok(transaction.execute(update, [nanos])?)).unwrap();
    };
    let is_durable = || -> bool {
        let query = "SELECT boot IS NULL FROM blobs ORDER BY id LIMIT 1";
        store.inner().database.read(|connection| connection.query_row(query, [], |row| row.get(0))).unwrap()
    };
    drop(open(&root, "first"));
    assert!(!is_durable());
    age(61);
    // Who only reads is over before the disk could be waited for.
    drop(open(&root, "first"));
    assert!(!is_durable());
    open(&root, "first").put_blob(b"young").unwrap();
    // Nothing else ends the wait: the test hangs, and is seen to, if the thread never does it.
    while !is_durable() {
        std::thread::yield_now();
    }
}

/// Every process that opens the store reads the whole log. It used to grow to a thousand pages.
#[test]
fn the_log_is_emptied_by_those_who_write() {
    let (root, store) = store();
    let length = || crate::database::Database::log_length(root.path());
    for number in 0..200 {
        store.put_blob(format!("one {number}").as_bytes()).unwrap();
    }
    // A thread does it; the test hangs, and is seen to, if it never does.
    for number in 0.. {
        if length() <= 512 << 10 {
            break;
        }
        store.put_blob(format!("one more {number}").as_bytes()).unwrap();
    }
}

/// What `look` reads of files, as the kernel counts it for this thread: calls and bytes.
fn reads(look: impl FnOnce()) -> [u64; 2] {
    let count = || {
        let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap();
        [field("syscr:"), field("rchar:")]
    };
    let before: [u64; 2] = count();
    look();
    let after = count();
    [after[0] - before[0], after[1] - before[1]]
}

/// A store with so many records, a tenth as many layers, and what goes with them.
fn large_store(records: i64) -> (tempfile::TempDir, Digest) {
    let (root, store) = store();
    let made = file_layer(&store, "made");
    store.save(&[key("made")], &record(&[Output::Layers(vec![built(&made)])])).unwrap();
    store.tag("app", &ImageRecord { layers: vec![built(&made)], ..image(&store, "config") }).unwrap();
    let count = "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?1)";
    let rows = [
        (
            "records (key, step, name, outputs, saved, boot)",
            "records",
            "randomblob(32), step, name, outputs, saved, boot",
            1,
        ),
        ("steps (own, likeness, detail, saved)", "steps", "randomblob(32), likeness || n, detail, saved", 1),
        (
            "layers (diff_id, content, created, imported, saved, boot)",
            "layers",
            "randomblob(32), content, created, imported, saved, boot",
            10,
        ),
        ("blobs (digest, size, saved, boot)", "blobs", "randomblob(32), size, saved, boot", 10),
    ];
    store
        .inner()
        .database
        .write(|transaction| {
            for (into, from, columns, share) in rows {
                let insert =
                    format!("{count} INSERT INTO {into} SELECT {columns} FROM count, (SELECT * FROM {from} LIMIT 1)");
                transaction.execute(&insert, [records / share])?;
            }
            Ok(())
        })
        .unwrap();
    for _ in 0..records / 10 {
        let name = Digest::of(sys::random_name().unwrap().as_bytes()).hex();
        std::fs::create_dir(root.path().join("layers").join(name)).unwrap();
    }
    store.make_durable().unwrap();
    (root, *made.diff_id())
}

/// The pages of the database that lead to a row grow with the logarithm of how many rows there are; nothing else may.
#[test]
fn a_large_store_is_asked_with_hardly_more_reads_than_a_small_one() {
    let cost = |records| {
        let (root, layer) = large_store(records);
        let inotify = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        for folder in ["layers", "blobs/sha256", "history", "contexts", "mounts"] {
            inotify::add_watch(&inotify, root.path().join(folder), inotify::WatchFlags::ACCESS).unwrap();
        }
        let open = reads(|| drop(Store::open(root.path(), Whiteouts::Trusted).unwrap()));
        let store = Store::open(root.path(), Whiteouts::Trusted).unwrap();
        let ask = reads(|| {
            assert!(store.find(&key("made")).unwrap().is_some());
            assert!(store.find(&key("never made")).unwrap().is_none());
            assert!(store.layer(&layer).unwrap().is_some());
            let unlike = Step::new(Operation::Exec(Exec::default()), "unlike any");
            assert!(store.nearest(&unlike).unwrap().is_none());
            let known = store.image("app").unwrap().unwrap();
            store.tag("app", &known).unwrap();
            store.note_use().unwrap();
        });
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let walked = inotify::Reader::new(&inotify, &mut buffer).next().is_ok();
        assert!(!walked, "a folder that grows was listed");
        assert_eq!(crate::database::Database::log_length(root.path()), 0, "something was written");
        [open, ask]
    };
    let (small, large) = (cost(50), cost(50_000));
    // A page more for each of the trees that are asked, and twice that for those that a page more splits.
    let most = |small: [u64; 2], pages: u64| [small[0] + pages, small[1] + pages * 4096];
    let [open, ask] = [most(small[0], 4), most(small[1], 24)];
    assert!(large[0][0] <= open[0] && large[0][1] <= open[1], "opening: {large:?} against {small:?}");
    assert!(large[1][0] <= ask[0] && large[1][1] <= ask[1], "asking: {large:?} against {small:?}");
}

#[test]
fn images_have_names() {
    let (_root, store) = store();
    let (a, b) = (image(&store, "a"), image(&store, "b"));
    store.tag("docker.io/library/app:2", &b).unwrap();
    store.tag("docker.io/library/app:1", &a).unwrap();
    assert_eq!(store.image("docker.io/library/app:1").unwrap(), Some(a.clone()));
    assert_eq!(store.image("docker.io/library/app:3").unwrap(), None);
    store.tag("docker.io/library/app:1", &b).unwrap();
    let names: Vec<_> = store.images().unwrap().into_iter().map(|(name, image)| (name, image.id == b.id)).collect();
    assert_eq!(names, [("docker.io/library/app:1".to_owned(), true), ("docker.io/library/app:2".to_owned(), true)]);
    assert!(store.untag("docker.io/library/app:1").unwrap());
    assert!(!store.untag("docker.io/library/app:1").unwrap());
    assert_eq!(store.images().unwrap().len(), 1);
}

#[test]
fn references_are_remembered_by_platform() {
    let (_root, store) = store();
    let (amd64, arm64) = (Platform::new("linux", "amd64", None), Platform::new("linux", "arm64", None));
    let digest = Digest::of(b"manifest");
    store.remember_reference("docker.io/library/alpine:3", &amd64, &Digest::of(b"old")).unwrap();
    store.remember_reference("docker.io/library/alpine:3", &amd64, &digest).unwrap();
    assert_eq!(store.reference("docker.io/library/alpine:3", &amd64).unwrap(), Some(digest));
    assert_eq!(store.reference("docker.io/library/alpine:3", &arm64).unwrap(), None);
    assert_eq!(store.index_of_reference("docker.io/library/alpine:3").unwrap(), None);
    store.remember_index("docker.io/library/alpine:3", &Digest::of(b"index")).unwrap();
    assert_eq!(store.index_of_reference("docker.io/library/alpine:3").unwrap(), Some(Digest::of(b"index")));
    assert_eq!(store.reference("docker.io/library/alpine:3", &amd64).unwrap(), Some(digest));
}

#[test]
fn the_folder_is_an_oci_layout_for_its_owner_alone() {
    let (_folder, folder) = folder();
    let root = folder.join("deep/store");
    let _store = Store::open(&root, Whiteouts::Trusted).unwrap();
    assert_eq!(
        shell(&root, "ls -A"),
        "blobs\ncontexts\ngc\ngenerations\nhistory\nkiln.db\nkiln.db-shm\nkiln.db-wal\nlayers\nmounts\noci-layout\ntmp\n"
    );
    assert_eq!(shell(&root, "stat -c %a . layers tmp"), "700\n700\n700\n");
    assert_eq!(shell(&root, "cat oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}");
}

#[test]
fn a_store_of_the_other_kind_is_refused() {
    let (root, _store) = store();
    let error = Store::open(root.path(), Whiteouts::User).err().unwrap();
    assert!(error.to_string().contains("was made by root"), "{error}");
}

#[test]
fn a_root_that_cannot_be_is_an_error() {
    let (_folder, folder) = folder();
    std::fs::write(folder.join("file"), "").unwrap();
    for root in [folder.join("file"), folder.join("file/below"), "/proc/nothing".into()] {
        let error = Store::open(&root, Whiteouts::Trusted).err().unwrap();
        assert!(error.to_string().contains(&root.display().to_string()), "{error}");
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let (_folder, folder) = folder();
    let script = format!(
        "exec unshare --mount sh -ec 'mkdir s; mount -t tmpfs -o size=6m tmpfs s; \
         exec {} --exact store_tests::fill_the_disk --ignored --nocapture'",
        std::env::current_exe().unwrap().display()
    );
    shell(&folder, &script);
}

#[test]
#[ignore = "a part of another test, which runs it on a small file system"]
fn fill_the_disk() {
    let store = Store::open("s/store".as_ref(), Whiteouts::Trusted).unwrap();
    let (_folder, big) = crate::testing::store();
    let random: Vec<u8> = std::iter::repeat_with(rand_byte).take(4_000_000).collect();
    let fill = |files: &std::path::Path| std::fs::write(files.join("a"), &random).unwrap();
    let elsewhere = layer(&big, |files| std::fs::write(files.join("a"), [&random[..], &random].concat()).unwrap());
    let full = |result: Result<(), crate::StoreError>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        assert_eq!(left_in_tmp(&store), 0);
    };
    let too_much = import(&store, &archive(&elsewhere)).unwrap_err().to_string();
    assert!(too_much.contains("the disk has no more room"), "{too_much}");
    // Somebody else takes the room meanwhile.
    store.limit_archives(crate::ArchiveLimits { size: Some(u64::MAX), ..Default::default() });
    full(import(&store, &archive(&elsewhere)).map(drop));
    let made = layer(&store, fill);
    for compression in
        [crate::Compression::Uncompressed, crate::Compression::Gzip { level: 1 }, crate::Compression::Zstd { level: 1 }]
    {
        full(store.layer_blob(made.diff_id(), compression).map(drop));
    }
    full(store.put_blob(&random).map(drop));
    assert_eq!(paths(&store.layer(made.diff_id()).unwrap().unwrap()), ["a"]);
}

fn rand_byte() -> u8 {
    thread_local!(static STATE: std::cell::Cell<u32> = const { std::cell::Cell::new(1) });
    STATE.set(STATE.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    (STATE.get() >> 24) as u8
}

/// See [`sys::spread_out`].
#[test]
fn sessions_lie_apart_where_ext4_gives_out_inodes() {
    const EXT4: i64 = 0xef53;
    let (_root, store) = store();
    let tmp = std::fs::File::open(store.root().join("tmp")).unwrap();
    if rustix::fs::fstatfs(&tmp).unwrap().f_type == EXT4 {
        assert!(rustix::fs::ioctl_getflags(&tmp).unwrap().contains(rustix::fs::IFlags::TOPDIR));
    }
}

#[test]
fn a_killed_process_leaves_what_the_next_sweeps() {
    let (_folder, folder) = folder();
    let script = format!(
        "'{}' --exact store_tests::die_in_the_middle --ignored >log 2>&1 || true",
        std::env::current_exe().unwrap().display()
    );
    shell(&folder, &script);
    let root = folder.join("store");
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 1);
    let store = Store::open(&root, Whiteouts::Trusted).unwrap();
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    let found = store.find(&key("finished")).unwrap().unwrap();
    let Output::Layers(layers) = &found[0] else { panic!("{found:?}") };
    assert_eq!(paths(&store.layer(&layers[0].diff_id).unwrap().unwrap()), ["a"]);
    assert_eq!(std::fs::read_dir(root.join("layers")).unwrap().count(), 1);
}

#[test]
#[ignore = "a part of another test, which runs it in a process of its own"]
fn die_in_the_middle() {
    let store = Store::open("store".as_ref(), Whiteouts::Trusted).unwrap();
    let made = file_layer(&store, "finished");
    store.save(&[key("finished")], &record(&[Output::Layers(vec![built(&made)])])).unwrap();
    let draft = store.begin_layer().unwrap();
    fill_with_everything(draft.files());
    std::io::Write::write_all(&mut store.blob_writer().unwrap(), b"half").unwrap();
    let _scratch = store.scratch().unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
}

#[test]
fn processes_share_a_store() {
    let (_folder, folder) = folder();
    let script = format!(
        "for i in 1 2 3 4; do '{}' --exact store_tests::work_in_a_shared_store --ignored >log$i 2>&1 & pids=\"$pids $!\"; \
         done; for p in $pids; do wait $p || {{ cat log*; exit 1; }}; done",
        std::env::current_exe().unwrap().display()
    );
    shell(&folder, &script);
    let store = Store::open(&folder.join("store"), Whiteouts::Trusted).unwrap();
    assert_eq!(std::fs::read_dir(store.root().join("layers")).unwrap().count(), 20);
    for number in 0..20 {
        assert!(store.find(&key(&number.to_string())).unwrap().is_some());
    }
}

#[test]
#[ignore = "a part of another test, which runs it in several processes"]
fn work_in_a_shared_store() {
    for number in 0..20 {
        let store = Store::open("store".as_ref(), Whiteouts::Trusted).unwrap();
        let made = layer(&store, |files| {
            std::fs::write(files.join("a"), number.to_string()).unwrap();
            set_mtime(&files.join("a"), 9);
        });
        store.save(&[key(&number.to_string())], &record(&[Output::Layers(vec![built(&made)])])).unwrap();
        let blob = store.layer_blob(made.diff_id(), crate::Compression::Gzip { level: 1 }).unwrap();
        assert!(store.blob(&blob.digest).unwrap().is_some());
        assert!(store.find(&key(&number.to_string())).unwrap().is_some());
    }
}

/// Prints what opening and looking up cost; `cargo test --release -- --ignored --nocapture what_opening_costs`.
#[test]
#[ignore = "a measurement"]
fn what_opening_costs() {
    let (_folder, root) = folder();
    let store = Store::open(&root, Whiteouts::Trusted).unwrap();
    let made = file_layer(&store, "a");
    for number in 0..300 {
        store.save(&[key(&number.to_string())], &record(&[Output::Layers(vec![built(&made)])])).unwrap();
    }
    store.make_durable().unwrap();
    drop(store);
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = std::time::Instant::now();
            let store = Store::open(&root, Whiteouts::Trusted).unwrap();
            for number in 0..3 {
                assert!(store.find(&key(&number.to_string())).unwrap().is_some());
            }
            drop(store);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("open, three look-ups, close: best {:?}, median {:?}", times[0], times[100]);
}

/// Prints what committing, importing and compressing many small files cost.
#[test]
#[ignore = "a measurement"]
fn what_many_files_cost() {
    let (_folder, root) = folder();
    let store = Store::open(&root.join("here"), Whiteouts::Trusted).unwrap();
    let there = Store::open(&root.join("there"), Whiteouts::Trusted).unwrap();
    for round in 0..3_u8 {
        let draft = store.begin_layer().unwrap();
        for number in 0..20_000 {
            let directory = draft.files().join(format!("d{}", number / 100));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(format!("f{number}")), vec![round ^ number as u8; 4096]).unwrap();
        }
        let start = std::time::Instant::now();
        let made = draft.commit(SystemTime::now()).unwrap();
        let committed = start.elapsed();
        let bytes = archive(&made);
        let start = std::time::Instant::now();
        import(&there, &bytes).unwrap();
        let imported = start.elapsed();
        let start = std::time::Instant::now();
        store.layer_blob(made.diff_id(), crate::Compression::Gzip { level: 6 }).unwrap();
        println!("20,000 files: commit {committed:?}, import {imported:?}, gzip {:?}", start.elapsed());
    }
}
