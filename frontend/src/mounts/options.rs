//! The comma-separated options of a `--mount`.

use kiln_parser::{Diagnostic, Word};
use kiln_solver::Sharing;

use super::{MountType, RunMount, TYPES};
use crate::csv;
use crate::environment::Environment;
use crate::findings::{error_at, similar};
use crate::paths;
use crate::remote::boolean;
use crate::units;

const SHARING: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];
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

/// What a mount takes its files from, as written: it has to be known before any variable is. `None` where that is
/// the default, of no meaning, or wrong, which [`parse`] tells.
pub(crate) fn from_of(text: &str) -> Option<String> {
    let fields = csv::fields(text).ok()?;
    let option = |name: &str| {
        let mut options = fields.iter().filter_map(|field| field.split_once('='));
        options.rfind(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let has_files = |kind: &str| !["tmpfs", "secret", "ssh"].iter().any(|other| other.eq_ignore_ascii_case(kind));
    let from = option("from").filter(|from| !from.is_empty() && !has_variable(from))?;
    option("type").is_none_or(has_files).then(|| from.to_owned())
}

fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

/// Reads a `--mount` where these variables are in scope and this is the working directory.
pub(crate) fn parse(
    word: &Word,
    environment: &Environment,
    escape: char,
    directory: &str,
) -> Result<RunMount, Diagnostic> {
    let read = || {
        let mut mount = RunMount::default();
        for field in csv::fields(&word.value)? {
            option(&field, &mut mount, environment, escape)?;
        }
        check(&mount, directory)?;
        Ok(mount)
    };
    read().map_err(|problem: String| {
        error_at(word, "mount", format!("`--mount` is not valid: {problem}")).label("not a mount")
    })
}

fn option(field: &str, mount: &mut RunMount, environment: &Environment, escape: char) -> Result<(), String> {
    let Some((key, written)) = field.split_once('=') else { return switch(field, mount) };
    let key = key.to_lowercase();
    if !OPTIONS.contains(&key.as_str()) {
        return Err(unknown(&key));
    }
    if key == "from" && has_variable(written) {
        return Err("variables are not supported in `from`: define a stage with `FROM` for it".to_owned());
    }
    let value = environment.expand(written, escape).map_err(|error| error.to_string())?;
    set(mount, &key, value)
}

/// An option without a value.
fn switch(field: &str, mount: &mut RunMount) -> Result<(), String> {
    match field.to_lowercase().as_str() {
        "readonly" | "ro" => mount.readonly = Some(true),
        "readwrite" | "rw" => mount.readonly = Some(false),
        "required" => {
            only_for(mount, "required", &[MountType::Secret, MountType::Ssh])?;
            mount.required = true;
        }
        known if OPTIONS.contains(&known) => return Err(format!("`{field}` needs a value: write `{field}=…`")),
        other => return Err(unknown(other)),
    }
    Ok(())
}

fn set(mount: &mut RunMount, key: &str, value: String) -> Result<(), String> {
    match key {
        "type" => mount.kind = mount_type(&value)?,
        "from" => mount.from = value,
        "source" | "src" => mount.source = value,
        "target" | "dst" | "destination" => mount.target = value,
        "id" => mount.id = value,
        "env" => {
            only_for(mount, "env", &[MountType::Secret])?;
            if value.is_empty() || value.contains(['=', '\0']) {
                return Err(format!("`{value}` in `env` is not a variable's name"));
            }
            mount.env = Some(value);
        }
        "required" => {
            only_for(mount, "required", &[MountType::Secret, MountType::Ssh])?;
            mount.required = truth(key, &value)?;
        }
        "readonly" | "ro" => mount.readonly = Some(truth(key, &value)?),
        "readwrite" | "rw" => mount.readonly = Some(!truth(key, &value)?),
        "size" => {
            only_for(mount, "size", &[MountType::Tmpfs])?;
            let size = units::bytes(&value);
            let size = size.ok_or_else(|| format!("`{value}` in `size` is not a number of bytes, such as `64m`"))?;
            mount.size = Some(size).filter(|size| *size > 0);
        }
        "sharing" => mount.sharing = Some(sharing(&value)?),
        "mode" => mount.mode = Some(number(key, &value, 8)?),
        "uid" => mount.uid = Some(number(key, &value, 10)?),
        "gid" => mount.gid = Some(number(key, &value, 10)?),
        other => return Err(unknown(other)),
    }
    Ok(())
}

/// What no single option can tell.
fn check(mount: &RunMount, directory: &str) -> Result<(), String> {
    let kind = mount.kind.name();
    let takes_owner = matches!(mount.kind, MountType::Secret | MountType::Ssh | MountType::Cache);
    let owner = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
    if let (Some((option, _)), false) = (owner.iter().find(|(_, value)| value.is_some()), takes_owner) {
        return Err(format!("`{option}` is not for mounts of type `{kind}`"));
    }
    if mount.sharing.is_some() && mount.kind != MountType::Cache {
        return Err(format!("`sharing` is for mounts of type `cache`, not `{kind}`"));
    }
    match mount.kind {
        MountType::Secret => check_secret(mount)?,
        MountType::Ssh if !mount.source.is_empty() => {
            return Err("an ssh agent has no `source`: `id` says which one".to_owned());
        }
        _ => {}
    }
    let has_default = matches!(mount.kind, MountType::Secret | MountType::Ssh) && mount.target.is_empty();
    if !has_default && paths::join(directory, &mount.target) == "/" {
        return Err("a mount cannot be at `/`: give it a `target`".to_owned());
    }
    Ok(())
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

fn only_for(mount: &RunMount, option: &str, kinds: &[MountType]) -> Result<(), String> {
    if kinds.contains(&mount.kind) {
        return Ok(());
    }
    let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
    let kind = mount.kind.name();
    Err(format!("`{option}` is for mounts of type {}, not `{kind}`; `type` comes first", names.join(" and ")))
}

fn mount_type(value: &str) -> Result<MountType, String> {
    known(value, &TYPES).map_err(|suggestion| format!("there is no mount type `{value}`{suggestion}"))
}

fn sharing(value: &str) -> Result<Sharing, String> {
    known(value, &SHARING).map_err(|suggestion| format!("`{value}` is no way of `sharing`{suggestion}"))
}

/// The meaning of a name in any case, or what may have been meant.
fn known<T: Copy, const N: usize>(name: &str, names: &[(&str, T); N]) -> Result<T, String> {
    let lower = name.to_lowercase();
    match names.iter().find(|(known, _)| *known == lower) {
        Some((_, meaning)) => Ok(*meaning),
        None => Err(suggestion(&lower, &names.each_ref().map(|(known, _)| *known))),
    }
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

fn truth(key: &str, value: &str) -> Result<bool, String> {
    boolean(value).ok_or_else(|| format!("`{key}` is `true` or `false`, not `{value}`"))
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, String> {
    let what = if radix == 8 { "an octal number" } else { "a number" };
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    number.ok_or_else(|| format!("`{value}` in `{key}` is not {what}"))
}
