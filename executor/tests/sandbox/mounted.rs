//! Whole steps with mounts, over a real store.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_executor::sandbox::Secret;
use kiln_executor::{Context, Credentials};
use kiln_solver::{
    Cancel, Credential, Digest, Exec, Graph, Input, LogStream, Mount, MountKind, Operation, Output, SecretEnv, Sharing,
    Step, StepError, Worker,
};

use crate::cases::Case;
use crate::steps::{Steps, shell, with_mounts};
use crate::world::World;

pub const ALL: &[(&str, Case)] = &[
    ("trees_of_steps_are_mounted", trees_of_steps_are_mounted),
    ("what_is_written_to_a_mount_can_be_an_output", what_is_written_to_a_mount_can_be_an_output),
    ("a_context_is_mounted_as_root_would_have_it", a_context_is_mounted_as_root_would_have_it),
    ("what_is_not_mounted_does_not_count", what_is_not_mounted_does_not_count),
    ("mounts_of_nothing_are_clear_errors", mounts_of_nothing_are_clear_errors),
    ("caches_outlive_steps", caches_outlive_steps),
    ("caches_begin_with_their_input", caches_begin_with_their_input),
    ("secrets_are_given_to_steps", secrets_are_given_to_steps),
    ("missing_secrets_are_clear_errors", missing_secrets_are_clear_errors),
];

fn bind(input: usize, selector: &str, destination: &str) -> Mount {
    let kind = MountKind::Bind { input: Some(input), selector: selector.to_owned() };
    Mount { kind, destination: destination.to_owned(), readonly: true, output: None }
}

fn cache(id: &str, sharing: Sharing, seed: Option<(usize, &str)>, destination: &str) -> Mount {
    let (input, selector) = seed.map_or((None, ""), |(input, selector)| (Some(input), selector));
    let kind = MountKind::Cache { id: id.to_owned(), sharing, input, selector: selector.to_owned() };
    Mount { kind, destination: destination.to_owned(), readonly: false, output: None }
}

fn base(steps: &Steps) -> Output {
    Output::Layers(vec![steps.base])
}

fn trees_of_steps_are_mounted(world: &World) {
    let steps = Steps::new(world);
    let made = steps.sh(&[steps.base], "mkdir -p /out/deep && echo one > /out/deep/file && ln -s out/deep /link");
    let made = Output::Layers(steps.sh(&made, "rm -r /data; echo two > /out/two"));
    let inputs = [base(&steps), made];
    let mounts = vec![bind(1, "/", "/all"), bind(1, "/link/file", "/one"), bind(1, "out", "/new/place")];
    let script = "cat /one /new/place/two; ls /all /all/link; touch /new/place/x 2>&1 | grep -o Read-only";
    let said = steps.mounting(&inputs, mounts, script);
    assert_eq!(said, "one\ntwo\n/all:\nbin\netc\nlink\nout\ntmp\n\n/all/link:\nfile\nRead-only\n");
    let writable = Mount { readonly: false, ..bind(1, "/out", "/out") };
    let script = "rm -r /out/deep && echo x > /out/two && ls /out";
    assert_eq!(steps.mounting(&inputs, vec![writable.clone()], script), "two\n");
    assert_eq!(steps.mounting(&inputs, vec![writable], "cat /out/two /out/deep/file"), "two\none\n");
    let empty = MountKind::Bind { input: None, selector: "/".to_owned() };
    let empty = Mount { kind: empty, destination: "/e".to_owned(), readonly: false, output: None };
    assert_eq!(steps.mounting(&inputs, vec![empty], "touch /e/x; ls /e"), "x\n");
    steps.nothing_is_left();
}

