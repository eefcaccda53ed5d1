//! A real registry (Debian's docker-registry) on a free loopback port.

use crate::command;
use crate::run;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// `kiln:secret`, hashed with bcrypt as htpasswd does.
const HTPASSWD: &str = "kiln:$2y$05$mfsNESMbxwasYD1tqzCCruKkcI0JlIK8Rzpo..CyomH4Z7XlOtPYu\n";

/// A running registry; it ends with the test process.
pub struct Registry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    storage: PathBuf,
    credentials: Option<&'static str>,
}

/// The registry that the tests of this process share. It serves `library/busybox`, and is the mirror of
/// Docker Hub in the configuration of kiln and of buildah, so that `FROM busybox` reaches it.
pub fn shared() -> &'static Registry {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    SHARED.get_or_init(|| {
        let registry = Registry::start();
        registry.push(&crate::bases::busybox(), "library/busybox:latest");
        registry
    })
}

/// The shared registry, with `library/debian` in it too.
pub fn shared_with_debian() -> &'static Registry {
    static PUSHED: OnceLock<()> = OnceLock::new();
    let registry = shared();
    PUSHED.get_or_init(|| registry.push(&crate::bases::debian(), "library/debian:latest"));
    registry
}

impl Registry {
    /// Starts an empty registry that anyone may use.
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// Starts an empty registry that wants user `kiln` and password `secret`.
    pub fn start_with_password() -> Self {
        Self::launch(Some("kiln:secret"))
    }

    /// Starts a registry that speaks TLS alone, with the certificate that `image/testdata/tls/ca.pem` vouches for.
    pub fn start_with_tls() -> Self {
        Self::launch_with(None, &|config, address| {
            let [certificate, key] = ["server.pem", "server.key"].map(tls_file);
            let own = format!(
                "addr: \"{address}\", tls: {{certificate: \"{}\", key: \"{}\"}}",
                certificate.display(),
                key.display()
            );
            config.replace(&format!("addr: \"{address}\""), &own)
        })
    }

    /// Another registry with what this one has, which nobody can change.
    pub fn read_only(&self) -> Self {
        let storage = self.storage.display().to_string();
        Self::launch_with(None, &|config, _| {
            let start = config.find("rootdirectory: \"").unwrap() + "rootdirectory: \"".len();
            let end = start + config[start..].find('"').unwrap();
            let config = format!("{}{storage}{}", &config[..start], &config[end..]);
            config + "  maintenance: {readonly: {enabled: true}}\n"
        })
    }

    fn launch(credentials: Option<&'static str>) -> Self {
        Self::launch_with(credentials, &|config, _| config)
    }

    fn launch_with(credentials: Option<&'static str>, change: &dyn Fn(String, &str) -> String) -> Self {
        let home = run::directory("registry").keep();
        let address = format!("127.0.0.1:{}", free_port());
        let storage = home.join("storage");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: \"{address}\"}}\nstorage:\n  filesystem: {{rootdirectory: \"{}\"}}\n  delete: {{enabled: true}}\n",
            storage.display()
        );
        if credentials.is_some() {
            std::fs::write(home.join("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: kiln, path: \"{}\"}}}}\n", home.join("htpasswd").display());
        }
        config = change(config, &address);
        std::fs::write(home.join("config.yml"), config).unwrap();
        let log = std::fs::File::create(home.join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(home.join("config.yml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        run::end_with_run(command.spawn().expect("starting `docker-registry` (`make deps` installs it)"));
        wait_for(&address, &home.join("log"));
        Self { address, storage, credentials }
    }

    /// Copies tag `latest` of an OCI layout, with every platform that it has, to `REPOSITORY:TAG` here.
    pub fn push(&self, layout: &Path, name: &str) {
        self.push_tag(layout, "latest", name);
    }

    /// As [`Registry::push`], of another tag of the layout.
    pub fn push_tag(&self, layout: &Path, tag: &str, name: &str) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--all", "--quiet", "--dest-tls-verify=false"]);
        if let Some(credentials) = self.credentials {
            skopeo.args(["--dest-creds", credentials]);
        }
        skopeo.arg(format!("oci:{}:{tag}", layout.display())).arg(format!("docker://{}/{name}", self.address));
        command::run(&mut skopeo);
    }

    /// The digest of what a name here stands for.
    pub fn digest(&self, name: &str) -> String {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
        if let Some(credentials) = self.credentials {
            skopeo.args(["--creds", credentials]);
        }
        let raw = command::run(skopeo.arg(format!("docker://{}/{name}", self.address)));
        format!("sha256:{}", crate::layout::sha256(raw.as_bytes()))
    }

    /// The file in which the registry keeps a blob, to be damaged.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.storage.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }
}

/// A file of the certificates for tests.
pub fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("image/testdata/tls").join(name)
}

/// A port that nothing listens on at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_for(address: &str, log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while TcpStream::connect(address).is_err() {
        assert!(
            Instant::now() < deadline,
            "docker-registry does not answer on {address}: {}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
