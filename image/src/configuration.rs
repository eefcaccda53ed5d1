//! `kiln.toml`: how registries are reached, how much history is kept, what is pruned, what archives may hold, and how
//! names are looked up, with the keys of buildkitd.toml where it has them.

mod archives;
mod dns;
mod gc;
mod history;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::registry::is_loopback;

pub use archives::ArchiveSettings;
pub use dns::Dns;
pub use gc::GcSettings;
pub use history::HistorySettings;

/// What `kiln.toml` says.
///
/// ```toml
/// [registry."docker.io"]
/// mirrors = ["mirror.example.com", "cache.example.com/docker"]
///
/// [registry."registry.local:5000"]
/// http = true
/// insecure = true
/// ca = ["/etc/ssl/local.pem"]
/// [[registry."registry.local:5000".keypair]]
/// key = "/etc/ssl/client.key"
/// cert = "/etc/ssl/client.pem"
///
/// [history]
/// max-entries = 50
/// max-age = "48h"
/// max-size = "1GiB"
///
/// [gc]
/// max-used-space = "50GB"
/// min-free-space = "10%"
///
/// [archives]
/// max-size = "100GB"
/// max-entries = 2000000
///
/// [dns]
/// nameservers = ["192.0.2.53"]
/// options = ["edns0"]
/// search-domains = ["example.com"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Registries by host and port.
    #[serde(default)]
    pub registry: BTreeMap<String, RegistrySettings>,
    /// How much of the history of builds is kept.
    #[serde(default)]
    pub history: HistorySettings,
    /// When and what is pruned after builds.
    #[serde(default)]
    pub gc: GcSettings,
    /// Where buildkitd.toml has the same.
    #[serde(default)]
    worker: gc::Workers,
    /// How much one archive may hold that is unpacked.
    #[serde(default)]
    pub archives: ArchiveSettings,
    /// How commands look names up.
    #[serde(default)]
    pub dns: Dns,
}

/// How one registry is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// Hosts to try first, in order: `host[:port][/path]`. How each is reached is its own entry's matter.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Whether to speak plain HTTP. Where absent: only with `localhost` and loopback addresses, as Docker does.
    #[serde(default)]
    pub http: Option<bool>,
    /// Whether to accept any TLS certificate.
    #[serde(default)]
    pub insecure: bool,
    /// Certificate authorities (PEM files) to trust beside the system's.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// Client certificates.
    #[serde(default)]
    pub keypair: Vec<KeyPair>,
}

/// A client certificate and its key, PEM files both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The private key.
    pub key: PathBuf,
    /// The certificate, and those that vouch for it.
    pub cert: PathBuf,
}

/// Why a text is not a `kiln.toml`. Prints the line and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigurationError(String);

impl Configuration {
    /// Reads the text of a `kiln.toml`.
    ///
    /// # Errors
    /// When it is not TOML, has a key that kiln does not know (the error names it), or a value that makes no
    /// sense.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let mut configuration: Self = toml::from_str(text).map_err(|error| ConfigurationError(error.to_string()))?;
        for (host, settings) in &configuration.registry {
            check(host, settings).map_err(|reason| ConfigurationError(format!("registry.\"{host}\": {reason}")))?;
        }
        if let Some(gc) = configuration.worker.oci.take() {
            if configuration.gc != GcSettings::default() {
                return Err(ConfigurationError(
                    "there are both `[gc]` and `[worker.oci]`: one of them is enough".into(),
                ));
            }
            configuration.gc = gc;
        }
        configuration.dns.check().map_err(|reason| ConfigurationError(format!("dns: {reason}")))?;
        Ok(configuration)
    }
}

impl Configuration {
    /// Lets a registry do without proof of who it is (`registry.insecure`). One of this machine may speak plain HTTP.
    pub fn trust(&mut self, registry: &str) {
        let settings = self.registry.entry(registry.to_owned()).or_default();
        if is_loopback(registry) && !settings.insecure && settings.ca.is_empty() {
            settings.http.get_or_insert(true);
        }
        settings.insecure = true;
    }
}

fn check(host: &str, settings: &RegistrySettings) -> Result<(), String> {
    if !is_host(host) {
        return Err("the name must be a host, or `host:port`, without a scheme or path".to_owned());
    }
    for mirror in &settings.mirrors {
        let address = mirror.split_once("://").map_or(mirror.as_str(), |(_, rest)| rest);
        let scheme_fits = !mirror.contains("://") || mirror.starts_with("http://") || mirror.starts_with("https://");
        if !scheme_fits || !is_host(address.split('/').next().unwrap_or_default()) {
            return Err(format!("mirror `{mirror}` is not a `host[:port][/path]`"));
        }
    }
    Ok(())
}

fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_buildkitd() {
        let text = r#"
            [registry."docker.io"]
            mirrors = ["m.example", "c.example:5000/docker", "http://plain.example"]
            [registry."r.local:5000"]
            http = true
            insecure = true
            ca = ["/ca.pem"]
            [[registry."r.local:5000".keypair]]
            key = "/k"
            cert = "/c"
            [dns]
            nameservers = ["192.0.2.53", "2001:db8::53"]
            options = ["edns0", "ndots:1"]
            searchDomains = ["example.com"]
        "#;
        let configuration = Configuration::parse(text).unwrap();
        assert_eq!(configuration.registry["docker.io"].mirrors.len(), 3);
        let local = &configuration.registry["r.local:5000"];
        assert_eq!((local.http, local.insecure), (Some(true), true));
        assert_eq!(local.ca, [PathBuf::from("/ca.pem")]);
        assert_eq!(local.keypair, [KeyPair { key: "/k".into(), cert: "/c".into() }]);
        assert_eq!(configuration.dns.nameservers.len(), 2);
        assert_eq!(configuration.dns.options, ["edns0", "ndots:1"]);
        assert_eq!(configuration.dns.search_domains, ["example.com"]);
        assert_eq!(Configuration::parse("").unwrap(), Configuration::default());
    }

    #[test]
    fn errors_name_the_key() {
        let cases = [
            ("[worker.oci]\nsnapshotter = \"auto\"\n", "snapshotter"),
            ("[registry.\"a\"]\nmirror = []\n", "mirror"),
            ("[registry.\"a\"]\nhttp = 1\n", "http"),
            ("[[registry.\"a\".keypair]]\nkey = \"x\"\n", "cert"),
            ("[registry.\"https://a\"]\n", "https://a"),
            ("[registry.\"a\"]\nmirrors = [\"ftp://x\"]\n", "ftp://x"),
            ("registry = 1", "registry"),
            ("[registry", "1"),
            ("[dns]\nnameservers = [\"dns.example\"]\n", "nameservers"),
            ("[dns]\noptions = [\"a\\nnameserver 192.0.2.1\"]\n", "a\\nnameserver"),
            ("[dns]\nsearch = []\n", "search"),
        ];
        for (text, named) in cases {
            let error = Configuration::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
