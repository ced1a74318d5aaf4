//! What went wrong with entries of the source: told at once, counted, and the first of them kept for the record.

use crate::monitor::Monitor;

/// So many are kept for the record,
const KEPT_MAX: usize = 1_000;

/// and so many bytes of them: paths can be very long.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// The problems of a run.
pub(super) struct Problems<'a> {
    monitor: &'a dyn Monitor,
    kept: Vec<String>,
    kept_bytes: usize,
    count: u64,
}

impl<'a> Problems<'a> {
    pub(super) fn new(monitor: &'a dyn Monitor) -> Self {
        Self { monitor, kept: Vec::new(), kept_bytes: 0, count: 0 }
    }

    /// Tells of a problem.
    pub(super) fn tell(&mut self, message: String) {
        self.monitor.warn(&message);
        self.count += 1;
        self.kept_bytes = self.kept_bytes.saturating_add(message.len());
        if self.kept.len() < KEPT_MAX && self.kept_bytes <= KEPT_BYTES_MAX {
            self.kept.push(message);
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What the record says of them.
    pub(super) fn into_warnings(mut self) -> Vec<String> {
        let more = self.count - self.kept.len() as u64;
        if more > 0 {
            self.kept.push(format!("and {more} more entries that could not be read as they should"));
        }
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::CollectingMonitor;

    #[test]
    fn all_are_told_and_the_record_has_the_first_thousand_and_a_count_of_the_rest() {
        let monitor = CollectingMonitor::default();
        let mut problems = Problems::new(&monitor);
        (0..1_250).for_each(|number| problems.tell(format!("problem {number}")));
        assert_eq!((problems.count(), monitor.warnings().len()), (1_250, 1_250));
        let warnings = problems.into_warnings();
        assert_eq!((warnings.len(), warnings[999].as_str()), (1_001, "problem 999"));
        assert!(warnings[1_000].contains("250 more"), "{}", warnings[1_000]);
    }

    #[test]
    fn a_few_with_very_long_paths_do_not_make_the_record_too_long() {
        let monitor = CollectingMonitor::default();
        let mut problems = Problems::new(&monitor);
        (0..100).for_each(|_| problems.tell("x".repeat(100_000)));
        let bytes: usize = problems.into_warnings().iter().map(String::len).sum();
        assert!(bytes < KEPT_BYTES_MAX + 100);
    }
}
