//! `kiln history`: what is known of the builds of the past.

use std::collections::BTreeMap;
use std::io::Read as _;

use kiln_tests::World;
use rustix::process::Signal;

/// The builds of a world, the last one first.
fn builds(world: &World) -> Vec<serde_json::Value> {
    let text = world.kiln(["history", "ls", "--format=json"]).succeeds().stdout_text();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn inspect(world: &World, build: &str) -> serde_json::Value {
    let text = world.kiln(["history", "inspect", build, "--format=json"]).succeeds().stdout_text();
    serde_json::from_str(&text).unwrap()
}

/// The status and the key of the step whose name has this in it.
fn step(build: &serde_json::Value, name: &str) -> (String, String) {
    let steps = build["Steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["Name"].as_str().unwrap().contains(name)).expect(name);
    let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
    (text("Status"), text("CacheKey"))
}

#[test]
fn builds_are_kept_with_all_that_they_printed() {
    let world = World::new();
    assert_eq!(world.kiln(["history"]).succeeds().stdout_text().lines().count(), 1);
    world.kiln(["history", "logs"]).fails().says("no build in the history yet");
    let dockerfile = "FROM busybox AS one\nARG A\nRUN echo out; echo err >&2; printf '\\377\\033[2Jlast'\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    let args = ["-t", "app:1", "--target", "one", "--build-arg", "A=b", "--build-arg", "HTTP_PROXY=http://u:pw@p"];
    let live = world.build(&project).args(args).succeeds();
    world.build(&project).args(args).succeeds().all_cached();

    let listed = builds(&world);
    assert_eq!(listed.iter().map(|build| build["status"].as_str().unwrap()).collect::<Vec<_>>(), ["Completed"; 2]);
    assert_eq!(listed[0]["total_steps"], listed[0]["completed_steps"]);
    let table = world.kiln(["history"]).succeeds().stdout_text();
    assert!(table.starts_with("BUILD ID") && table.lines().count() == 3, "{table}");
    let id = listed[1]["ref"].as_str().unwrap();
    assert_eq!(world.kiln(["history", "-q"]).succeeds().stdout_text().lines().nth(1), Some(id));

    let first = inspect(&world, "^1");
    assert_eq!(first, inspect(&world, &id[..12]));
    assert_eq!(
        (&first["Target"], &first["Tags"][0], &first["Status"]),
        (&"one".into(), &"app:1".into(), &"Completed".into())
    );
    assert_eq!(first["Context"], project.path().to_str().unwrap());
    assert_eq!(first["BuildArgs"], serde_json::json!([{ "Name": "A", "Value": "b" }]), "a proxy may hold a password");
    assert_eq!(step(&first, "RUN echo"), ("done".into(), "".into()));
    assert_eq!(step(&inspect(&world, "^0"), "RUN echo"), ("cached".into(), "definition".into()));
    assert!(first["Image"].as_str().unwrap().starts_with("sha256:"));
    world
        .kiln(["history", "inspect"])
        .succeeds()
        .stdout_text()
        .lines()
        .find(|line| line.starts_with("Build steps:"))
        .unwrap();

    let logs = world.kiln(["history", "logs", id]).succeeds().stdout_text();
    assert_eq!(logs.trim_end(), live.stderr.trim_end());
    let raw = world.kiln(["history", "logs", "--raw", id]).succeeds().stdout;
    // Each stream in its own order, whatever became of theirs.
    let raw = String::from_utf8_lossy(&raw).replace("err\n", "");
    assert_eq!(raw, "out\n\u{fffd}\x1b[2Jlast");
    let json = world.kiln(["history", "logs", "--progress=rawjson", id]).succeeds().stdout_text();
    assert!(
        json.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()) && json.contains("\"logs\"")
    );

    world.kiln(["history", "rm", id]).succeeds();
    world.kiln(["history", "inspect", id]).fails().says("no build");
    assert_eq!(builds(&world).len(), 1);
    world.kiln(["history", "rm", "--all"]).succeeds();
    assert!(builds(&world).is_empty());
    assert!(world.kiln(["history", "image", "app:1"]).succeeds().stdout_text().contains("RUN"));
    assert!(world.kiln(["history", "app:1", "-q"]).succeeds().stdout_text().contains("<missing>"));
}

#[test]
fn builds_that_fail_say_where() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN true\nRUN echo gone wrong; false\n")]);
    world.build(&project).fails();
    let failed = inspect(&world, "^0");
    assert_eq!((&failed["Status"], &failed["Error"]["Place"]), (&"Error".into(), &"Dockerfile:3".into()));
    assert!(failed["Error"]["Message"].as_str().unwrap().contains("exit code: 1"));
    assert_eq!(step(&failed, "RUN echo gone").0, "error");
    project.write("Dockerfile", "FROM busybox\nRUNN true\n");
    world.build(&project).fails();
    let refused = inspect(&world, "^0");
    assert_eq!((&refused["Status"], &refused["Error"]["Place"]), (&"Error".into(), &"Dockerfile:2".into()));
    assert!(!refused["Error"]["Message"].as_str().unwrap().is_empty());
    world.build(&project).args(["--check"]).run();
    assert_eq!(builds(&world).len(), 2, "a check is no build");
}

