//! The instructions, one function each (the larger ones in a file each): from a [`Statement`] to a [`Kind`]. `None`
//! means that nothing could be made of it; then an error tells why.

mod copy;
mod from;
mod healthcheck;
mod onbuild;
mod pairs;
mod run;

use crate::keyword::Keyword;
use crate::statement::Statement;
use crate::words::blank_words;
use crate::{Diagnostic, Kind, Word};

/// Parses one instruction.
pub(crate) fn parse(statement: &mut Statement<'_>) -> Option<Kind> {
    match statement.keyword {
        Keyword::From => from::parse(statement),
        Keyword::Run => run::parse(statement),
        Keyword::Copy => copy::parse(statement).map(Kind::Copy),
        Keyword::Add => copy::parse(statement).map(Kind::Add),
        Keyword::Healthcheck => healthcheck::parse(statement),
        Keyword::Onbuild => onbuild::parse(statement),
        _ => without_flags(statement),
    }
}

fn without_flags(statement: &mut Statement<'_>) -> Option<Kind> {
    statement.flags();
    match statement.keyword {
        Keyword::Env => pairs::parse(statement).map(Kind::Env),
        Keyword::Label => pairs::parse(statement).map(Kind::Label),
        Keyword::Arg => pairs::arguments(statement).map(Kind::Arg),
        Keyword::Workdir => statement.body_word("a path").map(Kind::Workdir),
        Keyword::User => statement.body_word("a user").map(Kind::User),
        Keyword::Stopsignal => statement.body_word("a signal").map(Kind::Stopsignal),
        Keyword::Maintainer => statement.body_word("a name").map(Kind::Maintainer),
        Keyword::Expose => expose(statement),
        Keyword::Volume => volume(statement),
        Keyword::Entrypoint => run::command(statement).map(Kind::Entrypoint),
        Keyword::Cmd => run::command(statement).map(Kind::Cmd),
        Keyword::Shell => run::shell(statement),
        Keyword::From | Keyword::Run | Keyword::Copy | Keyword::Add | Keyword::Healthcheck | Keyword::Onbuild => None,
    }
}

fn expose(statement: &mut Statement<'_>) -> Option<Kind> {
    statement.body_word("at least one port")?;
    Some(Kind::Expose(blank_words(statement.body).into_iter().map(|port| statement.word(port)).collect()))
}

fn volume(statement: &mut Statement<'_>) -> Option<Kind> {
    statement.body_word("at least one path")?;
    let paths = list(statement)?;
    if paths.is_empty() {
        statement.missing("at least one path");
        return None;
    }
    if let Some(blank) = paths.iter().find(|path| path.value.trim().is_empty()) {
        statement.tell(Diagnostic::error("a volume cannot be the empty string").at(blank.span).code("empty-name"));
        return None;
    }
    let trimmed = paths.into_iter().map(|path| Word::new(path.value.trim().to_owned(), path.span));
    Some(Kind::Volume(trimmed.collect()))
}

/// The body as a list: a JSON array of strings, else words between white space.
fn list(statement: &mut Statement<'_>) -> Option<Vec<Word>> {
    let body = statement.body;
    Some(match statement.strings(body).ok()? {
        Some(strings) => {
            strings.into_iter().map(|(decoded, written)| Word::new(decoded, statement.span(written))).collect()
        }
        None => blank_words(body).into_iter().map(|word| statement.word(word)).collect(),
    })
}
