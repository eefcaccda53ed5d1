//! The patterns of `${name#pattern}` and its like: `*`, `?` and a backslash before either, and no sets. Searching
//! takes time proportional to the pattern times the value.

/// A pattern over characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShellPattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    Any,
    Star,
}

/// Where a match is to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Start,
    End,
}

impl ShellPattern {
    /// Reads a pattern; what is wrong with it if it is none.
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    Some(_) => return Err("only `*`, `?`, `\\`, `}` and `/` can stand behind a `\\`"),
                    None => return Err("nothing follows the last `\\`"),
                },
                other => Token::Literal(other),
            });
        }
        Ok(Self { tokens })
    }

    /// `value` without the longest or the shortest match at one side.
    pub(super) fn trim(&self, value: &str, side: Side, longest: bool) -> String {
        let mut characters: Vec<char> = value.chars().collect();
        let mut tokens = self.tokens.clone();
        if side == Side::End {
            characters.reverse();
            tokens.reverse();
        }
        let pattern = Self { tokens };
        let matched = pattern.search(&characters, 0, Search { anchored: true, longest }).map_or(0, |(_, end)| end);
        let kept = &characters[matched..];
        match side {
            Side::Start => kept.iter().collect(),
            Side::End => kept.iter().rev().collect(),
        }
    }

    /// `value` with the first match, or every one, replaced; `None` if that is longer than `limit` bytes. Matches are
    /// leftmost and then longest.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, limit: usize) -> Option<String> {
        let characters: Vec<char> = value.chars().collect();
        let mut result = String::with_capacity(value.len());
        let (mut copied, mut from) = (0, 0);
        while let Some((start, end)) = self.search(&characters, from, Search { anchored: false, longest: true }) {
            result.extend(&characters[copied..start]);
            // Go does not count an empty match right behind another match.
            if end > copied || start == 0 {
                result.push_str(replacement);
            }
            if result.len() > limit {
                return None;
            }
            copied = end;
            from = if end > from { end } else { from + 1 };
            if !all || from > characters.len() {
                break;
            }
        }
        result.extend(&characters[copied..]);
        (result.len() <= limit).then_some(result)
    }

    /// The leftmost match from `from` on: where it begins and ends.
    fn search(&self, value: &[char], from: usize, search: Search) -> Option<(usize, usize)> {
        let mut states = vec![None; self.tokens.len() + 1];
        let mut next = states.clone();
        let mut best = None;
        for at in from..=value.len() {
            if at == from || (!search.anchored && best.is_none()) {
                reach(&mut states, 0, at);
            }
            self.close(&mut states);
            best = better(best, states[self.tokens.len()], at);
            let done = best.is_some() && !search.longest;
            let Some(character) = value.get(at).filter(|_| !done) else { break };
            next.fill(None);
            for (state, token) in self.tokens.iter().enumerate() {
                // Only what may still become a match that begins no later than the best.
                let Some(start) = states[state].filter(|start| best.is_none_or(|(best, _)| *start <= best)) else {
                    continue;
                };
                match token {
                    Token::Literal(wanted) if wanted == character => reach(&mut next, state + 1, start),
                    // As in Go, whose `.` this is, wildcards do not cross the end of a line.
                    Token::Any if *character != '\n' => reach(&mut next, state + 1, start),
                    Token::Star if *character != '\n' => reach(&mut next, state, start),
                    _ => {}
                }
            }
            std::mem::swap(&mut states, &mut next);
            if best.is_some() && states.iter().all(Option::is_none) {
                break;
            }
        }
        best
    }

    fn close(&self, states: &mut [Option<usize>]) {
        for (state, token) in self.tokens.iter().enumerate() {
            if let (Token::Star, Some(start)) = (token, states[state]) {
                reach(states, state + 1, start);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Search {
    /// Whether a match must begin where the search does.
    anchored: bool,
    /// The longest of the leftmost matches, else the shortest.
    longest: bool,
}

/// Notes that `state` is reached by a match that began at `start`; the leftmost one counts.
fn reach(states: &mut [Option<usize>], state: usize, start: usize) {
    states[state] = Some(states[state].map_or(start, |other| other.min(start)));
}

/// The better of the best match so far and one that ends at `end`, if it is one.
fn better(best: Option<(usize, usize)>, start: Option<usize>, end: usize) -> Option<(usize, usize)> {
    match start {
        Some(start) if best.is_none_or(|(best, _)| start <= best) => Some((start, end)),
        _ => best,
    }
}
