//! The keys are those that real ones of BuildKit wrote: of Docker 20.10, 26.1 and 28.5.

use std::collections::BTreeMap;

use kiln_solver::{
    CopyAction, Credential, Digest, Exec, FileAction, FileActionKind, Graph, Http, Input, Layer, MkdirAction,
    MkfileAction, Mount, MountKind, Network, Operation, Origin, Owner, Platform, Sharing, Source, Step, StepId,
    UserRef,
};

use super::{Contents, Record, Selector, Vertices, find, records};

/// Digests of parts of the context by their paths.
struct Known(&'static [(&'static str, &'static str)]);

impl Contents for Known {
    fn of_context(&self, _: &str, selectors: &[Selector]) -> Option<Vec<Digest>> {
        let digest = |selector: &Selector| {
            let (_, digest) = self.0.iter().find(|(path, _)| *path == selector.path)?;
            Some(digest.parse().unwrap())
        };
        selectors.iter().map(digest).collect()
    }

    fn layers_of(&self, _: &Digest) -> Option<Vec<Digest>> {
        Some(vec!["sha256:91cf245aa5053edf69948e02560586274abcfa2c3619e2ed6fc3fdaf3fd969a9".parse().unwrap()])
    }
}

const NOTHING: Known = Known(&[]);

struct Build {
    graph: Graph,
    last: Option<Input>,
}

impl Build {
    fn new() -> Self {
        Self { graph: Graph::new(), last: None }
    }

    fn add(&mut self, operation: Operation, inputs: Vec<Input>) -> Input {
        let platform = Some(Platform::new("linux", "amd64", None));
        let step = self.graph.add(Step { inputs, platform, ..Step::new(operation, "") });
        Input { step, output: 0 }
    }

    fn context(&mut self) -> Input {
        self.add(Operation::Source(Source::Local { name: "context".to_owned() }), Vec::new())
    }

    fn image(&mut self) {
        let digest = "sha256:f65b4b2d239b02bb496121fe14bc2d5cd54bba484bf331a8d0fc1756c5fb4778".parse().unwrap();
        let source = Source::Image { reference: "base".to_owned(), digest };
        self.last = Some(self.add(Operation::Source(source), Vec::new()));
    }

    /// Copies on top of what there is; without wildcards what kiln itself has made.
    fn copy(&mut self, from: Input, copies: Vec<CopyAction>) {
        let mut inputs: Vec<Input> = self.last.into_iter().collect();
        inputs.push(from);
        let (last, first) = (copies.len() - 1, inputs.len());
        let action = |(number, copy): (usize, CopyAction)| FileAction {
            base: if number == 0 { self.last.map(|_| 0) } else { Some(first + number - 1) },
            from: Some(first - 1),
            output: (number == last).then_some(0),
            kind: FileActionKind::Copy(copy),
        };
        let actions = copies.into_iter().enumerate().map(action).collect();
        self.last = Some(self.add(Operation::File(actions), inputs));
    }

    fn workdir(&mut self, path: &str, owner: Option<Owner>) {
        let kind = FileActionKind::Mkdir(MkdirAction { path: path.to_owned(), mode: 0o755, owner });
        let action = FileAction { base: Some(0), from: None, output: Some(0), kind };
        let base = self.last.unwrap();
        self.last = Some(self.add(Operation::File(vec![action]), vec![base]));
    }

    fn run(&mut self, command: &str, change: impl FnOnce(&mut Exec), more: &[Input]) {
        let root = Mount { kind: bind(0, ""), destination: "/".to_owned(), readonly: false, output: Some(0) };
        let mut exec = Exec {
            args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            cwd: "/".to_owned(),
            network: Network::None,
            mounts: vec![root],
            ..Exec::default()
        };
        change(&mut exec);
        let inputs = self.last.into_iter().chain(more.iter().copied()).collect();
        self.last = Some(self.add(Operation::Exec(exec), inputs));
    }

    fn vertices(&self, contents: &dyn Contents) -> Vertices {
        let all: Vec<StepId> = self.graph.steps().map(|(id, _)| id).collect();
        Vertices::of(&self.graph, &all, contents, None)
    }

    /// The first digits of the digests of the last step.
    fn last_digests(&self, contents: &dyn Contents) -> Vec<String> {
        let vertices = self.vertices(contents);
        let vertex = vertices.of.get(&self.last.unwrap().step);
        vertex.map_or_else(Vec::new, |vertex| {
            vertex.digests.iter().map(|(_, digest)| digest.hex()[..8].to_owned()).collect()
        })
    }
}

fn bind(input: usize, selector: &str) -> MountKind {
    MountKind::Bind { input: Some(input), selector: selector.to_owned() }
}

fn copied(source: &str, destination: &str) -> CopyAction {
    CopyAction {
        source: source.to_owned(),
        destination: destination.to_owned(),
        wildcard: true,
        allow_empty_wildcard: true,
        ..CopyAction::everything()
    }
}

fn environment(exec: &mut Exec, variables: &[&str]) {
    exec.env = variables.iter().map(|variable| (*variable).to_owned()).collect();
}

const HELLO: &str = "sha256:a51f5e8b4e3f0a6cd8fbd8d5ff5c6e8b0c7c9b0e0d9d5e3c1f6f4a8c6b9d0e1f";

/// A build without a base image, step by step.
#[test]
fn steps_go_by_the_keys_that_buildkit_gives_them() {
    let known = Known(&[("/busybox", HELLO), ("/a.txt", HELLO)]);
    let mut build = Build::new();
    let context = build.context();
    build.copy(context, vec![copied("/busybox", "/bin/sh")]);
    assert_eq!(build.last_digests(&known), ["e0290b35"]);
    build.workdir("/w", None);
    assert_eq!(build.last_digests(&known), ["f6515d8a"]);
    build.copy(context, vec![copied("/a.txt", "/w/")]);
    assert_eq!(build.last_digests(&known), ["35f0ed51"]);
    let variables = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FOO=bar"];
    let run = |exec: &mut Exec| {
        environment(exec, &variables);
        exec.cwd = "/w".to_owned();
    };
    build.run("echo hi > /w/x", run, &[]);
    // Newer generations say that they clean up after mounts.
    assert_eq!(build.last_digests(&known), ["2c24c3a4", "a80f7632"]);
    build.run("echo $FOO >y", run, &[]);
    assert_eq!(build.last_digests(&known), ["a2905a87", "dab7a2f0"]);
}

#[test]
fn images_go_by_manifest_and_by_layers() {
    let mut build = Build::new();
    build.image();
    assert_eq!(build.last_digests(&NOTHING), ["1e176a4b", "4f26d1f3"]);
}

#[test]
fn owners_modes_and_several_sources_are_part_of_keys() {
    let known = Known(&[("/x1.txt", HELLO), ("/x2.txt", HELLO), ("/*.txt", HELLO)]);
    let me = || UserRef::Name("me".to_owned());
    let mut build = Build::new();
    build.image();
    let context = build.context();
    build.workdir("/home/me", Some(Owner { user: me(), group: None }));
    assert_eq!(build.last_digests(&known), ["077fa3d8", "be69e13d"]);
    let owner = Some(Owner { user: me(), group: Some(me()) });
    let copy = |source: &str| CopyAction { owner: owner.clone(), ..copied(source, "/dd/") };
    build.copy(context, vec![copy("/x1.txt"), copy("/x2.txt")]);
    assert_eq!(build.last_digests(&known), ["5b7f9d15", "2a69e657"]);
    let owner = Some(Owner { user: UserRef::Id(1000), group: None });
    let mode = Some(kiln_solver::FileMode::Exact(0o600));
    build.copy(context, vec![CopyAction { owner, mode, ..copied("/*.txt", "/ee/") }]);
    assert_eq!(build.last_digests(&known), ["27de47e7", "a4204f9b"]);
}

#[test]
fn mounts_are_part_of_keys() {
    let known = Known(&[("/src", HELLO)]);
    let mut build = Build::new();
    build.image();
    let context = build.context();
    let mount = |kind: MountKind, destination: &str, readonly: bool| Mount {
        kind,
        destination: destination.to_owned(),
        readonly,
        output: None,
    };
    let run = |exec: &mut Exec| {
        environment(exec, &["PATH=/bin", "B=1", "V=1"]);
        let (id, sharing, selector) = ("//c".to_owned(), Sharing::Shared, String::new());
        exec.mounts.push(mount(MountKind::Cache { id, sharing, input: None, selector }, "/c", false));
        exec.mounts.push(mount(bind(1, "/src"), "/m", true));
        exec.mounts.push(mount(MountKind::Tmpfs { size: None }, "/t", false));
    };
    build.run("ls /m > /out2", run, &[context]);
    let digests = build.last_digests(&known);
    assert_eq!((digests.len(), &digests[0][..], &digests[2][..]), (3, "21b24a6c", "eba2f239"));
}

/// Each generation has a form of its own for caches that have a name, and for secrets.
#[test]
fn generations_write_mounts_in_their_own_ways() {
    let digests = |command: &str, kind: MountKind, destination: &str, readonly: bool| {
        let mut build = Build::new();
        build.image();
        let run = |exec: &mut Exec| {
            environment(exec, &["PATH=/bin", "B=1"]);
            (exec.cwd, exec.user) = ("/abs/x".to_owned(), "1000:1000".to_owned());
            exec.mounts.push(Mount { kind, destination: destination.to_owned(), readonly, output: None });
        };
        build.run(command, run, &[]);
        build.last_digests(&NOTHING)
    };
    let (id, sharing, selector) = ("/foo".to_owned(), Sharing::Locked, String::new());
    let cache = MountKind::Cache { id, sharing, input: None, selector };
    assert_eq!(digests("echo 1", cache, "/c", false), ["df881acf", "2e939f85", "2edc7def"]);
    let secret = MountKind::Secret(Credential { id: "s".to_owned(), required: false, uid: 0, gid: 0, mode: 0o400 });
    assert_eq!(digests("echo 4", secret, "/run/secrets/s", true), ["18439d15", "89f210a0", "dcfe5d1f"]);
}

#[test]
fn files_of_heredocs_are_copied_as_they_are() {
    let mut build = Build::new();
    build.image();
    let (path, content) = ("/EOT".to_owned(), "hello\n".to_owned());
    let kind = FileActionKind::Mkfile(MkfileAction { path, mode: 0o644, content, owner: None });
    let action = FileAction { base: None, from: None, output: Some(0), kind };
    let file = build.add(Operation::File(vec![action]), Vec::new());
    let base = build.last.replace(file);
    assert_eq!(build.last_digests(&NOTHING), ["df943c2e"]);
    build.last = base;
    build.copy(file, vec![CopyAction { wildcard: false, contents_only: false, ..copied("/EOT", "/heredoc") }]);
    assert_eq!(build.last_digests(&NOTHING), ["e3ea2627"]);
}

/// `--link` copies into an empty tree, which is laid over the one that there is.
#[test]
fn linked_copies_are_merged() {
    let known = Known(&[("/x1.txt", HELLO), ("/x2.txt", HELLO)]);
    let mut build = Build::new();
    build.image();
    let context = build.context();
    let copy = |source: &str| CopyAction { linked: true, ..copied(source, "/a/") };
    build.copy(context, vec![copy("/x1.txt"), copy("/x2.txt")]);
    assert_eq!(build.last_digests(&known)[1], "5dbfbafe");
    let vertices = build.vertices(&known);
    let records = records(&vertices, &BTreeMap::new());
    let digests: Vec<String> = records.iter().map(|record| record.digest.hex()[..8].to_owned()).collect();
    assert!(digests.contains(&"06739072".to_owned()), "{digests:?}");
    assert_eq!(find(&vertices, &records).len(), 2, "the base and the copy");
    // Another file is another copy, though it is merged in the same way.
    let mut other = Build::new();
    other.image();
    let context = other.context();
    other.copy(context, vec![copy("/x1.txt"), CopyAction { destination: "/b/".to_owned(), ..copy("/x2.txt") }]);
    assert_eq!(find(&other.vertices(&known), &records).len(), 1, "the base alone");
}

/// BuildKit does these in another way, or kiln says of them what it could not know.
#[test]
fn what_cannot_be_told_has_no_key_and_nothing_upon_it() {
    let refused: [fn(&mut Build, Input); 3] = [
        |build, context| build.copy(context, vec![CopyAction { parents: true, ..copied("/a", "/") }]),
        |build, context| build.copy(context, vec![copied("/unknown", "/")]),
        |build, _| build.run("true", |exec| exec.ignored_env.push("A".to_owned()), &[]),
    ];
    for refuse in refused {
        let known = Known(&[("/a", HELLO)]);
        let mut build = Build::new();
        build.image();
        let context = build.context();
        refuse(&mut build, context);
        assert!(build.last_digests(&known).is_empty());
        build.run("true", |_| {}, &[]);
        assert!(build.last_digests(&known).is_empty());
    }
    let mut build = Build::new();
    let http = Http { url: "http://example/a".to_owned(), checksum: None, filename: "a".to_owned() };
    let from = build.add(Operation::Source(Source::Http(http)), Vec::new());
    build.copy(from, vec![copied("/a", "/")]);
    assert!(build.last_digests(&NOTHING).is_empty());
}

fn layer(text: &str) -> Layer {
    Layer { diff_id: Digest::of(text.as_bytes()), origin: Origin::Built }
}

/// A base, a file of the context and two commands, with what the last one came to.
fn example(contents: &dyn Contents) -> (Build, Vertices, Vec<Record<Vec<Layer>>>) {
    let mut build = Build::new();
    build.image();
    let context = build.context();
    build.copy(context, vec![copied("/a", "/")]);
    build.run("make", |_| {}, &[]);
    build.run("make install", |_| {}, &[]);
    let vertices = build.vertices(contents);
    let results = BTreeMap::from([(build.last.unwrap().step, vec![layer("made")])]);
    let records = records(&vertices, &results);
    (build, vertices, records)
}

#[test]
fn what_is_written_is_found() {
    let known = Known(&[("/a", HELLO)]);
    let (build, vertices, records) = example(&known);
    let found = find(&vertices, &records);
    assert_eq!(found.len(), 4, "a base, a copy and two commands");
    let last = &found[&build.last.unwrap().step];
    assert!(!last.is_empty());
    assert!(last.iter().all(|number| records[*number].result.as_deref() == Some(&[layer("made")])));
}

#[test]
fn another_content_finds_nothing_that_hangs_on_it() {
    let (_, _, records) = example(&Known(&[("/a", HELLO)]));
    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let known: &'static [(&str, &str)] = Box::leak(Box::new([("/a", other)]));
    let (_, vertices, _) = example(&Known(known));
    assert_eq!(find(&vertices, &records).len(), 1, "the base alone");
}

/// BuildKit 0.25 and older read each end of a cache by itself, and lose links that ends share.
#[test]
fn a_cache_has_one_end() {
    let (_, _, records) = example(&Known(&[("/a", HELLO)]));
    let used: Vec<usize> =
        records.iter().flat_map(|record| record.inputs.iter().flatten().map(|(number, _)| *number)).collect();
    let ends = (0..records.len()).filter(|number| !used.contains(number)).count();
    assert_eq!(ends, 1);
}

#[test]
fn links_to_nowhere_are_no_hits() {
    let known = Known(&[("/a", HELLO)]);
    let (build, vertices, mut records) = example(&known);
    for record in &mut records {
        record.inputs.iter_mut().flatten().for_each(|(number, _)| *number += 1000);
    }
    assert!(!find(&vertices, &records).contains_key(&build.last.unwrap().step));
}
