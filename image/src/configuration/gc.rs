//! The automatic prune: `[gc]` of `kiln.toml`, or `[worker.oci]` as buildkitd.toml has it.

use std::time::Duration;

use kiln_cache::{Bounds, Filter, Policy, Space};
use serde::{Deserialize, Deserializer, de};

use super::history::{age, size};

/// The section, with the keys of buildkitd.toml or in kiln's own spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcSettings {
    /// Whether there is an automatic prune; there is where absent.
    #[serde(default, alias = "gc")]
    enabled: Option<bool>,
    #[serde(default, rename = "reserved-space", alias = "reservedSpace", alias = "gckeepstorage")]
    #[serde(deserialize_with = "space")]
    reserved: Option<Space>,
    #[serde(default, rename = "max-used-space", alias = "maxUsedSpace", deserialize_with = "space")]
    max_used: Option<Space>,
    #[serde(default, rename = "min-free-space", alias = "minFreeSpace", deserialize_with = "space")]
    min_free: Option<Space>,
    #[serde(default, rename = "policy", alias = "gcpolicy")]
    policies: Vec<PolicySettings>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicySettings {
    #[serde(default)]
    all: bool,
    #[serde(default, deserialize_with = "filters")]
    filters: Vec<Filter>,
    #[serde(default, rename = "keep-duration", alias = "keepDuration", deserialize_with = "age")]
    keep_duration: Option<Duration>,
    #[serde(default, rename = "reserved-space", alias = "reservedSpace", alias = "keepBytes")]
    #[serde(deserialize_with = "space")]
    reserved: Option<Space>,
    #[serde(default, rename = "max-used-space", alias = "maxUsedSpace", deserialize_with = "space")]
    max_used: Option<Space>,
    #[serde(default, rename = "min-free-space", alias = "minFreeSpace", deserialize_with = "space")]
    min_free: Option<Space>,
}

/// Where buildkitd.toml has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workers {
    #[serde(default)]
    pub(super) oci: Option<GcSettings>,
}

impl GcSettings {
    /// Whether there is an automatic prune.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// The rules: those that are written down; else the usual ones, within the bounds that are written down, if any.
    /// `disk_size` is that of the disk, in bytes.
    pub fn policies(&self, disk_size: u64) -> Vec<Policy> {
        if !self.policies.is_empty() {
            return self.policies.iter().map(PolicySettings::policy).collect();
        }
        let own = Bounds { reserved: self.reserved, max_used: self.max_used, min_free: self.min_free };
        Policy::usual(if own == Bounds::default() { Bounds::usual(disk_size) } else { own })
    }
}

impl PolicySettings {
    fn policy(&self) -> Policy {
        Policy {
            all: self.all,
            filters: self.filters.clone(),
            keep_duration: self.keep_duration,
            bounds: Bounds { reserved: self.reserved, max_used: self.max_used, min_free: self.min_free },
        }
    }
}

/// A size, or a part of the disk such as `10%`.
fn space<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Space>, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    if let Some(percent) = value.as_str().and_then(|text| text.strip_suffix('%')) {
        return match percent.trim_end().parse() {
            Ok(percent @ 0..=100) => Ok(Some(Space::Percent(percent))),
            _ => Err(de::Error::custom(format!("`{percent}%` is no part of a disk"))),
        };
    }
    size(value).map(|bytes| bytes.map(Space::Bytes)).map_err(de::Error::custom)
}

fn filters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Filter>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::super::Configuration;
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn keys_are_those_of_buildkitd() {
        let buildkit = r#"
            [worker.oci]
            gc = true
            reservedSpace = "30%"
            maxUsedSpace = 5000000000
            minFreeSpace = "20GB"
            [[worker.oci.gcpolicy]]
            reservedSpace = "512MB"
            keepDuration = "48h"
            filters = [ "type==source.local", "type==exec.cachemount", "type==source.git.checkout"]
            [[worker.oci.gcpolicy]]
            all = true
            keepBytes = 1024000000
            keepDuration = 3600
        "#;
        let own = buildkit
            .replace("worker.oci.gcpolicy", "gc.policy")
            .replace("worker.oci", "gc")
            .replace("gc = true", "enabled = true")
            .replace("keepDuration", "keep-duration")
            .replace("reservedSpace", "reserved-space");
        for text in [buildkit, &own] {
            let gc = Configuration::parse(text).unwrap().gc;
            let [first, last] = &gc.policies(100 * GB)[..] else { panic!("{text}") };
            assert!(gc.is_enabled() && first.filters.len() == 3 && !first.all && last.all);
            assert_eq!(first.keep_duration, Some(Duration::from_secs(48 * 3600)));
            assert_eq!(first.bounds.reserved, Some(Space::Bytes(512_000_000)));
            assert_eq!(last.bounds.reserved, Some(Space::Bytes(1_024_000_000)));
            assert_eq!(last.keep_duration, Some(Duration::from_secs(3600)));
        }
    }

    #[test]
    fn without_rules_the_usual_ones_count_within_what_is_said() {
        let parse = |text: &str| Configuration::parse(text).unwrap().gc;
        assert_eq!(parse("").policies(100 * GB), Policy::usual(Bounds::usual(100 * GB)));
        let bounds =
            Bounds { reserved: Some(Space::Percent(30)), min_free: Some(Space::Bytes(GB)), ..Bounds::default() };
        let text = "[gc]\ngckeepstorage = \"30 %\"\nmin-free-space = \"1GB\"";
        assert_eq!(parse(text).policies(100 * GB), Policy::usual(bounds));
        assert!(!parse("[gc]\nenabled = false").is_enabled() && !parse("[worker.oci]\ngc = false").is_enabled());
    }

    #[test]
    fn other_values_are_refused() {
        for (text, named) in [
            ("[gc]\nreserved-space = \"130%\"", "130%"),
            ("[gc]\nreserved-space = \"much\"", "much"),
            ("[[gc.policy]]\nfilters = [\"type==weather\"]", "weather"),
            ("[[gc.policy]]\nkeep-duration = \"soon\"", "soon"),
            ("[gc]\nkeep = 1", "keep"),
            ("[worker.containerd]\ngc = true", "containerd"),
            ("[gc]\nenabled = true\n[worker.oci]\ngc = true", "worker.oci"),
        ] {
            let error = Configuration::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
