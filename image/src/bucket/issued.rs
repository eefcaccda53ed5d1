//! Keys that are issued for a while: for a token of an identity provider, to a container, to a machine.

use std::time::{Duration, SystemTime};

use kiln_solver::Cancel;
use reqwest::header::HeaderName;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::login::{AwsSurroundings, Keys, WebIdentity, failed};
use crate::credentials::Secret;
use crate::registry::{Http, Patience, Request, Response};
use crate::{Configuration, ImageError, spec};

/// The most of an answer that is taken.
const LIMIT: u64 = 1 << 20;
/// How long a machine's own service may take: elsewhere nobody answers at its address.
const NEARBY: Duration = Duration::from_secs(1);
/// What a session is called where nobody says so.
const SESSION: &str = "kiln";

const TOKEN_LIFE: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

/// What asks those who issue keys.
pub(super) struct Issuers {
    http: Http,
    nearby: Http,
}

/// Keys, as a container and a machine are told them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Issued {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    #[serde(default)]
    expiration: Option<String>,
}

impl Issuers {
    pub(super) fn new(configuration: &Configuration) -> Self {
        let nearby = Patience { connect: NEARBY, silence: NEARBY, attempts: 1, ..Patience::default() };
        let http = |patience| Http::new(configuration.clone(), patience);
        Self { http: http(Patience::default()), nearby: http(nearby) }
    }
}

/// The keys of the role that an identity may take on (`AssumeRoleWithWebIdentity`).
pub(super) fn of_identity(
    identity: &WebIdentity,
    from: &AwsSurroundings,
    issuers: &Issuers,
    cancel: &Cancel,
) -> Result<Keys, ImageError> {
    let path = &identity.token_file;
    let token = std::fs::read_to_string(path).map_err(ImageError::io("read", path))?;
    let own = || format!("https://sts.{}.amazonaws.com", from.region);
    let url = parse(&from.sts_endpoint.clone().unwrap_or_else(own))?;
    let mut form = Url::parse("form:").map_err(|error| failed(error.to_string()))?;
    form.query_pairs_mut()
        .append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", &identity.role)
        .append_pair("RoleSessionName", identity.session.as_deref().unwrap_or(SESSION))
        .append_pair("WebIdentityToken", token.trim());
    let request = Request::post_form(url, Secret::new(form.query().unwrap_or_default()));
    let response = issuers.http.send(&request, cancel)?;
    let status = response.status();
    let text = text(response, cancel)?;
    let field = |name: &str| element(&text, name).map(str::to_owned);
    if let (true, Some(id), Some(key), Some(token)) =
        (status.is_success(), field("AccessKeyId"), field("SecretAccessKey"), field("SessionToken"))
    {
        let expires = field("Expiration").as_deref().and_then(time);
        return Ok(Keys { expires, ..Keys::new(id, key, Some(token)) });
    }
    let detail = field("Code").map(|code| format!(": {code}")).unwrap_or_default();
    Err(failed(format!("role `{}` cannot be taken on ({status}{detail})", identity.role)))
}

/// The keys of a container.
pub(super) fn of_container(
    url: &str,
    from: &AwsSurroundings,
    issuers: &Issuers,
    cancel: &Cancel,
) -> Result<Keys, ImageError> {
    let token = match (&from.container_token_file, &from.container_token) {
        (Some(path), _) => Some(Secret::new(std::fs::read_to_string(path).map_err(ImageError::io("read", path))?)),
        (None, token) => token.clone(),
    };
    let url = parse(url)?;
    if url.scheme() != "https" && !crate::registry::is_nearby(url.host_str().unwrap_or_default()) {
        return Err(failed(format!("`{url}` is not on this machine, and not asked without TLS")));
    }
    let token = token.map(|token| Secret::new(token.reveal().trim()));
    let request = Request::get(url).authorized(token);
    let response = issuers.http.send(&request, cancel)?;
    match response.status() {
        status if status.is_success() => keys(&text(response, cancel)?),
        status => Err(failed(format!("the container has no keys: it is told {status}"))),
    }
}

/// The keys of a machine (IMDS, version 2 and else 1); none where there is no such service, or the machine has no role.
pub(super) fn of_machine(url: &str, issuers: &Issuers, cancel: &Cancel) -> Result<Option<Keys>, ImageError> {
    let base = parse(url)?;
    let at = |path: &str| base.join(path).map_err(|error| failed(error.to_string()));
    let ask = |request: Request| match issuers.nearby.send(&request, cancel) {
        Ok(response) => Ok(Some(response)),
        Err(ImageError::Cancelled) => Err(ImageError::Cancelled),
        Err(_) => Ok(None),
    };
    let token = ask(Request::new(Method::PUT, at("/latest/api/token")?).header(TOKEN_LIFE, "21600"))?;
    let Some(token) = token else { return Ok(None) };
    let token = if token.status().is_success() { text(token, cancel)? } else { String::new() };
    let get = |path: &str| -> Result<Option<String>, ImageError> {
        let request = Request::get(at(path)?);
        let request = if token.is_empty() { request } else { request.header(TOKEN, &token) };
        match ask(request)? {
            Some(response) if response.status() == StatusCode::OK => text(response, cancel).map(Some),
            _ => Ok(None),
        }
    };
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let Some(role) = get(ROLES)?.and_then(|roles| roles.lines().next().map(str::to_owned)) else { return Ok(None) };
    get(&format!("{ROLES}{role}"))?.map(|text| keys(&text)).transpose()
}

