//! The one directory of a run of the test binary, and the process that clears it away whatever happens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// What all tests of one process share.
pub struct Run {
    /// Holds everything that the run makes; open to other users, because rootless tests run as such.
    pub directory: PathBuf,
    /// The binary under test.
    pub kiln: PathBuf,
    _janitor: Child,
}

/// Waits for the end of the test process, which closes the janitor's stdin even when it is killed; then ends
/// the servers whose process ids were noted, unmounts what is still mounted and removes the directory.
const JANITOR: &str = r#"
trap '' INT TERM HUP QUIT
cat > /dev/null
for pid in $(cat "$1/pids" 2> /dev/null); do kill "$pid"; done
awk -v top="$1/" 'index($2, top) == 1 { print $2 }' /proc/mounts | sort -r | while read -r path; do umount -l "$path"; done
for attempt in 1 2 3; do rm -rf "$1" && break; sleep 1; done
"#;

/// The run that this process belongs to.
pub fn run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let directory = tempfile::Builder::new().prefix("kiln-e2e-").tempdir().expect("a temporary directory").keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("opening the directory to others");
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting the janitor");
        let kiln = directory.join("kiln");
        fs::copy(built_kiln(), &kiln).expect("copying the kiln binary");
        Run { directory, kiln, _janitor: janitor }
    })
}

/// Has a process of ours ended when the run ends.
pub fn end_with_run(child: Child) {
    use std::io::Write;
    let mut pids = fs::OpenOptions::new().create(true).append(true).open(run().directory.join("pids")).unwrap();
    writeln!(pids, "{}", child.id()).unwrap();
    // The janitor sees to its end.
    drop(child);
}

/// A new directory of this run that other users may enter.
pub fn directory(purpose: &str) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix(&format!("{purpose}-")).tempdir_in(&run().directory).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Where things that are slow to make stay from run to run; `make clean` removes it.
pub fn cache_directory() -> PathBuf {
    let path = target_directory().join("test-cache");
    fs::create_dir_all(&path).unwrap();
    path
}

/// `target/` of the workspace.
pub fn target_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace above tests/");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |given| workspace.join(given))
}

/// `$KILN_BIN`, or else the binary of the same profile as this test, built now so that it is never a stale one.
fn built_kiln() -> PathBuf {
    if let Some(path) = std::env::var_os("KILN_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "`KILN_BIN` names `{}`, which is no file", path.display());
        return path;
    }
    let here = std::env::current_exe().expect("the path of this test");
    let profile = here.parent().and_then(Path::parent).expect("a profile directory above the test binary");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "kiln"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    crate::command::run(&mut cargo);
    let path = profile.join("kiln");
    assert!(path.is_file(), "no kiln binary at `{}`: build it, or set `KILN_BIN`", path.display());
    path
}
