//! Files over http, from a server that does as it is told.

use super::super::testing::{Reply, Server, World};
use super::*;

const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

fn http(url: String) -> Http {
    Http { url, checksum: None, filename: "file".to_owned() }
}

fn fetch(world: &World, http: &Http) -> Result<StoredLayer, SourceError> {
    world.sources().http(http, &Cancel::new())
}

#[test]
fn a_file_becomes_a_layer() {
    let world = World::new();
    let server = Server::start(|_, _| Reply::ok("hello").header("Last-Modified", DATE));
    let layer = fetch(&world, &http(server.url("dir/file?x#y"))).unwrap();
    assert_eq!(world.show(&layer), ["file=hello"]);
    let entry = layer.index().get(b"file").unwrap();
    assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime.seconds), (0o600, 0, 0, 1_445_412_480));
    assert_eq!(server.asked()[0].path, "/dir/file?x");
    let undated = Server::start(|_, _| Reply::ok("hello"));
    let layer = fetch(&world, &http(undated.url("file"))).unwrap();
    assert_eq!(layer.index().get(b"file").unwrap().mtime.seconds, 0);
}

#[test]
fn an_unchanged_file_is_not_sent_again() {
    let world = World::new();
    let server = Server::start(|asked, _| match asked.headers.get("if-none-match").map(String::as_str) {
        Some("\"1\"") => Reply::new(304),
        _ => Reply::ok("hello").header("ETag", "\"1\"").header("Last-Modified", DATE),
    });
    let first = fetch(&world, &http(server.url("file"))).unwrap();
    let again = fetch(&world, &http(server.url("file"))).unwrap();
    assert_eq!(first.diff_id(), again.diff_id());
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].headers.get("if-modified-since").unwrap(), DATE);
    // With a checksum nobody needs to be asked.
    let checked = Http { checksum: Some(Digest::of(b"hello")), ..http(server.url("file")) };
    assert_eq!(fetch(&world, &checked).unwrap().diff_id(), first.diff_id());
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_changed_file_is_a_new_layer() {
    let world = World::new();
    let server = Server::start(|_, number| Reply::ok(format!("{number}")).header("ETag", &format!("\"{number}\"")));
    let contents = [1, 2].map(|_| world.show(&fetch(&world, &http(server.url("file"))).unwrap()));
    assert_eq!(contents, [["file=1"], ["file=2"]]);
}

#[test]
fn a_wrong_checksum_tells_both() {
    let world = World::new();
    let server = Server::start(|_, _| Reply::ok("hello"));
    let wrong = Http { checksum: Some(Digest::of(b"other")), ..http(server.url("file")) };
    let error = fetch(&world, &wrong).unwrap_err().to_string();
    for digest in [Digest::of(b"other"), Digest::of(b"hello")] {
        assert!(error.contains(&digest.to_string()), "{error}");
    }
    let right = Http { checksum: Some(Digest::of(b"hello")), ..http(server.url("file")) };
    assert!(fetch(&world, &right).is_ok());
}

#[test]
fn what_may_pass_is_tried_again() {
    let world = World::new();
    let server = Server::start(|_, number| match number {
        1 => Reply::new(503),
        2 => Reply::ok("hello").cut_after(3),
        _ => Reply::ok("hello"),
    });
    assert_eq!(world.show(&fetch(&world, &http(server.url("file"))).unwrap()), ["file=hello"]);
    assert_eq!(server.asked().len(), 3);
    let broken = Server::start(|_, _| Reply::new(500));
    let error = fetch(&world, &http(broken.url("file"))).unwrap_err().to_string();
    assert!(error.contains("the server answered 500"), "{error}");
    assert_eq!(broken.asked().len(), ATTEMPTS as usize);
}

#[test]
fn what_is_refused_is_not_tried_again_and_no_secret_is_told() {
    let world = World::new();
    let server = Server::start(|_, _| Reply::new(404));
    let url = format!("http://me:secret@{}/file?key=secret", server.host());
    let error = fetch(&world, &http(url)).unwrap_err().to_string();
    let expected = format!("cannot fetch `http://{}/file`: the server answered 404 Not Found", server.host());
    assert!(error.starts_with(&expected), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(server.asked().len(), 1);
    let closed = http("http://me:secret@127.0.0.1:1/file?key=secret".to_owned());
    let error = fetch(&world, &closed).unwrap_err().to_string();
    assert!(error.starts_with("cannot fetch `http://127.0.0.1:1/file`: "), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn credentials_go_to_their_host_alone() {
    let world = World::new();
    let other = Server::start(|_, _| Reply::ok("there"));
    let target = other.url("file");
    let server = Server::start(move |_, _| Reply::new(302).header("Location", &target));
    let url = format!("http://me:secret@{}/file", server.host());
    assert_eq!(world.show(&fetch(&world, &http(url)).unwrap()), ["file=there"]);
    assert!(server.asked()[0].headers.contains_key("authorization"));
    assert!(!other.asked()[0].headers.contains_key("authorization"));
    assert!(!world.knows("secret"));
}

#[test]
fn what_is_no_url_is_said() {
    let world = World::new();
    for (url, expected) in
        [("ftp://host/x", "neither http nor https"), ("http://", "empty host"), ("http://a b/", "cannot be fetched")]
    {
        let error = fetch(&world, &http(url.to_owned())).unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }
    for filename in ["", "..", "a/b"] {
        let http = Http { filename: filename.to_owned(), ..http("http://host/x".to_owned()) };
        assert!(matches!(fetch(&world, &http), Err(SourceError::BadName { .. })), "{filename}");
    }
}

#[test]
fn a_request_to_stop_is_heard() {
    let world = World::new();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let server = Server::start(move |_, _| {
        stop.request();
        std::thread::sleep(Duration::from_secs(1));
        Reply::ok("late")
    });
    let fetched = world.sources().http(&http(server.url("file")), &cancel);
    assert!(matches!(fetched, Err(SourceError::Cancelled)));
}
