//! What happens with images once they are built: they are written out, get their names, and are told about.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::SystemTime;

use kiln_cache::{Compression, ImageRecord};
use kiln_image::export::{self, Destination as Place, Files, Format, ImageOptions, LocalOptions, MediaTypes, Package};
use kiln_image::push::{Targets, push};
use kiln_image::{Images, LayerNotes, Reference};
use kiln_solver::{Cancel, Digest, Layer};

use super::attest::Statements;
use super::output::{ArchiveDestination, Destination, FilesOutput, ImageAttributes, Output, Push};
use super::request::Request;
use crate::engine::Engine;
use crate::environment::Environment;
use crate::error::{self, CliError};
use crate::local::image_error;
use crate::progress::{Group, Progress};
use crate::session::store_error;
use crate::terminal;

/// How layers are compressed where the user does not say.
pub(super) const COMPRESSION: Compression = Compression::Gzip { level: 6 };

/// Says so before the build if an archive would end up on a terminal.
pub(super) fn check_stdout(outputs: &[Output]) -> Result<(), CliError> {
    if outputs.iter().any(Output::is_stdout) && std::io::stdout().is_terminal() {
        return Err(CliError::usage("`--output` to standard output would write an archive to the terminal")
            .hint("redirect it, or name a file with `dest=FILE`"));
    }
    Ok(())
}

/// Says so if files are to be made no younger than a time that nobody has given, as BuildKit does.
pub(super) fn warn_of_no_time(request: &Request, environment: &Environment) {
    let is_asked = |output: &Output| output.image().is_some_and(|image| image.rewrite_timestamp == Some(true));
    let is_missing = request.source_date_epoch.is_none() && request.outputs.iter().any(is_asked);
    if is_missing && request.style.is_for_people() {
        let message = "`rewrite-timestamp` changes nothing: `SOURCE_DATE_EPOCH` is not set";
        terminal::warn(message, environment.colour);
    }
}

/// What was built for one platform.
pub(super) struct Made {
    /// The image, its files as old as they are.
    pub(super) image: ImageRecord,
    /// Its layers.
    pub(super) layers: Vec<Layer>,
    /// What is said of it.
    pub(super) statements: Statements,
}

/// What came of it all.
pub(super) struct Exported {
    /// The image, as far as one was made.
    pub(super) image: ImageRecord,
    /// Its manifest or index, where it was needed.
    pub(super) package: Option<Package>,
}

/// Where the layers of a base image have to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    /// In the store.
    Here,
    /// In the store or where the base came from.
    Anywhere,
}

/// What an image is put together for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Use {
    base: Base,
    /// Whether there is room for attestations.
    is_attested: bool,
    /// Whether it goes to a registry or the store, and not into an archive: `inline-only` statements go nowhere else.
    is_inline: bool,
}

/// Writes finished images.
pub(super) struct Exporter<'a> {
    pub(super) images: &'a Images,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) request: &'a Request,
    /// One for each platform.
    pub(super) made: &'a [Made],
    /// What it is loaded into, where that is asked for.
    pub(super) engine: Option<&'a Engine>,
}

