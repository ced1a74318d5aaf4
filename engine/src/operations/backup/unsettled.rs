//! When a file's times don't tell that it is unchanged.
//!
//! Linux sets the times of a file once, when a `write(2)` begins, and on many file systems a reader does not wait for its end:
//! what such a call writes after the file was read leaves no other times. Neither does a write within the same tick of the
//! file system's clock. So a file that was read too soon after its last change must be read again next time.

use crate::format::{FileEvidence, Timestamp};

/// How long a `write(2)` may take, in seconds. It covers the clocks of most file systems, too, which count in some milliseconds.
const MARGIN: f64 = 2.0;
/// What is added where the clock may count in whole seconds.
const WHOLE_SECOND: f64 = 1.0;

/// The evidence to record of a file that looked like `before` at `begin` and was read after that. What is written back first
/// is written back after `begin`, too: it may take long, and so may the calls that write meanwhile.
pub(super) fn judge(before: FileEvidence, after: Option<&FileEvidence>, begin: Timestamp) -> FileEvidence {
    let changed = after != Some(&before);
    let margin = if before.ctime.nanoseconds == 0 { MARGIN + WHOLE_SECOND } else { MARGIN };
    // A time in the future, from a clock that was set back, is never far enough in the past either.
    let too_young = begin.seconds_since(before.ctime) < margin;
    FileEvidence { unsettled: before.unsettled || changed || too_young, ..before }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, milliseconds: u32) -> Timestamp {
        Timestamp { seconds, nanoseconds: milliseconds * 1_000_000 }
    }

    fn evidence(ctime: Timestamp) -> FileEvidence {
        FileEvidence { size: 1, mtime: at(5, 1), ctime, inode: 2, unsettled: false }
    }

    fn unsettled(ctime: Timestamp, read_at: Timestamp) -> bool {
        let before = evidence(ctime);
        judge(before.clone(), Some(&before), read_at).unsettled
    }

    #[test]
    fn a_file_that_changed_while_a_write_may_last_before_the_read_is_unsettled() {
        assert!(unsettled(at(100, 500), at(100, 500)));
        assert!(unsettled(at(100, 500), at(102, 499)));
        assert!(!unsettled(at(100, 500), at(102, 501)));
        assert!(!unsettled(at(100, 500), at(200, 0)));
        // Any time from 100.0 to 101.0 may be meant.
        assert!(unsettled(at(100, 0), at(102, 999)));
        assert!(!unsettled(at(100, 0), at(103, 1)));
    }

    #[test]
    fn a_file_with_a_time_in_the_future_is_unsettled() {
        assert!(unsettled(at(200, 0), at(100, 0)));
    }

    #[test]
    fn a_file_that_changed_while_it_was_read_is_unsettled() {
        let before = evidence(at(100, 500));
        let after = FileEvidence { size: 2, ..before.clone() };
        assert!(judge(before.clone(), Some(&after), at(200, 0)).unsettled);
        assert!(judge(before, None, at(200, 0)).unsettled);
    }
}
