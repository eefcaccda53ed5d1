//! What a case works with: a sandbox, a busybox root and a place for layers.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kiln_executor::rootless::Identity;
use kiln_executor::sandbox::{
    ExitStatus, Limits, Network, Root, RunSpec, Sandbox, SandboxError, SandboxSettings, User,
};
use kiln_solver::{Cancel, LogStream};
use tempfile::TempDir;

const PROGRAMS: &str = "sh cat ls id echo true false env pwd sleep mkdir rm rmdir ln touch stat readlink head wc dd \
                        kill mount umount hostname sort tr seq test chmod chown mknod ps grep yes printf setsid \
                        ip ifconfig df cut mkfifo mv cp find unshare dmesg nc";

pub struct World {
    pub identity: Identity,
    pub sandbox: Sandbox,
    pub base: PathBuf,
    /// The control group, in every hierarchy, below which groups may be made; if this machine has any.
    pub groups: Option<String>,
    directory: TempDir,
    next: Cell<u32>,
}

/// What came of a command.
#[derive(Debug)]
pub struct Outcome {
    pub result: Result<ExitStatus, SandboxError>,
    pub stdout: String,
    pub stderr: String,
    pub upper: PathBuf,
}

impl World {
    pub fn new(identity: Identity) -> Self {
        let directory = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
        let sandbox = Self::sandbox(&identity, directory.path());
        let base = directory.path().join("base");
        make_base(&base);
        Self { identity, sandbox, base, groups: None, directory, next: Cell::new(0) }
    }

    pub fn in_groups(self, groups: Option<String>) -> Self {
        Self { groups, ..self }
    }

    pub fn sandbox(identity: &Identity, directory: &Path) -> Sandbox {
        Sandbox::new(SandboxSettings {
            identity: identity.clone(),
            directory: directory.join("sandbox"),
            resolv_conf: b"nameserver 192.0.2.1\n".to_vec(),
            own_resolv_conf: b"nameserver 10.0.2.3\n".to_vec(),
            hosts: b"127.0.0.1 localhost\n".to_vec(),
        })
    }

    pub fn single(&self) -> bool {
        matches!(self.identity, Identity::UserSingle { .. })
    }

    /// A new empty directory.
    pub fn directory(&self) -> PathBuf {
        self.next.set(self.next.get() + 1);
        let path = self.directory.path().join(self.next.get().to_string());
        fs::create_dir(&path).unwrap();
        path
    }

    /// A layer with what `fill` puts into it.
    pub fn layer(&self, fill: impl FnOnce(&Path)) -> PathBuf {
        let path = self.directory();
        fill(&path);
        path
    }

    pub fn spec(&self, script: &str) -> RunSpec {
        self.command(&["/bin/sh", "-c", script])
    }

    pub fn command(&self, args: &[&str]) -> RunSpec {
        RunSpec {
            root: Root {
                lowers: vec![self.base.clone()],
                traced: None,
                upper: self.directory(),
                work: self.directory(),
            },
            mounts: Vec::new(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            user: User::default(),
            network: Network::Host,
            hostname: String::new(),
            hosts: Vec::new(),
            insecure: false,
            limits: Limits::default(),
            terminal: None,
            files: Vec::new(),
        }
    }

    pub fn sh(&self, script: &str) -> Outcome {
        self.run(&self.spec(script))
    }

    /// The standard output of a script that must succeed.
    pub fn says(&self, script: &str) -> String {
        let outcome = self.sh(script);
        assert!(matches!(outcome.result, Ok(ExitStatus::Code(0))), "{outcome:?}");
        outcome.stdout.trim_end().to_owned()
    }

    pub fn run(&self, spec: &RunSpec) -> Outcome {
        let (stdout, stderr) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let on_output = |stream: LogStream, bytes: &[u8]| {
            let all = if stream == LogStream::Stdout { &stdout } else { &stderr };
            all.lock().unwrap().extend_from_slice(bytes);
        };
        let result = self.sandbox.run(spec, &on_output, &Cancel::new());
        assert!(fs::read_dir(&spec.root.work).unwrap().next().is_none(), "the work directory is empty again");
        let text = |bytes: Mutex<Vec<u8>>| String::from_utf8_lossy(&bytes.into_inner().unwrap()).into_owned();
        Outcome { result, stdout: text(stdout), stderr: text(stderr), upper: spec.root.upper.clone() }
    }
}

impl Outcome {
    pub fn code(&self) -> i32 {
        match self.result {
            Ok(ExitStatus::Code(code)) => code,
            _ => panic!("{self:?}"),
        }
    }

    pub fn assert_ok(&self) -> &Self {
        assert_eq!(self.code(), 0, "{self:?}");
        self
    }

    /// What the upper directory holds: sorted paths, each with a mark for its kind.
    pub fn changes(&self) -> Vec<String> {
        let mut all = Vec::new();
        list(&self.upper, "", &mut all);
        all.sort();
        all
    }
}

fn list(directory: &Path, prefix: &str, all: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = metadata.file_type();
        if kind.is_dir() {
            all.push(format!("{name}/"));
            list(&entry.path(), &format!("{name}/"), all);
        } else if metadata.mode() & 0o170_000 == 0o020_000 && metadata.rdev() == 0 {
            all.push(format!("{name} whiteout"));
        } else {
            all.push(name);
        }
    }
}

fn make_base(base: &Path) {
    for directory in ["bin", "etc", "tmp", "data/old", "data/gone"] {
        fs::create_dir_all(base.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
    for program in PROGRAMS.split_whitespace() {
        symlink("busybox", base.join("bin").join(program)).unwrap();
    }
    fs::write(base.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n").unwrap();
    fs::write(base.join("etc/group"), "root:x:0:\nada:x:1000:\nstaff:x:50:ada\n").unwrap();
    fs::write(base.join("data/file"), "old\n").unwrap();
    fs::write(base.join("data/old/file"), "old\n").unwrap();
    fs::write(base.join("data/gone/file"), "old\n").unwrap();
    fs::set_permissions(base.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
}
