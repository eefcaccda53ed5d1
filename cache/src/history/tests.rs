//! The history as a whole.

use super::*;
use crate::testing::{left_in_tmp, store};
use crate::{Store, StoreError};
use kiln_solver::{LogStream, Mismatch};

fn command(tag: &str) -> BuildCommand {
    BuildCommand {
        context: "/src".to_owned(),
        dockerfile: "/src/Dockerfile".to_owned(),
        tags: vec![tag.to_owned()],
        platform: "linux/amd64".to_owned(),
        build_args: [("A".to_owned(), "1".to_owned())].into(),
        ..BuildCommand::default()
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A build that began then and is over.
fn ended(store: &Store, began: u64) -> String {
    let recorder = store.record_build(at(began), &command("app")).unwrap();
    let id = recorder.id().to_owned();
    recorder.finish(ms(1), &BuildEnd::Completed { image: None }).unwrap();
    id
}

fn statuses(store: &Store) -> Vec<BuildStatus> {
    store.builds().unwrap().into_iter().map(|build| build.status).collect()
}

#[test]
fn a_build_comes_back_as_it_was() {
    let (_root, store) = store();
    let mut recorder = store.record_build(at(1000), &command("app")).unwrap();
    let id = recorder.id().to_owned();
    assert_eq!(id.len(), 25);
    let digest = Digest::of(b"make");
    let title = StepTitle { digest: Some(digest), line: Some(3), inputs: vec![digest], ..StepTitle::new("RUN make") };
    let mismatch = Mismatch { subject: "/Makefile".into(), was: "a".into(), is: "b".into() };
    let (reasons, dockerfile) = ([Reason::Fact(mismatch)], DockerfileText::new("FROM scratch\n"));
    recorder.dockerfile(ms(0), dockerfile.clone());
    recorder.start(ms(0), 0, &StepTitle::new("FROM"));
    recorder.stop(ms(0), 0, &StepEnd::Cached(Hit::Observed));
    recorder.start(ms(1), 1, &title);
    recorder.output(ms(2), 1, LogStream::Stdout, b"one\n\xff");
    recorder.output(ms(2), 1, LogStream::Stderr, b"two\n");
    assert_eq!(store.build(&id).unwrap().status, BuildStatus::Running);
    assert_eq!(store.build(&id).unwrap().steps[1].ended, None);
    recorder.note(ms(2), 1, "almost");
    recorder.explain(ms(3), 1, &reasons);
    recorder.made(ms(3), 1, digest);
    recorder.untraced(ms(3), "no /dev/fuse");
    let failed = StepEnd::Failed("exit code: 1".to_owned());
    recorder.stop(ms(5), 1, &failed);
    let end = BuildEnd::Failed { error: "exit code: 1".to_owned(), place: Some("Dockerfile:3".to_owned()) };
    recorder.finish(ms(6), &end).unwrap();

    let steps = vec![
        StepRecord {
            title: StepTitle::new("FROM"),
            began: ms(0),
            ended: Some((ms(0), StepEnd::Cached(Hit::Observed))),
            reasons: Vec::new(),
            layer: None,
        },
        StepRecord {
            title: title.clone(),
            began: ms(1),
            ended: Some((ms(5), failed.clone())),
            reasons: reasons.to_vec(),
            layer: Some(digest),
        },
    ];
    let (began, status) = (at(1000), BuildStatus::Ended(end));
    let expected = BuildRecord {
        id: id.clone(),
        began,
        command: command("app"),
        status,
        duration: ms(6),
        dockerfile: Some(dockerfile),
        untraced: Some("no /dev/fuse".to_owned()),
        steps,
    };
    assert_eq!(store.builds().unwrap(), [expected]);
    let events: Vec<_> = store.build_events(&id).unwrap().map(Result::unwrap).collect();
    let told = [
        (ms(0), 0, Event::Start(StepTitle::new("FROM"))),
        (ms(0), 0, Event::End(StepEnd::Cached(Hit::Observed))),
        (ms(1), 1, Event::Start(title)),
        (ms(2), 1, Event::Output(LogStream::Stdout, b"one\n\xff".to_vec())),
        (ms(2), 1, Event::Output(LogStream::Stderr, b"two\n".to_vec())),
        (ms(2), 1, Event::Note("almost".to_owned())),
        (ms(5), 1, Event::End(failed)),
    ];
    assert_eq!(events, told);
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn a_killed_build_was_interrupted() {
    let (_root, store) = store();
    let mut recorder = store.record_build(at(5), &command("app")).unwrap();
    let directory = store.build_directory(recorder.id()).unwrap();
    recorder.start(ms(3), 0, &StepTitle::new("RUN"));
    recorder.output(ms(4), 0, LogStream::Stdout, b"whole");
    recorder.output(ms(5), 0, LogStream::Stdout, b"cut");
    assert!(matches!(store.remove_build(recorder.id()), Err(StoreError::BuildRuns(_))));
    let id = recorder.id().to_owned();
    drop(recorder);
    // What a kill in the middle of a write leaves.
    for (file, cut) in [("build", 4), ("log", 2)] {
        let file = std::fs::File::options().append(true).open(directory.join(file)).unwrap();
        let length = file.metadata().unwrap().len();
        if cut == 4 {
            std::io::Write::write_all(&mut &file, b"{\"stop\":{\"ste").unwrap();
        } else {
            file.set_len(length - cut).unwrap();
        }
    }
    let build = store.build(&id).unwrap();
    assert_eq!((build.status, build.duration, build.steps.len()), (BuildStatus::Interrupted, ms(3), 1));
    let events: Vec<_> = store.build_events(&id).unwrap().map(Result::unwrap).collect();
    assert_eq!(events.last(), Some(&(ms(4), 0, Event::Output(LogStream::Stdout, b"whole".to_vec()))));
    store.remove_build(&id).unwrap();
    assert!(matches!(store.build(&id), Err(StoreError::NoBuild(_))));
}

#[test]
fn builds_are_found_by_the_beginning_of_their_id_and_by_how_long_ago_they_were() {
    let (_root, store) = store();
    assert!(matches!(store.find_build("^0"), Err(StoreError::NoBuild(_))));
    let ids: Vec<_> = (1..=3).map(|began| ended(&store, began)).collect();
    assert_eq!(store.find_build("^0").unwrap(), ids[2]);
    assert_eq!(store.find_build("^").unwrap(), ids[1]);
    assert_eq!(store.find_build("^2").unwrap(), ids[0]);
    assert_eq!(store.find_build(&ids[1]).unwrap(), ids[1]);
    assert_eq!(store.find_build(&ids[1][..20]).unwrap(), ids[1]);
    for wrong in ["", "^3", "^x", "^-1", "nothing", "../..", &ids[1].to_uppercase()] {
        if wrong != ids[1] {
            assert!(matches!(store.find_build(wrong), Err(StoreError::NoBuild(_))), "{wrong}");
        }
    }
    let twin = store.root().join("history").join(format!("{}x", &ids[0][..24]));
    std::fs::create_dir(&twin).unwrap();
    std::fs::copy(store.build_directory(&ids[0]).unwrap().join("build"), twin.join("build")).unwrap();
    assert!(matches!(store.find_build(&ids[0][..24]), Err(StoreError::AmbiguousBuild(_))));
    for path in ["", ".", "..", "../layers", "a/b"] {
        assert!(matches!(store.build(path), Err(StoreError::NoBuild(_))), "{path}");
        assert!(matches!(store.remove_build(path), Err(StoreError::NoBuild(_))), "{path}");
    }
}

#[test]
fn old_builds_are_forgotten_when_there_are_many() {
    let (_root, store) = store();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let old: Vec<_> = (1..=5).map(|began| ended(&store, began)).collect();
    let young: Vec<_> = (0..5).map(|ago| ended(&store, now - ago)).collect();
    let running = store.record_build(at(1), &command("old, but alive")).unwrap();
    let limits = HistoryLimits { max_entries: 7, ..HistoryLimits::default() };
    assert_eq!(store.prune_builds(limits).unwrap(), 3);
    for id in young.iter().chain(&old[3..]) {
        store.build(id).unwrap();
    }
    store.build(running.id()).unwrap();
    assert_eq!(store.prune_builds(HistoryLimits { max_entries: 0, ..limits }).unwrap(), 2);
    let small = HistoryLimits { max_size: 1, ..limits };
    assert_eq!(store.prune_builds(small).unwrap(), 4);
    assert_eq!(store.find_build("^0").unwrap(), young[0]);
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let (_root, store) = store();
    ended(&store, 1);
    let history = store.root().join("history");
    std::fs::create_dir(history.join("empty")).unwrap();
    for (name, text) in
        [("garbage", &b"\xff\x00"[..]), ("cut", b"{\"build\":{\"version\":1"), ("other", b"{\"a\":1}\n")]
    {
        std::fs::create_dir(history.join(name)).unwrap();
        std::fs::write(history.join(name).join("build"), text).unwrap();
        std::fs::write(history.join(name).join("log"), text).unwrap();
    }
    assert_eq!(store.builds().unwrap().len(), 1);
    assert!(matches!(store.build("garbage"), Err(StoreError::NoBuild(_))));
    assert_eq!(store.build_events("garbage").unwrap().count(), 0);
    store.prune_builds(HistoryLimits::default()).unwrap();
    assert!(history.join("empty").exists(), "it may be young and in the making");
}

#[test]
fn many_write_and_prune_at_once() {
    let (_root, store) = store();
    let limits = HistoryLimits { max_entries: 1, max_age: Duration::ZERO, ..HistoryLimits::default() };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut recorder = store.record_build(SystemTime::now(), &command("app")).unwrap();
                    recorder.start(ms(0), 0, &StepTitle::new("RUN"));
                    recorder.output(ms(0), 0, LogStream::Stdout, b"x");
                    store.prune_builds(limits).unwrap();
                    assert_eq!(store.build(recorder.id()).unwrap().status, BuildStatus::Running);
                    recorder.finish(ms(1), &BuildEnd::Cancelled).unwrap();
                }
            });
        }
    });
    store.prune_builds(limits).unwrap();
    assert_eq!(statuses(&store), [BuildStatus::Ended(BuildEnd::Cancelled)]);
}

