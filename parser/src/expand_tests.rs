//! Tests of [`crate::expand`]: tables, and properties against a plain, recursive reference.

use proptest::prelude::*;

use super::*;

#[path = "expand_reference.rs"]
mod reference;

use reference::expanded_slowly;

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "PWD" => "/home",
        "SHELL" => "bash",
        "KOREAN" => "한국어",
        "NULL" => "",
        "LIST" => "a b  c",
        "FOO" => "xxyy",
        "STARS" => "a***yy*",
        "PATHS" => "/tmp/tmp/bar.txt",
        "NEEDLE" => "/tmp",
        "LINES" => "a\nb",
        _ => return None,
    };
    Some(value.to_owned())
}

fn value(word: &str) -> Result<String, ExpandError> {
    expand(word, '\\', &variables).map(|expanded| expanded.value)
}

#[test]
fn values() {
    let cases = [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"he\\'llo'", r"he\llo"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r"'abc\tdef'", r"abc\tdef"),
        (r"hello\", "hello"),
        (r"hello\\", r"hello\"),
        (r#""hello""#, "hello"),
        (r#""hel'lo""#, "hel'lo"),
        (r#""he\"llo""#, "he\"llo"),
        (r#""he\$PWD""#, "he$PWD"),
        (r#""$PWD""#, "/home"),
        ("'$PWD'", "$PWD"),
        (r"\$PWD", "$PWD"),
        ("a$PWD.b", "a/home.b"),
        ("he$PWDx", "he"),
        ("he${PWD}x", "he/homex"),
        ("한글", "한글"),
        ("\"한글 $KOREAN\"", "한글 한국어"),
        ("$", "$"),
        ("a$,", "a$,"),
        ("$1x", "x"),
        ("${1}", ""),
        ("$$a", "a"),
        ("$½", "$½"),
        ("${NULL:-x}${NULL-x}${UNSET:-y}${UNSET-z}", "xyz"),
        ("${PWD:+x}${NULL:+x}${NULL+y}${UNSET:+z}${UNSET+z}", "xy"),
        ("${PWD:?no}${PWD?no}${NULL?no}", "/home/home"),
        ("${UNSET:-${UNSET:-$PWD}}", "/home"),
        ("${UNSET:-\"a } b\"}c", "a } bc"),
        ("\"${UNSET:-'x'}\"", "x"),
        (r"${UNSET:-\}}", "}"),
        ("${FOO#x}|${FOO##x}|${FOO#*x}|${FOO##*x}", "xyy|xyy|xyy|yy"),
        ("${FOO%y}|${FOO%%y*}|${FOO%y*}|${FOO%%?}", "xxy|xx|xxy|xxy"),
        ("${FOO#}${FOO##}${FOO%}", "xxyyxxyyxxyy"),
        ("${FOO#*}|${FOO##*}|${FOO%%*}", "xxyy||"),
        (r"${STARS%%\**\*}|${STARS#?\*}", "a|**yy*"),
        ("${PATHS/$NEEDLE/} - ${PATHS//$NEEDLE/}", "/tmp/bar.txt - /bar.txt"),
        (r"${PATHS//\//\/}", r"\/tmp\/tmp\/bar.txt"),
        ("${FOO/x/1}|${FOO//x/1}|${FOO//x*y/1}|${FOO//z/1}", "1xyy|11yy|1|xxyy"),
        ("${FOO/$NULL/w}|${FOO//$NULL/w}", "wxxyy|wxwxwywyw"),
        ("${FOO///}", "xxyy"),
        ("${UNSET#x}${UNSET/x/y}", ""),
        ("${LINES#*}|${LINES##*}", "a\nb|\nb"),
    ];
    for (word, expected) in cases {
        assert_eq!(value(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn errors() {
    let cases = [
        ("'abc", "the quote `'` is not closed"),
        ("\"abc", "the quote `\"` is not closed"),
        ("${", "`${` is not closed: `}` is missing"),
        ("${PWD", "`${PWD` is not closed: `}` is missing"),
        ("${PWD:-a", "`${PWD` is not closed: `}` is missing"),
        ("${}", "`${` needs the name of a variable behind it"),
        ("${:x}", "`${` needs the name of a variable behind it"),
        ("${PWD=x}", "`=` in `${PWD=…}` is not supported"),
        ("${PWD:=x}", "`:=` in `${PWD:=…}` is not supported"),
        ("${FOO//ww}", "`${FOO/…}` needs a second `/` before the replacement"),
        ("${FOO/w/x", "`${FOO` is not closed: `}` is missing"),
        (
            r"${FOO#\x}",
            r"the pattern `\x` of `FOO` is not valid: only `*`, `?`, `\`, `}` and `/` can stand behind a `\`",
        ),
        ("${UNSET:?give it}", "`UNSET`: give it"),
        ("${UNSET?}", "`UNSET`: is not allowed to be unset"),
        ("${NULL:?$PWD}", "`NULL`: /home"),
    ];
    for (word, expected) in cases {
        assert_eq!(value(word).map_err(|error| error.to_string()), Err(expected.to_owned()), "{word}");
    }
}

#[test]
fn words() {
    let cases: [(&str, &[&str]); 9] = [
        ("hello", &["hello"]),
        ("hello world ", &["hello", "world"]),
        ("\"hello world\" x", &["hello world", "x"]),
        (r"hello\ world", &["hello world"]),
        ("$LIST", &["a", "b", "c"]),
        ("\"$LIST\" x$LIST'y z'", &["a b  c", "xa", "b", "cy z"]),
        ("${UNSET:-a b}", &["a", "b"]),
        ("$UNSET \"\"", &[]),
        ("$LINES", &["a", "b"]),
    ];
    for (word, expected) in cases {
        assert_eq!(expand_words(word, '\\', &variables).unwrap().words, expected, "{word}");
    }
}

#[test]
fn undefined_variables_are_told_once_and_not_where_a_default_is_given() {
    let expanded = expand("$B${A}$B${C:-x}${D+x}${E#x}$PWD", '\\', &variables).unwrap();
    assert_eq!(expanded.undefined, ["B", "A", "E"]);
}

#[test]
fn another_escape_character() {
    assert_eq!(expand(r"C:\x`$PWD", '`', &variables).unwrap().value, r"C:\x$PWD");
    assert_eq!(expand("\"`\"\"", '`', &variables).unwrap().value, "\"");
}

#[test]
fn heredocs_keep_their_quotes() {
    let text = "\"$PWD\" '${SHELL}'\nit's \\$PWD \\\\ \\\n";
    assert_eq!(expand_heredoc(text, &variables).unwrap().value, "\"/home\" 'bash'\nit's $PWD \\ \n");
}

#[test]
fn deep_nesting_and_exponential_growth_do_no_harm() {
    let deep = format!("{}x{}", "${U:-".repeat(50_000), "}".repeat(50_000));
    assert_eq!(value(&deep).as_deref(), Ok("x"));
    let bomb = format!("{}x{}", "${FOO//?/".repeat(60), "}".repeat(60));
    assert!(matches!(value(&bomb), Err(ExpandError::TooLong { .. })));
}

fn word() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ax${}:'\"\\\\/*?#%+-]",
        1 => Just("$FOO".to_owned()),
        1 => Just("${STARS".to_owned()),
        1 => Just("${PATHS/".to_owned()),
        1 => Just("${NULL:-".to_owned()),
        1 => Just("${UNSET-".to_owned()),
        1 => Just("${FOO##".to_owned()),
        1 => Just("${LINES%".to_owned()),
        2 => Just("}".to_owned()),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_reference(word in word()) {
        prop_assert_eq!(value(&word).ok(), expanded_slowly(&word, &variables), "{}", word);
    }

    #[test]
    fn words_are_the_value_without_white_space(word in word()) {
        if let (Ok(value), Ok(words)) = (value(&word), expand_words(&word, '\\', &variables)) {
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(squeezed(&words.words.concat()), squeezed(&value));
        }
    }

    #[test]
    fn any_text_will_do(word in "\\PC{0,60}") {
        let _ = value(&word);
        let _ = expand_words(&word, '`', &variables);
        let _ = expand_heredoc(&word, &variables);
    }
}
