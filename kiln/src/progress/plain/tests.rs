//! What the plain display prints, and when.

use kiln_solver::Hit;

use super::*;

/// A display, and how many groups it has been told of.
struct Told {
    plain: Plain,
    groups: usize,
}

impl Told {
    fn new() -> Self {
        Self { plain: Plain::new(false), groups: 0 }
    }

    fn start(&mut self, now: Duration, name: &str) -> Group {
        let group = Group(self.groups);
        self.groups += 1;
        self.plain.start(now, group, &Title::new(name));
        group
    }

    fn tick(&mut self, now: Duration) -> bool {
        self.plain.tick(now);
        self.plain.waits()
    }
}

impl std::ops::Deref for Told {
    type Target = Plain;

    fn deref(&self) -> &Plain {
        &self.plain
    }
}

impl std::ops::DerefMut for Told {
    fn deref_mut(&mut self) -> &mut Plain {
        &mut self.plain
    }
}

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn one_step_after_the_other() {
    let mut plain = Told::new();
    let first = plain.start(at(0), "[1/2] FROM scratch");
    plain.end(at(0), first, &End::Cached(Hit::Definition));
    let second = plain.start(at(10), "[2/2] RUN make");
    plain.output(at(133), second, LogStream::Stdout, b"compiling\nlink");
    plain.output(at(1444), second, LogStream::Stdout, b"ing\nno end of line");
    plain.end(at(2210), second, &End::Done);
    let third = plain.start(at(2300), "exporting to image");
    plain.note(at(2301), third, "naming to docker.io/library/app:1.0 done");
    plain.end(at(2310), third, &End::Done);
    plain.finish(at(2310));
    insta::assert_snapshot!(plain.take(), @r"
    #1 [1/2] FROM scratch
    #1 CACHED

    #2 [2/2] RUN make
    #2 0.123 compiling
    #2 1.434 linking
    #2 2.200 no end of line
    #2 DONE 2.2s

    #3 exporting to image
    #3 naming to docker.io/library/app:1.0 done
    #3 DONE 0.0s
    ");
}

#[test]
fn parallel_steps_wait_for_the_one_that_has_the_floor() {
    let mut plain = Told::new();
    let first = plain.start(at(0), "first");
    let second = plain.start(at(1), "second");
    let third = plain.start(at(2), "third");
    plain.output(at(100), second, LogStream::Stdout, b"from the second\n");
    plain.output(at(101), first, LogStream::Stdout, b"from the first\n");
    plain.end(at(102), third, &End::Done);
    assert_eq!(plain.take(), "#1 first\n#1 0.101 from the first\n");
    plain.end(at(200), first, &End::Done);
    plain.output(at(201), second, LogStream::Stdout, b"more\n");
    plain.end(at(300), second, &End::Failed("no".to_owned()));
    insta::assert_snapshot!(plain.take(), @r"
    #1 DONE 0.2s

    #3 third
    #3 DONE 0.1s

    #2 second
    #2 0.099 from the second
    #2 0.200 more
    #2 ERROR: no
    ");
    assert!(!plain.waits());
}

#[test]
fn nobody_waits_forever() {
    let mut plain = Told::new();
    let first = plain.start(at(0), "first");
    let second = plain.start(at(10), "second");
    plain.output(at(20), second, LogStream::Stdout, b"hello\n");
    assert!(plain.tick(at(400)));
    assert_eq!(plain.take(), "#1 first\n");
    assert!(!plain.tick(at(510)));
    plain.output(at(600), first, LogStream::Stdout, b"still here\n");
    plain.end(at(700), second, &End::Cancelled);
    insta::assert_snapshot!(plain.take(), @r"
    #1 ...

    #2 second
    #2 0.010 hello
    #2 CANCELED

    #1 first
    #1 0.600 still here
    ");
}

#[test]
fn everything_is_shown_in_the_end() {
    let mut plain = Told::new();
    let _first = plain.start(at(0), "first");
    let second = plain.start(at(0), "second");
    plain.output(at(1), second, LogStream::Stdout, b"last words");
    plain.end(at(2), second, &End::Failed("broken".to_owned()));
    plain.finish(at(3));
    assert_eq!(plain.take(), "#1 first\n#1 ...\n\n#2 second\n#2 0.002 last words\n#2 ERROR: broken\n");
    assert_eq!(plain.tail(second), ["0.002 last words"]);
}

#[test]
fn both_streams_keep_their_lines_whole() {
    let mut plain = Told::new();
    let group = plain.start(at(0), "RUN");
    plain.output(at(1), group, LogStream::Stdout, b"out ");
    plain.output(at(2), group, LogStream::Stderr, b"err\nor");
    plain.output(at(3), group, LogStream::Stdout, b"put\n");
    plain.end(at(4), group, &End::Done);
    assert_eq!(plain.take(), "#1 RUN\n#1 0.002 err\n#1 0.003 out put\n#1 0.004 or\n#1 DONE 0.0s\n");
}

#[test]
fn a_line_without_end_is_shown_and_goes_on() {
    let mut plain = Told::new();
    let group = plain.start(at(0), "RUN ./configure");
    plain.output(at(100), group, LogStream::Stdout, b"checking for cc...");
    assert!(plain.tick(at(500)));
    assert_eq!(plain.take(), "#1 RUN ./configure\n");
    assert!(!plain.tick(at(600)));
    assert_eq!(plain.take(), "#1 0.600 checking for cc...");
    plain.output(at(700), group, LogStream::Stdout, b" still");
    plain.tick(at(1200));
    plain.output(at(1300), group, LogStream::Stdout, b" yes\nchecking for ld...");
    plain.end(at(1400), group, &End::Done);
    assert_eq!(plain.take(), " still yes\n#1 1.400 checking for ld...\n#1 DONE 1.4s\n");
}

#[test]
fn a_line_that_was_left_open_is_never_mixed_with_others() {
    let mut plain = Told::new();
    let first = plain.start(at(0), "first");
    plain.output(at(0), first, LogStream::Stdout, b"one");
    plain.tick(at(500));
    plain.output(at(600), first, LogStream::Stderr, b"a warning\n");
    plain.output(at(700), first, LogStream::Stdout, b" two\nthree");
    plain.tick(at(1200));
    let second = plain.start(at(1300), "second");
    plain.tick(at(1800));
    plain.output(at(1900), first, LogStream::Stdout, b" four\n");
    plain.end(at(2000), second, &End::Done);
    insta::assert_snapshot!(plain.take(), @r"
    #1 first
    #1 0.500 one
    #1 0.600 a warning
    #1 0.700 one two
    #1 1.200 three
    #1 ...

    #2 second
    #2 DONE 0.7s

    #1 first
    #1 1.900 three four
    ");
}

#[test]
fn progress_bars_are_shown_now_and_then() {
    let mut plain = Told::new();
    let group = plain.start(at(0), "RUN curl");
    for tenth in 0..=200 {
        plain.output(at(tenth * 100), group, LogStream::Stderr, format!("\r{tenth} kB").as_bytes());
        plain.tick(at(tenth * 100));
    }
    plain.output(at(20_050), group, LogStream::Stderr, b"\r200 kB, done\n");
    plain.end(at(20_100), group, &End::Done);
    insta::assert_snapshot!(plain.take(), @r"
    #1 RUN curl
    #1 0.500 5 kB
    #1 5.600 56 kB
    #1 10.70 107 kB
    #1 15.80 158 kB
    #1 20.05 200 kB, done
    #1 DONE 20.1s
    ");
}

#[test]
fn transfers_are_told_of_now_and_then() {
    let mut told = Told::new();
    let group = told.start(Duration::ZERO, "pushing a layer");
    for second in 0..12 {
        told.plain.advance(Duration::from_secs(second), group, second * 1_000_000, 12_000_000);
    }
    told.plain.end(Duration::from_secs(12), group, &End::Done);
    insta::assert_snapshot!(told.plain.take(), @r"
    #1 pushing a layer
    #1 5MB / 12MB
    #1 10MB / 12MB
    #1 DONE 12.0s
    ");
}