/// A time, as all of them write it.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    spec::parse_time(text)
}

fn keys(text: &str) -> Result<Keys, ImageError> {
    // What it says is not told: it may be secret.
    let issued: Issued = serde_json::from_str(text).map_err(|_| failed("what was issued is no key"))?;
    let Issued { access_key_id, secret_access_key, token, expiration } = issued;
    Ok(Keys {
        expires: expiration.as_deref().and_then(time),
        ..Keys::new(access_key_id, secret_access_key, Some(token))
    })
}

fn parse(url: &str) -> Result<Url, ImageError> {
    url.parse().map_err(|_| failed(format!("`{url}` is not a URL")))
}

fn text(response: Response, cancel: &Cancel) -> Result<String, ImageError> {
    let bytes = response.bytes(LIMIT, cancel)?.ok_or_else(|| failed("an answer is too long"))?;
    String::from_utf8(bytes).map_err(|_| failed("an answer is no text"))
}

/// The text of the first element of this name in a document of plain elements, none of which needs escaping.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{Reply, Server};

    const KEYS: &str = r#"{"Code":"Success","AccessKeyId":"id","SecretAccessKey":"key","Token":"token",
                           "Expiration":"2030-01-01T00:00:00Z"}"#;

    fn issuers() -> Issuers {
        Issuers::new(&Configuration::default())
    }

    fn expected() -> Keys {
        Keys { expires: time("2030-01-01T00:00:00Z"), ..Keys::new("id", "key", Some("token".to_owned())) }
    }

    #[test]
    fn an_identity_takes_on_a_role() {
        let server = Server::start(|asked| {
            let form = String::from_utf8_lossy(&asked.body).into_owned();
            if !form.contains("WebIdentityToken=a.b%2Bc&") && !form.ends_with("WebIdentityToken=a.b%2Bc") {
                return Reply::ok("text/xml", "<Error><Code>InvalidIdentityToken</Code></Error>").with_status(400);
            }
            assert!(form.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fci&RoleSessionName=kiln"), "{form}");
            let keys = "<AccessKeyId>id</AccessKeyId><SecretAccessKey>key</SecretAccessKey>\
                        <SessionToken>token</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration>";
            Reply::ok("text/xml", format!("<R><Credentials>{keys}</Credentials></R>"))
        });
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, "a.b+c\n").unwrap();
        let endpoint = Some(format!("http://{}", server.host()));
        let from = AwsSurroundings { sts_endpoint: endpoint, ..AwsSurroundings::default() };
        let identity = WebIdentity { token_file, role: "arn:aws:iam::1:role/ci".to_owned(), session: None };
        let ask = || of_identity(&identity, &from, &issuers(), &Cancel::new());
        assert!(ask().unwrap() == expected());
        std::fs::write(&identity.token_file, "other").unwrap();
        let error = ask().err().unwrap().to_string();
        assert!(error.contains("cannot be taken on (400 Bad Request: InvalidIdentityToken)"), "{error}");
        assert!(!error.contains("other"), "{error}");
    }

    #[test]
    fn a_container_shows_its_token() {
        let server = Server::start(|asked| match asked.header("authorization") {
            Some("let me in") => Reply::ok("application/json", KEYS),
            _ => Reply::new(403),
        });
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        std::fs::write(&token, "let me in\n").unwrap();
        let url = format!("http://{}/v2/credentials", server.host());
        let ask = |url: &str, from: &AwsSurroundings| of_container(url, from, &issuers(), &Cancel::new());
        let none = AwsSurroundings::default();
        let file = AwsSurroundings { container_token_file: Some(token), ..none.clone() };
        let text = AwsSurroundings { container_token: Some(Secret::new("let me in")), ..none.clone() };
        assert!(ask(&url, &file).unwrap() == expected() && ask(&url, &text).unwrap() == expected());
        assert!(ask(&url, &none).err().unwrap().to_string().contains("403"));
        assert!(ask("http://elsewhere.example/", &none).err().unwrap().to_string().contains("without TLS"));
    }

    #[test]
    fn a_machine_has_the_keys_of_its_role() {
        let server = Server::start(|asked| match (asked.method.as_str(), asked.path()) {
            ("PUT", "/latest/api/token") if asked.header(TOKEN_LIFE.as_str()).is_some() => Reply::ok("text/plain", "t"),
            _ if asked.header(TOKEN.as_str()) != Some("t") => Reply::new(401),
            ("GET", "/latest/meta-data/iam/security-credentials/") => Reply::ok("text/plain", "role"),
            ("GET", "/latest/meta-data/iam/security-credentials/role") => Reply::ok("application/json", KEYS),
            _ => Reply::new(404),
        });
        let ask = |url: &str| of_machine(url, &issuers(), &Cancel::new()).unwrap();
        assert!(ask(&format!("http://{}", server.host())) == Some(expected()));
        let without = Server::start(|_| Reply::new(404));
        assert!(ask(&format!("http://{}", without.host())).is_none());
        let host = without.host();
        drop(without);
        assert!(ask(&format!("http://{host}")).is_none());
    }
}
