//! The live display of a terminal.
//!
//! ```text
//!  => CACHED [1/4] FROM debian                        0.0s   what has ended, for good
//!  => [2/4] RUN apt-get update                        8.2s
//! [+] Building 9.5s (6/8)                                    from here on: drawn anew each time
//!  => [3/4] RUN make                                  1.3s
//!  => => cc -c main.c
//! ```
//!
//! What has ended scrolls away upwards and is never touched again, so nothing is lost however many steps there are.
//! Below it, never higher than the terminal, stands what is running, with the last lines of its output. A frame goes
//! back to where the last one began by counting lines, so no line may wrap: each is cut to the width of the
//! terminal, and wrapping is off while a frame is written, should the terminal measure a letter otherwise.

mod line;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use kiln_solver::LogStream;

use super::event::{Display, End, Group, Title};
use super::lines::Lines;
use super::text::{clean, transferred};
use line::{fit, step_line};

/// How often it is drawn.
pub(super) const FRAME: Duration = Duration::from_millis(100);
/// The most lines of output that are shown of one step.
const LOG_LINES: usize = 6;
/// The room left free below, where the cursor is.
const MARGIN: usize = 1;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// In lines.
    pub(crate) rows: usize,
    /// In letters of usual width.
    pub(crate) columns: usize,
}

struct State {
    name: String,
    started: Duration,
    lines: Lines,
    note: Option<String>,
}

/// The state of the display.
pub(crate) struct Tty {
    colour: bool,
    size: Box<dyn Fn() -> Size + Send>,
    groups: Vec<State>,
    running: Vec<Group>,
    /// What ended since the last frame.
    ended: Vec<(Group, Duration, End)>,
    /// How many lines of the last frame are to be drawn over.
    drawn: usize,
    /// Whether something has happened since the display was last finished.
    unfinished: bool,
    text: String,
}

impl Tty {
    /// A display that has shown nothing yet, on a terminal whose size can be asked for; with `colour`, there are
    /// colours.
    pub(crate) fn new(colour: bool, size: impl Fn() -> Size + Send + 'static) -> Self {
        Self {
            colour,
            size: Box::new(size),
            groups: Vec::new(),
            running: Vec::new(),
            ended: Vec::new(),
            drawn: 0,
            unfinished: false,
            text: String::new(),
        }
    }

    fn draw(&mut self, now: Duration, live: bool) {
        let size = (self.size)();
        if self.drawn > 0 {
            let _ = write!(self.text, "\r\x1b[{}A\x1b[J", self.drawn);
        }
        self.text.push_str("\x1b[?7l");
        for (group, time, end) in std::mem::take(&mut self.ended) {
            let line = self.ended_line(group, time, &end, size);
            self.put(&line);
        }
        let frame = if live { self.frame(now, size) } else { vec![self.heading(now, " FINISHED", size)] };
        frame.iter().for_each(|line| self.put(line));
        self.text.push_str("\x1b[?7h");
        self.drawn = if live { frame.len() } else { 0 };
    }

    fn put(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    fn heading(&self, now: Duration, state: &str, size: Size) -> String {
        let done = self.groups.len() - self.running.len();
        let text = format!("[+] Building {:.1}s ({done}/{}){state}", now.as_secs_f64(), self.groups.len());
        fit(&text, size.columns)
    }

    fn ended_line(&self, group: Group, time: Duration, end: &End, size: Size) -> String {
        let Some(state) = self.groups.get(group.0) else { return String::new() };
        let (word, colour) = match end {
            End::Done => ("", AnsiColor::Blue),
            End::Cached(_) => ("CACHED ", AnsiColor::Blue),
            End::Cancelled => ("CANCELED ", AnsiColor::Yellow),
            End::Failed(_) => ("ERROR ", AnsiColor::Red),
        };
        let line = step_line(&format!(" => {word}{}", state.name), time, size.columns);
        self.paint(Style::new().fg_color(Some(colour.into())), &line)
    }

    /// The part that is drawn anew.
    fn frame(&self, now: Duration, size: Size) -> Vec<String> {
        let room = size.rows.saturating_sub(MARGIN).max(1);
        let mut frame = vec![self.heading(now, "", size)];
        let mut left = room.saturating_sub(1);
        let shown = if self.running.len() > left { left.saturating_sub(1) } else { self.running.len() };
        left = left.saturating_sub(self.running.len().min(left));
        for &group in self.running.iter().take(shown) {
            let Some(state) = self.groups.get(group.0) else { continue };
            frame.push(step_line(&format!(" => {}", state.name), now.saturating_sub(state.started), size.columns));
            let lines = state.last_lines(left.min(LOG_LINES));
            left -= lines.len();
            let dim = |line: &String| self.paint(Style::new().dimmed(), &fit(&format!(" => => {line}"), size.columns));
            frame.extend(lines.iter().map(dim));
        }
        if shown < self.running.len() && frame.len() < room {
            frame.push(fit(&format!(" => and {} more", self.running.len() - shown), size.columns));
        }
        frame
    }
}

impl State {
    /// The newest lines of what it prints, the unfinished ones included; what else is known of it where it prints
    /// nothing.
    fn last_lines(&self, most: usize) -> Vec<String> {
        let unfinished = [LogStream::Stdout, LogStream::Stderr].map(|stream| self.lines.pending(stream));
        let unfinished = unfinished.into_iter().flatten().filter(|line| !line.is_empty());
        let complete = self.lines.tail().rev().take(most).map(|(_, line)| line.clone());
        let mut lines: Vec<String> = complete.collect();
        lines.reverse();
        lines.extend(unfinished);
        if lines.is_empty() {
            lines.extend(self.note.clone());
        }
        lines.split_off(lines.len().saturating_sub(most))
    }
}

impl Display for Tty {
    fn start(&mut self, now: Duration, group: Group, title: &Title) {
        let (name, lines) = (clean(&title.name), Lines::new(self.colour));
        self.groups.push(State { name, started: now, lines, note: None });
        self.running.push(group);
        self.unfinished = true;
    }

    fn output(&mut self, now: Duration, group: Group, stream: LogStream, bytes: &[u8]) {
        if let Some(state) = self.groups.get_mut(group.0) {
            state.lines.push(now.saturating_sub(state.started), stream, bytes);
        }
    }

    fn note(&mut self, _now: Duration, group: Group, note: &str) {
        if let Some(state) = self.groups.get_mut(group.0) {
            state.note = Some(clean(note));
        }
    }

    fn advance(&mut self, now: Duration, group: Group, bytes: u64, total: u64) {
        self.note(now, group, &transferred(bytes, total));
    }

    fn end(&mut self, now: Duration, group: Group, end: &End) {
        if let Some(state) = self.groups.get_mut(group.0) {
            let time = now.saturating_sub(state.started);
            state.lines.finish(time);
            self.running.retain(|running| *running != group);
            self.ended.push((group, time, end.clone()));
        }
    }

    fn tail(&self, group: Group) -> Vec<String> {
        self.groups.get(group.0).map(|state| state.lines.report()).unwrap_or_default()
    }

    fn tick(&mut self, now: Duration) {
        if self.waits() {
            self.draw(now, true);
        }
    }

    fn waits(&self) -> bool {
        !self.running.is_empty() || !self.ended.is_empty()
    }

    fn finish(&mut self, now: Duration) {
        if std::mem::take(&mut self.unfinished) {
            self.draw(now, false);
        }
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}
