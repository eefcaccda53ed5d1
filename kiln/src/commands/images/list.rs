//! Lines for images, with the fields that docker gives to templates.

use std::time::SystemTime;

use kiln_cache::Store;
use kiln_image::{Reference, inspect};

use super::{Listed, id};
use crate::error::CliError;
use crate::human;
use crate::local::{age, digest_of, image_error};
use crate::template::Value;
use crate::template::list::Format;

/// The fields and what stands above them.
const HEADINGS: [(&str, &str); 11] = [
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

const NONE: &str = "<none>";
/// What kiln, which has no containers, cannot say.
const UNKNOWN: &str = "N/A";

/// The columns of the table.
pub(super) fn columns(digests: bool) -> &'static str {
    match digests {
        true => "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
        false => "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    }
}

/// Each ID once.
pub(super) fn ids(images: &[Listed], whole: bool) -> String {
    let mut seen = Vec::new();
    let mut text = String::new();
    for Listed { record, .. } in images {
        if !seen.contains(&record.identity()) {
            seen.push(record.identity());
            text.push_str(&id(record, whole));
            text.push('\n');
        }
    }
    text
}

/// A line for each.
pub(super) fn show(
    store: &Store,
    images: &[Listed],
    format: &Format,
    whole: bool,
    now: SystemTime,
) -> Result<String, CliError> {
    let line = |image: &Listed| {
        let size = inspect::size(store, &image.record).map_err(|error| image_error(&error))?;
        Ok(fields(image, size, whole, now))
    };
    let lines = images.iter().map(line).collect::<Result<Vec<_>, CliError>>()?;
    Ok(format.render(&HEADINGS, &lines)?)
}

fn fields(image: &Listed, size: u64, whole: bool, now: SystemTime) -> Value {
    let Listed { name, record, config, created } = image;
    let [repository, tag] = names(name.as_ref());
    let digest = digest_of(record).filter(|_| name.is_some());
    let size = human::size(size);
    Value::fields([
        ("Containers", UNKNOWN.to_owned()),
        ("CreatedAt", created.map_or_else(|| UNKNOWN.to_owned(), human::moment)),
        ("CreatedSince", age(config.created.as_deref(), now)),
        ("Digest", digest.map_or_else(|| NONE.to_owned(), |digest| digest.to_string())),
        ("ID", id(record, whole)),
        ("Repository", repository),
        ("SharedSize", UNKNOWN.to_owned()),
        ("Size", size.clone()),
        ("Tag", tag),
        ("UniqueSize", UNKNOWN.to_owned()),
        ("VirtualSize", size),
    ])
}

fn names(name: Option<&Reference>) -> [String; 2] {
    let Some(name) = name else { return [NONE.to_owned(), NONE.to_owned()] };
    let tag = name.tag.clone();
    let bare = Reference { tag: None, digest: None, ..name.clone() };
    [bare.familiar(), tag.unwrap_or_else(|| NONE.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::super::tests::listed;
    use super::*;

    fn shown(format: Option<&str>, digests: bool) -> String {
        let mut pulled = listed(Some("r.example/app:1.0"), 3600);
        pulled.record.manifest = Some(kiln_solver::Digest::of(b"manifest"));
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7200);
        let lines = [fields(&pulled, 1_234_567, false, now), fields(&listed(None, 60), 12, false, now)];
        Format::parse(format, columns(digests)).unwrap().render(&HEADINGS, &lines).unwrap()
    }

    #[test]
    fn tables_look_like_those_of_docker() {
        insta::assert_snapshot!(shown(None, false), @r"
        REPOSITORY      TAG       IMAGE ID       CREATED             SIZE
        r.example/app   1.0       cfd06d073763   About an hour ago   1.235MB
        <none>          <none>    e3b0c44298fc   2 hours ago         12B
        ");
        insta::assert_snapshot!(shown(Some("table {{.ID}}\\t{{.Repository}}:{{.Tag}}\\t{{.CreatedAt}}"), false), @r"
        IMAGE ID       REPOSITORY:TAG      CREATED AT
        cfd06d073763   r.example/app:1.0   1970-01-01 01:00:00 +0000 UTC
        e3b0c44298fc   <none>:<none>       1970-01-01 00:01:00 +0000 UTC
        ");
        assert!(shown(None, true).contains(&kiln_solver::Digest::of(b"manifest").to_string()));
    }

    #[test]
    fn templates_see_the_fields_of_docker() {
        assert_eq!(
            shown(Some("{{.Repository}}:{{.Tag}} {{.Size}}"), false),
            "r.example/app:1.0 1.235MB\n<none>:<none> 12B\n"
        );
        insta::assert_snapshot!(shown(Some("json"), false), @r#"
        {"Containers":"N/A","CreatedAt":"1970-01-01 01:00:00 +0000 UTC","CreatedSince":"About an hour ago","Digest":"sha256:05b3abf2579a5eb66403cd78be557fd860633a1fe2103c7642030defe32c657f","ID":"cfd06d073763","Repository":"r.example/app","SharedSize":"N/A","Size":"1.235MB","Tag":"1.0","UniqueSize":"N/A","VirtualSize":"1.235MB"}
        {"Containers":"N/A","CreatedAt":"1970-01-01 00:01:00 +0000 UTC","CreatedSince":"2 hours ago","Digest":"<none>","ID":"e3b0c44298fc","Repository":"<none>","SharedSize":"N/A","Size":"12B","Tag":"<none>","UniqueSize":"N/A","VirtualSize":"12B"}
        "#);
    }

    #[test]
    fn each_id_is_printed_once() {
        let image = listed(None, 0);
        let text = ids(&[image.clone(), image.clone()], false);
        assert_eq!(text, format!("{}\n", image.record.id.short()));
    }
}
