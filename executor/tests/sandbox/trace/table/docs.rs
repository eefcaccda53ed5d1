//! The table as the documentation has it.

use std::fmt::Write as _;
use std::path::Path;

use super::edit::Edit;
use super::{PROJECT, Row, TABLE};
use crate::world::World;

/// The table stands between these lines.
const BEGIN: &str = "<!-- the table begins: made by `trace_the_docs_show_the_table` -->\n";
const END: &str = "<!-- the table ends -->\n";

/// `docs/run-cache.md` shows the table that is tested; `WRITE_DOCS=1` makes it so.
pub fn the_docs_show_the_table(_: &World) {
    // An ordinary user may not be able to read a checkout of root's.
    let text = include_str!("../../../../../docs/run-cache.md");
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("WRITE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/run-cache.md");
        return std::fs::write(path, expected).unwrap();
    }
    assert!(text == expected, "docs/run-cache.md is not what is tested: run this test with WRITE_DOCS=1");
}

fn table() -> String {
    let mut text = format!("\nUnless a row says otherwise, `/app` holds {}.\n", files(PROJECT));
    for (about, rows) in TABLE {
        writeln!(text, "\n## {about}\n\n| `RUN` | runs again after | stays cached after |\n|---|---|---|").unwrap();
        rows.iter().for_each(|row| line(&mut text, row));
    }
    text + "\n"
}

fn line(text: &mut String, row: &Row) {
    let edits = |edits: &[Edit]| {
        let mut words: Vec<_> = edits.iter().map(|edit| edit.describe(row)).collect();
        words.dedup();
        words.join("; ")
    };
    let over =
        if row.tree.as_ptr() == PROJECT.as_ptr() { String::new() } else { format!("<br>over {}", files(row.tree)) };
    let command = row.command.replace('|', "\\|");
    writeln!(text, "| `{command}`{over} | {} | {} |", edits(row.reruns), edits(row.cached)).unwrap();
}

/// What a tree holds.
fn files(tree: &[Edit]) -> String {
    let name = |edit: &Edit| match edit {
        Edit::Link(path, target) => format!("`{path}` → `{target}`"),
        Edit::Name(path, first) => format!("`{path}` = `{first}`"),
        Edit::Directory(path) => format!("`{path}/`"),
        edit => format!("`{}`", edit.path()),
    };
    let is_new = |edit: &&Edit| !matches!(edit, Edit::Mode(..) | Edit::Owner(..) | Edit::Note(..) | Edit::Made(..));
    tree.iter().filter(is_new).map(name).collect::<Vec<_>>().join(", ")
}
