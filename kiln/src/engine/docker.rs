//! Where Docker's daemon listens: what a flag, `DOCKER_HOST` or the current context say, in the order of `docker`.

use std::path::{Path, PathBuf};

use kiln_image::daemon::{Daemon, DaemonAddress, DaemonTls};
use kiln_solver::Digest;
use serde::Deserialize;

use super::surroundings::{Surroundings, Verified};
use super::tunnel::Tunnel;

/// The context that stands for `DOCKER_HOST` and the usual socket.
const DEFAULT: &str = "default";

/// `config.json`, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    current_context: String,
}

/// `contexts/meta/DIGEST/meta.json`
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// A daemon as it is written down.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    text: String,
    tls: Option<DaemonTls>,
}

/// Finds the daemon, through a tunnel where it is on another machine.
pub(super) fn connect(context: Option<&str>, surroundings: &Surroundings) -> Result<(Daemon, Option<Tunnel>), String> {
    let host = host(context, surroundings)?;
    let (address, tunnel) = match host.text.strip_prefix("ssh://") {
        Some(destination) => {
            let tunnel = Tunnel::open(destination, &surroundings.path)?;
            (DaemonAddress::Unix(tunnel.socket()), Some(tunnel))
        }
        None => (address(host)?, None),
    };
    let daemon = Daemon::connect(&address).map_err(|error| error.to_string())?;
    Ok((daemon, tunnel))
}

/// What counts of all that is said.
fn host(context: Option<&str>, surroundings: &Surroundings) -> Result<Host, String> {
    let chosen = match (context, &surroundings.docker_host, &surroundings.docker_context) {
        (Some(name), _, _) => Some(name.to_owned()),
        (None, Some(_), _) => None,
        (None, None, Some(name)) => Some(name.clone()),
        (None, None, None) => current_context(surroundings)?,
    };
    if let Some(name) = chosen.filter(|name| name != DEFAULT) {
        return of_context(&name, surroundings);
    }
    let usual = || format!("unix://{}", surroundings.docker_socket.display());
    let text = surroundings.docker_host.clone().unwrap_or_else(usual);
    let tls = surroundings.tls.map(|verified| {
        let directory = surroundings.certificates.clone().unwrap_or_default();
        tls_of(&directory, verified == Verified::No)
    });
    Ok(Host { text, tls })
}

fn current_context(surroundings: &Surroundings) -> Result<Option<String>, String> {
    let Some(directory) = &surroundings.docker_config else { return Ok(None) };
    let path = directory.join("config.json");
    let Ok(text) = std::fs::read(&path) else { return Ok(None) };
    // What is wrong with it is not told: there may be secrets in it.
    let config: Config = serde_json::from_slice(&text).map_err(|_| format!("`{}` is malformed", path.display()))?;
    Ok(Some(config.current_context).filter(|name| !name.is_empty()))
}

fn of_context(name: &str, surroundings: &Surroundings) -> Result<Host, String> {
    let contexts = surroundings.docker_config.clone().unwrap_or_default().join("contexts");
    let id = Digest::of(name.as_bytes()).hex().to_string();
    let path = contexts.join("meta").join(&id).join("meta.json");
    let text = std::fs::read(&path).map_err(|_| format!("there is no context `{name}` of Docker's"))?;
    let meta: Meta =
        serde_json::from_slice(&text).map_err(|error| format!("context `{name}` is malformed: {error}"))?;
    let endpoint = meta.endpoints.docker.filter(|endpoint| !endpoint.host.is_empty());
    let endpoint = endpoint.ok_or_else(|| format!("context `{name}` names no daemon"))?;
    let directory = contexts.join("tls").join(&id).join("docker");
    let has_tls = endpoint.skip_tls_verify || directory.is_dir();
    let tls = has_tls.then(|| tls_of(&directory, endpoint.skip_tls_verify));
    Ok(Host { text: endpoint.host, tls })
}

/// The certificates in a directory, under their usual names.
fn tls_of(directory: &Path, is_unverified: bool) -> DaemonTls {
    let file = |name: &str| Some(directory.join(name)).filter(|path| path.is_file());
    DaemonTls { ca: file("ca.pem"), pair: file("cert.pem").zip(file("key.pem")), is_unverified }
}

