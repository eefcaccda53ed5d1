//! Blobs are the archive, the same every time.

use super::*;
use crate::testing::*;

const ALL: [Compression; 5] = [
    Compression::Uncompressed,
    Compression::Gzip { level: 6 },
    Compression::Zstd { level: 3 },
    Compression::Gzip { level: 1 },
    Compression::Gzip { level: 0 },
];

/// A layer of some MiB, always the same.
fn sample(store: &Store) -> crate::StoredLayer {
    layer(store, |files| {
        let mut state = 1_u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & 0x1f
        })
        .take(3_300_000)
        .collect();
        for name in ["big", "empty"] {
            std::fs::write(files.join(name), if name == "big" { &bytes[..] } else { b"" }).unwrap();
            set_mode(&files.join(name), 0o644);
            set_mtime(&files.join(name), 1_000_000_000);
        }
    })
}

fn unpacked(store: &Store, blob: &LayerBlob) -> Vec<u8> {
    let file = File::open(store.blob(&blob.digest).unwrap().unwrap().path).unwrap();
    let mut bytes = Vec::new();
    decompress(BufReader::new(file)).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn blobs_hold_the_archive() {
    let (_root, store) = store();
    let layer = sample(&store);
    let archive = archive(&layer);
    for compression in ALL {
        let blob = store.layer_blob(layer.diff_id(), compression).unwrap();
        assert_eq!(unpacked(&store, &blob), archive);
        assert_eq!(store.layer_blob(layer.diff_id(), compression).unwrap(), blob);
        let stored = store.read_blob(&blob.digest, u64::MAX).unwrap().unwrap();
        assert_eq!((stored.len() as u64, blob.compression), (blob.size, compression));
    }
    let uncompressed = store.layer_blob(layer.diff_id(), Compression::Uncompressed).unwrap();
    assert_eq!(uncompressed.digest, *layer.diff_id());
    assert_eq!(left_in_tmp(&store), 0);
}

/// A change here changes the images of everybody who builds again.
#[test]
fn the_bytes_are_pinned() {
    let (_root, store) = store();
    let layer = sample(&store);
    assert_eq!(layer.diff_id().to_string(), "sha256:7d2d141e2f5782b1b5282042c3b4cc1b103d342e5454dfebbde0b3d63ceadadd");
    let digest = |compression| store.layer_blob(layer.diff_id(), compression).unwrap().digest.to_string();
    assert_eq!(
        digest(Compression::Gzip { level: 6 }),
        "sha256:cc2a90fd5bd0d8c943c7af2ca3118aa2bd8928ec9cef7c893607518866eab59a"
    );
    assert_eq!(
        digest(Compression::Zstd { level: 3 }),
        "sha256:066a843d52f2377e98506dfbfadc421304b5df17a747dba7e42aa4a36ee173e1"
    );
}

#[test]
fn zstd_gives_the_same_bytes_for_any_number_of_workers() {
    let bytes: Vec<u8> = (0..6_000_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect();
    let compress = |workers| {
        let mut encoder = zstd_encoder(Vec::new(), 3, workers).unwrap();
        encoder.write_all(&bytes).unwrap();
        Digest::of(&encoder.finish().unwrap())
    };
    let expected = compress(1);
    assert!((2..5).all(|workers| compress(workers) == expected));
}

#[test]
fn other_programs_read_the_blobs() {
    let (_root, store) = store();
    let layer = sample(&store);
    let gzip = store.layer_blob(layer.diff_id(), Compression::Gzip { level: 6 }).unwrap();
    let path = store.blob(&gzip.digest).unwrap().unwrap().path;
    let hex = shell(store.root(), &format!("gzip -dc < {} | sha256sum", path.display()));
    assert!(hex.starts_with(&layer.diff_id().hex()));
}

#[test]
fn a_pulled_blob_is_known_and_can_change_its_compression() {
    let (_root, here) = store();
    let original = sample(&here);
    let gzip = here.layer_blob(original.diff_id(), Compression::Gzip { level: 9 }).unwrap();
    let bytes = here.read_blob(&gzip.digest, u64::MAX).unwrap().unwrap();
    let (_root, there) = store();
    let diff_id = original.diff_id();
    assert!(matches!(there.layer_blob(diff_id, ALL[0]), Err(StoreError::NoLayer(_))));
    import(&there, &archive(&original)).unwrap();
    assert!(matches!(there.layer_blob(diff_id, ALL[0]), Err(StoreError::NoArchive(_))));
    assert_eq!(there.known_blob(diff_id).unwrap(), None);
    there.put_blob(&bytes).unwrap();
    let pulled = LayerBlob { compression: Compression::GZIP, ..gzip.clone() };
    there.remember_blob(diff_id, &pulled).unwrap();
    for compression in ALL {
        let expected = here.layer_blob(diff_id, compression).unwrap();
        assert_eq!(there.layer_blob(diff_id, compression).unwrap(), expected);
    }
    assert_eq!(there.known_blob(diff_id).unwrap(), Some(pulled));
}

#[test]
fn a_blob_that_is_not_the_layer_is_an_error() {
    let (_root, here) = store();
    let original = sample(&here);
    let (_root, there) = store();
    import(&there, &archive(&original)).unwrap();
    let digest = there.put_blob(&[0; 1024]).unwrap();
    let wrong = LayerBlob { digest, size: 1024, compression: Compression::Uncompressed };
    there.remember_blob(original.diff_id(), &wrong).unwrap();
    let result = there.layer_blob(original.diff_id(), ALL[1]);
    assert!(matches!(result, Err(StoreError::WrongDigest { .. })), "{result:?}");
    assert_eq!(left_in_tmp(&there), 0);
}

#[test]
fn levels_are_checked() {
    let (_root, store) = store();
    let layer = sample(&store);
    for compression in [Compression::Gzip { level: 10 }, Compression::Zstd { level: 0 }, Compression::GZIP] {
        let result = store.layer_blob(layer.diff_id(), compression);
        assert!(matches!(result, Err(StoreError::CompressionLevel { .. })));
    }
}

#[test]
fn many_ask_for_the_same_blob_at_once() {
    let (_root, store) = store();
    let layer = sample(&store);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let blobs: Vec<LayerBlob> = std::thread::scope(|scope| {
        let ask = |compression| store.layer_blob(layer.diff_id(), compression).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(move || ask(ALL[1]))).collect();
        pool.scope(|scope| (0..4).for_each(|_| scope.spawn(|_| assert!(ask(ALL[1]).size > 0))));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(blobs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn streams_that_are_not_compressed_pass() {
    for bytes in [&b""[..], b"a", b"abcdefgh", &[0x1f], &[0x28, 0xb5]] {
        let mut out = Vec::new();
        decompress(bytes).unwrap().read_to_end(&mut out).unwrap();
        assert_eq!(out, bytes);
    }
    let mut cut = Vec::new();
    assert!(decompress(&[0x1f, 0x8b, 8, 0][..]).unwrap().read_to_end(&mut cut).is_err());
}

/// As tables of contents are kept (zstd:chunked), before the archive and behind it.
#[test]
fn frames_of_zstandard_that_hold_nothing_are_skipped() {
    for number in [0x50, 0x5f] {
        let skipped = [number, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'n', b'o', b'!'];
        let bytes = [&skipped[..], &zstd::encode_all(&b"text"[..], 3).unwrap(), &skipped].concat();
        let mut out = Vec::new();
        decompress(&bytes[..]).unwrap().read_to_end(&mut out).unwrap();
        assert_eq!(out, b"text");
    }
}
