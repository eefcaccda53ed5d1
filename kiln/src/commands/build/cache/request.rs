//! What the flags about caches elsewhere mean, in BuildKit's words.

use std::ffi::OsString;
use std::path::PathBuf;

use kiln_cache::Compression;
use kiln_image::export::MediaTypes;
use kiln_image::remote_cache::{ExportOptions, ExportPlace, ImportPlace, Mode};
use kiln_image::{Configuration, Reference};
use kiln_solver::Digest;

use super::{CacheArgs, actions, bucket};
use crate::commands::build::output::{boolean, compression, split_fields};
use crate::error::CliError;

/// The caches of a build.
#[derive(Debug, Default)]
pub(in crate::commands::build) struct CacheRequest {
    /// Those that are read.
    pub(super) from: Vec<ImportPlace>,
    /// Those that are written.
    pub(super) to: Vec<CacheTo>,
    /// Registries that need not prove who they are.
    insecure: Vec<Reference>,
    /// The flags that name a cache which is not there outside of a job.
    pub(super) passed_over: Vec<&'static str>,
}

/// A cache that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CacheTo {
    /// Inside the image.
    Inline,
    /// By itself.
    Place {
        place: ExportPlace,
        mode: Mode,
        options: ExportOptions,
        /// Whether a failure is no more than a warning.
        ignore_error: bool,
    },
}

/// Looks up the environment.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The attributes as they were written.
#[derive(Default)]
pub(super) struct Attributes {
    flag: &'static str,
    kind: String,
    fields: Vec<(String, String)>,
}

impl CacheRequest {
    /// Checks the flags; `variables` looks up what the environment says of buckets.
    pub(in crate::commands::build) fn new(args: &CacheArgs, variables: Variables<'_>) -> Result<Self, CliError> {
        let mut request = Self::default();
        for text in &args.from {
            let context = |error: CliError| error.context(format!("`--cache-from {}`", shown(text)));
            for attributes in Attributes::parse("--cache-from", text).map_err(context)? {
                request.add_from(attributes, variables).map_err(context)?;
            }
        }
        for text in &args.to {
            let context = |error: CliError| error.context(format!("`--cache-to {}`", shown(text)));
            for attributes in Attributes::parse("--cache-to", text).map_err(context)? {
                request.add_to(attributes, variables).map_err(context)?;
            }
        }
        Ok(request)
    }

    /// Lets registries that a cache is in do without proof of who they are, where that is asked for.
    pub(in crate::commands::build) fn trust_registries(&self, configuration: &mut Configuration) {
        for reference in &self.insecure {
            configuration.trust(&reference.registry);
        }
    }

    fn add_from(&mut self, mut attributes: Attributes, variables: Variables<'_>) -> Result<(), CliError> {
        let place = match attributes.kind.as_str() {
            "registry" => ImportPlace::Registry(self.registry(&mut attributes)?),
            "local" => ImportPlace::Local {
                directory: attributes.directory("src")?,
                tag: attributes.take("tag").unwrap_or_else(|| "latest".to_owned()),
                digest: attributes.digest()?,
            },
            "s3" => {
                let shelf = bucket::shelf(&mut attributes, variables)?;
                // What only matters for writing may be there all the same.
                bucket::shelf_options(&mut attributes)?;
                ImportPlace::Bucket(Box::new(shelf))
            }
            "gha" => match actions::place(&mut attributes, variables)? {
                Some(actions) => ImportPlace::Actions(Box::new(actions)),
                None => return self.pass_over(attributes),
            },
            "inline" => {
                return Err(CliError::usage("a cache inside an image is read as type `registry`, with `ref=IMAGE`"));
            }
            other => return Err(unknown(other)),
        };
        attributes.finish()?;
        self.from.push(place);
        Ok(())
    }

