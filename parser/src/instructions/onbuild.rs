//! `ONBUILD instruction`

use crate::keyword::Keyword;
use crate::statement::Statement;
use crate::words::split_first;
use crate::{Diagnostic, Kind, Onbuild, Severity};

pub(super) fn parse(statement: &mut Statement<'_>) -> Option<Kind> {
    statement.flags();
    let typed = split_first(statement.body).0;
    if typed.is_empty() {
        statement.missing("an instruction");
        return None;
    }
    let inner = statement.inner();
    match inner.as_ref().map(|inner| inner.keyword) {
        Some(Keyword::Onbuild) => forbidden(statement, typed, "`ONBUILD` cannot stand in another `ONBUILD`"),
        Some(keyword @ (Keyword::From | Keyword::Maintainer)) => {
            forbidden(statement, typed, &format!("`{}` cannot stand in `ONBUILD`", keyword.name()))
        }
        Some(_) => {
            foresee(statement, inner);
            Some(Kind::Onbuild(Onbuild { text: text(statement) }))
        }
        None => {
            unknown(statement, typed);
            Some(Kind::Onbuild(Onbuild { text: text(statement) }))
        }
    }
}

fn forbidden(statement: &mut Statement<'_>, typed: &str, message: &str) -> Option<Kind> {
    statement.tell(statement.error(typed, message, "wrong-arguments").label("not allowed here"));
    None
}

/// Docker looks at the instruction only in the build that it is triggered in. Its errors are worth a warning now.
fn foresee(statement: &mut Statement<'_>, inner: Option<Statement<'_>>) {
    let Some(mut inner) = inner else { return };
    inner.heredocs.clone_from(&statement.heredocs);
    super::parse(&mut inner);
    let found = std::mem::take(&mut inner.diagnostics);
    statement.diagnostics.extend(found.into_iter().map(|found| Diagnostic { severity: Severity::Warning, ..found }));
}

fn unknown(statement: &mut Statement<'_>, typed: &str) {
    let mut problem = Diagnostic::warning(format!("unknown instruction `{typed}`"))
        .at(statement.span(typed))
        .label("every build that triggers it will fail")
        .code("unknown-instruction");
    problem.hint = Keyword::nearest(typed).map(|near| format!("did you mean `{near}`?"));
    statement.tell(problem);
}

fn text(statement: &Statement<'_>) -> crate::Word {
    let mut text = statement.word(statement.body);
    for heredoc in &statement.heredocs {
        text.value.push('\n');
        text.value.push_str(&heredoc.content);
        text.value.push_str(&heredoc.name);
    }
    text
}
