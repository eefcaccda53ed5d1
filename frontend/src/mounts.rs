//! `RUN --mount`: the comma-separated options of a mount, with the meaning and the rules that BuildKit gives them.

use kiln_parser::{Diagnostic, Word};

use crate::findings::{error_at, similar};
use crate::remote::boolean;
use crate::stage::StageLowering;

/// What a mount shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];
const SHARING: [&str; 3] = ["shared", "private", "locked"];
const OPTIONS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

/// One mount, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RunMount {
    kind: MountType,
    from: String,
    source: String,
    target: String,
    id: String,
    sharing: Option<String>,
    has_owner: Option<&'static str>,
}

impl MountType {
    fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("bind", |(name, _)| name)
    }
}

impl StageLowering<'_, '_> {
    /// What is wrong with a `--mount`; carrying it out is not there yet, and that is what is told of a valid one.
    pub(crate) fn mount(&self, word: &Word) -> Result<(), Diagnostic> {
        let fields = fields(&word.value).map_err(|problem| wrong(word, &problem))?;
        let mut mount = RunMount::default();
        for field in &fields {
            self.option(field, &mut mount).map_err(|problem| wrong(word, &problem))?;
        }
        self.check(&mount).map_err(|problem| wrong(word, &problem))?;
        let kind = mount.kind.name();
        Err(error_at(
            word,
            "unsupported",
            format!("`RUN --mount=type={kind}` is not supported by this version of kiln"),
        )
        .label("understood, but not carried out yet")
        .hint(instead(mount.kind)))
    }

    fn option(&self, field: &str, mount: &mut RunMount) -> Result<(), String> {
        let Some((key, written)) = field.split_once('=') else { return switch(field, mount) };
        let key = key.to_lowercase();
        if !OPTIONS.contains(&key.as_str()) {
            return Err(unknown(&key));
        }
        let has_variable = written.find('$').is_some_and(|at| at + 1 < written.len());
        if key == "from" && has_variable {
            return Err("variables are not supported in `from`: define a stage with `FROM` for it".to_owned());
        }
        let expanded = self.state.environment.expand(written, self.planner.escape);
        let value = expanded.map_err(|error| error.to_string())?;
        set(mount, &key, value)
    }

    fn check(&self, mount: &RunMount) -> Result<(), String> {
        let kind = mount.kind.name();
        let takes_owner = matches!(mount.kind, MountType::Secret | MountType::Ssh | MountType::Cache);
        if let (Some(option), false) = (mount.has_owner, takes_owner) {
            return Err(format!("`{option}` is not for mounts of type `{kind}`"));
        }
        if mount.sharing.is_some() && mount.kind != MountType::Cache {
            return Err(format!("`sharing` is for mounts of type `cache`, not `{kind}`"));
        }
        match mount.kind {
            MountType::Secret => check_secret(mount),
            MountType::Ssh => Ok(()),
            _ => {
                let target = crate::paths::join(&self.state.directory, &mount.target);
                if target == "/" { Err("a mount cannot be at `/`: give it a `target`".to_owned()) } else { Ok(()) }
            }
        }
    }
}

fn check_secret(mount: &RunMount) -> Result<(), String> {
    if !mount.from.is_empty() {
        return Err("a secret has no `from`".to_owned());
    }
    if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
        return Err("a secret needs an `id` or a `target`".to_owned());
    }
    if !mount.source.is_empty() && !mount.id.is_empty() {
        return Err("a secret has an `id` or a `source`, not both".to_owned());
    }
    Ok(())
}

/// An option without a value.
fn switch(field: &str, mount: &RunMount) -> Result<(), String> {
    match field.to_lowercase().as_str() {
        "readonly" | "ro" | "readwrite" | "rw" => Ok(()),
        "required" => only_for(mount, "required", &[MountType::Secret, MountType::Ssh]),
        known if OPTIONS.contains(&known) => Err(format!("`{field}` needs a value: write `{field}=…`")),
        other => Err(unknown(other)),
    }
}

