//! Variables, one `NAME=value` a line, and behind an empty line a word: expansion ends without a panic, and small
//! words give what the plain reference of the tests gives.

#![no_main]

#[path = "../../src/expand_reference.rs"]
mod reference;

use kiln_parser::expand::{expand, expand_heredoc, expand_words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (variables, word) = text.split_once("\n\n").unwrap_or(("", text));
    let lookup = |name: &str| {
        let entries = variables.lines().filter_map(|line| line.split_once('='));
        entries.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).next()
    };
    let expanded = expand(word, '\\', &lookup).map(|expanded| expanded.value);
    if is_quick(variables, word) {
        assert_eq!(expanded.as_ref().ok(), reference::expanded_slowly(word, &lookup).as_ref(), "{word:?}");
    }
    let words = expand_words(word, '\\', &lookup).map(|expanded| expanded.words.concat());
    assert_eq!(words.is_ok(), expanded.is_ok());
    if let (Ok(words), Ok(value)) = (words, expanded) {
        let squeezed = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(squeezed(&words), squeezed(&value));
    }
    let _ = expand(word, '`', &lookup);
    let _ = expand_heredoc(word, &lookup);
});

/// Whether the reference, which tries everything, comes to an end.
fn is_quick(variables: &str, word: &str) -> bool {
    let count = |text: &str, wanted| text.matches(wanted).count();
    let stars = count(word, '*') + count(variables, '*') * count(word, '$');
    word.len() <= 64 && variables.len() <= 64 && stars <= 6 && word.matches("//").count() <= 3
}
