//! What kiln takes from its environment, read once at the start: everything below gets it from here.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_cache::history::HistoryLimits;
use kiln_image::Configuration;

use crate::engine::Surroundings;
use crate::error::{self, CliError};

/// Where kiln keeps its store when root runs it.
const SYSTEM_ROOT: &str = "/var/lib/kiln";
/// The configuration for everybody.
const SYSTEM_CONFIG: &str = "/etc/kiln/kiln.toml";

/// The environment of one command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// The store.
    pub(crate) root: PathBuf,
    /// The configuration file that was asked for.
    config: Option<PathBuf>,
    /// Where else a configuration may be, the first that exists counts.
    config_candidates: Vec<PathBuf>,
    /// Files with the credentials of registries, those that count most first.
    pub(crate) credentials: Vec<PathBuf>,
    /// Whether stderr takes colours.
    pub(crate) colour: bool,
    /// Whether stderr is a terminal that can be drawn on.
    pub(crate) live: bool,
    /// What says which container engine images are loaded into.
    pub(crate) engines: Surroundings,
    /// What fetching from web servers and git repositories goes by: proxies, certificates, keys.
    pub(crate) remote: Vec<(OsString, OsString)>,
}

/// The variables that matter where something is fetched.
const REMOTE: [&str; 20] = [
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_ALLOW_PROTOCOL",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_NO_VERIFY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

impl Environment {
    /// Reads the environment; `root` and `config` are what the command line says.
    pub(crate) fn read(root: Option<PathBuf>, config: Option<PathBuf>) -> Result<Self, CliError> {
        let user_id = rustix::process::geteuid();
        let colour = std::io::stderr().is_terminal();
        Self::from_variables(root, config, user_id.is_root(), colour, &|name| std::env::var_os(name))
    }

    fn from_variables(
        root: Option<PathBuf>,
        config: Option<PathBuf>,
        is_root: bool,
        terminal: bool,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, CliError> {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The XDG specification: a path that is not absolute does not count.
        let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let below_home = |name: &str, rest: &str| absolute(name).or_else(|| home.as_ref().map(|home| home.join(rest)));
        let root = match root.or_else(|| path("KILN_ROOT")) {
            Some(root) => absolute_path(&root)?,
            None if is_root => SYSTEM_ROOT.into(),
            None => below_home("XDG_DATA_HOME", ".local/share").map(|data| data.join("kiln")).ok_or_else(|| {
                CliError::environment("neither `XDG_DATA_HOME` nor `HOME` is set, so there is no place for the store")
                    .hint("say where it is with `--root` or `KILN_ROOT`")
            })?,
        };
        let user_config = below_home("XDG_CONFIG_HOME", ".config").map(|config| config.join("kiln/kiln.toml"));
        let live = terminal && variable("TERM").is_none_or(|value| value != "dumb");
        let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let forced = variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        Ok(Self {
            root,
            config: config.or_else(|| path("KILN_CONFIG")),
            config_candidates: user_config.into_iter().chain([SYSTEM_CONFIG.into()]).collect(),
            credentials: credentials(home.as_deref(), &path),
            colour: !refused && (live || forced),
            live,
            engines: Surroundings::new(is_root, variable),
            remote: remote(home.as_deref().filter(|_| !is_root), variable),
        })
    }

    /// Where programs are (`PATH`).
    pub(crate) fn search_path(&self) -> &OsStr {
        let path = self.remote.iter().find(|(name, _)| name == "PATH");
        path.map_or(OsStr::new(""), |(_, value)| value)
    }

    /// The configuration file that was asked for.
    pub(crate) fn configuration_path(&self) -> Option<PathBuf> {
        self.config.as_deref().and_then(|path| std::path::absolute(path).ok())
    }

    /// Reads the configuration file: the one asked for, else the first that exists.
    pub(crate) fn configuration(&self) -> Result<Configuration, CliError> {
        let asked = self.config.iter().map(|path| (path, true));
        let candidates = self.config_candidates.iter().map(|path| (path, false));
        let all: Vec<_> = if self.config.is_some() { asked.collect() } else { candidates.collect() };
        for (path, required) in all {
            match std::fs::read_to_string(path) {
                Ok(text) => return parse_configuration(path, &text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {}
                Err(error) => return Err(error::io("read the configuration", path, &error)),
            }
        }
        Ok(Configuration::default())
    }
}

/// How much of the history of builds is kept.
pub(crate) fn history_limits(configuration: &Configuration) -> HistoryLimits {
    let (settings, usual) = (configuration.history, HistoryLimits::default());
    HistoryLimits {
        max_entries: settings.max_entries.unwrap_or(usual.max_entries),
        max_age: settings.max_age.unwrap_or(usual.max_age),
        max_size: settings.max_size.unwrap_or(usual.max_size),
    }
}

fn parse_configuration(path: &Path, text: &str) -> Result<Configuration, CliError> {
    Configuration::parse(text).map_err(|error| {
        CliError::from_error(error::Kind::User, &error).context(format!("configuration `{}`", path.display()))
    })
}

/// Docker's `config.json`, then what podman and skopeo write (containers-auth.json(5)).
fn credentials(home: Option<&Path>, variable: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let docker = variable("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
    let runtime = variable("XDG_RUNTIME_DIR");
    let user = home.map(|home| home.join(".config/containers/auth.json"));
    let files =
        [docker.map(|docker| docker.join("config.json")), runtime.map(|dir| dir.join("containers/auth.json")), user];
    files.into_iter().flatten().collect()
}

/// What fetching goes by. An ordinary user becomes root of a user namespace, where ssh would look for the wrong
/// home's known hosts.
fn remote(home: Option<&Path>, variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<(OsString, OsString)> {
    let mut found: Vec<(OsString, OsString)> =
        REMOTE.iter().filter_map(|name| Some((name.into(), variable(name)?))).collect();
    let has_own = found.iter().any(|(name, _)| name == "GIT_SSH" || name == "GIT_SSH_COMMAND");
    if let Some(home) = home.and_then(Path::to_str)
        && !has_own
        && !home.contains(['\'', '"', ' '])
    {
        let command = format!("ssh -o BatchMode=yes -o 'UserKnownHostsFile={home}/.ssh/known_hosts'");
        found.push(("GIT_SSH_COMMAND".into(), command.into()));
    }
    found
}

fn absolute_path(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| error::io("find", path, &error))
}

/// The specification of `SOURCE_DATE_EPOCH`: seconds since 1970, in decimal digits.
pub(crate) fn parse_epoch(value: &OsStr) -> Result<SystemTime, CliError> {
    let seconds = value.to_str().and_then(|text| text.parse::<u64>().ok());
    seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))).ok_or_else(|| {
        CliError::user(format!("`SOURCE_DATE_EPOCH` is `{}`, not a number of seconds", value.to_string_lossy()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(root: Option<&str>, is_root: bool, variables: &[(&str, &str)]) -> Result<Environment, CliError> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Environment::from_variables(root.map(PathBuf::from), None, is_root, true, &lookup)
    }

    #[test]
    fn the_store_is_where_it_should_be() {
        type Variables<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Option<&str>, bool, Variables<'_>, &str); 6] = [
            (Some("/a"), true, &[("KILN_ROOT", "/b")], "/a"),
            (None, true, &[("KILN_ROOT", "/b"), ("HOME", "/root")], "/b"),
            (None, true, &[("HOME", "/root"), ("KILN_ROOT", "")], "/var/lib/kiln"),
            (None, false, &[("HOME", "/home/me")], "/home/me/.local/share/kiln"),
            (None, false, &[("HOME", "/home/me"), ("XDG_DATA_HOME", "/data")], "/data/kiln"),
            (None, false, &[("HOME", "/home/me"), ("XDG_DATA_HOME", "data")], "/home/me/.local/share/kiln"),
        ];
        for (root, is_root, variables, expected) in cases {
            assert_eq!(environment(root, is_root, variables).unwrap().root, PathBuf::from(expected));
        }
        assert!(environment(None, false, &[]).unwrap_err().message.contains("no place for the store"));
    }

    #[test]
    fn colours_can_be_refused() {
        assert!(environment(Some("/"), true, &[("NO_COLOR", "")]).unwrap().colour);
        assert!(!environment(Some("/"), true, &[("NO_COLOR", "1")]).unwrap().colour);
        let dumb = environment(Some("/"), true, &[("TERM", "dumb")]).unwrap();
        assert!(!dumb.colour && !dumb.live);
        assert!(environment(Some("/"), true, &[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")]).unwrap().colour);
        assert!(!environment(Some("/"), true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]).unwrap().colour);
    }

    #[test]
    fn the_fixed_time_is_seconds() {
        let epoch = |text| parse_epoch(OsStr::new(text));
        assert_eq!(epoch("10").unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(10));
        for text in ["", "x", "-1", "1.5", "99999999999999999999999"] {
            assert!(epoch(text).is_err(), "{text}");
        }
    }
}
