//! `FROM [--platform=platform] image [AS name]`

use crate::statement::Statement;
use crate::words::blank_words;
use crate::{From, Kind};

pub(super) fn parse(statement: &mut Statement<'_>) -> Option<Kind> {
    let platform = statement.flags().value("platform");
    let words = blank_words(statement.body);
    let (image, name) = match words.as_slice() {
        [] => {
            statement.missing("an image");
            return None;
        }
        [image] => (*image, None),
        [image, between, name] if between.eq_ignore_ascii_case("as") => (*image, stage_name(statement, name)),
        [_, between] if between.eq_ignore_ascii_case("as") => {
            let problem = statement.error(between, "the name of the stage is missing", "missing-argument");
            statement.tell(problem.label("nothing follows"));
            return None;
        }
        [_, other, ..] => {
            let problem = statement.error(other, "`FROM` takes an image and at most a name", "wrong-arguments");
            statement.tell(problem.label("unexpected").hint("write `FROM image` or `FROM image AS name`"));
            return None;
        }
    };
    Some(Kind::From(From { platform, image: statement.word(image), name: name.map(|name| statement.word(name)) }))
}

fn stage_name<'s>(statement: &mut Statement<'_>, name: &'s str) -> Option<&'s str> {
    let mut characters = name.chars();
    let valid = characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !valid {
        let problem = statement.error(name, format!("`{name}` cannot be the name of a stage"), "invalid-stage-name");
        statement
            .tell(problem.hint("a name begins with a letter and has letters, digits, `-`, `_` and `.` after that"));
    }
    valid.then_some(name)
}
