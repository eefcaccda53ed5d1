//! Buckets as a store sees them.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::registry::testing::{Asked, Reply, Server};

fn settings(server: &Server, login: BucketLogin) -> BucketSettings {
    BucketSettings {
        bucket: "b".to_owned(),
        region: "r".to_owned(),
        endpoint: Some(format!("http://{}", server.host())),
        path_style: true,
        login,
        attempts: Some(3),
    }
}

fn keys() -> BucketLogin {
    BucketLogin::Keys(Keys::new("id", "hidden", Some("hidden".to_owned())))
}

fn bucket(server: &Server, sizes: Sizes) -> Bucket {
    let patience = Patience { pause: Duration::ZERO, ..Patience::default() };
    let bucket = Bucket::new(&settings(server, keys()), &Configuration::default(), &patience).unwrap();
    Bucket { sizes, ..bucket }
}

/// The values of a query.
fn query(asked: &Asked, name: &str) -> Option<String> {
    let url = Url::parse(&format!("http://s{}", asked.target)).unwrap();
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// A store of uploads in parts; each part fails the first time.
fn store(asked: &Asked, tried: &Mutex<BTreeSet<String>>, end: &str) -> Reply {
    match (asked.method.as_str(), query(asked, "partNumber"), query(asked, "uploadId")) {
        ("POST", None, None) => Reply::ok(
            "application/xml",
            "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket>\
             <Key>o</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>",
        ),
        ("PUT", Some(number), Some(_)) if tried.lock().unwrap().insert(number.clone()) => Reply::new(503),
        ("PUT", Some(number), Some(_)) if asked.header("x-amz-copy-source").is_some() => {
            Reply::ok("application/xml", format!("<CopyPartResult><ETag>&quot;{number}&quot;</ETag></CopyPartResult>"))
        }
        ("PUT", Some(number), Some(_)) => Reply::new(200).header("ETag", &format!("\"{number}\"")),
        ("POST", None, Some(_)) => Reply::ok("application/xml", end),
        ("DELETE", None, Some(_)) => Reply::new(204),
        _ => Reply::new(400),
    }
}

const SMALL: Sizes = Sizes { threshold: 10, part: 8, copy: 10 };

#[test]
fn a_large_object_goes_in_parts_that_are_tried_again() {
    let tried = Mutex::default();
    let server = Server::start(move |asked| store(asked, &tried, "<CompleteMultipartUploadResult/>"));
    let bucket = bucket(&server, SMALL);
    let bytes: Vec<u8> = (0..20).collect();
    bucket.put("o", Content::of(&bytes), 20, &Cancel::new()).unwrap();
    let asked = server.asked();
    let part = |number: &str| {
        let sent: Vec<&Asked> =
            asked.iter().filter(|asked| query(asked, "partNumber").as_deref() == Some(number)).collect();
        assert_eq!(sent.len(), 2);
        sent[1].body.clone()
    };
    assert_eq!([part("1"), part("2"), part("3")].concat(), bytes);
    let end = String::from_utf8(asked.last().unwrap().body.clone()).unwrap();
    let places = ["1", "2", "3"].map(|number| end.find(&format!("<PartNumber>{number}</PartNumber>")).unwrap());
    assert!(places.is_sorted() && end.matches("<Part>").count() == 3, "{end}");
}

#[test]
fn an_object_too_large_for_one_copy_is_copied_in_parts() {
    let tried = Mutex::default();
    let server = Server::start(move |asked| store(asked, &tried, "<CompleteMultipartUploadResult/>"));
    bucket(&server, SMALL).touch("a b", 25, &Cancel::new()).unwrap();
    let asked = server.asked();
    let mut ranges: Vec<&str> = asked.iter().filter_map(|asked| asked.header("x-amz-copy-source-range")).collect();
    ranges.sort_unstable();
    ranges.dedup();
    assert_eq!(ranges, ["bytes=0-9", "bytes=10-19", "bytes=20-24"]);
    let source = asked.iter().find_map(|asked| asked.header("x-amz-copy-source")).unwrap();
    assert_eq!(source, "/b/a%20b");
}

#[test]
fn what_cannot_be_put_together_is_cleared_away() {
    let tried = Mutex::default();
    let end = "<Error><Code>InternalError</Code></Error>";
    let server = Server::start(move |asked| store(asked, &tried, end));
    let error = bucket(&server, SMALL).put("o", Content::of(&[0; 20]), 20, &Cancel::new()).unwrap_err();
    assert!(error.to_string().contains("not put together: InternalError"), "{error}");
    assert_eq!(server.asked().last().unwrap().method, "DELETE");
}

#[test]
fn keys_are_found_once_and_again_before_they_end() {
    let machine = |expires: &'static str| {
        Server::start(move |asked| match asked.path() {
            "/latest/api/token" => Reply::ok("text/plain", "t"),
            "/latest/meta-data/iam/security-credentials/" => Reply::ok("text/plain", "role"),
            _ => Reply::ok(
                "application/json",
                format!(r#"{{"AccessKeyId":"id","SecretAccessKey":"k","Token":"t","Expiration":"{expires}"}}"#),
            ),
        })
    };
    let objects = Server::start(|asked| match query(asked, "X-Amz-Credential") {
        Some(credential) if credential.starts_with("id/") => Reply::ok("text/plain", "object"),
        _ => Reply::new(403),
    });
    let read = |machine: &Server| {
        let metadata_url = Some(format!("http://{}", machine.host()));
        let login = BucketLogin::Found(Box::new(AwsSurroundings { metadata_url, ..AwsSurroundings::default() }));
        let settings = settings(&objects, login);
        let bucket = Bucket::new(&settings, &Configuration::default(), &Patience::default()).unwrap();
        for _ in 0..2 {
            assert_eq!(bucket.get("o", "object", 100, &Cancel::new()).unwrap(), b"object");
        }
        machine.count("PUT", "/latest/api/token")
    };
    assert_eq!(read(&machine("2100-01-01T00:00:00Z")), 1);
    assert_eq!(read(&machine("2020-01-01T00:00:00Z")), 2);
}

#[test]
fn errors_have_codes() {
    let text = "<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>none</Message></Error>";
    assert_eq!(complaint(text).as_deref(), Some("NoSuchBucket"));
    for text in ["", "<Code>", "<Code>a b</Code>", "<Code>\u{1b}[1m</Code>"] {
        assert_eq!(complaint(text), None);
    }
}

#[test]
fn settings_do_not_tell_secrets() {
    let server = Server::start(|_| Reply::new(404));
    let settings = settings(&server, keys());
    assert_eq!(format!("{settings:?} {:?}", settings.login), "s3://b (r) BucketLogin");
}
