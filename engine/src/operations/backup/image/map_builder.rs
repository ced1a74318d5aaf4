//! Builds the map of a new revision from left to right, taking over whole subtrees of the base where it can.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::{Child, FAN_OUT, Inner, Leaf, Root, Slot, Subtree};
use crate::id::ObjectId;
use crate::revision::{MapReader, span_of};
use crate::store::StoreWriter;

/// A map that grows at its right end. Holds one open node of each level.
pub(super) struct MapBuilder {
    chunk_size: u32,
    /// The next slot.
    position: u64,
    leaf: Vec<Slot>,
    leaf_data_bytes: u64,
    /// `open[l]`: the complete nodes of level l that have no parent yet.
    open: Vec<Vec<Child>>,
}

impl MapBuilder {
    pub(super) fn new(chunk_size: u32) -> Self {
        Self { chunk_size, position: 0, leaf: Vec::new(), leaf_data_bytes: 0, open: Vec::new() }
    }

    /// The slot that comes next.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Appends one slot; `length` is that of its chunk.
    pub(super) fn push_slot(&mut self, slot: Slot, length: u32, writer: &mut StoreWriter<'_>) -> Result<()> {
        self.leaf.push(slot);
        self.position += 1;
        if slot != Slot::Hole {
            self.leaf_data_bytes += u64::from(length);
        }
        if self.leaf.len() as u64 == FAN_OUT {
            let leaf = self.close_leaf(writer)?;
            self.push_child(0, leaf, writer)?;
        }
        Ok(())
    }

    /// Appends holes up to the slot `end`.
    pub(super) fn push_holes(&mut self, end: u64, writer: &mut StoreWriter<'_>) -> Result<()> {
        while self.position < end {
            match self.largest_step(end, u8::MAX) {
                Some(level) => {
                    self.position += span_of(level);
                    self.push_child(level, None, writer)?;
                }
                None => self.push_slot(Slot::Hole, 0, writer)?,
            }
        }
        Ok(())
    }

    /// Appends what the base has up to the slot `end`.
    pub(super) fn push_base(
        &mut self,
        end: u64,
        base: &MapReader,
        writer: &mut StoreWriter<'_>,
    ) -> Result<()> {
        while self.position < end {
            let position = self.position;
            match self.largest_step(end, base.root().level) {
                Some(level) => {
                    let child = base.subtree(level, position / span_of(level))?;
                    self.position += span_of(level);
                    self.push_child(level, child, writer)?;
                }
                None => {
                    let leaf_end = (position / FAN_OUT + 1).saturating_mul(FAN_OUT).min(end);
                    self.push_base_slots(position..leaf_end, base, writer)?;
                }
            }
        }
        Ok(())
    }

    fn push_base_slots(
        &mut self,
        range: Range<u64>,
        base: &MapReader,
        writer: &mut StoreWriter<'_>,
    ) -> Result<()> {
        let slots = base.slots(range.clone())?;
        range.zip(slots).try_for_each(|(index, slot)| self.push_slot(slot, base.chunk_len(index), writer))
    }

    /// The highest level, up to `limit`, of a node that begins here and ends at `end` or before.
    fn largest_step(&self, end: u64, limit: u8) -> Option<u8> {
        let fits = |level: &u8| {
            let span = span_of(*level);
            span < u64::MAX && self.position.is_multiple_of(span) && end - self.position >= span
        };
        (0..=limit.min(6)).take_while(fits).last()
    }

    fn push_child(&mut self, level: u8, child: Child, writer: &mut StoreWriter<'_>) -> Result<()> {
        let place = usize::from(level);
        if self.open.len() <= place {
            self.open.resize_with(place + 1, Vec::new);
        }
        let Some(siblings) = self.open.get_mut(place) else { return Ok(()) };
        siblings.push(child);
        if siblings.len() as u64 == FAN_OUT {
            let children = std::mem::take(siblings);
            let parent = store_inner(level + 1, children, writer)?;
            self.push_child(level + 1, parent, writer)?;
        }
        Ok(())
    }

    fn close_leaf(&mut self, writer: &mut StoreWriter<'_>) -> Result<Child> {
        let leaf = Leaf { slots: std::mem::take(&mut self.leaf) };
        let data_bytes = std::mem::take(&mut self.leaf_data_bytes);
        if leaf.slots.iter().all(|slot| *slot == Slot::Hole) {
            return Ok(None);
        }
        let chunk_count = leaf.slots.iter().filter(|slot| matches!(slot, Slot::Chunk(_))).count() as u64;
        Ok(Some(Subtree { id: writer.add_node(&leaf.encode())?, data_bytes, chunk_count }))
    }

