//! An inventory as an SPDX document.
//!
//! Specification: SPDX 2.3, <https://spdx.github.io/spdx-spec/v2.3/>, in JSON.

use std::collections::HashSet;

use serde::Serialize;
use spdx::{Expression, ParseMode};

use crate::{Ecosystem, Inventory, Package};

const NO_ASSERTION: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";

/// What a document says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Heading<'h> {
    /// What the packages are in, such as the name of an image.
    pub name: &'h str,
    /// A URI that no other document has (6.5 of the specification).
    pub namespace: &'h str,
    /// When it was made: `2026-01-02T03:04:05Z`.
    pub created: &'h str,
    /// The tool, such as `kiln-0.1.0`.
    pub tool: &'h str,
}

/// An SPDX document.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<PackageElement>,
    relationships: Vec<Relationship>,
}

#[derive(Clone, Debug, Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PackageElement {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    supplier: String,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

impl Document {
    /// The document of an inventory. The same inventory and heading make the same one.
    pub fn new(inventory: &Inventory, heading: &Heading<'_>) -> Self {
        let distribution = inventory.release.as_ref().map(crate::Release::distribution);
        let mut ids = HashSet::new();
        let mut packages = vec![image(inventory, heading.name)];
        let mut relationships = vec![relationship(DOCUMENT, "DESCRIBES", IMAGE)];
        for package in &inventory.packages {
            let id = id_of(package, &mut ids);
            relationships.push(relationship(IMAGE, "CONTAINS", &id));
            packages.push(element(package, id, distribution.as_deref()));
        }
        Self {
            spdx_version: "SPDX-2.3",
            data_license: "CC0-1.0",
            id: DOCUMENT,
            name: heading.name.to_owned(),
            document_namespace: heading.namespace.to_owned(),
            creation_info: CreationInfo {
                created: heading.created.to_owned(),
                creators: vec![format!("Tool: {}", heading.tool)],
            },
            packages,
            relationships,
        }
    }
}

fn relationship(element: &str, kind: &'static str, related: &str) -> Relationship {
    Relationship {
        spdx_element_id: element.to_owned(),
        relationship_type: kind,
        related_spdx_element: related.to_owned(),
    }
}

/// What all packages are in.
fn image(inventory: &Inventory, name: &str) -> PackageElement {
    PackageElement {
        id: IMAGE.to_owned(),
        name: name.to_owned(),
        version_info: None,
        supplier: NO_ASSERTION.to_owned(),
        download_location: NO_ASSERTION,
        files_analyzed: false,
        source_info: inventory.release.as_ref().map(|release| format!("distribution: {}", release.name)),
        license_concluded: NO_ASSERTION,
        license_declared: NO_ASSERTION.to_owned(),
        license_comments: None,
        copyright_text: NO_ASSERTION,
        external_refs: Vec::new(),
        primary_package_purpose: Some("CONTAINER"),
    }
}

fn element(package: &Package, id: String, distribution: Option<&str>) -> PackageElement {
    let license = package.license.as_deref();
    let is_expression = |license: &&str| Expression::parse_mode(license, ParseMode::STRICT).is_ok();
    let declared = license.filter(is_expression);
    let purl = package.purl(distribution).map(|purl| ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: purl,
    });
    PackageElement {
        id,
        name: package.full_name(),
        version_info: (!package.version.is_empty()).then(|| package.version.clone()),
        supplier: package.supplier.as_deref().map_or_else(|| NO_ASSERTION.to_owned(), supplier),
        download_location: NO_ASSERTION,
        files_analyzed: false,
        source_info: Some(format!("found in /{}", package.found_in)),
        license_concluded: NO_ASSERTION,
        license_declared: declared.unwrap_or(NO_ASSERTION).to_owned(),
        license_comments: license.filter(|_| declared.is_none()).map(|license| format!("stated as: {license}")),
        copyright_text: NO_ASSERTION,
        external_refs: purl.into_iter().collect(),
        primary_package_purpose: None,
    }
}

/// `Organization: name (mail)`; a mail address is put into parentheses (7.5 of the specification).
fn supplier(name: &str) -> String {
    let name = name.replace(['\n', '\r'], " ");
    match name.split_once('<') {
        Some((name, mail)) if !name.trim().is_empty() => {
            format!("Organization: {} ({})", name.trim(), mail.trim_end_matches('>').trim())
        }
        Some((_, mail)) => format!("Organization: {}", mail.trim_end_matches('>').trim()),
        None => format!("Organization: {name}"),
    }
}

/// An identifier that says what it means, of letters, digits, `.` and `-`, and that no package has yet.
fn id_of(package: &Package, taken: &mut HashSet<String>) -> String {
    let purl_type = Ecosystem::purl_type(package.ecosystem);
    let name = format!("SPDXRef-Package-{purl_type}-{}-{}", package.full_name(), package.version);
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let mut id = name.clone();
    let mut number = 2_u32;
    while !taken.insert(id.clone()) {
        id = format!("{name}-{number}");
        number = number.saturating_add(1);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn documents_are_pinned() {
        let status = "Package: libc6\nVersion: 2.36\nArchitecture: amd64\nMaintainer: C People <c@example.org>\n";
        let package = r#"{"name": "@x/y", "version": "1.0.0", "license": "SEE LICENSE"}"#;
        let lock = "[[package]]\nname = \"serde\"\nversion = \"1.0\"\n";
        let tree = Tree::new(&[
            ("etc/os-release", "ID=debian\nVERSION_ID=12\nPRETTY_NAME=Debian\n"),
            ("var/lib/dpkg/status", status),
            ("srv/node_modules/@x/y/package.json", package),
            ("srv/Cargo.lock", lock),
            ("other/Cargo.lock", lock),
            ("lib/apk/db/installed", "P:musl\nV:1.2\nL:MIT\n"),
        ]);
        let heading = Heading {
            name: "app:1.0",
            namespace: "urn:example:1",
            created: "2026-01-02T03:04:05Z",
            tool: "kiln-0.1.0",
        };
        let document = Document::new(&tree.inventory(), &heading);
        let text = serde_json::to_string_pretty(&document).unwrap();
        assert_eq!(text.trim(), include_str!("spdx/expected.json").trim());
    }
}
