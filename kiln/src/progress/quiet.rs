//! The display that shows nothing. It remembers what a report on a step that failed needs.

use std::time::Duration;

use kiln_solver::LogStream;

use super::event::{Display, End, Group, Title};
use super::lines::Lines;

/// The state of the display.
pub(crate) struct Quiet {
    colour: bool,
    groups: Vec<(Duration, Lines)>,
}

impl Quiet {
    /// A display of nothing; with `colour`, the colours of what steps print are kept.
    pub(crate) fn new(colour: bool) -> Self {
        Self { colour, groups: Vec::new() }
    }
}

impl Display for Quiet {
    fn start(&mut self, now: Duration, _group: Group, _title: &Title) {
        self.groups.push((now, Lines::new(self.colour)));
    }

    fn output(&mut self, now: Duration, group: Group, stream: LogStream, bytes: &[u8]) {
        if let Some((started, lines)) = self.groups.get_mut(group.0) {
            lines.push(now.saturating_sub(*started), stream, bytes);
        }
    }

    fn note(&mut self, _now: Duration, _group: Group, _note: &str) {}

    fn end(&mut self, now: Duration, group: Group, _end: &End) {
        if let Some((started, lines)) = self.groups.get_mut(group.0) {
            lines.finish(now.saturating_sub(*started));
        }
    }

    fn tail(&self, group: Group) -> Vec<String> {
        self.groups.get(group.0).map(|(_, lines)| lines.report()).unwrap_or_default()
    }

    fn tick(&mut self, _now: Duration) {}

    fn waits(&self) -> bool {
        false
    }

    fn finish(&mut self, _now: Duration) {}

    fn take(&mut self) -> String {
        String::new()
    }
}
