//! What a build is asked to do: the flags of `kiln build`, checked once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;

use kiln_frontend::{NoCache, Targeting};
use kiln_image::export::{Annotations, Format};
use kiln_image::{Configuration, Reference};
use kiln_parser::ignore::Ignore;
use kiln_solver::Platform;

use super::args::{Args, OnError, ProgressStyle};
use super::attest::AttestRequest;
use super::cache::CacheRequest;
use super::call::{Call, Method};
use super::explain::Form;
use super::output::{ImageAttributes, Output, Push, parse_annotation};
use super::remote::RemoteContext;
use super::run::{MIRROR, RunRequest};
use super::sources;
use crate::environment::{Environment, parse_epoch};
use crate::error::{self, CliError, Kind};
use crate::progress::Style;

/// The build argument and variable that says when everything was made.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The variable that says what to build for where no flag does, as for Docker.
const DEFAULT_PLATFORM: &str = "DOCKER_DEFAULT_PLATFORM";

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

/// Where the Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DockerfileSource {
    /// A file of this machine.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// A file of a context from elsewhere.
    Within {
        /// The context.
        root: PathBuf,
        /// The path in it.
        path: PathBuf,
    },
    /// What was fetched in the place of a context.
    Text {
        /// What to call it.
        name: String,
        /// What it holds.
        bytes: Vec<u8>,
    },
}

impl DockerfileSource {
    /// What to call it in one word.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) | Self::Within { path, .. } => {
                path.file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
            Self::Stdin => "standard input".to_owned(),
            Self::Text { name, .. } => name.clone(),
        }
    }
}

