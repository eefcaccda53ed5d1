//! What one step has printed, as lines: those that are complete, the one that is not, and the last ones.

use std::collections::VecDeque;
use std::time::Duration;

use kiln_solver::LogStream;

use super::text::LineBuffer;

/// How many of its last lines are kept for the report on a step that failed.
const TAIL: usize = 40;

/// The output of one step.
pub(super) struct Lines {
    /// Of standard output and standard error, which may come in pieces of lines each.
    buffers: [LineBuffer; 2],
    tail: VecDeque<(Duration, String)>,
}

impl Lines {
    /// Of a step that has printed nothing; with `colour`, the colours of what it prints are kept.
    pub(super) fn new(colour: bool) -> Self {
        Self { buffers: [LineBuffer::new(colour), LineBuffer::new(colour)], tail: VecDeque::new() }
    }

    /// Takes in what was printed at a time since the step began, and yields the lines that it completes.
    pub(super) fn push(&mut self, time: Duration, stream: LogStream, bytes: &[u8]) -> Vec<String> {
        let lines = self.buffers[stream as usize].push(bytes);
        // Of very many at once only the last can stay.
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
            self.keep(time, line);
        }
        lines
    }

    /// The lines that have no end when nothing more will come, in the order of the streams.
    pub(super) fn finish(&mut self, time: Duration) -> Vec<(LogStream, String)> {
        let streams = [LogStream::Stdout, LogStream::Stderr];
        let finished = self.buffers.iter_mut().zip(streams);
        let lines: Vec<_> = finished.filter_map(|(buffer, stream)| Some((stream, buffer.finish()?))).collect();
        for (_, line) in &lines {
            self.keep(time, line);
        }
        lines
    }

    /// The line of a stream that has no end yet.
    pub(super) fn pending(&self, stream: LogStream) -> Option<String> {
        self.buffers[stream as usize].pending()
    }

    /// Whether the line of a stream that has no end yet is written over and over again.
    pub(super) fn is_overwritten(&self, stream: LogStream) -> bool {
        self.buffers[stream as usize].is_overwritten()
    }

    /// The last lines that are complete, each with its time.
    pub(super) fn tail(&self) -> impl DoubleEndedIterator<Item = &(Duration, String)> {
        self.tail.iter()
    }

    /// The last lines as a report shows them.
    pub(super) fn report(&self) -> Vec<String> {
        self.tail().map(|(time, line)| format!("{} {line}", stamp(*time))).collect()
    }

    fn keep(&mut self, time: Duration, line: &str) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back((time, line.to_owned()));
    }
}

/// The time of a line since its step started, in about five characters.
pub(super) fn stamp(time: Duration) -> String {
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

    #[test]
    fn the_tail_is_bounded() {
        let mut lines = Lines::new(false);
        let many: String = (0..1000).map(|line| format!("{line}\n")).collect();
        assert_eq!(lines.push(Duration::ZERO, LogStream::Stdout, many.as_bytes()).len(), 1000);
        lines.push(Duration::from_secs(1), LogStream::Stderr, b"end");
        assert_eq!(lines.report().len(), TAIL);
        assert_eq!(lines.report().last().map(String::as_str), Some("0.000 999"));
        assert_eq!(lines.finish(Duration::from_secs(1)), [(LogStream::Stderr, "end".to_owned())]);
        assert_eq!(lines.report().last().map(String::as_str), Some("1.000 end"));
        assert_eq!(lines.report().len(), TAIL);
    }

    #[test]
    fn times_keep_their_width() {
        let cases = [(0, "0.000"), (9_999, "9.999"), (12_345, "12.35"), (123_456, "123.5")];
        for (milliseconds, expected) in cases {
            assert_eq!(stamp(Duration::from_millis(milliseconds)), expected);
        }
    }
}
