//! A whole Dockerfile: line by line, each instruction on its own, so that an error in one hides none in the next.

use crate::keyword::Keyword;
use crate::lines::{Lines, LogicalLine};
use crate::statement::Statement;
use crate::words::split_first;
use crate::{
    Annotations, Diagnostic, Dockerfile, Heredoc, Instruction, Parsed, Span, Word, annotations, directives, heredoc,
    instructions,
};

/// Parses a Dockerfile.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut lines = Lines::new(text);
    let mut diagnostics = Vec::new();
    let directives = directives::parse(&mut lines, &mut diagnostics);
    let escape = directives.escape;
    let mut found = Vec::new();
    let mut empty = true;
    while let Some(line) = lines.next_logical(escape) {
        if line.text.trim().is_empty() {
            continue;
        }
        empty = false;
        let annotations = lines.take_annotations();
        let mut instruction = instruction(&line, &mut lines, escape, &mut diagnostics);
        annotations::attach(text, annotations, instruction.as_mut(), &mut diagnostics);
        found.extend(instruction);
    }
    annotations::refuse(&lines.take_annotations(), &mut diagnostics);
    if empty {
        diagnostics.push(
            Diagnostic::error("the Dockerfile has no instructions")
                .hint("the first one is usually `FROM image`")
                .code("empty-dockerfile"),
        );
    }
    Parsed { dockerfile: Dockerfile { directives, instructions: found }, diagnostics }
}

fn instruction(
    line: &LogicalLine<'_>,
    lines: &mut Lines<'_>,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    let text = line.text.trim();
    let typed = split_first(text).0;
    let Some(keyword) = Keyword::find(typed) else {
        diagnostics.push(unknown(typed, line));
        return None;
    };
    let mut statement = Statement::new(keyword, text, line, escape);
    let start = statement.span(typed).start;
    let mut end = statement.span(text).end;
    let mut complete = true;
    if text.contains("<<") && statement.takes_heredocs() {
        complete = take_heredocs(&mut statement, text, lines, &mut end);
    }
    let kind = instructions::parse(&mut statement).filter(|_| complete);
    let keyword = Word::new(typed.to_owned(), statement.span(typed));
    diagnostics.append(&mut statement.diagnostics);
    Some(Instruction {
        span: Span::new(start, end),
        keyword,
        kind: kind?,
        text: text.to_owned(),
        annotations: Annotations::default(),
    })
}

/// Takes the bodies behind the line and moves `end` behind them. Whether all of them end.
fn take_heredocs(statement: &mut Statement<'_>, text: &str, lines: &mut Lines<'_>, end: &mut usize) -> bool {
    for (opening, from, to) in heredoc::openings(text) {
        let Some(body) = lines.take_heredoc(&opening.name, opening.chomp) else {
            let name = &opening.name;
            let problem =
                statement.error(&text[from..to], format!("the heredoc `{name}` does not end"), "unterminated-heredoc");
            let hint = format!("it ends at a line that is just `{name}`, without white space around it");
            statement.tell(problem.label("begins here").hint(hint));
            return false;
        };
        *end = body.end;
        statement.heredocs.push(Heredoc {
            name: opening.name,
            content: body.content.to_owned(),
            expand: opening.expand,
            chomp: opening.chomp,
            span: Span::new(body.start, body.start + body.content.len()),
        });
    }
    true
}

fn unknown(typed: &str, line: &LogicalLine<'_>) -> Diagnostic {
    // Shown whole, a line that was never meant to be a Dockerfile would drown the message.
    const SHOWN: usize = 40;
    let shown = match typed.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &typed[..at]),
        None => typed.to_owned(),
    };
    let problem = Diagnostic::error(format!("unknown instruction `{shown}`"))
        .at(line.span_of(typed))
        .label("unknown instruction")
        .code("unknown-instruction");
    match Keyword::nearest(typed) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem,
    }
}
