//! The client against a server with all faults that real ones have.

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::testing::{Asked, Reply, Server, tls_file};
use super::*;
use crate::fixture::hurry;
use crate::spec::media_type;

const MANIFEST: &str = r#"{"schemaVersion":2}"#;

fn manifest() -> Reply {
    Reply::ok(media_type::OCI_MANIFEST, MANIFEST)
        .header("Docker-Content-Digest", &Digest::of(MANIFEST.as_bytes()).to_string())
}

fn client(configuration: &str, credentials: Credentials) -> Arc<Registries> {
    Arc::new(Registries::new(Configuration::parse(configuration).unwrap(), credentials, hurry()))
}

fn anonymous() -> Arc<Registries> {
    client("", Credentials::none())
}

/// Credentials for a registry, in a file as docker writes it.
fn login(folder: &tempfile::TempDir, registry: &str) -> Credentials {
    let file = folder.path().join("config.json");
    let auth = r#"{"auths": {"REGISTRY": {"auth": "bWU6aHVudGVyMg=="}}}"#.replace("REGISTRY", registry);
    std::fs::write(&file, auth).unwrap();
    Credentials::from_files([file])
}

const BASIC: &str = "Basic bWU6aHVudGVyMg==";

fn reference(server: &Server) -> Reference {
    Reference::parse(&format!("{}/test:1", server.host())).unwrap()
}

fn fetch(registries: &Registries, server: &Server) -> Result<Fetched, ImageError> {
    registries.manifest(&reference(server), &Cancel::new())
}

fn read_blob(server: &Server, content: &[u8]) -> Result<Vec<u8>, ImageError> {
    let descriptor = Descriptor::of(media_type::OCI_LAYER, content);
    let mut reader = anonymous().blob(&reference(server), &descriptor, &Cancel::new())?;
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(reader.failure().lock().unwrap().take().unwrap()),
    }
}

/// Answers that come one after the other; the last one stays.
fn in_turn(replies: Vec<Reply>) -> impl Fn(&Asked) -> Reply + Send + Sync {
    let next = AtomicUsize::new(0);
    move |_| replies[next.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1)].clone()
}

#[test]
fn a_manifest_is_asked_for_by_all_its_names() {
    let server = Server::start(|_| manifest());
    let fetched = fetch(&anonymous(), &server).unwrap();
    assert_eq!(
        (fetched.bytes.as_slice(), fetched.media_type.as_str()),
        (MANIFEST.as_bytes(), media_type::OCI_MANIFEST)
    );
    let asked = &server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/v2/test/manifests/1"));
    for kind in media_type::READABLE_MANIFESTS {
        assert!(asked.header("accept").unwrap().contains(kind));
    }
    let digest = anonymous().manifest_digest(&reference(&server), &Cancel::new()).unwrap();
    assert_eq!(digest, Some(Digest::of(MANIFEST.as_bytes())));
    assert_eq!(server.asked()[1].method, "HEAD");
}

