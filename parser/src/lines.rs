//! The pre-pass: physical lines become logical ones, with a map from their characters back to the original text.
//!
//! Docker joins lines before it looks at what they say: a line that ends in the escape character goes on in the
//! next one, comments and empty lines between them drop out. The bodies of heredocs are taken off here too.

use std::borrow::Cow;

use crate::annotations::annotation;
use crate::{Span, Word};

/// Reads a text line by line, once, front to back.
pub(crate) struct Lines<'a> {
    text: &'a str,
    position: usize,
    /// What was read and not taken yet of comments that mean something to kiln.
    annotations: Vec<Word>,
}

/// A line after joining.
#[derive(Debug)]
pub(crate) struct LogicalLine<'a> {
    /// The text, without leading white space.
    pub(crate) text: Cow<'a, str>,
    /// Where each piece of `text` begins, there and in the original; sorted.
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    joined: usize,
    original: usize,
}

/// A physical line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhysicalLine<'a> {
    /// Its text without the line end.
    pub(crate) text: &'a str,
    /// Where it begins in the original.
    pub(crate) start: usize,
}

impl<'a> Lines<'a> {
    /// Begins behind a byte order mark.
    pub(crate) fn new(text: &'a str) -> Self {
        let position = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, position, annotations: Vec::new() }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    /// A part of the text as a word.
    pub(crate) fn word(&self, part: &str) -> Word {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        Word::new(part.to_owned(), Span::new(start, start + part.len()))
    }

    /// The next physical line, if there is one.
    pub(crate) fn next_physical(&mut self) -> Option<PhysicalLine<'a>> {
        let line = self.peek_physical()?;
        self.position = match self.text[line.start..].find('\n') {
            Some(length) => line.start + length + 1,
            None => self.text.len(),
        };
        Some(line)
    }

    /// The same without going on.
    pub(crate) fn peek_physical(&self) -> Option<PhysicalLine<'a>> {
        let rest = &self.text[self.position..];
        if rest.is_empty() {
            return None;
        }
        let line = rest.split('\n').next().unwrap_or(rest);
        Some(PhysicalLine { text: line.trim_end_matches('\r'), start: self.position })
    }

    /// The next logical line; comments and empty lines before it are skipped.
    pub(crate) fn next_logical(&mut self, escape: char) -> Option<LogicalLine<'a>> {
        loop {
            let physical = self.next_physical()?;
            let trimmed = physical.text.trim_start();
            if self.is_passed_over(trimmed) {
                continue;
            }
            let start = physical.start + (physical.text.len() - trimmed.len());
            return Some(match continued(trimmed, escape) {
                None => LogicalLine::single(trimmed, start),
                Some(first) => self.join(first, start, escape),
            });
        }
    }

    /// Whether a line is empty or a comment.
    fn is_passed_over(&mut self, line: &'a str) -> bool {
        let Some(comment) = line.strip_prefix('#') else { return line.is_empty() };
        if let Some(annotation) = annotation(comment) {
            self.annotations.push(self.word(annotation));
        }
        true
    }

    /// The annotations in the comments that were passed over since the last call.
    pub(crate) fn take_annotations(&mut self) -> Vec<Word> {
        std::mem::take(&mut self.annotations)
    }

    fn join(&mut self, first: &'a str, start: usize, escape: char) -> LogicalLine<'a> {
        let mut joined = first.to_owned();
        let mut pieces = vec![Piece { joined: 0, original: start }];
        while let Some(next) = self.next_physical() {
            let trimmed = next.text.trim_start();
            if self.is_passed_over(trimmed) {
                continue;
            }
            pieces.push(Piece { joined: joined.len(), original: next.start });
            let Some(more) = continued(next.text, escape) else {
                joined.push_str(next.text);
                break;
            };
            joined.push_str(more);
        }
        LogicalLine { text: Cow::Owned(joined), pieces }
    }

    /// The lines up to one that is just `name` (with tabs before it if `tabs`), which is consumed too. What is left
    /// of the text is consumed and `None` returned if there is no such line.
    pub(crate) fn take_heredoc(&mut self, name: &str, tabs: bool) -> Option<HeredocBody<'a>> {
        let start = self.position;
        while let Some(line) = self.next_physical() {
            let candidate = if tabs { line.text.trim_start_matches('\t') } else { line.text };
            if candidate == name {
                return Some(HeredocBody {
                    content: &self.text[start..line.start],
                    start,
                    end: line.start + line.text.len(),
                });
            }
        }
        None
    }
}

