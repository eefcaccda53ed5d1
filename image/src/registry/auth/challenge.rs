//! The `WWW-Authenticate` header (RFC 9110, section 11.6.1).

/// One challenge: `scheme name=value, name="value"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// All challenges of one header; what makes no sense is left out.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = split_word(rest);
        if word.is_empty() {
            return challenges;
        }
        match (after.trim_start().strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = split_value(value.trim_start());
                challenge.parameters.push((word.to_owned(), value));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge { scheme: word.to_owned(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    text.split_at(end)
}

fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart() {
        let header =
            r#"Basic realm="a, \"b\"", Bearer realm="https://x/t",service=reg, scope="repository:a/b:pull,push""#;
        let challenges = parse(header);
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[0].parameter("realm"), Some(r#"a, "b""#));
        assert_eq!((challenges[1].scheme.as_str(), challenges[1].parameter("SERVICE")), ("Bearer", Some("reg")));
        assert_eq!(challenges[1].parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(challenges[1].parameter("error"), None);
    }

    #[test]
    fn nonsense_is_no_challenge_and_no_panic() {
        for header in ["", " , ", "=x", "\"", "Bearer realm=\"x", "Bearer =", "Bearer realm", "ä=ö ü"] {
            let _ = parse(header);
        }
        assert_eq!(parse("Bearer realm=\"x")[0].parameter("realm"), Some("x"));
    }
}
