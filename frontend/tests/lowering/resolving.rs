//! What lowering asks the outside for.

use kiln_frontend::checks::KnownBases;
use kiln_frontend::{NoCache, Options, lower};
use kiln_solver::{Host, Operation};

use crate::images::Registry;

fn asked(dockerfile: &str, target: Option<&str>) -> Vec<String> {
    let registry = Registry::default();
    let mut options = Options::new("linux/amd64".parse().unwrap());
    options.target = target.map(str::to_owned);
    let _ = lower(&kiln_parser::parse(dockerfile).dockerfile, &options, &registry);
    let mut asked = registry.asked.into_inner().unwrap();
    asked.sort();
    asked
}

#[test]
fn an_image_is_looked_up_once_for_each_platform() {
    let dockerfile = "FROM alpine AS a\nFROM --platform=linux/arm64 alpine AS b\nFROM alpine\nCOPY --from=a /x /\n\
                      COPY --from=b /x /\nCOPY --from=alpine /y /\n";
    assert_eq!(asked(dockerfile, None), ["alpine linux/amd64", "alpine linux/arm64"]);
}

#[test]
fn only_needed_images_are_looked_up() {
    let dockerfile =
        "FROM missing AS unneeded\nCOPY --from=lost /x /\nFROM scratch AS a\nFROM a\nCOPY --from=golang:1 /x /\n";
    assert_eq!(asked(dockerfile, None), ["golang:1 linux/amd64"]);
    assert_eq!(asked(dockerfile, Some("a")), Vec::<String>::new());
}

/// `--check` lowers one target after the other.
#[test]
fn what_is_not_there_is_asked_for_once() {
    let registry = Registry::default();
    let bases = KnownBases::new(&registry);
    let dockerfile = kiln_parser::parse("FROM missing AS a\nFROM a AS b\nFROM alpine AS c\n").dockerfile;
    for target in ["a", "b", "c", "b", "a"] {
        let mut options = Options::new("linux/amd64".parse().unwrap());
        options.target = Some(target.to_owned());
        assert_eq!(lower(&dockerfile, &options, &bases).is_ok(), target == "c");
    }
    assert_eq!(registry.asked.lock().unwrap().as_slice(), ["missing linux/amd64", "alpine linux/amd64"]);
}

#[test]
fn nothing_is_looked_up_where_the_stages_are_wrong() {
    assert_eq!(asked("FROM alpine AS a\nFROM golang:1\nCOPY --from=7 /x /\n", None), Vec::<String>::new());
}

#[test]
fn a_trigger_may_ask_for_another_image() {
    assert_eq!(asked("FROM copying\n", None), ["copying linux/amd64", "golang:1 linux/amd64"]);
}

#[test]
fn what_does_not_matter_to_a_step_is_not_in_its_digest() {
    let lowered = |dockerfile: &str, options: &Options| {
        let build = lower(&kiln_parser::parse(dockerfile).dockerfile, options, &Registry::default()).unwrap();
        build.graph.definition(build.target.unwrap().step)
    };
    let plain = Options::new("linux/amd64".parse().unwrap());
    let digest = lowered("FROM alpine\nCOPY a /b\nRUN make\n", &plain);

    let mut talkative = plain.clone();
    talkative.build_args.insert("HTTP_PROXY".into(), "http://proxy".into());
    talkative.labels.insert("a".into(), "b".into());
    talkative.no_cache = NoCache::All;
    let other_names = "# a comment\nFROM alpine AS build\nLABEL x=y\nEXPOSE 80\nCMD x\nCOPY  a /b\nrun make\n";
    assert_eq!(lowered(other_names, &talkative), digest);
    assert_ne!(lowered("FROM alpine\nCOPY a /b\nRUN make all\n", &plain), digest);
    assert_ne!(lowered("FROM alpine\nENV a=b\nCOPY a /b\nRUN make\n", &plain), digest);
}

#[test]
fn the_machine_of_commands_may_have_a_name() {
    let mut options = Options::new("linux/amd64".parse().unwrap());
    options.build_args.insert("BUILDKIT_SANDBOX_HOSTNAME".into(), "builder".into());
    let parsed = kiln_parser::parse("FROM alpine\nRUN make\n");
    let build = lower(&parsed.dockerfile, &options, &Registry::default()).unwrap();
    let Operation::Exec(exec) = &build.graph.step(build.target.unwrap().step).operation else { panic!("no command") };
    assert_eq!(exec.hostname, "builder");
    assert_eq!(exec.hosts, [Host { name: "builder".into(), address: [127, 0, 0, 1].into() }]);
    assert!(build.warnings.is_empty(), "{:?}", build.warnings);
}

#[test]
fn proxies_go_beside_the_steps() {
    let mut options = Options::new("linux/amd64".parse().unwrap());
    options.build_args.insert("https_proxy".into(), "http://proxy".into());
    options.build_args.insert("NO_PROXY".into(), "localhost".into());
    let parsed = kiln_parser::parse("FROM alpine\nRUN make\n");
    let build = lower(&parsed.dockerfile, &options, &Registry::default()).unwrap();
    assert_eq!(
        build.proxy_env,
        ["HTTPS_PROXY=http://proxy", "https_proxy=http://proxy", "NO_PROXY=localhost", "no_proxy=localhost"]
    );
    assert!(build.warnings.is_empty());
}
