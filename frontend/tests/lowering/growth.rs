//! Dockerfiles of many thousand lines of one kind: were anything quadratic about them, each of these tests would
//! take minutes or more memory than there is.

use std::fmt::Write as _;

use kiln_frontend::checks::{KnownBases, Subject, check};
use kiln_frontend::{Build, Options, lower};
use kiln_parser::Diagnostic;

use crate::images::Registry;

fn lowered(text: &str) -> Result<Build, Vec<Diagnostic>> {
    let parsed = kiln_parser::parse(text);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics.first());
    let options = Options::new("linux/amd64".parse().unwrap());
    let registry = Registry::default();
    let bases = KnownBases::new(&registry);
    let dockerfile = &parsed.dockerfile;
    let report = check(&Subject { text, dockerfile, options: &options, bases: &bases, ignore: None, all_stages: true });
    assert!(report.problems.is_empty());
    lower(dockerfile, &options, &bases)
}

#[test]
fn very_many_variables() {
    const COUNT: usize = 100_000;
    let mut text = "FROM scratch\n".to_owned();
    for number in 0..COUNT {
        let _ = writeln!(text, "ENV NAME_{number}={number} LAST=$NAME_0");
    }
    let image = lowered(&text).unwrap().image;
    assert_eq!(image.config.env.len(), COUNT + 2, "PATH and LAST, too");
    assert_eq!(image.config.env[2], "LAST=0");
}

#[test]
fn very_many_arguments() {
    const COUNT: usize = 100_000;
    let mut text = "FROM scratch\n".to_owned();
    for number in 0..COUNT {
        let _ = writeln!(text, "ARG NAME_{number}={number}");
    }
    text.push_str("RUN make\n");
    let image = lowered(&text).unwrap().image;
    let created_by = &image.history.last().unwrap().created_by;
    assert!(created_by.starts_with(&format!("RUN |{COUNT} NAME_0=0 ")));
}

#[test]
fn a_very_long_chain_of_stages() {
    const COUNT: usize = 20_000;
    let mut text = "FROM scratch AS s0\n".to_owned();
    for number in 1..=COUNT {
        let _ = writeln!(text, "FROM s{} AS s{number}\nENV NAME_{number}=\nWORKDIR /{number}", number - 1);
    }
    let build = lowered(&text).unwrap();
    assert_eq!(build.stages.len(), COUNT + 1);
    assert_eq!(build.image.history.len(), 2 * COUNT);
    assert_eq!(build.graph.steps().count(), COUNT);
}

#[test]
fn very_many_copies_of_one_context() {
    const COUNT: usize = 50_000;
    let mut text = "FROM scratch\n".to_owned();
    for number in 0..COUNT {
        let _ = writeln!(text, "COPY {number} /");
    }
    assert_eq!(lowered(&text).unwrap().graph.steps().count(), COUNT + 1);
}

#[test]
fn very_many_stages_that_copy_from_the_next() {
    const COUNT: usize = 50_000;
    let mut text = String::new();
    for number in 0..COUNT {
        let _ = writeln!(text, "FROM scratch\nCOPY --from={} / /", number + 1);
    }
    let _ = writeln!(text, "FROM scratch AS last\nCOPY --from=0 / /");
    assert_eq!(lowered(&text).err().unwrap().len(), COUNT);
}

#[test]
fn very_many_variables_that_are_not_there() {
    const COUNT: usize = 20_000;
    let mut text = "FROM scratch\n".to_owned();
    for number in 0..COUNT {
        let _ = writeln!(text, "ENV NAME_{number}=$OTHER_{number}");
    }
    assert!(lowered(&text).is_ok());
}
