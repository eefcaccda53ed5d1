//! A tiny HTTP server that answers as a test wants, faults included, and a registry made of it.

mod hub;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

pub(crate) use hub::{Fault, Hub};

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What the server answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    silent: bool,
    hung_up: bool,
}

pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn ok(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(200) }.header("Content-Type", kind)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Ends the connection after so many bytes of the body.
    pub(crate) fn cut_after(self, bytes: usize) -> Self {
        Self { cut: Some(bytes), ..self }
    }

    /// Ends the connection without a word.
    pub(crate) fn hung_up() -> Self {
        Self { hung_up: true, ..Self::default() }
    }

    /// Keeps the connection open and says nothing at all.
    pub(crate) fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::launch(None, |_, _| usize::MAX, answer)
    }

    /// A registry.
    pub(crate) fn hub(hub: &Arc<Hub>) -> Self {
        let (hub, reading) = (hub.clone(), hub.clone());
        Self::launch(None, move |method, target| reading.most(method, target), move |asked| hub.answer(asked))
    }

    /// Speaks TLS, and asks its clients for a certificate if told so.
    pub(crate) fn start_tls(ask_client: bool, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::launch(Some(Arc::new(server_tls(ask_client))), |_, _| usize::MAX, answer)
    }

    fn launch(
        tls: Option<Arc<rustls::ServerConfig>>,
        most: impl Fn(&str, &str) -> usize + Send + Sync + 'static,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (most, answer, log, stop) = (Arc::new(most), Arc::new(answer), asked.clone(), stopped.clone());
        let serve = move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (most, answer, log) = (most.clone(), answer.clone(), log.clone());
                let (stop, tls) = (stop.clone(), tls.clone());
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    let mut stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => {
                            let connection = rustls::ServerConnection::new(tls).unwrap();
                            Box::new(rustls::StreamOwned::new(connection, stream))
                        }
                    };
                    converse(&mut *stream, &*most, &*answer, &log, &stop);
                });
            }
        };
        Self { address, asked, stopped, thread: Some(std::thread::spawn(serve)) }
    }

    /// Host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often something was asked whose method and path are these.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.method == method && asked.path() == path).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A file of `testdata/tls`.
pub(crate) fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls").join(name)
}

fn server_tls(ask_client: bool) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let certificate = |name| CertificateDer::from_pem_file(tls_file(name)).unwrap();
    let builder = if ask_client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate("ca.pem")).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).unwrap();
    builder.with_single_cert(vec![certificate("server.pem")], key).unwrap()
}

fn converse(
    stream: &mut dyn Stream,
    most: &dyn Fn(&str, &str) -> usize,
    answer: &dyn Fn(&Asked) -> Reply,
    log: &Mutex<Vec<Asked>>,
    stop: &AtomicBool,
) {
    let Some(asked) = read(stream, most) else {
        return;
    };
    log.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    while reply.silent && !stop.load(Ordering::SeqCst) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    if reply.hung_up {
        return;
    }
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = if asked.method == "HEAD" { &[][..] } else { &reply.body };
    let body = &body[..reply.cut.unwrap_or(body.len()).min(body.len())];
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(b"\r\n"))
        .and_then(|()| stream.write_all(body))
        .and_then(|()| stream.flush());
}

fn read(stream: &mut dyn Stream, most: &dyn Fn(&str, &str) -> usize) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned()).filter(|_| !line.is_empty())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(": ") {
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        return read_chunks(&mut reader).map(|body| Asked { method, target, headers, body });
    }
    let length = headers.get("content-length").and_then(|length: &String| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length.min(most(&method, &target))];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body })
}

/// A body that comes in chunks; `None` where it breaks off.
fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        reader.read_line(&mut line).ok()?;
        if length == 0 {
            return Some(body);
        }
    }
}
