//! Has old things pruned after a build, by a process of its own for which nobody waits.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use kiln_cache::Store;
use kiln_image::Configuration;

use super::request::Request;
use crate::environment::Environment;
use crate::terminal;

/// Starts it where one is due. What goes wrong is said, here or after the next build, and fails nothing.
pub(super) fn start(store: &Store, configuration: &Configuration, request: &Request, environment: &Environment) {
    if !configuration.gc.is_enabled() || !store.collection_is_due() {
        return;
    }
    let complain = |why: &str| {
        if request.style.is_for_people() {
            let message = format!("old things of the cache were not pruned: {why}");
            terminal::warn(&message, environment.colour);
        }
    };
    if let Some(why) = store.collection_failure() {
        complain(&why);
    }
    // This very program, wherever it lies, and out of reach of the terminal's Ctrl-C.
    let mut prune = Command::new("/proc/self/exe");
    prune.args(["prune", "--gc", "--after", &std::process::id().to_string(), "--root"]).arg(store.root());
    if let Some(path) = environment.configuration_path() {
        prune.arg("--config").arg(path);
    }
    prune.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").process_group(0);
    // It is not waited for: it is to outlive this process. Earlier it could not remove what this build can see.
    if let Err(error) = prune.spawn() {
        complain(&crate::error::plain_io(&error));
    }
}
