//! Copy: revisions of one repository to another one, which becomes, or stays, a full repository of its own.
//!
//! Records go byte for byte, so ids, names and sequences are the same on both sides; objects go as they are stored where
//! both repositories compress alike. Each is verified before it is stored, and a revision is committed when all that it
//! reaches is durable there, as a backup's is (`docs/format.md`, section 4).

mod commit;
mod history;
mod place;
mod reach;
mod report;
mod stream;
#[cfg(test)]
mod tests;
mod transfer;

pub use report::{CopyOutcome, CopyReport, RevisionCopy, Sent, StreamCopy, UnfinishedCopy};

use crate::error::{Error, Result};
use crate::format::RecordKey;
use crate::monitor::Monitor;
use crate::repository::{Repository, Stream};

/// What of a stream is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    /// The stream.
    pub stream: Stream,
    /// All its revisions, but for those that were forgotten in the target.
    pub whole: bool,
    /// Revisions that are copied also if they were forgotten there.
    pub named: Vec<RecordKey>,
}

/// How to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Wait for who writes to a stream of the target instead of refusing that stream.
    pub wait: bool,
}

/// Copies revisions of streams. What goes wrong with one stream or revision is in the report, and the others are copied.
///
/// # Errors
/// [`Error::SameRepository`], [`Error::Cancelled`], and what concerns the target as a whole, such as a full disk. Revisions
/// that were committed before stay, and what was stored is used by the next run.
pub fn copy(
    source: &Repository,
    target: &Repository,
    requests: &[CopyRequest],
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<CopyReport, Box<UnfinishedCopy>> {
    refuse_same(source, target)?;
    let mut report = CopyReport::default();
    for request in requests {
        let mut copied = StreamCopy::new(&request.stream);
        let run = stream::StreamRun { source, target, request, options, monitor };
        let result = run.copy(&mut copied);
        copied.revisions.sort_by(|a, b| a.key.cmp(&b.key));
        let ended = match result {
            Err(error) if is_of_the_stream(&error) => {
                copied.error = Some(error);
                Ok(())
            }
            result => result,
        };
        report.streams.push(copied);
        if let Err(error) = ended {
            return Err(Box::new(UnfinishedCopy { error, report }));
        }
    }
    Ok(report)
}

/// Refuses to copy a repository to itself.
///
/// # Errors
/// [`Error::SameRepository`] also for a copy of its files, which has the same id: what either of them stores from now on,
/// the other one does not know of.
pub fn refuse_same(source: &Repository, target: &Repository) -> Result<()> {
    match source.header().id == target.header().id {
        true => Err(Error::SameRepository { path: target.location() }),
        false => Ok(()),
    }
}

/// Whether an error says nothing of other streams.
fn is_of_the_stream(error: &Error) -> bool {
    let refused = matches!(
        error,
        Error::OtherHistory { .. }
            | Error::WrongKind { .. }
            | Error::NoSuchStream { .. }
            | Error::BadName { .. }
            | Error::NotStorable { .. }
            | Error::Busy { .. }
    );
    refused || error.is_damage()
}
