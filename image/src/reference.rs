//! Image references: Docker's grammar (distribution/reference) and its normalisation.

use std::fmt;
use std::str::FromStr;

use kiln_solver::{Digest, ParseDigestError};

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// The longest name of a repository, its registry included (distribution/reference).
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// An image at a registry, fully written out: `app` is `docker.io/library/app:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host and port, such as `docker.io` or `localhost:5000`.
    pub registry: String,
    /// The path at the registry, such as `library/app`.
    pub repository: String,
    /// The tag; absent only where there is a digest.
    pub tag: Option<String>,
    /// The digest of the manifest or index; where there is one, the tag has no say.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference `{text}`: {problem}")]
pub struct ParseReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub problem: ReferenceProblem,
}

/// What is wrong with a text that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceProblem {
    /// Nothing before the tag or digest.
    #[error("the name is empty")]
    Empty,
    /// Upper-case letters in the repository.
    #[error("the repository name must be lower-case: `{0}`")]
    Uppercase(String),
    /// A component of the repository breaks the grammar.
    #[error(
        "`{0}` cannot be part of a repository name: lower-case letters and digits, separated by one `.`, one or two \
         `_`, or any number of `-`"
    )]
    Component(String),
    /// The host or port breaks the grammar.
    #[error("`{0}` is not a registry's host name and port")]
    Registry(String),
    /// The tag breaks the grammar.
    #[error("`{0}` is not a tag: up to {LONGEST_TAG} letters, digits, `_`, `.` and `-`, not starting with `.` or `-`")]
    Tag(String),
    /// The digest breaks the grammar.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// 64 hexadecimal digits look like an image id and cannot be a name.
    #[error("64 hexadecimal digits are an image id, not a name")]
    Id,
    /// The name is too long.
    #[error("the name is longer than {LONGEST_NAME} characters")]
    TooLong,
    /// A scheme in front.
    #[error("a scheme (`{0}://`) is no part of a reference")]
    Scheme(String),
}

impl Reference {
    /// Parses and normalises a reference as a user writes it.
    ///
    /// # Errors
    /// When the text breaks Docker's grammar; the error says how.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        parse(text).map_err(|problem| ParseReferenceError { text: text.to_owned(), problem })
    }

    /// The registry and the repository, without tag or digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The short form that people write: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let mut text = match (self.registry.as_str(), self.repository.strip_prefix(DEFAULT_NAMESPACE)) {
            (DEFAULT_REGISTRY, Some(official)) if !official.contains('/') => official.to_owned(),
            (DEFAULT_REGISTRY, _) => self.repository.clone(),
            _ => self.name(),
        };
        self.write_suffix(&mut text);
        text
    }

    /// The same image, by this digest alone.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn write_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.write_suffix(&mut text);
        formatter.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn parse(text: &str) -> Result<Reference, ReferenceProblem> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(ReferenceProblem::Scheme(scheme.to_owned()));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    if name.is_empty() {
        return Err(ReferenceProblem::Empty);
    }
    if name.len() == 64 && Digest::from_hex(name).is_ok() {
        return Err(ReferenceProblem::Id);
    }
    let (registry, repository) = split_registry(name);
    check_registry(&registry)?;
    check_repository(&repository)?;
    if registry.len() + 1 + repository.len() > LONGEST_NAME {
        return Err(ReferenceProblem::TooLong);
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let tag = tag.or(if digest.is_none() { Some(DEFAULT_TAG) } else { None });
    Ok(Reference { registry, repository, tag: tag.map(str::to_owned), digest })
}

/// The last `:` begins a tag, unless a `/` behind it shows that it began a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// Docker's rule: the first component is a registry if nothing else could look like that.
fn split_registry(name: &str) -> (String, String) {
    let looks_like_host = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        return (registry.to_owned(), format!("{DEFAULT_NAMESPACE}{repository}"));
    }
    (registry.to_owned(), repository.to_owned())
}

