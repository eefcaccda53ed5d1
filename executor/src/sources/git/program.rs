//! The git program: run without prompts, hooks or anybody's configuration, and stopped when the build is.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kiln_solver::Cancel;
use rustix::process::{Pid, Signal};

use super::super::{Remote, SourceError, address};

/// The transports of the wide world.
const PROTOCOLS: &str = "http:https:ssh:git";
/// Far more than the few lines that are asked for.
const MOST_OUTPUT: u64 = 64 << 20;
const MOST_ERRORS: u64 = 64 << 10;

/// What every git is told.
const SETTINGS: [&str; 10] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.logAllRefUpdates=false",
    "core.symlinks=true",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "init.defaultBranch=main",
    "safe.directory=*",
    "pack.threads=1",
];

/// How git is run for one remote.
pub(super) struct Program<'a> {
    remote: &'a Remote,
    cancel: &'a Cancel,
    /// The address without credentials.
    pub(super) address: String,
    /// The credentials, as they stand in the address.
    user: Option<&'a str>,
    /// The address as people may see it.
    pub(super) shown: String,
}

/// What git did not do, and what it said.
pub(super) struct Failed {
    command: String,
    said: String,
}

impl<'a> Program<'a> {
    pub(super) fn new(remote: &'a Remote, written: &'a str, cancel: &'a Cancel) -> Self {
        let (user, address) = address::split_user(written);
        Self { remote, cancel, address, user, shown: address::shown(written) }
    }

    /// Runs git; its output if it succeeds.
    pub(super) fn run<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        args: &[S],
        environment: &[(&str, &OsStr)],
    ) -> Result<Result<Vec<u8>, Failed>, SourceError> {
        if self.cancel.is_requested() {
            return Err(SourceError::Cancelled);
        }
        let mut command = self.command(directory);
        command.args(args).envs(environment.iter().copied());
        let child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound if directory.exists() => SourceError::GitMissing { remote: self.shown.clone() },
            _ => SourceError::Local { action: "run git in", path: directory.to_owned(), source: error },
        })?;
        let (succeeded, output, said) = self.watch(child).map_err(|source| {
            let path = directory.to_owned();
            SourceError::Local { action: "run git in", path, source }
        })?;
        if self.cancel.is_requested() {
            return Err(SourceError::Cancelled);
        }
        let verb = args.iter().find(|arg| !arg.as_ref().as_encoded_bytes().starts_with(b"-"));
        let command = verb.map(|verb| verb.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
        Ok(if succeeded { Ok(output) } else { Err(Failed { command, said: self.clean(&said) }) })
    }

    /// The same, where failing is an error.
    pub(super) fn must<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        args: &[S],
        environment: &[(&str, &OsStr)],
    ) -> Result<Vec<u8>, SourceError> {
        self.run(directory, args, environment)?.map_err(|failed| self.error(failed))
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new("git");
        command.current_dir(directory).env_clear();
        command.envs(self.remote.environment.iter().map(|(name, value)| (name, value)));
        if self.remote.variable("GIT_ALLOW_PROTOCOL").is_none() {
            command.env("GIT_ALLOW_PROTOCOL", PROTOCOLS);
        }
        if ["GIT_SSH", "GIT_SSH_COMMAND"].iter().all(|name| self.remote.variable(name).is_none()) {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("SSH_ASKPASS", "true"),
            ("HOME", "/dev/null"),
            ("LC_ALL", "C"),
        ] {
            command.env(name, value);
        }
        // Credentials go through the environment, which nobody else can read, not through the arguments.
        if let Some(user) = self.user {
            let (scheme, rest) = self.address.split_once("://").unwrap_or_default();
            let host = rest.split('/').next().unwrap_or_default();
            command.env("GIT_CONFIG_COUNT", "1");
            command.env("GIT_CONFIG_KEY_0", format!("url.{scheme}://{user}{host}/.insteadOf"));
            command.env("GIT_CONFIG_VALUE_0", format!("{scheme}://{host}/"));
        }
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }

    /// Reads what a git says until it ends. It and its children are killed when the build is to stop.
    fn watch(&self, mut child: Child) -> io::Result<(bool, Vec<u8>, Vec<u8>)> {
        let pid = Pid::from_child(&child);
        // Armed only as long as nobody has waited for the child, so that its number is nobody else's.
        let hook = self.cancel.on_request(move || {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        });
        let errors = child.stderr.take().map(|from| std::thread::spawn(move || read(from, MOST_ERRORS)));
        let output = child.stdout.take().map(|from| read(from, MOST_OUTPUT)).unwrap_or_default();
        let said = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        drop(hook);
        Ok((child.wait()?.success(), output, said))
    }

    /// What git said that is worth telling, without secrets.
    fn clean(&self, said: &[u8]) -> String {
        let mut said = String::from_utf8_lossy(said).into_owned();
        if let Some(user) = self.user {
            said = said.replace(user, "");
            let secrets = user.trim_end_matches('@').split(':').filter(|secret| secret.len() > 2);
            for secret in secrets {
                said = said.replace(secret, "***");
            }
        }
        said
    }

    /// The error that a failure is.
    pub(super) fn error(&self, failed: Failed) -> SourceError {
        let remote = self.shown.clone();
        let Failed { command, said } = failed;
        let reason = reason(&said);
        let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if says(&["transport '"]) && says(&["not allowed"]) {
            SourceError::Protocol { remote, reason }
        } else if says(&[
            "could not read Username",
            "could not read Password",
            "Authentication failed",
            "Permission denied (publickey",
            "Host key verification failed",
            "terminal prompts disabled",
            "The requested URL returned error: 401",
            "The requested URL returned error: 403",
        ]) {
            SourceError::Authentication { remote, reason }
        } else if says(&[
            "not found",
            "does not appear to be a git repository",
            "does not exist",
            "not a git repository",
        ]) {
            SourceError::RepositoryNotFound { remote, reason }
        } else {
            SourceError::Git { remote, command, reason }
        }
    }
}

fn read(from: impl Read, most: u64) -> Vec<u8> {
    let mut from = from;
    let mut bytes = Vec::new();
    let _ = (&mut from).take(most).read_to_end(&mut bytes);
    // Whoever writes more is not to be stuck.
    let _ = io::copy(&mut from, &mut io::sink());
    bytes
}

/// The line that tells why: the first that git marks as fatal or an error, without the mark.
fn reason(said: &str) -> String {
    let marked = |mark: &str| said.lines().find_map(|line| line.strip_prefix(mark));
    let line = marked("remote: ").filter(|line| line.contains("not found"));
    let line = line.or_else(|| marked("fatal: ")).or_else(|| marked("error: "));
    let line = line.or_else(|| said.lines().rfind(|line| !line.trim().is_empty()));
    line.unwrap_or("it did not say why").trim().to_owned()
}

/// Arguments of different kinds in one list.
pub(super) fn words(parts: &[&dyn AsRef<OsStr>]) -> Vec<OsString> {
    parts.iter().map(|part| part.as_ref().to_owned()).collect()
}
