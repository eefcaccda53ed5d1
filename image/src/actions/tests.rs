//! A service that answers as GitHub's does.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::registry::testing::{self, Reply, Server};

/// What is kept: blobs by their place, and blocks of those that come in parts.
#[derive(Default)]
struct Kept {
    blobs: BTreeMap<String, Vec<u8>>,
    blocks: BTreeMap<String, Vec<u8>>,
    finished: Vec<String>,
    /// How many requests to the storage are still to fail.
    failing: usize,
}

fn token() -> Secret {
    let scopes = r#"[{"Scope":"refs/heads/x","Permission":3},{"Scope":"refs/heads/main","Permission":1}]"#;
    let claims = serde_json::json!({ "ac": scopes }).to_string();
    Secret::new(format!("e30.{}.hidden", URL_SAFE_NO_PAD.encode(claims)))
}

/// Where an entry lies.
fn place(host: &str, key: &str) -> String {
    format!("http://{host}/{}?sig=hidden", key.replace('#', "%23"))
}

fn answer(asked: &testing::Asked, kept: &Mutex<Kept>) -> Reply {
    let json = |value: serde_json::Value| Reply::ok("application/json", value.to_string());
    let host = asked.header("host").unwrap_or_default();
    let mut kept = kept.lock().unwrap();
    if asked.path().starts_with("/twirp/") {
        if asked.header("authorization") != Some(&format!("Bearer {}", token().reveal())) {
            return json(serde_json::json!({"code": "unauthenticated", "msg": "who?"})).with_status(401);
        }
        let body: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
        let key = body["key"].as_str().unwrap().to_owned();
        assert_eq!(body["version"].as_str().unwrap().len(), 64);
        return match asked.path().rsplit('/').next().unwrap() {
            "CreateCacheEntry" if kept.blobs.contains_key(&key) => {
                json(serde_json::json!({"code": "already_exists", "msg": "cache entry already exists"}))
                    .with_status(409)
            }
            "CreateCacheEntry" => json(serde_json::json!({"ok": true, "signed_upload_url": place(host, &key)})),
            "FinalizeCacheEntryUpload" => {
                let is_whole =
                    kept.blobs.get(&key).map(Vec::len) == body["size_bytes"].as_u64().map(|size| size as usize);
                kept.finished.push(key);
                json(serde_json::json!({"ok": is_whole, "entry_id": "1"}))
            }
            _ => match kept.finished.iter().rev().find(|known| known.starts_with(&key)) {
                Some(key) => json(serde_json::json!({
                    "ok": true, "matched_key": key, "signed_download_url": place(host, key),
                })),
                None => json(serde_json::json!({"ok": false})),
            },
        };
    }
    assert_eq!(asked.header("authorization"), None, "the token goes to nobody else");
    if kept.failing > 0 {
        kept.failing -= 1;
        return Reply::new(503);
    }
    let url = Url::parse(&format!("http://{host}{}", asked.target)).unwrap();
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(query["sig"], "hidden");
    let place = url.path()[1..].replace("%23", "#");
    match (asked.method.as_str(), query.get("comp").map(String::as_str)) {
        ("PUT", Some("block")) => drop(kept.blocks.insert(query["blockid"].clone(), asked.body.clone())),
        ("PUT", Some(_)) => {
            let list = String::from_utf8(asked.body.clone()).unwrap();
            let ids = list.split("<Latest>").skip(1).map(|rest| rest.split_once('<').unwrap().0);
            let whole = ids.flat_map(|id| kept.blocks[id].clone()).collect();
            kept.blobs.insert(place, whole);
        }
        ("PUT", None) if asked.header("x-ms-blob-type") == Some("BlockBlob") => {
            kept.blobs.insert(place, asked.body.clone());
        }
        ("GET", None) => {
            let start = asked.header("range").and_then(|range| range[6..].trim_end_matches('-').parse().ok());
            let blob = &kept.blobs[&place][start.unwrap_or(0)..];
            return Reply::ok("application/octet-stream", blob).with_status(if start.is_some() { 206 } else { 200 });
        }
        _ => return Reply::new(400),
    }
    Reply::new(201)
}

fn service() -> (Server, Arc<Mutex<Kept>>) {
    let kept: Arc<Mutex<Kept>> = Arc::default();
    let inner = kept.clone();
    (Server::start(move |asked| answer(asked, &inner)), kept)
}

fn cache(server: &Server, token: Secret) -> Arc<ActionsCache> {
    let settings = ActionsSettings { url: format!("http://{}", server.host()), token };
    let patience = Patience { pause: std::time::Duration::ZERO, ..Patience::default() };
    Arc::new(ActionsCache::new(&settings, &Configuration::default(), &patience).unwrap())
}

#[test]
fn what_is_saved_is_found_by_its_key_and_by_how_that_begins() {
    let (server, _) = service();
    let (cache, cancel) = (cache(&server, token()), Cancel::new());
    assert_eq!(cache.readable().collect::<Vec<_>>(), ["refs/heads/x", "refs/heads/main"]);
    assert_eq!(cache.writable(), Some("refs/heads/x"));
    assert!(cache.find("index", &cancel).unwrap().is_none());
    for (key, bytes) in [("index#1", "one"), ("index#2", "two")] {
        let save = || cache.save(key, &Content::of(bytes.as_bytes()), 3, &cancel).unwrap();
        assert_eq!((save(), save()), (Saved::Now, Saved::Before));
    }
    let found = cache.find("index#", &cancel).unwrap().unwrap();
    assert_eq!(found.key, "index#2");
    assert_eq!(cache.read(&found, "cache", 10, &cancel).unwrap(), b"two");
    assert!(cache.has("index#1", &cancel).unwrap() && !cache.has("index#", &cancel).unwrap());
    assert!(cache.get("index#", "cache", 10, &cancel).unwrap_err().to_string().contains("no such cache entry"));
}

#[test]
fn a_large_entry_goes_in_blocks_that_are_tried_again() {
    let (server, kept) = service();
    let (cache, cancel) = (cache(&server, token()), Cancel::new());
    let bytes: Vec<u8> = (0..70_u32 << 20).map(|number| (number >> 18) as u8).collect();
    kept.lock().unwrap().failing = 2;
    assert_eq!(cache.save("blob", &Content::of(&bytes), bytes.len() as u64, &cancel).unwrap(), Saved::Now);
    assert_eq!(kept.lock().unwrap().blocks.len(), 3);
    let descriptor = Descriptor::new("", Digest::of(&bytes), bytes.len() as u64);
    let mut read = Vec::new();
    cache.blob("blob".to_owned(), &descriptor, &cancel).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == bytes);
}

#[test]
fn errors_tell_no_secrets() {
    let (server, kept) = service();
    let cancel = Cancel::new();
    kept.lock().unwrap().failing = 100;
    let error = cache(&server, token()).save("key", &Content::of(b"x"), 1, &cancel).unwrap_err();
    assert!(error.to_string().contains("503") && !error.to_string().contains("hidden"), "{error}");
    let scopes = URL_SAFE_NO_PAD.encode(r#"{"ac":"[]"}"#);
    let error = cache(&server, Secret::new(format!("e30.{scopes}.hidden"))).has("key", &cancel).unwrap_err();
    assert!(error.to_string().contains("401 Unauthorized") && error.to_string().contains(": who?"), "{error}");
    let settings = ActionsSettings { url: "http://h".to_owned(), token: Secret::new("hidden") };
    let error = ActionsCache::new(&settings, &Configuration::default(), &Patience::default()).err().unwrap();
    assert!(!format!("{error} {settings:?}").contains("hidden"));
}
