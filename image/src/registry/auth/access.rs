//! What is to be done in a repository, in the words of token servers (distribution, "Token Scope Documentation").

/// What is to be done in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::registry) struct Access {
    pub(super) repository: String,
    push: bool,
    /// A repository of the same registry from which a blob is to be mounted.
    from: Option<String>,
}

impl Access {
    pub(in crate::registry) fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), push: false, from: None }
    }

    pub(in crate::registry) fn push(repository: &str) -> Self {
        Self { push: true, ..Self::pull(repository) }
    }

    pub(in crate::registry) fn mounting(self, from: &str) -> Self {
        Self { from: Some(from.to_owned()), ..self }
    }

    /// The scopes to ask for: those that the registry named, and what is known to be needed beside.
    pub(super) fn scopes(&self, named: &str) -> Vec<String> {
        let mut scopes: Vec<(String, Vec<String>)> = Vec::new();
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let from = self.from.iter().map(|from| format!("repository:{from}:pull"));
        for scope in named.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).chain([own]).chain(from) {
            let (resource, actions) = scope.rsplit_once(':').unwrap_or((&scope, ""));
            let place = scopes.iter().position(|(known, _)| known == resource).unwrap_or_else(|| {
                scopes.push((resource.to_owned(), Vec::new()));
                scopes.len() - 1
            });
            for action in actions.split(',') {
                if !scopes[place].1.iter().any(|known| known == action) {
                    scopes[place].1.push(action.to_owned());
                }
            }
        }
        scopes.into_iter().map(|(resource, actions)| format!("{resource}:{}", actions.join(","))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_each_resource_once() {
        let pull = Access::pull("a/b");
        assert_eq!(pull.scopes(""), ["repository:a/b:pull"]);
        assert_eq!(pull.scopes("repository:a/b:pull"), ["repository:a/b:pull"]);
        assert_eq!(pull.scopes("repository(plugin):x:*  y"), ["repository(plugin):x:*", "y:", "repository:a/b:pull"]);
        let push = Access::push("a/b").mounting("base");
        let expected = ["repository:a/b:pull,push", "repository:base:pull"];
        assert_eq!(push.scopes("repository:a/b:pull"), expected);
        assert_eq!(push.scopes("repository:base:pull repository:a/b:pull,push").len(), 2);
    }
}
