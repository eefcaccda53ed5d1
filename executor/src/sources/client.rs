//! The HTTP client: proxies as told, and waiting that a request to stop interrupts.

use std::error::Error;
use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, SyncSender, sync_channel};
use std::time::Duration;

use kiln_solver::{Cancel, CancelHook};
use reqwest::blocking::{Client, ClientBuilder, RequestBuilder, Response};
use reqwest::{NoProxy, Proxy, redirect};

use super::{Remote, SourceError};

const USER_AGENT: &str = concat!("kiln/", env!("CARGO_PKG_VERSION"));
const MOST_REDIRECTS: usize = 10;
/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(15);
/// The longest silence while an answer is awaited, or in the middle of one.
const SILENCE: Duration = Duration::from_secs(60);
/// Never asked over a proxy, as Go and so Docker have it.
const LOCAL: &str = "localhost,127.0.0.0/8,::1";

const CHUNK: usize = 256 << 10;
/// How many chunks are read ahead.
const AHEAD: usize = 8;

/// Makes a client. It follows redirects, and sends credentials to the host that they were given for alone.
pub(super) fn client(remote: &Remote, tls: bool) -> Result<Client, String> {
    // The provider of a process can be set only once; that somebody did already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match builder(remote)?.build() {
        // A machine without root certificates can still fetch over http.
        Err(_) if !tls => builder(remote)?.tls_certs_only([]).build().map_err(|error| reason(&error)),
        built => built.map_err(|error| reason(&error)),
    }
}

fn builder(remote: &Remote) -> Result<ClientBuilder, String> {
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::limited(MOST_REDIRECTS))
        .referer(false)
        .connect_timeout(CONNECT)
        .timeout(SILENCE)
        .no_proxy();
    let variable = |names: [&str; 2]| names.into_iter().find_map(|name| remote.variable(name)).and_then(|v| v.to_str());
    let except = variable(["no_proxy", "NO_PROXY"]).map_or(LOCAL.to_owned(), |hosts| format!("{hosts},{LOCAL}"));
    let all = variable(["all_proxy", "ALL_PROXY"]);
    let bad = |_| "a proxy of the environment is not a URL".to_owned();
    if let Some(proxy) = variable(["http_proxy", "HTTP_PROXY"]).or(all) {
        builder = builder.proxy(Proxy::http(proxy).map_err(bad)?.no_proxy(NoProxy::from_string(&except)));
    }
    if let Some(proxy) = variable(["https_proxy", "HTTPS_PROXY"]).or(all) {
        builder = builder.proxy(Proxy::https(proxy).map_err(bad)?.no_proxy(NoProxy::from_string(&except)));
    }
    Ok(builder)
}

/// Sends a request on another thread and waits for the answer, or for the request to stop.
pub(super) fn send(request: RequestBuilder, cancel: &Cancel) -> Result<Result<Response, reqwest::Error>, SourceError> {
    let (sender, receiver) = mpsc::channel();
    let stop = sender.clone();
    let _hook = cancel.on_request(move || {
        let _ = stop.send(None);
    });
    let work = move || {
        let _ = sender.send(Some(request.send()));
    };
    spawn(work)?;
    match receiver.recv() {
        Ok(Some(result)) => Ok(result),
        Ok(None) => Err(SourceError::Cancelled),
        Err(_) => Err(SourceError::Thread("finish a request: its thread died")),
    }
}

/// Sleeps, unless the build is asked to stop.
pub(super) fn pause(cancel: &Cancel, duration: Duration) -> Result<(), SourceError> {
    let (sender, receiver) = mpsc::channel();
    let _hook = cancel.on_request(move || {
        let _ = sender.send(());
    });
    match receiver.recv_timeout(duration) {
        Err(mpsc::RecvTimeoutError::Timeout) => Ok(()),
        _ => Err(SourceError::Cancelled),
    }
}

/// The body of an answer, read ahead on a thread of its own.
pub(super) struct Body {
    chunks: Receiver<Event>,
    _hook: CancelHook,
}

enum Event {
    Chunk(Vec<u8>),
    Failed(String),
    End,
    Stop,
}

/// Why a body ended before its end.
pub(super) enum Broken {
    /// The connection failed.
    Connection(String),
    /// The build was asked to stop.
    Cancelled,
}

impl Body {
    pub(super) fn new(mut response: Response, cancel: &Cancel) -> Result<Self, SourceError> {
        let (sender, chunks) = sync_channel(AHEAD);
        let stop = sender.clone();
        let hook = cancel.on_request(move || {
            let _ = stop.try_send(Event::Stop);
        });
        spawn(move || pump(&mut response, &sender))?;
        Ok(Self { chunks, _hook: hook })
    }

    /// The next bytes; none at the end.
    pub(super) fn next(&self, cancel: &Cancel) -> Result<Option<Vec<u8>>, Broken> {
        if cancel.is_requested() {
            return Err(Broken::Cancelled);
        }
        match self.chunks.recv() {
            Ok(Event::Chunk(chunk)) => Ok(Some(chunk)),
            Ok(Event::End) => Ok(None),
            Ok(Event::Stop) => Err(Broken::Cancelled),
            Ok(Event::Failed(reason)) => Err(Broken::Connection(reason)),
            Err(_) => Err(Broken::Connection("the connection was lost".to_owned())),
        }
    }
}

/// Reads until the end, an error, or nobody listens any more.
fn pump(body: &mut dyn Read, sender: &SyncSender<Event>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let event = match body.read(&mut chunk) {
            Ok(0) => Event::End,
            Ok(count) => {
                chunk.truncate(count);
                Event::Chunk(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Event::Failed(reason(&error)),
        };
        let more = matches!(event, Event::Chunk(_));
        if sender.send(event).is_err() || !more {
            return;
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), SourceError> {
    let started = std::thread::Builder::new().name("kiln-fetch".to_owned()).spawn(work);
    started.map(drop).map_err(|_| SourceError::Thread("start a thread for a connection"))
}

/// The innermost cause of an error of the network stack, which is the one that means something to people. It has no
/// URL in it.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_timeout() => "it took too long".to_owned(),
        Some(error) if error.url().is_some() => "the request failed".to_owned(),
        _ => cause.to_string(),
    }
}
