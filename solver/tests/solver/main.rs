//! The solver over steps that only count: what runs, what does not, and that the result is always what running
//! everything would give.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod digests;
mod fake;
mod model;

use fake::{Build, World};
use kiln_solver::{Cancel, Hit, IgnoreCache, Reason, StepError};

#[test]
fn a_second_solve_runs_nothing() {
    let world = World::new(&[("src", 1)]);
    let mut build = Build::new();
    let base = build.image(7);
    let src = build.local("src");
    let copy = build.mix("copy", &[base, src]);
    let run = build.mix("run", &[copy]);

    world.solve(&build, &[run]).unwrap();
    assert_eq!(world.take_ran(), ["copy", "run"]);
    world.solve(&build, &[run]).unwrap();
    assert_eq!(world.take_ran(), [""; 0]);
    assert_eq!(world.hits(run), [Hit::Definition]);
    assert_eq!(world.hits(copy), [Hit::Unneeded]);
}

#[test]
fn only_what_depends_on_an_edit_runs_again() {
    let world = World::new(&[("a", 1), ("b", 1)]);
    let mut build = Build::new();
    let (a, b) = (build.local("a"), build.local("b"));
    let (left, right) = (build.mix("left", &[a]), build.mix("right", &[b]));
    let both = build.mix("both", &[left, right]);
    world.solve(&build, &[both]).unwrap();
    world.take_ran();

    world.edit("b", 2);
    world.solve(&build, &[both]).unwrap();
    assert_eq!(world.take_ran(), ["both", "right"]);
}

#[test]
fn the_same_result_of_a_re_run_stops_the_invalidation() {
    let world = World::new(&[("src", 1)]);
    let mut build = Build::new();
    let src = build.local("src");
    let constant = build.constant("generate", &[src]);
    let run = build.mix("run", &[constant]);
    world.solve(&build, &[run]).unwrap();
    world.take_ran();

    world.edit("src", 2);
    world.solve(&build, &[run]).unwrap();
    assert_eq!(world.take_ran(), ["generate"]);
    assert_eq!(world.hits(run), [Hit::Content]);

    // The content hit is remembered under the definition key as well.
    world.forget_events();
    world.solve(&build, &[run]).unwrap();
    assert_eq!(world.hits(run), [Hit::Definition]);
}

#[test]
fn what_a_step_did_not_look_at_does_not_count() {
    let world = World::new(&[("src", 1)]);
    let mut build = Build::new();
    let src = build.local("src");
    let base = build.mix("base", &[src]);
    let peek = build.peek("peek", &[base]);
    let of = |content| {
        world.edit("src", content);
        let outputs = world.solve(&build, &[base, peek]).unwrap();
        (world.seen(&outputs[0][0]).as_bytes()[0] & 1, world.take_ran().contains(&"peek".to_owned()))
    };
    let mut known = [false; 2];
    for content in 1..20 {
        world.forget_events();
        let (bit, ran) = of(content);
        assert_eq!(ran, !known[usize::from(bit)], "it runs once for each bit that it has not seen");
        assert_eq!(world.hits(peek), if ran { vec![] } else { vec![Hit::Observed] });
        known[usize::from(bit)] = true;
    }
    assert_eq!(known, [true; 2]);
    // What was found so is remembered under the other keys.
    world.forget_events();
    of(5);
    assert_eq!(world.hits(peek), [Hit::Definition]);
}

#[test]
fn every_miss_has_a_reason() {
    let world = World::new(&[("src", 1)]);
    let mut build = Build::new();
    let (base, src) = (build.image(1), build.local("src"));
    let copy = build.mix("copy", &[base, src]);
    let run = build.constant("run", &[copy]);
    let last = build.mix("last", &[run]);
    world.solve(&build, &[last]).unwrap();
    assert_eq!(world.reasons(copy), [Reason::NeverBuilt]);

    world.edit("src", 2);
    world.solve(&build, &[last]).unwrap();
    assert_eq!(world.reasons(copy), [Reason::Input("src".into())]);
    assert_eq!(world.reasons(run), [Reason::Input("copy".into())]);
    assert_eq!(world.reasons(last), [], "a hit by content: nothing that it takes in changed");

    let mut other = Build::new();
    let (base, src) = (other.image(2), other.local("src"));
    let copy = other.mix("copy", &[base, src]);
    world.solve(&other, &[copy]).unwrap();
    let reasons = world.reasons(copy);
    assert!(matches!(&reasons[..], [Reason::Image(mismatch)] if mismatch.subject == "image"), "{reasons:?}");

    world.forget_records();
    world.solve(&other, &[copy]).unwrap();
    assert_eq!(world.reasons(copy), [Reason::Lost]);

    other.ignore_cache("copy");
    world.solve(&other, &[copy]).unwrap();
    assert_eq!(world.reasons(copy), [Reason::Ignored(IgnoreCache::Asked)]);

    let mut third = Build::new();
    let (base, src) = (third.image(2), third.local("src"));
    let copy = third.constant("copy", &[base, src]);
    world.solve(&third, &[copy]).unwrap();
    let reasons = world.reasons(copy);
    assert!(matches!(&reasons[..], [Reason::Definition(mismatch)] if mismatch.subject == "command"), "{reasons:?}");
}

