//! The plain progress display: from what happens to lines of text, as BuildKit prints them.
//!
//! ```text
//! #5 [build 2/4] RUN make
//! #5 0.123 a line of its output
//! #5 DONE 0.1s
//! ```
//!
//! Groups (steps, mostly) are numbered in the order in which they appear. One group at a time has the floor;
//! what others have to say is held back until it ends, or for [`HOLD`] at most, so that parallel steps do not
//! chop up each other's output. A group that loses the floor leaves with `#5 ...` and comes back with its
//! name. Nothing here reads a clock or writes a byte: time comes in as an argument, text is taken out.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use kiln_solver::LogStream;

use super::text::{LineBuffer, clean};

/// For how long one group may keep the others from being seen.
pub(crate) const HOLD: Duration = Duration::from_millis(500);

/// How many of its last lines are kept for the report on a step that failed.
const TAIL: usize = 40;

/// The number of a group, which is also its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group(usize);

/// How a group ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did what it should.
    Done,
    /// It had been done before.
    Cached,
    /// The build was stopped.
    Cancelled,
    /// It failed, for this reason.
    Failed(String),
}

struct State {
    name: String,
    started: Duration,
    /// Of standard output and standard error, which may come in pieces of lines each.
    output: [LineBuffer; 2],
    tail: VecDeque<String>,
    ended: bool,
    shown: Shown,
}

/// How much of a group has been seen.
enum Shown {
    /// Everything.
    All,
    /// Its name (again) and these lines are still to be shown.
    Not(String),
}

/// The state of the display.
#[derive(Default)]
pub(crate) struct Plain {
    groups: Vec<State>,
    floor: Option<Group>,
    held_since: Option<Duration>,
    any_shown: bool,
    text: String,
}

impl Plain {
    /// A new group that starts now.
    pub(crate) fn start(&mut self, now: Duration, name: &str) -> Group {
        let group = Group(self.groups.len());
        self.groups.push(State {
            name: clean(name),
            started: now,
            output: Default::default(),
            tail: VecDeque::new(),
            ended: false,
            shown: Shown::Not(String::new()),
        });
        self.say(now, group, "");
        group
    }

    /// Bytes that the step of a group printed, whole lines or not.
    pub(crate) fn output(&mut self, now: Duration, group: Group, stream: LogStream, bytes: &[u8]) {
        let lines = self.groups[group.0].output[stream as usize].push(bytes);
        self.output_lines(now, group, lines);
    }

    fn output_lines(&mut self, now: Duration, group: Group, lines: impl IntoIterator<Item = String>) {
        let state = &mut self.groups[group.0];
        let time = stamp(now.saturating_sub(state.started));
        let mut said = String::new();
        for line in lines {
            let _ = writeln!(said, "#{} {time} {line}", group.0 + 1);
            if state.tail.len() == TAIL {
                state.tail.pop_front();
            }
            state.tail.push_back(format!("{time} {line}"));
        }
        if !said.is_empty() {
            self.say(now, group, &said);
        }
    }

    /// A line about a group.
    pub(crate) fn note(&mut self, now: Duration, group: Group, note: &str) {
        self.say(now, group, &format!("#{} {}\n", group.0 + 1, clean(note)));
    }

    /// The end of a group.
    pub(crate) fn end(&mut self, now: Duration, group: Group, end: &End) {
        let state = &mut self.groups[group.0];
        let seconds = now.saturating_sub(state.started).as_secs_f64();
        let rest: Vec<String> = state.output.iter_mut().filter_map(LineBuffer::finish).collect();
        self.output_lines(now, group, rest);
        let number = group.0 + 1;
        self.groups[group.0].ended = true;
        let line = match end {
            End::Done => format!("#{number} DONE {seconds:.1}s\n"),
            End::Cached => format!("#{number} CACHED\n"),
            End::Cancelled => format!("#{number} CANCELED\n"),
            End::Failed(reason) => format!("#{number} ERROR: {}\n", clean(reason)),
        };
        self.say(now, group, &line);
        if self.floor == Some(group) {
            self.floor = None;
            self.show_held(now, Turn::EndedFirst);
        }
    }

    /// Time goes by: what has been held back for long enough is shown. Yields whether anything is still held.
    pub(crate) fn tick(&mut self, now: Duration) -> bool {
        if self.held_since.is_some_and(|since| now.saturating_sub(since) >= HOLD) {
            self.show_held(now, Turn::Everyone);
        }
        self.held_since.is_some()
    }

    /// The end of it all: everything held back is shown.
    pub(crate) fn finish(&mut self, now: Duration) {
        self.show_held(now, Turn::Everyone);
    }

    /// Whether something waits for [`Plain::tick`].
    pub(crate) fn holds(&self) -> bool {
        self.held_since.is_some()
    }

