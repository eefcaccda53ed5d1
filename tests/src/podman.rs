//! podman in a world of its own: loads and runs what kiln exported.

use crate::{buildah, command, run};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A storage of podman's with nothing in it at first.
pub struct Podman {
    directory: TempDir,
}

/// crun refuses machines where both versions of cgroups are mounted. Nothing here needs cgroups, so the second is
/// hidden from it, in a mount namespace of its own.
pub(crate) const WITHOUT_HYBRID_CGROUPS: &str = r#"umount -l /sys/fs/cgroup/unified 2> /dev/null; exec "$@""#;

impl Podman {
    /// An empty storage on the overlay driver.
    pub fn new() -> Self {
        let directory = run::directory("podman");
        buildah::configure(directory.path());
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut podman = Command::new("unshare");
        podman.args(["--mount", "--propagation", "private", "sh", "-c", WITHOUT_HYBRID_CGROUPS, "sh", "podman"]);
        podman.arg("--root").arg(self.path().join("root")).arg("--runroot").arg(self.path().join("run"));
        podman.arg("--tmpdir").arg(self.path().join("tmp")).args(["--storage-driver", "overlay"]);
        podman.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "crun"]).args(args);
        buildah::environment(&mut podman, self.path());
        podman
    }

    /// A shell script that is podman with this storage.
    pub fn script(&self) -> String {
        let quote = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        let podman = self.command(&[]);
        let set = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
            Some(format!("export {}={}\n", name.to_string_lossy(), quote(value?)))
        };
        let exports: String = podman.get_envs().filter_map(set).collect();
        let words: Vec<String> = [podman.get_program()].into_iter().chain(podman.get_args()).map(quote).collect();
        format!("{exports}exec {} \"$@\"", words.join(" "))
    }

    /// `podman load` of an archive; returns what it said.
    pub fn load(&self, archive: &Path) -> String {
        command::run(self.command(&["load", "--quiet", "--input"]).arg(archive))
    }

    /// `podman save` of an image, in one of its formats.
    pub fn save(&self, image: &str, format: &str, archive: &Path) {
        command::run(self.command(&["save", "--quiet", "--format", format, "--output"]).arg(archive).arg(image));
    }

    /// `podman image inspect` of an image.
    pub fn inspect(&self, image: &str) -> serde_json::Value {
        serde_json::from_str(&command::run(&mut self.command(&["image", "inspect", image]))).unwrap()
    }

    /// `podman run` of an image; returns what it printed.
    pub fn run(&self, image: &str, args: &[&str]) -> String {
        let mut podman =
            self.command(&["run", "--rm", "--pull", "never", "--cgroups", "disabled", "--network", "host"]);
        // The defaults are above what some machines allow.
        podman.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--log-driver", "none"]);
        command::run(podman.arg(image).args(args))
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}
