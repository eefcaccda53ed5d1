//! `kiln pull`

use kiln_image::{Pulled, Reference};
use kiln_solver::Platform;

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::local::image_error;
use crate::progress::Style;
use crate::terminal;
use crate::transfer::Transfer;

/// Fetch images from registries
///
/// Builds fetch what they need by themselves: this is for what is to be there before, or to be pushed elsewhere.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The names of images
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    names: Vec<String>,

    /// Of images for several platforms the one for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,

    /// Of images for several platforms all of them
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,

    /// Print nothing but the names that were pulled
    #[arg(short, long)]
    quiet: bool,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let parse = |name: &String| Reference::parse(name).map_err(|error| CliError::from_error(Kind::User, &error));
    let names = args.names.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let parse = |text: &String| text.parse().map_err(|error| CliError::from_error(Kind::Usage, &error));
    let platform: Option<Platform> = args.platform.as_ref().map(parse).transpose()?;
    let transfer = Transfer::begin(Style::for_transfers(args.quiet, environment), environment)?;
    let images = transfer.images();
    let mut report = String::new();
    let result = names.iter().try_for_each(|name| {
        let pulled = transfer.progress.during(&format!("pulling {}", name.familiar()), |_| {
            let pulled = match args.all_platforms {
                true => images.pull_all(name, &transfer.cancel),
                false => images.pull(name, platform.as_ref(), &transfer.cancel),
            };
            pulled.map_err(|error| image_error(&error))
        })?;
        report.push_str(&if args.quiet { format!("{name}\n") } else { lines(name, &pulled) });
        Ok(())
    });
    let ended = transfer.end(result, CliError::stopped("the pull was cancelled; the layers that have arrived stay"));
    terminal::print(&report)?;
    ended
}

/// The lines with which `docker pull` ends.
fn lines(name: &Reference, pulled: &Pulled) -> String {
    let status = if pulled.is_new { "Downloaded newer image for" } else { "Image is up to date for" };
    format!("Digest: {}\nStatus: {status} {}\n{name}\n", pulled.digest, name.familiar())
}
