//! Shows what there is to say about a Dockerfile under the lines concerned.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use kiln_frontend::checks::rule;
use kiln_parser::{Diagnostic, Severity, Span};

use crate::progress::clean;

/// How many lines are shown before and behind the ones concerned.
const AROUND: usize = 2;

/// A Dockerfile and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// As people know it.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) text: String,
}

/// All of these, one after the other.
pub(crate) fn render(diagnostics: &[Diagnostic], file: &SourceFile, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let lines = Lines::of(&file.text);
    let one = |diagnostic| render_one(diagnostic, file, &lines, &renderer);
    let rendered: Vec<_> = diagnostics.iter().map(one).collect();
    rendered.join("\n")
}

/// A finding without its level, for under a heading of its own.
pub(crate) fn render_bare(diagnostic: &Diagnostic, file: &SourceFile, lines: &Lines) -> String {
    render_titled(diagnostic, Level::WARNING.no_name(), file, lines, &Renderer::plain())
}

/// Where the lines of a text begin, so that finding many places in a long text takes no time.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    /// Those of this text.
    pub(crate) fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The number of the line that an offset is in, counted from 1.
    pub(crate) fn number(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// Where that line begins.
    pub(crate) fn start(&self, offset: usize) -> usize {
        self.0.get(self.number(offset).saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// A list with a line for each warning, so that the output of a build is not drowned.
pub(crate) fn list(warnings: &[Diagnostic], file: &SourceFile) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let has_rules = warnings.iter().any(|warning| warning.code.is_some_and(|code| rule(code).is_some()));
    let more = if has_rules { " (`kiln build --check` explains them)" } else { "" };
    let mut text = format!("\n{} found{more}:\n", count(warnings.len(), "warning"));
    let lines = Lines::of(&file.text);
    for warning in warnings {
        let rule = warning.code.filter(|code| rule(code).is_some());
        let name = rule.map(|name| format!("{name}: ")).unwrap_or_default();
        let place = warning.span.map(|span| format!(" (line {})", lines.number(span.start))).unwrap_or_default();
        text.push_str(&format!(" - {name}{}{place}\n", one_line(&warning.message)));
        if let (Some(hint), None) = (&warning.hint, rule) {
            text.push_str(&format!("   hint: {}\n", one_line(hint)));
        }
    }
    text
}

/// A number of things: `1 warning`, `2 warnings`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn render_one(diagnostic: &Diagnostic, file: &SourceFile, lines: &Lines, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    render_titled(diagnostic, level, file, lines, renderer)
}

fn render_titled(
    diagnostic: &Diagnostic,
    level: Level<'_>,
    file: &SourceFile,
    lines: &Lines,
    renderer: &Renderer,
) -> String {
    // What may help is printed on lines of its own.
    let mut parts = diagnostic.message.split("\nhint: ");
    let message = one_line(parts.next().unwrap_or_default());
    let name = clean(&file.name);
    let mut text = match diagnostic.span {
        Some(span) => {
            let label = diagnostic.label.as_deref().map(one_line);
            let shown = Excerpt::new(span, &file.text, lines);
            let around = shown.around.map(|range| AnnotationKind::Visible.span(range));
            let snippet = Snippet::source(shown.text)
                .line_start(shown.first_line)
                .path(name)
                .annotation(AnnotationKind::Primary.span(shown.marked).label(label))
                .annotations(around);
            renderer.render(&[level.primary_title(message).element(snippet)])
        }
        None => renderer.render(&[Group::with_title(level.primary_title(format!("{name}: {message}")))]),
    };
    text.push('\n');
    for hint in parts.chain(diagnostic.hint.as_deref()) {
        text.push_str(&format!("hint: {}\n", one_line(hint)));
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join(" ")
}

/// The lines of a span and those around it: showing a few lines of a long file does not take reading all of it.
struct Excerpt<'t> {
    text: &'t str,
    /// The number of its first line, counted from 1.
    first_line: usize,
    /// The span, in bytes of the excerpt.
    marked: Range<usize>,
    /// The lines before and behind, in bytes of the excerpt.
    around: [Range<usize>; 2],
}

impl<'t> Excerpt<'t> {
    fn new(span: Span, text: &'t str, lines: &Lines) -> Self {
        let marked = inside(span, text);
        let (before, behind) = text.split_at(marked.start);
        let first = before.rfind('\n').map_or(0, |at| at + 1);
        let last = behind.get(marked.len()..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| marked.end + at);
        let lines_before = before.get(..first.saturating_sub(1)).unwrap_or_default();
        let start =
            if first == 0 { 0 } else { lines_before.rmatch_indices('\n').nth(AROUND - 1).map_or(0, |(at, _)| at + 1) };
        let rest = text.get(last..).unwrap_or_default();
        let end = rest
            .match_indices('\n')
            .nth(AROUND)
            .map_or(text.trim_end_matches('\n').len().max(last), |(at, _)| last + at);
        let move_to = |range: Range<usize>| range.start - start..range.end.max(range.start) - start;
        Self {
            text: text.get(start..end).unwrap_or_default(),
            first_line: lines.number(start),
            marked: move_to(marked),
            around: [move_to(start..first), move_to(last..end)],
        }
    }
}

/// The part of a span that is in the text, on character boundaries and without the end of its last line.
fn inside(span: Span, text: &str) -> Range<usize> {
    let boundary = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (boundary(span.start), boundary(span.end));
    let marked = text.get(start..end).unwrap_or_default();
    start..start + marked.trim_end_matches(['\n', '\r']).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile { name: "deploy/Dockerfile".to_owned(), text: text.to_owned() }
    }

    fn diagnostic(text: &str, part: &str) -> Diagnostic {
        let start = text.find(part).unwrap();
        Diagnostic::error(format!("unknown instruction `{part}`")).at(Span::new(start, start + part.len()))
    }

    #[test]
    fn the_place_is_shown() {
        let text = "FROM debian\nRUNN make \\\n  all\nCMD [\"x\"]\n";
        let first = diagnostic(text, "RUNN").label("not an instruction").hint("did you mean `RUN`?");
        let second = Diagnostic::warning("nothing sets `USER`");
        let third = diagnostic(text, "make \\\n  all");
        let shown = render(&[first, second, third], &file(text), false);
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn warnings_are_listed() {
        let text = "FROM debian\nRUN $x\nMAINTAINER me\n";
        let mut rule = diagnostic(text, "MAINTAINER").code("MaintainerDeprecated").hint("write a `LABEL`");
        rule.severity = Severity::Warning;
        let other = Diagnostic::warning("nothing uses `x`").hint("leave it out");
        assert_eq!(
            list(&[rule, other], &file(text)),
            "\n2 warnings found (`kiln build --check` explains them):\n - MaintainerDeprecated: unknown instruction \
             `MAINTAINER` (line 3)\n - nothing uses `x`\n   hint: leave it out\n"
        );
        assert_eq!(list(&[], &file(text)), "");
    }

    #[test]
    fn spans_that_do_not_fit_are_no_danger() {
        let text = "FROM é\n";
        for (start, end) in [(0, 100), (100, 200), (6, 7), (5, 6), (7, 3), (8, 8)] {
            let diagnostic = Diagnostic::error("x").at(Span { start, end });
            assert!(render(&[diagnostic], &file(text), false).starts_with("error: x"));
        }
        let diagnostic = Diagnostic::error("x").at(Span { start: 0, end: 3 });
        assert!(render(&[diagnostic], &file(""), false).starts_with("error: x"));
    }

    #[test]
    fn an_excerpt_has_the_lines_around() {
        let text = "a\n\né\r\nbb\n\nccc\nd\n\n";
        for start in 0..=text.len() {
            for end in start..=text.len() {
                let shown = Excerpt::new(Span::new(start, end), text, &Lines::of(text));
                let marked = inside(Span::new(start, end), text);
                assert_eq!(shown.text.get(shown.marked.clone()), text.get(marked.clone()), "{start}..{end}");
                let lines = text[marked.clone()].lines().count().max(1);
                assert!(shown.text.lines().count() <= lines + 2 * AROUND + 1, "{start}..{end}");
                render(&[Diagnostic::error("x").at(Span::new(start, end))], &file(text), false);
            }
        }
        let shown = Excerpt::new(Span::new(8, 9), text, &Lines::of(text));
        assert_eq!((shown.text, shown.first_line), ("\né\r\nbb\n\nccc", 2));
    }

    #[test]
    fn terminals_are_safe_from_dockerfiles() {
        let text = "RUN \x1b[2J\n";
        let shown = render(&[diagnostic(text, "\x1b[2J")], &file(text), false);
        assert!(!shown.contains('\x1b'));
    }
}
