//! Builds and diagnostics as text, for comparing.

use std::fmt::Write as _;

use kiln_frontend::Build;
use kiln_parser::{Diagnostic, Severity};
use kiln_solver::{
    CopyAction, Credential, Exec, FileAction, FileActionKind, FileMode, IgnoreCache, Input, Limits, MountKind, Network,
    Operation, Owner, Security, Source, StepId, UserRef,
};

/// Every step, then what the image's files come from.
pub(crate) fn steps(build: &Build) -> String {
    let mut text = String::new();
    for (id, step) in build.graph.steps() {
        let _ = write!(text, "#{} {}", id.index(), short_digests(&step.metadata.name));
        if let Some(stage) = &step.metadata.stage {
            let _ = write!(text, "  (stage {stage})");
        }
        match step.metadata.ignore_cache {
            Some(IgnoreCache::Asked) => text.push_str("  (no cache)"),
            Some(IgnoreCache::Always) => text.push_str("  (always)"),
            None => {}
        }
        let _ = writeln!(text, "\n  {}{}", operation(&step.operation), inputs(&step.inputs));
        if let Some(platform) = &step.platform {
            let _ = writeln!(text, "  on {platform}");
        }
        match &step.operation {
            Operation::Exec(command) => exec(command, &mut text),
            Operation::File(actions) => actions.iter().for_each(|action| file_action(action, &mut text)),
            Operation::Source(_) => {}
        }
    }
    let target = build.target.map_or("nothing".to_owned(), |input| reference(&input));
    let _ = writeln!(text, "target: {target}");
    text
}

fn reference(input: &Input) -> String {
    let id: StepId = input.step;
    match input.output {
        0 => format!("#{}", id.index()),
        output => format!("#{}.{output}", id.index()),
    }
}

fn inputs(inputs: &[Input]) -> String {
    if inputs.is_empty() {
        return String::new();
    }
    format!(" of {}", inputs.iter().map(reference).collect::<Vec<_>>().join(", "))
}

fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Source(Source::Image { reference, .. }) => format!("image {reference}"),
        Operation::Source(Source::Local { name }) => format!("local {name}"),
        Operation::Source(Source::Http(http)) => format!("http {} as {} {:?}", http.url, http.filename, http.checksum),
        Operation::Source(Source::Git(git)) => format!("git {git:?}"),
        Operation::Exec(_) => "exec".to_owned(),
        Operation::File(_) => "file".to_owned(),
    }
}

fn exec(exec: &Exec, text: &mut String) {
    let _ = writeln!(text, "  args {:?}", exec.args);
    let _ = writeln!(text, "  env {:?}", exec.env);
    let _ = writeln!(text, "  in {:?} as {:?}", exec.cwd, exec.user);
    if exec.network != Network::Default {
        let _ = writeln!(text, "  network {:?}", exec.network);
    }
    if exec.security != Security::Sandbox {
        let _ = writeln!(text, "  security {:?}", exec.security);
    }
    if !exec.ignored_env.is_empty() {
        let _ = writeln!(text, "  ignoring {:?}", exec.ignored_env);
    }
    if exec.untraced {
        let _ = writeln!(text, "  untraced");
    }
    for secret in &exec.secret_env {
        let required = if secret.required { " required" } else { "" };
        let _ = writeln!(text, "  secret {:?}{required} in {}", secret.id, secret.name);
    }
    for host in &exec.hosts {
        let _ = writeln!(text, "  host {} {}", host.name, host.address);
    }
    if exec.limits != Limits::default() {
        let _ = writeln!(text, "  {:?}", exec.limits);
    }
    for mount in &exec.mounts {
        let _ = match &mount.kind {
            MountKind::Bind { input, selector } => write!(text, "  mount {input:?}{selector}"),
            MountKind::Cache { id, sharing, input, selector } => {
                write!(text, "  cache {id:?} {sharing:?} from {input:?}{selector}")
            }
            MountKind::Tmpfs { size } => write!(text, "  tmpfs {size:?}"),
            MountKind::Secret(secret) => write!(text, "  secret {}", credential(secret)),
            MountKind::Ssh(agent) => write!(text, "  ssh {}", credential(agent)),
        };
        let access = if mount.readonly { " read-only" } else { "" };
        let _ = writeln!(text, " at {}{access} -> {:?}", mount.destination, mount.output);
    }
}

