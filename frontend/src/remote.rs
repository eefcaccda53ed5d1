//! Sources of `ADD` that are no paths: URLs and git repositories.

/// What a source is, in words, if it is no path.
pub(crate) fn kind(source: &str) -> Option<&'static str> {
    if is_git(source) {
        Some("a git repository")
    } else if source.starts_with("http://") || source.starts_with("https://") {
        Some("a URL")
    } else {
        None
    }
}

/// BuildKit's rule: `git://`, `ssh://`, `user@host:path` of git, and HTTP URLs whose path ends with `.git`.
fn is_git(source: &str) -> bool {
    if ["git://", "ssh://", "git@"].iter().any(|prefix| source.starts_with(prefix)) {
        return true;
    }
    let Some((scheme, rest)) = source.split_once("://") else { return false };
    let path = rest.split(['#', '?']).next().unwrap_or_default();
    matches!(scheme, "http" | "https") && path.ends_with(".git")
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn remote_sources_are_told_from_paths() {
        for source in ["git@github.com:a/b.git", "https://github.com/a/b.git#v1:dir", "git://x/y", "ssh://git@x/y"] {
            assert_eq!(kind(source), Some("a git repository"), "{source}");
        }
        assert_eq!(kind("https://example.com/a.tar.gz"), Some("a URL"));
        for path in ["a.git", "http", "http:/x", "./https://x"] {
            assert_eq!(kind(path), None, "{path}");
        }
    }
}
