//! The variables that are in scope at one point of a Dockerfile, in BuildKit's order: setting a variable anew
//! moves it to the end.

use kiln_parser::expand::{self, ExpandError};

/// Names and values, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    /// Of `NAME=value` entries, as an image config has them.
    pub(crate) fn of(entries: &[String]) -> Self {
        let mut environment = Self::default();
        for entry in entries {
            let (name, value) = split(entry);
            environment.set(name, value);
        }
        environment
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// `NAME=value` entries.
    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// A word with its variables replaced and its quotes removed.
    pub(crate) fn expand(&self, word: &str, escape: char) -> Result<String, ExpandError> {
        expand::expand(word, escape, &|name| self.get(name).map(str::to_owned)).map(|expanded| expanded.value)
    }

    /// The words that a word becomes where its variables may bring white space.
    pub(crate) fn expand_words(&self, word: &str, escape: char) -> Result<Vec<String>, ExpandError> {
        expand::expand_words(word, escape, &|name| self.get(name).map(str::to_owned)).map(|expanded| expanded.words)
    }
}

/// The name and the value of an entry; one without `=` has an empty value.
pub(crate) fn split(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
}

/// Sets a variable in the environment of an image config, in its old place if it has one.
pub(crate) fn set_entry(entries: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match entries.iter_mut().find(|entry| split(entry).0 == name) {
        Some(old) => *old = entry,
        None => entries.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_set_anew_goes_to_the_end() {
        let mut environment = Environment::of(&["A=1".into(), "B".into(), "C=3=4".into()]);
        environment.set("A", "5");
        assert_eq!(environment.entries(), ["B=", "C=3=4", "A=5"]);
        assert_eq!(environment.get("C"), Some("3=4"));
    }

    #[test]
    fn a_config_keeps_the_place_of_a_variable() {
        let mut entries = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set_entry(&mut entries, "A", "3");
        set_entry(&mut entries, "C", "");
        assert_eq!(entries, ["A=3", "AB=2", "C="]);
    }
}
