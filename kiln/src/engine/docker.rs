//! Docker's daemon, asked through its own command.

use std::process::{Command, Stdio};

use kiln_solver::Digest;

/// How many images are looked at for layers.
const MOST_IMAGES: usize = 500;

/// Its command, for a context.
pub(super) fn command(context: Option<&str>) -> Command {
    let mut command = Command::new("docker");
    command.args(context.map(|context| ["--context", context]).iter().flatten());
    command
}

/// The version of the daemon; none where the command of that name is podman's.
///
/// # Errors
/// Why it does not answer.
pub(super) fn version(context: Option<&str>) -> Result<Option<String>, String> {
    let output = command(context)
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`docker` cannot be run: {}", crate::error::plain_io(&error)))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.contains("Emulate Docker CLI using podman") {
        return Ok(None);
    }
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !version.is_empty() {
        return Ok(Some(version));
    }
    Err(said.lines().next().unwrap_or("`docker version` tells no version of a daemon").to_owned())
}

/// How many of these layers, from the lowest on, an image of the daemon has. `docker load` takes an archive without
/// them, unless the daemon keeps images with containerd.
pub(super) fn known_layers(context: Option<&str>, diff_ids: &[Digest]) -> usize {
    let Some(storage) = ask(context, &["info", "--format", "{{json .DriverStatus}}"]) else { return 0 };
    if storage.contains("io.containerd.snapshotter") {
        return 0;
    }
    let Some(images) = ask(context, &["image", "ls", "--quiet", "--no-trunc"]) else { return 0 };
    let mut words = vec!["image", "inspect", "--format", "{{json .RootFS.Layers}}"];
    words.extend(images.lines().take(MOST_IMAGES));
    ask(context, &words).map_or(0, |answer| longest(&answer, diff_ids))
}

/// The length of the longest stack of layers that an image of an answer has in common with these.
fn longest(answer: &str, diff_ids: &[Digest]) -> usize {
    let stacks = answer.lines().filter_map(|line| serde_json::from_str::<Vec<String>>(line).ok());
    let common = |stack: Vec<String>| {
        stack.iter().zip(diff_ids).take_while(|(theirs, ours)| **theirs == ours.to_string()).count()
    };
    stacks.map(common).max().unwrap_or(0)
}

/// What a command prints; none where it fails.
fn ask(context: Option<&str>, words: &[&str]) -> Option<String> {
    let output = command(context).args(words).stdin(Stdio::null()).output().ok()?;
    // An image that has gone since is no reason to know nothing of the others.
    String::from_utf8(output.stdout).ok().filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_stack_counts() {
        let [a, b, c] = ["a", "b", "c"].map(|name| Digest::of(name.as_bytes()));
        let stack = |layers: &[Digest]| {
            let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
            serde_json::to_string(&layers).unwrap()
        };
        let answer = format!("{}\n{}\nnull\n\n{}\n", stack(&[a]), stack(&[a, b, b]), stack(&[b, c]));
        assert_eq!(longest(&answer, &[a, b, c]), 2);
        assert_eq!(longest(&answer, &[b]), 1);
        assert_eq!(longest(&answer, &[c]), 0);
        assert_eq!(longest("", &[a]), 0);
    }
}
