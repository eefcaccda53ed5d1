//! `kiln inspect`

use kiln_cache::{ImageRecord, Store};
use kiln_image::{Reference, inspect, spec};
use kiln_solver::Platform;
use serde::Serialize;

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::local::{digest_of, familiar, image_error, names_of};
use crate::session::Session;
use crate::template::{Template, Value};
use crate::terminal;

/// Print everything about images, as JSON
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// Print what a Go template says of each image, such as `{{.Config.Cmd}}`; `json` is one object a line
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Of images for several platforms the one for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Prints what there is of the images, and fails in the end if one was not found.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let parse = |text: &String| text.parse().map_err(|error| CliError::from_error(Kind::Usage, &error));
    let platform: Option<Platform> = args.platform.as_ref().map(parse).transpose()?;
    let store = Session::open(environment)?.store;
    let mut found = Vec::new();
    let mut failure = None;
    for image in &args.images {
        match describe(&store, image, platform.as_ref()) {
            Ok(description) => found.push(description),
            Err(error) => {
                if let Some(earlier) = failure.replace(error) {
                    terminal::report(&earlier, environment.colour);
                }
            }
        }
    }
    terminal::print(&match (template, args.format.as_deref()) {
        (Some(template), _) => {
            let line = |found: &Description| Ok(template.render(&found.fields()?)? + "\n");
            found.iter().map(line).collect::<Result<String, CliError>>()?
        }
        (None, Some("json")) => {
            let line = |found: &Description| serde_json::to_string(found).map(|line| line + "\n").map_err(json_error);
            found.iter().map(line).collect::<Result<String, CliError>>()?
        }
        (None, _) => to_json(&found)?,
    })?;
    failure.map_or(Ok(()), Err)
}

/// An image as `docker image inspect` describes it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<spec::Descriptor>,
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

impl Description {
    /// What templates see: what JSON leaves out because it is empty is there, as in docker.
    fn fields(&self) -> Result<Value, CliError> {
        const TEXTS: [&str; 6] = ["User", "WorkingDir", "Image", "Hostname", "Domainname", "StopSignal"];
        const LISTS: [&str; 5] = ["Env", "Cmd", "Entrypoint", "OnBuild", "Shell"];
        const OTHERS: [&str; 4] = ["ExposedPorts", "Volumes", "Labels", "Healthcheck"];
        let mut fields = Value::of(self).ok_or_else(|| CliError::bug("an image has no JSON form"))?;
        if let Some(config) = fields.field_mut("Config") {
            TEXTS.iter().for_each(|name| config.default(name, "".into()));
            LISTS.iter().for_each(|name| config.default(name, Value::List(Vec::new())));
            OTHERS.iter().for_each(|name| config.default(name, Value::Null));
        }
        for name in ["Variant", "OsVersion", "Parent", "DockerVersion"] {
            fields.default(name, "".into());
        }
        fields.default("VirtualSize", Value::Number(self.size.into()));
        fields.default("Descriptor", Value::Null);
        Ok(fields)
    }
}

fn describe(store: &Store, name: &str, platform: Option<&Platform>) -> Result<Description, CliError> {
    let listed = inspect::find(store, name).map_err(|error| image_error(&error))?;
    let record = match platform {
        None => listed.clone(),
        Some(platform) => inspect::for_platform(&listed, name, platform).map_err(|error| image_error(&error))?,
    };
    let image = inspect::config(store, &record).map_err(|error| image_error(&error))?;
    let size = inspect::size(store, &record).map_err(|error| image_error(&error))?;
    let names = names_of(store, listed.identity())?;
    let descriptor = inspect::descriptor(store, &listed).map_err(|error| image_error(&error))?;
    Ok(Description { descriptor, ..description(&listed, &record, image, size, &names) })
}

/// What is known of an image of this store, `record`, that is listed as `listed`.
fn description(
    listed: &ImageRecord,
    record: &ImageRecord,
    image: spec::Image,
    size: u64,
    names: &[String],
) -> Description {
    Description {
        id: if listed.platforms().len() == 1 || listed == record { listed.identity() } else { &record.id }.to_string(),
        repo_tags: names.iter().map(|name| familiar(name)).collect(),
        repo_digests: digest_of(listed).map(|digest| repo_digests(names, &digest.to_string())).unwrap_or_default(),
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
        descriptor: None,
    }
}

/// Each repository once, with the digest.
fn repo_digests(names: &[String], digest: &str) -> Vec<String> {
    let references = names.iter().filter_map(|name| Reference::parse(name).ok());
    let mut all: Vec<String> = references
        .map(|name| Reference { tag: None, digest: None, ..name }.familiar())
        .map(|repository| format!("{repository}@{digest}"))
        .collect();
    all.sort();
    all.dedup();
    all
}

fn to_json(descriptions: &[Description]) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    descriptions.serialize(&mut serializer).map_err(json_error)?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|error| CliError::bug(format!("cannot write JSON: {error}")))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn json_error(error: serde_json::Error) -> CliError {
    CliError::bug(format!("cannot write JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_solver::Digest;
    use std::time::SystemTime;

    fn sample() -> Description {
        let platform = Platform::new("linux", "amd64", None);
        let mut image = spec::Image::empty(&platform);
        image.created = Some("2024-01-02T03:04:05Z".to_owned());
        image.config.cmd = Some(vec!["sh".to_owned()]);
        image.config.labels.insert("a".to_owned(), "b".to_owned());
        image.rootfs.diff_ids.push(Digest::of(b"layer"));
        let mut record = ImageRecord::new(Digest::of(b"config"), Vec::new(), platform, SystemTime::UNIX_EPOCH);
        record.manifest = Some(Digest::of(b"manifest"));
        let names = ["docker.io/library/app:1.0".to_owned(), "docker.io/library/app:2.0".to_owned()];
        description(&record, &record, image, 42, &names)
    }

    #[test]
    fn an_image_looks_as_docker_shows_it() {
        insta::assert_snapshot!(to_json(&[sample()]).unwrap());
        assert_eq!(to_json(&[]).unwrap(), "[]\n");
    }

    #[test]
    fn templates_see_what_docker_shows_even_where_it_is_empty() {
        let cases = [
            ("{{.Id}} {{.Os}}/{{.Architecture}}{{.Variant}}", format!("{} linux/amd64", Digest::of(b"config"))),
            ("{{join .RepoTags \" \"}} {{.Size}}", "app:1.0 app:2.0 42".to_owned()),
            (
                "{{len .RepoDigests}} {{len .RootFS.Layers}} {{.Metadata.LastTagTime}}",
                "1 1 1970-01-01T00:00:00Z".to_owned(),
            ),
            (
                "{{json .Config.Cmd}}{{.Config.User}}{{.Config.Entrypoint}}{{if .Config.Healthcheck}}x{{end}}",
                "[\"sh\"][]".to_owned(),
            ),
            ("{{index .Config.Labels \"a\"}}{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}", "ba=b".to_owned()),
        ];
        for (template, expected) in cases {
            assert_eq!(Template::parse(template).unwrap().render(&sample().fields().unwrap()).unwrap(), expected);
        }
        let error = Template::parse("{{.Config.Lables}}").unwrap().render(&sample().fields().unwrap()).unwrap_err();
        assert!(error.to_string().contains("`.Lables`"), "{error}");
    }
}