fn address(host: Host) -> Result<DaemonAddress, String> {
    let Host { text, tls } = host;
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", &text));
    match scheme {
        "unix" => Ok(DaemonAddress::Unix(PathBuf::from(if rest.is_empty() { "/var/run/docker.sock" } else { rest }))),
        "tcp" | "http" | "https" => {
            let tls = tls.or_else(|| (scheme == "https").then(DaemonTls::default));
            let authority = rest.trim_end_matches('/');
            let port = if tls.is_some() { 2376 } else { 2375 };
            let host = authority.rsplit_once(']').map_or(authority, |(_, behind)| behind);
            let has_port = host.contains(':') || authority.contains('/');
            let authority = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
            Ok(DaemonAddress::Tcp { authority, tls })
        }
        _ => Err(format!("`{text}` is not an address of a daemon that kiln can reach: unix, tcp or ssh")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, tls: Option<DaemonTls>) -> Result<DaemonAddress, String> {
        address(Host { text: text.to_owned(), tls })
    }

    #[test]
    fn addresses_are_those_of_docker() {
        let tcp = |authority: &str, tls| DaemonAddress::Tcp { authority: authority.to_owned(), tls };
        assert_eq!(written("unix:///a/b", None), Ok(DaemonAddress::Unix("/a/b".into())));
        assert_eq!(written("unix://", None), Ok(DaemonAddress::Unix("/var/run/docker.sock".into())));
        assert_eq!(written("tcp://h:1/", None), Ok(tcp("h:1", None)));
        assert_eq!(written("h", None), Ok(tcp("h:2375", None)));
        assert_eq!(
            written("tcp://[::1]", Some(DaemonTls::default())),
            Ok(tcp("[::1]:2376", Some(DaemonTls::default())))
        );
        assert_eq!(written("https://h:1", None), Ok(tcp("h:1", Some(DaemonTls::default()))));
        assert!(written("fd://", None).unwrap_err().contains("unix, tcp or ssh"));
    }

    #[test]
    fn the_flag_counts_before_the_host_and_that_before_contexts() {
        let home = tempfile::tempdir().unwrap();
        let context = |name: &str, endpoint: &str| {
            let id = Digest::of(name.as_bytes()).hex().to_string();
            let meta = home.path().join("contexts/meta").join(&id);
            std::fs::create_dir_all(&meta).unwrap();
            let text = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#);
            std::fs::write(meta.join("meta.json"), text).unwrap();
            home.path().join("contexts/tls").join(id).join("docker")
        };
        let certificates = context("far", r#"{"Host":"tcp://far:1","SkipTLSVerify":false}"#);
        std::fs::create_dir_all(&certificates).unwrap();
        std::fs::write(certificates.join("ca.pem"), "").unwrap();
        context("near", r#"{"Host":"unix:///near"}"#);
        context("empty", "{}");
        std::fs::write(home.path().join("config.json"), r#"{"currentContext":"near","auths":{}}"#).unwrap();
        let mut surroundings = Surroundings {
            docker_config: Some(home.path().to_owned()),
            docker_socket: "/usual".into(),
            ..Surroundings::default()
        };
        let text = |flag: Option<&str>, surroundings: &Surroundings| host(flag, surroundings).map(|host| host.text);
        assert_eq!(text(None, &surroundings).unwrap(), "unix:///near");
        assert_eq!(text(Some("default"), &surroundings).unwrap(), "unix:///usual");
        surroundings.docker_context = Some("far".to_owned());
        let far = host(None, &surroundings).unwrap();
        assert_eq!(far.text, "tcp://far:1");
        assert_eq!(far.tls.unwrap().ca, Some(certificates.join("ca.pem")));
        surroundings.docker_host = Some("unix:///host".to_owned());
        assert_eq!(text(None, &surroundings).unwrap(), "unix:///host");
        assert_eq!(text(Some("near"), &surroundings).unwrap(), "unix:///near");
        assert!(text(Some("none"), &surroundings).unwrap_err().contains("no context `none`"));
        assert!(text(Some("empty"), &surroundings).unwrap_err().contains("names no daemon"));
    }
}
