//! Whatever the text, parsing ends, does not panic, and every span is one of the text.

use kiln_parser::{Command, Kind, Parsed, Span, Word, parse};
use proptest::prelude::*;

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

fn words(kind: &Kind) -> Vec<&Word> {
    match kind {
        Kind::From(from) => {
            [Some(&from.image), from.platform.as_ref(), from.name.as_ref()].into_iter().flatten().collect()
        }
        Kind::Copy(copy) | Kind::Add(copy) => {
            copy.sources.iter().chain([&copy.destination]).chain(&copy.exclude).chain(&copy.from).collect()
        }
        Kind::Env(pairs) | Kind::Label(pairs) => pairs.iter().flat_map(|(name, value)| [name, value]).collect(),
        Kind::Arg(list) => list.iter().flat_map(|one| [Some(&one.name), one.default.as_ref()]).flatten().collect(),
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::Run(run) => run.mounts.iter().chain(command(&run.command)).collect(),
        Kind::Cmd(one) | Kind::Entrypoint(one) => command(one).into_iter().collect(),
        Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) | Kind::Maintainer(word) => vec![word],
        Kind::Onbuild(onbuild) => vec![&onbuild.text],
        Kind::Shell(_) | Kind::Healthcheck(_) => Vec::new(),
    }
}

fn command(command: &Command) -> Option<&Word> {
    if let Command::Shell(word) = command { Some(word) } else { None }
}

fn spans(parsed: &Parsed) -> Vec<Span> {
    let mut spans: Vec<Span> = parsed.diagnostics.iter().filter_map(|diagnostic| diagnostic.span).collect();
    for instruction in &parsed.dockerfile.instructions {
        spans.extend([instruction.span, instruction.keyword.span]);
        spans.extend(words(&instruction.kind).into_iter().map(|word| word.span));
        for word in words(&instruction.kind) {
            assert!(instruction.span.start <= word.span.start && word.span.end <= instruction.span.end, "{word:?}");
        }
    }
    spans
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let parsed = parse(text);
    for span in spans(&parsed) {
        prop_assert!(text.get(span.range()).is_some(), "{span:?}");
    }
    prop_assert!(parsed.has_errors() || !parsed.dockerfile.instructions.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn fragments_of_dockerfiles(text in fragments()) {
        check(&text)?;
    }

    #[test]
    fn any_text(text in "(?s).{0,200}") {
        check(&text)?;
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
            self::words(kind).into_iter().map(|word| word.value.clone()).collect::<Vec<_>>()
        };
        prop_assert_eq!(values(&format!("COPY{}", joined.concat())), values(&format!("COPY {}", words.join(" "))));
    }
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
        check(&text).unwrap();
    }
}
