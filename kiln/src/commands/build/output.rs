//! What `--output` means: `type=docker,dest=app.tar`, a directory, or `-`.

use std::path::PathBuf;

use kiln_image::Reference;

use super::request::parse_tag;
use crate::error::CliError;

/// One thing to write when the build has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// The image in a format that other tools read.
    Image {
        /// Which format.
        format: ImageFormat,
        /// How its layers are compressed.
        compression: Compression,
        /// Where to.
        destination: Destination,
    },
    /// The image in the store, in registries, or both.
    Named(Named),
    /// The files of the final stage, in this directory.
    Files(PathBuf),
    /// The files of the final stage as one tar archive.
    Archive(ArchiveDestination),
}

/// An image that gets names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// The names, where they are not those of `--tag`.
    pub(crate) names: Vec<Reference>,
    /// Whether it is pushed.
    pub(crate) is_pushed: bool,
    /// Whether the registries give it no tags.
    pub(crate) by_digest: bool,
    /// Whether those registries need not prove who they are.
    pub(crate) is_insecure: bool,
    /// Whether the store gets the names, too.
    pub(crate) is_stored: bool,
    /// How its layers are compressed where it is pushed.
    pub(crate) compression: Compression,
}

/// A format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageFormat {
    /// An OCI image layout.
    Oci,
    /// What `docker load` reads.
    Docker,
}

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// One archive file.
    File(PathBuf),
    /// An image layout in a directory (`tar=false`).
    Directory(PathBuf),
    /// An archive on standard output.
    Stdout,
}

/// Where an archive of files goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveDestination {
    /// A file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Compression {
    /// As they are at hand, gzip where they are not compressed yet.
    #[default]
    Any,
    /// Not at all.
    Uncompressed,
    /// gzip, at this level where it is given.
    Gzip(Option<u8>),
    /// zstd, at this level where it is given.
    Zstd(Option<u8>),
}

impl Output {
    /// Whether it goes to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Image { destination: Destination::Stdout, .. } | Self::Archive(ArchiveDestination::Stdout))
    }

    /// Whether it goes to a registry.
    pub(crate) fn is_pushed(&self) -> bool {
        matches!(self, Self::Named(named) if named.is_pushed)
    }

    /// Parses the value of one `--output`.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        Attributes::parse(text).and_then(Attributes::finish).map_err(|error| {
            error.context(format!("`--output {text}`")).hint("see `kiln build --help` for what `--output` takes")
        })
    }
}

/// The attributes as they were written.
#[derive(Default)]
struct Attributes {
    kind: String,
    dest: Option<String>,
    tar: Option<bool>,
    compression: Option<String>,
    level: Option<u8>,
    names: Vec<Reference>,
    push: Option<bool>,
    by_digest: Option<bool>,
    insecure: Option<bool>,
}

