//! Paths of images and contexts: always with `/`, cleaned as Go's `path.Clean` does.

/// An absolute path without `.`, `..` and double slashes; `..` stops at the root.
pub(crate) fn clean(path: &str) -> String {
    walk(path).0
}

/// Whether a path names something above the root it starts from.
pub(crate) fn leaves_root(path: &str) -> bool {
    walk(path).1
}

fn walk(path: &str) -> (String, bool) {
    let mut parts: Vec<&str> = Vec::new();
    let mut left = false;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => left |= parts.pop().is_none(),
            _ => parts.push(part),
        }
    }
    (format!("/{}", parts.join("/")), left)
}

/// `path` seen from the directory `from`, cleaned.
pub(crate) fn join(from: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{from}/{path}")) }
}

/// Where a `COPY` goes: a path seen from the working directory; one that can only be a directory (it ends with
/// `/` or `/.`, or is `.`, or empty) keeps a slash at its end.
pub(crate) fn destination(from: &str, path: &str) -> String {
    let is_directory = path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    with_slash(join(from, path), is_directory)
}

/// The same path with a slash at its end, if so wished.
pub(crate) fn with_slash(mut path: String, wished: bool) -> String {
    if wished && !path.ends_with('/') {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_seen_from_the_working_directory() {
        let cases = [
            ("/app", ".", "/app/"),
            ("/app", "", "/app/"),
            ("/app", "./", "/app/"),
            ("/app", "x", "/app/x"),
            ("/app", "x/", "/app/x/"),
            ("/app", "x/.", "/app/x/"),
            ("/app", "../x", "/x"),
            ("/app", "../../../x", "/x"),
            ("/app", "/x//y/", "/x/y/"),
            ("/app", "/", "/"),
            ("/", ".", "/"),
        ];
        for (from, path, expected) in cases {
            assert_eq!(destination(from, path), expected, "{path} from {from}");
        }
    }

    #[test]
    fn leaving_the_root_is_noticed() {
        assert!(leaves_root("../x") && leaves_root("a/../../x") && leaves_root("/../x"));
        assert!(!leaves_root("a/../x") && !leaves_root("./x") && !leaves_root("..x"));
    }
}
