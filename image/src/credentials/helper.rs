//! Credential helpers: programs `docker-credential-NAME` with docker's protocol.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kiln_solver::Cancel;
use serde::Deserialize;

use super::{Credential, Secret};
use crate::ImageError;

/// The user name by which helpers say that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// No answer of a helper is longer than this.
const LONGEST_ANSWER: u64 = 1 << 20;
const POLL: Duration = Duration::from_millis(5);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// A helper, and how it is called.
pub(super) struct Helper<'a> {
    pub(super) name: &'a str,
    /// Directories to look for it in, as in `PATH`; those of this process where there are none.
    pub(super) path: Option<&'a OsStr>,
    pub(super) patience: Duration,
    pub(super) cancel: &'a Cancel,
}

/// What a helper said.
struct Said {
    succeeded: bool,
    answer: Vec<u8>,
}

type ErrorOf<'a> = &'a dyn Fn(String) -> ImageError;

impl Helper<'_> {
    /// Asks for the credentials of a server; `None` where it knows nothing of it.
    pub(super) fn get(&self, server: &str, error: ErrorOf<'_>) -> Result<Option<Credential>, ImageError> {
        let Said { succeeded, answer } = self.call("get", server.as_bytes(), error)?;
        let program = self.program();
        if !succeeded {
            return if is_unknown(&answer) { Ok(None) } else { Err(error(format!("`{program}` failed"))) };
        }
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| error(format!("`{program}` gave an answer that is malformed")))?;
        Ok(Some(match answer.username.as_str() {
            TOKEN_USER => Credential::IdentityToken(Secret(answer.secret)),
            _ => Credential::Password { user: answer.username, password: Secret(answer.secret) },
        }))
    }

    /// Has it keep the credentials of a server.
    pub(super) fn store(
        &self,
        server: &str,
        user: &str,
        password: &Secret,
        error: ErrorOf<'_>,
    ) -> Result<(), ImageError> {
        let request = serde_json::json!({ "ServerURL": server, "Username": user, "Secret": password.reveal() });
        let said = self.call("store", request.to_string().as_bytes(), error)?;
        if said.succeeded { Ok(()) } else { Err(error(format!("`{}` could not store them", self.program()))) }
    }

    /// Has it forget the credentials of a server; `false` where it knew none.
    pub(super) fn erase(&self, server: &str, error: ErrorOf<'_>) -> Result<bool, ImageError> {
        let said = self.call("erase", server.as_bytes(), error)?;
        match said.succeeded {
            true => Ok(true),
            false if is_unknown(&said.answer) => Ok(false),
            false => Err(error(format!("`{}` could not erase them", self.program()))),
        }
    }

    /// The name of the program.
    pub(super) fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    fn call(&self, verb: &str, input: &[u8], error: ErrorOf<'_>) -> Result<Said, ImageError> {
        let (name, program) = (self.name, self.program());
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(error(format!("`{name}` is not the name of a credential helper")));
        }
        let mut child = Command::new(locate(&program, self.path))
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| error(format!("cannot run `{program}`: {cause}")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not care for its input says more by its exit status than by a broken pipe.
            let _ = stdin.write_all(input).and_then(|()| stdin.write_all(b"\n"));
        }
        let said = finish(child, self.patience, self.cancel)?;
        let (succeeded, answer) =
            said.ok_or_else(|| error(format!("`{program}` did not answer within {} s", self.patience.as_secs())))?;
        Ok(Said { succeeded, answer })
    }
}

fn is_unknown(answer: &[u8]) -> bool {
    String::from_utf8_lossy(answer).to_lowercase().contains("credentials not found")
}

fn locate(program: &str, path: Option<&OsStr>) -> PathBuf {
    let found = path
        .and_then(|path| std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file()));
    found.unwrap_or_else(|| program.into())
}

/// Waits for a helper and takes its output. Kills it when it takes too long (`None`) or the build stops.
fn finish(mut child: Child, patience: Duration, cancel: &Cancel) -> Result<Option<(bool, Vec<u8>)>, ImageError> {
    let (sender, output) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        let read = move || {
            let mut bytes = Vec::new();
            let _ = stdout.take(LONGEST_ANSWER).read_to_end(&mut bytes);
            let _ = sender.send(bytes);
        };
        std::thread::Builder::new()
            .spawn(read)
            .map_err(|_| ImageError::Thread("start a thread for a credential helper"))?;
    }
    let deadline = Instant::now() + patience;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            let rest = deadline.saturating_duration_since(Instant::now());
            return Ok(output.recv_timeout(rest).ok().map(|bytes| (status.success(), bytes)));
        }
        if cancel.is_requested() || Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return if cancel.is_requested() { Err(ImageError::Cancelled) } else { Ok(None) };
        }
        std::thread::sleep(POLL);
    }
}