impl Attributes {
    fn parse(text: &str) -> Result<Self, CliError> {
        let fields = split_fields(text)?;
        if let [path] = fields.as_slice()
            && !path.starts_with("type=")
        {
            return match path.as_str() {
                "" => Err(CliError::usage("the destination is empty")),
                "-" => Ok(Self { kind: "tar".to_owned(), ..Self::default() }),
                path => Ok(Self { kind: "local".to_owned(), dest: Some(path.to_owned()), ..Self::default() }),
            };
        }
        let mut attributes = Self::default();
        for field in &fields {
            let Some((key, value)) = field.split_once('=') else {
                return Err(CliError::usage(format!("`{field}` is not of the form `key=value`")));
            };
            attributes.set(key.trim(), value)?;
        }
        Ok(attributes)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), CliError> {
        match key.to_lowercase().as_str() {
            "type" => self.kind = value.to_owned(),
            "dest" => self.dest = Some(value.to_owned()),
            "tar" => self.tar = Some(boolean(key, value)?),
            "name" => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                let parse = |name| parse_tag(name).map_err(|error| CliError::usage(error.message));
                self.names = names.map(parse).collect::<Result<_, _>>()?;
            }
            "push" => self.push = Some(boolean(key, value)?),
            "push-by-digest" => self.by_digest = Some(boolean(key, value)?),
            "registry.insecure" => self.insecure = Some(boolean(key, value)?),
            "compression" => self.compression = Some(value.to_owned()),
            "compression-level" => {
                let level = value.parse().map_err(|_| CliError::usage(format!("`{value}` is not a level")))?;
                self.level = Some(level);
            }
            "force-compression" if boolean(key, value)? => {
                return Err(CliError::usage("`force-compression` is not supported in this version")
                    .hint("layers of a base image stay as they were pulled; those made here follow `compression`"));
            }
            "force-compression" => {}
            _ => return Err(CliError::usage(format!("unknown attribute `{key}`"))),
        }
        Ok(())
    }

    fn finish(self) -> Result<Output, CliError> {
        let format = match self.kind.as_str() {
            "oci" => ImageFormat::Oci,
            "docker" => ImageFormat::Docker,
            "local" | "tar" => return self.files(),
            "image" | "registry" => return self.named(),
            "" => return Err(CliError::usage("`type` is missing")),
            kind => {
                let known = "image, registry, oci, docker, tar or local";
                return Err(CliError::usage(format!("unknown type `{kind}`: expected {known}")));
            }
        };
        self.has_no_registry()?;
        let compression = self.compression(format)?;
        let destination = match (self.dest, self.tar) {
            (None, Some(false)) => return Err(CliError::usage("`tar=false` needs `dest=DIRECTORY`")),
            (Some(path), Some(false)) if path != "-" => Destination::Directory(path.into()),
            (Some(path), _) if path != "-" => Destination::File(non_empty(path)?),
            _ => Destination::Stdout,
        };
        if format == ImageFormat::Docker && matches!(destination, Destination::Directory(_)) {
            return Err(CliError::usage("type `docker` is always an archive: `tar=false` is for type `oci`"));
        }
        Ok(Output::Image { format, compression, destination })
    }

    fn named(self) -> Result<Output, CliError> {
        let kind = &self.kind;
        if self.dest.is_some() || self.tar.is_some() {
            return Err(CliError::usage(format!("type `{kind}` has no `dest` and no `tar`")));
        }
        let is_registry = kind == "registry";
        if is_registry && self.push == Some(false) {
            return Err(CliError::usage("type `registry` is always pushed: `push=false` is for type `image`"));
        }
        let is_pushed = is_registry || self.push == Some(true);
        let (by_digest, is_insecure) = (self.by_digest == Some(true), self.insecure == Some(true));
        if !is_pushed && (by_digest || is_insecure) {
            return Err(CliError::usage("`push-by-digest` and `registry.insecure` need `push=true`"));
        }
        let compression = self.compression(ImageFormat::Oci)?;
        let (names, is_stored) = (self.names, !is_registry);
        Ok(Output::Named(Named { names, is_pushed, by_digest, is_insecure, is_stored, compression }))
    }

    /// Refuses what is for registries alone.
    fn has_no_registry(&self) -> Result<(), CliError> {
        let given = [
            ("name", !self.names.is_empty()),
            ("push", self.push.is_some()),
            ("push-by-digest", self.by_digest.is_some()),
            ("registry.insecure", self.insecure.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(CliError::usage(format!("`{key}` is for the types `image` and `registry`"))),
            None => Ok(()),
        }
    }

    fn files(self) -> Result<Output, CliError> {
        self.has_no_registry()?;
        let kind = &self.kind;
        if self.tar.is_some() || self.compression.is_some() || self.level.is_some() {
            return Err(CliError::usage(format!("type `{kind}` takes `dest` alone")));
        }
        match (kind.as_str(), self.dest) {
            ("local", Some(path)) if path != "-" => Ok(Output::Files(non_empty(path)?)),
            ("local", _) => Err(CliError::usage("type `local` needs `dest=DIRECTORY`")),
            (_, Some(path)) if path != "-" => Ok(Output::Archive(ArchiveDestination::File(non_empty(path)?))),
            _ => Ok(Output::Archive(ArchiveDestination::Stdout)),
        }
    }

    fn compression(&self, format: ImageFormat) -> Result<Compression, CliError> {
        let (compression, levels) = match (self.compression.as_deref(), self.level) {
            (None, None) => return Ok(Compression::Any),
            (None, Some(_)) => return Err(CliError::usage("`compression-level` needs `compression`")),
            (Some("uncompressed"), None) => return Ok(Compression::Uncompressed),
            (Some("uncompressed"), Some(_)) => {
                return Err(CliError::usage("`uncompressed` has no `compression-level`"));
            }
            (Some("gzip"), level) => (Compression::Gzip(level), 0..=9),
            (Some("zstd"), level) => (Compression::Zstd(level), 1..=22),
            (Some(other), _) => {
                let message = format!("unknown compression `{other}`: expected gzip, zstd or uncompressed");
                return Err(CliError::usage(message));
            }
        };
        if let Some(level) = self.level.filter(|level| !levels.contains(level)) {
            let (low, high) = (levels.start(), levels.end());
            return Err(CliError::usage(format!("level {level} is not between {low} and {high}")));
        }
        if format == ImageFormat::Docker && matches!(compression, Compression::Zstd(_)) {
            return Err(CliError::usage("`docker load` does not read zstd layers: use type `oci`"));
        }
        Ok(compression)
    }
}

fn non_empty(path: String) -> Result<PathBuf, CliError> {
    if path.is_empty() { Err(CliError::usage("`dest` is empty")) } else { Ok(path.into()) }
}

fn boolean(key: &str, value: &str) -> Result<bool, CliError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(CliError::usage(format!("`{key}` is `true` or `false`, not `{value}`"))),
    }
}

