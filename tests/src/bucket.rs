//! A real S3-compatible store: moto's server, in a process of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::registry::free_port;
use crate::run;

/// A bucket of the store that all tests share.
pub struct Bucket {
    /// Host and port of the store.
    pub address: &'static str,
    name: String,
}

/// Starts the store, once for all tests: that takes long, and may have to install it.
fn server() -> &'static str {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| {
        let home = run::directory("bucket").keep();
        let port = free_port();
        let log = std::fs::File::create(home.join("log")).unwrap();
        let mut command = Command::new(program());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).current_dir(&home).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        run::end_with_run(command.spawn().expect("starting `moto_server`"));
        let address = format!("127.0.0.1:{port}");
        let began = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(300), "moto does not start: see {}", home.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        address
    })
}

impl Bucket {
    /// Makes one, which no other test knows.
    pub fn new(name: &str) -> Self {
        let bucket = Self { address: server(), name: name.to_owned() };
        assert!(bucket.ask("PUT", "", &[]).starts_with("HTTP/1.1 200"));
        bucket
    }

    /// The names of all objects.
    pub fn objects(&self) -> Vec<String> {
        let list = self.ask("GET", "?list-type=2", &[]);
        let names = list.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// The entity tag of an object: behind a dash it says of how many parts it is, if of several.
    pub fn tag(&self, object: &str) -> String {
        let head = self.ask("HEAD", &format!("/{object}"), &[]).to_lowercase();
        let line = head.lines().find_map(|line| line.strip_prefix("etag: "));
        line.unwrap_or_else(|| panic!("{head}")).trim_matches('"').to_owned()
    }

    /// Puts other bytes in the place of an object.
    pub fn replace(&self, object: &str, bytes: &[u8]) {
        assert!(self.ask("PUT", &format!("/{object}"), bytes).starts_with("HTTP/1.1 200"));
    }

    /// The whole answer to a request; `target` is what stands behind the bucket.
    fn ask(&self, method: &str, target: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} /{}{target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request\r\n\r\n",
            self.name,
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// `moto_server`: that of the machine, or else one that is installed into a directory of the tests.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|place| place.join("moto_server")).find(|file| file.is_file())
    {
        return found;
    }
    let home = run::cache_directory().join("moto");
    let program = home.join("bin/moto_server");
    if !program.is_file() {
        crate::command::run(Command::new("python3").args(["-m", "venv"]).arg(&home));
        crate::command::run(Command::new(home.join("bin/pip")).args(["install", "--quiet", "moto[server]"]));
    }
    program
}
