//! `--secret` and `--ssh`: what is given to commands that ask for it by name. Secrets are read at once, while kiln is
//! still who started it, and stay in memory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use kiln_executor::Credentials;
use kiln_executor::sandbox::Secret;
use kiln_frontend::csv_fields;

use crate::error::{self, CliError};

/// The most that a secret may hold, which is BuildKit's limit too.
const LARGEST: u64 = 500 * 1024;
/// The agent that is meant where none is named.
const DEFAULT_AGENT: &str = "default";
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// Reads the secrets and finds the agents; `variable` looks up the environment.
pub(super) fn read(
    secrets: &[String],
    agents: &[String],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Credentials, CliError> {
    let mut given = Credentials::default();
    for text in secrets {
        let secret = SecretFlag::parse(text).map_err(|error| error.context(format!("`--secret {text}`")))?;
        let content = secret.read(variable).map_err(|error| error.context(format!("`--secret {text}`")))?;
        given.secrets.insert(secret.id, content);
    }
    for text in agents {
        let (id, socket) = agent(text, variable).map_err(|error| error.context(format!("`--ssh {text}`")))?;
        given.agents.insert(id, socket);
    }
    Ok(given)
}

/// A `--secret`, as buildx reads it.
#[derive(Debug, Default, PartialEq, Eq)]
struct SecretFlag {
    id: String,
    file: Option<PathBuf>,
    variable: Option<String>,
}

impl SecretFlag {
    fn parse(text: &str) -> Result<Self, CliError> {
        let usage = |problem: String| CliError::usage(problem).hint("write `id=ID,src=FILE` or `id=ID,env=NAME`");
        let mut secret = Self::default();
        let mut is_variable = false;
        for field in csv_fields(text).map_err(usage)? {
            let (key, value) =
                field.split_once('=').ok_or_else(|| usage(format!("`{field}` is not of the form `NAME=VALUE`")))?;
            match (key.to_lowercase().as_str(), value) {
                ("type", "file") => is_variable = false,
                ("type", "env") => is_variable = true,
                ("type", other) => {
                    return Err(usage(format!("there is no type `{other}`: it is `file` or `env`")));
                }
                ("id", _) => value.clone_into(&mut secret.id),
                ("source" | "src", _) => secret.file = Some(value.into()).filter(|_| !value.is_empty()),
                ("env", _) => secret.variable = Some(value.to_owned()).filter(|_| !value.is_empty()),
                (other, _) => return Err(usage(format!("there is no `{other}` of a secret"))),
            }
        }
        if secret.id.is_empty() {
            return Err(usage("the secret has no `id`".to_owned()));
        }
        if is_variable && secret.variable.is_none() {
            secret.variable = secret.file.take().and_then(|name| name.into_os_string().into_string().ok());
        }
        Ok(secret)
    }

    /// What it holds. Where nothing says, that is a variable of its name, or else a file. A variable that is not set
    /// makes an empty secret, as with Docker.
    fn read(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Secret, CliError> {
        let content = match (&self.variable, &self.file) {
            (Some(name), _) => variable(name).unwrap_or_default().into_vec(),
            (None, Some(path)) => read_file(path)?,
            (None, None) => match variable(&self.id) {
                Some(value) => value.into_vec(),
                None => read_file(Path::new(&self.id))?,
            },
        };
        Ok(Secret::new(content))
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |error: std::io::Error| error::io("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    // So large from the start that nothing of it stays behind in memory when it grows.
    let mut content = Vec::with_capacity(usize::try_from(length.min(LARGEST)).unwrap_or_default() + 1);
    file.take(LARGEST + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LARGEST {
        return Err(CliError::user(format!("`{}` is larger than a secret may be, 500 KiB", path.display())));
    }
    Ok(content)
}

/// An agent's name and its socket.
fn agent(text: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<(String, PathBuf), CliError> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { DEFAULT_AGENT } else { id }.to_owned();
    let paths: Vec<&str> = paths.split(',').filter(|path| !path.is_empty()).collect();
    let path: PathBuf = match paths.as_slice() {
        [] => variable(AGENT_VARIABLE).filter(|socket| !socket.is_empty()).map(PathBuf::from).ok_or_else(|| {
            CliError::user(format!("`{AGENT_VARIABLE}` is not set, so no ssh agent is known")).hint(format!(
                "start one with `eval \"$(ssh-agent)\"` and `ssh-add`, or name its socket: `--ssh {id}=SOCKET`"
            ))
        })?,
        [path] => path.into(),
        [first, ..] => return Err(is_key(first, &id)),
    };
    let metadata = fs::metadata(&path).map_err(|error| error::io("find the ssh agent at", &path, &error))?;
    if !metadata.file_type().is_socket() {
        return Err(is_key(&path.display().to_string(), &id));
    }
    // The build may work in another directory.
    let path = std::path::absolute(&path).map_err(|error| error::io("find", &path, &error))?;
    Ok((id, path))
}

/// kiln holds no private keys: that is what agents are for.
fn is_key(path: &str, id: &str) -> CliError {
    CliError::user(format!("`{path}` is not the socket of an ssh agent; kiln does not read keys")).hint(format!(
        "put the key into an agent and give that: `eval \"$(ssh-agent)\"; ssh-add {path}`, and `--ssh {id}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn variable(name: &str) -> Option<OsString> {
        (name == "TOKEN").then(|| "hunter2".into())
    }

    fn secret(text: &str) -> Result<(String, Vec<u8>), CliError> {
        let given = read(&[text.to_owned()], &[], &variable)?;
        let (id, secret) = given.secrets.first_key_value().unwrap();
        Ok((id.clone(), secret.expose().to_vec()))
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("with, comma");
        fs::write(&file, b"from \0 file\n").unwrap();
        let quoted = format!("id=a,\"src={}\"", file.display());
        assert_eq!(secret(&quoted).unwrap(), ("a".to_owned(), b"from \0 file\n".to_vec()));
        for text in ["id=a,env=TOKEN", "ID=a,type=env,src=TOKEN", "type=env,id=a,env=TOKEN", "id=a,src=/no,env=TOKEN"] {
            assert_eq!(secret(text).unwrap(), ("a".to_owned(), b"hunter2".to_vec()), "{text}");
        }
        assert_eq!(secret("id=TOKEN").unwrap().1, b"hunter2", "a variable of the name");
        assert_eq!(secret("id=a,env=UNSET").unwrap().1, b"", "as with Docker");
    }

    #[test]
    fn wrong_secrets_are_explained_and_not_shown() {
        for text in ["", "a", "src=x", "id=a,colour=red", "id=a,type=vault", "\"id=a"] {
            let error = secret(text).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{text}: {}", error.message);
            assert!(error.message.starts_with(&format!("`--secret {text}`")), "{}", error.message);
        }
        assert!(secret("id=a,src=/no/such/file").unwrap_err().message.contains("no such file"));
        assert!(secret("id=no-such-file-nor-variable").is_err());
        let given = read(&["id=TOKEN".to_owned()], &[], &variable).unwrap();
        assert!(!format!("{given:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_has_a_largest_size() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("large");
        fs::write(&file, vec![b'x'; 500 * 1024]).unwrap();
        let flag = format!("id=a,src={}", file.display());
        assert_eq!(secret(&flag).unwrap().1.len(), 500 * 1024);
        fs::write(&file, vec![b'x'; 500 * 1024 + 1]).unwrap();
        assert!(secret(&flag).unwrap_err().message.contains("500 KiB"));
    }

    #[test]
    fn agents_are_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let _listener = UnixListener::bind(&socket).unwrap();
        let lookup = |name: &str| (name == AGENT_VARIABLE).then(|| socket.clone().into());
        let agents = |text: &str| read(&[], &[text.to_owned()], &lookup).map(|given| given.agents);
        let named = format!("github={}", socket.display());
        for (text, id) in [("default", "default"), ("", "default"), ("x", "x"), ("y=", "y"), (named.as_str(), "github")]
        {
            assert_eq!(agents(text).unwrap(), [(id.to_owned(), socket.clone())].into(), "{text}");
        }
        let key = directory.path().join("id_ed25519");
        fs::write(&key, "key").unwrap();
        for text in [format!("default={}", key.display()), format!("a={0},{0}", key.display())] {
            let error = agents(&text).unwrap_err();
            assert!(error.message.contains("does not read keys") && error.hints[0].contains("ssh-add"), "{error:?}");
        }
        assert!(agents("default=/no/such/socket").unwrap_err().message.contains("no such file"));
        let none = read(&[], &["default".to_owned()], &|_| None).unwrap_err();
        assert!(none.message.contains("`SSH_AUTH_SOCK` is not set") && none.hints[0].contains("ssh-agent"));
    }
}