#[test]
fn stopped_and_killed_builds_are_told_apart() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo began-$((1+1)); sleep 1000\n")]);
    for (signal, status) in [(Signal::INT, "Canceled"), (Signal::KILL, "Interrupted")] {
        let mut running = world.build(&project).start();
        running.wait_for(" began-2");
        assert_eq!(builds(&world)[0]["status"], "Running");
        let id = builds(&world)[0]["ref"].as_str().unwrap().to_owned();
        world.kiln(["history", "rm", &id]).fails().says("still running");
        running.signal(signal);
        running.finish();
        let build = inspect(&world, &id);
        assert_eq!(build["Status"], status);
        let expected = if signal == Signal::INT { "canceled" } else { "unfinished" };
        assert_eq!(step(&build, "RUN echo began").0, expected);
        assert!(world.kiln(["history", "logs", &id]).succeeds().stdout_text().contains(" began-2"));
    }
}

#[test]
fn the_history_is_bounded() {
    let world = World::new();
    let registry = std::fs::read_to_string(world.path().join("kiln.toml")).unwrap();
    world.configure(&format!("{registry}\n[history]\nmax-entries = 2\nmax-age = 0\n"));
    let project = world.project(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    for _ in 0..5 {
        // The next look is due at once, not a minute later.
        let _ = std::fs::remove_file(world.root().join("history/pruned"));
        world.build(&project).succeeds();
    }
    // Pruning goes on beside the build and ends with it: what it did not reach it takes the next time.
    let count = builds(&world).len();
    assert!((2..5).contains(&count), "{count}");
    world.configure(&format!("{registry}\n[history]\nmax-age = \"soon\"\n"));
    world.build(&project).fails().says("max-age");
}

/// The reasons of the step whose name has this in it, as messages.
fn reasons(steps: &serde_json::Value, name: &str) -> Vec<String> {
    let steps = steps.as_array().unwrap();
    let step = steps.iter().find(|step| step["Name"].as_str().unwrap().contains(name)).expect(name);
    let reasons = step["Reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    reasons.iter().map(|reason| reason["Message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn why_steps_ran_is_kept_and_builds_are_compared() {
    let world = World::new();
    world.kiln(["history", "diff"]).fails().says("no build in the history yet");
    let text = "FROM busybox AS args\nARG V=1\nRUN --network=none echo $V > /version\nFROM busybox\nCOPY a /app/\n\
                RUN --network=none cat /app/a > /out\nCOPY --from=args /version /\n";
    let project = world.project(&[("Dockerfile", text), ("a", "1\n")]);
    world.build(&project).succeeds();
    world.kiln(["history", "diff"]).fails().says("no earlier build like");
    // Another build in between is not what the next one is compared with.
    let other = world.project(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    world.build(&other).succeeds();
    project.write("a", "2\n");
    project.write("Dockerfile", &format!("{text}RUN --network=none true\n"));
    world.build(&project).args(["--build-arg", "V=2", "-t", "app"]).succeeds();

    let first = inspect(&world, "^2");
    assert_eq!(reasons(&first["Steps"], "RUN --network=none cat"), ["never built here"]);
    let last = inspect(&world, "^0");
    assert_eq!(reasons(&last["Steps"], "echo 2"), ["`variable V`: 1 → 2"]);
    assert_eq!(step(&last, "COPY a"), ("done".into(), "".into()));
    let edit = "`/app/a`: content 4355a46b19d3 → content 53c234e5e847";
    assert_eq!(reasons(&last["Steps"], "COPY a"), [edit]);
    let looked_at = format!("{edit}, which this step looked at");
    assert_eq!(reasons(&last["Steps"], "cat /app/a"), [&*looked_at]);
    world.kiln(["history", "inspect"]).succeeds().says_on_stdout(&looked_at);

    for args in [&["history", "diff", "--format=json"][..], &["history", "diff", "--format=json", "^2", "^0"]] {
        let text = world.kiln(args).succeeds().stdout_text();
        let diff: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&diff["Was"]["Ref"], &diff["Is"]["Ref"]), (&first["Ref"], &last["Ref"]));
        let changes = diff["Changes"].as_array().unwrap().iter().map(|change| change["Name"].as_str().unwrap());
        assert_eq!(changes.collect::<Vec<_>>(), ["Image", "Tags", "Build arg V"]);
        assert!(diff["Dockerfile"].as_str().unwrap().contains("\n+RUN --network=none true\n"));
        assert_eq!(reasons(&diff["Steps"], "cat /app/a"), [&*looked_at]);
        let copied =
            diff["Steps"].as_array().unwrap().iter().find(|step| step["Name"].as_str().unwrap().contains("COPY a"));
        let layer = |which: &str| copied.unwrap()[which]["Layer"].as_str().unwrap().to_owned();
        assert!(layer("Was").starts_with("sha256:") && layer("Was") != layer("Is"));
        let added = diff["Steps"].as_array().unwrap().iter().filter(|step| step["Change"] == "added");
        let added: Vec<&str> = added.map(|step| step["Name"].as_str().unwrap()).collect();
        assert!(added.len() == 1 && added[0].contains("RUN --network=none true"), "{added:?}");
    }
    let pretty = world.kiln(["history", "diff"]).succeeds();
    pretty.says_on_stdout(&looked_at).says_on_stdout("  +RUN --network=none true");
    world.build(&project).args(["--build-arg", "V=2", "-t", "app"]).succeeds().all_cached();
    world.kiln(["history", "diff", "^1", "^1"]).succeeds().says_on_stdout("WAS");
    world.kiln(["history", "diff", "^1", "nothing"]).fails().says("no build");
    world.kiln(["history", "diff", "^1", "^1", "^1"]).fails_with(2);
}

/// What a hit did not mind is kept, too, and so is why commands could not be observed.
#[test]
fn what_hits_ignored_is_kept() {
    let world = World::new();
    let text = "FROM busybox\nCOPY . /app\nRUN --network=none cat /app/read > /out\n";
    let project = world.project(&[("Dockerfile", text), ("read", "1"), ("other", "1")]);
    world.build(&project).succeeds();
    project.write("other", "2");
    world.build(&project).succeeds();
    let build = inspect(&world, "^0");
    assert_eq!(step(&build, "RUN"), ("cached".into(), "observations".into()));
    assert_eq!(reasons(&build["Steps"], "RUN").len(), 1);
    world.kiln(["history", "inspect"]).succeeds().says_on_stdout("although `/app/other`: content ");
    world.build(&project).args(["--trace=off", "--no-cache"]).succeeds();
    assert_eq!(reasons(&inspect(&world, "^0")["Steps"], "RUN"), ["the cache was not to be used"]);
}

#[test]
fn a_build_is_handed_on_as_a_trace_and_as_a_bundle() {
    let world = World::new();
    world.kiln(["history", "export", "--all"]).fails().says("no build in the history yet");
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo out; echo err >&2\n")]);
    world.build(&project).args(["-t", "app:1"]).succeeds();
    project.write("Dockerfile", "FROM busybox\nRUN echo out; exit 7\n");
    world.build(&project).fails();
    let build = inspect(&world, "^0");

    let trace = |args: &[&str]| -> serde_json::Value {
        let outcome = world.kiln(["history", "trace"].iter().chain(args)).succeeds();
        serde_json::from_slice(&outcome.stdout).unwrap()
    };
    let one = trace(&[]);
    let spans = one["data"][0]["spans"].as_array().unwrap();
    assert_eq!(spans.len(), build["Steps"].as_array().unwrap().len() + 1);
    let failed = spans.iter().find(|span| span["operationName"].as_str().unwrap().contains("exit 7")).unwrap();
    assert!(failed["tags"].as_array().unwrap().iter().any(|tag| tag["key"] == "error" && tag["value"] == true));
    assert_eq!(failed["references"][0]["spanID"], spans[0]["spanID"]);
    assert_eq!(trace(&["^0", "--compare", "^1"])["data"][0], one["data"][0]);

    let path = project.join("../two.dockerbuild");
    world.kiln(["history", "export", "--all", "-o"]).args([&path]).succeeds();
    let bundle = files(&std::fs::read(&path).unwrap());
    let document = |descriptor: &serde_json::Value| -> &[u8] {
        let bytes = &bundle[&format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))];
        assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().unwrap());
        bytes
    };
    let json = |bytes: &[u8]| -> serde_json::Value { serde_json::from_slice(bytes).unwrap() };
    let index = json(document(&json(&bundle["index.json"])["manifests"][0]));
    assert_eq!(index["manifests"][0]["annotations"]["vnd.buildkit.history.reference"], build["Ref"]);
    let manifest = json(document(&index["manifests"][0]));
    let record = json(document(&manifest["config"]));
    assert_eq!((&record["Ref"], &record["numTotalSteps"]), (&build["Ref"], &build["NumTotalSteps"]));
    assert!(record["error"]["message"].as_str().unwrap().contains("exit code: 7"));
    assert_eq!(record["logs"]["digest"], manifest["layers"][1]["digest"]);
    let status = document(&manifest["layers"][1]);
    assert!(status.windows(4).any(|bytes| bytes == b"out\n"));
    assert_eq!(world.kiln(["history", "export", "--all"]).succeeds().stdout, std::fs::read(&path).unwrap());
    assert_eq!(files(&world.kiln(["history", "export", "^1"]).succeeds().stdout).len(), 6);
}

/// The files of a compressed archive.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
    }
    files
}
