//! `kiln inspect`

use kiln_cache::{ImageRecord, Store};
use kiln_image::{inspect, spec};
use serde::Serialize;

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::{familiar, image_error, names_of};
use crate::session::Session;
use crate::terminal;

/// Print everything about images, as JSON
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Prints what there is of the images, and fails in the end if one was not found.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let store = Session::open(environment)?.store;
    let mut found = Vec::new();
    let mut failure = None;
    for image in &args.images {
        match describe(&store, image) {
            Ok(description) => found.push(description),
            Err(error) => {
                if let Some(earlier) = failure.replace(error) {
                    terminal::report(&earlier, environment.colour);
                }
            }
        }
    }
    terminal::print(&to_json(&found)?)?;
    failure.map_or(Ok(()), Err)
}

/// An image as `docker image inspect` describes it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    id: String,
    repo_tags: Vec<String>,
    comment: String,
    created: Option<String>,
    author: String,
    config: spec::Config,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    size: u64,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(rename = "Type")]
    kind: String,
    layers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

fn describe(store: &Store, name: &str) -> Result<Description, CliError> {
    let record = inspect::find(store, name).map_err(|error| image_error(&error))?;
    let image = inspect::config(store, &record).map_err(|error| image_error(&error))?;
    let size = inspect::size(store, &record).map_err(|error| image_error(&error))?;
    let names = names_of(store, &record.id)?;
    Ok(description(&record, image, size, &names))
}

fn description(record: &ImageRecord, image: spec::Image, size: u64, names: &[String]) -> Description {
    Description {
        id: record.id.to_string(),
        repo_tags: names.iter().map(|name| familiar(name)).collect(),
        comment: image.history.last().map(|last| last.comment.clone()).unwrap_or_default(),
        created: image.created,
        author: image.author,
        config: image.config,
        architecture: image.architecture,
        variant: image.variant,
        os: image.os,
        size,
        root_fs: RootFs {
            kind: image.rootfs.kind,
            layers: image.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata { last_tag_time: spec::format_time(record.tagged) },
    }
}

fn to_json(descriptions: &[Description]) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    descriptions.serialize(&mut serializer).map_err(|error| CliError::bug(format!("cannot write JSON: {error}")))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|error| CliError::bug(format!("cannot write JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_solver::{Digest, Platform};
    use std::time::SystemTime;

    #[test]
    fn an_image_looks_as_docker_shows_it() {
        let platform = Platform::new("linux", "amd64", None);
        let mut image = spec::Image::empty(&platform);
        image.created = Some("2024-01-02T03:04:05Z".to_owned());
        image.config.cmd = Some(vec!["sh".to_owned()]);
        image.config.labels.insert("a".to_owned(), "b".to_owned());
        image.rootfs.diff_ids.push(Digest::of(b"layer"));
        let record = ImageRecord::new(Digest::of(b"config"), Vec::new(), platform, SystemTime::UNIX_EPOCH);
        let names = ["docker.io/library/app:1.0".to_owned()];
        insta::assert_snapshot!(to_json(&[description(&record, image, 42, &names)]).unwrap());
        assert_eq!(to_json(&[]).unwrap(), "[]\n");
    }
}
