//! Package URLs of images, as statements name them: `pkg:docker/library/app@1.0?platform=linux%2Famd64`.
//!
//! Specification: <https://github.com/package-url/purl-spec>, with the names and qualifiers that BuildKit gives.

use kiln_solver::{Digest, Platform};

use crate::Reference;

/// An image of a registry, by the name that people use for it.
pub fn of_image(reference: &Reference, platform: Option<&Platform>) -> String {
    let qualifiers = qualifiers(reference.digest.as_ref(), platform);
    let name = Reference { tag: None, digest: None, ..reference.clone() }.familiar();
    let version = reference.tag.as_ref().map(|tag| format!("@{}", escape(tag, ""))).unwrap_or_default();
    format!("pkg:docker/{}{version}{qualifiers}", escape(&name, ":/"))
}

/// An image of an OCI layout, which has no name but that of a directory.
pub fn of_layout(name: &str, digest: &Digest, platform: Option<&Platform>) -> String {
    format!("pkg:oci/{}{}", escape(name, ""), qualifiers(Some(digest), platform))
}

fn qualifiers(digest: Option<&Digest>, platform: Option<&Platform>) -> String {
    let digest = digest.map(|digest| format!("digest={}", escape(&digest.to_string(), "")));
    let platform = platform.map(|platform| format!("platform={}", escape(&platform.to_string(), "")));
    let all: Vec<String> = digest.into_iter().chain(platform).collect();
    if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
}

/// Percent-encodes all bytes but letters, digits, `.-_~` and those that are `kept`.
fn escape(text: &str, kept: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) || kept.as_bytes().contains(&byte);
    let escaped = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_the_names_that_buildkit_gives() {
        let platform: Platform = "linux/arm/v7".parse().unwrap();
        let digest = Digest::of(b"");
        let pinned = format!("alpine@{digest}");
        let both = format!("alpine:3@{digest}");
        let hex = digest.hex();
        let cases = [
            ("alpine", "pkg:docker/alpine@latest".to_owned()),
            ("team/app:1.0", "pkg:docker/team/app@1.0".to_owned()),
            ("localhost:5000/a/b", "pkg:docker/localhost:5000/a/b@latest".to_owned()),
            (pinned.as_str(), format!("pkg:docker/alpine?digest=sha256%3A{hex}")),
            (both.as_str(), format!("pkg:docker/alpine@3?digest=sha256%3A{hex}")),
        ];
        for (reference, expected) in cases {
            assert_eq!(of_image(&Reference::parse(reference).unwrap(), None), expected);
        }
        let reference = Reference::parse("alpine:3").unwrap();
        assert_eq!(of_image(&reference, Some(&platform)), "pkg:docker/alpine@3?platform=linux%2Farm%2Fv7");
        let layout = of_layout("my layout", &digest, Some(&platform));
        assert_eq!(layout, format!("pkg:oci/my%20layout?digest=sha256%3A{hex}&platform=linux%2Farm%2Fv7"));
    }
}
