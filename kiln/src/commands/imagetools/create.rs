//! `kiln imagetools create`

use std::path::{Path, PathBuf};

use kiln_image::export::{AnnotationPlace, Annotations};
use kiln_image::imagetools::{self, Combined, Found};
use kiln_image::push::{Targets, push};
use kiln_image::spec::Descriptor;
use kiln_image::{Images, Reference};
use kiln_solver::{Cancel, Digest, Platform};

use crate::commands::build::{ProgressStyle, parse_annotation, parse_tag};
use crate::environment::Environment;
use crate::error::{self, CliError, Kind};
use crate::local::image_error;
use crate::progress::{Progress, Style};
use crate::terminal;

/// Make one name of the images of several
///
/// Each source is a name, a digest, or a descriptor as JSON. What they stand for is listed in one index, which is pushed
/// under the new names. Blobs that a repository lacks are taken over from another of the same registry, or pass through
/// this machine.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  kiln imagetools create -t r.example/app:1.0 r.example/app:1.0-amd64 r.example/app:1.0-arm64
  kiln imagetools create -t r.example/app:latest r.example/app:1.0      give one more name
  kiln imagetools create -t r.example/app:1.0 --append r.example/app:1.0-s390x")]
pub(in crate::commands) struct Args {
    /// What to take the images of
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,

    /// The names to push to; may be repeated
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<String>,

    /// Read one more source from this file; may be repeated
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Add to what the first name stands for
    #[arg(long)]
    append: bool,

    /// Print what would be pushed
    #[arg(long)]
    dry_run: bool,

    /// Note something on the index (`index:KEY=VALUE`) or on what it lists (`manifest-descriptor[PLATFORM]:KEY=VALUE`);
    /// may be repeated
    #[arg(long = "annotation", value_name = "PLACE:KEY=VALUE")]
    annotations: Vec<String>,

    /// Take the images for these platforms alone, with what is attested of them; may be repeated
    #[arg(short, long = "platform", value_name = "OS/ARCH")]
    platforms: Vec<String>,

    /// Make an index even of one image; `false` leaves it as it is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    prefer_index: bool,

    /// Write digest and names of what was made to this file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,

    /// Show what is pushed in this way
    #[arg(long, value_name = "STYLE")]
    progress: Option<ProgressStyle>,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// What an image is made of.
#[derive(Debug, PartialEq)]
enum Source {
    /// What a name stands for.
    Named(Reference),
    /// What has this digest in the only repository that there is talk of, and what is said of it.
    Described(Box<Described>),
}

#[derive(Debug, PartialEq)]
struct Described {
    digest: Digest,
    /// Absent where the digest is all that was given.
    descriptor: Option<Descriptor>,
}

/// Does it.
pub(super) fn run(args: &Args, environment: &Environment) -> Result<(), CliError> {
    let tags = args.tags.iter().map(|text| parse_tag(text)).collect::<Result<Vec<_>, _>>()?;
    if tags.is_empty() && !args.dry_run {
        return Err(CliError::usage("what is made needs a name to be pushed to")
            .hint("give it one with `--tag`, or only look at it with `--dry-run`"));
    }
    let mut sources = sources(args, &tags)?;
    if args.append {
        let first = tags.first().ok_or_else(|| CliError::usage("`--append` needs a `--tag` to add to"))?;
        sources.insert(0, Source::Named(first.clone()));
    }
    let named = references(&sources, &tags)?;
    let annotations = annotations(&args.annotations)?;
    let platforms = platforms(&args.platforms)?;
    let style = match args.progress {
        _ if args.dry_run => Style::Quiet,
        None => Style::for_transfers(args.quiet, environment),
        Some(progress) => progress.style(environment)?,
    };
    let work = |images: &Images, progress: &Progress, cancel: &Cancel| {
        let find = |(source, reference): (&Source, &Reference)| find(source, reference, images, cancel);
        let found = sources.iter().zip(&named).map(find).collect::<Result<Vec<_>, _>>()?;
        let combined = imagetools::combine(images, &found, &annotations, args.prefer_index, &platforms)
            .map_err(|error| image_error(&error))?;
        if !args.dry_run {
            send(&combined, &tags, images, progress, cancel)?;
        }
        Ok(combined)
    };
    let combined = super::with_registries(style, environment, "nothing got a new name: it was cancelled", work)?;
    if args.dry_run {
        terminal::print_bytes(&combined.bytes)?;
        terminal::print("\n")?;
    }
    match &args.metadata_file {
        Some(path) => write_metadata(path, &combined, &tags),
        None => Ok(()),
    }
}

/// Says what was made, in the words of `build --metadata-file`.
fn write_metadata(path: &Path, combined: &Combined, tags: &[Reference]) -> Result<(), CliError> {
    let names: Vec<String> = tags.iter().map(ToString::to_string).collect();
    let metadata = serde_json::json!({
        "containerimage.descriptor": combined.descriptor,
        "containerimage.digest": combined.descriptor.digest.to_string(),
        "image.name": names.join(","),
    });
    std::fs::write(path, format!("{metadata:#}\n")).map_err(|error| error::io("write", path, &error))
}

fn platforms(texts: &[String]) -> Result<Vec<Platform>, CliError> {
    let words = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|error| CliError::from_error(Kind::Usage, &error))).collect()
}

fn sources(args: &Args, tags: &[Reference]) -> Result<Vec<Source>, CliError> {
    let of_file = |path: &PathBuf| parse_file(path);
    let files = args.files.iter().map(of_file);
    let sources: Vec<Source> = files.chain(args.sources.iter().map(|text| parse(text))).collect::<Result<_, _>>()?;
    let is_to_add = args.append && !tags.is_empty();
    if sources.is_empty() && !is_to_add {
        return Err(CliError::usage("there is nothing to make an image of").hint("name images of a registry"));
    }
    Ok(sources)
}

