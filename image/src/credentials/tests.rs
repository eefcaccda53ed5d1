//! Which credentials are found where.

use std::path::Path;
use std::process::Command;

use super::*;

/// Writes a helper. Another process does it: a descriptor open for writing that a fork of a parallel test takes
/// along would make running the helper fail.
fn write_helper(folder: &Path, name: &str, script: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod 755 "$1""#;
    let path = folder.join(format!("docker-credential-{name}"));
    let status = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(script).status().unwrap();
    assert!(status.success());
}

fn password(user: &str, password: &str) -> Option<Credential> {
    Some(Credential::Password { user: user.to_owned(), password: Secret::new(password) })
}

fn find(text: &str, registry: &str, repository: &str) -> Result<Option<Credential>, ImageError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, text).unwrap();
    Credentials::from_files([folder.path().join("absent"), file]).find(registry, repository, &Cancel::new())
}

#[test]
fn files_hold_credentials_by_registry_and_repository() {
    let text = r#"{
        "auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "r.example": {"auth": "YTpiOmM"},
            "r.example/team": {"username": "team", "password": "t"},
            "https://old.example/v2/": {"identitytoken": "refresh"},
            "empty.example": {}
        },
        "HttpHeaders": {"x": "y"}
    }"#;
    assert_eq!(find(text, "docker.io", "library/app").unwrap(), password("hub", "secret"));
    assert_eq!(find(text, "r.example", "app").unwrap(), password("a", "b:c"));
    assert_eq!(find(text, "r.example", "team/app").unwrap(), password("team", "t"));
    let token = Some(Credential::IdentityToken(Secret::new("refresh")));
    assert_eq!(find(text, "old.example", "app").unwrap(), token);
    assert_eq!(find(text, "empty.example", "app").unwrap(), None);
    assert_eq!(find(text, "other.example", "app").unwrap(), None);
    assert_eq!(find("", "r.example", "app").unwrap(), None);
}

#[test]
fn errors_and_debug_output_show_no_secret() {
    let error = find(r#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#, "a", "b").unwrap_err();
    assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
    let error = find(r#"{"auths": {"a": "hunter2"}}"#, "a", "b").unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!format!("{:?}", password("me", "hunter2")).contains("hunter2"));
}

#[test]
fn helpers_come_before_what_the_file_holds() {
    let folder = tempfile::tempdir().unwrap();
    let helper = |name: &str, script: &str| write_helper(folder.path(), name, script);
    helper("own", r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"own\",\"Secret\":\"$server\"}""#);
    helper("store", "echo 'credentials not found in native keychain'; exit 1");
    helper("token", r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"t"}'"#);
    helper("broken", "echo secret-looking-output; exit 3");
    let file = folder.path().join("config.json");
    let text = r#"{"auths": {"a": {"auth": "YTpi"}, "b": {"auth": "YTpi"}},
        "credHelpers": {"a": "own", "c": "token", "d": "broken", "e": "../x", "f": "absent"}, "credsStore": "store"}"#;
    std::fs::write(&file, text).unwrap();
    let credentials = Credentials::from_files([file]).with_helper_path(folder.path());
    let find = |registry: &str| credentials.find(registry, "app", &Cancel::new());
    assert_eq!(find("a").unwrap(), password("own", "a"));
    assert_eq!(find("b").unwrap(), password("a", "b"));
    assert_eq!(find("c").unwrap(), Some(Credential::IdentityToken(Secret::new("t"))));
    let broken = find("d").unwrap_err().to_string();
    assert!(broken.contains("`docker-credential-broken` failed") && !broken.contains("secret"), "{broken}");
    assert!(find("e").unwrap_err().to_string().contains("`../x`"));
    assert!(find("f").unwrap_err().to_string().contains("docker-credential-absent"));
}

#[test]
fn a_helper_that_hangs_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    write_helper(folder.path(), "slow", "exec sleep 1000");
    let error = |reason| ImageError::Credentials { registry: "r".to_owned(), reason };
    let ask = |cancel: &Cancel| {
        helper::ask("slow", "r", Some(folder.path().as_os_str()), Duration::from_millis(20), cancel, &error)
    };
    assert!(ask(&Cancel::new()).unwrap_err().to_string().contains("did not answer"));
    let cancel = Cancel::new();
    cancel.request();
    assert!(matches!(ask(&cancel), Err(ImageError::Cancelled)));
}
