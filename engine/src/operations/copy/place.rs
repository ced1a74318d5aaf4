//! A stream's place in the target, held while revisions come to it.

use std::collections::HashSet;

use super::history::{Side, refuse_other_history};
use super::stream::StreamRun;
use crate::error::{Error, Result};
use crate::format::{RecordKey, StreamObject};
use crate::id::ObjectId;
use crate::repository::{Claimed, Repository, Stream, StreamLock};

/// Holds the session and the stream's lock.
pub(super) struct Place {
    pub(super) stream: Stream,
    pub(super) side: Side,
    /// Objects of the target of which no good copy is known there.
    pub(super) bad: HashSet<ObjectId>,
    session: Claimed,
    _lock: StreamLock,
}

impl Place {
    /// The order is that of `docs/format.md` section 4: stream, claim, lock; and nothing that was read before the claim is
    /// relied upon.
    pub(super) fn take(run: &StreamRun<'_>, source: &Side) -> Result<Self> {
        let target = run.target;
        let stream = target.stream_for_copy(&free_of_revisions(source))?;
        let purpose = format!("copy of stream '{}' from {}", source.object.name, run.source.location());
        let session = target.begin_session(&purpose, stream.id)?;
        let wait = || match run.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(run.options.wait),
        };
        let lock = target.lock_stream(stream.id, &stream.name, &session, wait)?;
        let bad = known_damage(run)?;
        let (object, keys) = (target.object_of_locked(&stream)?, target.revisions(&stream)?);
        let side = Side { object, keys, forgotten: target.forgotten_revisions(&stream)? };
        refuse_other_history(source, &side, &target.location())?;
        Ok(Self { stream, side, bad, session, _lock: lock })
    }

    /// Whether a revision is in the target with this root. From now on gc keeps what it reaches.
    pub(super) fn hold_base(&mut self, target: &Repository, key: &RecordKey, root: ObjectId) -> Result<bool> {
        self.session.hold(vec![key.id], vec![root])?;
        // Only if the record is still there, gc has seen it or sees the session (docs/format.md, section 5).
        match target.record(&self.stream, key) {
            Ok(record) => Ok(record.root() == root),
            Err(error) if error.is_loss() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What the target's own file is to say of a stream that is new there: a name that has a revision is not retired.
fn free_of_revisions(source: &Side) -> StreamObject {
    let names: HashSet<&str> = source.keys.iter().map(|key| key.name.as_str()).collect();
    let mut object = source.object.clone();
    object.retired_names.retain(|name| !names.contains(name.as_str()));
    object
}

/// The damage list; packs that are missing or condemned are noted in the index, which relies on them no more.
fn known_damage(run: &StreamRun<'_>) -> Result<HashSet<ObjectId>> {
    let missing = run.target.store().index().begin_reliance()?;
    if missing > 0 {
        let packs = if missing == 1 { "1 pack is".to_owned() } else { format!("{missing} packs are") };
        run.monitor.warn(&format!(
            "{packs} gone or truncated in {}: what only was there is sent anew",
            run.target.location()
        ));
    }
    Ok(run.target.damage()?.objects.iter().map(|object| object.id).collect())
}