fn parse_file(path: &Path) -> Result<Source, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| error::io("read", path, &error))?;
    parse(&text).map_err(|error| error.context(format!("`{}`", path.display())))
}

fn parse(text: &str) -> Result<Source, CliError> {
    let text = text.trim();
    if text.starts_with('{') {
        let descriptor: Descriptor = serde_json::from_str(text)
            .map_err(|error| CliError::user(format!("a source is no descriptor: {error}")))?;
        let described = Described { digest: descriptor.digest, descriptor: Some(descriptor) };
        return Ok(Source::Described(Box::new(described)));
    }
    match text.parse::<Digest>() {
        Ok(digest) => Ok(Source::Described(Box::new(Described { digest, descriptor: None }))),
        Err(_) => super::reference(text).map(Source::Named),
    }
}

/// Where each source is: what has no name is in the only repository that there is talk of.
fn references(sources: &[Source], tags: &[Reference]) -> Result<Vec<Reference>, CliError> {
    let named = sources.iter().filter_map(|source| match source {
        Source::Named(reference) => Some(reference),
        Source::Described(_) => None,
    });
    let mut repositories: Vec<&Reference> = Vec::new();
    for reference in tags.iter().chain(named) {
        if !repositories.iter().any(|known| known.name() == reference.name()) {
            repositories.push(reference);
        }
    }
    let place = |source: &Source| match (source, repositories.as_slice()) {
        (Source::Named(reference), _) => Ok(reference.clone()),
        (Source::Described(described), [only]) => Ok(only.with_digest(described.digest)),
        (Source::Described(described), several) => {
            let why = if several.is_empty() { "none is named" } else { "several are named" };
            Err(CliError::usage(format!("it is not clear in which repository `{}` is: {why}", described.digest))
                .hint("name it as `REPOSITORY@DIGEST`"))
        }
    };
    sources.iter().map(place).collect()
}

fn find(source: &Source, reference: &Reference, images: &Images, cancel: &Cancel) -> Result<Found, CliError> {
    let mut found = imagetools::find(images, reference, cancel).map_err(|error| image_error(&error))?;
    if let Source::Described(described) = source
        && let Some(descriptor) = &described.descriptor
    {
        found.descriptor.platform.clone_from(&descriptor.platform);
        found.descriptor.annotations.clone_from(&descriptor.annotations);
    }
    Ok(found)
}

fn annotations(texts: &[String]) -> Result<Annotations, CliError> {
    let mut annotations = Annotations::default();
    for text in texts {
        parse_annotation(&mut annotations, text)?;
    }
    let fixed = [AnnotationPlace::Manifest, AnnotationPlace::IndexDescriptor];
    match fixed.into_iter().any(|place| annotations.has(place)) {
        true => {
            Err(CliError::usage("annotations can be given to the index and to what it lists: images stay as they are")
                .hint("begin with `index:` or `manifest-descriptor:`"))
        }
        false => Ok(annotations),
    }
}

fn send(
    combined: &Combined,
    tags: &[Reference],
    images: &Images,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<(), CliError> {
    let all: Vec<String> = tags.iter().map(Reference::familiar).collect();
    progress.during(&format!("pushing {}", all.join(", ")), |group| {
        let parcel = combined.parcel(images, cancel).map_err(|error| image_error(&error))?;
        let targets = Targets { names: tags.to_vec(), by_digest: false };
        push(images, &parcel, &targets, cancel).map_err(|error| image_error(&error))?;
        progress.note(group, &format!("pushing manifest {} done", combined.descriptor.digest));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn names(texts: &[&str]) -> Vec<Reference> {
        texts.iter().map(|text| Reference::parse(text).unwrap()).collect()
    }

    #[test]
    fn sources_are_names_digests_or_descriptors() {
        assert_eq!(parse(" r.example/app:1\n").unwrap(), Source::Named(names(&["r.example/app:1"]).remove(0)));
        let Source::Described(bare) = parse(DIGEST).unwrap() else { panic!() };
        assert_eq!((bare.digest.to_string(), bare.descriptor), (DIGEST.to_owned(), None));
        let json = format!(r#"{{"digest":"{DIGEST}","size":3,"platform":{{"os":"linux","architecture":"arm64"}}}}"#);
        let Source::Described(full) = parse(&json).unwrap() else { panic!() };
        assert_eq!(full.descriptor.unwrap().platform.unwrap().architecture, "arm64");
        for text in ["", "{}", "{\"digest\":\"x\"}", "A b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_in_the_only_repository() {
        let described = || parse(DIGEST).unwrap();
        let found = references(&[described()], &names(&["r.example/app:1", "r.example/app:2"])).unwrap();
        assert_eq!(found[0].to_string(), format!("r.example/app@{DIGEST}"));
        let with_source = [described(), parse("r.example/other").unwrap()];
        assert_eq!(references(&with_source, &[]).unwrap()[0].to_string(), format!("r.example/other@{DIGEST}"));
        assert!(references(&with_source, &names(&["r.example/app"])).unwrap_err().message.contains("several"));
        assert!(references(&[described()], &[]).unwrap_err().message.contains("none"));
    }

    #[test]
    fn images_stay_as_they_are() {
        assert!(annotations(&["index:a=b".to_owned(), "manifest-descriptor[linux/arm64]:a=b".to_owned()]).is_ok());
        for text in ["a=b", "manifest:a=b", "index-descriptor:a=b"] {
            assert!(annotations(&[text.to_owned()]).unwrap_err().message.contains("stay as they are"), "{text}");
        }
    }
}
