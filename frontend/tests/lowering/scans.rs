//! What is scanned for packages beside the target.

use std::collections::BTreeMap;

use kiln_frontend::{BaseImage, Options, Resolver, lower};
use kiln_solver::Platform;

struct Nothing;

impl Resolver for Nothing {
    fn resolve(&self, reference: &str, _: &Platform) -> Result<BaseImage, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("no image `{reference}`").into())
    }
}

/// The names of what is scanned, with these build arguments.
fn scans(text: &str, build_args: &[(&str, &str)], finds_scans: bool) -> Vec<String> {
    let parsed = kiln_parser::parse(text);
    let build_args: BTreeMap<String, String> =
        build_args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let platform: Platform = "linux/amd64".parse().unwrap();
    let options = Options { build_args, finds_scans, ..Options::new(platform) };
    let build = lower(&parsed.dockerfile, &options, &Nothing).unwrap();
    for (_, input) in &build.scans {
        assert!(!build.graph.step(input.step).operation.is_source(), "layers alone can be scanned");
    }
    build.scans.into_iter().map(|(name, _)| name).collect()
}

/// A stage that is scanned if it says so, one that never is built, one without a name, and the target.
fn stages(before: &str, within: &str) -> String {
    format!(
        "{before}FROM scratch AS Build\n{within}COPY a /a\nFROM scratch AS unbuilt\n{within}COPY b /b\n\
         FROM scratch\nCOPY c /c\nFROM scratch\n{within}COPY --from=Build /a /a\nCOPY --from=2 /c /c\n"
    )
}

const STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";

#[test]
fn stages_and_the_context_are_asked_for_by_arguments() {
    let none: &[&str] = &[];
    let global = stages("ARG BUILDKIT_SBOM_SCAN_STAGE=true\n", "");
    let own = stages("", "ARG BUILDKIT_SBOM_SCAN_STAGE=true\n");
    let list = stages("ARG BUILDKIT_SBOM_SCAN_STAGE=stage-2,unbuilt\n", "");
    let declared = stages("", "ARG BUILDKIT_SBOM_SCAN_STAGE\n");
    let overruled = stages("ARG BUILDKIT_SBOM_SCAN_STAGE=true\n", "ARG BUILDKIT_SBOM_SCAN_STAGE=false\n");
    let context = stages("", "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\n");
    for (text, build_args, expected) in [
        (&global, &[][..], &["build", "stage-2"][..]),
        (&own, &[], &["build"]),
        (&list, &[], &["stage-2"]),
        (&declared, &[], none),
        (&declared, &[(STAGE, "true")], &["build"]),
        (&own, &[(STAGE, "false")], none),
        (&overruled, &[], &["stage-2"]),
        (&context, &[], &["context"]),
        // What declares no such argument has none.
        (&stages("", ""), &[(STAGE, "true")], none),
    ] {
        assert_eq!(scans(text, build_args, true), expected, "{build_args:?}\n{text}");
        assert!(scans(text, build_args, false).is_empty());
    }
}
