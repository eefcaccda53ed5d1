//! One Dockerfile for several platforms.

use kiln_frontend::{Build, Options, Targeting, lower_onto};
use kiln_solver::{Graph, Operation, Platform};

use crate::images::Registry;

/// Builds on amd64 for each of these; the last build has the graph of all.
fn lowered(dockerfile: &str, platforms: &[&str]) -> Vec<Build> {
    let dockerfile = kiln_parser::parse(dockerfile).dockerfile;
    let mut builds: Vec<Build> = Vec::new();
    for platform in platforms {
        let options = Options {
            platform: platform.parse().unwrap(),
            targeting: Targeting::OneOfSeveral,
            ..Options::new("linux/amd64".parse().unwrap())
        };
        let graph = builds.last_mut().map_or_else(Graph::new, |build| std::mem::take(&mut build.graph));
        builds.push(lower_onto(graph, &dockerfile, &options, &Registry::default()).ok().unwrap());
    }
    builds
}

fn names(build: &Build) -> Vec<&str> {
    let steps = build.graph.steps().filter(|(_, step)| !step.operation.is_source());
    steps.map(|(_, step)| step.metadata.name.as_str()).collect()
}

const CROSS: &str = "\
FROM --platform=$BUILDPLATFORM alpine AS tools
RUN install compiler
FROM tools AS build
ARG TARGETARCH
RUN compile for $TARGETARCH
FROM alpine
COPY --from=build /app /app
";

#[test]
fn equal_steps_are_done_once() {
    let builds = lowered(CROSS, &["linux/amd64", "linux/arm64"]);
    let expected = [
        "[linux/amd64 tools 2/2] RUN install compiler",
        "[linux/amd64 build 1/1] RUN compile for amd64",
        "[linux/amd64 stage-2 2/2] COPY --from=build /app /app",
        "[linux/amd64->arm64 build 1/1] RUN compile for arm64",
        "[linux/arm64 stage-2 2/2] COPY --from=build /app /app",
    ];
    assert_eq!(names(&builds[1]), expected);
    let graph = &builds[1].graph;
    let native: Platform = "linux/amd64".parse().unwrap();
    for (_, step) in graph.steps().filter(|(_, step)| matches!(step.operation, Operation::Exec(_))) {
        assert_eq!(step.platform.as_ref(), Some(&native), "nothing is to be emulated: {}", step.metadata.name);
    }
    let targets = builds.iter().map(|build| graph.step(build.target.unwrap().step).metadata.name.as_str());
    assert_eq!(targets.collect::<Vec<_>>(), [expected[2], expected[4]]);
}

#[test]
fn images_say_what_they_were_asked_to_be_for() {
    let builds = lowered("FROM --platform=linux/amd64 alpine\n", &["linux/arm/v6", "linux/amd64"]);
    let platforms: Vec<String> = builds.iter().map(|build| build.image.platform().to_string()).collect();
    assert_eq!(platforms, ["linux/arm/v6", "linux/amd64"]);
    assert_eq!(builds[0].target, builds[1].target);
}
