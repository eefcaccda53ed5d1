//! An archive on its way into a daemon: written on one thread, and sent on another while it is.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiln_solver::Cancel;
use reqwest::blocking::{Body, RequestBuilder};
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;

use super::{Connection, answer};
use crate::ImageError;
use crate::export::{self, Destination, Format, Package};
use crate::registry::{Meter, attended, reason};

/// Unpacking takes as long as it takes; a daemon that dies closes its connection.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The reading end of an archive: one that breaks off is an error, and not an end.
struct Archive {
    stream: UnixStream,
    is_whole: Arc<AtomicBool>,
}

/// What a daemon says while it loads.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    error: Option<String>,
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer)? {
            0 if !buffer.is_empty() && !self.is_whole.load(Ordering::SeqCst) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive was not finished"))
            }
            count => Ok(count),
        }
    }
}

pub(super) fn load(connection: &Connection, package: &Package, cancel: &Cancel) -> Result<String, ImageError> {
    let (input, output) = UnixStream::pair().map_err(ImageError::io("make a pipe to", &connection.daemon))?;
    let is_whole = Arc::new(AtomicBool::new(false));
    let archive = Archive { stream: output, is_whole: is_whole.clone() };
    let request =
        connection.client.post(connection.url("images/load?quiet=1")?).header(CONTENT_TYPE, "application/x-tar");
    let request = request.body(Body::new(archive));
    // Whoever waits for the other side must not wait on.
    let stop = input.try_clone().map_err(ImageError::io("make a pipe to", &connection.daemon))?;
    let _hook = cancel.on_request(move || {
        let _ = stop.shutdown(Shutdown::Both);
    });
    let (written, sent) = std::thread::scope(|scope| {
        let written = scope.spawn(move || {
            let written = write(package, &input, &is_whole, cancel);
            // It stays open otherwise, for the sake of whoever may want to stop it.
            let _ = input.shutdown(Shutdown::Write);
            written
        });
        let sent = send(request, cancel);
        (written.join(), sent)
    });
    let written = written.unwrap_or(Err(ImageError::Thread("write an archive: its thread died")));
    match (written, sent?) {
        // What the daemon says of an archive that it does not read on tells more than that it does not.
        (Ok(()) | Err(ImageError::Output(_)), Err(reason)) => Err(connection.error(reason)),
        (Err(error), _) => Err(error),
        (Ok(()), Ok(answer)) => said(&answer).map_err(|reason| connection.error(reason)),
    }
}

fn write(package: &Package, stream: &UnixStream, is_whole: &AtomicBool, cancel: &Cancel) -> Result<(), ImageError> {
    let mut buffered = io::BufWriter::with_capacity(64 << 10, stream);
    let packages = std::slice::from_ref(package);
    export::write(packages, Format::Docker, Destination::Stream(&mut buffered), cancel)?;
    buffered.flush().map_err(ImageError::Output)?;
    is_whole.store(true, Ordering::SeqCst);
    Ok(())
}

fn send(request: RequestBuilder, cancel: &Cancel) -> Result<Result<Vec<u8>, String>, ImageError> {
    let ask = move || request.send().map_err(|error| reason(&error)).and_then(answer);
    let sent = attended(cancel, &Meter::default(), |_| A_DAY, ask)?;
    Ok(sent.unwrap_or_else(|| Err("it does not answer".to_owned())))
}

/// The lines for people of what a daemon answers, or what went wrong on the way.
fn said(answer: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    for message in serde_json::Deserializer::from_slice(answer).into_iter::<Message>() {
        let message = message.map_err(|error| format!("its answer is malformed: {error}"))?;
        if let Some(error) = message.error {
            return Err(error);
        }
        text.push_str(&message.stream);
    }
    Ok(text.trim().to_owned())
}
