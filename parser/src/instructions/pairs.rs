//! `ENV`, `LABEL` and `ARG`: names and values.

use crate::statement::Statement;
use crate::words::split_first;
use crate::{ArgDeclaration, Word};

/// `name=value …`, or the older `name value` with the rest of the line as the value.
pub(super) fn parse(statement: &mut Statement<'_>) -> Option<Vec<(Word, Word)>> {
    let words = statement.quoted_words();
    let Some(first) = words.first() else {
        statement.missing("a name and a value");
        return None;
    };
    if !first.contains('=') {
        return single(statement);
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in words {
        match word.split_once('=') {
            Some(("", _)) => blank_name(statement, word),
            Some((name, value)) => pairs.push((statement.word(name), statement.word(value))),
            None => {
                let problem = statement.error(word, format!("`{word}` has no value"), "missing-value");
                let hint = "a value with spaces needs quotes: `name=\"a b\"`";
                statement.tell(problem.label("expected `name=value`").hint(hint));
            }
        }
    }
    (!pairs.is_empty()).then_some(pairs)
}

fn single(statement: &mut Statement<'_>) -> Option<Vec<(Word, Word)>> {
    let (name, value) = split_first(statement.body);
    if value.is_empty() {
        let keyword = statement.keyword.name();
        let problem = statement.error(name, format!("`{name}` has no value"), "missing-value");
        let hint = format!("for an empty value write `{keyword} {name}=`");
        statement.tell(problem.label("expected `name=value`").hint(hint));
        return None;
    }
    Some(vec![(statement.word(name), statement.word(value))])
}

fn blank_name(statement: &mut Statement<'_>, word: &str) {
    let message = format!("a name of `{}` cannot be empty", statement.keyword.name());
    statement.tell(statement.error(word, message, "empty-name").label("no name before `=`"));
}

/// `ARG name[=default] …`
pub(super) fn arguments(statement: &mut Statement<'_>) -> Option<Vec<ArgDeclaration>> {
    let words = statement.quoted_words();
    if words.is_empty() {
        statement.missing("a name");
        return None;
    }
    let mut declarations = Vec::with_capacity(words.len());
    for word in words {
        match word.split_once('=') {
            Some(("", _)) => blank_name(statement, word),
            Some((name, default)) => {
                declarations.push(ArgDeclaration { name: statement.word(name), default: Some(statement.word(default)) })
            }
            None => declarations.push(ArgDeclaration { name: statement.word(word), default: None }),
        }
    }
    (!declarations.is_empty()).then_some(declarations)
}
