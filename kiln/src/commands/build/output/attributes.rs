//! The attributes of an `--output` as they were written, and what they come down to.

use std::path::PathBuf;

use kiln_cache::Compression;
use kiln_image::attest::Form;
use kiln_image::export::{Format, MediaTypes};

use super::{ArchiveDestination, Destination, FilesOutput, ImageAttributes, Output, Push, annotations};
use crate::commands::build::parse_tag;
use crate::error::CliError;

/// The levels of the tools themselves, where the user names none.
const GZIP_LEVEL: u8 = 6;
const ZSTD_LEVEL: u8 = 3;

/// The attributes of images, as far as not all of them are in [`ImageAttributes`].
const IMAGE_ATTRIBUTES: [&str; 14] = [
    "oci-artifact",
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
    "annotation",
    "push",
    "push-by-digest",
    "registry.insecure",
    "name-canonical",
    "store",
    "unpack",
];

/// The attributes as they were written.
#[derive(Default)]
pub(super) struct Attributes {
    kind: String,
    dest: Option<String>,
    tar: Option<bool>,
    context: Option<String>,
    compression: Option<String>,
    level: Option<u8>,
    oci_types: Option<bool>,
    platform_split: Option<bool>,
    is_mirror: Option<bool>,
    is_kept: Option<bool>,
    push: Option<bool>,
    by_digest: bool,
    is_insecure: bool,
    attestation_prefix: String,
    image: ImageAttributes,
    /// The keys that were given.
    given: Vec<String>,
}

impl Attributes {
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
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
        if annotations::add_attribute(&mut self.image.annotations, key, value)? {
            self.given.push("annotation".to_owned());
            return Ok(());
        }
        let key = key.to_lowercase();
        match key.as_str() {
            "type" => self.kind = value.to_owned(),
            "dest" => self.dest = Some(value.to_owned()),
            "context" => self.context = Some(value.to_owned()),
            "tar" => self.tar = Some(boolean(&key, value)?),
            "name" => self.image.names = names(value)?,
            "compression" => self.compression = Some(value.to_owned()),
            "compression-level" => {
                let level = value.parse().map_err(|_| CliError::usage(format!("`{value}` is not a level")))?;
                self.level = Some(level);
            }
            "force-compression" => self.image.force_compression = boolean(&key, value)?,
            "oci-mediatypes" => self.oci_types = Some(boolean(&key, value)?),
            "rewrite-timestamp" => self.image.rewrite_timestamp = Some(boolean(&key, value)?),
            "platform-split" => self.platform_split = Some(boolean(&key, value)?),
            "mode" => self.is_mirror = Some(mode(value)?),
            "store" => self.is_kept = Some(boolean(&key, value)?),
            "push" => self.push = Some(boolean(&key, value)?),
            "push-by-digest" => self.by_digest = boolean(&key, value)?,
            "registry.insecure" => self.is_insecure = boolean(&key, value)?,
            "oci-artifact" => {
                let is_artifact = boolean(&key, value)?;
                self.image.attestations = if is_artifact { Form::Artifact } else { Form::Image };
            }
            "attestation-prefix" => self.attestation_prefix = prefix(value)?,
            // The store of kiln unpacks what it needs.
            "unpack" | "attestation-inline" => {
                boolean(&key, value)?;
            }
            "name-canonical" | "dangling-name-prefix" => {
                return Err(CliError::usage(format!("`{key}` is not supported in this version"))
                    .hint("`kiln images --digests` shows under which digest an image is known"));
            }
            _ => return Err(CliError::usage(format!("unknown attribute `{key}`"))),
        }
        self.given.push(key);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Output, CliError> {
        match self.kind.as_str() {
            "image" | "registry" => self.store(),
            "oci" => self.layout(Format::Oci),
            "docker" => self.layout(Format::Docker),
            "local" => self.files(),
            "tar" => self.archive(),
            "cacheonly" => {
                self.takes_only(&[])?;
                Ok(Output::CacheOnly)
            }
            "" => Err(CliError::usage("`type` is missing")),
            kind => Err(CliError::usage(format!(
                "unknown type `{kind}`: expected image, registry, oci, docker, local, tar or cacheonly"
            ))),
        }
    }

    fn store(self) -> Result<Output, CliError> {
        self.takes_only(&IMAGE_ATTRIBUTES)?;
        let is_registry = self.kind == "registry";
        if is_registry && self.push == Some(false) {
            return Err(CliError::usage("type `registry` is always pushed: `push=false` is for type `image`"));
        }
        let is_pushed = is_registry || self.push == Some(true);
        if !is_pushed && (self.by_digest || self.is_insecure) {
            return Err(CliError::usage("`push-by-digest` and `registry.insecure` need `push=true`"));
        }
        let push = is_pushed.then_some(Push { by_digest: self.by_digest, is_insecure: self.is_insecure });
        let is_kept = self.is_kept.unwrap_or(!is_registry);
        Ok(Output::Store { image: self.image(MediaTypes::Oci)?, is_kept, push })
    }

    fn layout(self, format: Format) -> Result<Output, CliError> {
        let more: &[&str] = if format == Format::Docker { &["dest", "tar", "context"] } else { &["dest", "tar"] };
        self.takes_only(&[more, &IMAGE_ATTRIBUTES[..8]].concat())?;
        if self.dest.is_some() && self.context.is_some() {
            return Err(CliError::usage("`context` is for loading the image, `dest` for a file"));
        }
        let destination = match (&self.dest, self.tar) {
            (None, Some(false)) => return Err(CliError::usage("`tar=false` needs `dest=DIRECTORY`")),
            (Some(path), Some(false)) if path != "-" => Destination::Directory(non_empty(path)?),
            (Some(path), _) if path != "-" => Destination::File(non_empty(path)?),
            (None, _) if format == Format::Docker => Destination::Engine(self.context.clone()),
            _ => Destination::Stdout,
        };
        let types = if format == Format::Docker { MediaTypes::Docker } else { MediaTypes::Oci };
        Ok(Output::Image { format, image: self.image(types)?, destination })
    }