/// Splits one line of comma-separated values; a field in double quotes may contain commas, and `""` for `"`. Outside
/// quotes `\\,` is a comma, too.
pub(super) fn split_fields(text: &str) -> Result<Vec<String>, CliError> {
    let mut fields = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let Some(field) = fields.last_mut() else { break };
        match letter {
            ',' => fields.push(String::new()),
            '\\' if letters.next_if_eq(&',').is_some() => field.push(','),
            '"' if field.is_empty() => loop {
                match letters.next() {
                    Some('"') if letters.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(letter) => field.push(letter),
                    None => return Err(CliError::usage("a quote `\"` is not closed")),
                }
            },
            letter => field.push(letter),
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(format: ImageFormat, compression: Compression, destination: Destination) -> Output {
        Output::Image { format, compression, destination }
    }

    #[test]
    fn outputs_are_understood() {
        use Compression::{Any, Gzip, Uncompressed, Zstd};
        use ImageFormat::{Docker, Oci};
        let file = |path: &str| Destination::File(path.into());
        let cases = [
            ("out", Output::Files("out".into())),
            ("a=b", Output::Files("a=b".into())),
            ("-", Output::Archive(ArchiveDestination::Stdout)),
            ("type=local,dest=out", Output::Files("out".into())),
            ("type=tar", Output::Archive(ArchiveDestination::Stdout)),
            ("type=tar,dest=-", Output::Archive(ArchiveDestination::Stdout)),
            ("dest=a.tar,type=tar", Output::Archive(ArchiveDestination::File("a.tar".into()))),
            ("type=oci", image(Oci, Any, Destination::Stdout)),
            ("type=docker,dest=app.tar", image(Docker, Any, file("app.tar"))),
            ("type=oci,\"dest=a,b\"", image(Oci, Any, file("a,b"))),
            ("type=oci,dest=out,tar=false", image(Oci, Any, Destination::Directory("out".into()))),
            ("type=oci,compression=zstd,compression-level=3", image(Oci, Zstd(Some(3)), Destination::Stdout)),
            ("type=docker,compression=gzip", image(Docker, Gzip(None), Destination::Stdout)),
            ("type=docker,compression=uncompressed", image(Docker, Uncompressed, Destination::Stdout)),
        ];
        for (text, expected) in cases {
            assert_eq!(Output::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn names_and_registries_are_understood() {
        let name = |text: &str| Reference::parse(text).unwrap();
        let stored = Named { is_stored: true, ..Named::default() };
        let pushed = Named { is_pushed: true, ..Named::default() };
        let cases = [
            ("type=image", stored.clone()),
            ("type=image,push=true", Named { is_pushed: true, ..stored.clone() }),
            ("type=image,name=a\\,b:1", Named { names: vec![name("a"), name("b:1")], ..stored.clone() }),
            ("type=registry", pushed.clone()),
            (
                "type=registry,\"name=r.example/a,r.example/b\",push-by-digest=true,registry.insecure=true",
                Named {
                    names: vec![name("r.example/a"), name("r.example/b")],
                    by_digest: true,
                    is_insecure: true,
                    ..pushed.clone()
                },
            ),
            ("type=registry,compression=zstd", Named { compression: Compression::Zstd(None), ..pushed }),
        ];
        for (text, expected) in cases {
            assert_eq!(Output::parse(text).unwrap(), Output::Named(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let cases = [
            ("", "the destination is empty"),
            ("type=", "`type` is missing"),
            ("dest=a,x", "`x` is not of the form `key=value`"),
            ("type=squashfs", "unknown type `squashfs`: expected image, registry, oci, docker, tar or local"),
            ("type=registry,push=false", "type `registry` is always pushed: `push=false` is for type `image`"),
            ("type=registry,dest=x", "type `registry` has no `dest` and no `tar`"),
            ("type=image,push-by-digest=true", "`push-by-digest` and `registry.insecure` need `push=true`"),
            ("type=image,name=A", "invalid image reference `A`: the repository name must be lower-case: `library/A`"),
            ("type=oci,push=true", "`push` is for the types `image` and `registry`"),
            ("type=local", "type `local` needs `dest=DIRECTORY`"),
            ("type=local,dest=-", "type `local` needs `dest=DIRECTORY`"),
            ("type=local,dest=", "`dest` is empty"),
            ("type=tar,compression=gzip", "type `tar` takes `dest` alone"),
            ("type=oci,tar=false", "`tar=false` needs `dest=DIRECTORY`"),
            ("type=oci,tar=no", "`tar` is `true` or `false`, not `no`"),
            ("type=oci,compression=xz", "unknown compression `xz`: expected gzip, zstd or uncompressed"),
            ("type=oci,compression=gzip,compression-level=10", "level 10 is not between 0 and 9"),
            ("type=oci,compression-level=3", "`compression-level` needs `compression`"),
            ("type=docker,compression=zstd", "`docker load` does not read zstd layers: use type `oci`"),
            ("type=oci,force-compression=true", "`force-compression` is not supported in this version"),
            ("type=oci,color=red", "unknown attribute `color`"),
            ("type=oci,\"dest=x", "a quote `\"` is not closed"),
        ];
        for (text, expected) in cases {
            let error = Output::parse(text).unwrap_err();
            assert_eq!(error.message, format!("`--output {text}`: {expected}"));
            assert_eq!(error.exit_code(), 2);
        }
    }
}
