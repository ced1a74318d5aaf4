//! Revisions: their records, labels and SPECs, and readers of what they hold.

mod chunk_parts;
mod damaged;
mod directory_place;
mod directory_reader;
mod entry_compare;
mod file_compare;
mod file_map;
mod file_reader;
mod forest;
mod health;
mod image_reader;
mod labels;
mod map_diff;
mod map_reader;
mod needed_by;
mod noted;
mod pinned_set;
mod revision_walk;
mod small_files;
mod spec;
#[cfg(test)]
pub(crate) mod test_maps;
#[cfg(test)]
pub(crate) mod test_trees;
#[cfg(test)]
mod tests;
mod trash;
mod tree_path;
mod tree_reader;
mod tree_sample;
mod tree_set;
mod tree_walk;
mod version;
mod while_pinned;

pub(crate) use damaged::BadSearch;
pub use directory_reader::{EntryPlace, EntryRun, EntryRuns};
pub(crate) use entry_compare::{counting_metadata, same_metadata};
pub(crate) use file_compare::same_content;
pub use file_reader::{FileExtent, FileReader};
pub use forest::TreeNumbers;
pub(crate) use forest::{
    Met, SharedDirectory, TreesWalk, Variant, both_sides, differing_directories, directories_of, on_each_side,
};
pub use health::FileCount;
pub use image_reader::ImageReader;
pub(crate) use image_reader::require_size;
pub use labels::StreamLabels;
pub(crate) use map_diff::diff_maps;
pub(crate) use map_reader::{MapPart, MapReader, Sought, span_of};
pub(crate) use needed_by::NeededBy;
pub use noted::LostRecord;
pub(crate) use pinned_set::{LostRevision, PinnedSet};
pub(crate) use revision_walk::{RevisionPart, walk_revision};
pub(crate) use small_files::SmallFiles;
pub(crate) use spec::is_relative;
pub use spec::split_revision;
pub use tree_path::tidy_path;
pub(crate) use tree_path::{names_on, no_such_path};
pub use tree_reader::TreeReader;
pub(crate) use tree_set::TreeSet;
pub(crate) use tree_walk::{TreePart, walk_file};
pub(crate) use version::same_version;

use crate::backend::{Area, Key};
use crate::error::{Corrupt, Error, Result};
use crate::format::{MAX_SEALED_SIZE, Record, RecordKey, open};
use crate::repository::{Claimed, Repository, Stream};

impl Repository {
    /// The revisions of a stream in the order of their commits, the oldest first. Opens no record.
    pub fn revisions(&self, stream: &Stream) -> Result<Vec<RecordKey>> {
        self.records_in(&Area::revisions(stream.id))
    }

    /// The records of an area, the oldest first.
    fn records_in(&self, area: &Area) -> Result<Vec<RecordKey>> {
        let names = self.backend().names(area)?;
        let mut keys: Vec<RecordKey> = names.iter().filter_map(|name| RecordKey::parse(name)).collect();
        keys.sort();
        Ok(keys)
    }

    /// Reads a revision's record.
    pub fn record(&self, stream: &Stream, key: &RecordKey) -> Result<Record> {
        self.record_bytes(stream, key).map(|(record, _)| record)
    }

    /// Reads a revision's record, and gives its bytes as well.
    pub(crate) fn record_bytes(&self, stream: &Stream, key: &RecordKey) -> Result<(Record, Vec<u8>)> {
        let read = self.backend().read(&Key::record(stream.id, key), MAX_SEALED_SIZE);
        let bytes = read.map_err(|error| unless_forgotten(error, &stream.name, &key.name))?;
        let name = format!("the record of {}@{}", stream.name, key.name);
        let record: Record = open(&name, &bytes)?;
        if record.key() != *key || record.stream != stream.id {
            return Err(Corrupt::new(name, "it is the record of another revision").into());
        }
        if record.kind() != stream.kind {
            let expected = format!("its stream holds {}s, and it is none", stream.kind);
            return Err(Corrupt::new(name, expected).into());
        }
        Ok((record, bytes))
    }

    /// Creates a record, which commits its revision. The caller has the lock of the stream's history.
    ///
    /// # Errors
    /// [`Error::UncertainCommit`] if the record is there, and may not be durable.
    pub(crate) fn create_record(&self, stream: &Stream, key: &RecordKey, sealed: &[u8]) -> Result<()> {
        match self.backend().create(&Key::record(stream.id, key), sealed) {
            // Somebody has brought the very same back from the trash.
            Err(error) if is_there_already(&error) && self.record_bytes(stream, key)?.1 == sealed => {
                self.backend().sync_area(&Area::revisions(stream.id))
            }
            // Once it has its name, the record counts: nothing that it reaches is taken back.
            Err(error) if self.record(stream, key).is_ok() => Err(Error::UncertainCommit {
                revision: format!("{}@{}", stream.name, key.name),
                source: Box::new(error),
            }),
            other => other,
        }
    }

    /// The newest revision of a stream, if it has one.
    pub fn latest(&self, stream: &Stream) -> Result<Option<Record>> {
        let keys = self.revisions(stream)?;
        keys.last().map(|key| self.record(stream, key)).transpose()
    }

    /// Pins a revision, so that gc keeps what it reaches while the pin lives; `None` on a medium that takes no pin.
    ///
    /// # Errors
    /// [`Error::Forgotten`] if the revision is there no more.
    pub(crate) fn pin_revision(&self, purpose: &str, record: &Record) -> Result<Option<Claimed>> {
        let pin = self.pin(purpose, vec![record.id], vec![record.root()])?;
        if pin.is_some() {
            // Only if the record is still there, gc has seen it or sees the pin (docs/format.md, section 5).
            let opened = self.backend().open(&Key::record(record.stream, &record.key()));
            let stream = record.stream.to_string();
            opened.map_err(|error| unless_forgotten(error, &stream, &record.name))?;
        }
        Ok(pin)
    }

    /// Opens the image of a revision for reading.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] if the revision is a tree.
    pub fn open_image(&self, record: &Record) -> Result<ImageReader> {
        ImageReader::open(self, record, record.image()?)
    }

    /// Opens the tree of a revision for reading.
    ///
    /// # Errors
    /// [`Error::NotATree`] if the revision is an image.
    pub fn open_tree(&self, record: &Record) -> Result<TreeReader> {
        TreeReader::open(self, record, record.tree()?)
    }
}

fn is_there_already(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists)
}

/// The error of a record that can't be read: one that is not there was forgotten.
fn unless_forgotten(error: Error, stream: &str, name: &str) -> Error {
    match error.is_not_found() {
        true => Error::Forgotten { revision: format!("{stream}@{name}") },
        false => error,
    }
}
