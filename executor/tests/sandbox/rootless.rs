//! Running the cases again as an ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::groups::Delegated;

const NOBODY: u32 = 65534;

/// What ids the user gets.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// A range, granted by files that only this test's own mount namespace shows.
    Range,
    /// No more than its own.
    Single,
}

/// Runs the cases as `nobody`; how many passed and failed.
pub fn run(kind: Kind, filters: &[&str]) -> (u32, u32) {
    let (text, errors) = output(kind, filters);
    let (result, tests): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("test result:"));
    println!("{}", tests.join("\n").trim_end());
    if !errors.is_empty() {
        println!("{errors}");
    }
    let count = |word: &str| {
        let before = result.first()?.split(word).next()?;
        before.split_whitespace().last()?.parse().ok()
    };
    (count(" passed").unwrap_or(0), count(" failed").unwrap_or(1))
}

/// Runs this program as `nobody`; what it prints to stdout and stderr.
pub fn output(kind: Kind, arguments: &[&str]) -> (String, String) {
    let directory = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let program = directory.path().join("sandbox-test");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    let grant = directory.path().join("grant");
    std::fs::write(&grant, if kind == Kind::Range { "nobody:200000:65536\n" } else { "" }).unwrap();
    let name = if kind == Kind::Range { "range" } else { "single" };
    let delegated = Delegated::make(name, Some(NOBODY));
    let groups = delegated.name().map_or_else(|| "--no-groups".to_owned(), |name| format!("{}{name}", crate::GROUPS));
    let script = r#"test -z "$2" || echo $$ > "$2" || exit 1
        mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift 2 &&
        exec setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@""#;
    let output = Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", script, "sh"])
        .arg(&grant)
        .arg(delegated.home())
        .arg(&program)
        .args([crate::INNER, &groups])
        .args(arguments)
        .env_remove("TMPDIR")
        .current_dir("/")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
