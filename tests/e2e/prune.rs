//! What the store takes of the disk, and taking it away.

use kiln_tests::World;

const TEXT: &str = "FROM busybox AS build
RUN --network=none echo made > /made; echo spare > /spare
FROM busybox
COPY --from=build /made /made
RUN --network=none cat /made > /again
";

#[test]
fn du_adds_up_to_what_du_says() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", TEXT)]);
    world.build(&project).args(["-t", "app:1"]).succeeds();
    let outcome = world.kiln(["du", "--json"]).succeeds();
    let usage: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let usage = usage.as_array().unwrap();
    let total: u64 = usage.iter().map(|row| row["size"].as_u64().unwrap()).sum();
    let du = std::process::Command::new("du").args(["-s", "--block-size=1"]).arg(world.root()).output().unwrap();
    let du: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(total.abs_diff(du) * 100 <= du, "{total} and {du}");
    let needed = |image: &str| {
        let needs = |row: &&serde_json::Value| row["images"].as_array().unwrap().iter().any(|name| name == image);
        usage.iter().filter(needs).filter(|row| row["kind"] == "layer").count()
    };
    assert_eq!(needed("docker.io/library/app:1"), 3);
    let text = world.kiln(["du"]).succeeds();
    text.says_on_stdout("RECLAIMABLE").says_on_stdout("app:1 and 1 more").says_on_stdout("Total:");
}

#[test]
fn prune_leaves_images_whole_and_the_rest_is_built_again() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", TEXT)]);
    world.build(&project).args(["-t", "app:1"]).succeeds();
    let before = world.kiln(["inspect", "app:1"]).succeeds().stdout;
    world.kiln(["prune"]).fails_with(2).says("hint: say so with `--force`");
    let dry = world.kiln(["prune", "--dry-run", "-v"]).succeeds().stdout;
    let pruned = world.kiln(["prune", "-f", "-v"]).succeeds();
    assert_eq!(pruned.stdout, dry);
    pruned.says_on_stdout("layer").says_on_stdout("Total:");
    assert_eq!(world.kiln(["inspect", "app:1"]).succeeds().stdout, before);
    world.kiln(["prune", "-f"]).succeeds().says_on_stdout("Total:   0B");
    // What the image does not need is gone, and what it needs is found.
    let archive = project.join("../app.tar");
    let outcome = world.build(&project).args(["-o", &format!("type=oci,dest={}", archive.display())]).succeeds();
    outcome.cached("COPY --from=build").cached("RUN --network=none cat");
    project.write("Dockerfile", &TEXT.replace("/again", "/other"));
    world.build(&project).succeeds().cached("COPY --from=build").ran("RUN --network=none cat");
    world.kiln(["rmi"]).args(image_ids(&world)).succeeds();
    world.kiln(["prune", "-f", "--all"]).succeeds();
    world.build(&project).succeeds().ran("RUN --network=none echo").ran("COPY --from=build");
}

/// One build waits in a step while another kiln prunes all that there is.
#[test]
fn a_running_build_keeps_what_it_uses() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", TEXT)]);
    world.build(&project).succeeds();
    world.kiln(["rmi"]).args(image_ids(&world)).succeeds();
    let waiting = format!(
        "{TEXT}RUN --network=none --mount=type=cache,target=/c \
         echo waiting-$((1+1)); while [ ! -e /c/go ]; do sleep 0.02; done; echo went on | tee /last\n\
         RUN --network=none cat /made /again /last\n"
    );
    project.write("Dockerfile", &waiting);
    let mut running = world.build(&project).start();
    running.wait_for(" waiting-2");
    world.kiln(["prune", "-f", "--all"]).succeeds();
    std::fs::write(world.cache_mount().join("go"), "").unwrap();
    let outcome = running.finish();
    assert!(outcome.status.success(), "{outcome}");
    outcome.says("went on");
    world.kiln(["prune", "-f", "--all"]).succeeds();
    world.build(&project).succeeds().cached("RUN --network=none cat /made /again /last");
}

