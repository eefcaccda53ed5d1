//! Reading manifests, indexes and configs that nobody vouches for.

use kiln_solver::{Layer, Origin};
use serde::Deserialize;

use crate::ImageError;
use crate::spec::{Image, Index, Manifest, media_type};

/// What a registry keeps under a tag.
#[derive(Clone, Debug)]
pub enum Document {
    /// A list of manifests.
    Index(Index),
    /// The manifest of one image, or of something else.
    Manifest(Box<Manifest>),
}

/// The fields that tell the kinds of documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
}

/// Reads a manifest or index of the image `name`. `announced` is the media type by which it was sent or
/// described, which may be empty; what the document says of itself must not be something else.
pub(crate) fn read_document(bytes: &[u8], announced: &str, name: &str) -> Result<Document, ImageError> {
    let malformed = |reason: String| ImageError::Malformed { what: "manifest", name: name.to_owned(), reason };
    let shape: Shape = parse(bytes, "manifest", name)?;
    let own = shape.media_type.clone().unwrap_or_default();
    let wrong = |media_type: &str| ImageError::MediaType {
        name: name.to_owned(),
        what: "its manifest".to_owned(),
        media_type: media_type.to_owned(),
    };
    if shape.schema_version == 1 {
        return Err(wrong("application/vnd.docker.distribution.manifest.v1+json"));
    }
    let known = |media_type: &str| media_type::is_index(media_type) || media_type::is_manifest(media_type);
    if !own.is_empty() && !known(&own) {
        return Err(wrong(&own));
    }
    let has_index = shape.manifests.is_some();
    if has_index && (shape.config.is_some() || shape.layers.is_some()) {
        return Err(malformed("it is both an index and a manifest".to_owned()));
    }
    for media_type in [own.as_str(), announced].into_iter().filter(|media_type| known(media_type)) {
        if media_type::is_index(media_type) != has_index {
            return Err(malformed(format!("it is not what its media type `{media_type}` says")));
        }
    }
    if has_index {
        parse(bytes, "index", name).map(Document::Index)
    } else {
        parse(bytes, "manifest", name).map(|manifest| Document::Manifest(Box::new(manifest)))
    }
}

/// Reads an image config.
pub(crate) fn read_config(bytes: &[u8], name: &str) -> Result<Image, ImageError> {
    parse(bytes, "config", name)
}

/// Checks that a manifest is that of an image.
pub(crate) fn check_manifest(manifest: &Manifest, name: &str) -> Result<(), ImageError> {
    let kind = &manifest.config.media_type;
    // Registries of 2016 wrote the second one for configs.
    if media_type::is_config(kind) || kind == "application/octet-stream" {
        return Ok(());
    }
    Err(ImageError::MediaType { name: name.to_owned(), what: "its config".to_owned(), media_type: kind.clone() })
}

/// The layers of an image, after a check that manifest and config agree on how many there are.
pub(crate) fn layers(manifest: &Manifest, image: &Image, name: &str) -> Result<Vec<Layer>, ImageError> {
    if manifest.layers.len() != image.rootfs.diff_ids.len() {
        let (blobs, layers) = (manifest.layers.len(), image.rootfs.diff_ids.len());
        let reason = format!("it names {layers} layers where the manifest has {blobs}");
        return Err(ImageError::Malformed { what: "config", name: name.to_owned(), reason });
    }
    Ok(image.rootfs.diff_ids.iter().map(|diff_id| Layer { diff_id: *diff_id, origin: Origin::Image }).collect())
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str, name: &str) -> Result<T, ImageError> {
    let malformed =
        |error: serde_json::Error| ImageError::Malformed { what, name: name.to_owned(), reason: error.to_string() };
    serde_json::from_slice(bytes).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, announced: &str) -> String {
        match read_document(text.as_bytes(), announced, "app") {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn documents_are_told_apart() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let manifest = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":null}}"#);
        assert!(matches!(read_document(manifest.as_bytes(), "", "app"), Ok(Document::Manifest(_))));
        assert!(matches!(
            read_document(br#"{"schemaVersion":2,"manifests":[]}"#, "text/plain", "app"),
            Ok(Document::Index(_))
        ));
        assert!(error(&manifest, media_type::OCI_INDEX).contains("is not what its media type"));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(error("", "").contains("manifest of `app` is malformed"));
        assert!(error("[]", "").contains("malformed"));
        assert!(error(r#"{"schemaVersion":1}"#, "").contains("manifest.v1+json"));
        assert!(error(r#"{"mediaType":"text/x"}"#, "").contains("media type `text/x`"));
        assert!(error(r#"{"manifests":[],"layers":[]}"#, "").contains("both an index and a manifest"));
        let config = r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha512:1","size":1}}"#;
        assert!(error(config, "").contains("sha512"));
    }
}
