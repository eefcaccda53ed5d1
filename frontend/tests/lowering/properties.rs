//! Whatever a Dockerfile says, lowering ends, and ends well: without a panic, and with an error where it yields
//! nothing.

use kiln_frontend::{NamedContext, Options, lower};
use kiln_solver::{Mount, MountKind, Operation};
use proptest::prelude::*;

use crate::images::Registry;

/// Lines that refer to each other, valid or not.
fn line() -> impl Strategy<Value = String> {
    let name = prop_oneof!["[abc]", Just("alpine".to_owned()), Just("scratch".to_owned()), "[0-3]", "\\PC{0,6}"];
    let word = prop_oneof![
        "\\PC{0,12}",
        Just("$A".to_owned()),
        Just("${B:-x}".to_owned()),
        Just("../../x/".to_owned()),
        Just("1-9".to_owned())
    ];
    (0..30, name.clone(), name, word.clone(), word).prop_map(|(kind, name, other, word, second)| match kind {
        0 | 1 => format!("FROM {name} AS {other}"),
        2 => format!("FROM --platform={word} {name}"),
        3 => "FROM alpine".to_owned(),
        4 | 5 => format!("COPY --from={name} {word} {second}"),
        6 => format!("COPY --chown={word} --chmod={second} a b"),
        7 => format!("ADD {word} {second}"),
        8 => format!("RUN {word}"),
        9 => format!("RUN [\"{word}\"]"),
        10 => format!("ENV {word}={second}"),
        11 => format!("ARG {name}={word}"),
        12 => format!("WORKDIR {word}"),
        13 => format!("USER {word}"),
        14 => format!("EXPOSE {word} {second}"),
        15 => format!("LABEL {word}={second}"),
        16 => format!("HEALTHCHECK --interval={word} --retries={second} CMD x"),
        17 => format!("STOPSIGNAL {word}"),
        18 => format!("ONBUILD COPY --from={name} {word} {second}"),
        19 => format!("CMD {word}"),
        20 => format!("VOLUME {word} {second}"),
        21 => format!("RUN --mount=type={name},{word}={second} x"),
        26 => format!("RUN --mount=target={word},from={name} --mount=type=cache,target={second},uid=1,from={other} x"),
        27 => format!("RUN --mount=type=secret,id={name},env=E --mount=type=ssh --mount=type=tmpfs,dst={word} <<{other}\n#!x\n{other}"),
        28 => format!("ONBUILD RUN --mount=from={name},target=x{word} --network=host x"),
        22 => format!("COPY <<{other} /x\n{word}\n{other}"),
        23 => format!("ADD --checksum={word} https://x/{name}.git?{word}#{second} /x"),
        24 => format!("COPY --parents --exclude={word} --chmod=u={name},g+{other} a/./{word} {second}"),
        25 => format!("ADD git@x:{word} http://x/{second} /"),
        _ => format!("{word} {second}"),
    })
}

/// The positions of the inputs that a command mounts.
fn mounted(operation: &Operation) -> Vec<usize> {
    let Operation::Exec(exec) = operation else { return Vec::new() };
    let input = |mount: &Mount| match mount.kind {
        MountKind::Bind { input, .. } | MountKind::Cache { input, .. } => input,
        _ => None,
    };
    exec.mounts.iter().filter_map(input).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lowering_never_panics(
        lines in prop::collection::vec(line(), 0..14),
        target in prop::option::of("[abc0-3]"),
        replaced in prop::option::of("[abc]"),
        stages in prop::collection::btree_map("[abc]|alpine", "[abc0-3]", 0..3),
        argument in "\\PC{0,8}",
    ) {
        let text = lines.join("\n");
        let parsed = kiln_parser::parse(&text);
        let mut options = Options::new("linux/amd64".parse().unwrap());
        options.target = target;
        options.build_args.insert("A".to_owned(), argument);
        options.contexts.extend(replaced.map(|name| (name, NamedContext::Local)));
        options.contexts.extend(stages.into_iter().map(|(name, stage)| (name, NamedContext::Stage(stage))));
        match lower(&parsed.dockerfile, &options, &Registry::default()) {
            Ok(build) => {
                // Everything that a step takes in was added before it.
                for (id, step) in build.graph.steps() {
                    prop_assert!(step.inputs.iter().all(|input| input.step < id));
                    prop_assert!(mounted(&step.operation).iter().all(|input| *input < step.inputs.len()));
                }
            }
            Err(errors) => prop_assert!(!errors.is_empty()),
        }
    }
}