fn what_is_written_to_a_mount_can_be_an_output(world: &World) {
    let steps = Steps::new(world);
    let other = Output::Layers(steps.sh(&[steps.base], "mkdir /out; echo low > /out/low"));
    let mounted = Mount { readonly: false, output: Some(1), ..bind(1, "/out", "/m") };
    let exec = with_mounts(shell("echo root > /root-file; rm /m/low; echo high > /m/high"), vec![mounted]);
    let (outputs, _) = steps.run(&[base(&steps), other.clone()], exec);
    let outputs = outputs.unwrap();
    let [Output::Layers(root), Output::Layers(out)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((root.len(), out.len()), (2, 3));
    assert_eq!(steps.paths(&root[1]), ["root-file"]);
    assert_eq!(steps.paths(&out[2]), ["out", "out/high", "out/low"]);
    let unchanged = Mount { output: Some(1), ..bind(1, "/out", "/m") };
    let (outputs, _) = steps.run(&[base(&steps), other.clone()], with_mounts(shell("true"), vec![unchanged]));
    assert_eq!(outputs.unwrap()[1], other);
    let twice = Mount { readonly: false, output: Some(0), ..bind(1, "/out", "/m") };
    let (outputs, _) = steps.run(&[base(&steps), other], with_mounts(shell("true"), vec![twice]));
    assert!(outputs.unwrap_err().to_string().contains("malformed step"));
}

fn fill(context: &Path) {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::create_dir_all(context.join("src/deep")).unwrap();
    for (name, text) in [("src/deep/a", "a\n"), ("src/b", "b\n"), ("secret", "no"), ("readme", "hello\n")] {
        fs::write(context.join(name), text).unwrap();
        fs::File::options().write(true).open(context.join(name)).unwrap().set_modified(old).unwrap();
    }
    fs::set_permissions(context.join("src/b"), PermissionsExt::from_mode(0o750)).unwrap();
}

fn with_context(world: &World) -> (Steps, std::path::PathBuf) {
    let directory = world.directory();
    fill(&directory);
    (reopened(world, &directory), directory)
}

fn reopened(world: &World, directory: &Path) -> Steps {
    let ignore = kiln_parser::ignore::Ignore::parse("secret\n").unwrap();
    let context = Context::open("context", directory, ignore, world.directory()).unwrap();
    Steps::over(world, BTreeMap::from([("context".to_owned(), Arc::new(context))]), |executor| executor)
}

fn a_context_is_mounted_as_root_would_have_it(world: &World) {
    let (steps, directory) = with_context(world);
    let inputs = [base(&steps), Output::Local("context".to_owned())];
    let script = "cd /m; find . -type f | sort; stat -c '%u:%g %a %Y' src/b; cat src/deep/a; ls -l /b | wc -l; \
                  touch x 2>&1 | grep -o Read-only";
    let mounts = || vec![bind(1, "/", "/m"), bind(1, "/src/b", "/b"), bind(1, "src", "/s")];
    let expected = "./readme\n./src/b\n./src/deep/a\n0:0 750 1000000000\na\n1\nRead-only\n";
    assert_eq!(steps.mounting(&inputs, mounts(), script), expected);
    let layers = || fs::read_dir(steps.store.root().join("layers")).unwrap().count();
    let before = layers();
    // What is there already is not copied again, and what comes later is not seen.
    fs::write(directory.join("late"), "x").unwrap();
    assert_eq!(steps.mounting(&inputs, mounts(), script), expected);
    assert_eq!(layers(), before);
}

fn what_is_not_mounted_does_not_count(world: &World) {
    let content = |directory: &Path, mount: Mount| {
        let steps = reopened(world, directory);
        let mut graph = Graph::new();
        let source = graph.add(Step::new(Operation::File(Vec::new()), "input"));
        let mut step = Step::new(Operation::Exec(with_mounts(shell("true"), vec![mount])), "test");
        step.inputs = vec![Input { step: source, output: 0 }; 2];
        let output = Output::Local("context".to_owned());
        steps.executor.content(&step, 1, &output, &Cancel::new()).unwrap().unwrap()
    };
    let directory = world.directory();
    fill(&directory);
    let mounts = || {
        [
            bind(1, "/src", "/m"),
            bind(1, "/readme", "/m"),
            bind(1, "/", "/m"),
            cache("c", Sharing::Shared, Some((1, "/src")), "/m"),
            Mount { readonly: false, output: Some(1), ..bind(1, "/src", "/m") },
        ]
    };
    let all = || -> Vec<Digest> { mounts().into_iter().map(|mount| content(&directory, mount)).collect() };
    let changed = |before: &[Digest]| -> Vec<bool> { all().iter().zip(before).map(|(a, b)| a != b).collect() };
    let before = all();
    fs::write(directory.join("readme"), "changed").unwrap();
    assert_eq!(changed(&before), [false, true, true, false, true]);
    let before = all();
    fs::set_permissions(directory.join("src"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(changed(&before), [true, false, true, true, true]);
    let before = all();
    fs::write(directory.join("secret"), "ignored").unwrap();
    assert_eq!(changed(&before), [false; 5]);
    // A tree of layers: by what is selected of it, by its layers where it is an output.
    let steps = Steps::new(world);
    let one = steps.sh(&[steps.base], "mkdir /a /b; echo 1 > /a/x; echo 1 > /b/x");
    let two = steps.sh(&[steps.base], "mkdir /a /b; echo 1 > /a/x; echo 2 > /b/x");
    let seen = |layers: &[kiln_solver::Layer], mount: Mount| {
        let mut graph = Graph::new();
        let source = graph.add(Step::new(Operation::File(Vec::new()), "input"));
        let mut step = Step::new(Operation::Exec(with_mounts(shell("true"), vec![mount])), "test");
        step.inputs = vec![Input { step: source, output: 0 }; 2];
        steps.executor.content(&step, 1, &Output::Layers(layers.to_vec()), &Cancel::new()).unwrap().unwrap()
    };
    assert_eq!(seen(&one, bind(1, "/a", "/m")), seen(&two, bind(1, "/a", "/m")));
    assert_ne!(seen(&one, bind(1, "/b", "/m")), seen(&two, bind(1, "/b", "/m")));
    assert_ne!(seen(&one, bind(1, "/", "/m")), seen(&two, bind(1, "/", "/m")));
    let output = || Mount { readonly: false, output: Some(1), ..bind(1, "/a", "/m") };
    assert_ne!(seen(&one, output()), seen(&two, output()));
}

fn fails(steps: &Steps, inputs: &[Output], exec: Exec, words: &[&str]) {
    let (result, _) = steps.run(inputs, exec);
    let error = result.unwrap_err();
    let chain = format!("{error} {}", std::error::Error::source(&error).map_or(String::new(), ToString::to_string));
    assert!(words.iter().all(|word| chain.contains(word)), "{chain}");
    steps.nothing_is_left();
}

fn mounts_of_nothing_are_clear_errors(world: &World) {
    let (steps, _) = with_context(world);
    let inputs = [base(&steps), Output::Local("context".to_owned()), Output::Layers(Vec::new())];
    let exec = |mount| with_mounts(shell("true"), vec![mount]);
    fails(&steps, &inputs, exec(bind(0, "/data/fil", "/m")), &["/m", "`/data/fil`", "hint: there is `/data/file`"]);
    fails(&steps, &inputs, exec(bind(1, "/secret", "/m")), &["/m", "`/secret`", ".dockerignore"]);
    fails(&steps, &inputs, exec(bind(1, "/src/b/x", "/m")), &["/m", "/src/b", "not a directory"]);
    fails(&steps, &inputs, exec(bind(2, "/x", "/m")), &["/m", "`/x`", "empty tree"]);
    fails(&steps, &inputs, exec(bind(7, "/", "/m")), &["malformed step"]);
    fails(&steps, &inputs, exec(bind(0, "/", "/x/..")), &["malformed step", "`/`"]);
    fails(&steps, &inputs, exec(cache("c", Sharing::Locked, Some((0, "/no")), "/m")), &["/m", "`/no`"]);
}

fn caches_outlive_steps(world: &World) {
    let steps = Steps::new(world);
    let inputs = [base(&steps)];
    let with = |id: &str, sharing| vec![cache(id, sharing, None, "/root/.cache")];
    let script = "stat -c '%u:%g %a' /root/.cache; ls /root/.cache; touch /root/.cache/$(ls /root/.cache | wc -l)";
    for sharing in [Sharing::Shared, Sharing::Private, Sharing::Locked] {
        let id = format!("{sharing:?}/../../x");
        assert_eq!(steps.mounting(&inputs, with(&id, sharing), script), "0:0 755\n");
        assert_eq!(steps.mounting(&inputs, with(&id, sharing), script), "0:0 755\n0\n");
        assert_eq!(steps.mounting(&inputs, with(&id, Sharing::Shared), "ls /root/.cache"), "0\n1\n");
    }
    // The same one at two places of one command, and another beside it.
    let mounts = [with("a", Sharing::Locked), with("b", Sharing::Shared)].concat();
    let mounts = mounts.into_iter().zip(["/a", "/b"]).map(|(mount, at)| Mount { destination: at.to_owned(), ..mount });
    let again = cache("a", Sharing::Shared, None, "/a2");
    let script = "touch /a/x; ls /a2 /b; rm -rf /a2/x; ls /a";
    assert_eq!(steps.mounting(&inputs, mounts.chain([again]).collect(), script), "/a2:\nx\n\n/b:\n");
    let ids: Vec<String> = fs::read_dir(steps.store.root().join("mounts"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path().join("id")).unwrap())
        .collect();
    assert_eq!(ids.len(), 5, "{ids:?}");
    assert!(ids.contains(&"Shared/../../x".to_owned()));
    steps.nothing_is_left();
}

fn caches_begin_with_their_input(world: &World) {
    let (steps, _) = with_context(world);
    let made = steps.sh(&[steps.base], "mkdir -m 700 /cache; echo seed > /cache/seed; rm /data/file");
    let inputs = [base(&steps), Output::Layers(made), Output::Local("context".to_owned())];
    let seeded = |seed| vec![cache("c", Sharing::Shared, Some(seed), "/c")];
    assert_eq!(steps.mounting(&inputs, seeded((1, "/cache")), "stat -c %a /c; cat /c/seed; rm /c/seed"), "700\nseed\n");
    assert_eq!(steps.mounting(&inputs, seeded((1, "/cache")), "ls /c; echo again"), "again\n");
    assert_eq!(
        steps.mounting(&inputs, seeded((1, "/data")), "ls /c"),
        "gone\nold\n",
        "another beginning, another cache"
    );
    assert_eq!(steps.mounting(&inputs, seeded((2, "/")), "ls /c"), "readme\nsrc\n");
    steps.nothing_is_left();
}

const SECRET: &str = "correct horse battery staple";

fn with_secrets(world: &World) -> Steps {
    let secrets = [("pass", SECRET.as_bytes()), ("bytes", b"a\0b\xff")];
    let secrets = secrets.map(|(id, bytes)| (id.to_owned(), Secret::new(bytes.to_vec())));
    let credentials = Credentials { secrets: BTreeMap::from(secrets), ..Credentials::default() };
    Steps::over(world, BTreeMap::new(), |executor| executor.with_credentials(credentials))
}

fn secret(id: &str, required: bool) -> Mount {
    let kind = MountKind::Secret(Credential { id: id.to_owned(), required, uid: 0, gid: 0, mode: 0o400 });
    Mount { kind, destination: format!("/run/secrets/{id}"), readonly: true, output: None }
}

fn variable(id: &str, name: &str, required: bool) -> SecretEnv {
    SecretEnv { id: id.to_owned(), name: name.to_owned(), required }
}

fn secrets_are_given_to_steps(world: &World) {
    let steps = with_secrets(world);
    let script = "cat /run/secrets/pass; echo; wc -c < /run/secrets/bytes; ls /run/secrets; echo $PASS; \
                  test -z ${NONE+x} && echo unset; rm -f /run/secrets/pass; env | grep -c ^PASS=";
    let mut exec = with_mounts(shell(script), vec![secret("pass", true), secret("bytes", false), secret("no", false)]);
    exec.env.push("PASS=public".to_owned());
    exec.secret_env = vec![variable("pass", "PASS", true), variable("no", "NONE", false)];
    let (result, log) = steps.run(&[base(&steps)], exec);
    let expected = format!("{SECRET}\n4\nbytes\npass\n{SECRET}\nunset\n1\n");
    assert_eq!(log.text(LogStream::Stdout), expected, "{result:?}");
    let Ok([Output::Layers(layers)]) = result.as_deref() else { panic!("{result:?}") };
    assert!(steps.paths(&layers[1]).is_empty());
    let mut found = Vec::new();
    search(steps.store.root(), SECRET.as_bytes(), &mut found);
    assert!(found.is_empty(), "{found:?}");
}

fn search(directory: &Path, needle: &[u8], found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            search(&path, needle, found);
        } else if kind.is_file() && fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle) {
            found.push(path);
        }
    }
}

