//! What could not be restored as it should: told at once, counted, and the first of it kept for the report.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{DamagedEntry, TreeRestoreReport};
use crate::error::Error;
use crate::monitor::Monitor;
use crate::source::tree::readable;

/// So many of each are kept for the report,
const KEPT_MAX: usize = 1_000;

/// and so many bytes of all of them: paths can be very long.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Of a longer path the end is shown, in bytes.
const SHOWN_MAX: usize = 4_096;

/// Why an entry could not be restored.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What the system said, and what was tried, as a verb.
    System { action: &'static str, errno: Errno },
    /// A reason of our own.
    Refused(&'static str),
    /// The repository could not give it, or the run has to end.
    Engine(Error),
}

/// What may fail for one entry.
pub(super) type Attempt<T> = Result<T, Trouble>;

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Trouble {
    /// Wraps what the system said; to be used as `.map_err(Trouble::of("create"))`.
    pub(super) fn of<E: Into<std::io::Error>>(action: &'static str) -> impl Fn(E) -> Self {
        move |error| {
            let errno = Errno::from_io_error(&error.into()).unwrap_or(Errno::IO);
            Self::System { action, errno }
        }
    }

    /// Whether the same will happen to everything else, so that the run ends.
    pub(super) fn ends_run(&self) -> bool {
        match self {
            Self::System { errno, .. } => matches!(
                *errno,
                Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM
            ),
            Self::Refused(_) => false,
            Self::Engine(error) => !error.is_loss(),
        }
    }
}

/// What could not be set since the user or the file system may not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    Owner,
    Attributes,
    Device,
    /// Attributes that the file system does not have: another one would.
    Unsupported,
}

/// What happened beside what was wanted. Shared by all threads.
pub(super) struct Problems<'a> {
    monitor: &'a dyn Monitor,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    problems: Vec<String>,
    problem_count: u64,
    damaged: Vec<DamagedEntry>,
    damaged_count: u64,
    differing_count: u64,
    kept_count: u64,
    skipped: [(u64, String); 4],
}

impl<'a> Problems<'a> {
    pub(super) fn new(monitor: &'a dyn Monitor) -> Self {
        Self { monitor, kept: Mutex::default() }
    }

    /// Tells what could not be restored, and why.
    pub(super) fn tell(&self, message: String) {
        self.monitor.warn(&message);
        let mut kept = self.kept();
        kept.problem_count += 1;
        let count = kept.problems.len();
        if kept.has_room(count, message.len()) {
            kept.problems.push(message);
        }
    }

    /// Tells what stays though it was to be removed. What is restored is none the worse for it.
    pub(super) fn tell_kept(&self, message: String) {
        self.tell(message);
        self.kept().kept_count += 1;
    }

    /// Tells what is not as it was written.
    pub(super) fn tell_difference(&self, message: String) {
        self.tell(message);
        self.kept().differing_count += 1;
    }

    /// Tells what has no intact copy in the repository. Without ranges it is all of it.
    pub(super) fn tell_damage(&self, path: Vec<u8>, ranges: Vec<Range<u64>>, detail: String) {
        let damaged = DamagedEntry { path, ranges, detail };
        self.monitor.warn(&damaged.to_string());
        let mut kept = self.kept();
        kept.damaged_count += 1;
        let count = kept.damaged.len();
        if kept.has_room(count, damaged.path.len() + damaged.detail.len()) {
            kept.damaged.push(damaged);
        }
    }

    /// Counts what was left out.
    pub(super) fn skip(&self, what: Skipped, path: impl FnOnce() -> String) {
        let mut kept = self.kept();
        let (count, first) = &mut kept.skipped[what as usize];
        *count += 1;
        if *count == 1 {
            *first = path();
        }
    }

    /// Whether such things were left out.
    pub(super) fn has_skipped(&self, what: Skipped) -> bool {
        self.kept().skipped[what as usize].0 > 0
    }

