//! What the generations of BuildKit write differently.

/// A generation of BuildKit, by the first of its releases. The digests of an operation differ where its JSON does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dialect {
    /// That of Docker 20.10. A directory that matches a wildcard counts as a whole.
    V0_8,
    /// That of Docker 26.1. Removes what mounts leave behind in the root, and knows how large a tmpfs is.
    V0_12,
    /// That of Docker 28.5. Another library writes its protocol buffers, which leaves zeros out.
    V0_18,
}

impl Dialect {
    pub(super) const ALL: [Self; 3] = [Self::V0_8, Self::V0_12, Self::V0_18];

    /// A number of a field that older generations always write.
    pub(super) fn number(self, number: i64) -> Option<i64> {
        (self < Self::V0_18 || number != 0).then_some(number)
    }
}

/// Generations that do something in the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialects(u8);

impl Dialects {
    /// Whether there is a generation in both.
    pub(super) fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// All of them.
    pub(super) fn all() -> Self {
        Dialect::ALL.into_iter().fold(Self::default(), Self::with)
    }

    fn with(self, dialect: Dialect) -> Self {
        Self(self.0 | 1 << dialect as u8)
    }

    /// What generations come to, each result once with those that come to it.
    pub(super) fn group<T: PartialEq>(results: impl IntoIterator<Item = (Dialect, T)>) -> Vec<(Self, T)> {
        let mut groups: Vec<(Self, T)> = Vec::new();
        for (dialect, result) in results {
            match groups.iter_mut().find(|(_, known)| *known == result) {
                Some((dialects, _)) => *dialects = dialects.with(dialect),
                None => groups.push((Self::default().with(dialect), result)),
            }
        }
        groups
    }
}
