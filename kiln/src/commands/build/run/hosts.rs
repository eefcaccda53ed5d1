//! `--add-host`: lines of `/etc/hosts`.

use std::net::IpAddr;

use crate::error::CliError;

/// The word for the address of this machine.
const GATEWAY: &str = "host-gateway";

/// A machine that commands know by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Its name.
    name: String,
    /// Its address; absent for the machine that the build runs on.
    address: Option<IpAddr>,
}

impl Host {
    /// Parses `NAME=ADDRESS` or `NAME:ADDRESS`; an address may be in brackets.
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let wrong = |problem: &str| {
            CliError::usage(format!("`--add-host {text}`: {problem}"))
                .hint("write `db=10.0.0.1`, `db=::1` or `me=host-gateway`")
        };
        let parts = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, written) = parts.ok_or_else(|| wrong("there is no address"))?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(wrong("this is not the name of a machine"));
        }
        let bare = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(written);
        let address = match bare {
            GATEWAY => None,
            address => Some(address.parse().map_err(|_| wrong("this is not an address"))?),
        };
        Ok(Self { name: name.to_lowercase(), address })
    }

    /// The same for a step; `gateway` finds the address of this machine.
    pub(super) fn resolve(&self, gateway: &dyn Fn() -> Option<IpAddr>) -> Result<kiln_solver::Host, CliError> {
        let address = self.address.or_else(gateway).ok_or_else(|| {
            CliError::environment(format!("`--add-host {}={GATEWAY}`: this machine has no address", self.name))
                .hint("name the address that commands are to use")
        })?;
        Ok(kiln_solver::Host { name: self.name.clone(), address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_addresses_of_either_kind() {
        let cases = [
            ("db=10.0.0.1", "db", Some("10.0.0.1")),
            ("DB:10.0.0.1", "db", Some("10.0.0.1")),
            ("six=::1", "six", Some("::1")),
            ("six:2001:db8::1", "six", Some("2001:db8::1")),
            ("six:[::1]", "six", Some("::1")),
            ("me=host-gateway", "me", None),
            ("me:host-gateway", "me", None),
        ];
        for (text, name, address) in cases {
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(Host::parse(text).unwrap(), Host { name: name.to_owned(), address }, "{text}");
        }
        for text in ["db", "db=", "=10.0.0.1", "db=10.0.0", "a b=10.0.0.1", "db=10.0.0.1 x", "db=gateway", "a\n=::1"] {
            assert_eq!(Host::parse(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn the_machine_itself_is_looked_up() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let me = Host::parse("me=host-gateway").unwrap();
        assert_eq!(me.resolve(&|| Some(address)).unwrap().address, address);
        assert!(me.resolve(&|| None).unwrap_err().message.contains("no address"));
        assert_eq!(Host::parse("db=::1").unwrap().resolve(&|| None).unwrap().address.to_string(), "::1");
    }
}