    /// Closes all open nodes and stores the root of a map of this size.
    pub(super) fn finish(mut self, size: u64, writer: &mut StoreWriter<'_>) -> Result<(ObjectId, Root)> {
        let slots = size.div_ceil(self.chunk_size.into());
        if slots != self.position {
            let reason = format!("{} of {slots} chunks were seen", self.position);
            return Err(Error::NotStorable { object: "map", reason });
        }
        if !self.leaf.is_empty() {
            let leaf = self.close_leaf(writer)?;
            self.push_child(0, leaf, writer)?;
        }
        let level = Root::level_for(slots);
        for below in 0..level {
            let children = self.open.get_mut(usize::from(below)).map(std::mem::take).unwrap_or_default();
            if !children.is_empty() {
                let parent = store_inner(below + 1, children, writer)?;
                self.push_child(below + 1, parent, writer)?;
            }
        }
        let top = self.open.get(usize::from(level)).and_then(|nodes| nodes.first().copied()).flatten();
        let root = Root { level, size, chunk_size: self.chunk_size, top };
        Ok((writer.add_node(&root.encode())?, root))
    }
}

fn store_inner(level: u8, children: Vec<Child>, writer: &mut StoreWriter<'_>) -> Result<Child> {
    if children.iter().all(Option::is_none) {
        return Ok(None);
    }
    let data_bytes = children.iter().flatten().map(|child| child.data_bytes).sum();
    let chunk_count = children.iter().flatten().map(|child| child.chunk_count).sum();
    let id = writer.add_node(&Inner { level, children }.encode())?;
    Ok(Some(Subtree { id, data_bytes, chunk_count }))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::revision::MapPart;
    use crate::revision::test_maps::{CHUNK, Maps, absent, canonical_root, chunk, numbers, random_slots};

    fn bytes(slots: usize) -> u64 {
        slots as u64 * u64::from(CHUNK)
    }

    /// Stores what `build` appends as the map of an image of this size.
    fn built(
        maps: &Maps,
        size: u64,
        build: impl FnOnce(&mut MapBuilder, &mut StoreWriter<'_>) -> Result<()>,
    ) -> MapReader {
        maps.open(&maps.write(|writer| {
            let mut builder = MapBuilder::new(CHUNK);
            build(&mut builder, writer).unwrap();
            let (id, root) = builder.finish(size, writer).unwrap();
            assert_eq!(id, writer.add_node(&root.encode()).unwrap());
            root
        }))
    }

    fn push_all(builder: &mut MapBuilder, slots: &[Slot], writer: &mut StoreWriter<'_>) -> Result<()> {
        slots.iter().try_for_each(|slot| builder.push_slot(*slot, CHUNK, writer))
    }

    /// The places of a map that have nodes, by their ids.
    fn nodes(map: &MapReader) -> Vec<ObjectId> {
        let mut nodes = Vec::new();
        map.walk(&mut |part| -> Result<bool> {
            if let MapPart::Node { id, .. } = part {
                nodes.push(*id);
            }
            Ok(true)
        })
        .unwrap();
        nodes
    }

    #[test]
    fn an_empty_image_and_one_of_holes_are_roots_alone() {
        let maps = Maps::new();
        let empty = built(&maps, 0, |_, _| Ok(()));
        assert_eq!(*empty.root(), Root { level: 0, size: 0, chunk_size: CHUNK, top: None });
        let holes = built(&maps, bytes(70_000), |builder, writer| builder.push_holes(70_000, writer));
        assert_eq!(*holes.root(), Root { level: 2, size: bytes(70_000), chunk_size: CHUNK, top: None });
        // One by one they give the same.
        let pushed = built(&maps, bytes(70_000), |builder, writer| {
            push_all(builder, &vec![Slot::Hole; 70_000], writer)
        });
        assert_eq!(pushed.root(), holes.root());
    }

    #[test]
    fn a_map_of_one_chunk_is_a_leaf_and_counts_the_bytes_that_it_has() {
        let maps = Maps::new();
        let map = built(&maps, 100, |builder, writer| builder.push_slot(chunk(7), 100, writer));
        let top = map.root().top.unwrap();
        assert_eq!((map.root().level, top.data_bytes, top.chunk_count), (0, 100, 1));
        assert_eq!(map.slots(0..2).unwrap(), [chunk(7), Slot::Hole]);
    }

    #[test]
    fn a_run_of_holes_costs_no_nodes_and_no_time() {
        let maps = Maps::new();
        let (before, behind) = (1 << 50, 1 << 51);
        let map = built(&maps, behind * u64::from(CHUNK) - 1, |builder, writer| {
            builder.push_holes(before, writer)?;
            builder.push_slot(chunk(7), CHUNK, writer)?;
            builder.push_holes(behind, writer)
        });
        assert_eq!(map.root().level, 6);
        assert_eq!(nodes(&map).len(), 7, "a path from the top to the leaf");
        assert_eq!(map.slots(before - 1..before + 2).unwrap(), [Slot::Hole, chunk(7), Slot::Hole]);
    }

    #[test]
    fn equal_spans_share_nodes() {
        let maps = Maps::new();
        let map = built(&maps, bytes(131_072), |builder, writer| {
            push_all(builder, &vec![chunk(7); 131_072], writer)
        });
        let nodes = nodes(&map);
        assert_eq!(nodes.len(), 1 + 2 + 512);
        assert_eq!(nodes.into_iter().collect::<HashSet<_>>().len(), 3, "one node of each level");
        assert_eq!(map.root().top.unwrap().chunk_count, 131_072);
    }

    #[test]
    fn whole_nodes_of_the_base_are_taken_over_unread() {
        let maps = Maps::new();
        let slots: Vec<Slot> = (0..600).map(chunk).collect();
        // Nobody can read the first leaf.
        let first = Subtree { id: absent(1), data_bytes: bytes(256), chunk_count: 256 };
        let root = maps.write(|writer| {
            let top = canonical_root(bytes(600), &slots, writer).top.unwrap();
            let whole = leaves(&slots, writer);
            let children = vec![Some(first), whole[1], whole[2]];
            let id = writer.add_node(&Inner { level: 1, children }.encode()).unwrap();
            Root { level: 1, size: bytes(600), chunk_size: CHUNK, top: Some(Subtree { id, ..top }) }
        });
        let base = maps.open(&root);
        let map = built(&maps, bytes(600), |builder, writer| {
            builder.push_base(300, &base, writer)?;
            builder.push_slot(chunk(1_000_000), CHUNK, writer)?;
            builder.push_base(600, &base, writer)
        });
        assert_eq!(map.subtree(0, 0).unwrap(), Some(first));
        assert_eq!(map.subtree(0, 2).unwrap(), base.subtree(0, 2).unwrap());
        assert_eq!(map.slots(299..302).unwrap(), [chunk(299), chunk(1_000_000), chunk(301)]);
        // A part of it must be read.
        let mut builder = MapBuilder::new(CHUNK);
        assert!(maps.write(|writer| builder.push_base(255, &base, writer)).unwrap_err().is_damage());
    }

    /// The leaves over these slots.
    fn leaves(slots: &[Slot], writer: &mut StoreWriter<'_>) -> Vec<Child> {
        let leaf = |slots: &[Slot], writer: &mut StoreWriter<'_>| {
            canonical_root(bytes(slots.len()), slots, writer).top
        };
        slots.chunks(FAN_OUT as usize).map(|slots| leaf(slots, writer)).collect()
    }

    /// Whatever pieces it came in, and whatever of it the base had: one content, one map.
    #[test]
    fn a_map_does_not_depend_on_the_way_it_was_made() {
        let maps = Maps::new();
        for seed in 0..40 {
            let mut random = numbers(seed);
            // Every fourth is three levels high, mostly because of holes.
            let high = if seed % 4 == 0 { 70_000 } else { 0 };
            let base_slots = random_slots(1 + random(900) + high, &mut random);
            let base = maps.map(&base_slots);
            let count = 1 + random(900) + random(2) * high;
            let size = count * u64::from(CHUNK) - random(u64::from(CHUNK));
            let mut slots: Vec<Slot> = Vec::new();
            let made = maps.write(|writer| {
                let mut builder = MapBuilder::new(CHUNK);
                while builder.position() < count {
                    let start = builder.position();
                    let mut end = (start + 1 + random(700)).min(count);
                    // The base may be asked for whole chunks that it has.
                    let known = (base_slots.len() as u64).min(size / u64::from(CHUNK));
                    match random(3) {
                        0 => {
                            builder.push_holes(end, writer).unwrap();
                            slots.resize(end as usize, Slot::Hole);
                        }
                        1 if start < known => {
                            end = if random(3) == 0 { known } else { end.min(known) };
                            builder.push_base(end, &base, writer).unwrap();
                            slots.extend(&base_slots[start as usize..end as usize]);
                        }
                        _ => {
                            for slot in random_slots(end - start, &mut random) {
                                let left = size - builder.position() * u64::from(CHUNK);
                                builder.push_slot(slot, left.min(CHUNK.into()) as u32, writer).unwrap();
                                slots.push(slot);
                            }
                        }
                    }
                    assert_eq!(builder.position(), slots.len() as u64);
                }
                builder.finish(size, writer).unwrap().1
            });
            let expected = maps.write(|writer| canonical_root(size, &slots, writer));
            assert_eq!(made, expected, "seed {seed}");
            assert!(maps.open(&made).slots(0..count).unwrap() == slots, "seed {seed}");
        }
    }

    #[test]
    fn a_map_of_too_few_or_too_many_slots_is_refused() {
        let maps = Maps::new();
        for size in [0, bytes(2) + 1, bytes(1)] {
            let refused = maps.write(|writer| {
                let mut builder = MapBuilder::new(CHUNK);
                push_all(&mut builder, &[chunk(1), chunk(2)], writer).unwrap();
                builder.finish(size, writer)
            });
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(&format!("2 of {} chunks", size.div_ceil(CHUNK.into()))), "{error}");
        }
    }
}
