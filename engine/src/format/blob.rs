//! The stored form of an object: one byte for its encoding, and the encoded content (`docs/format.md`, section 8).

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use super::header::Compression;
use crate::error::{Error, Result};

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Length of the encoding byte.
pub(crate) const OVERHEAD: usize = 1;

/// Compressed content is only kept if it saves at least this part; else reading would decompress for nothing.
const MIN_SAVED_PART: usize = 32;

/// Encodes blobs; keeps what the compressor needs between calls. One for each thread.
pub(crate) struct BlobEncoder {
    compressor: Option<Compressor<'static>>,
    /// A very fast compressor that tells whether high-entropy data compresses after all.
    probe: Option<Compressor<'static>>,
    scratch: Vec<u8>,
}

impl BlobEncoder {
    pub(crate) fn new(compression: Compression) -> Result<Self> {
        let compressor = |level| Compressor::new(level).map_err(Error::io("prepare", "compression"));
        let (compressor, probe) = match compression {
            Compression::None => (None, None),
            Compression::Zstd(level) => (Some(compressor(level)?), Some(compressor(-5)?)),
        };
        Ok(Self { compressor, probe, scratch: Vec::new() })
    }

    /// The blob of some content: compressed where that pays.
    pub(crate) fn encode(&mut self, content: &[u8]) -> Vec<u8> {
        self.compress(content).unwrap_or_else(|| {
            let mut blob = Vec::with_capacity(OVERHEAD + content.len());
            blob.push(PLAIN);
            blob.extend_from_slice(content);
            blob
        })
    }

    fn compress(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        self.compressor.as_ref()?;
        if self.looks_incompressible(content) {
            return None;
        }
        let limit = content.len() - content.len() / MIN_SAVED_PART;
        let bound = OVERHEAD + zstd::zstd_safe::compress_bound(content.len());
        self.scratch.resize(bound.max(self.scratch.len()), 0);
        let (encoding, target) = self.scratch.split_first_mut()?;
        *encoding = ZSTD;
        let written = self.compressor.as_mut()?.compress_to_buffer(content, target).ok()?;
        (written < limit).then(|| self.scratch.get(..OVERHEAD + written).map(<[u8]>::to_vec))?
    }

    /// Whether a sample of the content has the entropy of noise and a fast compressor finds nothing in it either.
    fn looks_incompressible(&mut self, content: &[u8]) -> bool {
        const SAMPLE: usize = 4096;
        let Some(sample) = content.get(content.len() / 2..).and_then(|tail| tail.get(..SAMPLE)) else {
            return false;
        };
        if byte_entropy(sample) < 7.8 {
            return false;
        }
        let Some(probe) = self.probe.as_mut() else { return false };
        // 64 KiB show repetitions that are further apart than the sample is long.
        let probed = content.get(..content.len().min(64 << 10)).unwrap_or(content);
        self.scratch.resize(zstd::zstd_safe::compress_bound(probed.len()).max(self.scratch.len()), 0);
        let compressed = probe.compress_to_buffer(probed, self.scratch.as_mut_slice());
        compressed.is_ok_and(|length| length + probed.len() / MIN_SAVED_PART >= probed.len())
    }
}

/// Shannon entropy of the bytes of a sample, in bits a byte.
fn byte_entropy(sample: &[u8]) -> f32 {
    let mut counts = [0u32; 256];
    for &byte in sample {
        counts[usize::from(byte)] += 1;
    }
    let total = sample.len() as f32;
    let bits = |&count: &u32| match count {
        0 => 0.0,
        count => -(count as f32 / total) * (count as f32 / total).log2(),
    };
    counts.iter().map(bits).sum()
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decodes a blob into a buffer of exactly the length of its content; `None` if it does not decode to that.
pub(crate) fn decode_blob_into(blob: &[u8], content: &mut [u8]) -> Option<()> {
    let (&encoding, encoded) = blob.split_first()?;
    match encoding {
        PLAIN if encoded.len() == content.len() => {
            content.copy_from_slice(encoded);
            Some(())
        }
        ZSTD => {
            let written =
                with_decompressor(|decompressor| decompressor.decompress_to_buffer(encoded, content))?;
            (written == content.len()).then_some(())
        }
        _ => None,
    }
}

fn with_decompressor(
    decompress: impl FnOnce(&mut Decompressor<'static>) -> std::io::Result<usize>,
) -> Option<usize> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        decompress(slot.as_mut()?).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_blob(blob: &[u8], plain_len: usize) -> Option<Vec<u8>> {
        let mut content = vec![0; plain_len];
        decode_blob_into(blob, &mut content).map(|()| content)
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"noise");
        let mut bytes = vec![0; length];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn content_survives_every_compression() {
        let text = b"some text that repeats itself, ".repeat(1000);
        for compression in [Compression::None, Compression::Zstd(1), Compression::Zstd(9)] {
            let mut encoder = BlobEncoder::new(compression).unwrap();
            for content in [&text[..], b"", b"x", &noise(65536)] {
                let blob = encoder.encode(content);
                assert_eq!(decode_blob(&blob, content.len()).as_deref(), Some(content));
            }
        }
    }

    #[test]
    fn noise_is_stored_as_it_is_and_text_is_compressed() {
        let mut encoder = BlobEncoder::new(Compression::Zstd(3)).unwrap();
        assert_eq!(encoder.encode(&noise(65536)).len(), 65537);
        assert!(encoder.encode(&b"0123456789".repeat(1000)).len() < 200);
    }

    #[test]
    fn noise_that_repeats_itself_is_compressed() {
        let mut encoder = BlobEncoder::new(Compression::Zstd(3)).unwrap();
        let content = noise(8192).repeat(8);
        assert!(encoder.encode(&content).len() < content.len() / 4);
    }

    #[test]
    fn wrong_lengths_and_encodings_are_refused() {
        let blob = BlobEncoder::new(Compression::Zstd(3)).unwrap().encode(&[7; 5000]);
        assert_eq!(decode_blob(&blob, 4999), None);
        assert_eq!(decode_blob(&blob, 5001), None);
        assert_eq!(decode_blob(&blob[..blob.len() - 1], 5000), None);
        assert_eq!(decode_blob(&[9, 1, 2], 2), None);
        assert_eq!(decode_blob(&[], 0), None);
    }
}
