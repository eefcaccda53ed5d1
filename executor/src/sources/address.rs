//! URLs without the secrets in them.

/// A URL as people may see it: without the user and password, query and fragment of http(s), and without the
/// password of anything else.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let rest = if is_http { rest.split(['?', '#']).next().unwrap_or_default() } else { rest };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let Some(at) = authority.rfind('@') else { return format!("{scheme}://{rest}") };
    let (user, rest) = (&rest[..at], &rest[at + 1..]);
    match user.split(':').next() {
        Some(name) if !is_http && !name.is_empty() => format!("{scheme}://{name}@{rest}"),
        _ => format!("{scheme}://{rest}"),
    }
}

/// `user:password@` of an http(s) URL, and the URL without it.
pub(super) fn split_user(url: &str) -> (Option<&str>, String) {
    let whole = || (None, url.to_owned());
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return whole();
    }
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rfind('@') {
        Some(at) => (Some(&rest[..=at]), format!("{scheme}://{}", &rest[at + 1..])),
        None => whole(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (url, expected) in [
            ("https://me:secret@host:1/a.git", "https://host:1/a.git"),
            ("https://token@host/a?key=secret#x", "https://host/a"),
            ("HTTP://a@b@host/x@y", "HTTP://host/x@y"),
            ("ssh://git:secret@host/a", "ssh://git@host/a"),
            ("git@host:a/b.git", "git@host:a/b.git"),
            ("https://host", "https://host"),
            ("/local/path", "/local/path"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn users_are_split_off() {
        assert_eq!(split_user("https://me:x@host/a"), (Some("me:x@"), "https://host/a".to_owned()));
        assert_eq!(split_user("https://host/a@b"), (None, "https://host/a@b".to_owned()));
        assert_eq!(split_user("ssh://git@host/a"), (None, "ssh://git@host/a".to_owned()));
    }
}
