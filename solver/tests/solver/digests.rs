//! Digests of steps, pinned: a change of the encoding must come with a new version of it, for every record that
//! users have is named by them.

use std::collections::BTreeSet;

use kiln_solver::{
    CopyAction, Credential, Digest, Exec, FileAction, FileActionKind, FileMode, Git, Graph, Host, Http, IgnoreCache,
    MkdirAction, MkfileAction, Mount, MountKind, Network, Operation, Owner, Platform, SecretEnv, Security, Sharing,
    Source, Step, Ulimit, UserRef,
};

fn exec() -> Exec {
    Exec {
        args: vec!["/bin/sh".into(), "-c".into(), "make".into()],
        env: vec!["PATH=/bin".into()],
        cwd: "/src".into(),
        user: "app".into(),
        mounts: vec![Mount {
            kind: MountKind::Bind { input: Some(0), selector: String::new() },
            destination: "/".into(),
            readonly: false,
            output: Some(0),
        }],
        ..Exec::default()
    }
}

fn copy() -> CopyAction {
    CopyAction {
        source: "/src".into(),
        destination: "/app/".into(),
        owner: Some(Owner { user: UserRef::Name("app".into()), group: Some(UserRef::Id(7)) }),
        mode: Some(0o755.into()),
        wildcard: true,
        allow_empty_wildcard: false,
        unpack: false,
        contents_only: true,
        parents: false,
        exclude: vec!["*.md".into()],
        linked: false,
    }
}

fn file(kind: FileActionKind) -> Operation {
    Operation::File(vec![FileAction { base: Some(0), from: Some(1), output: Some(0), kind }])
}

fn own(operation: Operation) -> String {
    Step::new(operation, "name").own_digest().short()
}

#[test]
fn the_digests_of_steps_are_pinned() {
    let image = Source::Image { reference: "any".into(), digest: Digest::of(b"") };
    let git = Git {
        remote: "https://git.example/app.git".into(),
        reference: Some("v1".into()),
        subdirectory: None,
        checksum: None,
        keep_git_dir: false,
        submodules: true,
    };
    let http = Http { url: "https://example/app.tar".into(), checksum: None, filename: "app.tar".into() };
    let mkfile = MkfileAction { path: "/app/file".into(), mode: 0o644, content: "text".into(), owner: None };
    let mkdir = MkdirAction { path: "/app".into(), mode: 0o755, owner: None };
    let digests = [
        own(Operation::Source(image)),
        own(Operation::Source(Source::Local { name: "context".into() })),
        own(Operation::Exec(exec())),
        own(file(FileActionKind::Copy(copy()))),
        own(file(FileActionKind::Mkdir(mkdir))),
        own(file(FileActionKind::Mkfile(mkfile))),
        own(Operation::Source(Source::Http(http))),
        own(Operation::Source(Source::Git(git))),
    ];
    assert_eq!(digests, PINNED);
}

fn cache(id: &str, sharing: Sharing) -> MountKind {
    MountKind::Cache { id: id.into(), sharing, input: Some(0), selector: String::new() }
}

fn credential() -> Credential {
    Credential { id: "key".into(), required: true, uid: 0, gid: 0, mode: 0o400 }
}

fn own_changed(change: fn(&mut Exec)) -> String {
    let mut changed = exec();
    change(&mut changed);
    own(Operation::Exec(changed))
}

#[test]
fn where_a_machine_is_does_not_count() {
    let here = own_changed(|exec| exec.hosts.push(Host { name: "db".into(), address: [10, 0, 0, 1].into() }));
    let there = own_changed(|exec| exec.hosts.push(Host { name: "db".into(), address: [10, 0, 0, 2].into() }));
    assert_eq!(here, there);
    assert_eq!(own_changed(|exec| exec.limits.cgroup_parent = Some("ci".into())), own(Operation::Exec(exec())));
}

#[test]
fn an_ignored_variable_does_not_count() {
    let ignoring = |names: &[&str], env: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        own(Operation::Exec(Exec { ignored_env: owned(names), env: owned(env), ..exec() }))
    };
    let expected = ignoring(&["B"], &["A=1", "C=1"]);
    assert_eq!(ignoring(&["B"], &["A=1", "B=1", "C=1"]), expected);
    assert_eq!(ignoring(&["B", "B"], &["A=1", "C=1", "B=2"]), expected);
    assert_eq!(ignoring(&["C", "B"], &[]), ignoring(&["B", "C"], &["B", "C="]));
    for (names, env) in [(&["B"][..], &["A=1"][..]), (&["B"], &["A=1", "C=1", "BB=1"]), (&[], &["A=1", "C=1"])] {
        assert_ne!(ignoring(names, env), expected, "{names:?} {env:?}");
    }
}

