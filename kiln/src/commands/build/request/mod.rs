//! What a build is asked to do: the flags of `kiln build`, checked once.

mod contexts;
mod outputs;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;

use kiln_frontend::{NoCache, Targeting};
use kiln_image::export::Annotations;
use kiln_image::{Configuration, Reference};
use kiln_parser::ignore::Ignore;
use kiln_solver::Platform;

use super::args::{Args, OnError};
use super::attest::AttestRequest;
use super::cache::CacheRequest;
use super::call::{Call, Method};
use super::explain::Form;
use super::output::{Output, Push, boolean, parse_annotation};
use super::remote::RemoteContext;
use super::run::RunRequest;
use super::sources;
use crate::environment::{Environment, parse_epoch};
use crate::error::CliError;
use crate::progress::Style;
pub(super) use contexts::{DockerfileSource, NamedContext, default_dockerfile};
use contexts::{directory, parse_context};
pub(crate) use values::parse_tag;
pub(super) use values::platforms;
use values::{from_environment, no_cache, parse_all, parse_build_args, parse_label};

/// The build argument and variable that says when everything was made.
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// The build argument that asks for an index, and a directory for each platform, even where there is one platform.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// A build that has been asked for and can be tried.
#[derive(Debug)]
pub(super) struct Request {
    /// The directory of the main context; empty until one from elsewhere has been fetched.
    pub(super) context: PathBuf,
    /// Where the main context comes from, if it is no directory of this machine.
    pub(super) remote_context: Option<RemoteContext>,
    /// The Dockerfile as it was asked for.
    pub(super) file: Option<PathBuf>,
    pub(super) dockerfile: DockerfileSource,
    pub(super) tags: Vec<Reference>,
    pub(super) target: Option<String>,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) contexts: BTreeMap<String, NamedContext>,
    pub(super) no_cache: NoCache,
    /// How to say why each step ran, if at all.
    pub(super) explain: Option<Form>,
    pub(super) pull: bool,
    /// What to build for: at least one, each once.
    pub(super) platforms: Vec<Platform>,
    /// Whether anybody asked for them.
    has_platforms: bool,
    /// Whether one platform is to be treated as several are.
    pub(super) wants_index: bool,
    pub(super) outputs: Vec<Output>,
    /// Notes on every image that is made.
    pub(super) annotations: Annotations,
    pub(super) iidfile: Option<PathBuf>,
    pub(super) metadata_file: Option<PathBuf>,
    pub(super) print_id: bool,
    /// The time that everything built is said to be made at, where it is fixed.
    pub(super) source_date_epoch: Option<SystemTime>,
    pub(super) style: Style,
    /// Whether a shell is opened in a step that failed.
    pub(super) shell_on_error: bool,
    /// What to tell instead of building.
    pub(super) call: Call,
    /// Whether this goes into the history.
    pub(super) is_recorded: bool,
    /// Caches elsewhere.
    pub(super) cache: CacheRequest,
    /// What commands get.
    pub(super) run: RunRequest,
    /// What is said of the images beside them.
    pub(super) attest: AttestRequest,
}

