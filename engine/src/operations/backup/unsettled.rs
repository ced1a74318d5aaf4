//! When a file's times don't tell that it is unchanged.
//!
//! A file system stamps changes with the clock of its last tick. A write that falls into the same tick as the stamp we have
//! seen leaves no trace in it, so such a file must be read again next time.

use crate::format::{FileEvidence, Timestamp};

/// Longest time between two ticks of a kernel's clock, twice over.
const TICK_SECONDS: f64 = 0.02;
/// The same where a file system keeps whole seconds, or every other one as FAT does.
const WHOLE_SECONDS: f64 = 2.0;

/// The evidence to record of a file that looked like `before` and was read from `read_at` on.
pub(super) fn judge(before: FileEvidence, after: Option<&FileEvidence>, read_at: Timestamp) -> FileEvidence {
    let changed = after != Some(&before);
    let has_fractions = before.ctime.nanoseconds != 0 || before.mtime.nanoseconds != 0;
    let margin = if has_fractions { TICK_SECONDS } else { WHOLE_SECONDS };
    // A time in the future, from a clock that was set back, is never far enough in the past either.
    let too_young = read_at.seconds_since(before.ctime) < margin;
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
    fn a_file_that_changed_within_a_tick_of_the_read_is_unsettled() {
        assert!(unsettled(at(100, 500), at(100, 500)));
        assert!(unsettled(at(100, 500), at(100, 519)));
        assert!(!unsettled(at(100, 500), at(100, 521)));
        assert!(!unsettled(at(100, 500), at(200, 0)));
    }

    #[test]
    fn a_file_with_a_time_in_the_future_is_unsettled() {
        assert!(unsettled(at(200, 0), at(100, 0)));
    }

    #[test]
    fn whole_seconds_need_a_longer_time() {
        let whole = |ctime| FileEvidence { mtime: at(5, 0), ..evidence(ctime) };
        let judge_whole = |ctime, read_at| judge(whole(ctime), Some(&whole(ctime)), read_at).unsettled;
        assert!(judge_whole(at(100, 0), at(101, 900)));
        assert!(!judge_whole(at(100, 0), at(102, 100)));
    }

    #[test]
    fn a_file_that_changed_while_it_was_read_is_unsettled() {
        let before = evidence(at(100, 500));
        let after = FileEvidence { size: 2, ..before.clone() };
        assert!(judge(before.clone(), Some(&after), at(200, 0)).unsettled);
        assert!(judge(before, None, at(200, 0)).unsettled);
    }
}