#[test]
fn every_field_of_an_exec_counts() {
    let changes: [fn(&mut Exec); 23] = [
        |exec| exec.args.push(String::new()),
        |exec| exec.env.push("A=b".into()),
        |exec| exec.cwd.push('x'),
        |exec| exec.user.clear(),
        |exec| exec.mounts.clear(),
        |exec| exec.mounts[0].readonly = true,
        |exec| exec.mounts[0].output = None,
        |exec| exec.network = Network::None,
        |exec| exec.security = Security::Insecure,
        |exec| exec.secret_env.push(SecretEnv { id: "key".into(), name: "KEY".into(), required: false }),
        |exec| exec.hosts.push(Host { name: "db".into(), address: [10, 0, 0, 1].into() }),
        |exec| exec.limits.ulimits.push(Ulimit { name: "nofile".into(), soft: 1, hard: 2 }),
        |exec| exec.mounts[0].kind = cache("id", Sharing::Shared),
        |exec| exec.mounts[0].kind = cache("id", Sharing::Locked),
        |exec| exec.mounts[0].kind = MountKind::Tmpfs { size: None },
        |exec| exec.mounts[0].kind = MountKind::Tmpfs { size: Some(0) },
        |exec| exec.mounts[0].kind = MountKind::Secret(credential()),
        |exec| exec.mounts[0].kind = MountKind::Ssh(credential()),
        |exec| exec.untraced = true,
        |exec| exec.hostname = "builder".into(),
        |exec| exec.ignored_env.push("PATH".into()),
        |exec| exec.ignored_env.push("B".into()),
        |exec| exec.ignored_env.extend(["B".into(), "C".into()]),
    ];
    let digests: BTreeSet<String> = changes.iter().map(|change| own_changed(*change)).collect();
    assert_eq!(digests.len(), changes.len(), "no two changes come to the same");
    assert!(!digests.contains(&own(Operation::Exec(exec()))));
}

#[test]
fn every_field_of_a_copy_counts() {
    let changes: [fn(&mut CopyAction); 13] = [
        |copy| copy.source.push('x'),
        |copy| copy.destination.push('x'),
        |copy| copy.owner = None,
        |copy| copy.owner = Some(Owner { user: UserRef::Name("app".into()), group: None }),
        |copy| copy.mode = None,
        |copy| copy.mode = Some(0.into()),
        |copy| copy.mode = Some(FileMode::Changes("u+x".parse().unwrap())),
        |copy| copy.wildcard = false,
        |copy| copy.allow_empty_wildcard = true,
        |copy| copy.unpack = true,
        |copy| copy.contents_only = false,
        |copy| copy.parents = true,
        |copy| copy.exclude.clear(),
    ];
    for change in changes {
        let mut changed = copy();
        change(&mut changed);
        let digest = own(file(FileActionKind::Copy(changed.clone())));
        assert_ne!(digest, own(file(FileActionKind::Copy(copy()))), "{changed:?}");
    }
}

#[test]
fn the_platform_counts_and_the_name_does_not() {
    let step = |name: &str, platform: Option<&str>| {
        let platform = platform.map(|text| text.parse::<Platform>().unwrap());
        Step { platform, ..Step::new(Operation::Exec(exec()), name) }
    };
    assert_eq!(step("a", None).own_digest(), step("b", None).own_digest());
    assert_ne!(step("a", None).own_digest(), step("a", Some("linux/amd64")).own_digest());
    assert_ne!(step("a", Some("linux/arm64")).own_digest(), step("a", Some("linux/amd64")).own_digest());
}

#[test]
fn a_merged_step_ignores_the_cache_if_either_did() {
    let mut graph = Graph::new();
    let first = graph.add(Step::new(Operation::Exec(exec()), "first"));
    let mut second = Step::new(Operation::Exec(exec()), "second");
    second.metadata.ignore_cache = Some(IgnoreCache::Always);
    assert_eq!(graph.add(second), first);
    assert_eq!(graph.step(first).metadata.ignore_cache, Some(IgnoreCache::Always));
    assert_eq!(graph.step(first).metadata.name, "first");
}

const PINNED: [&str; 8] = [
    "a0c38d9dc64b",
    "c6ab9b97a43e",
    "f6de71930b86",
    "54b977f5fb03",
    "a3a2696021c0",
    "2f381c929c25",
    "f00e67d201ce",
    "f0a62dcfa188",
];
