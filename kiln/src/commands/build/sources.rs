//! Reads what a build is described by: the Dockerfile and `.dockerignore`.

use std::ffi::OsString;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use kiln_parser::ignore::Ignore;

use super::request::DockerfileSource;
use crate::diagnostics::SourceFile;
use crate::error::{self, CliError, Kind};

/// No Dockerfile is larger: whatever is, is something else.
const DOCKERFILE_LIMIT: u64 = 16 << 20;

/// Reads the Dockerfile.
pub(super) fn dockerfile(source: &DockerfileSource) -> Result<SourceFile, CliError> {
    let (name, bytes) = match source {
        DockerfileSource::Stdin => ("<stdin>".to_owned(), read_limited("<stdin>", std::io::stdin().lock())?),
        DockerfileSource::File(path) => (shown(path), read_file(path)?),
        DockerfileSource::Within { root, path } => (shown(path), read_within(root, path)?),
        DockerfileSource::Text { name, bytes } => (name.clone(), bytes.clone()),
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        CliError::user(format!("the Dockerfile `{name}` is not UTF-8 text: see line {line}"))
    })?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(SourceFile { name, text })
}

/// A path as people write it: without `./` in front.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

fn read_file(path: &Path) -> Result<Vec<u8>, CliError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) => {
            let failure = error::io("open the Dockerfile", path, &error);
            return Err(match error.kind() {
                ErrorKind::NotFound => failure.hint("`-f FILE` builds from a Dockerfile of another name or place"),
                _ => failure,
            });
        }
    };
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(CliError::user(format!("cannot read the Dockerfile `{}`: it is a directory", path.display())));
    }
    read_limited(&path.display().to_string(), file)
}

/// Reads a file of a context from elsewhere: its links lead nowhere else.
fn read_within(root: &Path, path: &Path) -> Result<Vec<u8>, CliError> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    let failed = |errno: rustix::io::Errno| {
        let error: std::io::Error = errno.into();
        let failure = error::io("open the Dockerfile", path, &error);
        match error.kind() {
            ErrorKind::NotFound => failure.hint("`-f FILE` names a Dockerfile of another name or place in the context"),
            _ => failure,
        }
    };
    let root = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat2(root.map_err(failed)?, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let file = std::fs::File::from(file.map_err(failed)?);
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(CliError::user(format!("cannot read the Dockerfile `{}`: it is no file", path.display())));
    }
    read_limited(&path.display().to_string(), file)
}

pub(super) fn read_limited(name: &str, input: impl std::io::Read) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    input.take(DOCKERFILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| {
        CliError::environment(format!("cannot read the Dockerfile `{name}`: {}", error::plain_io(&error)))
    })?;
    if bytes.len() as u64 > DOCKERFILE_LIMIT {
        return Err(CliError::user(format!("the Dockerfile `{name}` is larger than {} MiB", DOCKERFILE_LIMIT >> 20)));
    }
    Ok(bytes)
}

/// Which file says what is left out of the main context: `NAME.dockerignore` beside the Dockerfile `NAME`, else
/// `.dockerignore` in the context.
pub(super) fn ignore_for(source: &DockerfileSource, context: &Path) -> Result<Ignore, CliError> {
    if let DockerfileSource::File(dockerfile) = source {
        let mut name: OsString = dockerfile.clone().into_os_string();
        name.push(".dockerignore");
        if let Some(ignore) = read_ignore(&PathBuf::from(name))? {
            return Ok(ignore);
        }
    }
    ignore_of(context)
}

/// The `.dockerignore` of a directory; one that leaves nothing out where there is none.
pub(super) fn ignore_of(context: &Path) -> Result<Ignore, CliError> {
    match read_ignore(&context.join(".dockerignore"))? {
        Some(ignore) => Ok(ignore),
        None => Ok(Ignore::default()),
    }
}

fn read_ignore(path: &Path) -> Result<Option<Ignore>, CliError> {
    match std::fs::read(path) {
        Ok(bytes) => parse_ignore(path, &String::from_utf8_lossy(&bytes)).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error::io("read", path, &error)),
    }
}

fn parse_ignore(path: &Path, text: &str) -> Result<Ignore, CliError> {
    Ignore::parse(text.strip_prefix('\u{feff}').unwrap_or(text))
        .map_err(|error| CliError::from_error(Kind::User, &error).context(format!("`{}`", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        directory
    }

    fn read(directory: &tempfile::TempDir, name: &str) -> Result<String, CliError> {
        dockerfile(&DockerfileSource::File(directory.path().join(name))).map(|file| file.text)
    }

    #[test]
    fn what_is_no_dockerfile_is_an_error() {
        let directory = directory(&[("bom", b"\xef\xbb\xbfFROM x\n"), ("binary", b"FROM x\nRUN \xff\n")]);
        assert_eq!(read(&directory, "bom").unwrap(), "FROM x\n");
        assert!(read(&directory, "binary").unwrap_err().message.ends_with("is not UTF-8 text: see line 2"));
        let missing = read(&directory, "missing").unwrap_err();
        assert!(missing.message.ends_with("missing`: no such file or directory"));
        assert_eq!(missing.hints.len(), 1);
        assert!(read(&directory, ".").unwrap_err().message.ends_with("it is a directory"));
    }

    #[test]
    fn the_dockerfile_may_have_its_own_ignore_file() {
        let files: [(&str, &[u8]); 3] =
            [(".dockerignore", b"a\n"), ("Other.dockerignore", b"b\n"), ("Other", b"FROM scratch\n")];
        let directory = directory(&files);
        let ignored = |source: DockerfileSource| {
            let ignore = ignore_for(&source, directory.path()).unwrap();
            [b"a", b"b"].map(|path| ignore.is_ignored(path))
        };
        assert_eq!(ignored(DockerfileSource::File(directory.path().join("Dockerfile"))), [true, false]);
        assert_eq!(ignored(DockerfileSource::File(directory.path().join("Other"))), [false, true]);
        assert_eq!(ignored(DockerfileSource::Stdin), [true, false]);
    }
}
