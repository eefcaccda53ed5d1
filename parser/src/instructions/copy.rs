//! `COPY` and `ADD`: `[flags] source … destination`

use crate::heredoc;
use crate::statement::Statement;
use crate::{Copy, Diagnostic, Word};

pub(super) fn parse(statement: &mut Statement<'_>) -> Option<Copy> {
    let mut flags = statement.flags();
    let mut words = super::list(statement)?;
    let destination = words.pop();
    let (Some(destination), false) = (destination.clone(), words.is_empty()) else {
        too_few(statement, destination.as_ref());
        return None;
    };
    if heredoc::is_heredoc(&destination.value) {
        let message = format!("`{}` cannot take a heredoc as its destination", statement.keyword.name());
        let problem = Diagnostic::error(message).at(destination.span).code("wrong-arguments");
        statement.tell(problem.hint("put the destination behind the sources"));
        return None;
    }
    let mut heredocs = std::mem::take(&mut statement.heredocs);
    if !heredocs.is_empty() {
        // A quoted name with a space in it is two words here, which are sources like any other.
        let openings: Vec<_> = words.iter().filter_map(|word| heredoc::opening(&word.value)).collect();
        heredocs.retain(|heredoc| openings.iter().any(|opening| opening.name == heredoc.name));
        words.retain(|word| !heredoc::is_heredoc(&word.value));
    }
    Some(Copy {
        from: flags.value("from"),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.values("exclude"),
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
        sources: words,
        destination,
        heredocs,
    })
}

fn too_few(statement: &mut Statement<'_>, only: Option<&Word>) {
    let Some(only) = only else {
        return statement.missing("a source and a destination");
    };
    let message = format!("`{}` needs a source and a destination, there is only one of them", statement.keyword.name());
    let problem = Diagnostic::error(message).at(only.span).label("source or destination?").code("missing-argument");
    statement.tell(problem);
}
