//! Whether two files of trees hold the same bytes, whatever they are stored as.

use std::ops::Range;

use super::file_map::FileMap;
use super::tree_reader::TreeReader;
use crate::error::{Error, Result};
use crate::format::{FileData, FileSubtree, Slot};
use crate::monitor::Monitor;

/// Bytes that are read of each file at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Whether two files, which may be of any trees of the repository of `tree`, hold the same bytes. Holes are zeros.
///
/// Where both have the same object nothing is read; elsewhere the bytes tell, as a small file may lie in another bundle
/// than before, and a large one be cut otherwise under another name. The first difference ends it.
///
/// # Errors
/// Damage of what must be read to tell; [`Error::Cancelled`].
pub(crate) fn same_content(
    tree: &TreeReader,
    a: &FileData,
    b: &FileData,
    monitor: &dyn Monitor,
) -> Result<bool> {
    if a.size() != b.size() {
        return Ok(false);
    }
    let comparison = Comparison { tree, a, b, monitor };
    match (a, b) {
        _ if a == b => Ok(true),
        (FileData::Map { level: in_a, subtree: a }, FileData::Map { level: in_b, subtree: b }) => {
            let map = |level: u8, top: FileSubtree| FileMap { store: tree.store(), level, top };
            comparison.same_slots(map(*in_a, *a), map(*in_b, *b))
        }
        _ => comparison.same_bytes(0..a.size()),
    }
}

struct Comparison<'a> {
    tree: &'a TreeReader,
    a: &'a FileData,
    b: &'a FileData,
    monitor: &'a dyn Monitor,
}

impl Comparison<'_> {
    fn same_slots(&self, a: FileMap<'_>, b: FileMap<'_>) -> Result<bool> {
        let from = common_start(&a, &b)?;
        let (mut slots_a, mut slots_b) = (a.slots_from(from), b.slots_from(from));
        let (mut next_a, mut next_b) = (known(slots_a.next())?, known(slots_b.next())?);
        while let (Some((in_a, slot_a)), Some((in_b, slot_b))) = (&next_a, &next_b) {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let both = from.max(in_a.start).max(in_b.start)..in_a.end.min(in_b.end);
            let is_data = |slot: &Slot| matches!(slot, Slot::Chunk(_));
            let known_same = in_a == in_b && slot_a == slot_b || !is_data(slot_a) && !is_data(slot_b);
            // A chunk has 8 MiB at most, so this is no longer.
            if !known_same && !self.same_bytes(both)? {
                return Ok(false);
            }
            let (end_a, end_b) = (in_a.end, in_b.end);
            if end_a <= end_b {
                next_a = known(slots_a.next())?;
            }
            if end_b <= end_a {
                next_b = known(slots_b.next())?;
            }
        }
        Ok(true)
    }

    fn same_bytes(&self, range: Range<u64>) -> Result<bool> {
        let (a, b) = (self.tree.open_file(self.a), self.tree.open_file(self.b));
        let longest = PIECE_BYTES.min(range.end - range.start) as usize;
        let (mut in_a, mut in_b) = (vec![0; longest], vec![0; longest]);
        let mut at = range.start;
        while at < range.end {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let length = PIECE_BYTES.min(range.end - at) as usize;
            let (in_a, in_b) = (&mut in_a[..length], &mut in_b[..length]);
            a.read_at(at, in_a)?;
            b.read_at(at, in_b)?;
            if in_a != in_b {
                return Ok(false);
            }
            at += length as u64;
        }
        Ok(true)
    }
}

/// A slot, or why it is not known.
fn known(next: Option<(Range<u64>, Result<Slot>)>) -> Result<Option<(Range<u64>, Slot)>> {
    next.map(|(range, slot)| slot.map(|slot| (range, slot))).transpose()
}

