//! Users and groups, by number or by the names that `/etc/passwd` and `/etc/group` of the image give them.

use kiln_solver::{Owner, UserRef};

use super::FileError;
use super::plan::{Ids, Plan};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The ids of an owner in the tree that is changed.
pub(crate) fn look_up(plan: &Plan, owner: &Owner) -> Result<Ids, FileError> {
    let (uid, own_group) = match number(&owner.user) {
        Ok(uid) => (uid, uid),
        Err(name) => {
            let fields = line(plan, PASSWD, name)?.and_then(|line| Some((field(&line, 2)?, field(&line, 3)?)));
            fields.ok_or_else(|| unknown("user", name, PASSWD))?
        }
    };
    let gid = match owner.group.as_ref().map(number) {
        None => own_group,
        Some(Ok(gid)) => gid,
        Some(Err(name)) => {
            let gid = line(plan, GROUP, name)?.and_then(|line| field(&line, 2));
            gid.ok_or_else(|| unknown("group", name, GROUP))?
        }
    };
    Ok(Ids { uid, gid })
}

fn number(reference: &UserRef) -> Result<u32, &str> {
    match reference {
        UserRef::Id(id) => Ok(*id),
        UserRef::Name(name) => name.parse().map_err(|_| name.as_str()),
    }
}

fn unknown(kind: &'static str, name: &str, file: &'static str) -> FileError {
    FileError::UnknownName { kind, name: name.to_owned(), file }
}

/// The first line that begins with a name.
fn line(plan: &Plan, file: &str, name: &str) -> Result<Option<Vec<u8>>, FileError> {
    let content = plan.read(&file.as_bytes()[1..])?.unwrap_or_default();
    let named = |line: &&[u8]| line.split(|byte| *byte == b':').next() == Some(name.as_bytes());
    Ok(content.split(|byte| *byte == b'\n').find(named).map(<[u8]>::to_vec))
}

fn field(line: &[u8], position: usize) -> Option<u32> {
    let field = line.split(|byte| *byte == b':').nth(position)?;
    std::str::from_utf8(field).ok()?.trim().parse().ok()
}
