//! What gc has under way: packs that are condemned, and packs that are gone though tables name them still.

use serde::{Deserialize, Serialize};

use super::pack::PackKind;
use super::sealed::SealedKind;
use crate::id::{ClaimId, PackId};

/// Packs of both kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackNames {
    /// Of data chunks, sorted, each once.
    data: Vec<PackId>,
    /// Of nodes and directories, likewise.
    metadata: Vec<PackId>,
}

impl PackNames {
    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.metadata.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PackId, PackKind)> {
        let data = self.data.iter().map(|pack| (*pack, PackKind::Data));
        data.chain(self.metadata.iter().map(|pack| (*pack, PackKind::Metadata)))
    }
}

impl FromIterator<(PackId, PackKind)> for PackNames {
    fn from_iter<I: IntoIterator<Item = (PackId, PackKind)>>(packs: I) -> Self {
        let mut names = Self::default();
        for (pack, kind) in packs {
            match kind {
                PackKind::Data => names.data.push(pack),
                PackKind::Metadata => names.metadata.push(pack),
            }
        }
        for packs in [&mut names.data, &mut names.metadata] {
            packs.sort_unstable();
            packs.dedup();
        }
        names
    }
}

/// Packs that no revision needs. Sessions that begin while this is there reuse nothing that lies in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condemned {
    /// The packs.
    pub(crate) packs: PackNames,
    /// The sessions that lived after the list was there: as long as one of them lives, nothing is deleted. `None` if gc
    /// did not come so far.
    pub(crate) seen: Option<Vec<ClaimId>>,
}

impl SealedKind for Condemned {
    const KIND: [u8; 4] = *b"COND";
    const NOUN: &'static str = "list of condemned packs";
}

/// Packs that were deleted. Tables may name them until they are written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    /// The packs.
    pub(crate) packs: PackNames,
}

impl SealedKind for Dropped {
    const KIND: [u8; 4] = *b"DROP";
    const NOUN: &'static str = "list of dropped packs";
}