    /// Takes out the text to print.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// The last lines that the step of a group printed, each with its time.
    pub(crate) fn tail(&self, group: Group) -> impl Iterator<Item = &str> {
        self.groups[group.0].tail.iter().map(String::as_str)
    }

    /// Lets a group say whole lines: at once if it has the floor or nobody has, later otherwise.
    fn say(&mut self, now: Duration, group: Group, lines: &str) {
        match self.floor {
            Some(floor) if floor == group => self.text.push_str(lines),
            _ => {
                match &mut self.groups[group.0].shown {
                    Shown::Not(held) => held.push_str(lines),
                    shown @ Shown::All => *shown = Shown::Not(lines.to_owned()),
                }
                if self.floor.is_none() {
                    self.give_floor(group);
                } else {
                    self.held_since.get_or_insert(now);
                    self.tick(now);
                }
            }
        }
    }

    /// Shows a group's name and what it has to say. It keeps the floor unless it has ended.
    fn give_floor(&mut self, group: Group) {
        if let Some(loser) = self.floor.take() {
            let _ = writeln!(self.text, "#{} ...", loser.0 + 1);
        }
        if std::mem::replace(&mut self.any_shown, true) {
            self.text.push('\n');
        }
        let state = &mut self.groups[group.0];
        let _ = writeln!(self.text, "#{} {}", group.0 + 1, state.name);
        if let Shown::Not(lines) = std::mem::replace(&mut state.shown, Shown::All) {
            self.text.push_str(&lines);
        }
        if !state.ended {
            self.floor = Some(group);
        }
    }

    /// Shows what is held back.
    fn show_held(&mut self, now: Duration, turn: Turn) {
        let held = |state: &State| matches!(state.shown, Shown::Not(_));
        let waiting = |ended: bool, groups: &[State]| -> Vec<Group> {
            let chosen = groups.iter().enumerate().filter(|(_, state)| held(state) && state.ended == ended);
            chosen.map(|(position, _)| Group(position)).collect()
        };
        for group in waiting(true, &self.groups) {
            self.give_floor(group);
        }
        for group in waiting(false, &self.groups) {
            if self.floor.is_some() && turn == Turn::EndedFirst {
                break;
            }
            self.give_floor(group);
        }
        let any = self.groups.iter().any(held);
        self.held_since = any.then(|| self.held_since.unwrap_or(now));
    }
}

/// Whose turn it is when the floor is free.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Those that have ended, then the first of the others, which keeps the floor.
    EndedFirst,
    /// All of them.
    Everyone,
}

/// The time of a line since its step started, in about five characters.
fn stamp(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let digits = match time.as_secs() {
        0..10 => 3,
        10..100 => 2,
        _ => 1,
    };
    format!("{seconds:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn one_step_after_the_other() {
        let mut plain = Plain::default();
        let first = plain.start(at(0), "[1/2] FROM scratch");
        plain.end(at(0), first, &End::Cached);
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
        let mut plain = Plain::default();
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
        assert!(!plain.holds());
    }

    #[test]
    fn nobody_waits_forever() {
        let mut plain = Plain::default();
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
        let mut plain = Plain::default();
        let _first = plain.start(at(0), "first");
        let second = plain.start(at(0), "second");
        plain.output(at(1), second, LogStream::Stdout, b"last words");
        plain.end(at(2), second, &End::Failed("broken".to_owned()));
        plain.finish(at(3));
        assert_eq!(plain.take(), "#1 first\n#1 ...\n\n#2 second\n#2 0.002 last words\n#2 ERROR: broken\n");
        assert_eq!(plain.tail(second).collect::<Vec<_>>(), ["0.002 last words"]);
    }

    #[test]
    fn both_streams_keep_their_lines_whole() {
        let mut plain = Plain::default();
        let group = plain.start(at(0), "RUN");
        plain.output(at(1), group, LogStream::Stdout, b"out ");
        plain.output(at(2), group, LogStream::Stderr, b"err\nor");
        plain.output(at(3), group, LogStream::Stdout, b"put\n");
        plain.end(at(4), group, &End::Done);
        assert_eq!(plain.take(), "#1 RUN\n#1 0.002 err\n#1 0.003 out put\n#1 0.004 or\n#1 DONE 0.0s\n");
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut plain = Plain::default();
        let group = plain.start(at(0), "loud");
        for line in 0..1000 {
            plain.output(at(0), group, LogStream::Stdout, format!("{line}\n").as_bytes());
        }
        assert_eq!(plain.tail(group).count(), TAIL);
        assert_eq!(plain.tail(group).last(), Some("0.000 999"));
    }

    #[test]
    fn times_keep_their_width() {
        let cases = [(0, "0.000"), (9_999, "9.999"), (12_345, "12.35"), (123_456, "123.5")];
        for (milliseconds, expected) in cases {
            assert_eq!(stamp(at(milliseconds)), expected);
        }
    }
}
