//! Reads a file of a tree at any place, verified.

use std::ops::Range;

use super::TreeReader;
use super::chunk_parts::{ChunkParts, copy_part};
use super::file_map::FileMap;
use super::map_reader::Sought;
use crate::error::Result;
use crate::format::{FileData, ObjectHasher, Slot};
use crate::id::ObjectId;

/// An open file of a tree. Cheap to clone, and shared between threads; while one lives, gc keeps what it reads.
#[derive(Clone)]
pub struct FileReader {
    tree: TreeReader,
    data: FileData,
}

/// What a range of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileExtent {
    /// Stored bytes; also what can't be told, as the map is damaged there: reading it fails.
    Data,
    /// Allocated, but all zero: nothing is stored.
    Zeros,
    /// Nothing is there.
    Hole,
}

/// Data that are known to go on are told when they are so long: a map has no end that can be waited for.
const MAX_JOINED_BYTES: u64 = 64 << 20;

impl FileReader {
    pub(super) fn new(tree: TreeReader, data: FileData) -> Self {
        Self { tree, data }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.data.size()
    }

    /// Bytes that are not holes.
    pub fn data_bytes(&self) -> u64 {
        match &self.data {
            FileData::Map { subtree, .. } => subtree.data_bytes,
            data => data.size(),
        }
    }

