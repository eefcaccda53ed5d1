//! A web server of files, for contexts and sources that come from elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Serves the files of a directory, each with an entity tag, until it is dropped.
pub struct Web {
    address: SocketAddr,
    bodies: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// A server of this directory.
    pub fn serve(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listening on loopback");
        let address = listener.local_addr().unwrap();
        let (bodies, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (root, sent, stop) = (root.to_owned(), Arc::clone(&bodies), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (root, sent) = (root.clone(), Arc::clone(&sent));
                std::thread::spawn(move || answer(&stream.unwrap(), &root, &sent));
            }
        });
        Self { address, bodies, stopped, thread: Some(thread) }
    }

    /// The URL of a file.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// How many files were sent as a whole so far.
    pub fn bodies(&self) -> usize {
        self.bodies.load(Ordering::SeqCst)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(stream: &TcpStream, root: &Path, sent: &AtomicUsize) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(first) = lines.next() else { return };
    let headers: Vec<String> = lines.collect();
    let path = first.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
    let file: PathBuf = root.join(path.trim_start_matches('/'));
    let mut stream = stream;
    let mut reply = |status: &str, more: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    let Ok(body) = std::fs::read(file) else { return reply("404 Not Found", "", b"") };
    let tag = format!("\"{}\"", crate::layout::sha256(&body));
    let known = headers.iter().any(|line| line.to_lowercase().starts_with("if-none-match:") && line.contains(&tag));
    let tag = format!("ETag: {tag}\r\n");
    if known {
        return reply("304 Not Modified", &tag, b"");
    }
    sent.fetch_add(1, Ordering::SeqCst);
    reply("200 OK", &tag, &body);
}
