//! `--chmod`: octal permissions up to `7777`, or a symbolic mode of `chmod(1)`.

use kiln_parser::{Diagnostic, Word};
use kiln_solver::FileMode;

use crate::findings::error_at;

/// The mode of this text; `None` where it is empty.
pub(crate) fn parse(word: &Word, text: &str) -> Result<Option<FileMode>, Diagnostic> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |hint: &str| {
        error_at(word, "mode", format!("`{text}` in `--chmod` is not a mode")).label("not a mode").hint(hint)
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let bits = u32::from_str_radix(text, 8).ok().filter(|&bits| bits <= 0o7777);
        return bits.map(|bits| Some(bits.into())).ok_or_else(|| wrong("write an octal number from `0` to `7777`"));
    }
    let changes =
        text.parse().map_err(|_| wrong("write an octal number such as `755`, or changes such as `u=rwX,go=rX`"))?;
    Ok(Some(FileMode::Changes(changes)))
}
