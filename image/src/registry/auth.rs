//! What a registry asks of its users (Docker's token authentication, HTTP basic authentication).

mod access;
mod challenge;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
pub(super) use access::Access;
use challenge::Challenge;

const TOKEN_LIMIT: u64 = 1 << 20;
const CLIENT_ID: &str = "kiln";
/// How long a token is good for whose server does not say (distribution, "Token Authentication Specification").
const USUAL_LIFETIME: u64 = 60;
/// A token that ends so soon is not used any more: the registry would look at it a little later.
const MARGIN: Duration = Duration::from_secs(10);

/// Proves to registries who the user is, and remembers what it was given for that.
pub(super) struct Authenticator {
    credentials: Credentials,
    /// What was granted at an endpoint, to be asked for by one thread at a time.
    grants: Mutex<HashMap<(String, Access), Slot>>,
}

/// A place for what is granted.
type Slot = Arc<Mutex<Option<Grant>>>;

/// An `Authorization` that was good.
#[derive(Clone)]
struct Grant {
    authorization: Secret,
    /// When it will no longer be, and what to answer then.
    renewal: Option<(Instant, Challenge)>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// One endpoint, and what is to be done there.
struct Errand<'a> {
    http: &'a Http,
    endpoint: &'a Endpoint,
    access: &'a Access,
    cancel: &'a Cancel,
}

impl Authenticator {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, grants: Mutex::default() }
    }

    /// Sends a request, and sends it again with what the registry asks for.
    pub(super) fn send(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        access: &Access,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<Response, ImageError> {
        let errand = Errand { http, endpoint, access, cancel };
        let slot = self.slot(&errand);
        let used = self.current(&slot, &errand)?;
        let response = http.send(&request.clone().authorized(used.clone()), cancel)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(authorization) = self.answer(&slot, used.as_ref(), response.headers(), &errand)? else {
            return Ok(response);
        };
        http.send(&request.clone().authorized(Some(authorization)), cancel)
    }

    /// Whether a registry takes these credentials: an error where it does not.
    pub(super) fn verify(
        http: &Http,
        endpoint: &Endpoint,
        credential: &Credential,
        cancel: &Cancel,
    ) -> Result<(), ImageError> {
        let request = Request::get(endpoint.top()?);
        let response = http.send(&request, cancel)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return super::check_top(response, endpoint, cancel);
        }
        let challenges = challenges(response.headers());
        let authorization = match (named(&challenges, "Bearer"), credential) {
            (_, Credential::RegistryToken(token)) => Secret::new(format!("Bearer {}", token.reveal())),
            (Some(bearer), _) => {
                let granted = token(http, endpoint, &[], bearer, Some(credential), cancel);
                granted.map_err(as_login)?.0
            }
            (None, Credential::Password { user, password }) => basic(user, password),
            (None, Credential::IdentityToken(_)) => {
                let reason = "it takes no tokens, and the credentials are one".to_owned();
                return Err(ImageError::Credentials { registry: endpoint.name.clone(), reason });
            }
        };
        super::check_top(http.send(&request.authorized(Some(authorization)), cancel)?, endpoint, cancel)
    }

    fn slot(&self, errand: &Errand<'_>) -> Slot {
        let key = (errand.endpoint.base().to_owned(), errand.access.clone());
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    /// What was granted, anew where it is about to end.
    fn current(&self, slot: &Mutex<Option<Grant>>, errand: &Errand<'_>) -> Result<Option<Secret>, ImageError> {
        let mut grant = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |end: Instant| Instant::now() + MARGIN >= end;
        if let Some(Grant { renewal: Some((end, challenge)), .. }) = &*grant
            && is_due(*end)
        {
            let credential = self.credential(errand)?;
            *grant = Some(fetch(errand, challenge, credential.as_ref())?);
        }
        Ok(grant.as_ref().map(|grant| grant.authorization.clone()))
    }

    /// The `Authorization` that answers a challenge; `None` where there is nothing to answer with.
    fn answer(
        &self,
        slot: &Mutex<Option<Grant>>,
        used: Option<&Secret>,
        headers: &HeaderMap,
        errand: &Errand<'_>,
    ) -> Result<Option<Secret>, ImageError> {
        let mut grant = slot.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have answered meanwhile.
        if let Some(known) = grant.as_ref().map(|grant| &grant.authorization).filter(|known| Some(*known) != used) {
            return Ok(Some(known.clone()));
        }
        let challenges = challenges(headers);
        let credential = self.credential(errand)?;
        let found = match (named(&challenges, "Bearer"), named(&challenges, "Basic"), &credential) {
            (_, _, Some(Credential::RegistryToken(token))) => {
                let authorization = Secret::new(format!("Bearer {}", token.reveal()));
                Some(Grant { authorization, renewal: None })
            }
            (Some(bearer), _, credential) => Some(fetch(errand, bearer, credential.as_ref())?),
            (None, Some(_), Some(Credential::Password { user, password })) => {
                Some(Grant { authorization: basic(user, password), renewal: None })
            }
            _ => None,
        };
        if found.is_some() {
            grant.clone_from(&found);
        }
        Ok(found.map(|grant| grant.authorization))
    }

    fn credential(&self, errand: &Errand<'_>) -> Result<Option<Credential>, ImageError> {
        self.credentials.find(&errand.endpoint.name, &errand.access.repository, errand.cancel)
    }
}

