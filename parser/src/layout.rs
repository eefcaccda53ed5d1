//! What a text says around and inside of instructions and the [syntax tree](crate::ast) leaves out: comments above
//! an instruction, and empty lines inside of a continued one.

use crate::lines::continued;
use crate::{Instruction, Span, Word};

/// The comments on the lines right above an instruction, from top to bottom: without their `#` and the white space
/// around them. An empty line between two comments, or between them and the instruction, separates them.
pub fn comments_above(text: &str, instruction: &Instruction) -> Vec<Word> {
    comments_before(text, instruction.span.start)
}

/// The same of an instruction that begins at `start`.
pub(crate) fn comments_before(text: &str, start: usize) -> Vec<Word> {
    let mut above = text.get(..start).unwrap_or_default();
    // What is left of the instruction's own line is white space.
    above = above.trim_end_matches([' ', '\t']);
    let mut comments = Vec::new();
    while let Some(before) = above.strip_suffix('\n') {
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.get(start..).unwrap_or_default().trim_start_matches('\u{feff}');
        let Some(comment) = line.trim_start().strip_prefix('#') else { break };
        let comment = comment.trim();
        // The distance of a slice from the whole is its offset.
        let at = (comment.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        comments.push(Word::new(comment.to_owned(), Span::new(at, at + comment.len())));
        above = above.get(..start).unwrap_or_default();
    }
    comments.reverse();
    comments
}

/// The empty lines between the lines of a continued instruction, heredocs not included. Docker joins over them and
/// says that this will become an error. `escape` is the Dockerfile's escape character.
pub fn empty_continuation_lines(text: &str, instruction: &Instruction, escape: char) -> Vec<Span> {
    let mut found = Vec::new();
    let mut start = instruction.span.start;
    let mut is_first = true;
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let length = rest.find('\n').unwrap_or(rest.len());
        let line = rest.get(..length).unwrap_or_default().trim_end_matches('\r');
        let trimmed = line.trim();
        if !is_first && trimmed.is_empty() {
            found.push(Span::new(start, start + line.len()));
        } else if !trimmed.starts_with('#') && continued(line, escape).is_none() {
            break;
        }
        is_first = false;
        start += length + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comments(text: &str) -> Vec<Vec<String>> {
        let parsed = crate::parse(text);
        let above = |instruction: &Instruction| {
            let words = comments_above(text, instruction);
            for word in &words {
                assert_eq!(&text[word.span.range()], word.value);
            }
            words.into_iter().map(|word| word.value).collect()
        };
        parsed.dockerfile.instructions.iter().map(above).collect()
    }

    #[test]
    fn comments_belong_to_the_instruction_below() {
        let text =
            "\u{feff}# one\n\n# two\r\n  #three \nFROM x\nRUN a\n# four\n\nRUN b \\\n# inside\n c\n  #\n  RUN d\n";
        let expected: [&[&str]; 4] = [&["two", "three"], &[], &[], &[""]];
        assert_eq!(comments(text), expected);
        assert_eq!(comments("# first\nFROM x"), [["first"]]);
    }

    #[test]
    fn a_heredoc_is_no_comment() {
        let found = comments("FROM x\nRUN <<E\n# a\nE\nRUN b\n");
        assert!(found.iter().all(Vec::is_empty), "{found:?}");
    }

    fn empty_lines(text: &str) -> Vec<usize> {
        let parsed = crate::parse(text);
        let spans = parsed.dockerfile.instructions.iter().flat_map(|one| empty_continuation_lines(text, one, '\\'));
        spans.map(|span| text[..span.start].matches('\n').count() + 1).collect()
    }

    #[test]
    fn empty_lines_inside_are_found() {
        assert_eq!(empty_lines("FROM x\nRUN a \\\n\n  \t\n# no\n b\n\nRUN c\n"), [3, 4]);
        assert_eq!(empty_lines("FROM x\nRUN a \\\r\n\r\n b\r\n"), [3]);
        assert_eq!(empty_lines("FROM x\nRUN a \\\n"), [0_usize; 0]);
        assert_eq!(empty_lines("FROM x\nRUN a \\\n\n"), [3]);
        assert_eq!(empty_lines("FROM x\nRUN cat <<E\n\nE\n"), [0_usize; 0]);
    }
}
