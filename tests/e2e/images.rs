//! `kiln images`, `tag`, `rmi`, `inspect`, `history`.

use kiln_tests::World;
use serde_json::Value;

fn world_with_app() -> World {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\nENV A=b\nCMD [\"sh\"]\n")]);
    world.build(&project).args(["-t", "app:1.0"]).succeeds();
    world
}

fn images(world: &World) -> String {
    world.kiln(["images"]).succeeds().stdout_text()
}

#[test]
fn images_lists_what_was_built() {
    let world = World::new();
    assert_eq!(images(&world).lines().count(), 1, "a header alone");
    let world = world_with_app();
    let list = images(&world);
    assert!(list.lines().any(|line| line.starts_with("app ") && line.contains(" 1.0 ")), "{list}");
}

#[test]
fn images_are_filtered_and_formatted() {
    let world = world_with_app();
    let project = world.project(&[("Dockerfile", "FROM busybox\nLABEL team=a\nRUN echo y > /y\n")]);
    world.build(&project).args(["-t", "r.example/team/web:2", "-t", "web"]).succeeds();
    let list = |args: &[&str]| {
        let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        let text = world.kiln(format).args(args).succeeds().stdout_text();
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(list(&[]), "app:1.0 r.example/team/web:2 web:latest");
    assert_eq!(list(&["--filter", "label=team=a"]), "r.example/team/web:2 web:latest");
    assert_eq!(list(&["--filter", "reference=*:1.?"]), "app:1.0");
    assert_eq!(list(&["-f", "since=app:1.0", "-f", "reference=web"]), "web:latest");
    assert_eq!(list(&["-f", "dangling=true"]), "");
    assert_eq!(list(&["r.example/*/web"]), "r.example/team/web:2");
    let tree = world.kiln(["images", "--tree"]).succeeds().stdout_text();
    let own = tree.lines().position(|line| line.starts_with("app:1.0 ")).unwrap();
    assert!(tree.lines().nth(own + 1).unwrap().starts_with("└─ linux/"), "{tree}");
    world.kiln(["images", "--filter", "colour=red"]).fails_with(2).says("there is no filter `colour`");
    world.kiln(["images", "--format", "{{.Colour}}"]).fails().says("line 1, column 3").says("`.Colour`");
    let found =
        world.kiln(["inspect", "-f", "{{.Config.Labels.team}} {{len .RootFS.Layers}}", "nothing", "web"]).fails();
    assert_eq!(found.stdout_text(), "a 2\n");
}

#[test]
fn rmi_tells_what_goes() {
    let world = world_with_app();
    let id = world.kiln(["images", "-q", "--no-trunc"]).succeeds().stdout_text();
    let id = id.trim();
    world.kiln(["tag", "app:1.0", "app:2.0"]).succeeds();
    assert_eq!(world.kiln(["rmi", "app:2.0"]).succeeds().stdout_text(), "Untagged: app:2.0\n");
    world.kiln(["tag", id, "other"]).succeeds();
    world.kiln(["rmi", id]).fails().says("several repositories").says("--force");
    let removed = world.kiln(["rmi", "--force", id]).succeeds().stdout_text();
    assert_eq!(removed, format!("Untagged: app:1.0\nUntagged: other:latest\nDeleted: {id}\n"));
    world.kiln(["rmi", id]).fails_with(1).says("no image");
    world.kiln(["rmi", "--force", id]).succeeds().says("no image");
}

#[test]
fn tag_and_rmi() {
    let world = world_with_app();
    world.kiln(["tag", "app:1.0", "other/app:2"]).succeeds();
    assert!(images(&world).contains("other/app"));
    world.kiln(["rmi", "app:1.0"]).succeeds();
    let list = images(&world);
    assert!(!list.lines().any(|line| line.starts_with("app ")) && list.contains("other/app"), "{list}");
    world.kiln(["inspect", "other/app:2"]).succeeds();
    world.kiln(["rmi", "app:1.0"]).fails().says("app:1.0");
    world.kiln(["tag", "nothing:here", "x"]).fails().says("nothing:here");
    world.kiln(["tag", "other/app:2", "Not A Name"]).run().says("error");
}

#[test]
fn an_image_that_was_built_here_can_be_a_base() {
    let world = world_with_app();
    let project = world.project(&[("Dockerfile", "FROM app:1.0\nRUN cat /x > /y\n")]);
    assert_eq!(world.tree(&project).text("y"), "x\n");
}

#[test]
fn inspect() {
    let world = world_with_app();
    let text = world.kiln(["inspect", "app:1.0"]).succeeds().stdout_text();
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found[0]["RepoTags"][0], "app:1.0");
    assert_eq!(found[0]["Config"]["Cmd"][0], "sh");
    assert_eq!(found[0]["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let id = found[0]["Id"].as_str().unwrap();
    let short = &id["sha256:".len()..][..12];
    assert_eq!(world.kiln(["inspect", short]).succeeds().stdout_text(), text, "by the beginning of its id");
    world.kiln(["inspect", "nothing"]).fails().says("nothing");
}

#[test]
fn history() {
    let world = world_with_app();
    let text = world.kiln(["history", "--no-trunc", "app:1.0"]).succeeds().stdout_text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "a header, three instructions and the base\n{text}");
    assert!(lines[1].contains("CMD") && lines[2].contains("ENV A=b") && lines[3].contains("echo x > /x"), "{text}");
    world.kiln(["history", "nothing"]).fails().says("nothing");
}

#[test]
fn rebuilding_under_the_same_name_moves_it() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo 1 > /x\n")]);
    world.build(&project).args(["-t", "app"]).succeeds();
    let before = world.kiln(["inspect", "app"]).succeeds().stdout_text();
    project.write("Dockerfile", "FROM busybox\nRUN echo 2 > /x\n");
    world.build(&project).args(["-t", "app"]).succeeds();
    assert_ne!(world.kiln(["inspect", "app"]).succeeds().stdout_text(), before);
    assert_eq!(images(&world).lines().filter(|line| line.starts_with("app ")).count(), 1);
}

#[test]
fn sbom() {
    let world = World::new();
    let project = world.project(&[
        ("Dockerfile", "FROM busybox\nCOPY . /\nRUN rm /old/Cargo.lock\n"),
        ("var/lib/dpkg/status", "Package: libc6\nStatus: install ok installed\nVersion: 2.36\nArchitecture: amd64\n"),
        ("old/Cargo.lock", "[[package]]\nname = \"gone\"\nversion = \"1.0\"\n"),
        ("app/Cargo.lock", "[[package]]\nname = \"serde\"\nversion = \"1.0\"\n"),
        ("app/package-lock.json", "{"),
    ]);
    world.build(&project).args(["-t", "app:1.0"]).succeeds();
    let file = world.path().join("sbom.json");
    let output = world.kiln(["sbom", "app:1.0", "-o"]).arg(&file).succeeds();
    output.says("`/app/package-lock.json`: not understood");
    let text = std::fs::read_to_string(&file).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((document["spdxVersion"].as_str(), document["name"].as_str()), (Some("SPDX-2.3"), Some("app:1.0")));
    let names: Vec<&str> =
        document["packages"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(names, ["app:1.0", "serde", "libc6"]);
    assert_eq!(world.kiln(["sbom", "app:1.0"]).succeeds().stdout_text(), text, "the same each time");
    world.kiln(["sbom", "nothing"]).fails().says("nothing");
}
