//! A registry in memory (OCI distribution specification), with faults where a test wants them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use kiln_solver::Digest;

use super::{Asked, Reply};

/// What goes wrong with a request.
pub(crate) enum Fault {
    /// The registry answers this, and does nothing.
    Answer(Reply),
    /// The connection breaks after so many bytes of what was sent. They count.
    Cut(usize),
    /// The registry does what it should, and the answer is lost.
    Mute,
}

type Faults = Box<dyn Fn(&str, &str, usize) -> Option<Fault> + Send + Sync>;

/// The state of a registry.
#[derive(Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    faults: Option<Faults>,
}

#[derive(Default)]
struct State {
    /// By repository and digest.
    blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<usize, Vec<u8>>,
    /// How many uploads have begun.
    begun: usize,
    /// How many requests of each method there were.
    methods: BTreeMap<String, usize>,
}

impl Hub {
    /// One in which `faults` says what goes wrong: it is given method, path with query, and how many requests of this
    /// method there were before.
    pub(crate) fn with(faults: impl Fn(&str, &str, usize) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { faults: Some(Box::new(faults)), ..Self::default() }
    }

    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        self.state.lock().unwrap().blobs.get(&(repository.to_owned(), digest.to_string())).cloned()
    }

    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) {
        let key = (repository.to_owned(), Digest::of(bytes).to_string());
        self.state.lock().unwrap().blobs.insert(key, bytes.to_vec());
    }

    /// Has these bytes under a digest that is not theirs.
    pub(crate) fn put_blob_as(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        let key = (repository.to_owned(), digest.to_string());
        self.state.lock().unwrap().blobs.insert(key, bytes.to_vec());
    }

    /// Media type and bytes.
    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        self.state.lock().unwrap().manifests.get(&(repository.to_owned(), name.to_owned())).cloned()
    }

    /// The tags and digests that manifests are to be had by.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().manifests.keys().map(|(repository, name)| format!("{repository}:{name}")).collect()
    }

    fn fault(&self, method: &str, target: &str) -> Option<Fault> {
        let before = self.state.lock().unwrap().methods.get(method).copied().unwrap_or(0);
        self.faults.as_ref().and_then(|faults| faults(method, target, before))
    }

    /// How much of what is sent arrives.
    pub(super) fn most(&self, method: &str, target: &str) -> usize {
        match self.fault(method, target) {
            Some(Fault::Cut(most)) => most,
            _ => usize::MAX,
        }
    }

    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let fault = self.fault(&asked.method, &asked.target);
        *self.state.lock().unwrap().methods.entry(asked.method.clone()).or_default() += 1;
        match fault {
            Some(Fault::Answer(reply)) => reply,
            Some(Fault::Mute | Fault::Cut(_)) => {
                self.serve(asked);
                Reply::hung_up()
            }
            None => self.serve(asked),
        }
    }

    fn serve(&self, asked: &Asked) -> Reply {
        let path = asked.path().strip_prefix("/v2/").unwrap_or_default().to_owned();
        let mut state = self.state.lock().unwrap();
        if let Some((repository, number)) = path.split_once("/blobs/uploads/") {
            return match (asked.method.as_str(), number.parse::<usize>()) {
                ("POST", _) => state.begin(repository, asked),
                (method, Ok(number)) if state.uploads.contains_key(&number) => {
                    state.go_on(method, repository, number, asked)
                }
                _ => Reply::new(404),
            };
        }
        let (repository, kind, name) = match (path.split_once("/blobs/"), path.split_once("/manifests/")) {
            (Some((repository, name)), _) => (repository, "blobs", name),
            (_, Some((repository, name))) => (repository, "manifests", name),
            _ => return Reply::new(404),
        };
        let key = (repository.to_owned(), name.to_owned());
        match (kind, asked.method.as_str()) {
            ("manifests", "PUT") => {
                let kind = asked.header("content-type").unwrap_or_default().to_owned();
                let digest = Digest::of(&asked.body).to_string();
                for name in [name.to_owned(), digest.clone()] {
                    let manifest = (kind.clone(), asked.body.clone());
                    state.manifests.insert((repository.to_owned(), name), manifest);
                }
                Reply::new(201).header("Docker-Content-Digest", &digest)
            }
            ("manifests", _) => match state.manifests.get(&key) {
                Some((kind, bytes)) => Reply::ok(kind, bytes.clone()),
                None => Reply::new(404),
            },
            _ => match state.blobs.get(&key) {
                Some(bytes) => Reply::ok("application/octet-stream", bytes.clone()),
                None => Reply::new(404),
            },
        }
    }
}

impl State {
    fn begin(&mut self, repository: &str, asked: &Asked) -> Reply {
        let query = |name: &str| {
            let fields = asked.target.split_once('?').map_or("", |(_, query)| query).split('&');
            let value = fields.filter_map(|field| field.split_once('=')).find(|(known, _)| *known == name);
            value.map(|(_, value)| value.replace("%3A", ":").replace("%2F", "/"))
        };
        if let (Some(digest), Some(from)) = (query("mount"), query("from"))
            && let Some(bytes) = self.blobs.get(&(from, digest.clone())).cloned()
        {
            self.blobs.insert((repository.to_owned(), digest), bytes);
            return Reply::new(201);
        }
        let number = self.begun;
        self.begun += 1;
        self.uploads.insert(number, Vec::new());
        Reply::new(202).header("Location", &format!("/v2/{repository}/blobs/uploads/{number}"))
    }

    fn go_on(&mut self, method: &str, repository: &str, number: usize, asked: &Asked) -> Reply {
        let upload = self.uploads.get_mut(&number).unwrap();
        let start = asked.header("content-range").and_then(|range| range.split('-').next()?.parse::<usize>().ok());
        if start.is_some_and(|start| start != upload.len()) {
            return Reply::new(416);
        }
        upload.extend_from_slice(&asked.body);
        let range = format!("0-{}", upload.len().saturating_sub(1));
        match method {
            "PUT" => {
                let digest = Digest::of(upload).to_string();
                let wanted = asked.target.replace("%3A", ":");
                if !wanted.ends_with(&format!("digest={digest}")) {
                    return Reply::ok("application/json", r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#).with_status(400);
                }
                let bytes = self.uploads.remove(&number).unwrap();
                self.blobs.insert((repository.to_owned(), digest.clone()), bytes);
                Reply::new(201).header("Docker-Content-Digest", &digest)
            }
            "PATCH" => Reply::new(202).header("Range", &range),
            _ => Reply::new(204).header("Range", &range),
        }
    }
}
