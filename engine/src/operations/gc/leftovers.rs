//! Removes what killed runs have left.

use super::Gc;
use crate::backend::Area;
use crate::error::Result;

impl Gc<'_> {
    /// Removes unfinished files and claims whose makers are dead. What can't be looked at is left.
    pub(super) fn take_leftovers(&mut self) -> Result<()> {
        self.report.leftovers = self.repository.leftovers()?;
        if self.options.dry_run {
            return Ok(());
        }
        let backend = self.repository.backend();
        for area in [Area::incoming(), Area::sessions(), Area::pins()] {
            for name in backend.names(&area)? {
                let key = area.key(&name);
                if let Err(error) = backend.remove_if_dead(&key) {
                    self.monitor.warn(&format!("{key} is left as it is: {error}"));
                }
            }
        }
        Ok(())
    }
}
