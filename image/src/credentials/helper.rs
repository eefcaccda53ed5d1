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

/// Asks a helper; `None` where it knows nothing of the server.
pub(super) fn ask(
    name: &str,
    server: &str,
    path: Option<&OsStr>,
    patience: Duration,
    cancel: &Cancel,
    error: &dyn Fn(String) -> ImageError,
) -> Result<Option<Credential>, ImageError> {
    let program = format!("docker-credential-{name}");
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(error(format!("`{name}` is not the name of a credential helper")));
    }
    let mut child = Command::new(locate(&program, path))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|cause| error(format!("cannot run `{program}`: {cause}")))?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not care for its input says more by its exit status than by a broken pipe.
        let _ = writeln!(input, "{server}");
    }
    let (succeeded, answer) = finish(child, patience, cancel)?
        .ok_or_else(|| error(format!("`{program}` did not answer within {} s", patience.as_secs())))?;
    if !succeeded {
        let unknown = String::from_utf8_lossy(&answer).to_lowercase().contains("credentials not found");
        return if unknown { Ok(None) } else { Err(error(format!("`{program}` failed"))) };
    }
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|_| error(format!("`{program}` gave an answer that is malformed")))?;
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Credential::IdentityToken(Secret(answer.secret)),
        _ => Credential::Password { user: answer.username, password: Secret(answer.secret) },
    }))
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
