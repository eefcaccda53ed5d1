//! Platforms, written `os/architecture[/variant]` and normalised as containerd does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on, in the words of the OCI image index (`platform` of a descriptor).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system, as `GOOS` names it.
    pub os: String,
    /// The processor architecture, as `GOARCH` names it.
    pub architecture: String,
    /// The variant of the architecture, such as `v7` of `arm`; absent where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: expected `os/architecture[/variant]`, such as `linux/amd64`")]
pub struct ParsePlatformError(pub String);

impl Platform {
    /// A platform of these parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalise(&architecture.to_lowercase(), variant.unwrap_or(""));
        Self { os: normalise_os(&os.to_lowercase()), architecture, variant }
    }

    /// The platform that this program runs on.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// Whether something built for `other` runs where `self` is asked for: the same operating system,
    /// architecture and variant.
    pub fn accepts(&self, other: &Self) -> bool {
        *self == Self::new(&other.os, &other.architecture, other.variant.as_deref())
    }
}

fn normalise_os(os: &str) -> String {
    if os == "macos" { "darwin".to_owned() } else { os.to_owned() }
}

/// containerd's `platforms.normalizeArch`.
fn normalise(architecture: &str, variant: &str) -> (String, Option<String>) {
    let variant = variant.to_lowercase();
    let (architecture, variant) = match (architecture, variant.as_str()) {
        ("i386" | "x86", _) => ("386", String::new()),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", String::new()),
        ("x86_64" | "x86-64" | "amd64", _) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", String::new()),
        ("aarch64" | "arm64", _) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7".to_owned()),
        ("armel", _) => ("arm", "v6".to_owned()),
        ("arm", "" | "7") => ("arm", "v7".to_owned()),
        ("arm", "5" | "6" | "8") => ("arm", format!("v{variant}")),
        (other, _) => (other, variant),
    };
    (architecture.to_owned(), Some(variant).filter(|variant| !variant.is_empty()))
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePlatformError(text.to_owned());
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(error());
        }
        let host = Self::host();
        match parts.as_slice() {
            ["local"] => Ok(host),
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                Ok(Self::new(os, &host.architecture, host.variant.as_deref()))
            }
            [architecture] => Ok(Self::new(&host.os, architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised_as_containerd_does() {
        let cases = [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("Linux/AMD64", "linux/amd64"),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn other_texts_are_not_platforms() {
        for text in ["", "/", "linux/", "linux/amd64/v1/x", "linux/am d64", "linux/$ARCH"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