impl Exporter<'_> {
    /// Does everything that was asked for; yields the first image that was made on the way.
    pub(super) fn run(&self) -> Result<Exported, CliError> {
        let mut first = None;
        for output in &self.request.outputs {
            if let Some(exported) = self.write(output)? {
                first.get_or_insert(exported);
            }
        }
        let stored = self.store()?;
        // A registry that is away today does not cost the image its name.
        for output in &self.request.outputs {
            if let Output::Store { image, push: Some(push), .. } = output {
                let pushed = self.push(image, *push)?;
                first.get_or_insert(pushed);
            }
        }
        match first.or(stored) {
            Some(exported) => Ok(exported),
            None => Ok(Exported { image: self.main(&self.records(&ImageAttributes::default())?)?, package: None }),
        }
    }

    fn write(&self, output: &Output) -> Result<Option<Exported>, CliError> {
        match output {
            Output::Image { format, image, destination } => self.write_image(*format, image, destination).map(Some),
            Output::Files(files) => self.write_files(files).map(|()| None),
            Output::Archive { destination, platform_split, attestation_prefix } => {
                let files = self.files(*platform_split, attestation_prefix)?;
                self.write_archive(destination, &files).map(|()| None)
            }
            Output::Store { .. } | Output::CacheOnly => Ok(None),
        }
    }

    /// Lets the store list the image: under its names, or under its ID if it has none and goes nowhere else.
    fn store(&self) -> Result<Option<Exported>, CliError> {
        let (names, is_listed) = self.request.stored_names();
        if names.is_empty() && !is_listed {
            return Ok(None);
        }
        let plain = ImageAttributes::default();
        let stored = self.request.outputs.iter().find_map(|output| match output {
            Output::Store { image, is_kept: true, .. } => Some(image),
            _ => None,
        });
        let attributes = stored.unwrap_or(&plain);
        self.progress.during("exporting to image", |group| {
            let exported = match self.needs_manifest(attributes) {
                true => {
                    let package = self.package(attributes, &names, Use::ANYWHERE, group)?;
                    let image = package.keep(self.images.store()).map_err(|error| image_error(&error))?;
                    Exported { image, package: Some(package) }
                }
                false => Exported { image: self.main(&self.records(attributes)?)?, package: None },
            };
            let image = ImageRecord { tagged: SystemTime::now(), ..exported.image.clone() };
            let id = image.identity().to_string();
            self.progress.note(group, &format!("writing image {id} done"));
            let tag = |name: &str| self.images.store().tag(name, &image).map_err(|error| store_error(&error));
            for name in &names {
                tag(&name.to_string())?;
                self.progress.note(group, &format!("naming to {name} done"));
            }
            if is_listed {
                tag(&id)?;
            }
            Ok(Some(exported))
        })
    }

    fn push(&self, attributes: &ImageAttributes, how: Push) -> Result<Exported, CliError> {
        self.progress.during("pushing image", |group| {
            let names = attributes.names_or(&self.request.tags);
            let package = self.package(attributes, names, Use::ANYWHERE, group)?;
            let targets = Targets { names: names.to_vec(), by_digest: how.by_digest };
            push(self.images, &package.parcel(), &targets, self.cancel).map_err(|error| image_error(&error))?;
            self.progress.note(group, &format!("pushing manifest {} done", package.root().digest));
            let image = package.record().ok_or_else(|| CliError::bug("a package without an image"))?;
            Ok(Exported { image, package: Some(package) })
        })
    }

    /// Whether more is asked of an image than a config and layers; everything else can wait until it goes somewhere.
    fn needs_manifest(&self, attributes: &ImageAttributes) -> bool {
        let plain = ImageAttributes {
            names: attributes.names.clone(),
            rewrite_timestamp: attributes.rewrite_timestamp,
            media_types: attributes.media_types,
            ..ImageAttributes::default()
        };
        let has_notes = !self.request.annotations.is_empty() || *attributes != plain;
        has_notes
            || self.made.len() > 1
            || self.request.wants_index
            || self.request.metadata_file.is_some()
            || self.request.attest.attaches()
    }

    fn write_image(
        &self,
        format: Format,
        attributes: &ImageAttributes,
        destination: &Destination,
    ) -> Result<Exported, CliError> {
        if let Destination::Engine(_) = destination {
            return self.load(attributes);
        }
        let title = match format {
            Format::Oci => "exporting to oci image format",
            Format::Docker => "exporting to docker image format",
        };
        self.progress.during(title, |group| {
            let used = Use { base: Base::Here, is_attested: format == Format::Oci, is_inline: false };
            let package = self.package(attributes, self.names(attributes), used, group)?.dated();
            let packages = std::slice::from_ref(&package);
            let write = |place: Place<'_>| {
                export::write(packages, format, place, self.cancel).map_err(|error| image_error(&error))
            };
            match destination {
                Destination::Directory(path) => write(Place::Directory(path.clone()))?,
                Destination::File(path) => with_archive(Some(path), write)?,
                Destination::Stdout | Destination::Engine(_) => with_archive(None, write)?,
            }
            self.progress.note(group, "sending tarball done");
            let image = package.record().ok_or_else(|| CliError::bug("a package without an image"))?;
            Ok(Exported { image, package: Some(package) })
        })
    }

    /// Loads the image into the container engine.
    fn load(&self, attributes: &ImageAttributes) -> Result<Exported, CliError> {
        let engine = self.engine.ok_or_else(|| CliError::bug("nobody has looked for a container engine"))?;
        self.progress.during(&format!("loading into {}", engine.name()), |group| {
            let used = Use { base: Base::Here, is_attested: engine.takes_indexes(), is_inline: false };
            let package = self.package(attributes, self.names(attributes), used, group)?;
            let image = package.record().ok_or_else(|| CliError::bug("a package without an image"))?;
            let loaded = engine.load(&package, self.cancel)?;
            if loaded.known_layers > 0 {
                let note = format!("{} of {} layers were there", loaded.known_layers, image.layers.len());
                self.progress.note(group, &note);
            }
            for line in loaded.said.lines() {
                self.progress.note(group, line);
            }
            Ok(Exported { image, package: Some(package) })
        })
    }

    /// The documents and blobs of the image, and word of them.
    fn package(
        &self,
        attributes: &ImageAttributes,
        names: &[Reference],
        Use { base, is_attested, is_inline }: Use,
        group: Group,
    ) -> Result<Package, CliError> {
        let (asked, has_room) = (&self.request.attest, is_attested);
        let is_attested = is_attested && if is_inline { asked.attaches() } else { asked.attaches_elsewhere() };
        let mut annotations = attributes.annotations.clone();
        annotations.extend(&self.request.annotations);
        let is_plain = annotations.is_empty() && !is_attested;
        let media_types = if is_plain { attributes.media_types } else { MediaTypes::Oci };
        let (records, layer_notes) = self.estargz_records(attributes)?;
        let options = ImageOptions {
            names: names.to_vec(),
            media_types,
            compression: attributes.compression,
            force_compression: attributes.force_compression,
            annotations,
            layer_notes,
            attestations: attributes.attestations,
            lazy_base: base == Base::Anywhere,
        };
        let is_index = records.len() > 1 || is_attested || (has_room && self.request.wants_index);
        let package = Package::make(self.images, &records, is_index, &options, self.cancel)
            .map_err(|error| image_error(&error))?;
        let package = if is_attested { self.attest(package, &options, is_inline) } else { package };
        self.progress.note(group, "exporting layers done");
        for (manifest, config, _) in package.manifests() {
            self.progress.note(group, &format!("exporting manifest {} done", manifest.digest));
            self.progress.note(group, &format!("exporting config {} done", config.digest));
        }
        for manifest in package.attestations() {
            self.progress.note(group, &format!("exporting attestation manifest {} done", manifest.digest));
        }
        if package.config().is_none() {
            self.progress.note(group, &format!("exporting manifest list {} done", package.root().digest));
        }
        Ok(package)
    }

    fn attest(&self, package: Package, options: &ImageOptions, is_inline: bool) -> Package {
        let made = package.manifests().zip(self.made);
        let attestations = made.map(|((_, _, layers), made)| made.statements.attestations(layers, is_inline));
        let attestations: Vec<_> = attestations.collect();
        package.attest(&attestations, options)
    }

    /// What the names of the flags, or else those of the output are.
    fn names<'n>(&'n self, attributes: &'n ImageAttributes) -> &'n [Reference] {
        if self.request.tags.is_empty() { &attributes.names } else { &self.request.tags }
    }

    /// The images, with files no younger than they may be.
    fn records(&self, attributes: &ImageAttributes) -> Result<Vec<ImageRecord>, CliError> {
        let latest = self.request.source_date_epoch.filter(|_| attributes.rewrite_timestamp != Some(false));
        let compression = attributes.compression.unwrap_or(COMPRESSION);
        let record = |made: &Made| match latest {
            Some(latest) => kiln_image::clamp(self.images.store(), &made.image, latest, compression)
                .map_err(|error| image_error(&error)),
            None => Ok(made.image.clone()),
        };
        self.made.iter().map(record).collect()
    }

    /// The same, with layers as eStargz where that is asked for, and the notes on those.
    fn estargz_records(&self, attributes: &ImageAttributes) -> Result<(Vec<ImageRecord>, LayerNotes), CliError> {
        let (true, Some(Compression::Gzip { level })) = (attributes.is_estargz, attributes.compression) else {
            return Ok((self.records(attributes)?, LayerNotes::new()));
        };
        let latest = self.request.source_date_epoch.filter(|_| attributes.rewrite_timestamp != Some(false));
        let (mut records, mut all) = (Vec::new(), LayerNotes::new());
        for made in self.made {
            let (record, notes) = kiln_image::estargz(self.images.store(), &made.image, latest, level)
                .map_err(|error| image_error(&error))?;
            records.push(record);
            all.extend(notes);
        }
        Ok((records, all))
    }

    fn main(&self, records: &[ImageRecord]) -> Result<ImageRecord, CliError> {
        records.first().cloned().ok_or_else(|| CliError::bug("a build without a platform"))
    }

    fn write_files(&self, output: &FilesOutput) -> Result<(), CliError> {
        self.progress.during("exporting to client directory", |group| {
            let options = LocalOptions {
                // As Docker does: whoever builds owns the files.
                keep_owners: false,
                mtime: self.request.source_date_epoch,
                is_mirror: output.is_mirror,
            };
            let files = self.files(output.platform_split, &output.attestation_prefix)?;
            export::local(self.images, &files, &output.directory, options, self.cancel)
                .map_err(|error| image_error(&error))?;
            self.progress.note(group, "copying files done");
            Ok(())
        })
    }

    fn write_archive(&self, destination: &ArchiveDestination, files: &[Files]) -> Result<(), CliError> {
        let path = match destination {
            ArchiveDestination::File(path) => Some(path),
            ArchiveDestination::Stdout => None,
        };
        self.progress.during("exporting to client tarball", |group| {
            with_archive(path, |place| {
                export::tar(self.images, files, self.request.source_date_epoch, place, self.cancel)
                    .map_err(|error| image_error(&error))
            })?;
            self.progress.note(group, "sending tarball done");
            Ok(())
        })
    }

    /// The files of each platform, in a directory of its own (`linux_arm_v7`) if they are to be split, and what is said
    /// of them in files with this prefix.
    fn files(&self, split: Option<bool>, prefix: &str) -> Result<Vec<Files>, CliError> {
        let is_split = split.unwrap_or(self.made.len() > 1 || self.request.wants_index);
        let files = |made: &Made| {
            let platform = made.image.platform.to_string().replace('/', "_");
            let infix = if is_split || self.made.len() == 1 { None } else { Some(platform.as_str()) };
            let said = made.statements.layer(self.images, &made.layers, (prefix, infix), self.cancel)?;
            let layers = made.layers.iter().copied().chain(said).collect();
            Ok(Files { directory: if is_split { platform } else { String::new() }, layers })
        };
        self.made.iter().map(files).collect()
    }

    /// What the file of `--metadata-file` has of provenance, in the words of buildx.
    pub(super) fn provenance(&self) -> Vec<(String, serde_json::Value)> {
        const KEY: &str = "buildx.build.provenance";
        let one = |made: &Made| {
            let provenance = made.statements.metadata(self.request.attest.metadata_mode())?;
            let is_alone = self.made.len() == 1;
            let key = if is_alone { KEY.to_owned() } else { format!("{KEY}/{}", made.image.platform) };
            Some((key, provenance))
        };
        self.made.iter().filter_map(one).collect()
    }
}

