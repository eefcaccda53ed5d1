//! A proxy in front of a registry that makes go wrong what a test wants, the same way each time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request on its way to the registry.
#[derive(Clone, Debug)]
pub struct Passing {
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Its header lines.
    pub headers: Vec<String>,
    /// How many requests of this method there were before.
    pub before: usize,
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection breaks after so many bytes of the request's body; the registry gets those.
    CutRequest(usize),
    /// The registry never hears of it, and this is the answer: status line and header lines.
    Answer(String),
    /// The connection breaks after so many bytes of the answer's body.
    CutAnswer(usize),
    /// One bit of the answer's body is not what it was.
    Flip,
    /// The answer promises so many bytes more than there are, and ends.
    Lengthen(usize),
    /// The answer comes byte by byte.
    Drip,
    /// The answer is lost.
    Mute,
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    passed: Arc<Mutex<Vec<Passing>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Faults = dyn Fn(&Passing) -> Option<Fault> + Send + Sync;

impl Proxy {
    /// A proxy before the server of this address.
    pub fn before(upstream: &str, faults: impl Fn(&Passing) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listening on loopback");
        let address = listener.local_addr().unwrap();
        let (passed, stopped) = (Arc::<Mutex<Vec<Passing>>>::default(), Arc::new(AtomicBool::new(false)));
        let (log, stop, upstream) = (Arc::clone(&passed), Arc::clone(&stopped), upstream.to_owned());
        let faults: Arc<Faults> = Arc::new(faults);
        let serve = move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (log, upstream, faults) = (Arc::clone(&log), upstream.clone(), Arc::clone(&faults));
                std::thread::spawn(move || pass(stream.unwrap(), &upstream, &*faults, &log));
            }
        };
        Self { address, passed, stopped, thread: Some(std::thread::spawn(serve)) }
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// All requests so far.
    pub fn passed(&self) -> Vec<Passing> {
        self.passed.lock().unwrap().clone()
    }

    /// How many requests there were with this method, and this in what they asked for.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.passed().iter().filter(|passing| passing.method == method && passing.target.contains(part)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Passes one request on, and its answer back. Connections end after each.
fn pass(mut client: TcpStream, upstream: &str, faults: &Faults, log: &Mutex<Vec<Passing>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let Some((passing, length)) = head(&mut reader, log) else { return };
    let fault = faults(&passing);
    let mut body = vec![0; length];
    if let Some(Fault::CutRequest(most)) = fault {
        body.truncate(most);
    }
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    if let Some(Fault::Answer(answer)) = fault {
        let _ = write!(client, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream) else { return };
    let lines: String = passing.headers.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("{} {} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n", passing.method, passing.target);
    if server.write_all(request.as_bytes()).and_then(|()| server.write_all(&body)).is_err() {
        return;
    }
    if matches!(fault, Some(Fault::CutRequest(_))) {
        return;
    }
    let mut answer = Vec::new();
    if server.read_to_end(&mut answer).is_err() || matches!(fault, Some(Fault::Mute)) {
        return;
    }
    // A client that has gone away by now is its own concern.
    let _ = reply(&mut client, &answer, fault.as_ref());
}

fn head(reader: &mut impl BufRead, log: &Mutex<Vec<Passing>>) -> Option<(Passing, usize)> {
    let lines: Vec<String> = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let (first, headers) = lines.split_first()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = headers.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let headers = headers.iter().filter(|line| !line.to_lowercase().starts_with("connection:")).cloned().collect();
    let mut log = log.lock().unwrap();
    let before = log.iter().filter(|passing| passing.method == method).count();
    let passing = Passing { method, target, headers, before };
    log.push(passing.clone());
    Some((passing, length.unwrap_or(0)))
}

fn reply(client: &mut TcpStream, answer: &[u8], fault: Option<&Fault>) -> std::io::Result<()> {
    let split = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(answer.len(), |place| place + 4);
    let (head, body) = answer.split_at(split);
    let mut body = body.to_vec();
    match fault {
        Some(Fault::CutAnswer(most)) => body.truncate(*most),
        Some(Fault::Flip) => {
            let middle = body.len() / 2;
            body.get_mut(middle).into_iter().for_each(|byte| *byte ^= 1);
        }
        Some(Fault::Lengthen(more)) => {
            let own = format!("Content-Length: {}\r\n", body.len());
            let head =
                String::from_utf8_lossy(head).replace(&own, &format!("Content-Length: {}\r\n", body.len() + more));
            return client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body));
        }
        Some(Fault::Drip) => {
            client.set_nodelay(true)?;
            client.write_all(head)?;
            return body.iter().try_for_each(|byte| client.write_all(&[*byte]));
        }
        _ => {}
    }
    client.write_all(head).and_then(|()| client.write_all(&body))
}
