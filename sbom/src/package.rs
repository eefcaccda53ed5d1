//! What is known of a package.

use packageurl::PackageUrl;

/// Who names and numbers a package. Each is a type of the package URL specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecosystem {
    /// Alpine's `apk`.
    Apk,
    /// Rust's crates.io.
    Cargo,
    /// PHP's Packagist.
    Composer,
    /// Debian and its derivatives.
    Deb,
    /// Ruby's rubygems.org.
    Gem,
    /// Go modules.
    Golang,
    /// Java's Maven Central.
    Maven,
    /// JavaScript's npm registry.
    Npm,
    /// Python's PyPI.
    PyPi,
    /// RPM-based distributions.
    Rpm,
}

/// A package that an image has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Who names it.
    pub ecosystem: Ecosystem,
    /// What its name is within: a distribution, an organisation, a scope such as `@types`.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The version, as the ecosystem writes it.
    pub version: String,
    /// The architecture that it was built for, as the ecosystem calls it.
    pub architecture: Option<String>,
    /// The name of the source package, where it is another one.
    pub source: Option<String>,
    /// The license as the package states it, in whatever form.
    pub license: Option<String>,
    /// Who made or maintains it.
    pub supplier: Option<String>,
    /// The file that says so: relative, no leading slash. Bytes that are no UTF-8 are replaced.
    pub found_in: String,
}

impl Ecosystem {
    /// The type of a package URL.
    pub fn purl_type(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Cargo => "cargo",
            Self::Composer => "composer",
            Self::Deb => "deb",
            Self::Gem => "gem",
            Self::Golang => "golang",
            Self::Maven => "maven",
            Self::Npm => "npm",
            Self::PyPi => "pypi",
            Self::Rpm => "rpm",
        }
    }
}

impl Package {
    /// A package of which no more is known than its name and version. A name such as `@types/node` or
    /// `vendor/library` has a namespace in front.
    pub(crate) fn new(ecosystem: Ecosystem, full_name: &str, version: &str, found_in: &str) -> Self {
        let has_namespace = matches!(ecosystem, Ecosystem::Npm | Ecosystem::Composer | Ecosystem::Golang);
        let (namespace, name) = match full_name.rsplit_once('/') {
            Some((namespace, name)) if has_namespace => (Some(namespace.to_owned()), name),
            _ => (None, full_name),
        };
        Self {
            ecosystem,
            namespace,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: None,
            source: None,
            license: None,
            supplier: None,
            found_in: found_in.to_owned(),
        }
    }

    /// The name with what it is within, as its ecosystem writes both.
    pub fn full_name(&self) -> String {
        match (&self.namespace, self.ecosystem) {
            (Some(namespace), Ecosystem::Npm | Ecosystem::Composer | Ecosystem::Golang) => {
                format!("{namespace}/{}", self.name)
            }
            (Some(namespace), Ecosystem::Maven) => format!("{namespace}:{}", self.name),
            _ => self.name.clone(),
        }
    }

    /// Its package URL, with the distribution where there is one; nothing where the name has none.
    ///
    /// Specification: <https://github.com/package-url/purl-spec>.
    pub fn purl(&self, distribution: Option<&str>) -> Option<String> {
        let mut purl = PackageUrl::new(self.ecosystem.purl_type(), &self.name).ok()?;
        let version = match self.version.split_once(':') {
            Some((epoch, version)) if self.ecosystem == Ecosystem::Rpm => {
                purl.add_qualifier("epoch", epoch.to_owned()).ok()?;
                version
            }
            _ => &self.version,
        };
        if !version.is_empty() {
            purl.with_version(version).ok()?;
        }
        if let Some(namespace) = &self.namespace {
            purl.with_namespace(namespace).ok()?;
        }
        if let Some(architecture) = &self.architecture {
            purl.add_qualifier("arch", architecture.clone()).ok()?;
        }
        let of_system = matches!(self.ecosystem, Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm);
        if let Some(distribution) = distribution.filter(|_| of_system) {
            purl.add_qualifier("distro", distribution.to_owned()).ok()?;
        }
        if let Some(source) = &self.source {
            purl.add_qualifier("upstream", source.clone()).ok()?;
        }
        Some(purl.to_string())
    }
}
