//! From `STREAM@SPEC` to records.

use treering_engine::{Record, Repository, Stream, split_revision};

use crate::exit::Failure;

/// The SPEC that a missing one stands for.
const LATEST: &str = "latest";

/// One revision that a user named.
pub(super) struct Named {
    pub(super) stream: Stream,
    pub(super) record: Record,
}

impl Named {
    /// The revision as messages name it.
    pub(super) fn name(&self) -> String {
        format!("{}@{}", self.stream.name, self.record.name)
    }
}

/// The one revision that `STREAM[@SPEC]` means: without a SPEC, the latest.
pub(super) fn find_one(repository: &Repository, text: &str) -> Result<Named, Failure> {
    let (stream, spec) = split_revision(text);
    find_in(repository, stream, spec.unwrap_or(LATEST))
}

/// The one revision of a stream that a SPEC means.
pub(super) fn find_in(repository: &Repository, stream: &str, spec: &str) -> Result<Named, Failure> {
    let stream = repository.stream(stream)?;
    let key = repository.find_revision(&stream, spec)?;
    let record = repository.record(&stream, &key)?;
    Ok(Named { stream, record })
}
