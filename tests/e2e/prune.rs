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
        "{TEXT}RUN --network=none echo waiting; sleep 4; echo went on | tee /last\n\
         RUN --network=none cat /made /again /last\n"
    );
    project.write("Dockerfile", &waiting);
    let mut running = world.build(&project).start();
    running.wait_for("waiting");
    world.kiln(["prune", "-f", "--all"]).succeeds();
    let outcome = running.finish();
    assert!(outcome.status.success(), "{outcome}");
    outcome.says("went on");
    world.kiln(["prune", "-f", "--all"]).succeeds();
    world.build(&project).succeeds().cached("RUN --network=none cat /made /again /last");
}

fn image_ids(world: &World) -> Vec<String> {
    let ids = world.kiln(["images", "-q", "--no-trunc"]).succeeds().stdout_text();
    ids.lines().map(str::to_owned).collect()
}
