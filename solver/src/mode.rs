//! Permission bits as `COPY --chmod` gives them: all of them, or what to change of those that a file has.

use std::str::FromStr;

use crate::encode::Encoder;

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const OTHERS: u32 = 0o007;
/// What `a` stands for: everything but the sticky bit.
const EVERYBODY: u32 = SET_IDS | 0o777;

/// A mode for files: the bits, or changes of the bits that each file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileMode {
    /// These bits (`07777`).
    Exact(u32),
    /// Changes, one after the other.
    Changes(ModeChanges),
}

/// A symbolic mode of `chmod(1)`, such as `u=rwX,go=rX`, without a umask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeChanges {
    text: String,
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    /// The bits that it is about.
    who: u32,
    operator: Operator,
    bits: Bits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    /// These, for whoever it is about; `X` adds the execute bits of directories and of what can be executed.
    These { bits: u32, or_execute: bool },
    /// Those of the owner (6), the group (3) or the others (0): by how far they are shifted.
    LikeThose(u32),
}

/// A text that is no symbolic mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a symbolic mode")]
pub struct ParseModeError(String);

impl FileMode {
    /// The bits of a file that has these.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Exact(bits) => bits & 0o7777,
            Self::Changes(changes) => changes.apply(mode & 0o7777, is_directory),
        }
    }

    pub(crate) fn encode(mode: Option<&Self>, encoder: &mut Encoder) {
        match mode {
            None => encoder.position(None),
            Some(Self::Exact(bits)) => encoder.tag("mode.exact.v2").number(u64::from(*bits)),
            Some(Self::Changes(changes)) => encoder.tag("mode.changes.v2").text(&changes.text),
        };
    }
}

impl From<u32> for FileMode {
    fn from(bits: u32) -> Self {
        Self::Exact(bits)
    }
}

impl ModeChanges {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let can_execute = is_directory || mode & 0o111 != 0;
        self.changes.iter().fold(mode, |mode, change| change.apply(mode, can_execute))
    }
}

impl Change {
    fn apply(self, mode: u32, can_execute: bool) -> u32 {
        let bits = match self.bits {
            Bits::These { bits, or_execute } => bits | if or_execute && can_execute { 0o111 } else { 0 },
            Bits::LikeThose(shift) => ((mode >> shift) & 0o7) * 0o111,
        };
        match self.operator {
            Operator::Add => mode | (bits & self.who),
            Operator::Remove => mode & !(bits & self.who),
            // A directory's or file's sticky bit stays where nothing is said about it.
            Operator::Set => (mode & !(self.who & EVERYBODY)) | (bits & self.who),
        }
    }
}

impl std::fmt::Display for ModeChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ModeChanges {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes).ok_or_else(|| ParseModeError(text.to_owned()))?;
        }
        Ok(Self { text: text.to_owned(), changes })
    }
}

/// `[ugoa]…` and at least one operator with what it is about.
fn parse_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    let named = clause.get(..clause.len() - actions.len())?;
    let who = named.chars().map(whose).fold(0, |who, bits| who | bits);
    let mut rest = actions;
    while !rest.is_empty() {
        let mut characters = rest.chars();
        let operator = match characters.next()? {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Set,
            _ => return None,
        };
        let behind = characters.as_str();
        let end = behind.find(['+', '-', '=']).unwrap_or(behind.len());
        parse_action(who, operator, behind.get(..end)?, changes)?;
        rest = behind.get(end..)?;
    }
    (!actions.is_empty()).then_some(())
}

fn whose(character: char) -> u32 {
    match character {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => OTHERS,
        _ => EVERYBODY,
    }
}

/// Adds the changes of one operator. Where the bits of others (`g=u`) come among letters, each is a change of its own.
fn parse_action(named: u32, operator: Operator, text: &str, changes: &mut Vec<Change>) -> Option<()> {
    let is_named = named != 0;
    let mut who = if is_named { named } else { EVERYBODY };
    let (mut bits, mut or_execute) = (0, false);
    // What is only about the others has nothing to do with set-ids and the sticky bit.
    let is_about_others = named == OTHERS;
    let before = changes.len();
    for character in text.chars() {
        match character {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => or_execute = true,
            's' | 't' if is_about_others => {}
            's' => bits |= SET_IDS,
            't' => {
                bits |= STICKY;
                // Where nobody is named, `t` is the one that is, as in BSD.
                who = if is_named { who | STICKY } else { STICKY };
            }
            'u' | 'g' | 'o' => {
                if bits != 0 || or_execute {
                    changes.push(Change { who, operator, bits: Bits::These { bits, or_execute } });
                    (bits, or_execute) = (0, false);
                }
                let shift = u32::from(character == 'u') * 6 + u32::from(character == 'g') * 3;
                changes.push(Change { who: who & 0o777, operator, bits: Bits::LikeThose(shift) });
            }
            _ => return None,
        }
    }
    if bits != 0 || or_execute || changes.len() == before {
        changes.push(Change { who, operator, bits: Bits::These { bits, or_execute } });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_modes_change_what_is_there() {
        // The text, the mode before, whether of a directory, the mode after.
        let cases = [
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go=", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o750, false, 0o770),
            ("o=g-w", 0o770, false, 0o775),
            ("u=rw", 0o4755, false, 0o655),
            ("ug+s", 0o755, false, 0o6755),
            ("o+s", 0o755, false, 0o755),
            ("+t", 0o755, true, 0o1755),
            ("u+t", 0o755, true, 0o1755),
            ("g+t", 0o755, false, 0o1755),
            ("o+t", 0o755, true, 0o755),
            ("=t", 0o644, false, 0o1644),
            ("u=t", 0o644, false, 0o1044),
            ("uo+s", 0o755, false, 0o4755),
            ("u=gw", 0o050, false, 0o250),
            ("a+ug", 0o640, false, 0o666),
            ("g=wo", 0o705, false, 0o755),
            ("a=r", 0o1777, true, 0o1444),
            ("u+rwx,g-rwx,o=x", 0o070, false, 0o701),
        ];
        for (text, before, is_directory, after) in cases {
            let mode = FileMode::Changes(text.parse().unwrap());
            assert_eq!(mode.apply(before, is_directory), after, "{text} of {before:o}");
        }
        assert_eq!(FileMode::from(0o640).apply(0o777, false), 0o640);
    }

    #[test]
    fn other_texts_are_no_modes() {
        for text in ["", "u", "755", "u+q", "x+r", "u+x,", "u=rw g=r", "ugo", "+é"] {
            assert!(text.parse::<ModeChanges>().is_err(), "{text}");
        }
    }
}
