//! Sources of `ADD` that are no paths: URLs and git repositories, told apart and taken apart as BuildKit does.

/// A source that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A file from a web server.
    Http {
        /// The name that the file gets in a directory.
        filename: String,
    },
    /// A git repository.
    Git(GitReference),
}

/// What a git URL says: the repository and what is wanted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitReference {
    /// The URL without query and fragment.
    pub remote: String,
    /// A branch, tag or commit.
    pub reference: Option<String>,
    /// The directory that is wanted.
    pub subdirectory: Option<String>,
    /// What the commit must begin with.
    pub checksum: Option<String>,
    /// Whether `.git` is wanted.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are wanted.
    pub submodules: Option<bool>,
}

/// The name of a file whose URL has none.
const UNNAMED: &str = "__unnamed__";

/// What a source is, if it is no path; an error where it is a git repository and says something that makes no
/// sense.
pub fn parse(source: &str) -> Option<Result<Remote, String>> {
    let (address, fragment) = split(source, '#');
    let (remote, query) = split(address, '?');
    if is_git(remote) {
        return Some(git(remote, query, fragment).map(Remote::Git));
    }
    let is_web = ["http://", "https://"].iter().any(|scheme| source.starts_with(scheme));
    is_web.then(|| Ok(Remote::Http { filename: filename(remote) }))
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

/// BuildKit's rule: `git://`, `ssh://`, `user@host:path`, and HTTP URLs whose path ends with `.git`.
fn is_git(remote: &str) -> bool {
    let Some((scheme, rest)) = remote.split_once("://") else { return is_scp_style(remote) };
    match scheme.to_ascii_lowercase().as_str() {
        "git" | "ssh" => true,
        "http" | "https" => rest.split_once('/').is_some_and(|(_, path)| decoded(path).ends_with(".git")),
        _ => false,
    }
}

/// `git@host:path`
fn is_scp_style(remote: &str) -> bool {
    let Some((user, rest)) = remote.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let is_word = |text: &str, more: &[char]| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || more.contains(&c))
    };
    is_word(user, &['_']) && is_word(host, &['.'])
}

fn git(remote: &str, query: Option<&str>, fragment: Option<&str>) -> Result<GitReference, String> {
    let mut git = GitReference { remote: remote.to_owned(), ..GitReference::default() };
    if let Some(fragment) = fragment {
        let fragment = decoded(fragment);
        let (reference, subdirectory) = split(&fragment, ':');
        git.reference = not_empty(reference);
        git.subdirectory = subdirectory.and_then(not_empty);
    }
    git.take_query(&pairs(query.unwrap_or_default())?)?;
    Ok(git)
}

