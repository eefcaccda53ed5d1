//! The matching engine under [`crate::pattern`] and [`crate::ignore`]: a small automaton over tokens that takes time
//! proportional to the pattern times the name, whatever they are.

/// One element of a compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// This character.
    Literal(char),
    /// One character that is no slash.
    Any,
    /// One character by a set; may be a slash, as in Go.
    Class(Class),
    /// Any number of characters that are no slashes.
    Star,
    /// Any number of characters.
    Everything,
    /// The next two tokens or none of them: `**/` is `Maybe`, `Everything`, `Literal('/')`.
    Maybe,
}

/// A set of characters, as in `[a-z]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class {
    /// Whether it is all but these.
    pub(crate) negated: bool,
    /// Ranges, both ends included.
    pub(crate) ranges: Vec<(char, char)>,
}

impl Class {
    fn contains(&self, character: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != self.negated
    }
}

/// A compiled pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
    /// The literals that it begins and ends with, to refuse most names at a glance.
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

/// So many words of bits need no allocation.
const INLINE: usize = 4;

impl Glob {
    /// Of these tokens.
    pub(crate) fn new(tokens: Vec<Token>) -> Self {
        let (prefix, suffix) = (literals(&tokens), literals(ending(&tokens)));
        Self { tokens, prefix, suffix }
    }

    /// Whether all of `name` matches.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        name.starts_with(&self.prefix)
            && name.ends_with(&self.suffix)
            && self.run(name, false, |states, end| states.contains(end))
    }

    /// Whether something that begins with `directory` and a slash, and goes on, might match.
    pub(crate) fn may_match_below(&self, directory: &[u8]) -> bool {
        let shared = self.prefix.len().min(directory.len());
        self.prefix[..shared] == directory[..shared] && self.run(directory, true, |states, end| states.any_before(end))
    }

    fn run(&self, name: &[u8], slash: bool, verdict: impl Fn(&States<'_>, usize) -> bool) -> bool {
        let words = self.tokens.len() / 64 + 1;
        if words <= INLINE {
            let (mut current, mut next) = ([0; INLINE], [0; INLINE]);
            self.simulate(&mut current[..words], &mut next[..words], name, slash, verdict)
        } else {
            let (mut current, mut next) = (vec![0; words], vec![0; words]);
            self.simulate(&mut current, &mut next, name, slash, verdict)
        }
    }

    fn simulate(
        &self,
        current: &mut [u64],
        next: &mut [u64],
        name: &[u8],
        slash: bool,
        verdict: impl Fn(&States<'_>, usize) -> bool,
    ) -> bool {
        let (mut current, mut next) = (States(current), States(next));
        current.insert(0);
        self.close(&mut current);
        for character in characters(name).chain(slash.then_some('/')) {
            next.clear();
            for state in current.iter() {
                self.step(state, character, &mut next);
            }
            if next.is_empty() {
                return false;
            }
            self.close(&mut next);
            std::mem::swap(&mut current, &mut next);
        }
        verdict(&current, self.tokens.len())
    }

    fn step(&self, state: usize, character: char, next: &mut States<'_>) {
        match self.tokens.get(state) {
            Some(Token::Literal(wanted)) if *wanted == character => next.insert(state + 1),
            Some(Token::Any) if character != '/' => next.insert(state + 1),
            Some(Token::Class(class)) if class.contains(character) => next.insert(state + 1),
            Some(Token::Star) if character != '/' => next.insert(state),
            Some(Token::Everything) => next.insert(state),
            _ => {}
        }
    }

    /// Adds the states that are reached without a character; all of them lie behind.
    fn close(&self, states: &mut States<'_>) {
        let mut from = 0;
        while let Some(state) = states.first_from(from) {
            match self.tokens.get(state) {
                Some(Token::Star | Token::Everything) => states.insert(state + 1),
                Some(Token::Maybe) => {
                    states.insert(state + 1);
                    states.insert(state + 3);
                }
                _ => {}
            }
            from = state + 1;
        }
    }
}

/// The literals that `tokens` begins with.
fn literals(tokens: &[Token]) -> Vec<u8> {
    let literal = |token: &Token| if let Token::Literal(c) = token { Some(*c) } else { None };
    tokens.iter().map_while(literal).collect::<String>().into_bytes()
}

/// The literals at the end that are in every match.
fn ending(tokens: &[Token]) -> &[Token] {
    let start = tokens.iter().rposition(|token| !matches!(token, Token::Literal(_))).map_or(0, |last| last + 1);
    let optional = start >= 2 && matches!(tokens[start - 2..start], [Token::Maybe, Token::Everything]);
    tokens.get(start + usize::from(optional)..).unwrap_or_default()
}

/// A set of states: state `n` is to match token `n` next.
struct States<'b>(&'b mut [u64]);

impl States<'_> {
    fn insert(&mut self, state: usize) {
        if let Some(word) = self.0.get_mut(state / 64) {
            *word |= 1 << (state % 64);
        }
    }

    fn contains(&self, state: usize) -> bool {
        self.0.get(state / 64).is_some_and(|word| word & (1 << (state % 64)) != 0)
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn any_before(&self, end: usize) -> bool {
        self.first_from(0).is_some_and(|state| state < end)
    }

    fn first_from(&self, from: usize) -> Option<usize> {
        let mut mask = u64::MAX << (from % 64);
        for (index, word) in self.0.iter().enumerate().skip(from / 64) {
            let left = word & mask;
            if left != 0 {
                return Some(index * 64 + left.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.first_from(0), |state| self.first_from(state + 1))
    }
}

/// The characters of a name; a byte that is not UTF-8 counts as one, U+FFFD, as in Go.
fn characters(name: &[u8]) -> impl Iterator<Item = char> {
    name.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(invalid)
    })
}
