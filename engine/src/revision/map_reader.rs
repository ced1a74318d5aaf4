//! Reads a map: slots, subtrees, and where data begins and ends, opening only the nodes on the way.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Corrupt, Error, Result};
use crate::format::{Child, FAN_OUT, Inner, Leaf, Root, Slot, Subtree};
use crate::id::ObjectId;
use crate::random::Random;
use crate::store::Store;

/// A map that is open for reading. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MapReader {
    store: Arc<Store>,
    root: Root,
}

/// What is looked for in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// A slot that is not a hole.
    Data,
    /// A slot that is one.
    Hole,
}

/// Chunks below a node of this level.
pub(crate) fn span_of(level: u8) -> u64 {
    FAN_OUT.saturating_pow(u32::from(level) + 1)
}

impl MapReader {
    /// Opens the map with this root.
    pub(crate) fn open(store: &Arc<Store>, root: &ObjectId) -> Result<Self> {
        Ok(Self { store: Arc::clone(store), root: store.root(root)? })
    }

    /// What the root says.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Number of slots.
    pub(crate) fn slot_count(&self) -> u64 {
        self.root.chunk_slots()
    }

    /// Length in bytes of a slot's chunk: the last one ends at the size.
    pub(crate) fn chunk_len(&self, slot: u64) -> u32 {
        let chunk_size = u64::from(self.root.chunk_size);
        let left = self.root.size.saturating_sub(slot.saturating_mul(chunk_size));
        // OK to unwrap: not more than the chunk size.
        u32::try_from(left.min(chunk_size)).unwrap_or(self.root.chunk_size)
    }

    /// The slots of a range, which are holes beyond the end.
    pub(crate) fn slots(&self, range: Range<u64>) -> Result<Vec<Slot>> {
        let mut slots = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        let mut at = range.start;
        while at < range.end {
            let leaf_index = at / FAN_OUT;
            let leaf_end = (leaf_index + 1).saturating_mul(FAN_OUT).min(range.end);
            let first = (at % FAN_OUT) as usize;
            if let Some(leaf) = self.leaf(leaf_index)? {
                let inside = leaf.slots.iter().skip(first).take((leaf_end - at) as usize);
                slots.extend(inside.copied());
            }
            slots.resize((leaf_end - range.start) as usize, Slot::Hole);
            at = leaf_end;
        }
        Ok(slots)
    }

    /// One slot.
    pub(crate) fn slot(&self, slot: u64) -> Result<Slot> {
        let leaf = self.leaf(slot / FAN_OUT)?;
        let found = leaf.and_then(|leaf| leaf.slots.get((slot % FAN_OUT) as usize).copied());
        Ok(found.unwrap_or(Slot::Hole))
    }

    /// The leaf over these slots; `None` if all are holes.
    pub(crate) fn leaf(&self, leaf_index: u64) -> Result<Option<Arc<Leaf>>> {
        let Some(subtree) = self.subtree(0, leaf_index)? else { return Ok(None) };
        self.load_leaf(&subtree.id, leaf_index).map(Some)
    }

    /// The node of a level, counted from the left; `None` if there are only holes, or nothing.
    pub(crate) fn subtree(&self, level: u8, index: u64) -> Result<Child> {
        if level > self.root.level {
            // As if a higher map had this one at its left edge.
            return Ok(None);
        }
        let mut child = self.root.top;
        for parent_level in (level + 1..=self.root.level).rev() {
            let Some(subtree) = child else { return Ok(None) };
            let below = u32::from(parent_level - level);
            let parent_index = index / FAN_OUT.saturating_pow(below);
            if parent_level == self.root.level && parent_index > 0 {
                return Ok(None);
            }
            let inner = self.load_inner(&subtree.id, parent_level, parent_index)?;
            let place = index / FAN_OUT.saturating_pow(below - 1) % FAN_OUT;
            child = inner.children.get(place as usize).copied().flatten();
        }
        if level == self.root.level && index > 0 {
            return Ok(None);
        }
        Ok(child)
    }

    /// The first slot from `from` on that is what is sought; `None` if there is none before the end. All below a
    /// damaged node counts as data: who reads it there gets the error, and what lies behind it stays in reach.
    pub(crate) fn next(&self, from: u64, sought: Sought) -> Result<Option<u64>> {
        if from >= self.slot_count() {
            return Ok(None);
        }
        let mut search = Search { map: self, from, sought, in_vain: HashSet::new() };
        search.below(self.root.top, self.root.level, 0)
    }

