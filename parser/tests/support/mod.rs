//! What has to hold for whatever text is parsed; for the property tests and the fuzz targets.

mod print;

use kiln_parser::{Command, Copy, Healthcheck, Instruction, Kind, Parsed, Run, Span, Word, parse};

pub(crate) use print::print;

/// Checks everything that has to hold for `text`.
///
/// # Panics
/// If something does not.
pub(crate) fn check(text: &str) {
    let parsed = parse(text);
    check_spans(text, &parsed);
    assert!(
        parsed.has_errors() || !parsed.dockerfile.instructions.is_empty(),
        "nothing came of it, and nobody said so"
    );
    check_round_trip(&parsed);
}

/// Every span is one of the text, on the boundaries of characters, and in the span of its instruction.
fn check_spans(text: &str, parsed: &Parsed) {
    let directives = &parsed.dockerfile.directives;
    let spans = parsed.diagnostics.iter().filter_map(|diagnostic| diagnostic.span);
    for span in spans.chain([&directives.syntax, &directives.check].into_iter().flatten().map(|word| word.span)) {
        assert!(text.get(span.range()).is_some(), "{span:?}");
    }
    let mut end = 0;
    for instruction in &parsed.dockerfile.instructions {
        let whole = instruction.span;
        assert!(end <= whole.start, "{whole:?} begins before the end of the one before it");
        end = whole.end;
        for span in spans_of(instruction) {
            assert!(text.get(span.range()).is_some(), "{span:?}");
            assert!(whole.start <= span.start && span.end <= whole.end, "{span:?} in {whole:?}");
        }
    }
}

/// What was printed says the same: no more and no less, spans apart.
fn check_round_trip(parsed: &Parsed) {
    let printed = print(&parsed.dockerfile);
    let again = parse(&printed);
    assert_eq!(without_spans(&again.dockerfile), without_spans(&parsed.dockerfile), "printed as {printed:?}");
    let came_to_nothing = again.dockerfile.instructions.is_empty();
    assert!(parsed.has_errors() || came_to_nothing || !again.has_errors(), "{:?} in {printed:?}", again.diagnostics);
}

/// The value as `{:?}` shows it, every span left out.
pub(crate) fn without_spans(value: &impl std::fmt::Debug) -> String {
    let shown = format!("{value:?}");
    let mut kept = String::with_capacity(shown.len());
    for (at, piece) in shown.split("Span { start: ").enumerate() {
        let piece = if at == 0 { piece } else { piece.split_once('}').map_or(piece, |(_, rest)| rest) };
        kept.push_str(piece);
    }
    kept
}

fn spans_of(instruction: &Instruction) -> Vec<Span> {
    let mut spans = vec![instruction.span, instruction.keyword.span];
    spans.extend(words(&instruction.kind).into_iter().map(|word| word.span));
    match &instruction.kind {
        Kind::Run(Run { heredocs, .. }) | Kind::Copy(Copy { heredocs, .. }) | Kind::Add(Copy { heredocs, .. }) => {
            spans.extend(heredocs.iter().map(|heredoc| heredoc.span));
        }
        _ => {}
    }
    if let Some(Command::Exec(_, span)) = command_of(&instruction.kind) {
        spans.push(*span);
    }
    spans
}

/// The words of an instruction.
pub(crate) fn words(kind: &Kind) -> Vec<&Word> {
    let mut words = match kind {
        Kind::From(from) => vec![Some(&from.image), from.platform.as_ref(), from.name.as_ref()],
        Kind::Run(run) => {
            let flags = [run.network.as_ref(), run.security.as_ref()];
            flags.into_iter().chain(run.mounts.iter().chain(&run.devices).map(Some)).collect()
        }
        Kind::Copy(copy) | Kind::Add(copy) => {
            let flags = [&copy.from, &copy.chown, &copy.chmod, &copy.checksum].map(Option::as_ref);
            let lists = copy.exclude.iter().chain(&copy.sources).chain([&copy.destination]);
            flags.into_iter().chain(lists.map(Some)).collect()
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.iter().flat_map(|(name, value)| [Some(name), Some(value)]).collect()
        }
        Kind::Arg(list) => list.iter().flat_map(|one| [Some(&one.name), one.default.as_ref()]).collect(),
        Kind::Expose(words) | Kind::Volume(words) => words.iter().map(Some).collect(),
        Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) | Kind::Maintainer(word) => vec![Some(word)],
        Kind::Onbuild(onbuild) => vec![Some(&onbuild.text)],
        Kind::Healthcheck(Healthcheck::Cmd { interval, timeout, start_period, start_interval, retries, .. }) => {
            [interval, timeout, start_period, start_interval, retries].map(Option::as_ref).to_vec()
        }
        Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Shell(_) | Kind::Healthcheck(Healthcheck::None) => Vec::new(),
    };
    if let Some(Command::Shell(word)) = command_of(kind) {
        words.push(Some(word));
    }
    words.into_iter().flatten().collect()
}

fn command_of(kind: &Kind) -> Option<&Command> {
    match kind {
        Kind::Run(Run { command, .. })
        | Kind::Cmd(command)
        | Kind::Entrypoint(command)
        | Kind::Healthcheck(Healthcheck::Cmd { command, .. }) => Some(command),
        _ => None,
    }
}
