//! Which manifest of an index suits a platform.

use kiln_cache::ImageRecord;
use kiln_solver::Platform;

use crate::spec::Descriptor;

/// The manifest for a platform: the platform itself or else the next best one that runs there.
pub(crate) fn choose<'a>(manifests: &'a [Descriptor], platform: &Platform) -> Option<&'a Descriptor> {
    let images = || manifests.iter().filter(|descriptor| !is_attestation(descriptor));
    let of = |wanted: &Platform| {
        images().find(|descriptor| descriptor.platform.as_ref().is_some_and(|own| own.normalised() == *wanted))
    };
    let unnamed = || {
        let mut unnamed = images().filter(|descriptor| descriptor.platform.is_none());
        unnamed.next().filter(|_| unnamed.next().is_none())
    };
    suitable(platform).iter().find_map(of).or_else(unnamed)
}

/// Whether an image for `offered` runs where `platform` is asked for.
pub(crate) fn runs_on(platform: &Platform, offered: &Platform) -> bool {
    suitable(platform).contains(offered)
}

/// The image for a platform among those that a record of the store stands for; the best that runs there.
pub(crate) fn image(record: &ImageRecord, platform: &Platform) -> Option<ImageRecord> {
    let images = record.platforms();
    suitable(platform).iter().find_map(|wanted| images.iter().find(|image| image.platform == *wanted)).cloned()
}

/// The platforms that an index offers, for an error.
pub(crate) fn offered(manifests: &[Descriptor]) -> Vec<String> {
    let images = manifests.iter().filter(|descriptor| !is_attestation(descriptor));
    let mut names: Vec<String> =
        images.filter_map(|descriptor| Some(descriptor.platform.as_ref()?.normalised().to_string())).collect();
    names.dedup();
    names
}

/// BuildKit keeps provenance beside images, as manifests for `unknown/unknown`.
pub(crate) fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
        || descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

/// Platforms whose images run on this one, the best first (containerd's `platforms.Only`).
fn suitable(platform: &Platform) -> Vec<Platform> {
    let variant = platform.variant.as_deref().and_then(|variant| variant.strip_prefix('v')?.parse::<u32>().ok());
    let with = |architecture: &str, variant: Option<u32>| Platform {
        os: platform.os.clone(),
        architecture: architecture.to_owned(),
        variant: variant.map(|number| format!("v{number}")),
    };
    let arm = |newest: u32| (5..=newest).rev().map(move |number| with("arm", Some(number)));
    let mut platforms = vec![platform.clone()];
    match platform.architecture.as_str() {
        "amd64" => {
            platforms.extend((2..variant.unwrap_or(1)).rev().map(|number| with("amd64", Some(number))));
            platforms.extend([with("amd64", None), with("386", None)]);
        }
        "arm64" => {
            platforms.extend((9..variant.unwrap_or(8)).rev().map(|number| with("arm64", Some(number))));
            platforms.push(with("arm64", None));
            platforms.extend(arm(8));
        }
        "arm" => platforms.extend(arm(variant.unwrap_or(7).min(8))),
        _ => {}
    }
    platforms
}

#[cfg(test)]
mod tests {
    use kiln_solver::Digest;

    use super::*;

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let descriptor = |name: &&str| Descriptor {
            platform: (!name.is_empty()).then(|| (&name.parse::<Platform>().unwrap()).into()),
            ..Descriptor::new("m", Digest::of(name.as_bytes()), 1)
        };
        platforms.iter().map(descriptor).collect()
    }

    #[test]
    fn the_best_that_runs_is_chosen() {
        let cases: [(&[&str], &str, Option<&str>); 11] = [
            (&["linux/arm64", "linux/amd64"], "linux/amd64", Some("linux/amd64")),
            (&["linux/arm/v5", "linux/arm/v7"], "linux/arm", Some("linux/arm/v7")),
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some("linux/arm/v6")),
            (&["linux/arm/v7"], "linux/arm/v6", None),
            (&["linux/arm/v7"], "linux/arm64", Some("linux/arm/v7")),
            (&["linux/386", "linux/amd64/v3"], "linux/amd64", Some("linux/386")),
            (&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3", Some("linux/amd64/v2")),
            (&["windows/amd64"], "linux/amd64", None),
            (&["unknown/unknown", ""], "linux/amd64", Some("")),
            (&["", ""], "linux/amd64", None),
            (&[], "linux/amd64", None),
        ];
        for (offered, wanted, expected) in cases {
            let index = index(offered);
            let chosen = choose(&index, &wanted.parse().unwrap()).map(|descriptor| descriptor.digest);
            assert_eq!(chosen, expected.map(|name| Digest::of(name.as_bytes())), "{offered:?} {wanted}");
        }
        assert_eq!(super::offered(&index(&["linux/arm64", "unknown/unknown"])), ["linux/arm64"]);
    }
}