/// The value of a `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NamedContext {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A reference, or `oci-layout://DIR[:TAG][@DIGEST]`.
    Image(String),
    /// A stage of the Dockerfile, `target:STAGE`.
    Stage(String),
    /// What another machine has.
    Remote(RemoteContext),
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
            push(&mut outputs);
        }
        if args.load && outputs.iter().all(|output| output.engine().is_none()) {
            outputs.push(Output::parse("type=docker")?);
        }
        check_names(&outputs, &tags)?;
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
        let style = if args.quiet { Style::Quiet } else { style(args.progress, environment)? };
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
        let attest = AttestRequest::new(args.attest, variable)?;
        check_attestations(&outputs, &attest)?;
        check_platforms(&outputs, &annotations, &platforms, attest.attaches())?;
        check_outputs(&outputs, args.run.allows_mirrors())?;
        let call = Call::parse(if args.check { "check" } else { &args.call })?;
        Ok(Self {
            is_recorded: call.method == Method::Build,
            call,
            source_date_epoch: epoch,
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

/// What `--push` means beside these outputs: images among them are pushed, or else the result is.
fn push(outputs: &mut Vec<Output>) {
    let mut found = false;
    for output in outputs.iter_mut() {
        if let Output::Store { push, .. } = output {
            push.get_or_insert_default();
            found = true;
        }
    }
    if !found {
        let (image, push) = (ImageAttributes::default(), Some(Push::default()));
        outputs.push(Output::Store { image, is_kept: false, push });
    }
}

fn check_names(outputs: &[Output], tags: &[Reference]) -> Result<(), CliError> {
    let nameless =
        |output: &Output| matches!(output, Output::Store { image, push: Some(_), .. } if image.names.is_empty());
    if tags.is_empty() && outputs.iter().any(nameless) {
        return Err(CliError::usage("an image that is pushed needs a name")
            .hint("give it one with `--tag`, or with `name=` of `--output`"));
    }
    Ok(())
}

fn no_cache(all: bool, stages: Vec<String>) -> NoCache {
    let stages: Vec<String> =
        stages.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    match (all, stages.is_empty()) {
        (true, _) => NoCache::All,
        (false, false) => NoCache::Stages(stages),
        (false, true) => NoCache::Never,
    }
}

/// Whether what is to be written has a place for what is to be said of it.
fn check_attestations(outputs: &[Output], attest: &AttestRequest) -> Result<(), CliError> {
    let is_docker = |output: &Output| matches!(output, Output::Image { format: Format::Docker, .. });
    if attest.attaches_to_files() && outputs.iter().any(is_docker) {
        return Err(CliError::usage("an archive of `type=docker` has no index that attestations could be in")
            .hint("write `type=oci`, or leave `--attest`, `--provenance` and `--sbom` away"));
    }
    Ok(())
}

/// Whether what is to be written fits to one platform or to several.
fn check_platforms(
    outputs: &[Output],
    annotations: &Annotations,
    platforms: &[Platform],
    is_attested: bool,
) -> Result<(), CliError> {
    if platforms.len() > 1 {
        let is_docker = |output: &Output| matches!(output, Output::Image { format: Format::Docker, .. });
        return match outputs.iter().any(is_docker) {
            true => Err(CliError::usage("an archive of `type=docker` holds an image for one platform")
                .hint("write `type=oci`, which holds them all, or give one `--platform`")),
            false => Ok(()),
        };
    }
    let own = outputs.iter().filter_map(Output::image).map(|image| &image.annotations);
    if !is_attested && own.chain([annotations]).any(Annotations::need_index) {
        return Err(CliError::usage("an image for one platform has no index that annotations could be in")
            .hint("leave `index:` and `index-descriptor:` away, or give several platforms or `--provenance=true`"));
    }
    Ok(())
}

/// Whether all that is to be written can be.
fn check_outputs(outputs: &[Output], allows_mirrors: bool) -> Result<(), CliError> {
    let current = std::env::current_dir().unwrap_or_default();
    let is_risky =
        |output: &&Output| matches!(output, Output::Files(files) if files.is_mirror && !files.is_below(&current));
    match outputs.iter().find(is_risky) {
        Some(Output::Files(files)) if !allows_mirrors => Err(CliError::user(format!(
            "`mode=delete` would remove everything else in `{}`, which is not below the current directory",
            files.directory.display()
        ))
        .hint(format!("add `--allow {MIRROR}` if that is meant"))),
        _ => Ok(()),
    }
}

fn style(asked: ProgressStyle, environment: &Environment) -> Result<Style, CliError> {
    match asked {
        ProgressStyle::Auto if environment.live => Ok(Style::Tty),
        ProgressStyle::Auto | ProgressStyle::Plain => Ok(Style::Plain),
        ProgressStyle::Tty if environment.live => Ok(Style::Tty),
        ProgressStyle::Tty => Err(CliError::usage("`--progress=tty` needs a terminal that stderr goes to")),
        ProgressStyle::Quiet => Ok(Style::Quiet),
        ProgressStyle::Rawjson => Ok(Style::RawJson),
    }
}

/// `Dockerfile`, or `dockerfile` where that is what there is.
pub(super) fn default_dockerfile(context: &Path) -> PathBuf {
    let [usual, lower] = ["Dockerfile", "dockerfile"].map(|name| context.join(name));
    if !usual.exists() && lower.exists() { lower } else { usual }
}

fn parse_all<T>(texts: &[String], parse: impl Fn(&str) -> Result<T, CliError>) -> Result<Vec<T>, CliError> {
    texts.iter().map(|text| parse(text)).collect()
}

fn directory(what: &str, path: &Path) -> Result<PathBuf, CliError> {
    let metadata = std::fs::metadata(path).map_err(|error| error::io(&format!("open {what}"), path, &error))?;
    if !metadata.is_dir() {
        return Err(CliError::user(format!("cannot open {what} `{}`: it is not a directory", path.display())));
    }
    path.canonicalize().map_err(|error| error::io(&format!("open {what}"), path, &error))
}

/// A name for the new image: a reference without a digest.
pub(crate) fn parse_tag(text: &str) -> Result<Reference, CliError> {
    let reference = Reference::parse(text).map_err(|error| CliError::from_error(Kind::User, &error))?;
    if reference.digest.is_some() {
        return Err(CliError::user(format!("`{text}` cannot name a new image: a digest is given by what is in it")));
    }
    Ok(reference)
}

fn parse_build_args(
    texts: &[String],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut arguments = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), from_environment(text, variable)?),
        };
        if name.is_empty() {
            return Err(CliError::usage(format!("`--build-arg {text}` has no name")));
        }
        match value {
            Some(value) => arguments.insert(name.to_owned(), value),
            None => arguments.remove(name),
        };
    }
    Ok(arguments)
}