/// The form on disk: to change it is to raise its version.
#[test]
fn the_form_is_pinned() {
    let (_root, store) = store();
    let mut recorder = store.record_build(at(1), &command("app")).unwrap();
    let directory = store.build_directory(recorder.id()).unwrap();
    recorder.dockerfile(ms(0), DockerfileText::new("FROM a\n"));
    recorder.start(ms(1), 0, &StepTitle::new("RUN"));
    recorder.output(ms(1), 0, LogStream::Stderr, b"hi");
    recorder.explain(ms(1), 0, &[Reason::Lost, Reason::Input("a".into())]);
    recorder.made(ms(1), 0, Digest::of(b"a"));
    recorder.untraced(ms(1), "why");
    recorder.stop(ms(2), 0, &StepEnd::Cached(Hit::Content));
    recorder.finish(ms(3), &BuildEnd::Completed { image: None }).unwrap();
    let build = std::fs::read_to_string(directory.join("build")).unwrap();
    let expected = concat!(
        r#"{"build":{"version":1,"time":1000000000,"command":{"context":"/src","dockerfile":"/src/Dockerfile","#,
        r#""tags":["app"],"platform":"linux/amd64","build_args":{"A":"1"}}}}"#,
        "\n",
        r#"{"dockerfile":{"time":0,"dockerfile":{"#,
        r#""digest":"sha256:20a51c1806196a27c0b6855656a7480447832e6a755ca8b4f0e582a41fa2534c","text":"FROM a\n"}}}"#,
        "\n",
        r#"{"start":{"step":0,"time":1000000,"title":{"name":"RUN"}}}"#,
        "\n",
        r#"{"why":{"step":0,"time":1000000,"reasons":[{"kind":"lost"},{"kind":"input","subject":"a"}]}}"#,
        "\n",
        r#"{"made":{"step":0,"time":1000000,"layer":"#,
        r#""sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}}"#,
        "\n",
        r#"{"untraced":{"time":1000000,"why":"why"}}"#,
        "\n",
        r#"{"stop":{"step":0,"time":2000000,"end":{"cached":"content"}}}"#,
        "\n",
        r#"{"end":{"time":3000000,"end":{"completed":{}}}}"#,
        "\n"
    );
    assert_eq!(build, expected);
    let log = std::fs::read(directory.join("log")).unwrap();
    assert_eq!(log, b"kiln-log1\n\0\0\0\0\x02\x40\x42\x0f\0\0\0\0\0\x02\0\0\0hi");
}
