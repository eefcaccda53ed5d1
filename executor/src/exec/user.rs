//! Whom a command runs as: `USER` looked up in the root's own `/etc/passwd` and `/etc/group`, as runc does.

use kiln_cache::{View, ViewError};

use crate::sandbox::User;

/// A passwd or group file larger than this is no such file.
const LARGEST: u64 = 16 << 20;

/// Docker takes no greater number for a user or a group.
const GREATEST_ID: u32 = i32::MAX as u32;

/// Why a text names no user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    /// There is no such name.
    #[error("unable to find {kind} `{name}`: no matching entry in `{file}` of the image")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// As asked for.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// The number is too great.
    #[error("{kind} `{number}`: ids must be in the range 0-{GREATEST_ID}")]
    Range {
        /// `user` or `group`.
        kind: &'static str,
        /// As asked for.
        number: String,
    },
    /// A file is there, but cannot be read.
    #[error("cannot look up user `{name}`: {source}")]
    Read {
        /// As asked for.
        name: String,
        /// Why not.
        source: ViewError,
    },
}

/// A user and where it is at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: User,
    pub(crate) home: String,
}

impl Account {
    /// Looks up `user[:group]`, each by name or by number; root where it is empty.
    pub(crate) fn find(root: &View, text: &str) -> Result<Self, UserError> {
        let read = |path: &str| match root.read(path.as_bytes(), LARGEST) {
            Ok(file) => Ok(String::from_utf8_lossy(&file.unwrap_or_default()).into_owned()),
            Err(ViewError::Missing(_) | ViewError::NotADirectory(_) | ViewError::NotAFile(_)) => Ok(String::new()),
            Err(source) => Err(UserError::Read { name: text.to_owned(), source }),
        };
        Self::from_files(text, &read("etc/passwd")?, &read("etc/group")?)
    }

    fn from_files(text: &str, passwd: &str, group: &str) -> Result<Self, UserError> {
        let (user, group_wanted) = text.split_once(':').unwrap_or((text, ""));
        let user = if user.is_empty() { "0" } else { user };
        let known = passwd.lines().filter_map(Passwd::parse).find(|entry| entry.is(user));
        let uid = match &known {
            Some(entry) => entry.uid,
            None => number("user", user)?.ok_or_else(|| unknown("user", user, "/etc/passwd"))?,
        };
        let mut gid = known.as_ref().map_or(0, |entry| entry.gid);
        let mut groups = Vec::new();
        let entries = || group.lines().filter_map(Group::parse);
        if group_wanted.is_empty() {
            let name = known.as_ref().map_or("", |entry| entry.name);
            groups.extend(entries().filter(|entry| entry.has_member(name)).map(|entry| entry.gid));
        } else {
            let found = entries().find(|entry| entry.is(group_wanted)).map(|entry| entry.gid);
            gid = match found {
                Some(gid) => gid,
                None => number("group", group_wanted)?.ok_or_else(|| unknown("group", group_wanted, "/etc/group"))?,
            };
        }
        if !groups.contains(&gid) {
            groups.insert(0, gid);
        }
        // Home goes by the number alone: the first entry of that number says where it is.
        let home =
            passwd.lines().filter_map(Passwd::parse).find(|entry| entry.uid == uid).map_or("", |entry| entry.home);
        let home = if home.is_empty() { "/" } else { home };
        Ok(Self { user: User { uid, gid, groups }, home: home.to_owned() })
    }
}

fn unknown(kind: &'static str, name: &str, file: &'static str) -> UserError {
    UserError::Unknown { kind, name: name.to_owned(), file }
}

/// The number that a text is, if it is one.
fn number(kind: &'static str, text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(number) if number <= GREATEST_ID => Ok(Some(number)),
        _ => Err(UserError::Range { kind, number: text.to_owned() }),
    }
}

/// One line of `/etc/passwd`.
struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Passwd<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    }

    fn is(&self, user: &str) -> bool {
        self.name == user || user.parse() == Ok(self.uid)
    }
}

/// One line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }

    fn is(&self, group: &str) -> bool {
        self.name == group || group.parse() == Ok(self.gid)
    }

    fn has_member(&self, user: &str) -> bool {
        !user.is_empty() && self.members.split(',').any(|member| member == user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\n\
                          broken\nnobody:x:65534:65534::\n";
    const GROUP: &str = "root:x:0:\nbin:x:1:root,daemon\nada:x:1000:\nstaff:x:50:bob,ada\n\nbroken\n";

    fn find(text: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let account = Account::from_files(text, PASSWD, GROUP).map_err(|error| error.to_string())?;
        Ok((account.user.uid, account.user.gid, account.user.groups, account.home))
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = (0, 0, vec![0, 1], "/root".to_owned());
        assert_eq!(find(""), Ok(root.clone()));
        assert_eq!(find("root"), Ok(root.clone()));
        assert_eq!(find("0"), Ok(root));
        let ada = (1000, 1000, vec![1000, 50], "/home/ada".to_owned());
        assert_eq!(find("ada"), Ok(ada.clone()));
        assert_eq!(find("1000"), Ok(ada));
        assert_eq!(find("4711"), Ok((4711, 0, vec![0], "/".to_owned())));
        assert_eq!(find("nobody"), Ok((65534, 65534, vec![65534], "/".to_owned())));
    }

    #[test]
    fn a_group_replaces_the_users_own() {
        assert_eq!(find("ada:staff"), Ok((1000, 50, vec![50], "/home/ada".to_owned())));
        assert_eq!(find("ada:99"), Ok((1000, 99, vec![99], "/home/ada".to_owned())));
        assert_eq!(find(":staff"), Ok((0, 50, vec![50], "/root".to_owned())));
        assert_eq!(find("7:8"), Ok((7, 8, vec![8], "/".to_owned())));
    }

    #[test]
    fn unknown_names_are_errors() {
        assert_eq!(
            find("eve").unwrap_err(),
            "unable to find user `eve`: no matching entry in `/etc/passwd` of the image"
        );
        assert_eq!(
            find("ada:no").unwrap_err(),
            "unable to find group `no`: no matching entry in `/etc/group` of the image"
        );
        assert_eq!(find("4294967296").unwrap_err(), "user `4294967296`: ids must be in the range 0-2147483647");
        assert!(find("1000x").is_err());
        assert!(find("-1").is_err());
    }

    #[test]
    fn an_image_without_files_has_numbers() {
        let account = Account::from_files("", "", "").unwrap();
        assert_eq!(account, Account { user: User { uid: 0, gid: 0, groups: vec![0] }, home: "/".to_owned() });
        assert!(Account::from_files("root", "", "").is_err());
    }
}