    /// Tells once what was left out of many, and hands all of it to the report.
    pub(super) fn finish(self, report: &mut TreeRestoreReport) {
        self.tell_unsupported();
        let kept = self.kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        let [owners, attributes, devices, _] = kept.skipped;
        let whats = [
            "owner or group could not be set (setuid and setgid bits that depend on them are left out)",
            "privileged extended attributes could not be set",
            "device nodes could not be made",
        ];
        for ((count, first), what) in [&owners, &attributes, &devices].into_iter().zip(whats) {
            if *count > 0 {
                self.monitor.warn(&format!("{what}: {count} entries, the first is {first}"));
            }
        }
        report.owners_skipped = owners.0;
        report.attributes_skipped = attributes.0;
        report.devices_skipped = devices.0;
        report.problems = kept.problems;
        report.problem_count = kept.problem_count;
        report.damaged = kept.damaged;
        report.damaged_count = kept.damaged_count;
        report.differing_count = kept.differing_count;
    }

    fn tell_unsupported(&self) {
        let (count, first) = self.kept().skipped[Skipped::Unsupported as usize].clone();
        if count > 0 {
            self.tell(format!(
                "the target's file system does not have the extended attributes (or ACLs) of {count} entries, the first is \
                 {first}"
            ));
        }
    }

    /// Whether all that is restored is right, as far as is known.
    pub(super) fn is_empty(&self) -> bool {
        let kept = self.kept();
        kept.problem_count == kept.kept_count && kept.damaged_count == 0
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn has_room(&mut self, count: usize, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        count < KEPT_MAX && self.bytes <= KEPT_BYTES_MAX
    }
}

/// A path for people, the end of it if it is very long.
pub(super) fn shown(path: &[u8]) -> String {
    match path.len().checked_sub(SHOWN_MAX) {
        None | Some(0) => readable(path).to_string(),
        Some(cut) => format!("...{}", readable(path.get(cut..).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::CollectingMonitor;

    #[test]
    fn all_is_told_and_counted_and_the_report_stays_short() {
        let monitor = CollectingMonitor::default();
        let problems = Problems::new(&monitor);
        (0..1_250).for_each(|number| problems.tell(format!("problem {number}")));
        (0..30).for_each(|_| problems.tell_damage(vec![b'x'; 100_000], Vec::new(), String::new()));
        let mut report = TreeRestoreReport::default();
        problems.finish(&mut report);
        assert_eq!((report.problems.len(), report.problem_count), (1_000, 1_250));
        assert_eq!(report.damaged_count, 30);
        assert!(report.damaged.len() < 12);
        assert_eq!(monitor.warnings().len(), 1_280);
        assert!(monitor.warnings()[1_279].len() < 5_000, "a very long path is cut");
    }

    #[test]
    fn what_many_have_in_common_is_told_once() {
        let monitor = CollectingMonitor::default();
        let problems = Problems::new(&monitor);
        (0..7).for_each(|number| problems.skip(Skipped::Owner, || format!("file-{number}")));
        problems.skip(Skipped::Device, || "dev/null".to_owned());
        let mut report = TreeRestoreReport::default();
        problems.finish(&mut report);
        assert_eq!((report.owners_skipped, report.attributes_skipped, report.devices_skipped), (7, 0, 1));
        let warnings = monitor.warnings();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("7 entries, the first is file-0"), "{warnings:?}");
        assert!(warnings[1].contains("dev/null"), "{warnings:?}");
    }

    #[test]
    fn what_would_happen_to_all_else_ends_the_run() {
        let of = |errno: Errno| Trouble::of("write")(errno).ends_run();
        assert!(of(Errno::NOSPC) && of(Errno::DQUOT) && of(Errno::ROFS) && of(Errno::MFILE));
        assert!(!of(Errno::ACCESS) && !of(Errno::NAMETOOLONG) && !of(Errno::FBIG));
        assert!(Trouble::from(Error::Cancelled).ends_run());
        assert!(!Trouble::from(Error::missing(&crate::id::ObjectId::from_bytes([1; 32]))).ends_run());
    }
}
