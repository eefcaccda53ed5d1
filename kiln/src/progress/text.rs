//! Makes what a step prints safe to show: whole lines, without anything that moves the cursor, clears the
//! screen, changes the terminal or turns the order of letters around. Colours stay where there are colours.

use crate::human;

/// A line longer than this is broken up, so that a step that never ends its line cannot fill the memory.
const LONGEST_LINE: usize = 16 * 1024;

/// What puts colours off again.
pub(super) const RESET: &str = "\x1b[0m";

/// How far a transfer is.
pub(super) fn transferred(bytes: u64, total: u64) -> String {
    format!("{} / {}", human::size(bytes), human::size(total))
}

/// Gathers bytes until they make a line.
#[derive(Default)]
pub(super) struct LineBuffer {
    bytes: Vec<u8>,
    colour: bool,
}

impl LineBuffer {
    /// An empty one; with `colour`, colours are kept.
    pub(super) fn new(colour: bool) -> Self {
        Self { bytes: Vec::new(), colour }
    }

    /// Takes bytes in and yields the lines that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.bytes.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.bytes.pop();
                lines.extend(self.finish().or(Some(String::new())));
            } else {
                self.shorten(&mut lines);
            }
        }
        lines
    }

    /// What is left when nothing more will come, if there is something.
    pub(super) fn finish(&mut self) -> Option<String> {
        let line = self.pending();
        self.bytes.clear();
        line
    }

    /// How the line that has no end yet looks now.
    pub(super) fn pending(&self) -> Option<String> {
        (!self.bytes.is_empty()).then(|| clean_line(&self.bytes, self.colour))
    }

    /// Whether the line that has no end yet was written over, as progress bars do.
    pub(super) fn is_overwritten(&self) -> bool {
        last_overwrite(&self.bytes).is_some()
    }

    /// Keeps an unfinished line from growing without end: what a carriage return has overwritten goes, the
    /// rest is broken.
    fn shorten(&mut self, lines: &mut Vec<String>) {
        if self.bytes.len() > LONGEST_LINE
            && let Some(start) = last_overwrite(&self.bytes)
        {
            self.bytes.drain(..start);
        }
        while self.bytes.len() > LONGEST_LINE {
            let rest = self.bytes.split_off(character_boundary(&self.bytes, LONGEST_LINE));
            lines.push(clean_line(&self.bytes, self.colour));
            self.bytes = rest;
        }
    }
}

/// The last place at or before `position` that does not split a UTF-8 character.
fn character_boundary(bytes: &[u8], position: usize) -> usize {
    let start = position.saturating_sub(3);
    (start..=position).rev().find(|at| bytes[*at] & 0xc0 != 0x80).unwrap_or(position)
}

/// Where the text begins that was written over everything before it by a carriage return.
fn last_overwrite(line: &[u8]) -> Option<usize> {
    let text = line.iter().rposition(|byte| *byte != b'\r')?;
    line[..text].iter().rposition(|byte| *byte == b'\r').map(|at| at + 1)
}

/// One line as it would look on a terminal in the end: what a carriage return has overwritten is gone.
fn clean_line(line: &[u8], colour: bool) -> String {
    let start = last_overwrite(line).unwrap_or(0);
    clean_output(&String::from_utf8_lossy(&line[start..]), colour)
}

/// The text without control characters other than tabs and without escape sequences.
pub(crate) fn clean(text: &str) -> String {
    clean_output(text, false)
}

/// The text without control characters other than tabs and without escape sequences, but for colours (SGR) where
/// there are any: one that is left on is put off at the end.
fn clean_output(text: &str, colour: bool) -> String {
    if !text.chars().any(|letter| is_control(letter) || is_reordering(letter)) {
        return text.to_owned();
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        rest = match letter {
            '\x1b' => {
                let (sequence, after) = escape_sequence(after);
                if let Some(sequence) = sequence.filter(|_| colour) {
                    cleaned.push('\x1b');
                    cleaned.push_str(sequence);
                    coloured = !matches!(sequence, "[m" | "[0m");
                }
                after
            }
            letter if is_control(letter) => after,
            letter => {
                cleaned.push(if is_reordering(letter) { char::REPLACEMENT_CHARACTER } else { letter });
                after
            }
        };
    }
    if coloured {
        cleaned.push_str(RESET);
    }
    cleaned
}

fn is_control(letter: char) -> bool {
    letter.is_control() && letter != '\t'
}

