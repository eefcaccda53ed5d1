//! The variables that are in scope at one point of a Dockerfile, in BuildKit's order: setting a variable anew
//! moves it to the end.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_parser::expand::{self, ExpandError};

/// Names and values, each name once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// In order; a gap where a variable was that has moved to the end.
    slots: Vec<Option<Variable>>,
    /// In which slot a variable is.
    places: HashMap<Arc<str>, usize>,
}

#[derive(Clone, Debug)]
struct Variable {
    name: Arc<str>,
    value: String,
}

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
        let slot = self.slots.get(*self.places.get(name)?)?;
        slot.as_ref().map(|variable| variable.value.as_str())
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let place = self.places.get(name).copied();
        let old = place.and_then(|place| self.slots.get_mut(place)).and_then(Option::take);
        let name = old.map_or_else(|| Arc::from(name), |variable| variable.name);
        self.places.insert(Arc::clone(&name), self.slots.len());
        self.slots.push(Some(Variable { name, value: value.to_owned() }));
        // As seldom as there are as many gaps as variables.
        if self.slots.len() > 2 * self.places.len() {
            self.close_gaps();
        }
    }

    fn close_gaps(&mut self) {
        self.slots.retain(Option::is_some);
        for (place, variable) in self.slots.iter().enumerate() {
            if let Some(known) = variable.as_ref().and_then(|variable| self.places.get_mut(&variable.name)) {
                *known = place;
            }
        }
    }

    fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.slots.iter().flatten()
    }

    /// The names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables().map(|variable| &*variable.name)
    }

    /// `NAME=value` entries.
    pub(crate) fn entries(&self) -> Vec<String> {
        self.variables().map(|variable| format!("{}={}", variable.name, variable.value)).collect()
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

/// Which entry of an image config's environment a variable is, so that it need not be looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryPlaces(HashMap<String, usize>);

impl EntryPlaces {
    /// Of these entries; where a name is there several times, it is the first.
    pub(crate) fn of(entries: &[String]) -> Self {
        let mut places = HashMap::with_capacity(entries.len());
        for (place, entry) in entries.iter().enumerate() {
            places.entry(split(entry).0.to_owned()).or_insert(place);
        }
        Self(places)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a variable in the entries that the places are of, in its old place if it has one.
    pub(crate) fn set(&mut self, entries: &mut Vec<String>, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        match self.0.get(name).and_then(|&place| entries.get_mut(place)) {
            Some(old) => *old = entry,
            None => {
                self.0.insert(name.to_owned(), entries.len());
                entries.push(entry);
            }
        }
    }
}

/// The name and the value of an entry; one without `=` has an empty value.
pub(crate) fn split(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
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
    fn variables_are_found_however_often_they_moved() {
        let mut environment = Environment::of(&["A=".into(), "B=".into(), "C=".into()]);
        for round in 0..20 {
            let name = ["B", "A", "B", "C", "B"][round % 5];
            environment.set(name, &round.to_string());
            assert_eq!(environment.get(name), Some(&*round.to_string()));
            assert!(environment.slots.len() <= 6, "gaps are closed");
        }
        assert_eq!(environment.entries(), ["A=16", "C=18", "B=19"]);
        assert_eq!(environment.names().collect::<Vec<_>>(), ["A", "C", "B"]);
        assert_eq!(environment.get("D"), None);
    }

    #[test]
    fn a_config_keeps_the_place_of_a_variable() {
        let mut entries = vec!["A=1".to_owned(), "AB=2".to_owned(), "A=twice".to_owned()];
        let mut places = EntryPlaces::of(&entries);
        places.set(&mut entries, "A", "3");
        places.set(&mut entries, "C", "");
        places.set(&mut entries, "C", "4");
        assert_eq!(entries, ["A=3", "AB=2", "A=twice", "C=4"]);
        assert!(places.has("AB") && !places.has("B"));
    }
}
