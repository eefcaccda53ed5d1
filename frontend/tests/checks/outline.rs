//! Tests of outlines and lists of targets.

use kiln_frontend::Options;
use kiln_frontend::checks::{KnownBases, StageOutline, Subject, TargetStage, outline, targets};
use kiln_parser::parse;

use crate::images::Registry;

const TEXT: &str = "\
# check=error=true
# GO the compiler's version
ARG GO=1
ARG OTHER=2
ARG FULL=go-$GO

# build compiles it
FROM --platform=$BUILDPLATFORM debian:$GO AS Build
ARG GO
# FLAGS go to the linker
ARG FLAGS=\"-s $GO\"
RUN --mount=type=secret,id=token,required --mount=type=ssh --mount=type=cache,target=/root/.cache make

FROM debian AS unused
ARG NOWHERE
RUN --mount=type=secret,target=/run/secrets/no.txt x

# an image
FROM scratch
COPY --from=build /x /x
ARG LAST
";

fn subject<T>(target: Option<&str>, args: &[(&str, &str)], ask: impl Fn(&Subject<'_>) -> T) -> T {
    subject_of(TEXT, target, args, ask)
}

fn subject_of<T>(text: &str, target: Option<&str>, args: &[(&str, &str)], ask: impl Fn(&Subject<'_>) -> T) -> T {
    let parsed = parse(text);
    let mut options = Options::new("linux/amd64".parse().unwrap());
    options.target = target.map(str::to_owned);
    options.build_args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let bases = KnownBases::new(&Registry);
    ask(&Subject {
        text,
        dockerfile: &parsed.dockerfile,
        options: &options,
        bases: &bases,
        ignore: None,
        all_stages: false,
    })
}

fn args(outline: &StageOutline) -> Vec<(&str, &str, &str)> {
    outline.args.iter().map(|arg| (arg.name.as_str(), arg.value.as_str(), arg.description.as_str())).collect()
}

#[test]
fn a_stage_tells_what_it_takes() {
    let found = subject(None, &[("LAST", "given")], outline);
    let expected =
        [("GO", "1", "the compiler's version"), ("FLAGS", "-s 1", "go to the linker"), ("LAST", "given", "")];
    assert_eq!(args(&found), expected);
    assert_eq!((found.name.as_str(), found.description.as_str()), ("", ""));
    assert_eq!((found.secrets[0].id.as_str(), found.secrets[0].is_required), ("token", true));
    assert_eq!((found.ssh[0].id.as_str(), found.ssh[0].is_required), ("default", false));
    assert_eq!(found.caches[0].id, "/root/.cache");
    assert_eq!(found.secrets.len(), 1);
}

#[test]
fn arguments_of_one_instruction_stay_in_their_order() {
    let found = subject_of("FROM scratch\nARG z\nARG password=1 foo a\n", None, &[], outline);
    assert_eq!(args(&found), [("z", "", ""), ("password", "1", ""), ("foo", "", ""), ("a", "", "")]);
}

#[test]
fn other_targets_take_other_things() {
    let found = subject(Some("BUILD"), &[("GO", "2")], outline);
    assert_eq!((found.name.as_str(), found.description.as_str()), ("build", "compiles it"));
    assert_eq!(args(&found)[0], ("GO", "2", "the compiler's version"));
    let found = subject(Some("unused"), &[], outline);
    assert_eq!(args(&found), [("NOWHERE", "", "")]);
    assert_eq!(found.secrets[0].id, "no.txt");
}

/// Triggers of a stage count as instructions of its heirs; what they take is told where the heir begins.
#[test]
fn triggers_take_things_too() {
    let text = "FROM debian AS base\nONBUILD ARG MODE=x\nONBUILD RUN --mount=type=ssh make\nFROM base\n";
    let found = subject_of(text, None, &[], outline);
    assert_eq!(args(&found), [("MODE", "x", "")]);
    assert_eq!(&text[found.ssh[0].span.range()], "FROM base");
    assert_eq!(&text[found.args[0].span.range()], "FROM base");
    assert!(subject_of(text, Some("base"), &[], outline).args.is_empty());
}

#[test]
fn targets_are_listed() {
    let found = subject(None, &[], targets);
    let shown = |target: &TargetStage| {
        format!("{}|{}|{}|{}|{}", target.name, target.description, target.base, target.platform, target.is_default)
    };
    let shown: Vec<String> = found.iter().map(shown).collect();
    assert_eq!(
        shown,
        ["build|compiles it|debian:$GO|$BUILDPLATFORM|false", "unused||debian||false", "||scratch||true"]
    );
}
