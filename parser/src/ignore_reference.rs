//! A plain, slow reference for [`crate::ignore`]; for its tests and its fuzz target.

/// Whether `name` matches `pattern`, by trying everything.
fn matches_slowly(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', '*', rest @ ..] => {
            let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
            rest.is_empty()
                || matches_slowly(rest, name)
                || (0..name.len()).any(|at| name[at] == '/' && matches_slowly(rest, &name[at + 1..]))
        }
        ['*', rest @ ..] => (0..=name.len())
            .take_while(|length| !name[..*length].contains(&'/'))
            .any(|length| matches_slowly(rest, &name[length..])),
        ['?', rest @ ..] => name.first().is_some_and(|c| *c != '/') && matches_slowly(rest, &name[1..]),
        [literal, rest @ ..] => name.first() == Some(literal) && matches_slowly(rest, &name[1..]),
    }
}

fn rule_matches_slowly(pattern: &str, name: &str) -> bool {
    let wild = |text: &str| text.contains(['*', '?']);
    match pattern.strip_prefix("**") {
        Some(suffix) if !suffix.starts_with('/') && !wild(suffix) => name.ends_with(suffix),
        _ => {
            let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            matches_slowly(&pattern, &name)
        }
    }
}

/// Whether the patterns ignore `path`. They may have the wildcards `*`, `**` and `?`, and must be clean paths.
pub(crate) fn ignored_slowly(patterns: &[String], path: &str) -> bool {
    let mut ignored = false;
    for pattern in patterns {
        let (includes, pattern) = pattern.strip_prefix('!').map_or((false, pattern.as_str()), |p| (true, p));
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        if ends.into_iter().any(|end| rule_matches_slowly(pattern, &path[..end])) {
            ignored = !includes;
        }
    }
    ignored
}