#[test]
fn filters_choose_what_is_shown_and_removed() {
    let world = World::new();
    let text = format!("{TEXT}RUN --network=none --mount=type=cache,id=of-tests,target=/c echo x > /c/x\n");
    let project = world.project(&[("Dockerfile", &text)]);
    world.build(&project).args(["-t", "app:1"]).succeeds();
    let shown = |args: &[&str]| -> Vec<serde_json::Value> {
        let outcome = world.kiln(["du", "--json"].iter().chain(args)).succeeds();
        serde_json::from_slice(&outcome.stdout).unwrap()
    };
    let mounts = shown(&["--filter", "type=exec.cachemount"]);
    assert_eq!((mounts.len(), &mounts[0]["description"]), (1, &"/of-tests".into()));
    world.kiln(["du"]).succeeds().says_on_stdout("cache mount `/of-tests`");
    assert!(shown(&["--filter", "shared"]).iter().all(|row| row["images"].as_array().unwrap().len() == 1));
    assert!(shown(&["--filter", "private", "--filter", "type!=layer"]).len() < shown(&["--filter", "private"]).len());
    world.kiln(["du", "--filter", "weather=fine"]).fails_with(2).says("no filter `weather=fine`");
    // Each layer lies on those that its steps and images have below it.
    let needed = shown(&["--filter", "description~=echo x > /c/x$"]);
    let is_it = |row: &&serde_json::Value| row["description"].as_str().is_some_and(|step| step.ends_with("> /c/x"));
    let made = needed.iter().find(is_it).unwrap();
    let parent = made["parents"][0].as_str().unwrap();
    let above = shown(&["--filter", &format!("parents={parent},immutable")]);
    assert!(above.contains(made) && needed.iter().any(|row| row["id"] == parent), "{needed:?}");
    let whole = world.kiln(["du", "-v", "--filter", "id=sha256:", "--filter", &format!("parents={parent}")]).succeeds();
    whole.says_on_stdout(&format!("ID:           {}\nParents:      {parent}\n", made["id"].as_str().unwrap()));
    whole.says_on_stdout("\nShared:       true\n").says_on_stdout("\nTotal:         ");
    let format = "table {{.Type}}\\t{{.Parents}}\\t{{.Reclaimable}}\\t{{.Description}}";
    let table = world.kiln(["du", "--filter", "type=exec.cachemount", "--format", format]).succeeds();
    assert_eq!(
        table.stdout_text(),
        "TYPE         PARENTS   RECLAIMABLE   DESCRIPTION\ncachemount   []        true          /of-tests\n"
    );
    let line = world.kiln(["du", "--filter", "type=cachemount", "--format=json"]).succeeds().stdout_text();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["Mutable"], &line["Type"]), (&true.into(), &"cachemount".into()));
    world.kiln(["du", "-v", "--format=json"]).fails_with(2);
    // The bounds are about the cache and not about the image.
    let prune = |args: &[&str]| world.kiln(["prune", "-f", "--all"].iter().chain(args)).succeeds().stdout_text();
    for args in [["--max-used-space", "1GB"], ["--keep-storage", "1GB"], ["--min-free-space", "1"], ["--until", "1h"]] {
        assert_eq!(prune(&args), "Total:   0B\n", "{args:?}");
    }
    let pruned = prune(&["--filter", "type=cachemount", "--filter", "description=/of-tests"]);
    assert!(pruned.contains("cachemount") && !pruned.contains("layer"), "{pruned}");
    assert!(prune(&[]).contains("layer"));
    world.build(&project).args(["-t", "app:1"]).succeeds();
    // An image that lost its name leaves a config that was made here, and not fetched.
    world.build(&project).args(["-t", "app:1", "--label", "again=1"]).succeeds();
    assert!(shown(&["--filter", "type=blob,private"]).iter().any(|row| row["fetched"] == false));
    world.kiln(["prune", "-f"]).succeeds();
    assert!(shown(&["--filter", "type=blob,private"]).iter().all(|row| row["fetched"] == true));
}

/// The rules of the configuration are applied after a build, by a process that nobody waits for.
#[test]
fn builds_prune_what_the_configuration_says() {
    let world = World::new();
    let registry = std::fs::read_to_string(world.path().join("kiln.toml")).unwrap();
    let due = || {
        let marker = std::fs::File::options().write(true).open(world.root().join("gc")).unwrap();
        marker.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    let is_due = || {
        let marker = std::fs::metadata(world.root().join("gc")).unwrap();
        marker.modified().unwrap() == std::time::SystemTime::UNIX_EPOCH
    };
    let project = world.project(&[("Dockerfile", TEXT)]);
    world.build(&project).args(["-t", "app:1"]).succeeds();
    let spare = || {
        let text = world.kiln(["du", "--json", "--filter", "type=layer,private"]).succeeds().stdout_text();
        serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap().len()
    };
    assert_eq!(spare(), 1, "the layer of the first stage");
    // Switched off, or with room enough, nothing goes.
    due();
    world.configure(&format!("{registry}\n[gc]\nenabled = false\n"));
    world.build(&project).succeeds();
    assert!(is_due());
    world.configure(&format!("{registry}\n[gc]\nmax-used-space = \"100%\"\n"));
    assert_eq!(world.kiln(["prune", "--gc"]).succeeds().stdout_text(), "Total:   0B\n");
    assert_eq!(spare(), 1);
    world.configure(&format!("{registry}\n[[worker.oci.gcpolicy]]\nfilters = [\"type==regular\"]\n"));
    // A failure is a note of the next build, and gone when it went well. Nobody looks into the store meanwhile: who does
    // keeps all that is there.
    std::fs::write(world.root().join("gc"), "the disk is on fire").unwrap();
    due();
    let build = world.build(&project).args(["-t", "app:1"]).succeeds();
    build.says("warning: old things of the cache were not pruned: the disk is on fire");
    world.until("it went well", || std::fs::metadata(world.root().join("gc")).unwrap().len() == 0);
    assert!(!is_due());
    assert_eq!(spare(), 0);
    world.build(&project).args(["-t", "app:1"]).succeeds().all_cached();
    // A build that fails has old things pruned, too.
    due();
    world.build(&world.project(&[("Dockerfile", "FROM busybox\nRUN false\n")])).fails();
    world.until("it was done", || !is_due());
    world.configure(&format!("{registry}\n[[gc.policy]]\nfilters = [\"type==weather\"]\n"));
    world.build(&project).fails().says("no type `weather`");
}

fn image_ids(world: &World) -> Vec<String> {
    let ids = world.kiln(["images", "-q", "--no-trunc"]).succeeds().stdout_text();
    ids.lines().map(str::to_owned).collect()
}
