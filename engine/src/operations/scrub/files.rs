//! Reads every stored file that is not a pack.

use super::{Findings, Scrub};
use crate::error::Result;
use crate::format::Record;
use crate::repository::Stream;

impl Scrub<'_> {
    /// Reads everything that is not a pack. Returns the revisions whose records are in order.
    pub(super) fn check_files(&self, findings: &mut Findings) -> Result<Vec<(Stream, Record)>> {
        let files = self.repository.read_small_files(&|| self.go_on())?;
        findings.damaged_files.extend(files.findings());
        findings.is_cut_short |= files.is_cut_short;
        let index = self.repository.store().index();
        findings.damaged_files.extend(index.verify_tables(u64::MAX, |_| self.go_on())?);
        Ok(files.revisions)
    }
}
