//! The plain progress display: from what happens to lines of text, as BuildKit prints them.
//!
//! ```text
//! #5 [build 2/4] RUN make
//! #5 0.123 a line of its output
//! #5 DONE 0.1s
//! ```
//!
//! One group at a time has the floor; what others have to say is held back until it ends, or for [`HOLD`] at most,
//! so that parallel steps do not chop up each other's output. A group that loses the floor leaves with `#5 ...` and
//! comes back with its name.
//!
//! A line that has no end yet is shown after [`HOLD`], too, and goes on where it stood if nothing else was shown
//! meanwhile. One that is written over again and again, as progress bars are, is shown as it then is every
//! [`BAR_HOLD`].

use std::fmt::Write as _;
use std::time::Duration;

use kiln_solver::LogStream;

use super::event::{Display, End, Group, Title};
use super::lines::{Lines, stamp};
use super::text::{RESET, clean, transferred};

#[cfg(test)]
mod tests;

/// For how long one group may keep the others from being seen.
const HOLD: Duration = Duration::from_millis(500);
/// How often a progress bar is shown, and how far a transfer is.
const BAR_HOLD: Duration = Duration::from_secs(5);

struct State {
    name: String,
    started: Duration,
    lines: Lines,
    /// Since when there is something new in the lines that have no end yet, by stream.
    unfinished: [Option<Duration>; 2],
    /// When it was last told how far it is.
    advanced: Duration,
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

/// The line that the text printed so far ends with, if it has no end yet.
struct OpenLine {
    group: Group,
    stream: LogStream,
    shown: String,
}

/// The state of the display.
pub(crate) struct Plain {
    colour: bool,
    groups: Vec<State>,
    floor: Option<Group>,
    held_since: Option<Duration>,
    any_shown: bool,
    open: Option<OpenLine>,
    text: String,
}

const STREAMS: [LogStream; 2] = [LogStream::Stdout, LogStream::Stderr];

impl Display for Plain {
    fn start(&mut self, now: Duration, group: Group, title: &Title) {
        self.groups.push(State {
            name: clean(&title.name),
            started: now,
            lines: Lines::new(self.colour),
            unfinished: [None; 2],
            advanced: now,
            ended: false,
            shown: Shown::Not(String::new()),
        });
        self.say(now, group, "");
    }

    fn output(&mut self, now: Duration, group: Group, stream: LogStream, bytes: &[u8]) {
        let Some(state) = self.groups.get_mut(group.0) else { return };
        let time = now.saturating_sub(state.started);
        let mut lines = state.lines.push(time, stream, bytes).into_iter();
        let unfinished = state.lines.pending(stream).is_some();
        let since = &mut state.unfinished[stream as usize];
        *since = if unfinished { since.filter(|_| lines.len() == 0).or(Some(now)) } else { None };
        if let Some(first) = lines.next() {
            let first = self.complete(group, stream, time, &first);
            self.say(now, group, &lines.fold(first, |text, line| text + &log_line(group, time, &line) + "\n"));
        }
    }

    fn note(&mut self, now: Duration, group: Group, note: &str) {
        self.say(now, group, &format!("#{} {}\n", group.0 + 1, clean(note)));
    }

    fn advance(&mut self, now: Duration, group: Group, bytes: u64, total: u64) {
        let Some(state) = self.groups.get_mut(group.0) else { return };
        if now.saturating_sub(state.advanced) >= BAR_HOLD {
            state.advanced = now;
            self.note(now, group, &transferred(bytes, total));
        }
    }

    fn end(&mut self, now: Duration, group: Group, end: &End) {
        let Some(state) = self.groups.get_mut(group.0) else { return };
        let time = now.saturating_sub(state.started);
        state.ended = true;
        state.unfinished = [None; 2];
        for (stream, line) in state.lines.finish(time) {
            let line = self.complete(group, stream, time, &line);
            self.say(now, group, &line);
        }
        let number = group.0 + 1;
        let line = match end {
            End::Done => format!("#{number} DONE {:.1}s\n", time.as_secs_f64()),
            End::Cached(_) => format!("#{number} CACHED\n"),
            End::Cancelled => format!("#{number} CANCELED\n"),
            End::Failed(reason) => format!("#{number} ERROR: {}\n", clean(reason)),
        };
        self.say(now, group, &line);
        if self.floor == Some(group) {
            self.floor = None;
            self.show_held(now, Turn::EndedFirst);
        }
    }

