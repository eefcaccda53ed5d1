//! Any text: parsing ends without a panic, every span is one of the text, and what is printed from the instructions
//! says the same again.

#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

use kiln_parser::{comments_above, empty_continuation_lines, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    support::check(text);
    let dockerfile = parse(text).dockerfile;
    for instruction in &dockerfile.instructions {
        for comment in comments_above(text, instruction) {
            assert_eq!(text.get(comment.span.range()), Some(comment.value.as_str()));
        }
        for line in empty_continuation_lines(text, instruction, dockerfile.directives.escape) {
            assert_eq!(text.get(line.range()).map(str::trim), Some(""));
        }
    }
});