/// The body of a heredoc.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeredocBody<'a> {
    /// Its lines, with their ends.
    pub(crate) content: &'a str,
    /// Where it begins.
    pub(crate) start: usize,
    /// The end of the line with the name.
    pub(crate) end: usize,
}

impl<'a> LogicalLine<'a> {
    fn single(text: &'a str, start: usize) -> Self {
        Self { text: Cow::Borrowed(text), pieces: vec![Piece { joined: 0, original: start }] }
    }

    /// Where a slice of `text` stands in the original.
    pub(crate) fn span_of(&self, part: &str) -> Span {
        // The distance of a slice from the whole is its offset; all parsers hand out slices.
        let start = (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        if start > self.text.len() { self.span(0, 0) } else { self.span(start, start + part.len()) }
    }

    /// Where the bytes `start..end` of `text` stand in the original; nothing stands behind what comes before it.
    fn span(&self, start: usize, end: usize) -> Span {
        let behind = |end: usize| end.checked_sub(1).map_or_else(|| self.original(0), |last| self.original(last) + 1);
        Span::new(if start == end { behind(end) } else { self.original(start) }, behind(end))
    }

    fn original(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|p| p.joined <= offset).saturating_sub(1);
        self.pieces.get(piece).map_or(offset, |p| p.original + (offset - p.joined))
    }
}

/// The line without its continuation mark; `None` if it has none. A mark behind another one is an escaped one.
pub(crate) fn continued(line: &str, escape: char) -> Option<&str> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> Vec<(String, String)> {
        let mut lines = Lines::new(text);
        let mut found = Vec::new();
        while let Some(line) = lines.next_logical('\\') {
            let whole = line.span(0, line.text.len());
            found.push((line.text.clone().into_owned(), text[whole.range()].to_owned()));
        }
        found
    }

    #[test]
    fn comments_and_empty_lines_drop_out_of_a_continuation() {
        let text = "RUN a \\\n# no\n\n  # no \\\n  b\\\n c\nRUN d";
        let lines = logical(text);
        assert_eq!(lines[0].0, "RUN a   b c");
        assert_eq!(lines[0].1, "RUN a \\\n# no\n\n  # no \\\n  b\\\n c");
        assert_eq!(lines[1], ("RUN d".to_owned(), "RUN d".to_owned()));
    }

    #[test]
    fn an_escaped_escape_does_not_continue() {
        assert_eq!(logical("RUN a \\\\\nRUN b").len(), 2);
        assert_eq!(logical("RUN a \\  \t\nRUN b").len(), 1);
        assert_eq!(logical("\\\nRUN b")[0].0, "RUN b");
    }

    #[test]
    fn carriage_returns_and_the_byte_order_mark_are_no_text() {
        let text = "\u{feff}RUN a \\\r\n b\r\nRUN c\r\n";
        let lines = logical(text);
        assert_eq!(lines[0], ("RUN a  b".to_owned(), "RUN a \\\r\n b".to_owned()));
        assert_eq!(lines[1].0, "RUN c");
    }

    /// Found by fuzzing: the empty value of `a=` was said to stand in the continuation lines below.
    #[test]
    fn nothing_at_the_end_stands_in_its_own_line() {
        let text = "RUN é=\\\n\\\n";
        let line = Lines::new(text).next_logical('\\').unwrap();
        let end = line.text.len();
        assert_eq!(line.span(end, end), Span::new("RUN é=".len(), "RUN é=".len()));
        assert_eq!(line.span(0, 0), Span::new(0, 0));
    }

    #[test]
    fn every_offset_maps_back_to_its_own_byte() {
        let text = "  RUN ab\\\n  cd \\\n# x\nef";
        let line = Lines::new(text).next_logical('\\').unwrap();
        for (offset, byte) in line.text.bytes().enumerate() {
            let span = line.span(offset, offset + 1);
            assert_eq!(text.as_bytes()[span.start], byte);
        }
    }
}