fn missing_secrets_are_clear_errors(world: &World) {
    let steps = with_secrets(world);
    let inputs = [base(&steps)];
    let missing = with_mounts(shell("true"), vec![secret("no", true)]);
    fails(&steps, &inputs, missing, &["secret `no`", "/run/secrets/no", "hint: give it with `--secret id=no"]);
    let env = |id: &str| Exec { secret_env: vec![variable(id, "TOKEN", true)], ..shell("true") };
    fails(&steps, &inputs, env("no"), &["secret `no`", "variable `TOKEN`", "hint: "]);
    fails(&steps, &inputs, env("bytes"), &["secret `bytes`", "variable `TOKEN`", "not UTF-8"]);
    let agent = MountKind::Ssh(Credential { id: "default".to_owned(), required: true, uid: 0, gid: 0, mode: 0o600 });
    let agent = Mount { kind: agent, destination: "/run/agent".to_owned(), readonly: true, output: None };
    fails(&steps, &inputs, with_mounts(shell("true"), vec![agent]), &["ssh agent `default`", "/run/agent", "--ssh"]);
    // What a command is refused for does not show them either.
    let mut exec = env("pass");
    exec.args = vec!["/no/such/program".to_owned()];
    let (result, log) = steps.run(&inputs, exec);
    assert!(matches!(result, Err(StepError::ExitCode(127))));
    assert!(!log.text(LogStream::Stderr).contains(SECRET));
}
