//! The ledger: what kiln tells others about steps. JSON, compressed with zstd.

use std::io::Read as _;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_solver::{Change, Digest, Key, Layer, Observation, Origin, Output};
use serde::{Deserialize, Serialize};

use crate::ImageError;
use crate::spec::Descriptor;

/// The media type of a ledger.
pub(super) const LEDGER: &str = "application/vnd.kiln.cache.ledger.v1+json+zstd";
/// The largest ledger taken, compressed.
pub(super) const LEDGER_LIMIT: u64 = 8 << 20;
/// The largest ledger taken, as JSON.
const TEXT_LIMIT: u64 = 32 << 20;
/// The memory that decompressing may take, as a power of two.
const LARGEST_WINDOW: u32 = 24;
/// Changed whenever a ledger means something else than it did.
const VERSION: u32 = 1;
/// As many layers as one tree may have: no more can be mounted.
const MOST_LAYERS: usize = 999;
/// As many layers as all trees of a ledger may have, each counted as often as it is named.
const MOST_NAMED: usize = 1 << 20;

/// All that is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ledger {
    /// What is known of the layers that steps made.
    pub(super) layers: Vec<LedgerLayer>,
    /// What the steps came to.
    pub(super) steps: Vec<LedgerStep>,
}

/// A layer that a step made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LedgerLayer {
    pub(super) diff_id: Digest,
    /// The digest of all that it holds but modification times.
    pub(super) content: Digest,
    pub(super) created: SystemTime,
    /// What it is sent as; none where that is told elsewhere.
    pub(super) blob: Option<Descriptor>,
}

/// What is told of one step that came to one result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LedgerStep {
    /// The digest of what it does.
    pub(super) own: Digest,
    pub(super) name: String,
    /// The keys that the result goes by.
    pub(super) keys: Vec<Key>,
    pub(super) outputs: Vec<Output>,
    /// Under which conditions its changes are right elsewhere.
    pub(super) observations: Vec<(Key, Observation)>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    /// Every layer that is named, by number.
    layers: Vec<TextLayer>,
    steps: Vec<TextStep>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TextLayer {
    #[serde(rename = "diffID")]
    diff_id: Digest,
    /// None for a layer of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<TextMade>,
}

#[derive(Serialize, Deserialize)]
struct TextMade {
    content: Digest,
    /// Seconds and nanoseconds since 1970.
    created: (u64, u32),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<Descriptor>,
}

#[derive(Serialize, Deserialize)]
struct TextStep {
    own: Digest,
    name: String,
    keys: Vec<Digest>,
    outputs: Vec<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    observations: Vec<TextObservation>,
}

#[derive(Serialize, Deserialize)]
struct TextObservation {
    key: Digest,
    facts: String,
    changes: Vec<TextChange>,
}

#[derive(Serialize, Deserialize)]
struct TextChange {
    base: Option<usize>,
    layers: Vec<u32>,
}

impl Ledger {
    /// The bytes of it: the same for the same ledger.
    pub(super) fn encode(&self) -> Result<Vec<u8>, ImageError> {
        let mut numbers = Numbers { layers: Vec::new(), made: &self.layers };
        let steps = self.steps.iter().map(|step| numbers.step(step)).collect();
        let text = Text { version: VERSION, layers: numbers.layers, steps };
        let bytes = serde_json::to_vec(&text).unwrap_or_default();
        zstd::encode_all(&bytes[..], 9).map_err(ImageError::Output)
    }

    /// Reads what nobody vouches for; `name` is where it comes from.
    pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Self, ImageError> {
        let malformed = |reason: String| ImageError::Malformed { what: "cache", name: name.to_owned(), reason };
        let unreadable = |error: std::io::Error| malformed(error.to_string());
        let mut text = Vec::new();
        let mut reader = zstd::Decoder::with_buffer(bytes).map_err(unreadable)?;
        reader.window_log_max(LARGEST_WINDOW).map_err(unreadable)?;
        reader.take(TEXT_LIMIT + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > TEXT_LIMIT {
            return Err(ImageError::TooLarge { what: "cache", name: name.to_owned(), limit: TEXT_LIMIT });
        }
        let text: Text = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        if text.version != VERSION {
            return Err(malformed(format!("version {} is not known to this version of kiln", text.version)));
        }
        read(text).map_err(malformed)
    }
}

/// Gives layers their numbers, in the order in which they are named first.
struct Numbers<'a> {
    layers: Vec<TextLayer>,
    made: &'a [LedgerLayer],
}

impl Numbers<'_> {
    fn step(&mut self, step: &LedgerStep) -> TextStep {
        let layers = |output: &Output| match output {
            Output::Layers(layers) => layers.clone(),
            Output::Local(_) => Vec::new(),
        };
        let change =
            |numbers: &mut Self, change: &Change| TextChange { base: change.base, layers: numbers.of(&change.layers) };
        TextStep {
            own: step.own,
            name: step.name.clone(),
            keys: step.keys.iter().map(|key| key.0).collect(),
            outputs: step.outputs.iter().map(|output| self.of(&layers(output))).collect(),
            observations: step
                .observations
                .iter()
                .map(|(key, observation)| TextObservation {
                    key: key.0,
                    facts: STANDARD.encode(&observation.facts),
                    changes: observation.changes.iter().map(|made| change(self, made)).collect(),
                })
                .collect(),
        }
    }

    fn of(&mut self, layers: &[Layer]) -> Vec<u32> {
        layers.iter().map(|layer| self.number(layer)).collect()
    }

    fn number(&mut self, layer: &Layer) -> u32 {
        let is_made = layer.origin == Origin::Built;
        let is_it = |known: &TextLayer| known.diff_id == layer.diff_id && known.made.is_some() == is_made;
        let position =
            self.layers.iter().position(is_it).unwrap_or_else(|| {
                let made = self.made.iter().find(|made| is_made && made.diff_id == layer.diff_id).map(|made| {
                    TextMade { content: made.content, created: since_1970(made.created), blob: made.blob.clone() }
                });
                self.layers.push(TextLayer { diff_id: layer.diff_id, made });
                self.layers.len() - 1
            });
        u32::try_from(position).unwrap_or(u32::MAX)
    }
}