fn set(mount: &mut RunMount, key: &str, value: String) -> Result<(), String> {
    match key {
        "type" => mount.kind = mount_type(&value)?,
        "from" => mount.from = value,
        "source" | "src" => mount.source = value,
        "target" | "dst" | "destination" => mount.target = value,
        "id" => mount.id = value,
        "env" => only_for(mount, "env", &[MountType::Secret])?,
        "required" => {
            only_for(mount, "required", &[MountType::Secret, MountType::Ssh])?;
            truth(key, &value)?;
        }
        "readonly" | "ro" | "readwrite" | "rw" => truth(key, &value)?,
        "size" => {
            only_for(mount, "size", &[MountType::Tmpfs])?;
            bytes(&value).ok_or_else(|| format!("`{value}` in `size` is not a number of bytes, such as `64m`"))?;
        }
        "sharing" => mount.sharing = Some(sharing(&value)?),
        "mode" => {
            mount.has_owner = Some("mode");
            number(key, &value, 8)?;
        }
        "uid" | "gid" => {
            mount.has_owner = Some(if key == "uid" { "uid" } else { "gid" });
            number(key, &value, 10)?;
        }
        other => return Err(unknown(other)),
    }
    Ok(())
}

fn only_for(mount: &RunMount, option: &str, kinds: &[MountType]) -> Result<(), String> {
    if kinds.contains(&mount.kind) {
        return Ok(());
    }
    let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
    let kind = mount.kind.name();
    Err(format!("`{option}` is for mounts of type {}, not `{kind}`; `type` comes first", names.join(" and ")))
}

fn mount_type(value: &str) -> Result<MountType, String> {
    let lower = value.to_lowercase();
    if let Some((_, kind)) = TYPES.iter().find(|(name, _)| *name == lower) {
        return Ok(*kind);
    }
    Err(format!("there is no mount type `{value}`{}", suggestion(&lower, &TYPES.map(|(name, _)| name))))
}

fn sharing(value: &str) -> Result<String, String> {
    let lower = value.to_lowercase();
    if SHARING.contains(&lower.as_str()) {
        return Ok(lower);
    }
    Err(format!("`{value}` is no way of `sharing`{}", suggestion(&lower, &SHARING)))
}

fn unknown(key: &str) -> String {
    format!("a mount has no option `{key}`{}", suggestion(key, &OPTIONS))
}

fn suggestion(word: &str, known: &[&str]) -> String {
    match similar(word, known.iter().copied()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!(": expected `{}`", known.join("`, `")),
    }
}

fn truth(key: &str, value: &str) -> Result<(), String> {
    boolean(value).map(|_| ()).ok_or_else(|| format!("`{key}` is `true` or `false`, not `{value}`"))
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, String> {
    let what = if radix == 8 { "an octal number" } else { "a number" };
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    number.ok_or_else(|| format!("`{value}` in `{key}` is not {what}"))
}

/// A number of bytes as Docker writes it: `64m`, `1.5GiB`.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text.get(..end)?.parse().ok()?;
    let unit = text.get(end..)?.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let bytes = number * 1024_f64.powi(i32::try_from(power).ok()?);
    // Beyond what a float holds exactly nobody has memory.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "digits have no sign")]
    (bytes < 9e15).then_some(bytes as u64)
}

/// The fields of one line of CSV.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, behind) = rest.split_at(end);
                if field.contains('"') {
                    return Err(format!("the quote in `{field}` does not begin at its comma"));
                }
                (field.to_owned(), behind)
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(fields),
            None => return Err("a comma is missing behind a quote".to_owned()),
        }
    }
}

/// A field whose quote was opened: `""` in it is a quote.
fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, behind)),
        }
    }
}

fn wrong(word: &Word, problem: &str) -> Diagnostic {
    error_at(word, "mount", format!("`--mount` is not valid: {problem}")).label("not a mount")
}

/// What does the same today.
fn instead(kind: MountType) -> &'static str {
    match kind {
        MountType::Bind => "copy what the command needs with `COPY`",
        MountType::Cache => "leave the mount out: the command then fills its cache anew each time that it runs",
        MountType::Tmpfs => "write to a directory and remove it in the same `RUN`",
        MountType::Secret | MountType::Ssh => {
            "do the part that needs it before the build, and copy its result from the context"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_csv() {
        assert_eq!(fields("a=b,c").unwrap(), ["a=b", "c"]);
        assert_eq!(fields("\"a=b,c\",d").unwrap(), ["a=b,c", "d"]);
        assert_eq!(fields("\"a=\"\"x\"\"\"").unwrap(), ["a=\"x\""]);
        assert_eq!(fields("").unwrap(), [""]);
        for text in ["\"a", "\"a\"b", "a\"b"] {
            assert!(fields(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let cases = [("10", 10), ("2k", 2048), ("1.5KiB", 1536), ("1 GB", 1 << 30), ("64m", 64 << 20)];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1.2.3", "99999999999p"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