fn not_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// The names and values of a query, each name once.
fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = split(part, '=');
        let (name, value) = (decoded(name), decoded(&value.unwrap_or_default().replace('+', " ")));
        if pairs.iter().any(|(known, _)| *known == name) {
            return Err(format!("`{name}` is given twice in its query"));
        }
        if value.is_empty() && !matches!(name.as_str(), "submodules" | "keep-git-dir") {
            return Err(format!("`{name}` has no value in its query"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

impl GitReference {
    fn take_query(&mut self, pairs: &[(String, String)]) -> Result<(), String> {
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        for (name, _) in pairs {
            let known = ["ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules"];
            if !known.contains(&name.as_str()) {
                return Err(format!("nothing is known of `{name}` in its query: it may have `{}`", known.join("`, `")));
            }
        }
        let (tag, branch) = (value("tag"), value("branch"));
        if tag.is_some() && branch.is_some() {
            return Err("its query has a `tag` and a `branch`".to_owned());
        }
        agree(&mut self.reference, value("ref"), "ref")?;
        agree(&mut self.reference, tag.map(|tag| below("refs/tags/", &tag)), "ref")?;
        agree(&mut self.reference, branch.map(|branch| below("refs/heads/", &branch)), "ref")?;
        agree(&mut self.subdirectory, value("subdir"), "subdir")?;
        agree(&mut self.checksum, value("checksum"), "checksum")?;
        agree(&mut self.checksum, value("commit"), "checksum")?;
        self.keep_git_dir = value("keep-git-dir").map(|value| flag("keep-git-dir", &value)).transpose()?;
        self.submodules = value("submodules").map(|value| flag("submodules", &value)).transpose()?;
        if self.reference.is_none() {
            self.reference.clone_from(&self.checksum);
        }
        Ok(())
    }
}

fn below(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Takes a value that may have been said already, in the same words.
fn agree(slot: &mut Option<String>, value: Option<String>, what: &str) -> Result<(), String> {
    match (slot.as_ref(), value) {
        (Some(said), Some(value)) if *said != value => {
            Err(format!("it says two things of `{what}`: `{said}`, `{value}`"))
        }
        (_, None) => Ok(()),
        (_, value) => {
            *slot = value;
            Ok(())
        }
    }
}

/// A flag of a query; on where it has no value.
fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "" => Ok(true),
        _ => boolean(value).ok_or_else(|| format!("`{name}` in its query is on or off, not `{value}`")),
    }
}

/// What Go's `strconv.ParseBool` takes.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The last part of a URL's path.
fn filename(remote: &str) -> String {
    let path = remote.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let path = decoded(path);
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => UNNAMED.to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// The text with `%20` and the like replaced; as it is where that gives no text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(source: &str) -> String {
        match parse(source) {
            Some(Ok(Remote::Http { filename })) => filename,
            other => panic!("{source}: {other:?}"),
        }
    }

    fn repository(source: &str) -> Result<GitReference, String> {
        match parse(source) {
            Some(Ok(Remote::Git(git))) => Ok(git),
            Some(Err(problem)) => Err(problem),
            other => panic!("{source}: {other:?}"),
        }
    }

    #[test]
    fn paths_are_no_remotes() {
        for path in ["a.git", "http", "http:/x", "./https://x", "a@b/c:d", "@x:y", "ftp://x/y", "github.com/a/b"] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn files_are_named_by_the_path() {
        let cases = [
            ("https://example.com/a.tar.gz", "a.tar.gz"),
            ("https://example.com/a/b/?x=/y#z", "b"),
            ("http://example.com/a%20b", "a b"),
            ("http://example.com", UNNAMED),
            ("http://example.com/?q=1", UNNAMED),
            ("http://example.com/a/..", UNNAMED),
        ];
        for (source, name) in cases {
            assert_eq!(file(source), name, "{source}");
        }
    }

    #[test]
    fn git_urls_say_what_is_wanted() {
        let cases = [
            ("git@github.com:a/b.git", "git@github.com:a/b.git", None, None),
            ("git@github.com:a/b.git#v1", "git@github.com:a/b.git", Some("v1"), None),
            ("https://github.com/a/b.git#v1:dir/x", "https://github.com/a/b.git", Some("v1"), Some("dir/x")),
            ("https://github.com/a/b.git#:dir", "https://github.com/a/b.git", None, Some("dir")),
            ("git://x/y#", "git://x/y", None, None),
            ("ssh://git@x/y?branch=main&subdir=a%2Fb", "ssh://git@x/y", Some("refs/heads/main"), Some("a/b")),
            ("https://x/y.git?tag=v1", "https://x/y.git", Some("refs/tags/v1"), None),
            ("https://x/y.git?ref=v1#v1", "https://x/y.git", Some("v1"), None),
            ("https://x/y.git?commit=abc", "https://x/y.git", Some("abc"), None),
        ];
        for (source, remote, reference, subdirectory) in cases {
            let git = repository(source).unwrap();
            assert_eq!(git.remote, remote, "{source}");
            assert_eq!((git.reference.as_deref(), git.subdirectory.as_deref()), (reference, subdirectory), "{source}");
        }
        let git = repository("https://x/y.git?checksum=abc&keep-git-dir&submodules=false").unwrap();
        assert_eq!(git.checksum.as_deref(), Some("abc"));
        assert_eq!((git.keep_git_dir, git.submodules), (Some(true), Some(false)));
    }

    #[test]
    fn git_urls_that_make_no_sense_are_told() {
        for query in ["ref=", "what=1", "ref=a&ref=b", "tag=a&branch=b", "submodules=maybe", "ref=a#b", "tag=a#a"] {
            assert!(repository(&format!("https://x/y.git?{query}")).is_err(), "{query}");
        }
    }
}
