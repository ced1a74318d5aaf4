//! What scrubs have verified, and when: so that the next one goes on with what was not read for longest.

use serde::{Deserialize, Serialize};

use super::sealed::SealedKind;
use super::time::Timestamp;
use crate::id::PackId;

/// When a pack was last read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerifiedPack {
    pub(crate) pack: PackId,
    /// Seconds since 1970.
    pub(crate) seconds: i64,
}

/// How the last scrub of the repository ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastScrub {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Whether it came to its end: all was read, or its time was over.
    pub is_complete: bool,
    /// Packs that it read whole.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects without an intact copy that a revision needs.
    pub bad_objects: u64,
    /// Stored files that are damaged.
    pub damaged_files: u64,
}

/// The ledger of scrubs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScrubLedger {
    pub(crate) last: Option<LastScrub>,
    /// Sorted by pack, each once.
    pub(crate) packs: Vec<VerifiedPack>,
}

impl SealedKind for ScrubLedger {
    const KIND: [u8; 4] = *b"SCRB";
    const NOUN: &'static str = "scrub ledger";
}
