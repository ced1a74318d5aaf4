//! The nodes above leaves, for files and directories alike: one open node of each level, cut by the rules of its kind.

use crate::error::{Error, Result};
use crate::store::StoreWriter;

/// A node that was stored, as the node above names it.
pub(super) trait Child: Sized {
    /// Whether a node of this level ends behind this child, its child number `count`, counted from 1.
    fn ends_node(&self, level: u8, count: usize) -> bool;

    /// Stores the node of this level over some children.
    fn store_parent(level: u8, children: Vec<Self>, writer: &mut StoreWriter<'_>) -> Result<Self>;
}

/// The levels of a tree of nodes that grows at its right end.
pub(super) struct Tower<C> {
    /// `open[l]`: the complete nodes of level l that have no parent yet.
    open: Vec<Vec<C>>,
}

impl<C> Default for Tower<C> {
    fn default() -> Self {
        Self { open: Vec::new() }
    }
}

impl<C: Child> Tower<C> {
    /// Whether there is no leaf yet.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Appends a leaf that was stored.
    pub(super) fn push_leaf(&mut self, leaf: C, writer: &mut StoreWriter<'_>) -> Result<()> {
        let (mut level, mut child) = (0, leaf);
        while let Some(parent) = self.push(level, child, writer)? {
            (level, child) = (level + 1, parent);
        }
        Ok(())
    }

    /// Appends a node; the one above it, if that is complete now.
    fn push(&mut self, level: u8, child: C, writer: &mut StoreWriter<'_>) -> Result<Option<C>> {
        let above = level.checked_add(1).ok_or_else(too_high)?;
        let place = usize::from(level);
        if self.open.len() <= place {
            self.open.resize_with(place + 1, Vec::new);
        }
        let Some(siblings) = self.open.get_mut(place) else { return Ok(None) };
        let ends = child.ends_node(above, siblings.len() + 1);
        siblings.push(child);
        ends.then(|| C::store_parent(above, std::mem::take(siblings), writer)).transpose()
    }

    /// Closes all open nodes: the top and its level, or `None` if there was no leaf.
    pub(super) fn finish(mut self, writer: &mut StoreWriter<'_>) -> Result<Option<(u8, C)>> {
        let mut level = 0;
        while let Some(siblings) = self.open.get_mut(usize::from(level)).map(std::mem::take) {
            let is_highest = self.open.iter().skip(usize::from(level) + 1).all(Vec::is_empty);
            if is_highest && siblings.len() <= 1 {
                return Ok(siblings.into_iter().next().map(|top| (level, top)));
            }
            if !siblings.is_empty() {
                let above = level.checked_add(1).ok_or_else(too_high)?;
                let mut parent = Some(C::store_parent(above, siblings, writer)?);
                let mut place = above;
                while let Some(child) = parent.take() {
                    parent = self.push(place, child, writer)?;
                    place = place.checked_add(1).ok_or_else(too_high)?;
                }
            }
            level = level.checked_add(1).ok_or_else(too_high)?;
        }
        Ok(None)
    }
}

fn too_high() -> Error {
    Error::NotStorable { object: "tree of nodes", reason: "it has too many levels".to_owned() }
}
