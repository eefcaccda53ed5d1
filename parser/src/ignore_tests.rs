//! Tests of [`crate::ignore`]: a table in Docker's terms, and properties against a plain, slow reference.

use proptest::prelude::*;

use super::*;

#[path = "ignore_reference.rs"]
mod reference;

use reference::ignored_slowly;

/// One pattern file, then paths that it ignores and paths that it does not.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    ("", &[], &["a", "a/b"]),
    ("a", &["a", "a/b", "a/b/c"], &["b/a", "ab"]),
    ("/a/", &["a", "a/b"], &["b/a"]),
    ("./a/../b//c", &["b/c", "b/c/d"], &["a", "b"]),
    ("../a", &[], &["a"]),
    ("*.md", &["x.md", ".md"], &["d/x.md"]),
    ("*/*.md", &["d/x.md"], &["x.md", "d/e/x.md"]),
    ("*/temp*", &["a/temporary.txt", "a/temp", "a/temp/x"], &["temp", "a/b/temp"]),
    ("temp?", &["tempa", "tempa/x"], &["temp", "tempab"]),
    ("**/*.go", &["x.go", "a/x.go", "a/b/x.go"], &["x.goo"]),
    ("**", &["a", "a/b"], &[]),
    ("**/a", &["a", "b/a", "b/a/c"], &["ba", "b/xa"]),
    ("**a", &["a", "xa", "b/xa"], &["ax"]),
    ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
    ("a**", &["a", "ab", "a/b"], &["b"]),
    ("a/**/b", &["a/b", "a/x/b", "a/x/y/b/z"], &["a/xb", "a"]),
    ("a/**/*.c", &["a/x.c", "a/b/c/x.c"], &["x.c"]),
    ("**/.git", &[".git", ".git/config", "sub/.git/x"], &[".gitignore"]),
    ("*\n!a", &["b", "b/c"], &["a", "a/b"]),
    ("*\n!a\na/b", &["a/b", "a/b/c", "x"], &["a", "a/c"]),
    ("a\n!a/b\n", &["a", "a/c"], &["a/b", "a/b/c"]),
    ("!a\na", &["a"], &["b"]),
    ("*\n!*/x", &["a", "x"], &["a/x", "a/x/y"]),
    ("**\n!**/*.txt", &["a", "a/b"], &["x.txt", "a/x.txt"]),
    ("node_modules\n!node_modules/keep/**", &["node_modules", "node_modules/x"], &["node_modules/keep/x"]),
    ("# a\n #b", &["#b"], &["# a", "a"]),
    ("  a  \n\t\n! b", &["a"], &["b"]),
    ("\u{feff}a\r\nb\r\n", &["a", "b"], &["c"]),
    ("a\\*", &["a*"], &["ab", "a\\*"]),
    ("[ab]\n[^c-z]1", &["a", "b", "b1"], &["c", "d1"]),
    ("a.b(c)+|{d}$", &["a.b(c)+|{d}$"], &["axb(c)+|{d}$"]),
    (".\n/\n*/..", &[], &["a", "a/b"]),
    ("a\nb/../!c", &["a", "!c"], &["c"]),
    ("Ünï*", &["Ünïcode"], &["Unicode"]),
];

#[test]
fn cases() {
    for (text, ignored, kept) in CASES {
        let ignore = Ignore::parse(text).unwrap();
        for path in *ignored {
            assert!(ignore.is_ignored(path.as_bytes()), "{text:?} ignores {path}");
        }
        for path in *kept {
            assert!(!ignore.is_ignored(path.as_bytes()), "{text:?} keeps {path}");
        }
    }
}

#[test]
fn errors_name_the_line() {
    assert_eq!(Ignore::parse("a\n# x\n !\n"), Err(IgnoreError::NothingToInclude { line: 3 }));
    let error = Ignore::parse("a\n\n[b").unwrap_err();
    assert_eq!(error.to_string(), "line 3: `[b` is not a valid pattern: a `[` is not closed");
}

#[test]
fn whole_directories_are_left_out_where_nothing_comes_back() {
    let may = |text, directory: &str| Ignore::parse(text).unwrap().may_include_below(directory.as_bytes());
    assert!(!may("a", "a"));
    assert!(!may("*\n!b", "a"));
    assert!(may("a\n!a/b", "a"));
    assert!(!may("a\n!a/b", "a/c"));
    assert!(may("a\n!a/b/c", "a/b"));
    assert!(!may("a\n!ab/c", "a"));
    assert!(may("*\n!**/x", "a/b/c"));
    assert!(may("*\n!*/x", "a"));
    assert!(!may("*\n!*/x", "a/b"));
    // What comes before the pattern that ignores the directory has no say any more.
    assert!(!may("!a/b\na", "a"));
}

#[test]
fn patterns_of_an_exclude_flag_have_no_comments() {
    let ignore = Ignore::from_patterns(["#x", "*.o"]).unwrap();
    assert!(ignore.is_ignored(b"#x") && ignore.is_ignored(b"a.o") && !ignore.is_ignored(b"a.c"));
    assert!(Ignore::from_patterns([""; 2]).unwrap().is_empty());
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let component = prop_oneof!["[ab]{1,2}", "[ab*?]{1,3}", Just("*".to_owned()), Just("**".to_owned())];
    let path = prop::collection::vec(component, 1..4).prop_map(|components| components.join("/"));
    let pattern = (any::<bool>(), path).prop_map(|(not, path)| if not { format!("!{path}") } else { path });
    prop::collection::vec(pattern, 0..5)
}

fn paths() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,3}", 1..5).prop_map(|components| components.join("/"))
}

proptest! {
    #[test]
    fn agrees_with_the_reference(patterns in patterns(), path in paths()) {
        let ignore = Ignore::from_patterns(&patterns).unwrap();
        prop_assert_eq!(ignore.is_ignored(path.as_bytes()), ignored_slowly(&patterns, &path));
    }

    #[test]
    fn a_pruning_walk_misses_nothing(patterns in patterns(), path in paths()) {
        let ignore = Ignore::from_patterns(&patterns).unwrap();
        let mut verdict = Verdict::default();
        for (at, _) in path.match_indices('/') {
            verdict = ignore.verdict(&path.as_bytes()[..at], verdict);
            if verdict.is_ignored() && !ignore.may_include_below_verdict(&path.as_bytes()[..at], verdict) {
                prop_assert!(ignored_slowly(&patterns, &path));
            }
        }
    }

    #[test]
    fn any_text_and_any_path_will_do(text in "[ -~\\n!*?\\[\\]\\\\/é]{0,80}", path in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(ignore) = Ignore::parse(&text) {
            ignore.is_ignored(&path);
            ignore.may_include_below(&path);
        }
    }
}