    /// The chunks at so many random places, and the leaves that name them; where the map can't be read, none.
    pub(crate) fn random_objects(&self, count: usize) -> Result<Vec<ObjectId>> {
        let mut random = Random::new();
        let mut objects = Vec::new();
        for _ in 0..count {
            match self.objects_behind(random.below(self.slot_count())) {
                Ok(found) => objects.extend(found),
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(objects)
    }

    /// The first chunk from a slot on, or else from the begin on, and its leaf.
    fn objects_behind(&self, from: u64) -> Result<Vec<ObjectId>> {
        let behind = self.next(from, Sought::Data)?;
        let slot = behind.map_or_else(|| self.next(0, Sought::Data), |slot| Ok(Some(slot)))?;
        let Some(slot) = slot else { return Ok(Vec::new()) };
        let leaf = self.subtree(0, slot / FAN_OUT)?.map(|leaf| leaf.id);
        let chunk = match self.slot(slot)? {
            Slot::Chunk(id) => Some(id),
            Slot::Hole | Slot::Zeros => None,
        };
        Ok(leaf.into_iter().chain(chunk).collect())
    }

    /// Loads a leaf and checks that it has as many slots as its place wants.
    fn load_leaf(&self, id: &ObjectId, index: u64) -> Result<Arc<Leaf>> {
        let leaf = self.store.leaf(id)?;
        match leaf.slots.len() as u64 == self.width(0, index) {
            true => Ok(leaf),
            false => Err(misfit(id)),
        }
    }

    /// Loads an inner node and checks that it fits its place, so that a hostile map can't make a reader go in circles.
    pub(crate) fn load_inner(&self, id: &ObjectId, level: u8, index: u64) -> Result<Arc<Inner>> {
        let inner = self.store.inner(id)?;
        match inner.level == level && inner.children.len() as u64 == self.width(level, index) {
            true => Ok(inner),
            false => Err(misfit(id)),
        }
    }

    /// Children or slots that the node at this place must have.
    fn width(&self, level: u8, index: u64) -> u64 {
        let units = self.slot_count().div_ceil(FAN_OUT.saturating_pow(level.into()));
        units.saturating_sub(index.saturating_mul(FAN_OUT)).min(FAN_OUT)
    }

    /// Calls `visit` for the subtrees of each level from the top down, without those for which it says `false`. Fails with
    /// nothing but what `visit` fails with.
    pub(crate) fn walk<E>(&self, visit: &mut dyn FnMut(MapPart<'_>) -> Result<bool, E>) -> Result<(), E> {
        match self.root.top {
            Some(top) => self.walk_below(top, self.root.level, 0, visit),
            None => Ok(()),
        }
    }

    fn walk_below<E>(
        &self,
        subtree: Subtree,
        level: u8,
        index: u64,
        visit: &mut dyn FnMut(MapPart<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let first_slot = index.saturating_mul(span_of(level));
        if !visit(MapPart::Node { id: &subtree.id, level, first_slot })? {
            return Ok(());
        }
        if level == 0 {
            let leaf = match self.load_leaf(&subtree.id, index) {
                Ok(leaf) => leaf,
                Err(error) => {
                    return visit(MapPart::Unreadable { id: &subtree.id, level, first_slot, error })
                        .map(|_| ());
                }
            };
            for (slot, content) in (first_slot..).zip(&leaf.slots) {
                if let Slot::Chunk(id) = content {
                    visit(MapPart::Chunk { id, slot })?;
                }
            }
            return Ok(());
        }
        let inner = match self.load_inner(&subtree.id, level, index) {
            Ok(inner) => inner,
            Err(error) => {
                return visit(MapPart::Unreadable { id: &subtree.id, level, first_slot, error }).map(|_| ());
            }
        };
        for (place, child) in (index * FAN_OUT..).zip(&inner.children) {
            if let Some(child) = child {
                self.walk_below(*child, level - 1, place, visit)?;
            }
        }
        Ok(())
    }
}

/// A search from a slot on for the first one of a kind.
struct Search<'a> {
    map: &'a MapReader,
    from: u64,
    sought: Sought,
    /// Nodes in which there is none: a hostile map may have few nodes, each in more places than can be visited.
    in_vain: HashSet<ObjectId>,
}

impl Search<'_> {
    fn below(&mut self, child: Child, level: u8, index: u64) -> Result<Option<u64>> {
        let start = index.saturating_mul(span_of(level));
        let end = start.saturating_add(span_of(level)).min(self.map.slot_count());
        let from = self.from.max(start);
        let Some(subtree) = child else {
            return Ok((self.sought == Sought::Hole && from < end).then_some(from));
        };
        let chunk_size = u64::from(self.map.root.chunk_size);
        let bytes = end.saturating_mul(chunk_size).min(self.map.root.size) - start.saturating_mul(chunk_size);
        let full = self.sought == Sought::Hole && subtree.data_bytes == bytes;
        if full || self.in_vain.contains(&subtree.id) {
            return Ok(None);
        }
        let found = match self.within(&subtree.id, level, index, from - start) {
            Err(error) if error.is_loss() => (self.sought == Sought::Data).then_some(from),
            found => found?,
        };
        if found.is_none() && from == start {
            self.in_vain.insert(subtree.id);
        }
        Ok(found)
    }

    /// Searches a node without its first `skipped` slots.
    fn within(&mut self, id: &ObjectId, level: u8, index: u64, skipped: u64) -> Result<Option<u64>> {
        if level == 0 {
            let leaf = self.map.load_leaf(id, index)?;
            let is_sought = |slot: &Slot| (*slot == Slot::Hole) == (self.sought == Sought::Hole);
            let found = leaf.slots.iter().skip(skipped as usize).position(is_sought);
            return Ok(found.map(|place| index * FAN_OUT + skipped + place as u64));
        }
        let inner = self.map.load_inner(id, level, index)?;
        let first = skipped / span_of(level - 1);
        for (place, child) in (index * FAN_OUT..).zip(&inner.children).skip(first as usize) {
            if let Some(found) = self.below(*child, level - 1, place)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// What [`MapReader::walk`] comes upon.
pub(crate) enum MapPart<'a> {
    /// A node that is about to be read.
    Node { id: &'a ObjectId, level: u8, first_slot: u64 },
    /// A node that could not be read: all below it is unknown.
    Unreadable { id: &'a ObjectId, level: u8, first_slot: u64, error: Error },
    /// A slot that is a chunk.
    Chunk { id: &'a ObjectId, slot: u64 },
}

fn misfit(id: &ObjectId) -> Error {
    Corrupt::new(format!("node {id}"), "it does not fit its place in the map").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::test_maps::{CHUNK, Maps, absent, chunk, numbers, random_slots};

    const HOLE: Slot = Slot::Hole;

    fn subtree(id: ObjectId, slots: u64, data_slots: u64) -> Child {
        assert!(data_slots <= slots);
        Some(Subtree { id, data_bytes: data_slots * u64::from(CHUNK), chunk_count: data_slots })
    }

    fn leaf(maps: &Maps, slots: &[Slot]) -> ObjectId {
        maps.node(&Leaf { slots: slots.to_vec() }.encode())
    }

    fn inner(maps: &Maps, level: u8, children: Vec<Child>) -> ObjectId {
        maps.node(&Inner { level, children }.encode())
    }

    /// The map of so many slots whose top node is this.
    fn open(maps: &Maps, slots: u64, top: Child) -> MapReader {
        let level = Root::level_for(slots);
        maps.open(&Root { level, size: slots * u64::from(CHUNK), chunk_size: CHUNK, top })
    }

    #[test]
    fn slots_are_found_on_both_sides_of_every_border_and_are_holes_behind_the_end() {
        let maps = Maps::new();
        let slots: Vec<Slot> =
            (0..65_800).map(|index| if index % 3 == 0 { HOLE } else { chunk(index) }).collect();
        let map = maps.map(&slots);
        let at = |index: u64| slots.get(index as usize).copied().unwrap_or(HOLE);
        for border in [1, 256, 512, 65_536, 65_792, 65_800, 66_048] {
            let range = border - 1..border + 2;
            assert_eq!(map.slots(range.clone()).unwrap(), range.clone().map(at).collect::<Vec<_>>());
            range.for_each(|index| assert_eq!(map.slot(index).unwrap(), at(index), "{index}"));
        }
        assert!(map.slots(0..66_000).unwrap() == (0..66_000).map(at).collect::<Vec<_>>());
        assert_eq!(map.slots(5..5).unwrap(), []);
        for beyond in [1 << 40, u64::MAX / 2, u64::MAX] {
            assert_eq!(map.slot(beyond).unwrap(), HOLE, "{beyond}");
        }
    }

    #[test]
    fn the_last_chunk_is_as_long_as_its_bytes() {
        let maps = Maps::new();
        let map = maps.map_of_size(2 * u64::from(CHUNK) + 7, &[chunk(0), HOLE, chunk(2)]);
        assert_eq!((0..5).map(|slot| map.chunk_len(slot)).collect::<Vec<_>>(), [CHUNK, CHUNK, 7, 0, 0]);
        assert_eq!(map.chunk_len(u64::MAX), 0);
    }

    #[test]
    fn subtrees_of_a_higher_level_or_behind_the_end_are_nothing() {
        let maps = Maps::new();
        let map = maps.map(&[chunk(0); 300]);
        assert_eq!(map.subtree(1, 0).unwrap(), map.root().top);
        assert!(map.subtree(0, 1).unwrap().is_some());
        for (level, index) in [(0, 2), (0, 256), (1, 1), (2, 0), (6, 0), (0, u64::MAX), (1, u64::MAX)] {
            assert_eq!(map.subtree(level, index).unwrap(), None, "{level} {index}");
        }
    }

    #[test]
    fn data_and_holes_are_found_over_the_borders_of_nodes() {
        let maps = Maps::new();
        let mut slots = vec![HOLE; 70_000];
        slots[250..260].fill(chunk(1));
        slots[65_535..65_537].fill(chunk(2));
        slots[69_999] = chunk(3);
        let map = maps.map(&slots);
        for (from, data, hole) in [
            (0, Some(250), Some(0)),
            (250, Some(250), Some(260)),
            (255, Some(255), Some(260)),
            (256, Some(256), Some(260)),
            (260, Some(65_535), Some(260)),
            (65_535, Some(65_535), Some(65_537)),
            (65_536, Some(65_536), Some(65_537)),
            (65_537, Some(69_999), Some(65_537)),
            (69_999, Some(69_999), None),
            (70_000, None, None),
            (u64::MAX, None, None),
        ] {
            assert_eq!(map.next(from, Sought::Data).unwrap(), data, "data from {from}");
            assert_eq!(map.next(from, Sought::Hole).unwrap(), hole, "hole from {from}");
        }
    }

    #[test]
    fn what_comes_next_is_what_the_slots_say() {
        let maps = Maps::new();
        for seed in 0..30 {
            let mut random = numbers(seed);
            let slots = random_slots(1 + random(1500) + if seed % 5 == 0 { 65_536 } else { 0 }, &mut random);
            let map = maps.map(&slots);
            for _ in 0..50 {
                let from = random(slots.len() as u64 + 2);
                let next = |hole: bool| {
                    (from..).zip(slots.iter().skip(from as usize)).find(|(_, slot)| (**slot == HOLE) == hole)
                };
                for (sought, hole) in [(Sought::Data, false), (Sought::Hole, true)] {
                    let expected = next(hole).map(|(index, _)| index);
                    assert_eq!(
                        map.next(from, sought).unwrap(),
                        expected,
                        "{sought:?} from {from}, seed {seed}"
                    );
                }
            }
        }
    }

    /// Of an image of 4 GiB only a sixteenth was ever drawn from.
    #[test]
    fn samples_come_from_all_parts_of_a_map() {
        let maps = Maps::new();
        let slots: Vec<Slot> = (0..65_536).map(chunk).collect();
        let map = maps.map(&slots);
        let mut drawn = [0; 16];
        for id in map.random_objects(800).unwrap() {
            if let Some(place) = slots.iter().position(|slot| *slot == Slot::Chunk(id)) {
                drawn[place / 4096] += 1;
            }
        }
        assert_eq!(drawn.iter().sum::<u32>(), 800);
        assert!(drawn.iter().all(|&count| count > 5), "{drawn:?}");
    }

    #[test]
    fn samples_are_chunks_and_their_leaves_as_far_as_they_can_be_read() {
        let maps = Maps::new();
        let full = leaf(&maps, &[&[HOLE; 255][..], &[chunk(7)]].concat());
        let children = vec![subtree(absent(1), 256, 10), None, subtree(full, 256, 1), None];
        let top = inner(&maps, 1, children);
        let map = open(&maps, 1024, subtree(top, 1024, 11));
        let objects = map.random_objects(100).unwrap();
        assert!(objects.len() > 20, "{}", objects.len());
        assert!(objects.chunks(2).all(|pair| pair == [full, absent(7)]));
        assert_eq!(maps.map(&[HOLE; 300]).random_objects(10).unwrap(), []);
        assert_eq!(maps.map_of_size(0, &[]).random_objects(10).unwrap(), []);
        assert_eq!(open(&maps, 768, subtree(absent(2), 768, 10)).random_objects(10).unwrap(), []);
    }

    #[test]
    fn nodes_that_are_full_are_not_read_to_find_a_hole() {
        let maps = Maps::new();
        // Whoever reads one finds that it is not as full as it says.
        let not_read = leaf(&maps, &[&[HOLE][..], &[chunk(0); 255]].concat());
        let last = leaf(&maps, &[chunk(0), HOLE]);
        let mut children = vec![subtree(not_read, 256, 256); 9];
        children.push(subtree(last, 2, 1));
        let top = inner(&maps, 1, children);
        let map = open(&maps, 9 * 256 + 2, subtree(top, 9 * 256 + 2, 9 * 256 + 1));
        assert_eq!(map.next(0, Sought::Hole).unwrap(), Some(9 * 256 + 1));
    }

    #[test]
    fn a_node_that_is_lost_counts_as_data_and_hides_nothing_behind_it() {
        let maps = Maps::new();
        let sparse = leaf(&maps, &[&[HOLE; 100][..], &[chunk(0); 156]].concat());
        let children = vec![subtree(absent(1), 256, 10), None, subtree(sparse, 256, 156)];
        let top = inner(&maps, 1, children);
        let map = open(&maps, 768, subtree(top, 768, 166));
        assert_eq!(map.next(7, Sought::Data).unwrap(), Some(7));
        assert_eq!(map.next(7, Sought::Hole).unwrap(), Some(256));
        assert_eq!(map.next(256, Sought::Data).unwrap(), Some(612));
        assert_eq!(map.next(612, Sought::Hole).unwrap(), None);
        assert!(map.slot(7).unwrap_err().is_damage());
        assert_eq!(map.slot(612).unwrap(), chunk(0));
        let all_lost = open(&maps, 768, subtree(absent(2), 768, 10));
        assert_eq!(all_lost.next(0, Sought::Data).unwrap(), Some(0));
        assert_eq!(all_lost.next(0, Sought::Hole).unwrap(), None);
    }

    #[test]
    fn nodes_that_do_not_fit_their_place_are_damage() {
        let maps = Maps::new();
        let fit = leaf(&maps, &[chunk(0); 256]);
        let full = |id| subtree(id, 256, 256);
        let below = |top: ObjectId| open(&maps, 512, subtree(top, 512, 512));
        let hostile = [
            (
                "a leaf with too few slots",
                inner(&maps, 1, vec![full(leaf(&maps, &[chunk(0); 255])), full(fit)]),
            ),
            (
                "an inner node as a leaf",
                inner(&maps, 1, vec![full(inner(&maps, 1, vec![full(fit); 2])), full(fit)]),
            ),
            ("too few children", inner(&maps, 1, vec![full(fit)])),
            ("too many children", inner(&maps, 1, vec![full(fit); 3])),
            ("another level", inner(&maps, 2, vec![full(fit); 2])),
            ("a leaf at the top", fit),
            (
                "a root at the top",
                maps.node(&Root { level: 0, size: 1, chunk_size: CHUNK, top: full(fit) }.encode()),
            ),
            ("no node", maps.node(b"nonsense")),
        ];
        for (what, top) in hostile {
            let map = below(top);
            let error = map.slots(0..512).unwrap_err();
            assert!(error.is_damage(), "{what}: {error}");
            assert!(map.slot(0).unwrap_err().is_damage(), "{what}");
            assert_eq!(map.next(0, Sought::Data).unwrap(), Some(0), "{what}");
            // What it says of itself is full.
            assert_eq!(map.next(0, Sought::Hole).unwrap(), None, "{what}");
            let mut unreadable = 0;
            map.walk(&mut |part| -> Result<bool> {
                unreadable += u32::from(matches!(part, MapPart::Unreadable { .. }));
                Ok(true)
            })
            .unwrap();
            assert_eq!(unreadable, 1, "{what}");
        }
    }

    /// Few nodes can span a map of 2^50 chunks, each standing in all places of its level. With sums that promise holes
    /// where there are none, a search for a hole once visited every place.
    #[test]
    fn a_map_that_lies_about_its_holes_is_searched_in_no_time() {
        let maps = Maps::new();
        let full = leaf(&maps, &[chunk(0); 256]);
        for bottom in [full, absent(1), leaf(&maps, &[chunk(0); 3])] {
            let mut child = Some(Subtree { id: bottom, data_bytes: 1, chunk_count: 1 });
            for level in 1..=5 {
                child = Some(Subtree {
                    id: inner(&maps, level, vec![child; 256]),
                    data_bytes: 1,
                    chunk_count: 1,
                });
            }
            let top = Some(Subtree { id: inner(&maps, 6, vec![child; 4]), data_bytes: 1, chunk_count: 1 });
            let map = open(&maps, 1 << 50, top);
            assert_eq!(map.next(5, Sought::Hole).unwrap(), None);
            assert_eq!(map.next(5, Sought::Data).unwrap(), Some(5));
        }
    }
}
