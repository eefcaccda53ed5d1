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
        let path = Some(folder.path().as_os_str());
        Helper { name: "slow", path, patience: Duration::from_millis(20), cancel }.get("r", &error)
    };
    assert!(ask(&Cancel::new()).unwrap_err().to_string().contains("did not answer"));
    let cancel = Cancel::new();
    cancel.request();
    assert!(matches!(ask(&cancel), Err(ImageError::Cancelled)));
}

fn stored(credentials: &Credentials, registry: &str) -> Stored {
    let login = Login::new(registry, "me", "hunter2");
    credentials.store(&login, &Cancel::new()).unwrap()
}

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_login_is_kept_in_a_file_of_the_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep/.docker/config.json");
    let credentials = Credentials::from_files([file.clone()]);
    assert_eq!(stored(&credentials, "r.example:5000"), Stored::File(file.clone()));
    assert_eq!(stored(&credentials, "docker.io"), Stored::File(file.clone()));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
    let auth = serde_json::json!({ "auth": "bWU6aHVudGVyMg==" });
    let expected = serde_json::json!({ "auths": { "https://index.docker.io/v1/": auth, "r.example:5000": auth } });
    assert_eq!(read(&file), expected);
    let find = |registry: &str| credentials.find(registry, "app", &Cancel::new()).unwrap();
    assert_eq!(find("r.example:5000"), password("me", "hunter2"));
    assert_eq!(find("docker.io"), password("me", "hunter2"));
    assert!(credentials.erase("r.example:5000", &Cancel::new()).unwrap());
    assert!(!credentials.erase("r.example:5000", &Cancel::new()).unwrap());
    assert_eq!((find("r.example:5000"), find("docker.io")), (None, password("me", "hunter2")));
}

#[test]
fn all_else_in_the_file_stays() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("real.json"), folder.path().join("config.json"));
    let text = r#"{"HttpHeaders": {"x": "y"}, "auths": {"other": {"auth": "YTpi"}, "https://r.example/v1/": {"identitytoken": "t"}}, "psFormat": "z"}"#;
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    symlink("real.json", &link).unwrap();
    let credentials = Credentials::from_files([link.clone()]);
    stored(&credentials, "r.example");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let mut expected: serde_json::Value = serde_json::from_str(text).unwrap();
    expected["auths"].as_object_mut().unwrap().remove("https://r.example/v1/");
    expected["auths"]["r.example"] = serde_json::json!({ "auth": "bWU6aHVudGVyMg==" });
    assert_eq!(read(&file), expected);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    std::fs::write(&file, "{ hunter2").unwrap();
    let error = credentials.store(&Login::new("r", "me", "x"), &Cancel::new()).unwrap_err().to_string();
    assert!(error.contains("malformed") && !error.contains("hunter2"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{ hunter2");
}

#[test]
fn a_store_is_given_what_it_is_there_for() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!("echo \"$*\" >> {0}; cat >> {0}", log.display());
    write_helper(folder.path(), "keeper", &script);
    write_helper(folder.path(), "broken", "exit 1");
    let file = folder.path().join("config.json");
    let text =
        r#"{"credsStore": "keeper", "credHelpers": {"bad": "broken"}, "auths": {"r.example": {"auth": "YTpi"}}}"#;
    std::fs::write(&file, text).unwrap();
    let credentials = Credentials::from_files([file.clone()]).with_helper_path(folder.path());
    assert_eq!(stored(&credentials, "r.example"), Stored::Helper("docker-credential-keeper".to_owned()));
    assert_eq!(read(&file)["auths"], serde_json::json!({ "r.example": {} }));
    assert!(credentials.erase("r.example", &Cancel::new()).unwrap());
    assert_eq!(read(&file)["auths"], serde_json::json!({}));
    let said = std::fs::read_to_string(&log).unwrap();
    let expected =
        "store\n{\"Secret\":\"hunter2\",\"ServerURL\":\"r.example\",\"Username\":\"me\"}\nerase\nr.example\n";
    assert_eq!(said, expected);
    let error = credentials.store(&Login::new("bad", "me", "hunter2"), &Cancel::new()).unwrap_err().to_string();
    assert!(error.contains("docker-credential-broken") && !error.contains("hunter2"), "{error}");
}
