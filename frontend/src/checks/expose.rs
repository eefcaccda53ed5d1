//! Rules about `EXPOSE`.

use kiln_parser::{Diagnostic, Word};

use super::reporter::Reporter;
use super::rules::{EXPOSE_INVALID_FORMAT, EXPOSE_PROTO_CASING};

/// One port after expansion, and the word that it came from.
pub(crate) fn check(port: &str, word: &Word, instruction: usize, reporter: &mut Reporter) {
    let (host, container) = match port.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, port),
    };
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    let lower = protocol.to_lowercase();
    if protocol != lower {
        let finding = Diagnostic::warning(format!("the protocol `{protocol}` in `{port}` should be lower-case"))
            .at(word.span)
            .hint(format!("write `{range}/{lower}`"));
        reporter.add(EXPOSE_PROTO_CASING, instruction, finding);
    }
    if host.is_some_and(|host| !host.is_empty()) {
        let message = format!("`{port}` has an address or a port of the host in it, which `EXPOSE` does not know");
        let finding = Diagnostic::warning(message)
            .at(word.span)
            .hint(format!("write `{container}`; the host's part is chosen when the container starts"));
        reporter.add(EXPOSE_INVALID_FORMAT, instruction, finding);
    }
}