    fn add_to(&mut self, mut attributes: Attributes, variables: Variables<'_>) -> Result<(), CliError> {
        let place = match attributes.kind.as_str() {
            "inline" => {
                let mode = attributes.mode()?;
                attributes.flag("ignore-error", false)?;
                attributes.finish()?;
                if mode == Mode::Max {
                    return Err(CliError::usage("a cache inside an image has the steps of that image alone")
                        .hint("write one with `mode=max` beside it: `--cache-to type=registry,ref=NAME,mode=max`"));
                }
                self.to.push(CacheTo::Inline);
                return Ok(());
            }
            "registry" => ExportPlace::Registry(self.registry(&mut attributes)?),
            "local" => ExportPlace::Local {
                directory: attributes.directory("dest")?,
                tag: attributes.take("tag").unwrap_or_else(|| "latest".to_owned()),
            },
            "s3" => {
                let shelf = bucket::shelf(&mut attributes, variables)?;
                ExportPlace::Bucket(Box::new(shelf), bucket::shelf_options(&mut attributes)?)
            }
            "gha" => match actions::place(&mut attributes, variables)? {
                Some(actions) => ExportPlace::Actions(Box::new(actions)),
                None => {
                    attributes.how()?;
                    return self.pass_over(attributes);
                }
            },
            other => return Err(unknown(other)),
        };
        let (mode, options, ignore_error) = attributes.how()?;
        attributes.finish()?;
        self.to.push(CacheTo::Place { place, mode, options, ignore_error });
        Ok(())
    }

    /// A job of CI may be tried where there is no CI.
    fn pass_over(&mut self, attributes: Attributes) -> Result<(), CliError> {
        self.passed_over.push(attributes.flag);
        attributes.finish()
    }

    fn registry(&mut self, attributes: &mut Attributes) -> Result<Reference, CliError> {
        let text = attributes.take("ref").ok_or_else(|| CliError::usage("type `registry` needs `ref=NAME`"))?;
        let reference = Reference::parse(&text).map_err(|error| CliError::usage(error.to_string()))?;
        if attributes.flag("registry.insecure", false)? {
            self.insecure.push(reference.clone());
        }
        Ok(reference)
    }
}

/// A flag as it may be shown: nothing of one that may hold secrets.
fn shown(text: &str) -> &str {
    let lower = text.to_lowercase();
    if lower.contains("secret") || lower.contains("token") || lower.contains("access_key") { "…" } else { text }
}

fn unknown(kind: &str) -> CliError {
    match kind {
        "" => CliError::usage("`type` is missing"),
        "azblob" => CliError::usage(format!("caches of type `{kind}` are not supported in this version"))
            .hint("`registry` works wherever images do"),
        _ => CliError::usage(format!("unknown type `{kind}`: expected registry, local, s3, gha or inline")),
    }
}

