//! Looks at revisions one after another, beside forgetting and gc.

use crate::error::Result;
use crate::format::Record;
use crate::repository::{Repository, Stream};

impl Repository {
    /// Looks at a revision while it is pinned, so that gc keeps what it reaches; not if it was forgotten meanwhile.
    pub(crate) fn while_pinned(
        &self,
        purpose: &str,
        (stream, record): (&Stream, &Record),
        look: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match self.pin_revision(purpose, record) {
            Err(error) if error.is_not_found() && self.is_forgotten(stream, record)? => Ok(()),
            pin => {
                let _pin = pin?;
                look()
            }
        }
    }

    /// Whether a revision is gone, as against the medium that it lay on, which can't be listed then.
    pub(crate) fn is_forgotten(&self, stream: &Stream, record: &Record) -> Result<bool> {
        Ok(self.revisions(stream)?.iter().all(|key| key.id != record.id))
    }
}
