//! Whatever the text, parsing ends, does not panic, every span is one of the text, and what is printed from the
//! instructions says the same again.

mod support;

use kiln_parser::parse;
use proptest::prelude::*;

use support::check;

fn fragments() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "FROM",
            "RUN",
            "COPY",
            "ADD",
            "ENV",
            "ARG",
            "LABEL",
            "CMD",
            "SHELL",
            "VOLUME",
            "EXPOSE",
            "HEALTHCHECK",
            "ONBUILD",
            "ENTRYPOINT",
            "AS",
            "NONE",
            "<<EOF",
            "<<-'EOF'",
            "<<\"a b\"",
            "\nEOF\n",
            "\n\tEOF\n",
            "--from=",
            "--link",
            "--mount=\"",
            "--",
            "[\"",
            "\",\"",
            "\"]",
            "[]",
            "\\u12",
            "\\ud800",
            "\\\n",
            " \\ \n",
            "`\n",
            "# escape=`\n",
            "#syntax=\\\n",
            "# x\n",
            "\r\n",
            "\n",
            "\n\n",
            " ",
            "\t",
            "=",
            "'",
            "\"",
            "\\",
            "$A",
            "é",
            "\u{feff}",
            "\u{a0}",
            "\u{2028}",
            "\0",
            "<<",
            "x",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    prop::collection::vec(fragment, 0..40).prop_map(|fragments| fragments.join(""))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fragments_of_dockerfiles(text in fragments()) {
        check(&text);
    }

    #[test]
    fn any_text(text in "(?s).{0,200}") {
        check(&text);
    }

    /// A continuation is as good as none: breaking a line before a word changes nothing but the spans.
    #[test]
    fn broken_lines_say_the_same(words in prop::collection::vec("[a-z]{1,5}", 2..8), breaks in any::<u16>()) {
        let joined: Vec<String> = words.iter().enumerate().map(|(at, word)| {
            if at > 0 && breaks & (1 << at) != 0 { format!(" \\\n# no\n\n{word}") } else { format!(" {word}") }
        }).collect();
        let values = |text: &str| {
            let parsed = parse(text);
            let kind = &parsed.dockerfile.instructions[0].kind;
            support::words(kind).into_iter().map(|word| word.value.clone()).collect::<Vec<_>>()
        };
        prop_assert_eq!(values(&format!("COPY{}", joined.concat())), values(&format!("COPY {}", words.join(" "))));
    }
}

/// Found by fuzzing: the empty value was said to stand in the lines below its instruction.
#[test]
fn an_empty_value_before_empty_continuations() {
    check("LABEL a=b \"c d\"=\\\r\n\\\r\n");
}

/// Sizes at which anything quadratic or recursive would show.
#[test]
fn large_texts_are_no_trouble() {
    let many = 100_000;
    let texts = [
        "RUN a \\\n".repeat(many),
        format!("COPY {} /x", "a ".repeat(many)),
        format!("COPY {} a /x", "--exclude=a ".repeat(many)),
        format!("RUN [{}\"a\"]", "\"a\",".repeat(many)),
        format!("RUN {}", "[".repeat(many)),
        format!("ENV {}", "a=\"b\" ".repeat(many)),
        format!("RUN {}\n", "<<A ".repeat(1000)) + &"A\n".repeat(1000),
        "RUN <<A\nx\nA\n".repeat(many),
        format!("ONBUILD {}", "ONBUILD ".repeat(many)),
        "R".repeat(10 * many),
        "RUN '".to_owned() + &"\"\\".repeat(many),
        "COPY a \\\n".repeat(many) + "/x",
    ];
    for text in texts {
        check(&text);
    }
}