/// Whether a letter makes others appear in another order, or on another line (Unicode TR 9, TR 36).
fn is_reordering(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Splits what follows an ESC into the sequence, if it is one that sets colours, and the text behind it.
fn escape_sequence(text: &str) -> (Option<&str>, &str) {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'[') => {
            let parameters = bytes[1..].iter().take_while(|byte| matches!(byte, 0x20..=0x3f)).count();
            match bytes.get(1 + parameters) {
                Some(0x40..=0x7e) => {
                    let (sequence, rest) = text.split_at(2 + parameters);
                    let inner = &bytes[1..=parameters];
                    let colour = sequence.ends_with('m')
                        && inner.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'));
                    (colour.then_some(sequence), rest)
                }
                _ => (None, &text[1 + parameters..]),
            }
        }
        // Operating system commands and their kin (titles, links, the clipboard) end with BEL or ESC \.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => match text.find(['\x07', '\x1b', '\u{9c}']) {
            Some(end) if text[end..].starts_with("\x1b\\") => (None, &text[end + 2..]),
            Some(end) if text[end..].starts_with('\x1b') => (None, &text[end..]),
            Some(end) => (None, &text[end + text[end..].chars().next().map_or(0, char::len_utf8)..]),
            None => (None, ""),
        },
        Some(0x20..=0x2f) => {
            let intermediates = bytes.iter().take_while(|byte| matches!(byte, 0x20..=0x2f)).count();
            (None, text.get(intermediates + 1..).unwrap_or(""))
        }
        Some(0x30..=0x7e) => (None, &text[1..]),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole() {
        let mut buffer = LineBuffer::default();
        assert_eq!(buffer.push(b"one\ntw"), ["one"]);
        assert_eq!(buffer.push(b"o\n\nthree"), ["two", ""]);
        assert_eq!(buffer.finish().as_deref(), Some("three"));
        assert_eq!(buffer.finish(), None);
    }

    #[test]
    fn a_line_without_end_is_broken() {
        let mut buffer = LineBuffer::default();
        let lines = buffer.push("é".repeat(LONGEST_LINE).as_bytes());
        assert_eq!(lines.iter().map(String::len).sum::<usize>(), LONGEST_LINE);
        assert!(lines.iter().all(|line| !line.contains('\u{fffd}')));
    }

    #[test]
    fn a_log_without_lines_takes_little_memory() {
        let mut buffer = LineBuffer::default();
        let chunk = vec![b'x'; 64 << 10];
        for _ in 0..256 {
            let lines = buffer.push(&chunk);
            assert!(lines.iter().map(String::len).sum::<usize>() <= chunk.len() + LONGEST_LINE);
            assert!(buffer.bytes.len() <= LONGEST_LINE);
        }
        assert!(buffer.bytes.capacity() < 512 << 10, "{}", buffer.bytes.capacity());
    }

    #[test]
    fn progress_drawn_over_itself_does_not_pile_up() {
        let mut buffer = LineBuffer::default();
        for percent in 0..100_000 {
            assert!(buffer.push(format!("{percent} done\r").as_bytes()).is_empty());
        }
        assert_eq!(buffer.push(b"\n"), ["99999 done"]);
    }

    #[test]
    fn carriage_returns_leave_the_last_state() {
        let mut buffer = LineBuffer::default();
        assert_eq!(buffer.push(b"10%\r50%\r100%\ndos\r\n\r\nend\r\r\n"), ["100%", "dos", "", "end"]);
    }

    #[test]
    fn only_colours_survive() {
        let cases = [
            ("plain\ttext", "plain\ttext"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            ("\x1b[1;38;5;200mopen", "\x1b[1;38;5;200mopen\x1b[0m"),
            ("a\x1b[2Jb\x1b[10;20Hc\x1b[?25ld", "abcd"),
            ("\x1b[?1m\x1b[>4;1mx", "x"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]52;c;ZWNobw==\x1b\\text", "text"),
            ("\x1b]8;;http://x\x1b[31mred", "\x1b[31mred\x1b[0m"),
            ("\x1bPdevice", ""),
            ("bell\x07 back\x08space \x7f \u{9b}31m", "bell backspace  31m"),
            ("\x1bcreset \x1b(Bcharset", "reset charset"),
            ("end\x1b", "end"),
            ("end\x1b[", "end"),
            ("end\x1b[31", "end"),
            ("\x1bé", "é"),
        ];
        for (text, expected) in cases {
            assert_eq!(clean_output(text, true), expected, "{text:?}");
            assert!(!clean(text).contains('\x1b'), "{text:?}");
        }
        assert_eq!(clean("\x1b[1;31mred\x1b[0m"), "red");
    }

    #[test]
    fn letters_cannot_change_places() {
        assert_eq!(clean("if \u{202e}}\u{2066}x"), "if \u{fffd}}\u{fffd}x");
        assert_eq!(clean("a\u{2028}b\u{200f}"), "a\u{fffd}b\u{fffd}");
        assert_eq!(
            clean("\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f468}\u{200d}\u{1f469}"),
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f468}\u{200d}\u{1f469}"
        );
    }

    /// Nothing that a step prints, however it is cut, leaves anything but colours and text.
    #[test]
    fn no_bytes_get_through() {
        let mut state = 0x9e37_79b9_u32;
        let mut buffer = LineBuffer::new(true);
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *b"\x1b\x1b\x1b[]P_\\;0?>m2JHh\x07\x9b\xc2\x9c\x00\r\n\t\xe2\x80\xae a"
                        .get(state as usize >> 27)
                        .unwrap_or(&b'x')
                })
                .collect();
            for line in buffer.push(&bytes).into_iter().chain(buffer.pending()) {
                let is_text = |letter: char| !is_reordering(letter) && (!is_control(letter) || letter == '\x1b');
                assert!(line.chars().all(is_text), "{line:?}");
                for sequence in line.split('\x1b').skip(1) {
                    let end = sequence.find('m').unwrap();
                    assert!(sequence[1..end].bytes().all(|byte| byte.is_ascii_digit() || b";:".contains(&byte)));
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        assert_eq!(LineBuffer::default().push(b"a\xffb\n"), ["a\u{fffd}b"]);
    }
}