fn since_1970(time: SystemTime) -> (u64, u32) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

fn read(text: Text) -> Result<Ledger, String> {
    let mut ledger = Ledger::default();
    let mut all = Vec::with_capacity(text.layers.len());
    for TextLayer { diff_id, made } in text.layers {
        let origin = if made.is_some() { Origin::Built } else { Origin::Image };
        all.push(Layer { diff_id, origin });
        if let Some(TextMade { content, created: (seconds, nanos), blob }) = made {
            let created = SystemTime::UNIX_EPOCH
                .checked_add(Duration::new(seconds, nanos.min(999_999_999)))
                .ok_or("a layer was made at a time that no clock shows")?;
            ledger.layers.push(LedgerLayer { diff_id, content, created, blob });
        }
    }
    let mut named = 0;
    let mut layers = |numbers: Vec<u32>| -> Result<Vec<Layer>, String> {
        named += numbers.len();
        if numbers.len() > MOST_LAYERS || named > MOST_NAMED {
            return Err("it has too many layers".to_owned());
        }
        let layer = |number: u32| all.get(number as usize).copied().ok_or(format!("there is no layer {number}"));
        numbers.into_iter().map(layer).collect()
    };
    for step in text.steps {
        let outputs = step.outputs.into_iter().map(|numbers| layers(numbers).map(Output::Layers));
        let outputs = outputs.collect::<Result<_, _>>()?;
        let mut observations = Vec::with_capacity(step.observations.len());
        for TextObservation { key, facts, changes } in step.observations {
            let facts = STANDARD.decode(facts).map_err(|error| format!("facts are no base64: {error}"))?;
            let change = |TextChange { base, layers: numbers }| layers(numbers).map(|layers| Change { base, layers });
            let changes = changes.into_iter().map(change).collect::<Result<_, _>>()?;
            observations.push((Key(key), Observation { facts, changes }));
        }
        let keys = step.keys.into_iter().map(Key).collect();
        ledger.steps.push(LedgerStep { own: step.own, name: step.name, keys, outputs, observations });
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn example() -> Ledger {
        let (base, made) = (digest("base"), digest("made"));
        let base = Layer { diff_id: base, origin: Origin::Image };
        let layer = Layer { diff_id: made, origin: Origin::Built };
        let created = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        let blob = Some(Descriptor::new("application/vnd.oci.image.layer.v1.tar", digest("blob"), 7));
        let change = Change { base: Some(0), layers: vec![layer] };
        let observation = Observation { facts: vec![2, 0, 255], changes: vec![change] };
        Ledger {
            layers: vec![LedgerLayer { diff_id: made, content: digest("content"), created, blob }],
            steps: vec![LedgerStep {
                own: digest("own"),
                name: "RUN make".to_owned(),
                keys: vec![Key(digest("definition")), Key(digest("content key"))],
                outputs: vec![Output::Layers(vec![base, layer])],
                observations: vec![(Key(digest("observed")), observation)],
            }],
        }
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written() {
        let bytes = example().encode().unwrap();
        assert_eq!(Ledger::decode(&bytes, "cache").unwrap(), example());
        assert_eq!(example().encode().unwrap(), bytes);
    }

    /// The form is read by other versions of kiln: whoever changes it changes `VERSION` and the media type.
    #[test]
    fn the_form_of_a_ledger_is_pinned() {
        let text = zstd::decode_all(&example().encode().unwrap()[..]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(r#"{"version":1,"layers":[{"diffID":"sha256:"#), "{text}");
        assert_eq!(
            Digest::of(text.as_bytes()).to_string(),
            "sha256:2df00bdda8c943c3d1f6921d408764070b0941d67ce1243097b376037921301a"
        );
    }

    fn refused(text: &str) -> String {
        Ledger::decode(&zstd::encode_all(text.as_bytes(), 1).unwrap(), "cache").unwrap_err().to_string()
    }

    #[test]
    fn nonsense_is_refused() {
        let zero = format!("sha256:{}", "0".repeat(64));
        let step = |outputs: &str| {
            format!(
                r#"{{"version":1,"layers":[],"steps":[{{"own":"{zero}","name":"","keys":[],"outputs":{outputs}}}]}}"#
            )
        };
        assert!(refused(&step("[[0]]")).contains("there is no layer 0"));
        assert!(refused(&step("[[-1]]")).contains("malformed"));
        assert!(refused(r#"{"version":2,"layers":[],"steps":[]}"#).contains("version 2"));
        assert!(refused("[").contains("malformed"));
        assert!(Ledger::decode(b"{}", "cache").is_err());
        let many = vec!["0"; MOST_LAYERS + 1].join(",");
        let text = step(&format!("[[{many}]]")).replace("[],\"steps", &format!("[{{\"diffID\":\"{zero}\"}}],\"steps"));
        assert!(refused(&text).contains("too many layers"));
    }

    #[test]
    fn a_bomb_is_not_unpacked_to_its_end() {
        let bomb = zstd::encode_all(&vec![b' '; TEXT_LIMIT as usize + 1][..], 1).unwrap();
        assert!(bomb.len() < 100_000);
        assert!(matches!(Ledger::decode(&bomb, "cache"), Err(ImageError::TooLarge { .. })));
    }
}
