//! Which power a command has: its user, its capabilities, its system calls.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::filter::Filter;
use super::protocol::{Failure, failed};
use super::{Phase, RunSpec, User, sys};

/// Docker's default capabilities.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Becomes the user, with the power that a command has.
pub(super) fn settle(spec: &RunSpec, single_id: bool, filter: &Filter) -> Result<(), Failure> {
    if spec.insecure {
        // What kiln or its user keep in their keyring is theirs; no other command can get at one.
        sys::join_new_session_keyring();
        return keep_all(&spec.user, single_id);
    }
    drop_bounding_set().map_err(failed(Phase::Capabilities, "bounding set"))?;
    // As late as there is `CAP_SYS_ADMIN`. All that is done from here on passes the filter.
    filter.install().map_err(failed(Phase::Filter, "seccomp"))?;
    become_user(&spec.user, single_id)?;
    limit_capabilities(&spec.user).map_err(failed(Phase::Capabilities, "own sets"))
}

/// Becomes the user with every capability that there is, in every set: so ordinary users have them, too.
fn keep_all(user: &User, single_id: bool) -> Result<(), Failure> {
    let fail = || failed(Phase::Capabilities, "all of them");
    rustix::thread::set_keep_capabilities(true).map_err(fail())?;
    become_user(user, single_id)?;
    let all = rustix::thread::capabilities(None).map_err(fail())?.permitted;
    let sets = CapabilitySets { effective: all, permitted: all, inheritable: all };
    rustix::thread::set_capabilities(None, sets).map_err(fail())?;
    for capability in all.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true).map_err(fail())?;
    }
    Ok(())
}

fn drop_bounding_set() -> Result<(), Errno> {
    for capability in CapabilitySet::all().difference(CAPABILITIES).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn become_user(user: &User, single_id: bool) -> Result<(), Failure> {
    // Groups cannot be set where there is but one id; what is left of the caller's own means nothing there.
    if !single_id {
        let groups: Vec<Gid> = user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
        rustix::thread::set_thread_groups(&groups).map_err(failed(Phase::User, format!("groups {:?}", user.groups)))?;
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed(Phase::User, format!("gid {}", user.gid)))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed(Phase::User, format!("uid {}", user.uid)))
}

/// Leaving uid 0 has dropped all capabilities already; root keeps Docker's.
fn limit_capabilities(user: &User) -> Result<(), Errno> {
    let kept = if user.uid == 0 { CAPABILITIES } else { CapabilitySet::empty() };
    let kept = rustix::thread::capabilities(None)?.permitted.intersection(kept);
    rustix::thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}
