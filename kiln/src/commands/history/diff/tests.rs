//! What is said of two builds.

use std::time::Duration;

use kiln_cache::history::{BuildEnd, BuildStatus, DockerfileText, StepEnd, StepTitle};
use kiln_solver::{Digest, Hit, Mismatch, Reason};

use super::super::sample;
use super::*;

/// A build after the sample: the Dockerfile, an argument and the steps are others, and it went well.
fn later() -> BuildRecord {
    let mut is = sample();
    is.id = "def0123456789012345678901".to_owned();
    is.command.build_args = [("VERSION".to_owned(), "2".to_owned()), ("NEW".to_owned(), "1".to_owned())].into();
    is.status = BuildStatus::Ended(BuildEnd::Completed { image: Some(Digest::of(b"image")) });
    is.duration = Duration::from_secs(10);
    let [load, from, copy, make, curl] = &mut is.steps[..] else { panic!("the sample has five steps") };
    load.ended = Some((Duration::from_millis(9), StepEnd::Done));
    from.layer = Some(Digest::of(b"base"));
    copy.layer = Some(Digest::of(b"new sources"));
    copy.ended = Some((Duration::from_millis(300), StepEnd::Done));
    let mismatch = Mismatch { subject: "/src/main.c".into(), was: "absent".into(), is: "a file".into() };
    copy.reasons = vec![Reason::File(mismatch)];
    make.title.name = "[3/4] RUN make -j4".to_owned();
    make.ended = Some((Duration::from_millis(5000), StepEnd::Done));
    make.reasons = vec![Reason::NeverBuilt];
    curl.title = StepTitle::new("[4/4] RUN strip app");
    curl.ended = Some((Duration::from_millis(3), StepEnd::Cached(Hit::Content)));
    is
}

fn earlier() -> BuildRecord {
    let mut was = sample();
    was.dockerfile = Some(DockerfileText::new("FROM debian\nCOPY . .\nRUN make\n"));
    was.steps[1].layer = Some(Digest::of(b"base"));
    was.steps[2].layer = Some(Digest::of(b"sources"));
    was
}

#[test]
fn two_builds_are_compared() {
    let (was, mut is) = (earlier(), later());
    is.dockerfile = Some(DockerfileText::new("FROM debian\nCOPY . .\nRUN make -j4\nRUN \u{1b}[2Jstrip app\n"));
    let comparison = Comparison::of(&was, &is);
    insta::assert_snapshot!(print::pretty(&comparison));
    insta::assert_snapshot!(print::json(&comparison));
}

#[test]
fn equal_builds_do_not_differ() {
    let mut same = earlier();
    same.steps.iter_mut().for_each(|step| step.reasons.clear());
    let mut again = same.clone();
    again.duration += Duration::from_millis(5);
    let text = print::pretty(&Comparison::of(&same, &again));
    assert!(text.ends_with("\nNothing differs but the time.\n"), "{text}");
}

#[test]
fn a_dockerfile_too_large_to_keep_still_differs() {
    let (mut was, mut is) = (sample(), sample());
    let text = |letter: &str| Some(DockerfileText::new(&format!("# {}\n", letter.repeat(70_000))));
    (was.dockerfile, is.dockerfile) = (text("a"), text("a"));
    assert_eq!(Comparison::of(&was, &is).dockerfile, None);
    is.dockerfile = text("b");
    let changes = Comparison::of(&was, &is).dockerfile.unwrap();
    assert!(changes.starts_with("sha256:") && changes.len() < 200, "{changes}");
}

#[test]
fn the_build_before_is_the_last_that_was_asked_for_in_the_same_way() {
    let named = |id: &str, target: Option<&str>| {
        let mut build = sample();
        (build.id, build.command.target) = (id.to_owned(), target.map(str::to_owned));
        build
    };
    let builds = || vec![named("d", None), named("c", None), named("b", Some("test")), named("a", None)];
    assert_eq!(before(builds(), &named("d", None)).unwrap().id, "c");
    assert_eq!(before(builds(), &named("c", None)).unwrap().id, "a");
    for alone in [named("b", Some("test")), named("a", None)] {
        assert!(before(builds(), &alone).unwrap_err().message.contains("no earlier build"));
    }
}