#[test]
fn a_token_is_fetched_once_and_sent_along() {
    let server = Server::start(|asked| match (asked.path(), asked.header("authorization")) {
        ("/token", Some(BASIC)) => Reply::ok("application/json", r#"{"token": "abc"}"#),
        (_, Some("Bearer abc")) => manifest(),
        _ => {
            let host = asked.header("host").unwrap();
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="s v",scope="repository:test:pull""#);
            Reply::new(401).header("WWW-Authenticate", &challenge)
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let registries = client("", login(&folder, &server.host()));
    fetch(&registries, &server).unwrap();
    fetch(&registries, &server).unwrap();
    let targets: Vec<String> = server.asked().iter().map(|asked| asked.target.clone()).collect();
    let token = "/token?service=s+v&scope=repository%3Atest%3Apull";
    assert_eq!(targets, ["/v2/test/manifests/1", token, "/v2/test/manifests/1", "/v2/test/manifests/1"]);
}

#[test]
fn an_identity_token_is_exchanged() {
    let server = Server::start(|asked| match (asked.method.as_str(), asked.header("authorization")) {
        ("POST", _) => Reply::ok("application/json", r#"{"access_token": "abc"}"#),
        (_, Some("Bearer abc")) => manifest(),
        _ => {
            let challenge = format!(r#"Bearer realm="http://{}/token",service="s""#, asked.header("host").unwrap());
            Reply::new(401).header("WWW-Authenticate", &challenge)
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    std::fs::write(&file, format!(r#"{{"auths": {{"{}": {{"identitytoken": "a&b"}}}}}}"#, server.host())).unwrap();
    fetch(&client("", Credentials::from_files([file])), &server).unwrap();
    let body = "grant_type=refresh_token&client_id=kiln&service=s&scope=repository%3Atest%3Apull&refresh_token=a%26b";
    assert_eq!(server.asked()[1].body, body.as_bytes());
}

#[test]
fn basic_authentication_works_and_a_refusal_says_what_to_do() {
    let server = Server::start(|asked| match asked.header("authorization") {
        Some(BASIC) => manifest(),
        _ => Reply::new(401).header("WWW-Authenticate", r#"Basic realm="r""#),
    });
    let folder = tempfile::tempdir().unwrap();
    fetch(&client("", login(&folder, &server.host())), &server).unwrap();
    let error = fetch(&anonymous(), &server).unwrap_err().to_string();
    assert!(error.contains("401") && error.contains(&format!("kiln login {}", server.host())), "{error}");
}

#[test]
fn refusals_and_absences_are_told_apart() {
    let server = Server::start(in_turn(vec![Reply::new(403), Reply::new(404), Reply::new(418)]));
    let errors: Vec<String> = (0..3).map(|_| fetch(&anonymous(), &server).unwrap_err().to_string()).collect();
    assert!(errors[0].contains("(403)"), "{}", errors[0]);
    assert!(errors[1].contains("no such tag 1") && errors[1].contains(&server.host()), "{}", errors[1]);
    assert!(errors[2].contains("418") && errors[2].contains("/v2/test"), "{}", errors[2]);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn what_may_pass_is_tried_again_and_not_for_ever() {
    let replies = vec![Reply::new(429).header("Retry-After", "86400"), Reply::new(503), manifest()];
    let server = Server::start(in_turn(replies));
    fetch(&anonymous(), &server).unwrap();
    assert_eq!(server.asked().len(), 3);
    let server = Server::start(|_| Reply::new(500));
    let error = fetch(&anonymous(), &server).unwrap_err().to_string();
    assert!(error.contains("answered 500"), "{error}");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn nobody_there_is_an_error_in_bounded_time() {
    // A port that was free a moment ago refuses connections.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reference = Reference::parse(&format!("{address}/test:1")).unwrap();
    let error = anonymous().manifest(&reference, &Cancel::new()).unwrap_err().to_string();
    assert!(error.contains(&format!("`{address}`")) && error.contains("refused"), "{error}");
}

#[test]
fn silence_is_an_error_in_bounded_time() {
    let server = Server::start(|_| Reply::silent());
    let patience = Patience { silence: Duration::from_millis(20), attempts: 2, ..hurry() };
    let registries = Registries::new(Configuration::default(), Credentials::none(), patience);
    let error = registries.manifest(&reference(&server), &Cancel::new()).unwrap_err().to_string();
    assert!(error.contains("cannot reach registry") && error.contains("timed out"), "{error}");
}

#[test]
fn a_stopped_build_waits_for_nobody() {
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let server = Server::start(move |_| {
        stop.request();
        Reply::silent()
    });
    let outcome = anonymous().manifest(&reference(&server), &cancel);
    assert!(matches!(outcome, Err(ImageError::Cancelled)));
}

#[test]
fn a_manifest_with_another_digest_is_refused() {
    let wrong = Digest::of(b"other").to_string();
    let server =
        Server::start(move |_| Reply::ok(media_type::OCI_MANIFEST, MANIFEST).header("Docker-Content-Digest", &wrong));
    let error = fetch(&anonymous(), &server).unwrap_err();
    assert!(matches!(error, ImageError::WrongDigest { what: "manifest", .. }), "{error}");
    let server = Server::start(|_| Reply::ok(media_type::OCI_MANIFEST, MANIFEST));
    let by_digest = reference(&server).with_digest(Digest::of(b"other"));
    let error = anonymous().manifest(&by_digest, &Cancel::new()).unwrap_err().to_string();
    let digests = [Digest::of(b"other").to_string(), Digest::of(MANIFEST.as_bytes()).to_string()];
    assert!(digests.iter().all(|digest| error.contains(digest)) && error.contains(&server.host()), "{error}");
}

#[test]
fn a_manifest_has_bounds() {
    let server = Server::start(|_| Reply::ok(media_type::OCI_MANIFEST, vec![b' '; MANIFEST_LIMIT as usize + 1]));
    assert!(matches!(fetch(&anonymous(), &server), Err(ImageError::TooLarge { limit: MANIFEST_LIMIT, .. })));
}

#[test]
fn a_redirect_to_another_host_takes_no_credentials_along() {
    let storage = Server::start(|_| manifest());
    let target = format!("http://{}/elsewhere?signature=1", storage.host());
    let server = Server::start(move |asked| match (asked.path(), asked.header("authorization")) {
        ("/here", Some(BASIC)) => Reply::new(307).header("Location", &target),
        (_, Some(BASIC)) => Reply::new(302).header("Location", "/here"),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic"),
    });
    let folder = tempfile::tempdir().unwrap();
    fetch(&client("", login(&folder, &server.host())), &server).unwrap();
    assert_eq!(server.asked()[2].header("authorization"), Some(BASIC));
    assert_eq!((storage.asked()[0].header("authorization"), storage.asked().len()), (None, 1));
}

#[test]
fn redirects_end() {
    let server = Server::start(|_| Reply::new(301).header("Location", "/v2/again"));
    assert!(fetch(&anonymous(), &server).unwrap_err().to_string().contains("more than 10 redirects"));
    for location in ["file:///etc/passwd", "http://", ""] {
        let server = Server::start(move |asked| match asked.path() {
            "/v2/test/manifests/1" if location.is_empty() => Reply::new(302),
            _ => Reply::new(302).header("Location", location),
        });
        assert!(matches!(fetch(&anonymous(), &server), Err(ImageError::Protocol { .. })), "{location}");
    }
}

#[test]
fn mirrors_are_asked_first_and_forgiven() {
    let empty = Server::start(|_| Reply::new(404));
    let corrupt = Server::start(|_| {
        Reply::ok(media_type::OCI_MANIFEST, "x").header("Docker-Content-Digest", &Digest::of(b"y").to_string())
    });
    let good = Server::start(|_| manifest());
    let unused = Server::start(|_| Reply::new(404));
    let configuration = format!(
        "[registry.\"{}\"]\nmirrors = [\"{}\", \"{}\", \"{}/proxy\"]",
        unused.host(),
        empty.host(),
        corrupt.host(),
        good.host()
    );
    fetch(&client(&configuration, Credentials::none()), &unused).unwrap();
    assert_eq!((empty.asked().len(), corrupt.asked().len(), unused.asked().len()), (1, 1, 0));
    assert_eq!(good.asked()[0].target, format!("/v2/proxy/test/manifests/1?ns={}", unused.host()));
    drop(good);
    let error = fetch(&client(&configuration, Credentials::none()), &unused).unwrap_err();
    assert!(matches!(error, ImageError::NotFound { registry, .. } if registry == unused.host()));
}

#[test]
fn a_blob_that_breaks_off_is_taken_up_again() {
    let content: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let body = content.clone();
    let server = Server::start(move |asked| {
        let start = asked.header("range").map(|range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
        match start {
            None => Reply::ok("x", body.clone()).cut_after(300_000),
            Some(start) => Reply::ok("x", &body[start..]).with_status(206).cut_after(400_000),
        }
    });
    assert!(read_blob(&server, &content).unwrap() == content);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_server_without_ranges_is_read_from_the_start_again() {
    let content = vec![7; 600_000];
    let body = content.clone();
    let next = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let reply = Reply::ok("x", body.clone());
        if next.fetch_add(1, Ordering::SeqCst) == 0 { reply.cut_after(500_000) } else { reply }
    });
    assert!(read_blob(&server, &content).unwrap() == content);
}

#[test]
fn a_blob_that_never_comes_whole_is_an_error() {
    let content = vec![7; 1000];
    let body = content.clone();
    let server = Server::start(move |_| Reply::ok("x", body.clone()).cut_after(400));
    let error = read_blob(&server, &content).unwrap_err();
    assert!(matches!(error, ImageError::Truncated { received: 400, expected: 1000, .. }), "{error}");
    assert!(error.to_string().contains(&Digest::of(&content).to_string()));
}

#[test]
fn a_blob_longer_or_shorter_than_promised_is_an_error() {
    let server = Server::start(|_| Reply::ok("x", vec![7; 1001]));
    let error = read_blob(&server, &[7; 1000]).unwrap_err();
    assert!(matches!(error, ImageError::WrongSize { expected: 1000, found: 1001, .. }), "{error}");
    let server = Server::start(|_| Reply::ok("x", vec![7; 999]));
    assert!(matches!(read_blob(&server, &[7; 1000]), Err(ImageError::Truncated { received: 999, .. })));
}

#[test]
fn tls_is_as_configured() {
    let (open, strict) = (Server::start_tls(false, |_| manifest()), Server::start_tls(true, |_| manifest()));
    let fetch = |server: &Server, lines: &str| {
        let configuration = format!("[registry.\"{}\"]\n{lines}", server.host());
        fetch(&client(&configuration, Credentials::none()), server).map(drop).map_err(|error| error.to_string())
    };
    let (ca, key, cert) = (tls_file("ca.pem"), tls_file("client.key"), tls_file("client.pem"));
    let trust = format!("ca = [{ca:?}]\n");
    let identity = format!("keypair = [{{ key = {key:?}, cert = {cert:?} }}]\n");
    assert_eq!(fetch(&open, &trust), Ok(()));
    assert_eq!(fetch(&open, "insecure = true"), Ok(()));
    assert_eq!(fetch(&strict, &format!("{trust}{identity}")), Ok(()));
    assert_eq!(fetch(&strict, &format!("insecure = true\n{identity}")), Ok(()));
    let error = fetch(&open, "http = false").unwrap_err();
    assert!(error.contains("UnknownIssuer") && error.contains("`ca`"), "{error}");
    assert!(fetch(&strict, &trust).is_err());
    assert!(fetch(&open, "ca = ['/absent.pem']").unwrap_err().contains("`/absent.pem`"));
    assert!(fetch(&open, &format!("ca = [{key:?}]")).unwrap_err().contains("no PEM certificate"));
    let swapped = format!("{trust}keypair = [{{ key = {cert:?}, cert = {cert:?} }}]");
    assert!(fetch(&open, &swapped).unwrap_err().contains("not a PEM key and certificate"));
}

#[test]
fn a_complaint_is_told() {
    let plain = "Client sent an HTTP request to an HTTPS server.\nmore";
    let replies = [
        (Reply::ok("application/json", r#"{"errors": [{"code": "X", "message": "no\u0007pe"}]}"#), ": nope"),
        (Reply::ok("application/json", r#"{"errors": [{"code": "DENIED"}]}"#), ": DENIED"),
        (Reply::ok("text/plain; charset=utf-8", plain), "Set `http = false`"),
        (Reply::ok("text/html", "<html>"), "(tag 1)"),
    ];
    for (reply, told) in replies {
        let server = Server::start(move |_| reply.clone().with_status(400));
        let error = fetch(&anonymous(), &server).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}