impl Attributes {
    /// The caches that one flag names: bare names are those of registries.
    fn parse(flag: &'static str, text: &str) -> Result<Vec<Self>, CliError> {
        let fields = split_fields(text)?;
        if fields.iter().all(|field| !field.contains('=')) {
            let registry = |field: &String| Self {
                flag,
                kind: "registry".to_owned(),
                fields: vec![("ref".to_owned(), field.clone())],
            };
            return Ok(fields.iter().map(registry).collect());
        }
        let mut attributes = Self { flag, ..Self::default() };
        for field in &fields {
            let Some((key, value)) = field.split_once('=') else {
                return Err(CliError::usage("a field is not of the form `key=value`"));
            };
            match key.trim().to_lowercase() {
                key if key == "type" => attributes.kind = value.to_owned(),
                key => attributes.fields.push((key, value.to_owned())),
            }
        }
        Ok(vec![attributes])
    }

    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let position = self.fields.iter().rposition(|(known, _)| known == key)?;
        let (_, value) = self.fields.swap_remove(position);
        self.fields.retain(|(known, _)| known != key);
        Some(value)
    }

    fn directory(&mut self, key: &str) -> Result<PathBuf, CliError> {
        match self.take(key).filter(|path| !path.is_empty()) {
            Some(path) => Ok(path.into()),
            None => Err(CliError::usage(format!("type `local` of `{}` needs `{key}=DIRECTORY`", self.flag))),
        }
    }

    fn digest(&mut self) -> Result<Option<Digest>, CliError> {
        let parse = |text: String| text.parse::<Digest>().map_err(|error| CliError::usage(error.to_string()));
        self.take("digest").map(parse).transpose()
    }

    fn mode(&mut self) -> Result<Mode, CliError> {
        match self.take("mode").as_deref() {
            None | Some("min") => Ok(Mode::Min),
            Some("max") => Ok(Mode::Max),
            Some(other) => Err(CliError::usage(format!("`mode` is `min` or `max`, not `{other}`"))),
        }
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> Result<bool, CliError> {
        self.take(key).map_or(Ok(default), |value| boolean(key, &value))
    }

    /// What and how a cache is written, and whether a failure is no more than a warning.
    fn how(&mut self) -> Result<(Mode, ExportOptions, bool), CliError> {
        Ok((self.mode()?, self.options()?, self.flag("ignore-error", false)?))
    }

    fn options(&mut self) -> Result<ExportOptions, CliError> {
        let level = self.take("compression-level");
        let level = level.map(|text| text.parse().map_err(|_| CliError::usage(format!("`{text}` is not a level"))));
        let kind = self.take("compression");
        let compression = compression(kind.as_deref(), level.transpose()?)?;
        let oci = self.take("oci-mediatypes").map(|value| boolean("oci-mediatypes", &value)).transpose()?;
        let is_zstd = matches!(compression, Some(Compression::Zstd { .. }));
        let media_types = if oci.unwrap_or(true) || is_zstd { MediaTypes::Oci } else { MediaTypes::Docker };
        let image_manifest = self.take("image-manifest").map(|value| boolean("image-manifest", &value)).transpose()?;
        if media_types == MediaTypes::Docker && image_manifest == Some(true) {
            return Err(CliError::usage("`image-manifest=true` needs `oci-mediatypes=true`"));
        }
        Ok(ExportOptions {
            image_manifest: image_manifest.unwrap_or(media_types == MediaTypes::Oci),
            media_types,
            compression: compression.unwrap_or(Compression::Gzip { level: 6 }),
            force_compression: self.flag("force-compression", false)?,
        })
    }

    /// Whether nothing else was given.
    fn finish(self) -> Result<(), CliError> {
        match self.fields.first() {
            None => Ok(()),
            Some((key, _)) => {
                Err(CliError::usage(format!("type `{}` of `{}` has no attribute `{key}`", self.kind, self.flag)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_image::BucketLogin;

    use super::*;

    fn request(from: &[&str], to: &[&str]) -> Result<CacheRequest, CliError> {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let variables = |name: &str| (name == "AWS_REGION").then(|| "from-environment".into());
        CacheRequest::new(&CacheArgs { from: own(from), to: own(to) }, &variables)
    }

    fn from(text: &str) -> Vec<ImportPlace> {
        request(&[text], &[]).unwrap().from
    }

    fn to(text: &str) -> CacheTo {
        request(&[], &[text]).unwrap().to.remove(0)
    }

    fn message(from: &[&str], to: &[&str]) -> String {
        request(from, to).unwrap_err().message
    }

    #[test]
    fn bare_names_are_those_of_registries() {
        let registry = |name: &str| ImportPlace::Registry(Reference::parse(name).unwrap());
        assert_eq!(from("user/app"), [registry("docker.io/user/app:latest")]);
        assert_eq!(from("a,b:1"), [registry("a"), registry("b:1")]);
        assert_eq!(from("type=registry,ref=localhost:5000/a:b"), [registry("localhost:5000/a:b")]);
    }

    #[test]
    fn directories_have_names_in_them() {
        let digest = Digest::of(b"");
        let text = format!("type=local,src=/c,digest={digest}");
        let tag = "latest".to_owned();
        assert_eq!(from(&text), [ImportPlace::Local { directory: "/c".into(), tag, digest: Some(digest) }]);
        let CacheTo::Place { place, mode, options, ignore_error } =
            to("type=local,dest=c,tag=x,mode=max,compression=zstd,ignore-error=true,image-manifest=false")
        else {
            panic!("not a place")
        };
        assert_eq!(place, ExportPlace::Local { directory: "c".into(), tag: "x".to_owned() });
        assert!(mode == Mode::Max && ignore_error && !options.image_manifest);
        assert_eq!(options.compression, Compression::Zstd { level: 3 });
    }

    #[test]
    fn buckets_take_what_is_missing_from_the_environment() {
        let spec = "type=s3,bucket=b,name=a;c,endpoint_url=http://localhost:1,use_path_style=true,prefix=p/,\
                    access_key_id=id,secret_access_key=hidden";
        let [ImportPlace::Bucket(shelf)] = &from(spec)[..] else { panic!("not a bucket") };
        assert_eq!(shelf.to_string(), "s3://b/p/manifests/a");
        assert_eq!((shelf.bucket.region.as_str(), shelf.names.len()), ("from-environment", 2));
        assert!(shelf.bucket.path_style && matches!(shelf.bucket.login, BucketLogin::Keys(_)));
        let error = message(&[&format!("{spec},what=x")], &[]);
        assert!(error.contains("has no attribute `what`") && !error.contains("hidden"), "{error}");
        assert!(message(&["type=s3"], &[]).contains("needs `bucket=…`, or `AWS_BUCKET`"));
        assert!(message(&["type=s3,bucket=b,access_key_id=x"], &[]).contains("need each other"));
        assert!(message(&[], &["type=s3,bucket=b,upload_parallelism=0"]).contains("from 1 to 64"));
        assert!(message(&[], &["type=s3,bucket=b,touch_refresh=soon"]).contains("such as `24h`"));
    }

    #[test]
    fn a_job_of_github_has_a_cache() {
        let job = |name: &str| match name {
            "ACTIONS_RUNTIME_TOKEN" => Some("hidden".into()),
            "ACTIONS_RESULTS_URL" => Some("https://job/".into()),
            _ => None,
        };
        let in_job = |text: &str| {
            let args = CacheArgs { from: vec![text.to_owned()], to: Vec::new() };
            let request = CacheRequest::new(&args, &job).unwrap();
            let [ImportPlace::Actions(actions)] = &request.from[..] else { panic!("not of a job") };
            (actions.settings.url.clone(), actions.scope.clone(), actions.timeout.as_secs())
        };
        let found = |url: &str, scope: &str, seconds| (url.to_owned(), scope.to_owned(), seconds);
        assert_eq!(in_job("type=gha"), found("https://job/", "buildkit", 600));
        assert_eq!(in_job("type=gha,scope=a,url_v2=http://b,timeout=30s,ghtoken=x"), found("http://b", "a", 30));
        assert_eq!(in_job("type=gha,version=2,url=http://c").0, "http://c");
        let outside = request(&["type=gha"], &["type=gha,mode=max,ignore-error=true,repository=a/b"]).unwrap();
        assert_eq!(outside.passed_over, ["--cache-from", "--cache-to"]);
        assert!(outside.from.is_empty() && outside.to.is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let cases = [
            ("type=local", "needs `src=DIRECTORY`"),
            ("type=registry", "needs `ref=NAME`"),
            ("type=registry,ref=A", "invalid image reference"),
            ("type=inline", "read as type `registry`"),
            ("type=azblob", "not supported in this version"),
            ("type=gha,version=1", "GitHub has ended it"),
            ("type=gha,url=http://ghes", "GitHub has ended it"),
            ("type=gha,timeout=soon", "such as `10m`"),
            ("type=gha,what=x", "has no attribute `what`"),
            ("type=tape", "unknown type `tape`"),
            ("type=local,src=a,dest=b", "has no attribute `dest`"),
            ("ref=a", "`type` is missing"),
        ];
        for (text, expected) in cases {
            let message = message(&[text], &[]);
            assert!(message.starts_with("`--cache-from type=") || message.starts_with("`--cache-from ref="));
            assert!(message.contains(expected), "{message}");
        }
        assert!(message(&[], &["type=inline,mode=max"]).contains("steps of that image alone"));
        assert!(message(&[], &["type=local,dest=a,mode=all"]).contains("`min` or `max`"));
        let docker = "type=registry,ref=a,oci-mediatypes=false,image-manifest=true";
        assert!(message(&[], &[docker]).contains("needs `oci-mediatypes=true`"));
    }
}
