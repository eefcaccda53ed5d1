//! Scanner images: what lists packages in the place of kiln itself, as a step of the graph.
//!
//! Protocol: <https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md>.

use kiln_frontend::{BaseImage, Resolver};
use kiln_solver::{Exec, Graph, Input, Mount, MountKind, Operation, Platform, Source, Step};

use super::request::SbomRequest;
use crate::error::{CliError, Kind};

/// Where the tree of the image is shown; the last component is its name.
const CORE: &str = "/run/src/core/sbom";
/// The directory of the other trees.
const EXTRAS: &str = "/run/src/extras";
/// Where reports go.
const REPORTS: &str = "/run/out";
/// What commands of images have that set no `PATH`.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A scanner image.
pub(in crate::commands::build) struct Scanner {
    image: BaseImage,
    platform: Platform,
    parameters: Vec<String>,
    /// Its command.
    args: Vec<String>,
}

impl Scanner {
    /// Finds the image that is asked for, if one is. It runs on this machine, whatever it is that it scans.
    pub(in crate::commands::build) fn find(
        request: Option<&SbomRequest>,
        resolver: &dyn Resolver,
    ) -> Result<Option<Self>, CliError> {
        let Some((request, name)) = request.and_then(|request| Some((request, request.generator.as_deref()?))) else {
            return Ok(None);
        };
        let platform = Platform::host();
        let context = || format!("the scanner image `{name}`");
        let image = resolver
            .resolve(name, &platform)
            .map_err(|error| CliError::from_error(Kind::User, &*error).context(context()))?;
        let config = &image.image.config;
        let args: Vec<String> = config.entrypoint.iter().chain(&config.cmd).flatten().cloned().collect();
        if args.is_empty() {
            return Err(CliError::user("it has no command to run").context(context()));
        }
        let parameters = request.parameters.iter().map(|(name, value)| format!("BUILDKIT_SCAN_{name}={value}"));
        Ok(Some(Self { platform, parameters: parameters.collect(), args, image }))
    }

    /// Adds the step that scans a tree and others beside it; yields the tree of its reports.
    pub(in crate::commands::build) fn add(
        &self,
        graph: &mut Graph,
        core: Option<Input>,
        extras: &[(String, Input)],
    ) -> Input {
        let reference = self.image.reference.clone();
        let source = Source::Image { reference: reference.clone(), digest: self.image.digest };
        let source = graph.add(Step::new(Operation::Source(source), format!("[internal] load scanner {reference}")));
        let mut inputs = vec![Input { step: source, output: 0 }];
        let mut show = |input: Input| {
            inputs.push(input);
            inputs.len() - 1
        };
        // What the scanner changes of its own image is thrown away.
        let root = bind(Some(0), "/", false, None);
        let tmp = Mount {
            kind: MountKind::Tmpfs { size: None },
            destination: "/tmp".to_owned(),
            readonly: false,
            output: None,
        };
        let mut mounts = vec![root, tmp, bind(core.map(&mut show), CORE, true, None)];
        for (name, input) in extras {
            mounts.push(bind(Some(show(*input)), &format!("{EXTRAS}/sbom-{name}"), true, None));
        }
        mounts.push(bind(None, REPORTS, false, Some(0)));
        let config = &self.image.image.config;
        let exec = Exec {
            args: self.args.clone(),
            env: self.environment(!extras.is_empty()),
            cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
            user: config.user.clone(),
            mounts,
            // It looks at everything.
            untraced: true,
            ..Exec::default()
        };
        let mut step = Step::new(Operation::Exec(exec), format!("[internal] generating sbom using {reference}"));
        step.inputs = inputs;
        step.platform = Some(self.platform.clone());
        Input { step: graph.add(step), output: 0 }
    }

    fn environment(&self, has_extras: bool) -> Vec<String> {
        let mut env = self.image.image.config.env.clone();
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push(PATH.to_owned());
        }
        env.push(format!("BUILDKIT_SCAN_DESTINATION={REPORTS}"));
        env.push(format!("BUILDKIT_SCAN_SOURCE={CORE}"));
        if has_extras {
            env.push(format!("BUILDKIT_SCAN_SOURCE_EXTRAS={EXTRAS}"));
        }
        env.extend(self.parameters.iter().cloned());
        env
    }
}

fn bind(input: Option<usize>, destination: &str, readonly: bool, output: Option<u32>) -> Mount {
    let kind = MountKind::Bind { input, selector: "/".to_owned() };
    Mount { kind, destination: destination.to_owned(), readonly, output }
}
