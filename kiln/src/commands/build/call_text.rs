//! The answers of `--call` for people, in the layout of buildx.

use kiln_frontend::checks::{OutlineMount, StageOutline, TargetStage, rule};
use kiln_parser::Diagnostic;

use super::call::Checked;
use crate::diagnostics::{self, Lines, SourceFile, count};
use crate::progress::clean;

/// What the checks found, each with its place, what to do and why.
pub(super) fn check(checked: &Checked, file: &SourceFile) -> String {
    let findings = &checked.report.findings;
    if !checked.errors.is_empty() && findings.is_empty() {
        return String::new();
    }
    let lines = Lines::of(&file.text);
    let mut text: String = findings.iter().map(|finding| explained(finding, file, &lines)).collect();
    text.push_str(&match findings.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        more => format!("Check complete, {} have been found!\n", count(more, "warning")),
    });
    text
}

fn explained(finding: &Diagnostic, file: &SourceFile, lines: &Lines) -> String {
    let name = finding.code.unwrap_or_default();
    let rule = rule(name);
    let url = rule.map_or("", |rule| rule.url);
    let heading = if url.is_empty() { name.to_owned() } else { format!("{name} - {url}") };
    let why = rule.map(|rule| format!("why: {}\n", rule.explanation)).unwrap_or_default();
    format!("WARNING: {heading}\n{}{why}\n", diagnostics::render_bare(finding, file, lines))
}

/// What a stage takes.
pub(super) fn outline(outline: &StageOutline) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() { "default" } else { &outline.name };
        let mut rows = vec![["TARGET:".to_owned(), clean(name)]];
        if !outline.description.is_empty() {
            rows.push(["DESCRIPTION:".to_owned(), clean(&outline.description)]);
        }
        text.push_str(&table(&rows, 1));
        text.push('\n');
    }
    if !outline.args.is_empty() {
        let mut rows = vec![["BUILD ARG".to_owned(), "VALUE".to_owned(), "DESCRIPTION".to_owned()]];
        let args = outline.args.iter();
        rows.extend(args.map(|arg| [clean(&arg.name), clean(&arg.value), clean(&arg.description)]));
        text.push_str(&table(&rows, 5));
        text.push('\n');
    }
    for (title, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        text.push_str(&mounts_table(title, mounts));
    }
    if !outline.caches.is_empty() {
        let mut rows = vec![["CACHE".to_owned()]];
        rows.extend(outline.caches.iter().map(|cache| [clean(&cache.id)]));
        text.push_str(&table(&rows, 5));
        text.push('\n');
    }
    text
}

fn mounts_table(title: &str, mounts: &[OutlineMount]) -> String {
    if mounts.is_empty() {
        return String::new();
    }
    let mut rows = vec![[title.to_owned(), "REQUIRED".to_owned()]];
    let required = |mount: &OutlineMount| if mount.is_required { "true" } else { "" }.to_owned();
    rows.extend(mounts.iter().map(|mount| [clean(&mount.id), required(mount)]));
    format!("{}\n", table(&rows, 5))
}

/// Which stages can be built.
pub(super) fn targets(targets: &[TargetStage]) -> String {
    let mut rows = vec![["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for target in targets {
        let name = match (target.name.as_str(), target.is_default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push([clean(&name), clean(&target.description)]);
    }
    table(&rows, 5)
}

/// Columns as wide as their widest entry, with blanks between them and none at the end of a line.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]], between: usize) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + between);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::build::call::tests::{TEXT, answers};

    #[test]
    fn answers_are_for_people() {
        let (checked, outline, targets) = answers();
        let file = SourceFile { name: "Dockerfile".to_owned(), text: TEXT.to_owned() };
        insta::assert_snapshot!(check(&checked, &file));
        insta::assert_snapshot!(super::outline(&outline));
        insta::assert_snapshot!(super::targets(&targets));
    }

    #[test]
    fn nothing_from_a_dockerfile_moves_the_cursor() {
        let target = TargetStage {
            name: "a\x1b[2J".to_owned(),
            is_default: false,
            description: "\x1b]0;x\x07".to_owned(),
            base: String::new(),
            platform: String::new(),
            span: kiln_parser::Span::default(),
        };
        assert!(!super::targets(&[target]).contains('\x1b'));
    }
}