    fn map(&self) -> Option<FileMap<'_>> {
        match self.data {
            FileData::Map { level, subtree } => {
                Some(FileMap { store: self.tree.store(), level, top: subtree })
            }
            _ => None,
        }
    }

    /// Fills `buffer` from `offset` on, and returns how many bytes there were before the end.
    ///
    /// # Errors
    /// The first part that has no intact copy; nothing in `buffer` counts then.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let length = self.size().saturating_sub(offset).min(buffer.len() as u64) as usize;
        let Some(target) = buffer.get_mut(..length).filter(|target| !target.is_empty()) else { return Ok(0) };
        match self.data {
            FileData::Empty => {}
            FileData::Slice { chunk, offset: start, length } => {
                self.read_slice(&chunk, start..start.saturating_add(length), offset, target)?;
            }
            FileData::Map { level, subtree } => {
                self.read_map(FileMap { store: self.tree.store(), level, top: subtree }, offset, target)?;
            }
        }
        Ok(length)
    }

    /// Whether it is a part of a chunk that other files may share.
    pub(crate) fn is_slice(&self) -> bool {
        matches!(self.data, FileData::Slice { .. })
    }

    /// The slots of a file that has a map, from the one on that holds this byte; a part of the map that can't be read comes
    /// as one range with the error. Of a file that is empty or a slice there are none.
    pub(crate) fn slots(&self, from: u64) -> impl Iterator<Item = (Range<u64>, Result<Slot>)> + '_ {
        self.map().into_iter().flat_map(move |map| map.slots_from(from))
    }

    /// What names chunks by their content.
    pub(crate) fn hasher(&self) -> &ObjectHasher {
        self.tree.store().hasher()
    }

    fn read_slice(&self, id: &ObjectId, slice: Range<u32>, offset: u64, target: &mut [u8]) -> Result<()> {
        let chunk = self.tree.store().chunk(id)?;
        // Also what is not asked for must lie in the chunk: a file is whole or damaged.
        let content = chunk.get(slice.start as usize..slice.end as usize);
        copy_part(id, content.unwrap_or_default(), usize::try_from(offset).unwrap_or(usize::MAX), target)
    }

    fn read_map(&self, map: FileMap<'_>, offset: u64, target: &mut [u8]) -> Result<()> {
        let end = offset + target.len() as u64;
        let mut parts = ChunkParts::new(self.tree.store());
        let mut rest = target;
        for (range, slot) in map.slots_from(offset) {
            let from = offset.max(range.start);
            // No longer than the buffer.
            let part = (range.end.min(end) - from) as usize;
            let (target, after) = rest.split_at_mut(part);
            rest = after;
            match slot? {
                Slot::Hole | Slot::Zeros => target.fill(0),
                Slot::Chunk(id) => {
                    // A chunk has 8 MiB at most.
                    let chunk_len = (range.end - range.start) as usize;
                    parts.add(id, chunk_len, (from - range.start) as usize, target)?;
                }
            }
            if range.end >= end {
                break;
            }
        }
        parts.finish()
    }

    /// Loads the chunk at this byte into the cache, so that a later read finds it; failures are left to that read.
    /// Returns where what comes behind it begins, `None` at the end or where that is not known.
    pub fn prefetch(&self, offset: u64) -> Option<u64> {
        let (chunk, end) = match self.data {
            FileData::Empty => return None,
            FileData::Slice { chunk, length, .. } => (Some(chunk), u64::from(length)),
            FileData::Map { .. } => {
                let (range, slot) = self.map()?.slots_from(offset).next()?;
                let chunk = match slot.ok()? {
                    Slot::Chunk(id) => Some(id),
                    Slot::Hole | Slot::Zeros => None,
                };
                (chunk, range.end)
            }
        };
        if let Some(id) = chunk.filter(|_| offset < end) {
            let _ = self.tree.store().chunk(&id);
        }
        Some(end).filter(|&end| end < self.size())
    }

    /// The first byte from `offset` on that is data, zeros among them; `None` if there are only holes up to the end. Where
    /// the map is damaged nobody knows: it counts as data, and reading it fails.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        match self.map() {
            Some(map) => map.next(offset, Sought::Data),
            None => Ok(Some(offset).filter(|&offset| offset < self.size())),
        }
    }

    /// The first byte from `offset` on that is a hole; the end of the file counts as one.
    pub fn next_hole(&self, offset: u64) -> Result<u64> {
        let found = self.map().map_or(Ok(None), |map| map.next(offset, Sought::Hole))?;
        Ok(found.unwrap_or_else(|| self.size().max(offset)))
    }

    /// What the file consists of from `from` on, without gaps. Neighbours of one kind are joined, but data are told every
    /// 64 MiB or so.
    ///
    /// # Errors
    /// What says nothing of the stored bytes, such as a lack of memory or of open files; then it ends. Damage of the map
    /// counts as data.
    pub fn extents(&self, from: u64) -> impl Iterator<Item = Result<(Range<u64>, FileExtent)>> + '_ {
        let mut parts = self.parts(from);
        let mut pending = parts.next();
        std::iter::from_fn(move || {
            let (mut range, extent) = match pending.take()? {
                Ok(part) => part,
                Err(error) => return Some(Err(error)),
            };
            loop {
                pending = parts.next();
                match &pending {
                    Some(Ok((next, same)))
                        if *same == extent && range.end - range.start < MAX_JOINED_BYTES =>
                    {
                        range.end = next.end;
                    }
                    _ => return Some(Ok((range, extent))),
                }
            }
        })
    }

    /// What the file consists of from `from` on, slot by slot.
    fn parts(&self, from: u64) -> impl Iterator<Item = Result<(Range<u64>, FileExtent)>> + '_ {
        let part = move |(range, slot): (Range<u64>, Result<Slot>)| {
            let extent = match slot {
                Ok(Slot::Hole) => FileExtent::Hole,
                Ok(Slot::Zeros) => FileExtent::Zeros,
                Ok(Slot::Chunk(_)) => FileExtent::Data,
                Err(error) if error.is_loss() => FileExtent::Data,
                Err(error) => return Err(error),
            };
            Ok((from.max(range.start)..range.end, extent))
        };
        let is_slice = self.map().is_none() && from < self.size();
        let slice = is_slice.then(|| Ok((from..self.size(), FileExtent::Data)));
        self.map().into_iter().flat_map(move |map| map.slots_from(from)).map(part).chain(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FileInner, FileLeaf, FileSlot, FileSubtree};
    use crate::revision::test_maps::{absent, numbers};
    use crate::revision::test_trees::{Trees, data, hole, zeros};

    /// Short chunks to make files of.
    struct Pieces {
        trees: Trees,
        tree: TreeReader,
        contents: Vec<Vec<u8>>,
        ids: Vec<ObjectId>,
    }

    impl Pieces {
        fn new() -> Self {
            let trees = Trees::new();
            let contents: Vec<Vec<u8>> =
                (1..60u8).map(|byte| vec![byte; 1 + usize::from(byte) * 37 % 211]).collect();
            let ids = trees.chunks(&contents);
            Self { tree: trees.open(None), trees, contents, ids }
        }

        fn piece(&self, index: usize) -> FileSlot {
            data(self.ids[index], self.contents[index].len() as u64)
        }

        /// Random slots, no two holes or zeros side by side.
        fn random_slots(&self, count: u64, random: &mut impl FnMut(u64) -> u64) -> Vec<FileSlot> {
            let mut slots: Vec<FileSlot> = Vec::new();
            for _ in 0..count {
                let slot = match random(8) {
                    0 => hole(1 + random(300)),
                    1 => zeros(1 + random(300)),
                    _ => self.piece(random(self.ids.len() as u64) as usize),
                };
                let joins =
                    |last: &FileSlot| last.content == slot.content && !matches!(slot.content, Slot::Chunk(_));
                if !slots.last().is_some_and(joins) {
                    slots.push(slot);
                }
            }
            slots
        }

        /// The bytes of slots, `None` for those of holes.
        fn model(&self, slots: &[FileSlot]) -> Vec<Option<u8>> {
            let bytes = |slot: &FileSlot| match slot.content {
                Slot::Hole => vec![None; slot.length as usize],
                Slot::Zeros => vec![Some(0); slot.length as usize],
                Slot::Chunk(id) => {
                    let index = self.ids.iter().position(|other| *other == id).unwrap();
                    self.contents[index].iter().copied().map(Some).collect()
                }
            };
            slots.iter().flat_map(bytes).collect()
        }

        fn open(&self, data: FileData) -> FileReader {
            self.tree.open_file(&data)
        }

        /// Opens a file of a map whose top node is this one.
        fn of_top(&self, level: u8, subtree: FileSubtree) -> FileReader {
            self.open(FileData::Map { level, subtree })
        }

        fn leaf(&self, slots: &[FileSlot]) -> FileSubtree {
            let leaf = FileLeaf { slots: slots.to_vec() };
            leaf.subtree(self.trees.file_node(&leaf.encode())).unwrap()
        }

        fn inner(&self, level: u8, children: &[FileSubtree]) -> FileSubtree {
            let inner = FileInner { level, children: children.to_vec() };
            inner.subtree(self.trees.file_node(&inner.encode())).unwrap()
        }
    }

    /// The name of something that is not stored, and that ends no node.
    fn unmarked(byte: u8) -> ObjectId {
        ObjectId::from_bytes([byte; 32])
    }

    fn read(file: &FileReader, range: Range<u64>) -> Result<Vec<u8>> {
        let mut buffer = vec![0xee; (range.end - range.start) as usize];
        let length = file.read_at(range.start, &mut buffer)?;
        assert!(buffer[length..].iter().all(|&byte| byte == 0xee));
        buffer.truncate(length);
        Ok(buffer)
    }

    fn extents(file: &FileReader, from: u64) -> Vec<(Range<u64>, FileExtent)> {
        file.extents(from).map(Result::unwrap).collect()
    }

    /// Compares all that a file says of itself with a model, from some offsets on.
    fn assert_is(file: &FileReader, model: &[Option<u8>], offsets: impl Iterator<Item = usize>) {
        assert_eq!(file.size(), model.len() as u64);
        assert_eq!(file.data_bytes(), model.iter().flatten().count() as u64);
        for offset in offsets {
            let from = offset as u64;
            let rest = model.get(offset..).unwrap_or_default();
            let next = |is_hole: bool| rest.iter().position(|byte| byte.is_none() == is_hole);
            assert_eq!(file.next_data(from).unwrap(), next(false).map(|index| from + index as u64), "{from}");
            let hole = next(true).unwrap_or(rest.len()) as u64;
            assert_eq!(file.next_hole(from).unwrap(), from + hole, "{from}");
            let length = 1 + offset * 7 % 3000;
            let expected: Vec<u8> = rest.iter().take(length).map(|byte| byte.unwrap_or(0)).collect();
            assert!(
                read(file, from..from + length as u64).unwrap() == expected,
                "{length} bytes from {from}"
            );
        }
    }

    #[test]
    fn a_file_of_any_slots_is_read_at_any_place() {
        let pieces = Pieces::new();
        for (seed, count) in [1, 2, 3, 10, 600, 2000].into_iter().enumerate() {
            let mut random = numbers(seed as u64);
            let slots = pieces.random_slots(count, &mut random);
            let model = pieces.model(&slots);
            let file = pieces.open(pieces.trees.file(&slots));
            let beyond = [model.len() - 1, model.len(), model.len() + 1, usize::MAX / 8];
            let offsets: Vec<usize> = (0..60).map(|_| random(model.len() as u64) as usize).collect();
            assert_is(&file, &model, offsets.into_iter().chain(beyond));
            let whole: Vec<u8> = model.iter().map(|byte| byte.unwrap_or(0)).collect();
            assert!(read(&file, 0..model.len() as u64 + 5).unwrap() == whole);
        }
    }

    #[test]
    fn a_high_map_is_read_like_a_low_one() {
        let pieces = Pieces::new();
        let mut random = numbers(1);
        let slots = pieces.random_slots(300_000, &mut random);
        let data = pieces.trees.file(&slots);
        assert!(matches!(data, FileData::Map { level: 2.., .. }), "{data:?}");
        let model = pieces.model(&slots);
        let offsets: Vec<usize> = (0..300).map(|_| random(model.len() as u64) as usize).collect();
        assert_is(&pieces.open(data), &model, offsets.into_iter());
    }

    #[test]
    fn extents_are_what_the_slots_are_with_data_joined() {
        let pieces = Pieces::new();
        let mut random = numbers(5);
        for count in [1, 5, 700] {
            let slots = pieces.random_slots(count, &mut random);
            let file = pieces.open(pieces.trees.file(&slots));
            for from in [0, 1, file.size() / 2, file.size() - 1, file.size(), file.size() + 1] {
                let mut expected: Vec<(Range<u64>, FileExtent)> = Vec::new();
                let mut at = 0;
                for slot in &slots {
                    let range = from.max(at)..at + slot.length;
                    at += slot.length;
                    let extent = match slot.content {
                        Slot::Hole => FileExtent::Hole,
                        Slot::Zeros => FileExtent::Zeros,
                        Slot::Chunk(_) => FileExtent::Data,
                    };
                    match expected.last_mut() {
                        Some((last, same)) if *same == extent => last.end = range.end,
                        _ if range.is_empty() => {}
                        _ => expected.push((range, extent)),
                    }
                }
                assert_eq!(extents(&file, from), expected, "{count} slots from {from}");
            }
        }
    }

    #[test]
    fn empty_and_small_files_are_read_without_a_map() {
        let pieces = Pieces::new();
        let empty = pieces.open(FileData::Empty);
        assert_is(&empty, &[], [0, 1, 1 << 40].into_iter());
        assert_eq!(extents(&empty, 0), []);
        assert_eq!(empty.prefetch(0), None);
        let chunk = pieces.trees.chunk(b"hello, worldfoo");
        let slice = |offset, length| pieces.open(FileData::Slice { chunk, offset, length });
        let model: Vec<Option<u8>> = b"world".iter().copied().map(Some).collect();
        let small = slice(7, 5);
        assert_is(&small, &model, 0..8);
        assert_eq!(extents(&small, 0), [(0..5, FileExtent::Data)]);
        assert_eq!(extents(&small, 3), [(3..5, FileExtent::Data)]);
        assert_eq!(extents(&small, 5), []);
        assert_eq!(read(&slice(12, 3), 0..9).unwrap(), b"foo");
    }

    #[test]
    fn a_slice_that_its_chunk_does_not_hold_is_damage() {
        let pieces = Pieces::new();
        let chunk = pieces.trees.chunk(b"hello");
        for (offset, length) in [(0, 6), (5, 1), (4, 2), (8 << 20, 1), (u32::MAX, u32::MAX)] {
            let file = pieces.open(FileData::Slice { chunk, offset, length });
            assert!(read(&file, 0..1).unwrap_err().is_damage(), "{offset} {length}");
        }
        let file = pieces.open(FileData::Slice { chunk: absent(1), offset: 0, length: 1 });
        assert!(read(&file, 0..1).unwrap_err().is_damage());
    }

    #[test]
    fn a_chunk_of_another_length_than_its_slot_is_damage() {
        let pieces = Pieces::new();
        let id = pieces.trees.chunk(&[7; 100]);
        for length in [1, 99, 101, 8 << 20] {
            // Once from the store, and then from the cache.
            for range in [0..length, 0..1, 0..length] {
                let file = pieces.open(pieces.trees.file(&[data(id, length), zeros(1)]));
                let error = read(&file, range.clone()).unwrap_err();
                assert!(error.is_damage(), "{length} {range:?}: {error}");
                assert_eq!(read(&file, length..length + 1).unwrap(), [0], "the rest stays");
            }
        }
    }

    #[test]
    fn prefetching_brings_each_chunk_into_the_cache() {
        let pieces = Pieces::new();
        let slots = [pieces.piece(3), hole(50), pieces.piece(4), zeros(7)];
        let file = pieces.open(pieces.trees.file(&slots));
        let cached = |index: usize| pieces.trees.store().cached_chunk(&pieces.ids[index]).is_some();
        assert!(!cached(3) && !cached(4));
        let (mut next, mut starts) = (Some(0), Vec::new());
        while let Some(offset) = next {
            starts.push(offset);
            next = file.prefetch(offset);
        }
        let first = slots[0].length;
        assert_eq!(starts, [0, first, first + 50, first + 50 + slots[2].length]);
        assert!(cached(3) && cached(4));
        assert_eq!(file.prefetch(file.size()), None);
        let lost = pieces.open(FileData::Slice { chunk: absent(1), offset: 0, length: 9 });
        assert_eq!(lost.prefetch(0), None, "a failure is left to the read");
    }

    #[test]
    fn nodes_that_do_not_fit_their_place_are_damage() {
        let pieces = Pieces::new();
        let left = pieces.leaf(&[pieces.piece(1), hole(10), pieces.piece(2)]);
        let right = pieces.leaf(&[pieces.piece(3), hole(10)]);
        let fit = pieces.inner(1, &[left, right]);
        assert_eq!(read(&pieces.of_top(1, fit), 0..fit.bytes).unwrap().len() as u64, fit.bytes);
        let more = |node: FileSubtree| FileSubtree { bytes: node.bytes + 1, ..node };
        let fuller = |node: FileSubtree| FileSubtree { data_bytes: node.data_bytes + 1, ..node };
        let richer = |node: FileSubtree| FileSubtree { chunk_count: node.chunk_count + 1, ..node };
        let of_id = |id| FileSubtree { id, ..fit };
        let hostile = [
            ("a top with more bytes", 1, more(fit)),
            ("a top with more data", 1, fuller(fit)),
            ("a top with more chunks", 1, richer(fit)),
            ("a leaf with more bytes", 1, pieces.inner(1, &[more(left), right])),
            ("a leaf with more data", 1, pieces.inner(1, &[left, fuller(right)])),
            ("a leaf with more chunks", 1, pieces.inner(1, &[richer(left), right])),
            ("an inner node with more data", 2, pieces.inner(2, &[fit, fuller(fit)])),
            ("a leaf at the top", 1, left),
            ("an inner node as a leaf", 0, fit),
            ("a leaf two levels below", 2, pieces.inner(2, &[left, right])),
            ("another level", 2, fit),
            ("a needless top", 1, pieces.inner(1, &[left])),
            ("a needless top above others", 2, pieces.inner(2, &[fit])),
            ("nonsense", 1, of_id(pieces.trees.file_node(b"nonsense"))),
            ("a directory", 1, of_id(pieces.trees.directory_node(b"nonsense"))),
            ("nothing", 11, of_id(absent(1))),
        ];
        for (what, level, top) in hostile {
            let file = pieces.of_top(level, top);
            assert!(read(&file, 0..top.bytes).unwrap_err().is_damage(), "{what}");
            let covered = extents(&file, 0);
            assert_eq!(covered.first().unwrap().0.start, 0, "{what}");
            assert!(covered.windows(2).all(|pair| pair[0].0.end == pair[1].0.start), "{what}");
            assert_eq!(covered.last().unwrap().0.end, top.bytes, "{what}");
        }
    }

    #[test]
    fn holes_and_zeros_that_go_on_in_the_next_leaf_are_damage() {
        let pieces = Pieces::new();
        let some = pieces.piece(1);
        for (last, first, is_damage) in [
            (hole(5), hole(6), true),
            (zeros(5), zeros(6), true),
            (hole(5), zeros(6), false),
            (zeros(5), hole(6), false),
            (some, some, false),
        ] {
            let leaves = [pieces.leaf(&[some, last]), pieces.leaf(&[first, some])];
            let file = pieces.of_top(1, pieces.inner(1, &leaves));
            let result = read(&file, 0..file.size());
            assert_eq!(result.is_err_and(|error| error.is_damage()), is_damage, "{last:?} {first:?}");
        }
    }

    #[test]
    fn a_lost_node_counts_as_data_and_hides_nothing_behind_it() {
        let pieces = Pieces::new();
        let lost = FileSubtree { id: absent(1), bytes: 1000, data_bytes: 500, chunk_count: 3 };
        let (left, right) = (pieces.leaf(&[hole(10)]), pieces.leaf(&[hole(20), pieces.piece(5)]));
        let file = pieces.of_top(1, pieces.inner(1, &[left, lost, right]));
        let end = file.size();
        assert_eq!((file.next_data(0).unwrap(), file.next_hole(0).unwrap()), (Some(10), 0));
        assert_eq!((file.next_data(500).unwrap(), file.next_hole(500).unwrap()), (Some(500), 1010));
        assert_eq!((file.next_data(1010).unwrap(), file.next_hole(1030).unwrap()), (Some(1030), end));
        let expected = [
            (0..10, FileExtent::Hole),
            (10..1010, FileExtent::Data),
            (1010..1030, FileExtent::Hole),
            (1030..end, FileExtent::Data),
        ];
        assert_eq!(extents(&file, 0), expected);
        assert_eq!(read(&file, 0..10).unwrap(), [0; 10]);
        for range in [9..11, 500..501, 1009..1011] {
            assert!(read(&file, range).unwrap_err().is_damage());
        }
        assert_eq!(read(&file, 1010..end).unwrap().len() as u64, end - 1010);
        assert_eq!(file.prefetch(500), None);
    }

    /// Few nodes can make a file of 2^60 bytes, each standing in all places of its level. With sums that promise holes
    /// where there are none, a search that knew no better would visit every place.
    #[test]
    fn a_map_that_lies_about_its_holes_is_searched_in_no_time() {
        let pieces = Pieces::new();
        let full = pieces.leaf(&vec![data(unmarked(5), 8 << 20); 512]);
        for bottom in [full.id, unmarked(1), unmarked(3)] {
            let mut child = FileSubtree { id: bottom, data_bytes: full.data_bytes - 1, ..full };
            for level in 1..=3 {
                let marked = child.id.as_bytes()[0].trailing_zeros() >= 7;
                assert!(!marked, "choose another bottom");
                child = pieces.inner(level, &[child; 512]);
            }
            let file = pieces.of_top(3, child);
            assert_eq!(file.next_hole(5).unwrap(), file.size());
            assert_eq!(file.next_data(5).unwrap(), Some(5));
        }
    }

    #[test]
    fn the_extents_of_data_without_end_begin_at_once() {
        let pieces = Pieces::new();
        let mut child = pieces.leaf(&vec![data(unmarked(5), 8 << 20); 512]);
        for level in 1..=3 {
            child = pieces.inner(level, &[child; 512]);
        }
        let file = pieces.of_top(3, child);
        let first: Vec<_> = file.extents(3).take(2).map(Result::unwrap).collect();
        assert_eq!(first, [(3..72 << 20, FileExtent::Data), (72 << 20..136 << 20, FileExtent::Data)]);
    }
}
