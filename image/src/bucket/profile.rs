//! Profiles of Amazon's tools: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::issued::time;
use super::login::{AwsSurroundings, Keys, WebIdentity, failed};
use crate::ImageError;

/// The profile where none is asked for.
const DEFAULT: &str = "default";

/// What a profile comes to.
#[derive(PartialEq, Eq)]
pub(super) enum Found {
    Keys(Keys),
    Identity(WebIdentity),
    Nothing,
}

/// What a program for keys prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
    #[serde(default)]
    expiration: Option<String>,
}

type Profile = BTreeMap<String, String>;

/// What the profile says that is asked for, or else the default one.
pub(super) fn find(from: &AwsSurroundings) -> Result<Found, ImageError> {
    let name = from.profile.as_deref().unwrap_or(DEFAULT);
    let titles = [format!("profile {name}"), name.to_owned()];
    let mut profile: Option<Profile> = None;
    // What the file of credentials says counts more.
    for (file, titles) in [(&from.config_file, &titles[..]), (&from.credentials_file, &titles[1..])] {
        let Some(text) = file.as_deref().map(read).transpose()?.flatten() else { continue };
        let sections = parse(&text);
        // Only the default profile may do without the word in the file of settings.
        let known =
            |title: &&String| title.starts_with("profile ") || file == &from.credentials_file || name == DEFAULT;
        if let Some(section) = titles.iter().filter(known).find_map(|title| sections.get(title)) {
            profile.get_or_insert_default().extend(section.clone());
        }
    }
    match (profile, &from.profile) {
        (Some(profile), _) => of_profile(&profile, name),
        (None, Some(name)) => Err(failed(format!("there is no profile `{name}`"))),
        (None, None) => Ok(Found::Nothing),
    }
}

fn of_profile(profile: &Profile, name: &str) -> Result<Found, ImageError> {
    let get = |key: &str| profile.get(key).filter(|value| !value.is_empty()).cloned();
    if get("source_profile").is_some() || get("credential_source").is_some() {
        return Err(refused(name, "takes on a role of another profile"));
    }
    if let (Some(id), Some(key)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
        return Ok(Found::Keys(Keys::new(id, key, get("aws_session_token"))));
    }
    if let (Some(file), Some(role)) = (get("web_identity_token_file"), get("role_arn")) {
        let session = get("role_session_name");
        return Ok(Found::Identity(WebIdentity { token_file: file.into(), role, session }));
    }
    if get("sso_session").is_some() || get("sso_start_url").is_some() {
        return Err(refused(name, "signs on at a web page"));
    }
    match get("credential_process") {
        Some(command) => ask(&command).map(Found::Keys),
        None => Ok(Found::Nothing),
    }
}

fn refused(name: &str, what: &str) -> ImageError {
    failed(format!(
        "profile `{name}` {what}, which kiln does not do itself\nhint: \
         `eval \"$(aws configure export-credentials --profile {name} --format env)\"` puts its keys into the environment"
    ))
}

/// Has a program say which keys to use.
fn ask(command: &str) -> Result<Keys, ImageError> {
    let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| failed(format!("cannot run `credential_process`: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("`credential_process` ended with {}", output.status)));
    }
    // What it printed is not told: it may be secret.
    let printed: Printed = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("what `credential_process` printed is not in the form that it should be"))?;
    let Printed { access_key_id, secret_access_key, session_token, expiration } = printed;
    let expires = expiration.as_deref().and_then(time);
    Ok(Keys { expires, ..Keys::new(access_key_id, secret_access_key, session_token) })
}

fn read(path: &Path) -> Result<Option<String>, ImageError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::io("read", path)(error)),
    }
}

/// The sections of such a file. Lines that belong to the value above them are of no use here.
fn parse(text: &str) -> BTreeMap<String, Profile> {
    let mut sections: BTreeMap<String, Profile> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.starts_with(['#', ';']) || is_nested {
            continue;
        }
        if let Some((title, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(title.clone()).or_default();
            current = Some(title);
        } else if let (Some(title), Some((key, value))) = (&current, line.split_once('=')) {
            let value = value.split(" #").next().unwrap_or_default().trim();
            let section = sections.entry(title.clone()).or_default();
            section.insert(key.trim().to_lowercase(), value.to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(home: &Path, profile: Option<&str>) -> AwsSurroundings {
        AwsSurroundings {
            profile: profile.map(str::to_owned),
            credentials_file: Some(home.join("credentials")),
            config_file: Some(home.join("config")),
            ..AwsSurroundings::default()
        }
    }

    #[test]
    fn profiles_are_of_both_files() {
        let home = tempfile::tempdir().unwrap();
        assert!(find(&surroundings(home.path(), None)).unwrap() == Found::Nothing);
        let config = "[default]\nregion = x\n[profile ci]\naws_access_key_id=old\naws_session_token = t # its token\n\
                      [profile web]\nweb_identity_token_file = /t\nrole_arn = arn:r\n[plain]\naws_access_key_id=x\n\
                      [profile made]\ncredential_process = echo '{\"Version\":1,\"AccessKeyId\":\"i\",\"SecretAccessKey\":\"k\"}'\n\
                      [profile bad]\ncredential_process = echo hidden\n\
                      [profile sso]\nsso_session = s\ns3 =\n  sso_session = z\n[profile chain]\nsource_profile = ci\n";
        std::fs::write(home.path().join("config"), config).unwrap();
        let keys = "; a comment\n[ ci ]\naws_access_key_id = id\nAWS_SECRET_ACCESS_KEY = a=b\n";
        std::fs::write(home.path().join("credentials"), keys).unwrap();
        let found = |name| find(&surroundings(home.path(), name));
        assert!(found(None).unwrap() == Found::Nothing);
        assert!(found(Some("ci")).unwrap() == Found::Keys(Keys::new("id", "a=b", Some("t".to_owned()))));
        let web = WebIdentity { token_file: "/t".into(), role: "arn:r".to_owned(), session: None };
        assert!(found(Some("web")).unwrap() == Found::Identity(web));
        assert!(found(Some("made")).unwrap() == Found::Keys(Keys::new("i", "k", None)));
        let message = |name| found(Some(name)).err().unwrap().to_string();
        assert!(message("none").contains("no profile `none`") && message("plain").contains("no profile `plain`"));
        assert!(message("sso").contains("export-credentials --profile sso"));
        assert!(message("chain").contains("a role of another profile"));
        assert!(!message("bad").contains("hidden"));
    }
}
