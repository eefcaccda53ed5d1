//! What a build was asked for, by the names that BuildKit has for it, and without what nobody else is to see.

use std::collections::BTreeMap;

use kiln_frontend::NoCache;
use kiln_solver::Network;

use super::super::record::PROXIES;
use super::super::request::{NamedContext, Request};

/// The arguments of the frontend.
pub(super) fn args(request: &Request) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (name, value) in request.build_args.iter().filter(|(name, _)| !is_proxy(name)) {
        args.insert(format!("build-arg:{name}"), redacted(value));
    }
    for (name, value) in &request.labels {
        args.insert(format!("label:{name}"), value.clone());
    }
    args.extend(request.target.clone().map(|target| ("target".to_owned(), target)));
    args.extend(request.file.as_ref().map(|file| ("filename".to_owned(), file.display().to_string())));
    args.extend(request.remote_context.as_ref().map(|context| ("context".to_owned(), context.place())));
    for (name, context) in &request.contexts {
        let place = match context {
            // Where a directory is on this machine is nobody's business.
            NamedContext::Directory(_) => format!("local:{name}"),
            NamedContext::Image(image) if image.contains("://") => format!("oci-layout:{name}"),
            NamedContext::Image(image) => format!("docker-image://{image}"),
            NamedContext::Stage(stage) => format!("target:{stage}"),
            NamedContext::Remote(context) => context.place(),
        };
        args.insert(format!("context:{name}"), place);
    }
    if !request.contexts.is_empty() {
        // What a frontend has to know for that, in the words of buildx.
        args.insert("frontend.caps".to_owned(), "moby.buildkit.frontend.contexts+forward".to_owned());
    }
    let no_cache = match &request.no_cache {
        NoCache::Never => None,
        NoCache::All => Some(String::new()),
        NoCache::Stages(stages) => Some(stages.join(",")),
    };
    args.extend(no_cache.map(|stages| ("no-cache".to_owned(), stages)));
    let network = match request.run.network {
        Network::Default => None,
        Network::Host => Some("host"),
        Network::None => Some("none"),
    };
    args.extend(network.map(|network| ("force-network-mode".to_owned(), network.to_owned())));
    if !request.run.hosts.is_empty() {
        let hosts = request.run.hosts.iter().map(|host| format!("{}={}", host.name, host.address));
        args.insert("add-hosts".to_owned(), hosts.collect::<Vec<_>>().join(","));
    }
    args.extend(request.run.shm_size.map(|size| ("shm-size".to_owned(), size.to_string())));
    args
}

/// Whether build arguments are left out, for they may hold passwords.
pub(super) fn withholds(request: &Request) -> bool {
    request.build_args.keys().any(|name| is_proxy(name))
}

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
}

/// A value without the user and password of the URLs in it.
pub(super) fn redacted(value: &str) -> String {
    let mut rest = value;
    let mut shown = String::with_capacity(value.len());
    while let Some(at) = rest.find("://") {
        let (scheme, behind) = rest.split_at(at + "://".len());
        shown.push_str(scheme);
        let ends = |letter: char| matches!(letter, '/' | '?' | '#') || letter.is_whitespace();
        let authority = behind.find(ends).unwrap_or(behind.len());
        // A password may have an `@` of its own: the last one ends it.
        rest = match behind[..authority].rfind('@') {
            Some(user) => {
                shown.push_str("xxxxx");
                &behind[user..]
            }
            None => behind,
        };
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_not_shown() {
        let cases = [
            ("plain", "plain"),
            ("https://host/a@b", "https://host/a@b"),
            ("https://me:secret@host/a", "https://xxxxx@host/a"),
            (
                "--index https://token@one/x --extra http://a:p@ss@two",
                "--index https://xxxxx@one/x --extra http://xxxxx@two",
            ),
            ("ssh://git@host/x.git", "ssh://xxxxx@host/x.git"),
            ("://", "://"),
        ];
        for (value, expected) in cases {
            assert_eq!(redacted(value), expected);
        }
    }
}
