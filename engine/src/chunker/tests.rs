//! What holds for every cutter, whatever the data and however they are read.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{ContentCutter, Cutter, FixedCutter};

/// Bytes that no compressor shortens, other ones for each seed.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The lengths of the chunks of an extent at `offset` that is read in pieces, whose lengths repeat.
fn lengths(cutter: Cutter, offset: u64, extent: &[u8], pieces: &[usize]) -> Vec<usize> {
    let (mut lengths, mut done, mut read) = (Vec::new(), 0, 0);
    for piece in pieces.iter().cycle() {
        read = extent.len().min(read + piece);
        let is_end = read == extent.len();
        while let Some(length) = cutter.cut(offset + done as u64, &extent[done..read], is_end) {
            lengths.push(length);
            done += length;
        }
        if is_end {
            break;
        }
    }
    lengths
}

fn chunks(cutter: Cutter, extent: &[u8]) -> Vec<&[u8]> {
    let mut rest = extent;
    let cut = |length| rest.split_off(..length);
    lengths(cutter, 0, extent, &[extent.len()]).into_iter().filter_map(cut).collect()
}

fn small_content_cutter() -> Cutter {
    Cutter::Content(ContentCutter::new(4 << 10))
}

fn any_cutter() -> impl Strategy<Value = Cutter> {
    prop_oneof![
        Just(small_content_cutter()),
        (12..16u32).prop_map(|bits| Cutter::Fixed(FixedCutter::new(1 << bits))),
    ]
}

/// Noise, zeros and text one after the other.
fn any_extent() -> impl Strategy<Value = Vec<u8>> {
    let part = (0..3u8, any::<u64>(), 0..40_000usize).prop_map(|(kind, seed, length)| match kind {
        0 => vec![0; length],
        1 => noise(seed, length),
        _ => noise(seed, length).iter().map(|byte| b"the quick brown\n"[usize::from(byte % 16)]).collect(),
    });
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn cuts_do_not_depend_on_how_the_extent_was_read(
        cutter in any_cutter(),
        extent in any_extent(),
        offset in 0..1_000_000u64,
        pieces in prop::collection::vec(1..30_000usize, 1..6),
    ) {
        let whole = lengths(cutter, offset, &extent, &[extent.len()]);
        prop_assert_eq!(lengths(cutter, offset, &extent, &pieces), whole);
    }

    #[test]
    fn the_chunks_are_the_extent(cutter in any_cutter(), extent in any_extent()) {
        let chunks = chunks(cutter, &extent);
        prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        prop_assert_eq!(chunks.concat(), extent);
    }

    #[test]
    fn a_buffer_of_the_longest_chunk_always_has_a_cut(
        cutter in any_cutter(),
        extent in any_extent(),
        offset in any::<u64>(),
    ) {
        let mut buffer = extent;
        buffer.resize(cutter.longest(), 1);
        let length = cutter.cut(offset, &buffer, false);
        prop_assert!(length.is_some_and(|length| (1..=cutter.longest()).contains(&length)));
    }
}

#[test]
fn an_extent_without_bytes_has_no_chunk() {
    for cutter in [small_content_cutter(), Cutter::Fixed(FixedCutter::new(4096))] {
        assert_eq!(cutter.cut(0, &[], true), None);
        assert_eq!(cutter.cut(0, &[], false), None);
    }
}

#[test]
fn an_insertion_near_the_beginning_changes_few_chunks() {
    for seed in 0..20 {
        let before = noise(seed, 1 << 20);
        let mut after = before.clone();
        after.splice(5_000..5_000, *b"inserted");
        let stored: HashSet<&[u8]> = chunks(small_content_cutter(), &before).into_iter().collect();
        let chunks = chunks(small_content_cutter(), &after);
        let new = chunks.iter().filter(|chunk| !stored.contains(**chunk)).count();
        assert!(chunks.len() > 150 && (1..=3).contains(&new), "{new} of {} are new", chunks.len());
    }
}

#[test]
fn a_file_that_holds_an_image_has_the_chunks_of_the_image() {
    const CHUNK: u32 = 64 << 10;
    let image = noise(1, 1 << 20);
    // A data extent that begins and ends inside chunks, as holes make them.
    let (begin, end) = (5 << 12, 250 << 12);
    let cutter = Cutter::for_file(b"vm.img", 1 << 30, CHUNK);
    let mut offset = begin;
    let mut whole = 0;
    for length in lengths(cutter, begin as u64, &image[begin..end], &[10_000]) {
        whole += usize::from(offset % CHUNK as usize == 0 && length == CHUNK as usize);
        offset += length;
    }
    assert_eq!((offset, whole), (end, 14));
}

#[test]
fn names_decide_how_a_file_is_cut() {
    let fixed = Cutter::Fixed(FixedCutter::new(4096));
    assert_eq!(Cutter::for_file(b"base.sqlite", 1 << 30, 4096), fixed);
    assert_eq!(Cutter::for_file(b"film.mkv", 1 << 30, 4096), Cutter::Content(ContentCutter::default()));
}
