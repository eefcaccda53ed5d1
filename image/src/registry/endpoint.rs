//! Where a registry is really asked: its mirrors and itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::ImageError;
use crate::configuration::{Configuration, RegistrySettings};

/// One place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and port, as people and the configuration call it.
    pub(super) name: String,
    /// Scheme, host and port, no slash at the end.
    base: String,
    /// A path between `/v2/` and the repository, no slash at either end.
    prefix: String,
    /// For a mirror, the registry that it stands in for.
    mirrored: Option<String>,
}

/// The registry itself, and its mirrors in the order in which they are asked first.
pub(super) fn endpoints(
    configuration: &Configuration,
    registry: &str,
) -> Result<(Endpoint, Vec<Endpoint>), ImageError> {
    let own = Endpoint::of(configuration, registry, "", None);
    let mirrors = configuration.registry.get(registry).map(|settings| settings.mirrors.as_slice()).unwrap_or_default();
    Ok((own, mirrors.iter().map(|mirror| mirror_endpoint(configuration, registry, mirror)).collect()))
}

fn mirror_endpoint(configuration: &Configuration, registry: &str, mirror: &str) -> Endpoint {
    let (scheme, address) = match mirror.split_once("://") {
        Some((scheme, address)) => (Some(scheme), address),
        None => (None, mirror),
    };
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let mut endpoint = Endpoint::of(configuration, host, path, Some(registry));
    if let Some(scheme) = scheme {
        endpoint.base = format!("{scheme}://{}", api_host(host));
    }
    endpoint
}

impl Endpoint {
    fn of(configuration: &Configuration, host: &str, path: &str, mirrored: Option<&str>) -> Self {
        let scheme = if speaks_http(configuration.registry.get(host), host) { "http" } else { "https" };
        let path = path.trim_matches('/');
        Self {
            name: host.to_owned(),
            base: format!("{scheme}://{}", api_host(host)),
            prefix: path.strip_prefix("v2/").unwrap_or(path).to_owned(),
            mirrored: mirrored.map(str::to_owned),
        }
    }

    /// The URL of a manifest or blob.
    pub(super) fn url(&self, repository: &str, kind: &str, name: &str) -> Result<Url, ImageError> {
        let separator = if self.prefix.is_empty() { "" } else { "/" };
        let namespace = self.mirrored.as_ref().map(|registry| format!("?ns={registry}")).unwrap_or_default();
        let text = format!("{}/v2/{}{separator}{repository}/{kind}/{name}{namespace}", self.base, self.prefix);
        self.parse(&text)
    }

    fn parse(&self, text: &str) -> Result<Url, ImageError> {
        Url::parse(text).map_err(|error| ImageError::RegistrySettings {
            registry: self.name.clone(),
            reason: format!("`{text}` is not a URL: {error}"),
        })
    }

    /// The URL that tells whether a registry answers, and to whom.
    pub(super) fn top(&self) -> Result<Url, ImageError> {
        self.parse(&format!("{}/v2/", self.base))
    }

    /// The URL at which the upload of a blob begins.
    pub(super) fn uploads(&self, repository: &str) -> Result<Url, ImageError> {
        self.parse(&format!("{}/v2/{repository}/blobs/uploads/", self.base))
    }

    /// A place at the endpoint, in words for an error.
    pub(super) fn describe(&self, repository: &str, what: &str) -> String {
        format!("{}/v2/{repository} ({what})", self.base)
    }

    /// Scheme, host and port: what tokens and credentials belong to.
    pub(super) fn base(&self) -> &str {
        &self.base
    }
}

/// The host that answers for a registry's name.
fn api_host(registry: &str) -> &str {
    if registry == "docker.io" { "registry-1.docker.io" } else { registry }
}

fn speaks_http(settings: Option<&RegistrySettings>, host: &str) -> bool {
    match settings {
        Some(RegistrySettings { http: Some(http), .. }) => *http,
        Some(settings) if settings.insecure || !settings.ca.is_empty() || !settings.keypair.is_empty() => false,
        _ => is_loopback(host),
    }
}

/// Whether no proxy can be between: a loopback address, or one of the link that a machine's own services have.
pub(crate) fn is_nearby(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    is_loopback(host) || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_link_local())
}

/// Whether this is `localhost` or a loopback address, with or without a port.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || name.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str, registry: &str) -> Vec<String> {
        let configuration = Configuration::parse(text).unwrap();
        let (own, mirrors) = endpoints(&configuration, registry).unwrap();
        mirrors.iter().chain([&own]).map(|endpoint| endpoint.url("a/b", "manifests", "1").unwrap().into()).collect()
    }

    #[test]
    fn mirrors_come_first() {
        let text = r#"
            [registry."docker.io"]
            mirrors = ["m.example/hub/", "127.0.0.1:5000", "http://plain.example"]
            [registry."m.example"]
            http = true
        "#;
        let expected = [
            "http://m.example/v2/hub/a/b/manifests/1?ns=docker.io",
            "http://127.0.0.1:5000/v2/a/b/manifests/1?ns=docker.io",
            "http://plain.example/v2/a/b/manifests/1?ns=docker.io",
            "https://registry-1.docker.io/v2/a/b/manifests/1",
        ];
        assert_eq!(urls(text, "docker.io"), expected);
    }

    #[test]
    fn plain_http_is_for_loopback_and_where_it_is_asked_for() {
        let cases = [
            ("", "localhost:5000", "http://localhost:5000/"),
            ("", "127.8.0.1", "http://127.8.0.1/"),
            ("", "[::1]:5000", "http://[::1]:5000/"),
            ("", "localhost.example", "https://localhost.example/"),
            ("", "10.0.0.1:5000", "https://10.0.0.1:5000/"),
            ("[registry.\"10.0.0.1\"]\nhttp = true", "10.0.0.1", "http://10.0.0.1/"),
            ("[registry.\"localhost\"]\nhttp = false", "localhost", "https://localhost/"),
            ("[registry.\"localhost\"]\nca = [\"x\"]", "localhost", "https://localhost/"),
            ("[registry.\"localhost\"]\ninsecure = true", "localhost", "https://localhost/"),
        ];
        for (text, registry, expected) in cases {
            let urls = urls(text, registry);
            assert!(urls[0].starts_with(expected), "{registry}: {urls:?}");
        }
    }
}