impl Request {
    /// Checks the flags; `variable` looks up the environment for build arguments without a value.
    pub(super) fn new(
        args: Args,
        environment: &Environment,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, CliError> {
        let tags = parse_all(&args.tags, parse_tag)?;
        let mut outputs = parse_all(&args.outputs, Output::parse)?;
        if args.push {
            outputs::push(&mut outputs);
        }
        if args.load && outputs.iter().all(|output| output.engine().is_none()) {
            outputs.push(Output::parse("type=docker")?);
        }
        outputs::check_names(&outputs, &tags)?;
        let to_stdout = outputs.iter().filter(|output| output.is_stdout()).count();
        if to_stdout > 1 {
            return Err(CliError::usage("only one `--output` can go to standard output"));
        }
        if args.explain == Some(Form::Json) && (to_stdout == 1 || args.quiet) {
            let other = if args.quiet { "--quiet" } else { "--output" };
            return Err(CliError::usage(format!("`--explain=json` and `{other}` both go to standard output")));
        }
        if to_stdout == 1 && args.quiet {
            return Err(CliError::usage(
                "`--quiet` prints the image ID to standard output, where `--output` goes, too",
            ));
        }
        let remote_context = RemoteContext::of_path(&args.path, &args.build_args)?;
        if remote_context == Some(RemoteContext::Stdin) && args.file.as_deref() == Some(Path::new("-")) {
            return Err(CliError::usage("context and Dockerfile cannot both come from standard input"));
        }
        let context = match &remote_context {
            Some(_) => PathBuf::new(),
            None => directory("the build context", &args.path)?,
        };
        let style = if args.quiet { Style::Quiet } else { args.progress.style(environment)? };
        let mut build_args = parse_build_args(&args.build_args, variable)?;
        if !build_args.contains_key(EPOCH) {
            let default = args.reproducible.then(|| "0".to_owned());
            let given = from_environment(EPOCH, variable)?.filter(|value| !value.is_empty()).or(default);
            build_args.extend(given.map(|value| (EPOCH.to_owned(), value)));
        }
        let epoch = build_args.get(EPOCH).filter(|value| !value.is_empty());
        let epoch = epoch.map(|value| parse_epoch(OsStr::new(value))).transpose()?;
        let mut annotations = Annotations::default();
        for text in &args.annotations {
            parse_annotation(&mut annotations, text)?;
        }
        let platforms = platforms(&args.platforms, variable)?;
        let wants_index = match build_args.get(MULTI_PLATFORM) {
            Some(value) => boolean(MULTI_PLATFORM, value)?,
            None => false,
        };
        let attest = AttestRequest::new(args.attest, variable)?;
        outputs::check_attestations(&outputs, &attest)?;
        outputs::check_platforms(&outputs, &annotations, &platforms, attest.attaches() || wants_index)?;
        outputs::check_outputs(&outputs, args.run.allows_mirrors())?;
        let call = Call::parse(if args.check { "check" } else { &args.call })?;
        Ok(Self {
            is_recorded: call.method == Method::Build,
            call,
            source_date_epoch: epoch,
            wants_index,
            dockerfile: match args.file.clone() {
                Some(file) if file.as_os_str() == "-" => DockerfileSource::Stdin,
                Some(file) => DockerfileSource::File(file),
                None => DockerfileSource::File(default_dockerfile(&args.path)),
            },
            file: args.file,
            context,
            remote_context,
            tags,
            target: args.target.filter(|target| !target.is_empty()),
            build_args,
            labels: args.labels.iter().map(|text| parse_label(text)).collect::<Result<_, _>>()?,
            contexts: args.contexts.iter().map(|text| parse_context(text)).collect::<Result<_, _>>()?,
            no_cache: no_cache(args.no_cache, args.no_cache_filter),
            explain: args.explain,
            pull: args.pull,
            has_platforms: !platforms.is_empty(),
            platforms: if platforms.is_empty() { vec![Platform::host()] } else { platforms },
            outputs,
            annotations,
            iidfile: args.iidfile,
            metadata_file: args.metadata_file,
            print_id: args.quiet,
            style,
            shell_on_error: args.on_error == Some(OnError::Shell),
            cache: CacheRequest::new(&args.cache, variable)?,
            run: RunRequest::new(args.run, variable)?,
            attest,
        })
    }
}

impl Request {
    /// The platform of what is there for one alone.
    pub(super) fn first_platform(&self) -> &Platform {
        // There is one always; but nothing here is worth a panic.
        static HOST: LazyLock<Platform> = LazyLock::new(Platform::host);
        self.platforms.first().unwrap_or(&HOST)
    }

    /// How the build came to be for its platforms.
    pub(super) fn targeting(&self) -> Targeting {
        match (self.has_platforms, self.platforms.len()) {
            (_, 2..) => Targeting::OneOfSeveral,
            (true, _) => Targeting::Asked,
            (false, _) => Targeting::Default,
        }
    }

    /// What is left out of the main context. Only what is on this machine has a say: that is how Docker has it.
    pub(super) fn ignore(&self) -> Result<Ignore, CliError> {
        match self.remote_context {
            Some(_) => Ok(Ignore::default()),
            None => sources::ignore_for(&self.dockerfile, &self.context),
        }
    }

    /// The names that the store gives the image, and whether it lists it under its ID: where it has no name and goes
    /// nowhere else.
    pub(super) fn stored_names(&self) -> (Vec<Reference>, bool) {
        let named = |output: &Output| match output {
            Output::Store { image, is_kept: true, .. } => Some(image.names.clone()),
            _ => None,
        };
        let outputs: Vec<Vec<Reference>> = self.outputs.iter().filter_map(named).collect();
        if !self.outputs.is_empty() && self.outputs.iter().all(|output| *output == Output::CacheOnly) {
            return (Vec::new(), false);
        }
        let is_stored = self.outputs.is_empty() || !outputs.is_empty();
        let names: Vec<Reference> = self.tags.iter().cloned().chain(outputs.into_iter().flatten()).collect();
        let is_listed = is_stored && names.is_empty();
        (names, is_listed)
    }

    /// Whether the image can be loaded into an engine that knows no indexes.
    pub(super) fn check_without_index(&self, engine: &str) -> Result<(), CliError> {
        outputs::check_without_index(engine, self.platforms.len(), &self.attest)
    }

    /// Lets registries that an output is pushed to do without proof of who they are, where that is asked for.
    pub(super) fn trust_registries(&self, configuration: &mut Configuration) {
        self.cache.trust_registries(configuration);
        for output in &self.outputs {
            let Output::Store { image, push: Some(Push { is_insecure: true, .. }), .. } = output else { continue };
            for name in image.names_or(&self.tags) {
                configuration.trust(&name.registry);
            }
        }
    }
}
