//! Build checks and what is told about a Dockerfile: exit codes, and what goes where.

use kiln_tests::{Project, World};

const BAD: &str = "FROM busybox AS Build\nARG NAME=x\nENV A=$NAM\nCMD echo hi\n";

fn project(world: &World, dockerfile: &str) -> Project {
    world.project(&[("Dockerfile", dockerfile), ("file", "x")])
}

#[test]
fn a_build_lists_its_warnings_and_goes_on() {
    let world = World::new();
    let outcome = world.build(&project(&world, BAD)).succeeds();
    outcome
        .says("3 warnings found")
        .says(" - StageNameCasing: ")
        .says("(did you mean `$NAME`?) (line 3)")
        .says(" - JSONArgsRecommended: ");
    assert!(outcome.stdout.is_empty(), "{outcome}");
    let quiet = world.build(&project(&world, BAD)).arg("-q").succeeds();
    assert!(quiet.stderr.is_empty(), "{quiet}");
}

#[test]
fn warnings_come_before_the_error_of_a_step() {
    let world = World::new();
    let outcome = world.build(&project(&world, "FROM busybox\nMAINTAINER me\nRUN false\n")).fails();
    let place = |text: &str| outcome.stderr.find(text).unwrap_or_else(|| panic!("no `{text}`\n{outcome}"));
    assert!(place("MaintainerDeprecated") < place("\nerror"), "{outcome}");
}

#[test]
fn a_check_tells_all_and_fails() {
    let world = World::new();
    let project = project(&world, BAD);
    for flag in ["--check", "--call=check", "--call=lint"] {
        let outcome = world.build(&project).arg(flag).run();
        assert_eq!(outcome.status.code(), Some(1), "{outcome}");
        let stdout = outcome.stdout_text();
        for text in [
            "WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/\n",
            "Dockerfile:3:7",
            "3 | ENV A=$NAM",
            "hint: write `CMD [\"echo\", \"hi\"]`",
            "Check complete, 3 warnings have been found!\n",
        ] {
            assert!(stdout.contains(text), "no `{text}`\n{stdout}");
        }
        outcome.never_mentions("RUN").does_not_say("error");
    }
    assert!(world.build(&project).arg("--call=check,ignorestatus=true").run().status.success());
    assert!(world.kiln(["images"]).succeeds().stdout_text().lines().count() <= 1, "nothing is built");
}

#[test]
fn a_check_without_findings_succeeds() {
    let world = World::new();
    let project = project(&world, "FROM busybox\nCOPY file /file\nCMD [\"cat\", \"/file\"]\n");
    let outcome = world.build(&project).arg("--check").succeeds();
    assert_eq!(outcome.stdout_text(), "Check complete, no warnings found.\n");
}

#[test]
fn rules_are_chosen_by_directive_comment_and_argument() {
    let world = World::new();
    let all = format!("# check=skip=StageNameCasing,UndefinedVar,JSONArgsRecommended\n{BAD}");
    world.build(&project(&world, &all)).arg("--check").succeeds();
    let one = "FROM busybox\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n";
    world.build(&project(&world, one)).arg("--check").succeeds();
    let bad = project(&world, BAD);
    world.build(&bad).args(["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"]).succeeds();
    let args = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all;experimental=LatestTag"];
    let outcome = world.build(&bad).args(args).succeeds();
    outcome.says("1 warning found").says("LatestTag").does_not_say("not declared");
}

#[test]
fn warnings_are_errors_where_that_is_asked_for() {
    let world = World::new();
    let project = project(&world, &format!("# check=error=true\n{BAD}"));
    let outcome = world.build(&project).args(["-t", "bad"]).fails();
    outcome.says("Dockerfile:4:7").says("hint: write `$NAME`").says("`error=true`").never_mentions("RUN");
    world.build(&project).arg("--check").run().does_not_say("panicked");
    assert!(!world.kiln(["images"]).succeeds().stdout_text().contains("bad"));
}

#[test]
fn a_directive_that_is_none_is_an_error() {
    let world = World::new();
    let project = project(&world, "# check=skipp=all\nFROM busybox\n");
    world.build(&project).fails().says_one_error().says("Dockerfile:1").says("skip=RULE");
    world.build(&project).arg("--check").fails().says_one_error().says("Dockerfile:1");
}

