//! Streams that come from another repository, and keep their ids there.

use super::{Repository, Stream};
use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::{StreamObject, seal};

impl Repository {
    /// The stream with the id of another repository's, made if need be. One that was renamed here keeps its name. A new one
    /// shows when it has its first revision, and gives no name that the other one has retired.
    ///
    /// # Errors
    /// [`Error::OtherHistory`] if another stream has the name; [`Error::LostStreamName`] if one may have it whose name is
    /// not known.
    pub(crate) fn stream_for_copy(&self, original: &StreamObject) -> Result<Stream> {
        let _lock = self.lock("streams", "the list of streams", || Ok(true))?;
        match self.stream_object(original.id) {
            Ok(known) => {
                let stream = self.take_over(known)?;
                stream.must_hold(original.kind, &format!("the stream '{}' that is copied", original.name))?;
                return Ok(stream);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        self.validate_name_for_backup(&original.name)?;
        let (named, damaged) = self.find_object(&original.name)?;
        if let Some(other) = named {
            return Err(self.other_stream(original, &other));
        }
        if !damaged.is_empty() {
            return super::StreamList { streams: Vec::new(), damaged }.find(&original.name);
        }
        let object = StreamObject { sequence_floor: 0, revisions: Vec::new(), ..original.clone() };
        self.backend().create(&Key::stream(object.id), &seal(&object)?)?;
        Ok(object.into())
    }

    fn other_stream(&self, original: &StreamObject, other: &StreamObject) -> Error {
        Error::OtherHistory {
            stream: original.name.clone(),
            target: self.location(),
            reason: format!(
                "the stream of this name there is another one, with id {} and not {}",
                other.id, original.id
            ),
            hint: "rename one of the two streams (`treering stream rename`), or copy to another repository",
        }
    }

    /// Raises the floor of a stream to that of the one that it was copied from: sequences that were given there are not
    /// given again here.
    pub(crate) fn adopt_floor(&self, stream: &Stream, floor: u64) -> Result<()> {
        let _history = self.lock_history(stream)?;
        let before = self.stream_object(stream.id)?;
        let after = StreamObject { sequence_floor: before.sequence_floor.max(floor), ..before.clone() };
        self.replace_stream_object(&before, &after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Kind, Timestamp};
    use crate::id::StreamId;
    use crate::repository::CreateOptions;

    fn original(name: &str, retired: &[&str]) -> StreamObject {
        StreamObject {
            id: StreamId::random(),
            name: name.to_owned(),
            kind: Kind::Image,
            created: Timestamp::now(),
            sequence_floor: 9,
            revisions: Vec::new(),
            retired_names: retired.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn with_repository(test: impl FnOnce(&Repository)) {
        let directory = tempfile::tempdir().unwrap();
        test(&Repository::create(directory.path(), &CreateOptions::default()).unwrap());
    }

    #[test]
    fn a_copied_stream_keeps_its_id_and_shows_with_its_first_revision() {
        with_repository(|target| {
            let original = original("vm", &["2026-11-20T10-07-51Z"]);
            let stream = target.stream_for_copy(&original).unwrap();
            assert_eq!((stream.id, stream.name.as_str()), (original.id, "vm"));
            assert_eq!(target.stream_for_copy(&original).unwrap(), stream, "again");
            assert_eq!(target.list_streams().unwrap(), super::super::StreamList::default());
            let made = target.stream_object(original.id).unwrap();
            assert_eq!(made, StreamObject { sequence_floor: 0, revisions: Vec::new(), ..original });
        });
    }

    #[test]
    fn a_stream_that_was_renamed_in_the_target_is_found_by_its_id() {
        with_repository(|target| {
            let renamed = original("vm", &[]);
            target.stream_for_copy(&StreamObject { name: "old-vm".to_owned(), ..renamed.clone() }).unwrap();
            assert_eq!(target.stream_for_copy(&renamed).unwrap().name, "old-vm");
            let other_kind = StreamObject { kind: Kind::Tree, ..renamed };
            assert!(matches!(target.stream_for_copy(&other_kind), Err(Error::WrongKind { .. })));
        });
    }

    #[test]
    fn another_stream_of_the_name_is_refused() {
        with_repository(|target| {
            target.stream_for_backup("vm", Kind::Image, "an image", false).unwrap();
            let error = target.stream_for_copy(&original("vm", &[])).unwrap_err();
            assert!(matches!(error, Error::OtherHistory { .. }), "{error}");
        });
    }

    #[test]
    fn the_floor_is_raised_and_never_lowered_and_says_of_no_revision_that_it_is_lost() {
        with_repository(|target| {
            let original = original("vm", &[]);
            let stream = target.stream_for_copy(&original).unwrap();
            for (floor, raised) in [(9, 9), (4, 9), (12, 12)] {
                target.adopt_floor(&stream, floor).unwrap();
                let object = target.stream_object(stream.id).unwrap();
                assert_eq!((object.sequence_floor, object.revisions), (raised, Vec::new()));
            }
        });
    }
}
