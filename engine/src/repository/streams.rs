//! Streams: named histories of one source each.

use std::collections::BTreeSet;

use super::Repository;
use crate::backend::{Area, Key};
use crate::error::{Corrupt, Error, Result};
use crate::format::{
    Kind, MAX_SEALED_SIZE, NotedRevision, Record, RecordKey, StreamObject, Timestamp, open, seal,
};
use crate::id::StreamId;

/// A stream of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its id, whatever it is called.
    pub id: StreamId,
    /// What users call it.
    pub name: String,
    /// What its revisions are.
    pub kind: Kind,
}

/// The streams of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamList {
    /// All that have or had a revision, sorted by name. One whose own file is lost or damaged is here if it has revisions,
    /// under its id in place of its name: all that it holds can be read. One whose revisions are lost is here as well.
    pub streams: Vec<Stream>,
    /// Those of which something is lost or damaged.
    pub damaged: Vec<DamagedStream>,
}

/// A stream that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedStream {
    /// The stream.
    pub id: StreamId,
    /// What of it is lost.
    pub lost: LostPart,
    /// What is wrong.
    pub reason: String,
}

/// What a damaged stream has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostPart {
    /// Its own file, which holds its name.
    Name,
    /// All its revisions.
    Revisions,
}

impl DamagedStream {
    /// What is lost, from the repository's directory on.
    pub fn file(&self) -> String {
        match self.lost {
            LostPart::Name => Key::stream(self.id).to_string(),
            LostPart::Revisions => Area::revisions(self.id).path().to_owned(),
        }
    }

    fn has_lost_its_name(&self) -> bool {
        self.lost == LostPart::Name
    }
}

impl StreamList {
    /// The stream of this name.
    ///
    /// # Errors
    /// [`Error::NoSuchStream`] with the names that there are; [`Error::LostStreamName`] if a damaged one may be meant;
    /// [`Error::Corrupt`] if its revisions are lost.
    pub fn find(&self, name: &str) -> Result<Stream> {
        if let Some(stream) = self.streams.iter().find(|stream| stream.name == name) {
            let own = self.damaged.iter().find(|damaged| damaged.id == stream.id);
            return match own.filter(|damaged| damaged.lost == LostPart::Revisions) {
                Some(damaged) => Err(Corrupt::new(damaged.file(), &damaged.reason).into()),
                None => Ok(stream.clone()),
            };
        }
        let nameless = self.damaged.iter().filter(|damaged| damaged.has_lost_its_name());
        let files: Vec<String> = nameless.map(DamagedStream::file).collect();
        if files.is_empty() {
            let streams = self.streams.iter().map(|stream| stream.name.clone()).collect();
            return Err(Error::NoSuchStream { name: name.to_owned(), streams });
        }
        Err(Error::LostStreamName { name: name.to_owned(), files })
    }
}

impl From<StreamObject> for Stream {
    fn from(object: StreamObject) -> Self {
        Self { id: object.id, name: object.name, kind: object.kind }
    }
}

impl Stream {
    /// Refuses a stream of the other kind; `object` names what it should hold.
    pub(crate) fn must_hold(&self, kind: Kind, object: &str) -> Result<()> {
        if self.kind == kind {
            return Ok(());
        }
        Err(Error::WrongKind {
            stream: self.name.clone(),
            stream_kind: self.kind.as_str(),
            object: object.to_owned(),
        })
    }
}

/// Refuses a stream name that breaks the rule.
pub fn validate_stream_name(name: &str) -> Result<()> {
    validate("stream name", name)
}

/// Refuses a tag that breaks the rule, which is that of streams.
pub fn validate_label(name: &str) -> Result<()> {
    validate("tag", name)
}

fn validate(what: &'static str, name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && name.len() <= 128 && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::BadName {
        what,
        name: name.to_owned(),
        rule: "it begins with a letter or digit, goes on with these and '.', '_', '-', and has at most 128 characters",
    })
}

impl Repository {
    /// All streams that have or had a revision, sorted by name; see [`StreamList::streams`].
    pub fn streams(&self) -> Result<Vec<Stream>> {
        self.list_streams().map(|list| list.streams)
    }

    /// All streams that have or had a revision, and what is wrong with those that are damaged.
    pub fn list_streams(&self) -> Result<StreamList> {
        let (objects, damaged) = self.stream_objects()?;
        let mut list = StreamList { streams: Vec::with_capacity(objects.len()), damaged };
        for &DamagedStream { id, .. } in &list.damaged {
            if self.has_revisions(id)? {
                let kind = self.kind_of_revisions(id)?;
                list.streams.push(Stream { id, name: id.to_string(), kind });
            }
        }
        for object in objects {
            let has_revisions = self.has_revisions(object.id)?;
            if !has_revisions && self.has_lost_revisions(&object)? {
                let reason = format!("the revisions of stream '{}' are lost", object.name);
                list.damaged.push(DamagedStream { id: object.id, lost: LostPart::Revisions, reason });
            }
            if has_revisions || object.sequence_floor > 0 {
                list.streams.push(object.into());
            }
        }
        list.streams.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(list)
    }

