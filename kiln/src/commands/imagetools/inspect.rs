//! `kiln imagetools inspect`

use std::fmt::Write as _;

use kiln_image::imagetools::{self, Document, Found};
use kiln_image::spec::Descriptor;
use kiln_image::{Images, Reference, attest};
use kiln_solver::Cancel;

use crate::environment::Environment;
use crate::error::CliError;
use crate::local::image_error;
use crate::progress::{Style, clean};
use crate::template::{Template, Value};
use crate::terminal;

/// Print what a registry has under a name
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Templates see `.Name`, `.Manifest`, `.Image` (the config, or those of all platforms), `.Provenance` and `.SBOM`:
  kiln imagetools inspect --format '{{json .Manifest}}' registry.example/app:1.0
  kiln imagetools inspect --format '{{.Manifest.Digest}}' registry.example/app:1.0")]
pub(in crate::commands) struct Args {
    /// The name of an image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,

    /// Print the manifest or index as it is
    #[arg(long, conflicts_with = "format")]
    raw: bool,

    /// Print what a Go template says of it
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let template = args.format.as_deref().filter(|text| !text.is_empty()).map(Template::parse).transpose()?;
    let reference = super::reference(&args.name)?;
    // As buildx has it, this is what people are told.
    let inner = args.format.as_deref().and_then(|text| text.trim().strip_prefix("{{")?.strip_suffix("}}"));
    let is_plain = inner.is_some_and(|inner| inner.trim() == ".Manifest");
    let work = |images: &Images, _: &_, cancel: &Cancel| {
        let found = imagetools::find(images, &reference, cancel).map_err(|error| image_error(&error))?;
        match &template {
            _ if args.raw => Ok(found.bytes),
            Some(template) if !is_plain => {
                Ok((template.render_indented(&fields(&found, images, cancel)?)? + "\n").into_bytes())
            }
            _ => Ok(description(&found).into_bytes()),
        }
    };
    let text = super::with_registries(Style::Quiet, environment, "the look at the registry was cancelled", work)?;
    terminal::print_bytes(&text)
}

/// What people are told, in the layout of buildx.
fn description(found: &Found) -> String {
    let name = &found.reference;
    let mut text = format!(
        "Name:      {name}\nMediaType: {}\nDigest:    {}\n",
        clean(&found.descriptor.media_type),
        found.descriptor.digest
    );
    let Document::Index(index) = &found.document else { return text };
    text.push_str("\nManifests: \n");
    let width = if index.manifests.iter().any(|listed| !listed.annotations.is_empty()) { 13 } else { 11 };
    for (number, listed) in index.manifests.iter().enumerate() {
        if number > 0 {
            text.push_str("  \n");
        }
        let mut line = |label: &str, value: &str| {
            let _ = writeln!(text, "  {label:width$}{}", clean(value));
        };
        line("Name:", &Reference { digest: Some(listed.digest), ..name.clone() }.to_string());
        line("MediaType:", &listed.media_type);
        if let Some(platform) = &listed.platform {
            line("Platform:", &platform.normalised().to_string());
        }
        annotations(listed, &mut text);
    }
    text
}

fn annotations(listed: &Descriptor, text: &mut String) {
    let Some(longest) = listed.annotations.keys().map(|key| key.chars().count()).max() else { return };
    text.push_str("  Annotations: \n");
    for (key, value) in &listed.annotations {
        let _ = writeln!(text, "    {:<1$} {2}", format!("{}:", clean(key)), longest + 1, clean(value));
    }
}

/// What templates see, in the order of buildx.
fn fields(found: &Found, images: &Images, cancel: &Cancel) -> Result<Value, CliError> {
    let failed = |error| image_error(&error);
    let all = found.images(images, cancel).map_err(failed)?;
    let attested = found.attested(images, cancel).map_err(failed)?;
    let (mut configs, mut provenance, mut sbom) = (Vec::new(), Vec::new(), Vec::new());
    for (platform, image) in &all {
        let platform = platform.to_string();
        if let Some(config) = image.config(images).map_err(failed)? {
            let config: Value = serde_json::from_slice(&config).map_err(|error| {
                CliError::user(format!("the config of `{}` is malformed: {error}", image.reference))
            })?;
            configs.push((platform.clone(), config));
        }
        let own = attested.iter().filter(|attested| attested.image == image.descriptor.digest);
        for attestation in own.flat_map(|attested| &attested.attestations) {
            let predicate = || Value::of(&attestation.predicate).unwrap_or(Value::Null);
            match attestation.predicate_type.as_str() {
                attest::SPDX => sbom.push((platform.clone(), Value::object([("SPDX", predicate())]))),
                kind if kind.starts_with("https://slsa.dev/provenance/") => {
                    provenance.push((platform.clone(), Value::object([("SLSA", predicate())])));
                }
                _ => {}
            }
        }
    }
    let is_one = all.len() == 1;
    Ok(Value::object([
        ("name", found.reference.to_string().into()),
        ("manifest", manifest(found)),
        ("image", one_or_all(configs, is_one)),
        ("provenance", one_or_all(provenance, is_one)),
        ("sbom", one_or_all(sbom, is_one)),
    ]))
}

/// Of an image for one platform that itself, and of several each by its platform, the last of one counting.
fn one_or_all(all: Vec<(String, Value)>, is_one: bool) -> Value {
    let mut all: std::collections::BTreeMap<String, Value> = all.into_iter().collect();
    match all.pop_first() {
        Some((_, only)) if is_one => only,
        first => {
            all.extend(first);
            Value::object(all.iter().map(|(platform, value)| (platform.as_str(), value.clone()))).into_map()
        }
    }
}

/// What it is, and of an index what it lists.
fn manifest(found: &Found) -> Value {
    let mut fields = vec![
        ("mediaType", found.descriptor.media_type.as_str().into()),
        ("digest", found.descriptor.digest.to_string().into()),
        ("size", Value::of(&found.descriptor.size).unwrap_or(Value::Null)),
    ];
    if let Document::Index(_) = found.document {
        let mut index: Value = serde_json::from_slice(&found.bytes).unwrap_or(Value::Null);
        let mut take = |name: &'static str| index.field_mut(name).map(|value| (name, value.clone()));
        let version = take("schemaVersion");
        let rest = ["manifests", "annotations"].into_iter().filter_map(&mut take);
        fields = version.into_iter().chain(fields).chain(rest).collect();
    }
    Value::object(fields)
}
