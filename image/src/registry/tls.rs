//! HTTP clients, with TLS as the configuration says.

use std::path::Path;

use reqwest::blocking::{Client, ClientBuilder};
use reqwest::{Certificate, Identity, redirect};

use super::Patience;
use super::endpoint::is_nearby;
use crate::ImageError;
use crate::configuration::{KeyPair, RegistrySettings};

const USER_AGENT: &str = concat!("kiln/", env!("CARGO_PKG_VERSION"));

/// Says how cryptography is done.
pub(crate) fn provide() {
    // The provider of a process can be set only once; that somebody did already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Makes a client for plain HTTP or for TLS. It follows no redirects: see [`super::http`].
pub(super) fn client(
    host: &str,
    tls: bool,
    settings: Option<&RegistrySettings>,
    patience: &Patience,
) -> Result<Client, ImageError> {
    let error = |reason: String| ImageError::RegistrySettings { registry: host.to_owned(), reason };
    provide();
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(patience.connect)
        .timeout(patience.silence);
    if is_nearby(host) {
        builder = builder.no_proxy();
    }
    builder = match (tls, settings) {
        // Without TLS no root certificates are looked for, and none need to be there.
        (false, _) => builder.tls_certs_only([]),
        (true, Some(settings)) => configure(builder, settings).map_err(error)?,
        (true, None) => builder,
    };
    builder.build().map_err(|cause| error(super::http::reason(&cause)))
}

/// Makes a client trust and show what settings say.
pub(crate) fn configure(mut builder: ClientBuilder, settings: &RegistrySettings) -> Result<ClientBuilder, String> {
    let mut authorities = Vec::new();
    for path in &settings.ca {
        let found = Certificate::from_pem_bundle(&read(path)?).unwrap_or_default();
        if found.is_empty() {
            return Err(format!("`{}` holds no PEM certificate", path.display()));
        }
        authorities.extend(found);
    }
    if !authorities.is_empty() {
        builder = builder.tls_certs_merge(authorities);
    }
    if let Some(pair) = settings.keypair.first() {
        builder = builder.identity(identity(pair)?);
    }
    if settings.keypair.len() > 1 {
        return Err("more than one `keypair` is given, and which one to use is not known".to_owned());
    }
    Ok(builder.tls_danger_accept_invalid_certs(settings.insecure))
}

fn identity(pair: &KeyPair) -> Result<Identity, String> {
    let mut pem = read(&pair.key)?;
    pem.push(b'\n');
    pem.extend(read(&pair.cert)?);
    let error = |_| format!("`{}` and `{}` are not a PEM key and certificate", pair.key.display(), pair.cert.display());
    Identity::from_pem(&pem).map_err(error)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}
