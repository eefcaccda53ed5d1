//! The cache of GitHub Actions, as far as its public protocol goes: calls of Twirp, and the storage that they lead to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// A token whose job reads and writes `refs/heads/x` and reads `refs/heads/main`, and one of the job of `main`.
pub const TOKENS: [&str; 2] = [
    "e30.eyJhYyI6Ilt7XCJTY29wZVwiOlwicmVmcy9oZWFkcy94XCIsXCJQZXJtaXNzaW9uXCI6M30se1wiU2NvcGVcIjpcInJlZnMvaGVhZHMvbWFpblwi\
     LFwiUGVybWlzc2lvblwiOjF9XSJ9.hidden",
    "e30.eyJhYyI6Ilt7XCJTY29wZVwiOlwicmVmcy9oZWFkcy9tYWluXCIsXCJQZXJtaXNzaW9uXCI6M31dIn0.hidden",
];

/// The service, until it is dropped.
pub struct Service {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Kept {
    /// What was uploaded, by keys.
    blobs: BTreeMap<String, Vec<u8>>,
    /// The keys of finished entries, the youngest last.
    finished: Vec<String>,
}

impl Service {
    /// Starts one with nothing in it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (kept, stopped): (Arc<Mutex<Kept>>, _) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (inner, stop) = (kept.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let inner = inner.clone();
                std::thread::spawn(move || converse(&stream.unwrap(), &inner));
            }
        });
        Self { address, kept, stopped, thread: Some(thread) }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The keys of all entries, the youngest last.
    pub fn keys(&self) -> Vec<String> {
        self.kept.lock().unwrap().finished.clone()
    }

    /// Throws the entries away whose keys begin like this.
    pub fn evict(&self, beginning: &str) {
        self.kept.lock().unwrap().finished.retain(|key| !key.starts_with(beginning));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn converse(mut stream: &TcpStream, kept: &Mutex<Kept>) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line == "\r\n" => break,
            Ok(_) => lines.push(line.trim_end().to_owned()),
        }
    }
    let header = |name: &str| {
        let found = lines.iter().filter_map(|line| line.split_once(": "));
        found.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut words = lines[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (status, body) = match target.strip_prefix("/twirp/github.actions.results.api.v1.CacheService/") {
        Some(call) => {
            let token = header("authorization").unwrap_or_default();
            assert!(TOKENS.iter().any(|known| token == format!("Bearer {known}")), "whose token is that?");
            let host = header("host").unwrap();
            let (status, answer) = answer(call, &serde_json::from_slice(&body).unwrap(), &host, kept);
            (status, answer.to_string().into_bytes())
        }
        None => {
            assert!(header("authorization").is_none() && target.ends_with("?sig=hidden"));
            let key = target[1..].split('?').next().unwrap().replace("%23", "#");
            let mut kept = kept.lock().unwrap();
            match method {
                "PUT" => (201, kept.blobs.insert(key, body).map(|_| Vec::new()).unwrap_or_default()),
                _ => (200, kept.blobs[&key].clone()),
            }
        }
    };
    let head = format!("HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn answer(call: &str, asked: &Value, host: &str, kept: &Mutex<Kept>) -> (u16, Value) {
    let key = asked["key"].as_str().unwrap();
    let url = |key: &str| format!("http://{host}/{}?sig=hidden", key.replace('#', "%23"));
    let mut kept = kept.lock().unwrap();
    match call {
        "CreateCacheEntry" if kept.finished.iter().any(|known| known == key) => {
            (409, json!({"code": "already_exists", "msg": "cache entry already exists"}))
        }
        "CreateCacheEntry" => (200, json!({"ok": true, "signed_upload_url": url(key)})),
        "FinalizeCacheEntryUpload" => {
            assert_eq!(kept.blobs[key].len() as u64, asked["size_bytes"].as_u64().unwrap());
            kept.finished.push(key.to_owned());
            (200, json!({"ok": true, "entry_id": "1"}))
        }
        "GetCacheEntryDownloadURL" => match kept.finished.iter().rev().find(|known| known.starts_with(key)) {
            Some(key) => (200, json!({"ok": true, "matched_key": key, "signed_download_url": url(key)})),
            None => (200, json!({"ok": false})),
        },
        other => panic!("no call is named `{other}`"),
    }
}
