//! What the tests of sources share: a store, and a tiny HTTP server that answers as a test wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use kiln_cache::{EntryKind, Store, StoredLayer, View, Whiteouts};

use super::{Remote, Sources};

/// A store and a way to reach others.
pub(super) struct World {
    pub(super) directory: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) remote: Remote,
}

impl World {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), Whiteouts::Trusted).unwrap();
        let path = ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
        let remote = Remote { environment: vec![path], pause: Duration::from_millis(1) };
        Self { directory, store, remote }
    }

    /// The same with a variable in the environment.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.remote.environment.push((name.into(), value.into()));
        self
    }

    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { store: &self.store, remote: &self.remote, created: UNIX_EPOCH }
    }

    /// Every file of a layer, with its content.
    pub(super) fn show(&self, layer: &StoredLayer) -> Vec<String> {
        let view = View::new(vec![layer.clone()]);
        let found = view.walk(b"").unwrap();
        let show = |path: &str, kind, target: &[u8]| match kind {
            EntryKind::Directory { .. } => format!("{path}/"),
            EntryKind::Symlink => format!("{path}->{}", String::from_utf8_lossy(target)),
            _ => {
                let content = view.read(path.as_bytes(), 1 << 20).unwrap().unwrap();
                format!("{path}={}", String::from_utf8_lossy(&content))
            }
        };
        let entries = found.iter().map(|found| found.entry);
        entries.map(|entry| show(&String::from_utf8_lossy(entry.path), entry.kind, entry.target)).collect()
    }

    /// Whether a text is in any file of the store.
    pub(super) fn knows(&self, text: &str) -> bool {
        fn search(directory: &std::path::Path, text: &[u8]) -> bool {
            std::fs::read_dir(directory).unwrap().any(|entry| {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                let has = |path| std::fs::read(path).unwrap().windows(text.len()).any(|part| part == text);
                if kind.is_dir() { search(&entry.path(), text) } else { kind.is_file() && has(entry.path()) }
            })
        }
        search(self.directory.path(), text.as_bytes())
    }
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
}

/// What the server answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(200) }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Ends the connection after so many bytes of the body.
    pub(super) fn cut_after(self, bytes: usize) -> Self {
        Self { cut: Some(bytes), ..self }
    }
}

pub(super) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stopped) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(AtomicBool::new(false)));
        let (answer, log, stop) = (Arc::new(answer), asked.clone(), stopped.clone());
        let serve = move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || converse(&stream.unwrap(), &*answer, &log));
            }
        };
        Self { address, asked, stopped, thread: Some(std::thread::spawn(serve)) }
    }

    /// Host and port.
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Everything that was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
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

fn converse(stream: &TcpStream, answer: &dyn Fn(&Asked, usize) -> Reply, log: &Mutex<Vec<Asked>>) {
    let Some(asked) = read(stream) else { return };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len()
    };
    let reply = answer(&asked, number);
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
}

fn read(stream: impl Read) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned()).filter(|_| !line.is_empty())
    };
    let first = line()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(": ") {
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    Some(Asked { path, headers })
}
