//! Tells what cannot be made smaller, in a tenth of the time that it takes to try: archives, pictures, keys.
//!
//! It depends on the bytes alone, so that what is made of them does, too.

use std::io;

/// What is looked at as a whole: twice as far as DEFLATE looks back.
const SEGMENT: usize = 64 << 10;
/// The level at which samples are compressed.
const FAST: u8 = 1;

/// Whether compression would take less than about a hundredth off these bytes. All of them have to be about equally
/// frequent in each segment. Repetitions are looked for in the first segment and the middle one, by `compress`, which
/// takes bytes and a level.
pub(super) fn is_noise(bytes: &[u8], compress: impl Fn(&[u8], u8) -> io::Result<Vec<u8>>) -> io::Result<bool> {
    let Some(last) = bytes.last_chunk::<SEGMENT>() else { return Ok(false) };
    let (segments, _) = bytes.as_chunks::<SEGMENT>();
    if !segments.iter().chain([last]).all(is_even) {
        return Ok(false);
    }
    for sample in [segments.first(), segments.get(segments.len() / 2)].into_iter().flatten() {
        if compress(sample, FAST)?.len() < SEGMENT - SEGMENT / 128 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether all bytes are about equally frequent. Pearson's chi-squared over their number is twice what a code for them
/// could save, in nats a byte: with at most a sixteenth, that is less than 0.6 %. Noise comes to about a 256th.
fn is_even(segment: &[u8; SEGMENT]) -> bool {
    let mut counts = [0_u32; 256];
    for byte in segment {
        counts[usize::from(*byte)] += 1;
    }
    let squares: u64 = counts.iter().map(|count| u64::from(*count).pow(2)).sum();
    let least = (SEGMENT as u64).pow(2) / 256;
    squares <= least + least / 16
}

#[cfg(test)]
mod tests {
    use super::super::gzip::compress;
    use super::*;
    use std::io::Read as _;

    const MIB: usize = 1 << 20;

    /// So many bytes of noise, always the same.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.flatten().take(count).collect()
    }

    /// How large these bytes become, having come back as they were.
    fn compressed(bytes: &[u8]) -> usize {
        let member = compress(bytes, 6).unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&member[..]).read_to_end(&mut back).unwrap();
        assert!(back == bytes);
        member.len()
    }

    #[test]
    fn noise_is_stored() {
        for count in [SEGMENT, SEGMENT + 1, MIB - 1, MIB, 3 * MIB] {
            let bytes = noise(count);
            let member = compress(&bytes, 6).unwrap();
            assert!(member == compress(&bytes, 0).unwrap());
            assert!((count..count + count / 1000 + 64).contains(&compressed(&bytes)), "{count}");
        }
    }

    #[test]
    fn what_is_compressed_already_is_stored() {
        let words = noise(2 * MIB);
        let text: String =
            words.chunks(2).map(|word| format!("{} word-{} ", word[0], u32::from(word[1]).pow(3))).collect();
        let once = zstd::encode_all(text.as_bytes(), 3).unwrap();
        assert!(once.len() > MIB && once.len() < text.len() / 3);
        assert!(compress(&once, 6).unwrap() == compress(&once, 0).unwrap());
    }

    #[test]
    fn a_text_in_noise_is_found_wherever_it_is() {
        for start in [0, 100_000, MIB - 16_384] {
            let mut bytes = noise(MIB);
            bytes[start..start + 16_384].fill(b'x');
            assert!(compressed(&bytes) < MIB - 15_000, "{start}");
        }
    }

    #[test]
    fn noise_that_comes_again_is_no_noise() {
        let bytes: Vec<u8> = noise(20_000).into_iter().cycle().take(MIB).collect();
        assert!(compressed(&bytes) < MIB / 20);
        let counted: Vec<u8> = (0..MIB as u32 / 4).flat_map(u32::to_be_bytes).collect();
        assert!(compressed(&counted) < MIB / 2);
        let even: Vec<u8> = (0..MIB).map(|number| number as u8).collect();
        assert!(compressed(&even) < MIB / 50);
    }

    #[test]
    fn little_is_always_tried() {
        assert!(!is_noise(&noise(SEGMENT - 1), compress).unwrap());
        assert!(!is_noise(&[], compress).unwrap());
    }
}
