//! What changed between two revisions of an image. Costs in proportion to the change, not to the size.

use std::ops::Range;

use crate::error::Result;
use crate::extent::{push_joined, total};
use crate::format::Record;
use crate::repository::Repository;
use crate::revision::{ImageReader, diff_maps};

/// Where two images differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDiff {
    /// Ranges in bytes, in whole chunks, in order, neighbours joined, clipped at the larger size.
    pub ranges: Vec<Range<u64>>,
    /// Bytes of all ranges.
    pub bytes_changed: u64,
}

/// Compares two revisions. What lies beyond the end of the shorter one differs unless it is a hole.
pub fn diff_images(repository: &Repository, a: &Record, b: &Record) -> Result<ImageDiff> {
    let (a, b) = (repository.open_image(a)?, repository.open_image(b)?);
    let size = a.size().max(b.size());
    let chunk_size = u64::from(a.chunk_size().max(b.chunk_size()));
    let slots = match a.chunk_size() == b.chunk_size() {
        true => diff_maps(a.map(), b.map())?,
        // Maps of different chunk sizes share no ids: only the bytes tell.
        false => compare_bytes(&a, &b, chunk_size)?,
    };
    let ranges: Vec<Range<u64>> =
        slots.iter().map(|slots| slots.start * chunk_size..(slots.end * chunk_size).min(size)).collect();
    Ok(ImageDiff { bytes_changed: total(&ranges), ranges })
}

/// Ranges of chunks of the larger chunk size in which the bytes differ; ranges that are holes in both are skipped.
fn compare_bytes(a: &ImageReader, b: &ImageReader, chunk_size: u64) -> Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let (mut in_a, mut in_b) = (vec![0; chunk_size as usize], vec![0; chunk_size as usize]);
    let mut offset = 0;
    loop {
        let next = [a.next_data(offset)?, b.next_data(offset)?].into_iter().flatten().min();
        let Some(slot) = next.map(|offset| offset / chunk_size) else { return Ok(ranges) };
        in_a.fill(0);
        in_b.fill(0);
        let lengths = (a.read_at(slot * chunk_size, &mut in_a)?, b.read_at(slot * chunk_size, &mut in_b)?);
        if in_a != in_b || lengths.0 != lengths.1 {
            push_joined(&mut ranges, slot..slot + 1);
        }
        offset = (slot + 1) * chunk_size;
    }
}