#[test]
fn a_check_shows_errors_of_every_stage() {
    let world = World::new();
    let text = "FROM busybox AS one\nCOPY --from=7 /x /x\nFROM busybox\nEXPOSE many\nSTOPSIGNAL NEVER\n";
    let outcome = world.build(&project(&world, text)).arg("--check").fails();
    outcome.says("Dockerfile:2").says("Dockerfile:4:8").says("Dockerfile:5:12").says("stage number `7`");
    let outcome = world.build(&project(&world, "FROM busybox\nRUNN x\nCMD echo hi\n")).arg("--check").fails();
    outcome.says("did you mean `RUN`?");
    assert!(outcome.stdout_text().contains("JSONArgsRecommended"), "{outcome}");
}

#[test]
fn ignored_files_are_found_before_the_build() {
    let world = World::new();
    let files = [("Dockerfile", "FROM busybox\nCOPY file other /\n"), ("file", "x"), (".dockerignore", "file\n")];
    let outcome = world.build(&world.project(&files)).arg("--check").run();
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    assert!(outcome.stdout_text().contains("WARNING: CopyIgnoredFile"), "{outcome}");
}

#[test]
fn a_check_as_json() {
    let world = World::new();
    let project = project(&world, BAD);
    let outcome = world.build(&project).arg("--call=check,format=json").run();
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    let answer: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        answer["warnings"][1],
        serde_json::json!({
            "ruleName": "UndefinedVar",
            "description": "variables are defined before they are used",
            "url": "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
            "detail": "`$NAM` is used and not defined (did you mean `$NAME`?)",
            "location": {"ranges": [
                {"start": {"line": 3, "character": 6}, "end": {"line": 3, "character": 10}}
            ]},
        })
    );
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 3);
    assert_eq!(answer["sources"][0]["filename"], "Dockerfile");
    assert_eq!(answer["sources"][0]["language"], "Dockerfile");
    assert!(answer["sources"][0]["data"].as_str().unwrap().starts_with("RlJPTSBidXN5"));
    assert_eq!(answer.get("buildError"), None);
    project.write("Dockerfile", "FROM busybox\nRUNN x\n");
    let outcome = world.build(&project).arg("--call=check,format=json").fails();
    let answer: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(answer["buildError"]["message"], "unknown instruction `RUNN`");
    assert_eq!(answer["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
}

const DESCRIBED: &str = "\
# VERSION of the base
ARG VERSION=1.36

# build compiles it
FROM busybox:$VERSION AS build
ARG FLAGS
RUN --mount=type=secret,id=token,required=true make

FROM scratch
COPY --from=build /x /x
";

#[test]
fn targets_are_listed() {
    let world = World::new();
    let project = project(&world, DESCRIBED);
    let outcome = world.build(&project).arg("--call=targets").succeeds();
    assert_eq!(outcome.stdout_text(), "TARGET        DESCRIPTION\nbuild         compiles it\n(default)\n");
    let outcome = world.build(&project).args(["-q", "--call=targets,format=json"]).succeeds();
    let answer: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        answer["targets"][0],
        serde_json::json!({
            "name": "build", "description": "compiles it", "base": "busybox:$VERSION",
            "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5, "character": 30}}]},
        })
    );
    assert_eq!(answer["targets"][1]["default"], true);
    assert_eq!(answer["sources"].as_array().unwrap().len(), 1);
}

#[test]
fn an_outline_tells_what_a_stage_takes() {
    let world = World::new();
    let project = project(&world, DESCRIBED);
    let outcome = world.build(&project).args(["--call=outline", "--target", "build"]).succeeds();
    let expected = "\
TARGET:      build
DESCRIPTION: compiles it

BUILD ARG     VALUE     DESCRIPTION
VERSION       1.36      of the base
FLAGS

SECRET     REQUIRED
token      true

";
    assert_eq!(outcome.stdout_text(), expected);
    let args = ["--call=outline,format=json", "--build-arg", "FLAGS=-g"];
    let outcome = world.build(&project).args(args).succeeds();
    let answer: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(answer["args"][0]["name"], "VERSION");
    assert_eq!(answer["args"][0]["description"], "of the base");
    assert_eq!(answer["args"][1]["value"], "-g");
    assert_eq!(answer["secrets"][0]["name"], "token");
    assert_eq!(answer["secrets"][0]["required"], true);
    world.build(&project).args(["--call=outline", "--target", "biuld"]).fails().says("biuld").says("--call=targets");
}

#[test]
fn wrong_calls_are_refused() {
    let world = World::new();
    let project = project(&world, "FROM scratch\n");
    world.build(&project).arg("--call=chekc").fails_with(2).says("`check`, `outline` and `targets`");
    world.build(&project).arg("--call=check,format=yaml").fails_with(2).says("format=json");
    world.build(&project).args(["--check", "--call=outline"]).fails_with(2);
}
