//! "Did you mean": the nearest of the words that exist.

/// The candidate that `word` was probably meant to be, whatever its case.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Distances are quadratic in the length, and nobody means `RUN` by a word of a thousand letters.
    const LONGEST: usize = 24;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = match word.chars().count() {
        0..=2 => 1,
        3..=6 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_typing_errors_and_nothing_else() {
        let words = ["FROM", "RUN", "COPY", "ENTRYPOINT", "ENV"];
        assert_eq!(nearest("form", words), Some("FROM"));
        assert_eq!(nearest("RUNN", words), Some("RUN"));
        assert_eq!(nearest("ENTRIPONT", words), Some("ENTRYPOINT"));
        assert_eq!(nearest("services:", words), None);
        assert_eq!(nearest(&"R".repeat(1000), words), None);
    }
}
