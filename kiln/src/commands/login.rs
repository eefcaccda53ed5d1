//! `kiln login`

use std::io::Read as _;

use kiln_image::{Configuration, Credentials, ImageError, Login, Stored, verify, verify_kept};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::image_error;
use crate::{prompt, registry, terminal};

/// No password is longer.
const LONGEST: u64 = 1 << 20;

/// Log in to a registry
///
/// The registry is asked whether it takes user name and password. Then they are kept where docker keeps them: with the
/// credential helper or store that `~/.docker/config.json` names, or else in that file.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The registry: host and port
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,

    /// The user name; asked for where it is not given
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,

    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,

    /// Refused: all users of a machine see the arguments of its commands
    #[arg(short, long, hide = true, num_args = 0..=1)]
    password: Option<Option<Refused>>,
}

/// What is not even kept.
#[derive(Clone, Debug)]
struct Refused;

impl From<std::ffi::OsString> for Refused {
    fn from(_: std::ffi::OsString) -> Self {
        Self
    }
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    if args.password.is_some() {
        return Err(CliError::usage("`--password` would show the password to all users of this machine")
            .hint("give it on standard input: `--password-stdin < FILE`, or be asked for it"));
    }
    let (registry, configuration) = (registry::host_of(&args.registry)?, environment.configuration()?);
    let (credentials, cancel) = (registry::credentials(environment), Cancel::new());
    if args.username.is_none() && !args.password_stdin && is_logged_in(&configuration, &credentials, &registry)? {
        return terminal::print("Login Succeeded\n");
    }
    let login = ask(args, &registry)?;
    verify(&configuration, &login, &cancel).map_err(|error| image_error(&error))?;
    let stored = credentials.store(&login, &cancel).map_err(|error| image_error(&error))?;
    if let Stored::File(path) = stored {
        let message = format!("the password is in `{}`, where it is not encrypted", path.display());
        terminal::warn(&message, environment.colour);
    }
    terminal::print("Login Succeeded\n")
}

/// Whether there are credentials already, and good ones.
fn is_logged_in(configuration: &Configuration, credentials: &Credentials, registry: &str) -> Result<bool, CliError> {
    match verify_kept(configuration, credentials, registry, &Cancel::new()) {
        Ok(kept) => Ok(kept),
        // They are to be replaced.
        Err(ImageError::Login { .. } | ImageError::Credentials { .. }) => Ok(false),
        Err(error) => Err(image_error(&error)),
    }
}

fn ask(args: &Args, registry: &str) -> Result<Login, CliError> {
    if args.password_stdin {
        let user = args.username.as_deref().ok_or_else(|| CliError::usage("`--password-stdin` needs `--username`"))?;
        return Ok(Login::new(registry, user, &password_from_stdin()?));
    }
    if !prompt::is_possible() {
        return Err(CliError::usage("there is no terminal to ask for the password at")
            .hint("give it on standard input: `--username NAME --password-stdin < FILE`"));
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => prompt::line(&format!("Username for {registry}: "))?,
    };
    if user.is_empty() {
        return Err(CliError::user("the user name is empty"));
    }
    let password = prompt::secret("Password: ")?;
    if password.is_empty() {
        return Err(CliError::user("the password is empty"));
    }
    Ok(Login::new(registry, &user, &password))
}

fn password_from_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST).read_to_string(&mut text);
    read.map_err(|_| CliError::user("the password on standard input cannot be read: is it text?"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(CliError::user("the password on standard input is empty"));
    }
    Ok(password.to_owned())
}