#[test]
fn steps_that_no_target_needs_do_not_run() {
    let world = World::new(&[]);
    let mut build = Build::new();
    let base = build.image(1);
    build.mix("unneeded", &[base]);
    let wanted = build.mix("wanted", &[base]);
    world.solve(&build, &[wanted]).unwrap();
    assert_eq!(world.take_ran(), ["wanted"]);
}

#[test]
fn ignoring_the_cache_runs_the_step_and_distrusts_the_definitions_above_it() {
    let world = World::new(&[]);
    let mut build = Build::new();
    let base = build.image(1);
    let fresh = build.mix("fresh", &[base]);
    let above = build.mix("above", &[fresh]);
    world.solve(&build, &[above]).unwrap();
    world.take_ran();

    build.ignore_cache("fresh");
    world.solve(&build, &[above]).unwrap();
    assert_eq!(world.take_ran(), ["fresh"]);
    assert_eq!(world.hits(above), [Hit::Content]);

    world.drift("fresh");
    world.solve(&build, &[above]).unwrap();
    assert_eq!(world.take_ran(), ["above", "fresh"]);
}

#[test]
fn independent_steps_run_at_the_same_time() {
    let world = World::new(&[]);
    let mut build = Build::new();
    let base = build.image(1);
    // Each waits until all four have started: one after the other they would never end.
    let steps: Vec<_> = (0..4).map(|n| build.meet(&format!("meet {n}"), &[base])).collect();
    let all = build.mix("all", &steps);
    world.expect_to_meet(4);
    world.solve(&build, &[all]).unwrap();
}

#[test]
fn a_failure_stops_the_rest_and_keeps_what_finished() {
    let world = World::new(&[]);
    let mut build = Build::new();
    let base = build.image(1);
    let done = build.mix("done", &[base]);
    let failing = build.failing("failing", &[done]);
    let never = build.mix("never", &[failing]);
    let error = world.solve(&build, &[never]).unwrap_err();
    assert_eq!(error.step, build.id(failing));
    assert!(matches!(error.error, StepError::ExitCode(3)));
    assert_eq!(world.take_ran(), ["done", "failing"]);

    let error = world.solve(&build, &[never]).unwrap_err();
    assert_eq!(error.step, build.id(failing));
    assert_eq!(world.take_ran(), ["failing"]);
}

#[test]
fn nothing_runs_for_a_step_that_cannot() {
    let world = World::new(&[("src", 1)]);
    let mut build = Build::new();
    let source = build.local("src");
    let first = build.peek("first", &[source]);
    let second = build.mix("second", &[first]);
    world.refuse("second");
    let error = world.solve(&build, &[second]).unwrap_err();
    assert_eq!(error.step, build.id(second));
    assert_eq!(world.take_ran(), [""; 0]);
}

#[test]
fn a_step_that_cannot_be_run_may_be_found() {
    let world = World::new(&[]);
    let mut build = Build::new();
    let base = build.image(1);
    let first = build.mix("first", &[base]);
    let second = build.mix("second", &[first]);
    world.solve(&build, &[second]).unwrap();
    world.take_ran();
    world.refuse("second");
    world.solve(&build, &[second]).unwrap();
    assert_eq!(world.take_ran(), [""; 0]);
    // Its definition key is worth nothing now, but what it takes in is the same.
    build.ignore_cache("first");
    world.solve(&build, &[second]).unwrap();
    assert_eq!(world.take_ran(), ["first"]);
}

#[test]
fn a_request_to_stop_keeps_steps_from_starting() {
    let world = World::new(&[]);
    let mut build = Build::new();
    let base = build.image(1);
    let step = build.mix("step", &[base]);
    let cancel = Cancel::new();
    cancel.request();
    let error = world.solve_with(&build, &[step], &cancel).unwrap_err();
    assert!(matches!(error.error, StepError::Cancelled));
    assert_eq!(world.take_ran(), [""; 0]);
}

#[test]
fn a_record_that_was_lost_is_made_again() {
    let world = World::new(&[]);
    let mut build = Build::new();
    let base = build.image(1);
    let first = build.mix("first", &[base]);
    let second = build.mix("second", &[first]);
    let expected = world.solve(&build, &[second]).unwrap();
    world.take_ran();
    world.forget_records();
    assert_eq!(world.solve(&build, &[second]).unwrap(), expected);
    assert_eq!(world.take_ran(), ["first", "second"]);
}

#[test]
fn equal_steps_are_one() {
    let mut build = Build::new();
    let base = build.image(1);
    let (one, two) = (build.mix("same", &[base]), build.mix("same", &[base]));
    assert_eq!(build.id(one), build.id(two));
    assert_ne!(build.id(base), build.id(one));
}

#[test]
fn an_empty_request_solves_to_nothing() {
    let world = World::new(&[]);
    assert!(world.solve(&Build::new(), &[]).unwrap().is_empty());
}
