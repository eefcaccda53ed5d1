//! Which commit a branch or tag is: asked anew each time, unless the commit is named in full.

use super::super::SourceError;
use super::Fetch;
use super::program::words;

/// What is to be checked out.
pub(super) struct Target {
    /// The commit in full. Where only its number was given it may be that of a tag of it.
    pub(super) commit: String,
    /// The object of a tag with a message, else the commit.
    pub(super) object: String,
    /// The full name of the branch or tag, where there is one.
    pub(super) name: Option<String>,
}

impl Fetch<'_> {
    pub(super) fn resolve(&self) -> Result<Target, SourceError> {
        let reference = self.git.reference.as_deref().filter(|reference| !reference.is_empty());
        match reference {
            Some(hash) if is_hash(hash) => {
                let commit = hash.to_ascii_lowercase();
                Ok(Target { object: commit.clone(), commit, name: None })
            }
            _ => self.ask(reference),
        }
    }

    /// Asks the remote.
    fn ask(&self, reference: Option<&str>) -> Result<Target, SourceError> {
        let mut args = words(&[&"ls-remote", &"--symref", &"--", &self.program.address]);
        let candidates = reference.map_or_else(|| vec!["HEAD".to_owned()], candidates);
        args.extend(candidates.iter().map(Into::into));
        let listed = self.program.must(std::path::Path::new("/"), &args, &[])?;
        let listed = String::from_utf8_lossy(&listed);
        let find = |name: &str| {
            let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
            lines.find(|(hash, found)| *found == name && is_hash(hash)).map(|(hash, _)| hash.to_owned())
        };
        let found = candidates.iter().filter(|name| !name.ends_with("^{}")).find_map(|name| {
            let object = find(name)?;
            let commit = find(&format!("{name}^{{}}")).unwrap_or_else(|| object.clone());
            let symbolic = listed.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
            let name = if name == "HEAD" { symbolic.map(str::to_owned) } else { Some(name.clone()) };
            Some(Target { commit, object, name })
        });
        found.ok_or_else(|| self.no_such(reference))
    }

    fn no_such(&self, reference: Option<&str>) -> SourceError {
        let what = match reference {
            None => "commits, or no default branch: name a branch, tag or commit behind `#`".to_owned(),
            Some(hash) if hash.len() >= 4 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                format!("branch or tag `{hash}`\nhint: a commit has to be given with all of its 40 digits")
            }
            Some(reference) => format!("branch or tag `{reference}`"),
        };
        SourceError::ReferenceNotFound { remote: self.program.shown.clone(), what }
    }
}

/// What a reference may be short for, the first that exists counts: a branch, a tag, anything below `refs/`.
fn candidates(reference: &str) -> Vec<String> {
    let short = reference.strip_prefix("refs/").unwrap_or(reference);
    let branch = format!("refs/heads/{}", short.strip_prefix("heads/").unwrap_or(short));
    let tag = format!("refs/tags/{}", short.strip_prefix("tags/").unwrap_or(short));
    let full = format!("refs/{short}");
    let names = match short {
        _ if short.starts_with("heads/") => vec![branch],
        _ if short.starts_with("tags/") => vec![tag],
        "HEAD" => vec!["HEAD".to_owned()],
        _ => vec![branch, tag, full],
    };
    names.into_iter().flat_map(|name| [format!("{name}^{{}}"), name]).collect()
}

/// Whether a text is a commit in full: SHA-1 or SHA-256.
fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
