//! How commands look names up: `[dns]` of `kiln.toml`, with the keys of buildkitd.toml or in kiln's own spelling.

use std::net::IpAddr;

use serde::Deserialize;

/// How commands look names up; what is empty is as on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Name servers.
    #[serde(default)]
    pub nameservers: Vec<IpAddr>,
    /// Options of resolv.conf(5).
    #[serde(default)]
    pub options: Vec<String>,
    /// Domains to look names up in that have none.
    #[serde(default, rename = "search-domains", alias = "searchDomains")]
    pub search_domains: Vec<String>,
}

impl Dns {
    /// Why it could not stand in resolv.conf(5), if so.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_word = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        match self.options.iter().chain(&self.search_domains).find(|text| !is_word(text)) {
            Some(text) => Err(format!("`{}` is not a single word", text.escape_debug())),
            None => Ok(()),
        }
    }
}
