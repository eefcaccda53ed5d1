//! One line of CSV, as Docker's flags have it.

/// The fields of one line of CSV, as `--mount`, `--secret` and `--output` are written: divided by commas, in double
/// quotes where they hold some.
///
/// # Errors
/// What is wrong with the quotes.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, behind) = rest.split_at(end);
                if field.contains('"') {
                    return Err(format!("the quote in `{field}` does not begin at its comma"));
                }
                (field.to_owned(), behind)
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(fields),
            None => return Err("a comma is missing behind a quote".to_owned()),
        }
    }
}

/// A field whose quote was opened: `""` in it is a quote.
fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_csv() {
        assert_eq!(fields("a=b,c").unwrap(), ["a=b", "c"]);
        assert_eq!(fields("\"a=b,c\",d").unwrap(), ["a=b,c", "d"]);
        assert_eq!(fields("\"a=\"\"x\"\"\"").unwrap(), ["a=\"x\""]);
        assert_eq!(fields("").unwrap(), [""]);
        for text in ["\"a", "\"a\"b", "a\"b"] {
            assert!(fields(text).is_err(), "{text}");
        }
    }
}
