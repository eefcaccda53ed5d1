//! The flags of `kiln build` as they were typed. [`Request`](super::request::Request) is what they mean.

use std::path::PathBuf;

use super::attest::AttestArgs;
use super::cache::CacheArgs;
use super::explain::Form;
use super::run::RunArgs;
use crate::environment::Environment;
use crate::error::CliError;
use crate::progress::Style;

/// Build an image from a Dockerfile
///
/// Runs the instructions of a Dockerfile over a directory, the build context, and stores the image under the
/// names given with `--tag`. What an earlier build has done already is not done again.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  kiln build -t app:1.0 .                    build ./Dockerfile and name the image
  kiln build -f deploy/Dockerfile --target test .
  kiln build -o type=docker,dest=app.tar .   write an archive for `docker load`
  kiln build -o type=oci,compression=zstd,dest=app.tar .
  kiln build -o out .                        write the files of the final stage to a directory")]
pub(crate) struct Args {
    /// The build context that COPY and ADD read: a directory, a git repository (URL[#REF[:DIR]]), the URL of a tar
    /// archive or a Dockerfile, or `-` for an archive or a Dockerfile on standard input
    #[arg(value_name = "PATH")]
    pub(super) path: PathBuf,

    /// Name the image, as in `app:1.0` or `registry.example/team/app`; may be repeated
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub(super) tags: Vec<String>,

    /// The Dockerfile, or `-` for standard input; relative to the context where that is no directory of this
    /// machine [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,

    /// Build this stage and what it needs instead of the last one
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,

    /// Set a build argument (ARG), from the environment where it has no value; may be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(super) build_args: Vec<String>,

    /// Label the image; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(super) labels: Vec<String>,

    /// Give a name to a directory (DIR), an image (docker-image://REF), an OCI layout (oci-layout://DIR), a git
    /// repository or a file (URL), or a stage (target:STAGE), for FROM and --from; may be repeated
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(super) contexts: Vec<String>,

    /// Run every step, even those that the cache has
    #[arg(long, conflicts_with = "no_cache_filter")]
    pub(super) no_cache: bool,

    /// Run every step of these stages (STAGE,STAGE), even those that the cache has; may be repeated
    #[arg(long, value_name = "STAGES", value_delimiter = ',')]
    pub(super) no_cache_filter: Vec<String>,

    /// Ask the registry for newer versions of the base images
    #[arg(long)]
    pub(super) pull: bool,

    /// Build for these platforms (linux/amd64,linux/arm64; `local` is the host's), several as one image with an index;
    /// may be repeated [default: the host's, or DOCKER_DEFAULT_PLATFORM]
    #[arg(long = "platform", value_name = "PLATFORMS")]
    pub(super) platforms: Vec<String>,

    /// What to do with the result: `type=image|registry|oci|docker|tar|local|cacheonly[,dest=PATH]`, PATH for a directory, `-`
    /// for a tar archive on standard output; may be repeated
    ///
    /// Of images: `name`, `compression=gzip|zstd|uncompressed`, `compression-level`, `force-compression`,
    /// `oci-mediatypes`, `rewrite-timestamp`, `annotation[-PLACE][[PLATFORM]].KEY`; `tar=false` writes a directory.
    /// Of directories and tar archives: `platform-split`; of directories `mode=delete` to remove what is not in the result.
    #[arg(short, long = "output", value_name = "SPEC", allow_hyphen_values = true)]
    pub(super) outputs: Vec<String>,

    /// Push the image under its names; short for `--output=type=registry`
    #[arg(long)]
    pub(super) push: bool,

    /// Load the image into Docker, podman or containerd; short for `--output=type=docker`
    ///
    /// That is the one that `KILN_ENGINE` names (docker, podman, nerdctl or containerd), or else the first of them that
    /// there is. Docker's daemon is the one of `DOCKER_HOST` or of the current context, containerd the one of
    /// `CONTAINERD_ADDRESS` with its namespace `CONTAINERD_NAMESPACE`.
    #[arg(long)]
    pub(super) load: bool,

    /// Print nothing but the ID of the image
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Write the ID of the image to this file
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,

    /// Write digests and names of the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) metadata_file: Option<PathBuf>,

    /// Note something on the image, in its manifest unless a place comes before it (`index:KEY=VALUE`); may be repeated
    ///
    /// The places are manifest, index, manifest-descriptor and index-descriptor, with a `[PLATFORM]` behind if need be.
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(super) annotations: Vec<String>,

    /// Make the same image everywhere: nothing in it is younger than SOURCE_DATE_EPOCH, which is 0 if it is not set
    #[arg(long)]
    pub(super) reproducible: bool,

    /// Tell about the build instead of building: `check`, `outline` or `targets`, with `,format=json` as JSON
    #[arg(long, value_name = "METHOD", default_value = "build", hide_default_value = true, conflicts_with = "check")]
    pub(super) call: String,

    /// Check the Dockerfile and build nothing; the same as `--call=check`
    #[arg(long)]
    pub(super) check: bool,

    /// Say for each step why it ran, or what let it be found in the cache: for people at the end, or as JSON on
    /// standard output
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub(super) explain: Option<Form>,

    /// When a RUN fails, open a shell in it, as it left its files, before the build ends
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) on_error: Option<OnError>,

    /// How to show what happens
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto, value_name = "STYLE")]
    pub(super) progress: ProgressStyle,

    #[command(flatten)]
    pub(super) cache: CacheArgs,

    #[command(flatten)]
    pub(super) attest: AttestArgs,

    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// The values of `--on-error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OnError {
    /// Open a shell in the step that failed; it takes a terminal
    Shell,
}

/// The values of `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressStyle {
    /// What suits the terminal
    Auto,
    /// Every step and its output, line by line
    Plain,
    /// A live display of what is running
    Tty,
    /// Nothing
    #[value(alias = "none")]
    Quiet,
    /// A line of JSON for each thing that happens, as BuildKit has them
    Rawjson,
}

impl ProgressStyle {
    /// How that is shown here.
    ///
    /// # Errors
    /// When it needs a terminal and there is none.
    pub(crate) fn style(self, environment: &Environment) -> Result<Style, CliError> {
        match self {
            Self::Auto if environment.live => Ok(Style::Tty),
            Self::Auto | Self::Plain => Ok(Style::Plain),
            Self::Tty if environment.live => Ok(Style::Tty),
            Self::Tty => Err(CliError::usage("`--progress=tty` needs a terminal that stderr goes to")),
            Self::Quiet => Ok(Style::Quiet),
            Self::Rawjson => Ok(Style::RawJson),
        }
    }
}