    /// Whether a stream has a revision. One that never had any is what a first backup leaves that failed: the next backup
    /// takes it, and to all others it is not there.
    fn has_revisions(&self, id: StreamId) -> Result<bool> {
        self.backend().holds(&Area::revisions(id), &|name| RecordKey::parse(name).is_some())
    }

    /// What the revisions of a stream are whose own file does not say it: what the newest record says that can be read, or
    /// else the newest one in the trash. Where none can be, nothing of the stream can, and it does not matter.
    fn kind_of_revisions(&self, id: StreamId) -> Result<Kind> {
        for area in [Area::revisions(id), Area::trash(id)] {
            let mut keys = self.backend().names(&area)?;
            keys.sort();
            for key in keys.iter().rev().filter_map(|name| RecordKey::parse(name)) {
                let record = self.backend().read(&area.key(&key), MAX_SEALED_SIZE);
                match record.and_then(|bytes| open::<Record>("a record", &bytes)) {
                    Ok(record) if record.key() == key && record.stream == id => return Ok(record.kind()),
                    Ok(_) => {}
                    Err(error) if error.is_loss() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Kind::Image)
    }

    /// Makes the object of a stream anew from its records, if its own can't be read; the stream has its id for a name then.
    /// `set_aside` takes away what is there. Says whether the stream has any records to be made anew for.
    pub(crate) fn renew_stream_object(
        &self,
        id: StreamId,
        set_aside: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let stream = Stream { id, name: id.to_string(), kind: self.kind_of_revisions(id)? };
        let _streams = self.lock("streams", "the list of streams", || Ok(true))?;
        let _history = self.lock_history(&stream)?;
        match self.stream_object(id) {
            Ok(_) => return Ok(true),
            Err(error) if error.is_loss() && !error.is_of_medium() => set_aside()?,
            Err(error) => return Err(error),
        }
        let object = self.stream_object_of_records(&stream)?;
        let has_records = object.sequence_floor > 0;
        if has_records {
            self.backend().put(&Key::stream(id), &seal(&object)?)?;
        }
        Ok(has_records)
    }

    /// Whether a stream without revisions had some that were not forgotten.
    fn has_lost_revisions(&self, object: &StreamObject) -> Result<bool> {
        // Read again, after the revisions were listed: they may be forgotten by now.
        let is_lost = !object.revisions.is_empty() && !self.stream_object(object.id)?.revisions.is_empty();
        Ok(is_lost && !self.has_revisions(object.id)?)
    }

    /// Changes a stream's object, if there is anything to change. The caller has the stream's history locked.
    pub(crate) fn replace_stream_object(&self, before: &StreamObject, after: &StreamObject) -> Result<()> {
        match before == after {
            true => Ok(()),
            false => self.backend().put(&Key::stream(after.id), &seal(after)?),
        }
    }

    /// Renames a stream.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::NameTaken`] if another stream has the name.
    pub fn rename_stream(&self, stream: &Stream, name: &str) -> Result<()> {
        self.validate_name_for_backup(name)?;
        let _streams = self.lock("streams", "the list of streams", || Ok(true))?;
        self.require_free_name(name, stream.id)?;
        let _history = self.lock_history(stream)?;
        let object = match self.stream_object(stream.id) {
            Err(error) if error.is_loss() && !error.is_of_medium() => {
                self.stream_object_of_records(stream)?
            }
            object => object?,
        };
        self.backend().put(&Key::stream(stream.id), &seal(&StreamObject { name: name.to_owned(), ..object })?)
    }

    /// What can be said of a stream whose own file is lost.
    fn stream_object_of_records(&self, stream: &Stream) -> Result<StreamObject> {
        let names_in = |area: Area| -> Result<Vec<RecordKey>> {
            Ok(self.backend().names(&area)?.iter().filter_map(|name| RecordKey::parse(name)).collect())
        };
        let (there, forgotten) = (names_in(Area::revisions(stream.id))?, names_in(Area::trash(stream.id))?);
        if !there.is_empty() {
            // What is named is durable: who made it may have been killed before that.
            self.backend().sync_area(&Area::revisions(stream.id))?;
        }
        let highest = |keys: &[RecordKey]| keys.iter().map(|key| key.sequence).max().unwrap_or(0);
        Ok(StreamObject {
            id: stream.id,
            name: stream.name.clone(),
            kind: stream.kind,
            created: Timestamp::now(),
            sequence_floor: highest(&there).max(highest(&forgotten)),
            revisions: there.iter().map(NotedRevision::without_labels).collect(),
            retired_names: forgotten.into_iter().map(|key| key.name).collect(),
        })
    }

    /// Refuses a name that another stream has. The caller has the list of streams locked.
    pub(crate) fn require_free_name(&self, name: &str, own: StreamId) -> Result<()> {
        match self.find_object(name)?.0 {
            Some(other) if other.id != own => Err(Error::NameTaken { name: name.to_owned() }),
            _ => Ok(()),
        }
    }

    /// The ids of all streams. They are looked for in `revisions/` as well: a file that is lost must not hide what its
    /// stream holds. And there last: whose file is replaced while it is listed (assumption 7 of `docs/format.md`) has a
    /// revision by then.
    fn stream_ids(&self) -> Result<BTreeSet<StreamId>> {
        let mut names = self.backend().names(&Area::streams())?;
        names.extend(self.backend().areas_below(&Area::all_revisions())?);
        Ok(names.iter().filter_map(|name| StreamId::parse(name)).collect())
    }

    /// All streams, used or not, and those whose own files can't be read.
    fn stream_objects(&self) -> Result<(Vec<StreamObject>, Vec<DamagedStream>)> {
        let (mut objects, mut damaged) = (Vec::new(), Vec::new());
        for id in self.stream_ids()? {
            let reason = match self.stream_object(id) {
                Ok(object) => {
                    objects.push(object);
                    continue;
                }
                Err(error) if error.is_not_found() && !self.has_revisions(id)? => continue,
                Err(error) if error.is_not_found() => {
                    format!("stream {id} has revisions, but its own file is missing")
                }
                Err(error) if error.is_damage() => error.to_string(),
                Err(error) => return Err(error),
            };
            damaged.push(DamagedStream { id, lost: LostPart::Name, reason });
        }
        Ok((objects, damaged))
    }

    /// The stream of this name.
    ///
    /// # Errors
    /// Those of [`StreamList::find`].
    pub fn stream(&self, name: &str) -> Result<Stream> {
        self.list_streams()?.find(name)
    }

    /// Refuses to back up to a name that breaks the rule, or that a stream has instead of its own when that is lost.
    pub(crate) fn validate_name_for_backup(&self, name: &str) -> Result<()> {
        validate_stream_name(name)?;
        if let Some(id) = StreamId::parse(name)
            && self.stream_ids()?.contains(&id)
        {
            return Err(Error::BadName {
                what: "stream name",
                name: name.to_owned(),
                rule: "it is the id of a stream, which is found by it when its name is lost",
            });
        }
        Ok(())
    }

    /// The stream of this name, made if need be. It shows when it has its first revision. While the names of damaged
    /// streams are not known, one of them may be it: a new one is made then only if it `is_new` for sure.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if it holds something else; `object` names what it should hold.
    pub(crate) fn stream_for_backup(
        &self,
        name: &str,
        kind: Kind,
        object: &str,
        is_new: bool,
    ) -> Result<Stream> {
        self.validate_name_for_backup(name)?;
        let stream = match self.find_object(name)? {
            (Some(known), _) => self.take_over(known)?,
            (None, _) => self.create_stream(name, kind, is_new)?,
        };
        stream.must_hold(kind, object)?;
        Ok(stream)
    }

    /// A stream that was found. Who made one that was never used may have been killed before its name was durable: a power
    /// cut must not take it while the first revision stands.
    pub(super) fn take_over(&self, object: StreamObject) -> Result<Stream> {
        if object.sequence_floor == 0 {
            self.backend().sync_area(&Area::streams())?;
        }
        Ok(object.into())
    }

    /// Makes a stream, unless another process has made it meanwhile.
    fn create_stream(&self, name: &str, kind: Kind, is_new: bool) -> Result<Stream> {
        let _lock = self.lock("streams", "the list of streams", || Ok(true))?;
        match self.find_object(name)? {
            (Some(known), _) => return self.take_over(known),
            // A second stream of its name would split the history.
            (None, damaged) if !damaged.is_empty() && !is_new => {
                return StreamList { streams: Vec::new(), damaged }.find(name);
            }
            (None, _) => {}
        }
        let object = StreamObject {
            id: StreamId::random(),
            name: name.to_owned(),
            kind,
            created: Timestamp::now(),
            sequence_floor: 0,
            revisions: Vec::new(),
            retired_names: Vec::new(),
        };
        self.backend().create(&Key::stream(object.id), &seal(&object)?)?;
        Ok(object.into())
    }

    /// The stream of this name, used or not, and those that can't be read.
    pub(super) fn find_object(&self, name: &str) -> Result<(Option<StreamObject>, Vec<DamagedStream>)> {
        let (objects, damaged) = self.stream_objects()?;
        Ok((objects.into_iter().find(|object| object.name == name), damaged))
    }

    /// The object of a stream that was waited for.
    ///
    /// # Errors
    /// [`Error::NoSuchStream`] if it was deleted meanwhile.
    pub(crate) fn object_of_locked(&self, stream: &Stream) -> Result<StreamObject> {
        match self.stream_object(stream.id) {
            Err(error) if error.is_not_found() => {
                let streams = self.streams()?.into_iter().map(|stream| stream.name).collect();
                Err(Error::NoSuchStream { name: stream.name.clone(), streams })
            }
            other => other,
        }
    }

    pub(crate) fn stream_object(&self, id: StreamId) -> Result<StreamObject> {
        let bytes = self.backend().read(&Key::stream(id), MAX_SEALED_SIZE)?;
        let object: StreamObject = open(&format!("stream {id}"), &bytes)?;
        if object.id == id && validate_stream_name(&object.name).is_ok() {
            return Ok(object);
        }
        Err(Corrupt::new(format!("stream {id}"), "it holds another stream, or a bad name").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::CreateOptions;

    /// A backup was killed before its new stream's name was durable; then, while the next one committed, the power failed,
    /// and the revision's stream had lost its name.
    #[test]
    fn a_stream_that_another_left_unused_is_durable_before_it_is_used() {
        use crate::backend::LocalBackend;
        use crate::backend::recording::{Call, RecordingDisk};
        with_stream(|repository, id| {
            let directory = repository.directory().unwrap();
            let disk = RecordingDisk::new(&directory);
            let backend = LocalBackend::on_disk(directory, std::sync::Arc::new(disk.clone()));
            let repository = Repository::open_backend(std::sync::Arc::new(backend), 0).unwrap();
            let take = || repository.stream_for_backup("vm", Kind::Image, "an image", false).unwrap();
            assert_eq!(take().id, id);
            assert!(disk.take().contains(&Call::SyncDirectory("streams".into())));
            note(&repository, id, &[1]);
            disk.take();
            take();
            assert_eq!(disk.take(), [], "one that was used was durable then");
        });
    }

    fn with_stream(test: impl FnOnce(&Repository, StreamId)) {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::create(directory.path(), &CreateOptions::default()).unwrap();
        let stream = repository.stream_for_backup("vm", Kind::Image, "an image", false).unwrap();
        test(&repository, stream.id);
    }

    /// Notes that a stream has these revisions and no others.
    fn note(repository: &Repository, id: StreamId, sequences: &[u64]) {
        let object = repository.stream_object(id).unwrap();
        let noted = |&sequence: &u64| NotedRevision {
            sequence,
            id: crate::id::RevisionId::random(),
            name: format!("2026-11-20T10-00-{sequence:02}Z"),
            has_labels: false,
        };
        let revisions = sequences.iter().map(noted).collect();
        let after = StreamObject { sequence_floor: 1, revisions, ..object.clone() };
        repository.replace_stream_object(&object, &after).unwrap();
    }

    fn lost_parts(repository: &Repository) -> Vec<LostPart> {
        repository.list_streams().unwrap().damaged.iter().map(|damaged| damaged.lost).collect()
    }

    #[test]
    fn revisions_that_are_lost_are_told_from_those_that_never_were_or_were_forgotten() {
        with_stream(|repository, id| {
            assert_eq!(repository.list_streams().unwrap(), StreamList::default());
            note(repository, id, &[1]);
            assert_eq!(lost_parts(repository), [LostPart::Revisions]);
            assert!(repository.stream("vm").unwrap_err().is_damage());
            repository.backend().create_areas(&[Area::revisions(id)]).unwrap();
            assert_eq!(lost_parts(repository), [LostPart::Revisions]);
            note(repository, id, &[]);
            assert_eq!(lost_parts(repository), []);
            assert_eq!(repository.stream("vm").unwrap().id, id);
        });
    }

    #[test]
    fn no_stream_is_named_like_the_id_of_another() {
        with_stream(|repository, id| {
            let other = StreamId::random().to_string();
            repository.validate_name_for_backup(&other).unwrap();
            for is_new in [false, true] {
                let made = repository.stream_for_backup(&id.to_string(), Kind::Image, "an image", is_new);
                assert!(matches!(made, Err(Error::BadName { .. })));
            }
        });
    }
}
