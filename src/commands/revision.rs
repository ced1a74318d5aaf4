//! From `STREAM@SPEC` to records.

use treering_engine::{Record, RecordKey, Repository, Stream, split_revision};

use super::Context;
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

/// The revisions that `STREAM[@SPEC]` means, the oldest first: without a SPEC, the latest.
pub(super) fn find_some(repository: &Repository, text: &str) -> Result<(Stream, Vec<RecordKey>), Failure> {
    let (stream, spec) = split_revision(text);
    let stream = repository.stream(stream)?;
    let keys = repository.find_revisions(&stream, spec.unwrap_or(LATEST))?;
    Ok((stream, keys))
}

/// A revision that a user named, in its repository.
pub(super) struct Opened {
    pub(super) repository: Repository,
    pub(super) named: Named,
}

/// Opens the one revision that `STREAM[@SPEC]` means, for what `during` says.
pub(super) fn open_named(
    context: &Context<'_>,
    text: &str,
    during: impl Fn(Failure) -> Failure,
) -> Result<Opened, Failure> {
    let repository = context.repository()?;
    let named = find_one(&repository, text).map_err(&during)?;
    Ok(Opened { repository, named })
}

/// The one revision of a stream that a SPEC means.
pub(super) fn find_in(repository: &Repository, stream: &str, spec: &str) -> Result<Named, Failure> {
    let stream = repository.stream(stream)?;
    let key = repository.find_revision(&stream, spec)?;
    let record = repository.record(&stream, &key)?;
    Ok(Named { stream, record })
}
