//! Paths as bytes: relative to a root, components parted by one slash, no `.` or `..`; the root is empty.
//!
//! Also the one place that follows symbolic links in-root, over anything that can say what is at a path.

/// More symbolic links on the way than Linux follows (`MAXSYMLINKS` and then some, as Go's `filepath` has it).
const MOST_LINKS: usize = 255;

/// A written path as one relative to the root: `..` never leads above it, as Docker cleans paths.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut cleaned = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => pop(&mut cleaned),
            name => push(&mut cleaned, name),
        }
    }
    cleaned
}

/// Appends a component.
pub(crate) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Takes the last component away.
pub(crate) fn pop(path: &mut Vec<u8>) {
    path.truncate(parent(path).len());
}

/// `path` with a component or a whole relative path appended; either may be empty.
pub(crate) fn join(path: &[u8], below: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + below.len() + 1);
    joined.extend_from_slice(path);
    if !below.is_empty() {
        push(&mut joined, below);
    }
    joined
}

/// The directory that a path is in.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// The last component.
pub(crate) fn name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// Every directory above a path, the topmost first, without the root.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| &path[..slash])
}

/// The path as people write it.
pub(crate) fn display(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// What is at a path, as far as following links goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Link(Vec<u8>),
    /// Anything else.
    Other,
}

/// Why links could not be followed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ResolveError<E> {
    /// They go in a circle.
    Loop(Vec<u8>),
    /// This on the way is not a directory.
    NotADirectory(Vec<u8>),
    /// The look-up failed.
    Lookup(E),
}

/// Follows the symbolic links of a path as if its root were that of a process, also the last component where
/// `follow_last` is set. What does not exist is taken as it is written.
pub(crate) fn resolve<E>(
    path: &[u8],
    follow_last: bool,
    mut look: impl FnMut(&[u8]) -> Result<Option<Seen>, E>,
) -> Result<(Vec<u8>, Option<Seen>), ResolveError<E>> {
    let components = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|byte| *byte == b'/').rev().filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec).collect()
    };
    let mut open = components(path);
    let mut reached = Vec::new();
    let mut seen = Some(Seen::Directory);
    let mut links = 0;
    while let Some(name) = open.pop() {
        if name == b".." {
            pop(&mut reached);
            seen = None;
            continue;
        }
        let directory = reached.len();
        push(&mut reached, &name);
        seen = look(&reached).map_err(ResolveError::Lookup)?;
        match &seen {
            Some(Seen::Link(target)) if follow_last || !open.is_empty() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(ResolveError::Loop(clean(path)));
                }
                reached.truncate(if target.starts_with(b"/") { 0 } else { directory });
                open.extend(components(target));
                seen = Some(Seen::Directory);
            }
            Some(Seen::Other) if !open.is_empty() => return Err(ResolveError::NotADirectory(reached)),
            _ => {}
        }
    }
    if seen.is_none() {
        seen = if reached.is_empty() { Some(Seen::Directory) } else { look(&reached).map_err(ResolveError::Lookup)? };
    }
    Ok((reached, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_docker_does() {
        let cases = [("/", ""), ("", ""), ("./a//b/", "a/b"), ("../x", "x"), ("a/../../x", "x"), ("/a/./b/..", "a")];
        for (path, expected) in cases {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn parts_of_paths() {
        assert_eq!((parent(b"a/b/c"), name(b"a/b/c")), (&b"a/b"[..], &b"c"[..]));
        assert_eq!((parent(b"a"), name(b"a")), (&b""[..], &b"a"[..]));
        assert_eq!(ancestors(b"a/b/c").collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
        assert_eq!(
            (join(b"", b"x"), join(b"a", b""), join(b"a", b"x")),
            (b"x".to_vec(), b"a".to_vec(), b"a/x".to_vec())
        );
    }

    fn tree(path: &[u8]) -> Result<Option<Seen>, ()> {
        Ok(match path {
            b"dir" | b"dir/sub" => Some(Seen::Directory),
            b"dir/file" => Some(Seen::Other),
            b"link" => Some(Seen::Link(b"dir".to_vec())),
            b"up" => Some(Seen::Link(b"../../dir/./sub/..".to_vec())),
            b"dir/absolute" => Some(Seen::Link(b"/link/file".to_vec())),
            b"loop" => Some(Seen::Link(b"loop".to_vec())),
            b"dangling" => Some(Seen::Link(b"/no/where".to_vec())),
            _ => None,
        })
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let cases: [(&str, bool, &str, Option<Seen>); 10] = [
            ("", true, "", Some(Seen::Directory)),
            ("link/file", true, "dir/file", Some(Seen::Other)),
            ("link", true, "dir", Some(Seen::Directory)),
            ("link", false, "link", Some(Seen::Link(b"dir".to_vec()))),
            ("up/file", true, "dir/file", Some(Seen::Other)),
            ("up", true, "dir", Some(Seen::Directory)),
            ("link/absolute", true, "dir/file", Some(Seen::Other)),
            ("dangling", true, "no/where", None),
            ("dangling/x", true, "no/where/x", None),
            ("../../dir/file", true, "dir/file", Some(Seen::Other)),
        ];
        for (path, follow, expected, seen) in cases {
            assert_eq!(resolve(path.as_bytes(), follow, tree), Ok((expected.as_bytes().to_vec(), seen)), "{path}");
        }
        assert_eq!(resolve(b"loop/x", true, tree), Err(ResolveError::Loop(b"loop/x".to_vec())));
        assert_eq!(resolve(b"dir/file/x", true, tree), Err(ResolveError::NotADirectory(b"dir/file".to_vec())));
    }
}