/// A refusal of credentials that are tried for the first time: no others are to be tried.
fn as_login(error: ImageError) -> ImageError {
    match error {
        ImageError::Denied { registry, status, .. } => ImageError::Login { registry, status },
        other => other,
    }
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(challenge::parse).collect()
}

fn named<'a>(challenges: &'a [Challenge], scheme: &str) -> Option<&'a Challenge> {
    challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
}

/// Has the token server grant what is needed.
fn fetch(errand: &Errand<'_>, challenge: &Challenge, credential: Option<&Credential>) -> Result<Grant, ImageError> {
    let Errand { http, endpoint, access, cancel } = errand;
    let scopes = access.scopes(challenge.parameter("scope").unwrap_or_default());
    let (authorization, lifetime) = token(http, endpoint, &scopes, challenge, credential, cancel)?;
    let end = Instant::now().checked_add(lifetime);
    Ok(Grant { authorization, renewal: end.map(|end| (end, challenge.clone())) })
}

/// What to do about a refusal.
pub(super) fn hint(registry: &str, status: StatusCode, detail: Option<&str>) -> String {
    let advice = match status {
        StatusCode::FORBIDDEN => "the user may not read it, or it does not exist".to_owned(),
        _ => format!("it needs credentials (`kiln login {registry}`), other ones, or it does not exist"),
    };
    match detail {
        Some(detail) => format!("{detail}; {advice}"),
        None => advice,
    }
}

fn basic(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
}

/// Fetches a token from the realm that a registry names. Yields how long it is good for, too.
fn token(
    http: &Http,
    endpoint: &Endpoint,
    scopes: &[String],
    challenge: &Challenge,
    credential: Option<&Credential>,
    cancel: &Cancel,
) -> Result<(Secret, Duration), ImageError> {
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
    let service = challenge.parameter("service");
    let response = http.send(&token_request(realm.clone(), service, scopes, credential), cancel)?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(endpoint, scopes, &realm, status, credential.is_some()));
    }
    let bytes = response.bytes(TOKEN_LIMIT, cancel)?.ok_or_else(|| broken("a token that is far too long"))?;
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|_| broken("an answer of its token server that is malformed"))?;
    let text = if token.token.is_empty() { token.access_token } else { token.token };
    if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(broken("an answer of its token server without a token"));
    }
    Ok((Secret::new(format!("Bearer {text}")), Duration::from_secs(token.expires_in.unwrap_or(USUAL_LIFETIME))))
}

fn token_request(mut realm: Url, service: Option<&str>, scopes: &[String], credential: Option<&Credential>) -> Request {
    if let Some(Credential::IdentityToken(token)) = credential {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("service", service.unwrap_or_default()),
            ("scope", &scopes.join(" ")),
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
        for scope in scopes {
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

fn refused(endpoint: &Endpoint, scopes: &[String], realm: &Url, status: StatusCode, known: bool) -> ImageError {
    let registry = endpoint.name.clone();
    if !matches!(status.as_u16(), 400 | 401 | 403) {
        let url = format!("{}{}", host(realm), realm.path());
        return ImageError::Status { registry, method: "GET", url, status: status.to_string(), detail: String::new() };
    }
    let hint = if known {
        format!("its token server did not accept the credentials; try `kiln login {registry}` again")
    } else {
        hint(&registry, StatusCode::UNAUTHORIZED, None)
    };
    let repository = scopes.first().and_then(|scope| scope.split(':').nth(1)).unwrap_or("it").to_owned();
    ImageError::Denied { registry, repository, status: status.as_u16(), hint }
}