fn check_registry(registry: &str) -> Result<(), ReferenceProblem> {
    let error = || ReferenceProblem::Registry(registry.to_owned());
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(error)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| error())?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(error)?) };
            (None, port)
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    let host_fits = host.is_none_or(|host| host.split('.').all(is_label));
    let port_fits =
        port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    if host_fits && port_fits { Ok(()) } else { Err(error()) }
}

fn check_repository(repository: &str) -> Result<(), ReferenceProblem> {
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceProblem::Uppercase(repository.to_owned()));
    }
    match repository.split('/').find(|component| !is_component(component)) {
        Some(component) => Err(ReferenceProblem::Component(component.to_owned())),
        None => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let is_word = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let mut rest = component;
    loop {
        let word = rest.trim_start_matches(is_word);
        if word.len() == rest.len() {
            return false;
        }
        if word.is_empty() {
            return true;
        }
        rest = word.trim_start_matches(|character| !is_word(character));
        let separator = &word[..word.len() - rest.len()];
        let fits = matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
        if !fits {
            return false;
        }
    }
}

fn check_tag(tag: &str) -> Result<(), ReferenceProblem> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = tag.len() <= LONGEST_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-');
    if fits { Ok(()) } else { Err(ReferenceProblem::Tag(tag.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_normalised_as_docker_does() {
        let cases = [
            ("app", "docker.io/library/app:latest", "app:latest"),
            ("app:1.0", "docker.io/library/app:1.0", "app:1.0"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            ("docker.io/app", "docker.io/library/app:latest", "app:latest"),
            ("index.docker.io/user/app:x", "docker.io/user/app:x", "user/app:x"),
            ("library/app", "docker.io/library/app:latest", "app:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
            ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t"),
            ("[::1]:5000/x:1", "[::1]:5000/x:1", "[::1]:5000/x:1"),
            ("Registry/x", "Registry/x:latest", "Registry/x:latest"),
            ("gcr.io/a/b_c__d--e.f", "gcr.io/a/b_c__d--e.f:latest", "gcr.io/a/b_c__d--e.f:latest"),
            ("a-b:V_1.0-rc", "docker.io/library/a-b:V_1.0-rc", "a-b:V_1.0-rc"),
        ];
        for (text, full, familiar) in cases {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(full).unwrap(), reference, "{text}");
        }
    }

    #[test]
    fn a_digest_needs_no_tag_and_keeps_one() {
        let plain = Reference::parse(&format!("app@sha256:{HEX}")).unwrap();
        assert_eq!((plain.tag.as_deref(), plain.digest.is_some()), (None, true));
        assert_eq!(plain.to_string(), format!("docker.io/library/app@sha256:{HEX}"));
        let both = Reference::parse(&format!("localhost:5000/app:1@sha256:{HEX}")).unwrap();
        assert_eq!(both.to_string(), format!("localhost:5000/app:1@sha256:{HEX}"));
        assert_eq!(both.with_digest(Digest::of(b"")).tag, None);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let long = "a".repeat(300);
        let cases = [
            ("", "the name is empty"),
            (":tag", "the name is empty"),
            ("App", "must be lower-case: `library/App`"),
            ("a//b", "`` cannot be part"),
            ("a/-b", "`-b` cannot be part"),
            ("a___b", "`a___b` cannot be part"),
            ("a..b/c", "`a..b` is not a registry's"),
            ("a.b:x/c", "`a.b:x` is not a registry's"),
            ("a.b:99999/c", "`a.b:99999` is not a registry's"),
            ("[::x]:1/c", "`[::x]:1` is not a registry's"),
            ("a:", "`` is not a tag"),
            ("a:-x", "`-x` is not a tag"),
            ("a@sha256:12", "`sha256:12` is not a digest"),
            ("a@sha512:12", "digest algorithm `sha512` is not supported"),
            ("a b", "`a b` cannot be part"),
            ("https://a/b", "a scheme (`https://`)"),
            (HEX, "are an image id"),
            (long.as_str(), "longer than 255"),
            ("ä", "`ä` cannot be part"),
        ];
        for (text, problem) in cases {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(error.contains(&format!("`{text}`")), "{text}: {error}");
        }
    }
}
