//! Which distribution an image is of.

use kiln_cache::{View, ViewError};

/// What `os-release` says.
///
/// Specification: <https://www.freedesktop.org/software/systemd/man/os-release.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`; empty for those without numbers.
    pub version: String,
    /// `PRETTY_NAME`.
    pub name: String,
}

/// No release file is longer.
const LARGEST: u64 = 64 << 10;

impl Release {
    /// What a tree says of itself; nothing where it has no such file.
    pub(crate) fn of(view: &View) -> Result<Option<Self>, ViewError> {
        for path in ["etc/os-release", "usr/lib/os-release"] {
            match view.read(path.as_bytes(), LARGEST) {
                Ok(Some(bytes)) => return Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
                Ok(None) => {}
                Err(ViewError::Store(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
            Some(line.trim_matches(['"', '\'']).to_owned())
        };
        let id = value("ID").filter(|id| !id.is_empty())?;
        Some(Self {
            version: value("VERSION_ID").unwrap_or_default(),
            name: value("PRETTY_NAME").unwrap_or_else(|| id.clone()),
            id,
        })
    }

    /// As package URLs name it, such as `debian-12`.
    pub fn distribution(&self) -> String {
        if self.version.is_empty() { self.id.clone() } else { format!("{}-{}", self.id, self.version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let text = "# comment\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\nID=debian\nID_LIKE=x\n";
        let release = Release::parse(text).unwrap();
        assert_eq!((&release.id[..], &release.version[..]), ("debian", "12"));
        assert_eq!((release.distribution(), &release.name[..]), ("debian-12".into(), "Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(Release::parse("ID=arch").unwrap().distribution(), "arch");
        assert_eq!(Release::parse("nothing"), None);
    }
}