    fn files(self) -> Result<Output, CliError> {
        self.takes_only(&["dest", "platform-split", "mode", "attestation-prefix"])?;
        match &self.dest {
            Some(path) if path != "-" => Ok(Output::Files(FilesOutput {
                directory: non_empty(path)?,
                platform_split: self.platform_split,
                is_mirror: self.is_mirror.unwrap_or(false),
                attestation_prefix: self.attestation_prefix,
            })),
            _ => Err(CliError::usage("type `local` needs `dest=DIRECTORY`")),
        }
    }

    fn archive(self) -> Result<Output, CliError> {
        self.takes_only(&["dest", "platform-split", "attestation-prefix"])?;
        let destination = match &self.dest {
            Some(path) if path != "-" => ArchiveDestination::File(non_empty(path)?),
            _ => ArchiveDestination::Stdout,
        };
        let Self { platform_split, attestation_prefix, .. } = self;
        Ok(Output::Archive { destination, platform_split, attestation_prefix })
    }

    /// Whether nothing else was given.
    fn takes_only(&self, known: &[&str]) -> Result<(), CliError> {
        let others = ["type", "attestation-inline"];
        match self.given.iter().find(|given| !known.contains(&given.as_str()) && !others.contains(&given.as_str())) {
            None => Ok(()),
            Some(other) => Err(CliError::usage(format!("type `{}` has no attribute `{other}`", self.kind))),
        }
    }

    fn image(mut self, default: MediaTypes) -> Result<ImageAttributes, CliError> {
        self.image.is_estargz = self.compression.as_deref() == Some("estargz");
        if self.image.is_estargz && self.image.force_compression {
            let message = "`force-compression` is not supported with `estargz` in this version";
            return Err(CliError::usage(message).hint("layers of base images stay as they are"));
        }
        let name = if self.image.is_estargz { Some("gzip") } else { self.compression.as_deref() };
        self.image.compression = compression(name, self.level)?;
        self.image.media_types = match (self.oci_types, self.image.compression) {
            // Docker's media types do not know it.
            (_, Some(Compression::Zstd { .. })) | (Some(true), _) => MediaTypes::Oci,
            // Its notes have no place in Docker's manifests.
            _ if self.image.is_estargz => MediaTypes::Oci,
            (Some(false), _) => MediaTypes::Docker,
            // Nor do its manifests have annotations.
            (None, _) if !self.image.annotations.is_empty() => MediaTypes::Oci,
            (None, _) => default,
        };
        Ok(self.image)
    }
}

/// A compression by its name and level; the tools' own level where there is none.
pub(in crate::commands::build) fn compression(
    name: Option<&str>,
    level: Option<u8>,
) -> Result<Option<Compression>, CliError> {
    let (compression, levels) = match (name, level) {
        (None, None) => return Ok(None),
        (Some("uncompressed"), None) => return Ok(Some(Compression::Uncompressed)),
        (Some("uncompressed"), Some(_)) => {
            return Err(CliError::usage("`uncompressed` has no `compression-level`"));
        }
        (None | Some("gzip"), level) => (Compression::Gzip { level: level.unwrap_or(GZIP_LEVEL) }, 0..=9),
        (Some("zstd"), level) => (Compression::Zstd { level: level.unwrap_or(ZSTD_LEVEL) }, 1..=22),
        (Some("estargz"), _) => {
            return Err(CliError::usage("compression `estargz` is not supported in this version")
                .hint("gzip layers work everywhere, without being fetched lazily"));
        }
        (Some(other), _) => {
            let message = format!("unknown compression `{other}`: expected gzip, zstd or uncompressed");
            return Err(CliError::usage(message));
        }
    };
    if let Some(level) = level.filter(|level| !levels.contains(level)) {
        let (low, high) = (levels.start(), levels.end());
        return Err(CliError::usage(format!("level {level} is not between {low} and {high}")));
    }
    Ok(Some(compression))
}

/// Several names are separated by commas, with quotes around the whole attribute.
fn names(text: &str) -> Result<Vec<kiln_image::Reference>, CliError> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| parse_tag(name).map_err(|error| CliError::usage(error.message))).collect()
}

/// What the names of files begin with.
fn prefix(value: &str) -> Result<String, CliError> {
    match value.contains(['/', '\0']) {
        true => Err(CliError::usage(format!("`attestation-prefix` is part of a file's name, and `{value}` is not"))),
        false => Ok(value.to_owned()),
    }
}

fn mode(value: &str) -> Result<bool, CliError> {
    match value {
        "copy" => Ok(false),
        "delete" => Ok(true),
        _ => Err(CliError::usage(format!("`mode` is `copy` or `delete`, not `{value}`"))),
    }
}

fn non_empty(path: &str) -> Result<PathBuf, CliError> {
    if path.is_empty() { Err(CliError::usage("`dest` is empty")) } else { Ok(path.into()) }
}

/// As Go reads them.
pub(in crate::commands::build) fn boolean(key: &str, value: &str) -> Result<bool, CliError> {
    match value {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(CliError::usage(format!("`{key}` is `true` or `false`, not `{value}`"))),
    }
}

/// Splits one line of comma-separated values; a field in double quotes may contain commas, and `""` for `"`.
/// Outside quotes `\\,` is a comma, too.
pub(in crate::commands::build) fn split_fields(text: &str) -> Result<Vec<String>, CliError> {
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
