//! Owners as `--chown` and `USER` write them: `user[:group]`, by name or number.

use kiln_solver::{Owner, UserRef};

/// The owner of this text; `None` where it is empty.
pub(crate) fn parse(text: &str) -> Option<Owner> {
    if text.is_empty() {
        return None;
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    // A group alone leaves the user root.
    let user = if user.is_empty() { UserRef::Id(0) } else { reference(user) };
    Some(Owner { user, group: group.map(reference) })
}

/// Whether it takes the image's `/etc/passwd` or `/etc/group` to tell the ids.
pub(crate) fn has_names(owner: &Owner) -> bool {
    let is_name = |reference: &UserRef| matches!(reference, UserRef::Name(_));
    is_name(&owner.user) || owner.group.as_ref().is_some_and(is_name)
}

fn reference(text: &str) -> UserRef {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(id) if is_number => UserRef::Id(id),
        _ => UserRef::Name(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_names_and_numbers() {
        let name = |text: &str| UserRef::Name(text.to_owned());
        assert_eq!(parse(""), None);
        assert_eq!(parse("app"), Some(Owner { user: name("app"), group: None }));
        assert_eq!(parse("app:"), Some(Owner { user: name("app"), group: None }));
        assert_eq!(parse("1000:www"), Some(Owner { user: UserRef::Id(1000), group: Some(name("www")) }));
        assert_eq!(parse(":7"), Some(Owner { user: UserRef::Id(0), group: Some(UserRef::Id(7)) }));
        assert_eq!(parse("+1"), Some(Owner { user: name("+1"), group: None }));
        assert_eq!(parse("99999999999"), Some(Owner { user: name("99999999999"), group: None }));
    }
}
