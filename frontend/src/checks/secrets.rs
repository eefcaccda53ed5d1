//! `SecretsUsedInArgOrEnv`: names that sound like secrets.

use kiln_parser::{Diagnostic, Word};

use super::reporter::Reporter;
use super::rules::SECRETS_USED_IN_ARG_OR_ENV;

/// Parts of a name that BuildKit takes for those of a secret, and parts that say it is none.
const SECRET: &[&str] =
    &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: &[&str] = &["public", "file", "version"];

pub(crate) fn check(keyword: &str, name: &Word, instruction: usize, reporter: &mut Reporter) {
    if !is_secret(&name.value) {
        return;
    }
    let message = format!("`{keyword} {}` sounds like a secret, and would stay in the image", name.value);
    let id = name.value.to_lowercase();
    let hint = format!("mount it where a command needs it: `RUN --mount=type=secret,id={id},env={}`", name.value);
    reporter.add(SECRETS_USED_IN_ARG_OR_ENV, instruction, Diagnostic::warning(message).at(name.span).hint(hint));
}

fn is_secret(name: &str) -> bool {
    let has = |words: &[&str]| name.split('_').any(|part| words.iter().any(|word| word.eq_ignore_ascii_case(part)));
    has(SECRET) && !has(HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn whole_parts_of_names_count() {
        for name in ["PASSWORD", "GITHUB_TOKEN", "api_key", "AUTH", "A_SECRET_B"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["KEYBOARD", "MONKEY", "PUBLIC_KEY", "TOKENS", "SECRET_FILE", "KEY_VERSION", ""] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