    fn tail(&self, group: Group) -> Vec<String> {
        self.groups.get(group.0).map(|state| state.lines.report()).unwrap_or_default()
    }

    fn tick(&mut self, now: Duration) {
        self.show_overdue(now);
        self.show_unfinished(now);
    }

    fn waits(&self) -> bool {
        self.held_since.is_some() || self.groups.iter().any(|state| state.unfinished.iter().any(Option::is_some))
    }

    fn finish(&mut self, now: Duration) {
        self.show_held(now, Turn::Everyone);
        self.close_line();
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

impl Plain {
    /// A display that has shown nothing yet; with `colour`, the colours of what steps print are kept.
    pub(crate) fn new(colour: bool) -> Self {
        Self {
            colour,
            groups: Vec::new(),
            floor: None,
            held_since: None,
            any_shown: false,
            open: None,
            text: String::new(),
        }
    }

    /// Shows what has been held back for long enough.
    fn show_overdue(&mut self, now: Duration) {
        if self.held_since.is_some_and(|since| now.saturating_sub(since) >= HOLD) {
            self.show_held(now, Turn::Everyone);
        }
    }

    /// Shows the lines that have waited for their end for long enough.
    fn show_unfinished(&mut self, now: Duration) {
        for group in (0..self.groups.len()).map(Group) {
            for stream in STREAMS {
                let state = &self.groups[group.0];
                let Some(since) = state.unfinished[stream as usize] else { continue };
                let again = self.open.as_ref().is_some_and(|open| open.group == group);
                let first = self.floor.is_none_or(|floor| floor == group) && !again;
                let appended = self.floor == Some(group) && !state.lines.is_overwritten(stream);
                let patience = if first || appended { HOLD } else { BAR_HOLD };
                if now.saturating_sub(since) >= patience {
                    self.show_line_so_far(now, group, stream);
                }
            }
        }
    }

    /// Shows a line that has no end yet, and leaves it open.
    fn show_line_so_far(&mut self, now: Duration, group: Group, stream: LogStream) {
        self.groups[group.0].unfinished[stream as usize] = None;
        let Some(line) = self.groups[group.0].lines.pending(stream).filter(|line| !line.is_empty()) else { return };
        if self.floor != Some(group) {
            self.give_floor(group);
        }
        let time = now.saturating_sub(self.groups[group.0].started);
        match self.continuation(group, stream, &line) {
            Some(rest) => self.text.push_str(rest),
            None => {
                self.close_line();
                self.text.push_str(&log_line(group, time, &line));
            }
        }
        self.open = Some(OpenLine { group, stream, shown: line });
    }

    /// A complete line, or just what is missing of it if it is open; then that is written.
    fn complete(&mut self, group: Group, stream: LogStream, time: Duration, line: &str) -> String {
        match self.continuation(group, stream, line).map(str::to_owned) {
            Some(rest) => {
                self.text.push_str(&rest);
                self.close_line();
                String::new()
            }
            None => log_line(group, time, line) + "\n",
        }
    }

    /// What comes behind the open line to make it this one.
    fn continuation<'l>(&self, group: Group, stream: LogStream, line: &'l str) -> Option<&'l str> {
        let open = self.open.as_ref().filter(|open| open.group == group && open.stream == stream)?;
        line.strip_prefix(open.shown.strip_suffix(RESET).unwrap_or(&open.shown))
    }

    fn close_line(&mut self) {
        if self.open.take().is_some() {
            self.text.push('\n');
        }
    }

    /// Lets a group say whole lines: at once if it has the floor or nobody has, later otherwise.
    fn say(&mut self, now: Duration, group: Group, lines: &str) {
        match self.floor {
            Some(floor) if floor == group => {
                if !lines.is_empty() {
                    self.close_line();
                    self.text.push_str(lines);
                }
            }
            _ => {
                match &mut self.groups[group.0].shown {
                    Shown::Not(held) => held.push_str(lines),
                    shown @ Shown::All => *shown = Shown::Not(lines.to_owned()),
                }
                if self.floor.is_none() {
                    self.give_floor(group);
                } else {
                    self.held_since.get_or_insert(now);
                    self.show_overdue(now);
                }
            }
        }
    }

    /// Shows a group's name and what it has to say. It keeps the floor unless it has ended.
    fn give_floor(&mut self, group: Group) {
        self.close_line();
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

/// A line of the output of a group, without its end.
fn log_line(group: Group, time: Duration, line: &str) -> String {
    format!("#{} {} {line}", group.0 + 1, stamp(time))
}