impl Exported {
    /// What the image is known by.
    pub(super) fn id(&self) -> Digest {
        *self.image.identity()
    }

    /// What `--metadata-file` is told of it, in the words of buildx.
    pub(super) fn metadata(
        &self,
        names: &[Reference],
        build: Option<String>,
    ) -> serde_json::Map<String, serde_json::Value> {
        let mut all = serde_json::Map::new();
        // The history of builds is asked by the last part alone.
        all.extend(build.map(|id| ("buildx.build.ref".to_owned(), format!("kiln/kiln/{id}").into())));
        let Some(package) = &self.package else { return all };
        let root = package.root();
        if let Some(config) = package.config() {
            all.insert("containerimage.config.digest".to_owned(), config.to_string().into());
        }
        all.insert("containerimage.descriptor".to_owned(), serde_json::to_value(root).unwrap_or_default());
        all.insert("containerimage.digest".to_owned(), root.digest.to_string().into());
        let names = if names.is_empty() { package.names() } else { names };
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            all.insert("image.name".to_owned(), names.join(",").into());
        }
        all
    }
}

impl Use {
    /// In the store or a registry.
    const ANYWHERE: Self = Self { base: Base::Anywhere, is_attested: true, is_inline: true };
}

/// Runs `write` with the file of this path, or with standard output where there is none.
fn with_archive<T>(
    path: Option<&PathBuf>,
    write: impl FnOnce(Place<'_>) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let Some(path) = path else {
        // Not `Stdout`, which would look for the ends of lines in the archive.
        let stdout = std::io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| CliError::environment(format!("cannot write to stdout: {}", error::plain_io(&error))))?;
        return write(Place::Stream(&mut File::from(stdout)));
    };
    write(Place::File(path.clone()))
}
