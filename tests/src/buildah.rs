//! buildah in a world of its own: the peer that kiln's images and times are compared with.

use crate::{Image, command, podman, registry, run};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A storage of buildah's with nothing in it at first.
pub struct Buildah {
    directory: TempDir,
}

impl Buildah {
    /// An empty storage on the overlay driver.
    pub fn new() -> Self {
        let directory = run::directory("buildah");
        configure(directory.path());
        Self { directory }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `buildah ARGS…` with the options in front that keep it to itself.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.path().join("root")).arg("--runroot").arg(self.path().join("run"));
        buildah.args(["--storage-driver", "overlay"]).args(args);
        environment(&mut buildah, self.path());
        buildah
    }

    /// `buildah bud` of a directory, isolated by chroot, which works on any machine.
    pub fn bud(&self, context: &Path, more: &[&str]) -> Command {
        let mut buildah = self.command(&["bud", "--isolation", "chroot", "--http-proxy=false", "--quiet"]);
        buildah.arg("--signature-policy").arg(self.path().join("policy.json"));
        // Without this, every image gets a label with buildah's version.
        buildah.arg("--identity-label=false");
        // OCI's own form of a config lacks HEALTHCHECK, SHELL and ONBUILD.
        buildah.args(["--format", "docker"]).args(more).arg(".").current_dir(context);
        buildah
    }

    /// Builds a directory with a whole container for each RUN, on the network of the machine, and returns the image.
    pub fn build_in_containers(&self, context: &Path) -> Image {
        let id_file = self.path().join("id-in-containers");
        let mut build = self.command(&["bud", "--isolation", "oci", "--runtime", "crun", "--http-proxy=false"]);
        build.args(["--quiet", "--identity-label=false", "--format", "docker", "--network", "host", "--no-cache"]);
        // The defaults are above what some machines allow.
        build.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        build.arg("--signature-policy").arg(self.path().join("policy.json"));
        build.arg(format!("--iidfile={}", id_file.display())).arg(context);
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", podman::WITHOUT_HYBRID_CGROUPS, "sh"]);
        unshare.arg(build.get_program()).args(build.get_args());
        environment(&mut unshare, self.path());
        command::run(&mut unshare);
        self.read(&std::fs::read_to_string(&id_file).unwrap())
    }

    /// Builds a directory, and returns the image.
    pub fn build(&self, context: &Path, more: &[&str]) -> Image {
        let id_file = self.path().join(format!("id-{}", context.file_name().unwrap().to_string_lossy()));
        let id_option = format!("--iidfile={}", id_file.display());
        command::run(&mut self.bud(context, &[&["--no-cache", &id_option], more].concat()));
        let id = std::fs::read_to_string(&id_file).unwrap();
        self.read(&id)
    }

    /// Reads an image of the storage.
    pub fn read(&self, name: &str) -> Image {
        let out = tempfile::tempdir_in(self.path()).unwrap();
        let mut push = self.command(&["push", "--disable-compression", "--quiet"]);
        push.arg("--signature-policy").arg(self.path().join("policy.json"));
        command::run(push.arg(name).arg(format!("dir:{}", out.path().display())));
        Image::from_dir(out.path())
    }

    /// Loads an image from any transport (`oci-archive:PATH`, `docker-archive:PATH`), runs a command in it, and
    /// returns what that printed.
    pub fn run_image(&self, source: &str, args: &[&str]) -> String {
        let mut from = self.command(&["from", "--signature-policy"]);
        let container = command::run(from.arg(self.path().join("policy.json")).arg("--quiet").arg(source));
        let mut run = self.command(&["run", "--isolation", "chroot", container.trim(), "--"]);
        command::run(run.args(args))
    }
}

impl Default for Buildah {
    fn default() -> Self {
        Self::new()
    }
}

/// Has a program of the containers family read nothing of this machine's own configuration.
pub(crate) fn environment(command: &mut Command, directory: &Path) {
    let home = directory.join("home");
    command.env_clear().env("HOME", home).env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("CONTAINERS_REGISTRIES_CONF", directory.join("registries.conf")).env("TMPDIR", directory);
    command.env("CONTAINERS_STORAGE_CONF", directory.join("storage.conf")).env("CONTAINERS_CONF", "/dev/null");
}

/// Writes what [`environment`] points at: the registry of the tests is what Docker Hub is elsewhere.
pub(crate) fn configure(directory: &Path) {
    let address = &registry::shared().address;
    let text = format!(
        "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"disabled\"\n\n[[registry]]\nprefix = \"docker.io\"\nlocation = \"{address}\"\ninsecure = true\n\n[[registry]]\nlocation = \"{address}\"\ninsecure = true\n"
    );
    std::fs::write(directory.join("registries.conf"), text).unwrap();
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    std::fs::write(directory.join("policy.json"), policy).unwrap();
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/root\"\nrunroot = \"{0}/run\"\n",
        directory.display()
    );
    std::fs::write(directory.join("storage.conf"), storage).unwrap();
    std::fs::create_dir(directory.join("home")).unwrap();
}
