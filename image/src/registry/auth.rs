//! What a registry asks of its users (Docker's token authentication, HTTP basic authentication).

mod challenge;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_solver::Cancel;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::endpoint::{Endpoint, is_loopback};
use super::http::{Http, Request, Response, host};
use crate::ImageError;
use crate::credentials::{Credential, Credentials, Secret};
use challenge::Challenge;

const TOKEN_LIMIT: u64 = 1 << 20;
const CLIENT_ID: &str = "kiln";

/// Proves to registries who the user is, and remembers what it was given for that.
pub(super) struct Authenticator {
    credentials: Credentials,
    /// The `Authorization` that was good for an endpoint and a repository.
    granted: Mutex<HashMap<(String, String), Secret>>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Authenticator {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, granted: Mutex::default() }
    }

    /// Sends a request, and sends it again with what the registry asks for.
    pub(super) fn send(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        repository: &str,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Response, ImageError> {
        let key = (endpoint.base().to_owned(), repository.to_owned());
        let request = request.clone().authorized(self.granted().get(&key).cloned());
        let response = http.send(&request, cancel)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(authorization) = self.answer(http, endpoint, repository, response.headers(), cancel)? else {
            return Ok(response);
        };
        self.granted().insert(key, authorization.clone());
        http.send(&request.authorized(Some(authorization)), cancel)
    }

    fn granted(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Secret>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Authorization` that answers a challenge; `None` where there is nothing to answer with.
    fn answer(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        repository: &str,
        headers: &HeaderMap,
        cancel: &Cancel,
    ) -> Result<Option<Secret>, ImageError> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = values.flat_map(challenge::parse).collect();
        let named = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        let credential = self.credentials.find(&endpoint.name, repository, cancel)?;
        if let Some(Credential::RegistryToken(token)) = &credential {
            return Ok(Some(Secret::new(format!("Bearer {}", token.reveal()))));
        }
        if let Some(bearer) = named("Bearer") {
            return token(http, endpoint, repository, bearer, credential.as_ref(), cancel).map(Some);
        }
        match (named("Basic"), &credential) {
            (Some(_), Some(Credential::Password { user, password })) => Ok(Some(basic(user, password))),
            _ => Ok(None),
        }
    }
}

/// What to do about a refusal.
pub(super) fn hint(registry: &str, status: StatusCode, detail: Option<&str>) -> String {
    let advice = match status {
        StatusCode::FORBIDDEN => "the user may not read it, or it does not exist".to_owned(),
        _ => format!("it needs credentials (`docker login {registry}`), other ones, or it does not exist"),
    };
    match detail {
        Some(detail) => format!("{detail}; {advice}"),
        None => advice,
    }
}

fn basic(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
}

/// Fetches a token from the realm that a registry names.
fn token(
    http: &Http,
    endpoint: &Endpoint,
    repository: &str,
    challenge: &Challenge,
    credential: Option<&Credential>,
    cancel: &Cancel,
) -> Result<Secret, ImageError> {
    let broken = |reason: &str| ImageError::Protocol { registry: endpoint.name.clone(), reason: reason.to_owned() };
    let realm = challenge.parameter("realm").ok_or_else(|| broken("a token challenge without a realm"))?;
    let realm = Url::parse(realm).ok().filter(|realm| matches!(realm.scheme(), "http" | "https"));
    let realm = realm.ok_or_else(|| broken("a token challenge whose realm is not a URL"))?;
    if credential.is_some()
        && realm.scheme() == "http"
        && endpoint.base().starts_with("https:")
        && !is_loopback(&host(&realm))
    {
        return Err(broken("it wants credentials to be sent to its token server without encryption"));
    }
    let own_scope = format!("repository:{repository}:pull");
    let scope = challenge.parameter("scope").unwrap_or(&own_scope);
    let service = challenge.parameter("service");
    let response = http.send(&token_request(realm.clone(), service, scope, credential), cancel)?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(endpoint, repository, &realm, status, credential.is_some()));
    }
    let bytes = response.bytes(TOKEN_LIMIT, cancel)?.ok_or_else(|| broken("a token that is far too long"))?;
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|_| broken("an answer of its token server that is malformed"))?;
    let text = if token.token.is_empty() { token.access_token } else { token.token };
    if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(broken("an answer of its token server without a token"));
    }
    Ok(Secret::new(format!("Bearer {text}")))
}

fn token_request(mut realm: Url, service: Option<&str>, scope: &str, credential: Option<&Credential>) -> Request {
    if let Some(Credential::IdentityToken(token)) = credential {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("service", service.unwrap_or_default()),
            ("scope", scope),
            ("refresh_token", token.reveal()),
        ];
        let form = encode_form(realm.clone(), &fields);
        return Request::post_form(realm, form);
    }
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scope.split(' ').filter(|scope| !scope.is_empty()) {
            query.append_pair("scope", scope);
        }
    }
    let authorization = match credential {
        Some(Credential::Password { user, password }) => Some(basic(user, password)),
        _ => None,
    };
    Request::get(realm).authorized(authorization)
}

/// `application/x-www-form-urlencoded`, which is how the query of any URL is written.
fn encode_form(mut url: Url, fields: &[(&str, &str)]) -> Secret {
    url.query_pairs_mut().clear().extend_pairs(fields);
    Secret::new(url.query().unwrap_or_default())
}

fn refused(endpoint: &Endpoint, repository: &str, realm: &Url, status: StatusCode, known: bool) -> ImageError {
    let registry = endpoint.name.clone();
    if !matches!(status.as_u16(), 400 | 401 | 403) {
        let url = format!("{}{}", host(realm), realm.path());
        return ImageError::Status { registry, method: "GET", url, status: status.to_string(), detail: String::new() };
    }
    let hint = if known {
        format!("its token server did not accept the credentials; try `docker login {registry}` again")
    } else {
        hint(&registry, StatusCode::UNAUTHORIZED, None)
    };
    ImageError::Denied { registry, repository: repository.to_owned(), status: status.as_u16(), hint }
}