fn from_environment(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<String>, CliError> {
    match variable(name).map(OsString::into_string) {
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(CliError::user(format!("the environment variable `{name}` is not valid UTF-8"))),
        None => Ok(None),
    }
}

fn parse_label(text: &str) -> Result<(String, String), CliError> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(CliError::usage(format!("`--label {text}` has no key")));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_context(text: &str) -> Result<(String, NamedContext), CliError> {
    let flag = format!("`--build-context {text}`");
    let Some((name, value)) = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty()) else {
        return Err(CliError::usage(format!("{flag} is not of the form `NAME=VALUE`")));
    };
    if name.eq_ignore_ascii_case("context") || name.eq_ignore_ascii_case("dockerfile") {
        return Err(CliError::usage(format!("{flag}: the name `{name}` is taken by kiln itself")));
    }
    let name = name.to_lowercase();
    let context = if let Some(reference) = value.strip_prefix("docker-image://") {
        Reference::parse(reference).map_err(|error| CliError::from_error(Kind::User, &error).context(&flag))?;
        NamedContext::Image(reference.to_owned())
    } else if value.starts_with("oci-layout://") {
        NamedContext::Image(value.to_owned())
    } else if let Some(stage) = value.strip_prefix("target:").filter(|stage| !stage.is_empty()) {
        NamedContext::Stage(stage.to_owned())
    } else if let Some(remote) = RemoteContext::of_url(value).map_err(|error| error.context(&flag))? {
        NamedContext::Remote(remote)
    } else if value.contains("://") {
        return Err(CliError::user(format!("{flag}: nothing is known of contexts of this kind")).hint(
            "give a directory, `docker-image://REF`, `oci-layout://DIR`, `target:STAGE`, a git repository or a URL",
        ));
    } else {
        NamedContext::Directory(directory(&format!("the context `{name}`"), Path::new(value))?)
    };
    Ok((name, context))
}

