//! Where an image comes from, as `FROM` and `--build-context` write it.

use std::fmt;
use std::path::PathBuf;

use kiln_solver::Digest;

use crate::{ImageError, Reference};

const LAYOUT_SCHEME: &str = "oci-layout://";
const IMAGE_SCHEME: &str = "docker-image://";

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// The store or else a registry.
    Reference(Reference),
    /// An OCI image layout.
    Layout(LayoutLocation),
}

/// One image of an OCI image layout directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutLocation {
    /// The directory.
    pub directory: PathBuf,
    /// The tag; without tag and digest it is the only image of the layout, or else `latest`.
    pub tag: Option<String>,
    /// The digest of the manifest or index; where there is one, the tag has no say.
    pub digest: Option<Digest>,
}

impl Location {
    /// Parses `NAME[:TAG][@DIGEST]`, `docker-image://NAME[:TAG][@DIGEST]` or `oci-layout://DIR[:TAG][@DIGEST]`.
    ///
    /// # Errors
    /// When the text is none of these; the error says why.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        match (text.strip_prefix(LAYOUT_SCHEME), text.strip_prefix(IMAGE_SCHEME)) {
            (Some(layout), _) => Ok(Self::Layout(parse_layout(text, layout)?)),
            (None, Some(reference)) => Ok(Self::Reference(Reference::parse(reference)?)),
            (None, None) => Ok(Self::Reference(Reference::parse(text)?)),
        }
    }
}

fn parse_layout(text: &str, layout: &str) -> Result<LayoutLocation, ImageError> {
    let error = |reason| ImageError::Location { text: text.to_owned(), reason };
    let (rest, digest) = match layout.rsplit_once('@') {
        Some((rest, digest)) if !digest.contains('/') => {
            (rest, Some(digest.parse().map_err(|_| error("what follows `@` is not a `sha256:` digest"))?))
        }
        _ => (layout, None),
    };
    let (directory, tag) = match rest.rsplit_once(':') {
        Some((directory, tag)) if !tag.contains('/') => (directory, Some(tag)),
        _ => (rest, None),
    };
    if directory.is_empty() {
        return Err(error("expected `oci-layout://DIRECTORY[:TAG][@DIGEST]`"));
    }
    if tag == Some("") {
        return Err(error("the tag is empty"));
    }
    Ok(LayoutLocation { directory: directory.into(), tag: tag.map(str::to_owned), digest })
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(reference) => reference.fmt(formatter),
            Self::Layout(layout) => layout.fmt(formatter),
        }
    }
}

impl fmt::Display for LayoutLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{LAYOUT_SCHEME}{}", self.directory.display())?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_what_they_print() {
        let digest = Digest::of(b"");
        let cases = [
            ("oci-layout:///srv/base".to_owned(), "/srv/base", None, None),
            ("oci-layout://base:1.0".to_owned(), "base", Some("1.0"), None),
            (format!("oci-layout://./a:b/c@{digest}"), "./a:b/c", None, Some(digest)),
            (format!("oci-layout://a:t@{digest}"), "a", Some("t"), Some(digest)),
        ];
        for (text, directory, tag, digest) in cases {
            let location = Location::parse(&text).unwrap();
            assert_eq!(location.to_string(), text);
            let expected = LayoutLocation { directory: directory.into(), tag: tag.map(str::to_owned), digest };
            assert_eq!(location, Location::Layout(expected));
        }
        let image = Location::parse("docker-image://alpine").unwrap();
        assert_eq!(image, Location::parse("docker.io/library/alpine:latest").unwrap());
    }

    #[test]
    fn other_locations_are_refused() {
        for text in
            ["oci-layout://", "oci-layout://:tag", "oci-layout://a:", "oci-layout://a@sha256:1", "docker-image://A"]
        {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }
}
