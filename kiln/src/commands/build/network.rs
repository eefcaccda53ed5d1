//! The networks of commands, and how names are looked up in them: what the executor must know of this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use kiln_executor::network::dns::{DnsSettings, Resolver, SYSTEMD_RESOLV_CONF};
use kiln_executor::network::{NetworkSettings, Networks, Subnet};
use kiln_executor::rootless::Identity;
use kiln_image::Dns;

use crate::environment::Environment;

/// How the commands of one build reach others.
pub(super) struct Plan {
    /// What their `/etc/resolv.conf` says.
    pub(super) resolver: Resolver,
    subnet: Subnet,
}

impl Plan {
    /// By what this machine has, and what the configuration says of names.
    pub(super) fn new(dns: &Dns) -> Self {
        let resolv_conf = read("/etc/resolv.conf").unwrap_or_default();
        let subnet = Subnet::choose(&read("/proc/net/route").unwrap_or_default(), &resolv_conf);
        let settings = DnsSettings {
            nameservers: dns.nameservers.iter().map(ToString::to_string).collect(),
            options: dns.options.clone(),
            search_domains: dns.search_domains.clone(),
        };
        let resolver = Resolver::new(&resolv_conf, &|| read(SYSTEMD_RESOLV_CONF), &settings, subnet);
        Self { resolver, subnet }
    }

    /// Networks of the commands' own.
    pub(super) fn networks(&self, identity: &Identity, environment: &Environment) -> Networks {
        let path = environment.search_path().to_owned();
        Networks::new(NetworkSettings {
            root: *identity == Identity::Root,
            subnet: self.subnet,
            forward_dns: self.resolver.forwarded,
            find: Box::new(move |program| find(&path, program)),
        })
    }
}

/// A file of the machine; one that is no text might as well not be there.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Looks a program up as a shell would.
fn find(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_are_found_as_by_a_shell() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let path = std::env::join_paths(["relative".as_ref(), directories[0].path(), directories[1].path()]).unwrap();
        assert_eq!(find(&path, "pasta"), None);
        std::fs::write(directories[0].path().join("pasta"), "no program").unwrap();
        let program = directories[1].path().join("pasta");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find(&path, "pasta"), Some(program));
    }
}