/// The platforms asked for, each once; none if nobody asks.
pub(super) fn platforms(
    texts: &[String],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<Platform>, CliError> {
    let default = if texts.is_empty() { from_environment(DEFAULT_PLATFORM, variable)? } else { None };
    let words = texts.iter().chain(&default).flat_map(|text| text.split(',')).map(str::trim);
    let mut platforms = Vec::new();
    for word in words.filter(|word| !word.is_empty()) {
        let platform: Platform = word.parse().map_err(|error| CliError::from_error(Kind::Usage, &error))?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn request(words: &[&str]) -> Result<Request, CliError> {
        let all = ["kiln"].iter().chain(words);
        let command = Command::try_parse_from(all).map_err(|error| CliError::usage(error.to_string()))?;
        Request::new(command.args, &Environment::default(), &|name| (name == "FROM_ENVIRONMENT").then(|| "set".into()))
    }

    fn message(words: &[&str]) -> String {
        request(words).unwrap_err().message
    }

    #[test]
    fn what_is_pushed_has_a_name() {
        let pushed = |words: &[&str]| {
            let outputs = request(words).unwrap().outputs.into_iter();
            outputs.filter(|output| matches!(output, Output::Store { push: Some(_), .. })).count()
        };
        assert_eq!(pushed(&["/", "--push", "-t", "a"]), 1);
        assert_eq!(pushed(&["/", "--push", "-t", "a", "-o", "out"]), 1);
        assert_eq!(pushed(&["/", "--push", "-o", "type=image,name=a"]), 1);
        assert_eq!(pushed(&["/", "-o", "type=image", "-t", "a"]), 0);
        assert!(message(&["/", "--push"]).contains("needs a name"));
        assert!(message(&["/", "-o", "type=registry"]).contains("needs a name"));
    }

    #[test]
    fn the_store_names_what_it_is_to_keep() {
        let stored = |words: &[&str]| {
            let (names, is_listed) = request(words).unwrap().stored_names();
            (names.iter().map(Reference::familiar).collect::<Vec<_>>().join(" "), is_listed)
        };
        assert_eq!(stored(&["/"]), (String::new(), true));
        assert_eq!(stored(&["/", "-o", "out"]), (String::new(), false));
        assert_eq!(stored(&["/", "-o", "type=image"]), (String::new(), true));
        assert_eq!(stored(&["/", "-t", "a", "-o", "type=image,name=b"]), ("a:latest b:latest".to_owned(), false));
        assert_eq!(stored(&["/", "-o", "type=registry,name=b"]), (String::new(), false));
        assert_eq!(stored(&["/", "-t", "a", "-o", "type=cacheonly"]), (String::new(), false));
    }

    #[test]
    fn the_simplest_build() {
        let request = request(&["/"]).unwrap();
        assert_eq!(request.context, PathBuf::from("/"));
        assert_eq!(request.dockerfile, DockerfileSource::File("/Dockerfile".into()));
        assert_eq!(request.platforms, [Platform::host()]);
        assert_eq!(request.style, Style::Plain);
        assert!(!request.print_id);
    }

    #[test]
    fn build_arguments_come_from_the_environment_where_they_have_no_value() {
        let words = ["--build-arg", "A=1=2", "--build-arg", "FROM_ENVIRONMENT", "--build-arg", "UNSET", "/"];
        let arguments = request(&words).unwrap().build_args;
        let expected = [("A", "1=2"), ("FROM_ENVIRONMENT", "set")];
        assert_eq!(arguments, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(message(&["--build-arg", "=x", "/"]), "`--build-arg =x` has no name");
    }

    #[test]
    fn the_display_suits_the_terminal() {
        let environment = |live| {
            let mut environment = Environment::default();
            environment.live = live;
            environment
        };
        assert_eq!(style(ProgressStyle::Auto, &environment(true)).unwrap(), Style::Tty);
        assert_eq!(style(ProgressStyle::Auto, &environment(false)).unwrap(), Style::Plain);
        assert_eq!(style(ProgressStyle::Tty, &environment(true)).unwrap(), Style::Tty);
        assert_eq!(style(ProgressStyle::Tty, &environment(false)).unwrap_err().exit_code(), 2);
        assert_eq!(request(&["--progress", "rawjson", "/"]).unwrap().style, Style::RawJson);
        assert_eq!(request(&["--progress", "rawjson", "-q", "/"]).unwrap().style, Style::Quiet);
    }

    #[test]
    fn the_time_may_be_fixed() {
        let epoch = |value: &str| request(&["--build-arg", &format!("SOURCE_DATE_EPOCH={value}"), "/"]);
        assert_eq!(epoch("0").unwrap().source_date_epoch, Some(SystemTime::UNIX_EPOCH));
        assert_eq!(epoch("").unwrap().source_date_epoch, None);
        assert!(epoch("noon").unwrap_err().message.contains("`SOURCE_DATE_EPOCH` is `noon`"));
    }

    #[test]
    fn labels_may_be_empty_but_not_nameless() {
        let labels = request(&["--label", "a", "--label", "b=c=d", "/"]).unwrap().labels;
        assert_eq!(labels, [("a", ""), ("b", "c=d")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(message(&["--label", "=x", "/"]), "`--label =x` has no key");
    }

    #[test]
    fn contexts_have_kinds() {
        let words = ["--build-context", "Src=/", "--build-context", "base=docker-image://debian:12"];
        let more = ["--build-context", "layout=oci-layout:///tmp/x:1", "/"];
        let contexts = request(&[&words[..], &more].concat()).unwrap().contexts;
        assert_eq!(contexts["src"], NamedContext::Directory("/".into()));
        assert_eq!(contexts["base"], NamedContext::Image("debian:12".to_owned()));
        assert_eq!(contexts["layout"], NamedContext::Image("oci-layout:///tmp/x:1".to_owned()));
        let words = ["--build-context", "a=target:base", "--build-context", "b=https://host/x.git", "/"];
        let contexts = request(&words).unwrap().contexts;
        assert_eq!(contexts["a"], NamedContext::Stage("base".to_owned()));
        assert!(matches!(contexts["b"], NamedContext::Remote(RemoteContext::Git(_))));
        for value in ["x", "x=", "=x", "context=/", "x=ftp://example.com/a", "x=docker-image://A", "x=/no/such"] {
            assert!(request(&["--build-context", value, "/"]).is_err(), "{value}");
        }
    }

    #[test]
    fn names_are_checked_before_anything_is_built() {
        assert!(message(&["-t", "App", "/"]).contains("invalid image reference `App`"));
        let digest = format!("app@sha256:{}", "0".repeat(64));
        assert!(message(&["-t", &digest, "/"]).contains("cannot name a new image"));
        let tags = request(&["-t", "app", "-t", "localhost:5000/team/app:1", "/"]).unwrap().tags;
        let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
        assert_eq!(tags, ["docker.io/library/app:latest", "localhost:5000/team/app:1"]);
    }

    #[test]
    fn contexts_may_come_from_elsewhere() {
        assert_eq!(request(&["-"]).unwrap().remote_context, Some(RemoteContext::Stdin));
        assert!(message(&["-", "-f", "-"]).contains("cannot both"));
        for url in ["https://host/x.git#main:dir", "git@host:x/y.git", "github.com/x/y"] {
            let remote = request(&[url]).unwrap().remote_context;
            assert!(matches!(remote, Some(RemoteContext::Git { .. })), "{url}: {remote:?}");
        }
        let remote = request(&["https://host/x.tar.gz"]).unwrap().remote_context;
        assert!(matches!(remote, Some(RemoteContext::Http(_))), "{remote:?}");
        assert!(message(&["https://host/x.git?what=x"]).contains("`what`"));
        assert!(message(&["/etc/passwd"]).contains("it is not a directory"));
        assert!(message(&["/no/such/place"]).contains("no such file or directory"));
    }

    #[test]
    fn several_platforms_are_each_built_once() {
        let platforms = |words: &[&str]| {
            let request = request(words).unwrap();
            let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
            (platforms.join(" "), request.targeting())
        };
        let host = Platform::host().to_string();
        assert_eq!(platforms(&["/"]), (host.clone(), Targeting::Default));
        assert_eq!(platforms(&["--platform", "", "/"]), (host.clone(), Targeting::Default));
        assert_eq!(platforms(&["--platform", "local", "/"]), (host, Targeting::Asked));
        let words = ["--platform", "linux/s390x, linux/arm64", "--platform", "linux/arm64/v8,linux/arm", "/"];
        assert_eq!(platforms(&words), ("linux/s390x linux/arm64 linux/arm/v7".to_owned(), Targeting::OneOfSeveral));
        assert_eq!(request(&["--platform", "a b", "/"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_environment_may_name_the_platform() {
        let found = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            let variable = |name: &str| (name == DEFAULT_PLATFORM).then(|| "linux/s390x".into());
            platforms(&texts, &variable).unwrap()
        };
        assert_eq!(found(&[]), [Platform::new("linux", "s390x", None)]);
        assert_eq!(found(&["linux/arm64"]), [Platform::new("linux", "arm64", None)]);
    }

    #[test]
    fn what_holds_one_platform_is_refused_for_several() {
        let both = ["--platform", "linux/amd64,linux/arm64", "/"];
        let with = |words: &[&str]| request(&[words, &both].concat());
        assert!(with(&["-o", "type=docker,dest=a.tar"]).unwrap_err().message.contains("one platform"));
        assert!(with(&["-o", "type=oci,dest=a.tar"]).is_ok());
        assert!(with(&["--annotation", "index:a=b"]).is_ok());
        assert!(message(&["--annotation", "index:a=b", "/"]).contains("has no index"));
    }

    #[test]
    fn stdout_has_room_for_one_thing() {
        assert!(request(&["-o", "-", "/"]).is_ok());
        assert!(message(&["-o", "-", "-o", "type=oci", "/"]).contains("only one"));
        assert!(message(&["-q", "-o", "-", "/"]).contains("prints the image ID"));
        let quiet = request(&["-q", "/"]).unwrap();
        assert!(quiet.print_id);
        assert_eq!(quiet.style, Style::Quiet);
    }
}