fn credential(wanted: &Credential) -> String {
    let required = if wanted.required { " required" } else { "" };
    format!("{:?}{required} {:o} {}:{}", wanted.id, wanted.mode, wanted.uid, wanted.gid)
}

fn file_action(action: &FileAction, text: &mut String) {
    let place = format!("{:?} -> {:?}", action.base, action.output);
    let _ = match &action.kind {
        FileActionKind::Copy(copy) => {
            writeln!(text, "  copy {:?}:{} to {}{} on {place}", action.from, copy.source, copy.destination, flags(copy))
        }
        FileActionKind::Mkfile(mkfile) => {
            let owner = owner(mkfile.owner.as_ref());
            writeln!(text, "  mkfile {} {:o}{owner} {:?} on {place}", mkfile.path, mkfile.mode, mkfile.content)
        }
        FileActionKind::Mkdir(mkdir) => {
            writeln!(text, "  mkdir {} {:o}{} on {place}", mkdir.path, mkdir.mode, owner(mkdir.owner.as_ref()))
        }
    };
}

fn flags(copy: &CopyAction) -> String {
    let mut text = owner(copy.owner.as_ref());
    let _ = match &copy.mode {
        Some(FileMode::Exact(mode)) => write!(text, " mode {mode:o}"),
        Some(FileMode::Changes(changes)) => write!(text, " mode {changes}"),
        None => Ok(()),
    };
    if !copy.exclude.is_empty() {
        let _ = write!(text, " without {:?}", copy.exclude);
    }
    for (is_set, flag) in [
        (copy.unpack, " unpack"),
        (copy.parents, " parents"),
        (copy.linked, " linked"),
        (!copy.wildcard, " literally"),
        (!copy.allow_empty_wildcard, " at-least-one"),
        (!copy.contents_only, " whole-directories"),
    ] {
        text.push_str(if is_set { flag } else { "" });
    }
    text
}

fn owner(owner: Option<&Owner>) -> String {
    let reference = |reference: &UserRef| match reference {
        UserRef::Id(id) => id.to_string(),
        UserRef::Name(name) => format!("{name:?}"),
    };
    let Some(owner) = owner else { return String::new() };
    let group = owner.group.as_ref().map(|group| format!(":{}", reference(group))).unwrap_or_default();
    format!(" owner {}{group}", reference(&owner.user))
}

/// The image without what the steps say already.
pub(crate) fn config(build: &Build) -> String {
    let mut image = build.image.clone();
    image.history.clear();
    image.rootfs.diff_ids.clear();
    serde_json::to_string_pretty(&image).unwrap() + "\n"
}

/// One line each: `-` makes no layer, `+` does.
pub(crate) fn history(build: &Build) -> String {
    let mut text = String::new();
    for line in &build.image.history {
        let mark = if line.empty_layer { '-' } else { '+' };
        let comment = if line.comment == "buildkit.dockerfile.v0" { "" } else { "  (of the base)" };
        let _ = writeln!(text, "{mark} {}{comment}", line.created_by.replace('\n', "\\n"));
    }
    text
}

/// Message, the marked text, label and hint.
pub(crate) fn diagnostics(diagnostics: &[Diagnostic], source: &str) -> String {
    let mut text = String::new();
    for found in diagnostics {
        let severity = if found.severity == Severity::Error { "error" } else { "warning" };
        let _ = writeln!(text, "{severity}: {}", short_digests(&found.message));
        if let Some(span) = found.span {
            let line = source[..span.start].lines().count()
                + usize::from(source[..span.start].ends_with('\n')).max(usize::from(span.start == 0));
            let marked = source[span.range()].replace('\n', "\\n");
            let _ = writeln!(text, "  line {line}: {marked}");
        }
        if let Some(label) = &found.label {
            let _ = writeln!(text, "  label: {label}");
        }
        if let Some(hint) = &found.hint {
            let _ = writeln!(text, "  hint: {hint}");
        }
        let _ = writeln!(text, "  code: {}", found.code.unwrap_or("NONE"));
    }
    text
}

/// Digests cut to twelve digits.
fn short_digests(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_digest = part.len() >= 64 && part.as_bytes()[..64].iter().all(u8::is_ascii_hexdigit);
        short.push_str("sha256:");
        short.push_str(if is_digest { &part[..8] } else { part });
        short.push_str(if is_digest { &part[64..] } else { "" });
    }
    short
}