/// Up to which byte the nodes of two maps are the same. Reads one node of each for each level.
fn common_start(a: &FileMap<'_>, b: &FileMap<'_>) -> Result<u64> {
    let (mut in_a, mut in_b, mut level) = (a.top, b.top, a.level);
    let mut at = 0;
    while a.level == b.level && level > 0 {
        let (inner_a, inner_b) = (a.inner(&in_a, level)?, b.inner(&in_b, level)?);
        let mut children = inner_a.children.iter().zip(&inner_b.children);
        let Some((child_a, child_b)) = children.find(|(child_a, child_b)| {
            let same = child_a == child_b;
            at += if same { child_a.bytes } else { 0 };
            !same
        }) else {
            return Ok(at);
        };
        (in_a, in_b, level) = (*child_a, *child_b, level - 1);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FileSlot;
    use crate::id::ObjectId;
    use crate::monitor::SilentMonitor;
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::{Trees, data, hole, zeros};

    fn slice(chunk: ObjectId, offset: u32, length: u32) -> FileData {
        FileData::Slice { chunk, offset, length }
    }

    fn compare(trees: &Trees, a: &FileData, b: &FileData) -> Result<bool> {
        let tree = trees.open(None);
        same_content(&tree, a, b, &SilentMonitor)
    }

    #[test]
    fn what_is_stored_otherwise_may_be_the_same() {
        let trees = Trees::new();
        let [bundle, other, zero] = [&b"xxhello"[..], b"hello, and more", &[0; 5]].map(|c| trees.chunk(c));
        let piece = trees.chunk(b"hello");
        let pieces = [trees.chunk(b"he"), trees.chunk(b"llo")];
        let hello = [
            slice(bundle, 2, 5),
            slice(other, 0, 5),
            trees.file(&[data(piece, 5)]),
            trees.file(&[data(pieces[0], 2), data(pieces[1], 3)]),
        ];
        let empty = [trees.file(&[hole(5)]), trees.file(&[zeros(5)]), slice(zero, 0, 5), {
            let parts = [hole(2), zeros(3)];
            trees.file(&parts)
        }];
        for (index, a) in hello.iter().enumerate() {
            for b in &hello {
                assert!(compare(&trees, a, b).unwrap(), "{index} {b:?}");
            }
            for b in &empty {
                assert!(!compare(&trees, a, b).unwrap() && !compare(&trees, b, a).unwrap());
            }
            assert!(!compare(&trees, a, &slice(other, 1, 5)).unwrap());
            assert!(!compare(&trees, a, &slice(other, 0, 6)).unwrap());
            assert!(!compare(&trees, a, &FileData::Empty).unwrap());
        }
        for a in &empty {
            assert!(empty.iter().all(|b| compare(&trees, a, b).unwrap()));
        }
    }

    #[test]
    fn what_is_the_same_object_is_not_read() {
        let trees = Trees::new();
        let [old, new] = [&b"old"[..], b"new"].map(|content| trees.chunk(content));
        let file = |last: FileSlot, count: u64| {
            let lost = (0..count).map(|number| data(absent(number), 100));
            trees.file(&lost.chain([last]).collect::<Vec<_>>())
        };
        for count in [3, 5000] {
            assert!(!compare(&trees, &file(data(old, 3), count), &file(data(new, 3), count)).unwrap());
            let cut = [trees.chunk(b"o"), trees.chunk(b"ld")];
            let lost = (0..count).map(|number| data(absent(number), 100));
            let slots: Vec<_> = lost.chain([data(cut[0], 1), data(cut[1], 2)]).collect();
            assert!(compare(&trees, &file(data(old, 3), count), &trees.file(&slots)).unwrap());
        }
        let lost = slice(absent(1), 0, 5);
        assert!(compare(&trees, &lost, &lost).unwrap());
        assert!(compare(&trees, &lost, &slice(old, 0, 5)).unwrap_err().is_damage());
    }

    #[test]
    fn the_difference_is_found_in_maps_of_any_shape() {
        let trees = Trees::new();
        let contents: Vec<Vec<u8>> = (1..40u8).map(|byte| vec![byte; usize::from(byte)]).collect();
        let ids = trees.chunks(&contents);
        let slot = |index: usize| data(ids[index], contents[index].len() as u64);
        let slots: Vec<FileSlot> = (0..20_000).map(|number| slot(number * 7 % 39)).collect();
        let file = trees.file(&slots);
        for place in [0, 1, 77, 9999, 19_999] {
            let mut changed = slots.clone();
            let length = changed[place].length;
            changed[place] = hole(length);
            assert!(!compare(&trees, &file, &trees.file(&changed)).unwrap(), "{place}");
            let joined = contents[place * 7 % 39].clone();
            let (first, rest) = joined.split_at(joined.len() / 2);
            let halves: Vec<FileSlot> = [first, rest]
                .iter()
                .filter(|half| !half.is_empty())
                .map(|half| data(trees.chunk(half), half.len() as u64))
                .collect();
            let cut = [&slots[..place], &halves, &slots[place + 1..]].concat();
            assert!(compare(&trees, &file, &trees.file(&cut)).unwrap(), "{place}");
        }
    }
}
