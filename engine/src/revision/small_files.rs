//! Every stored file that is neither a pack nor a table: what those say that can be read, and which can't.

use std::collections::HashSet;

use crate::backend::{Area, Key};
use crate::error::{Corrupt, Error, Result};
use crate::format::{Header, Kind, MAX_SEALED_SIZE, Record, RecordKey, open};
use crate::id::{RevisionId, StreamId};
use crate::repository::{LostPart, Repository, Stream};
use crate::store::{read_condemned, read_dropped_strictly};

/// What was read.
#[derive(Default)]
pub(crate) struct SmallFiles {
    /// The revisions whose records are in order.
    pub(crate) revisions: Vec<(Stream, Record)>,
    /// Files that are not what was written, and how.
    pub(crate) damaged: Vec<(Key, String)>,
    /// What is lost altogether, from the repository's directory on, and what that means.
    pub(crate) lost: Vec<(String, String)>,
    /// Whether revisions are lost or their records damaged: nobody knows what these reach.
    pub(crate) is_cut_short: bool,
}

impl SmallFiles {
    /// All that is damaged or lost, each file by its path from the repository's directory on.
    pub(crate) fn findings(&self) -> impl Iterator<Item = (String, String)> {
        let damaged = self.damaged.iter().map(|(key, reason)| (key.to_string(), reason.clone()));
        damaged.chain(self.lost.iter().cloned())
    }

    /// Notes a file that is damaged; an error that says nothing of it is returned. What is gone was removed meanwhile.
    fn note<T>(&mut self, key: Key, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.is_damage() => {
                self.damaged.push((key, error.to_string()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Repository {
    /// Reads all of them. `go_on` is asked between two whether to.
    pub(crate) fn read_small_files(&self, go_on: &dyn Fn() -> Result<()>) -> Result<SmallFiles> {
        let mut files = SmallFiles::default();
        self.read_files_at_the_top(&mut files)?;
        self.check_names(&Area::index(), |name| crate::id::TableId::parse(name).is_some(), &mut files)?;
        let list = self.list_streams()?;
        for damaged in &list.damaged {
            let reason = damaged.reason.clone();
            match damaged.lost {
                LostPart::Name => files.damaged.push((Key::stream(damaged.id), reason)),
                LostPart::Revisions => {
                    files.lost.push((damaged.file(), reason));
                    files.is_cut_short = true;
                }
            }
        }
        for stream in &list.streams {
            go_on()?;
            let lost = self.lost_revisions(stream)?;
            files.is_cut_short |= !lost.is_empty();
            self.read_records(stream, go_on, &mut files)?;
            // What lies in the place of a record and is no file was told.
            let told: HashSet<String> = files.damaged.iter().map(|(key, _)| key.to_string()).collect();
            let untold = lost.into_iter().filter(|lost| !told.contains(&lost.file));
            files.lost.extend(untold.map(|lost| (lost.file, lost.reason)));
            self.read_labels(stream, &mut files)?;
        }
        self.read_trash(go_on, &mut files)?;
        Ok(files)
    }

    fn read_files_at_the_top(&self, files: &mut SmallFiles) -> Result<()> {
        let backend = self.backend();
        files.note(Key::header(), self.read_header_again())?;
        let damage = self.damage_of_list()?;
        files.damaged.extend(damage.map(|reason| (Key::damage(), reason)));
        files.note(Key::copy_target(), self.copy_target())?;
        files.note(Key::scrub_ledger(), self.read_scrub_ledger())?;
        files.note(Key::condemned(), read_condemned(backend.as_ref()))?;
        files.note(Key::dropped(), read_dropped_strictly(backend.as_ref()))?;
        Ok(())
    }

    fn read_records(
        &self,
        stream: &Stream,
        go_on: &dyn Fn() -> Result<()>,
        files: &mut SmallFiles,
    ) -> Result<()> {
        let before = files.damaged.len();
        for key in self.revisions(stream)? {
            go_on()?;
            if let Some(record) = files.note(Key::record(stream.id, &key), self.record(stream, &key))? {
                files.revisions.push((stream.clone(), record));
            }
        }
        self.check_names(&Area::revisions(stream.id), |name| RecordKey::parse(name).is_some(), files)?;
        files.is_cut_short |= files.damaged.len() > before;
        Ok(())
    }

    fn read_labels(&self, stream: &Stream, files: &mut SmallFiles) -> Result<()> {
        let area = Area::labels(stream.id);
        for revision in self.labelled(stream)? {
            files.note(area.key(revision), self.labels(stream, revision))?;
        }
        self.check_names(&area, |name| RevisionId::parse(name).is_some(), files)
    }

    /// What was forgotten, and streams that were deleted.
    fn read_trash(&self, go_on: &dyn Fn() -> Result<()>, files: &mut SmallFiles) -> Result<()> {
        for name in self.backend().areas_below(&Area::all_trash())? {
            let Some(id) = StreamId::parse(&name) else { continue };
            let area = Area::trash(id);
            for name in self.backend().names(&area)? {
                go_on()?;
                if let Some(key) = RecordKey::parse(&name) {
                    files.note(area.key(&name), self.read_forgotten(id, &key))?;
                }
            }
            files.note(Key::deleted_stream(id), self.deleted_stream(id))?;
            let is_ours = |name: &str| name == "stream" || RecordKey::parse(name).is_some();
            self.check_names(&area, is_ours, files)?;
        }
        Ok(())
    }

    fn read_forgotten(&self, stream: StreamId, key: &RecordKey) -> Result<()> {
        self.read_record_in(&Area::trash(stream), stream, key).map(|_| ())
    }

    /// Reads a record, and looks whether it is that of its name.
    pub(super) fn read_record_in(&self, area: &Area, stream: StreamId, key: &RecordKey) -> Result<Record> {
        let file = area.key(key);
        let bytes = self.backend().read(&file, MAX_SEALED_SIZE)?;
        let record: Record = open(&file.to_string(), &bytes)?;
        match record.key() == *key && record.stream == stream {
            true => Ok(record),
            false => Err(Error::from(Corrupt::new(file.to_string(), "it is the record of another revision"))),
        }
    }

    fn read_header_again(&self) -> Result<()> {
        let header = self.backend().read(&Key::header(), MAX_SEALED_SIZE)?;
        open::<Header>("the repository header", &header).map(|_| ())
    }

    /// Reads a single one of them again. Of a record only this is asked, whether it is whole and that of its name.
    ///
    /// # Errors
    /// Damage, and that it is not there.
    pub(crate) fn read_small_file(&self, key: &Key) -> Result<()> {
        let (place, stream) = key.area.place();
        match (place, stream, key.name.as_str()) {
            ("", None, _) if *key == Key::header() => self.read_header_again(),
            ("", None, _) if *key == Key::damage() => self.read_damage().map(|_| ()),
            ("", None, _) if *key == Key::copy_target() => self.copy_target().map(|_| ()),
            ("", None, _) if *key == Key::scrub_ledger() => self.read_scrub_ledger().map(|_| ()),
            ("gc", None, _) if *key == Key::condemned() => {
                read_condemned(self.backend().as_ref()).map(|_| ())
            }
            ("gc", None, _) if *key == Key::dropped() => {
                read_dropped_strictly(self.backend().as_ref()).map(|_| ())
            }
            ("streams", None, name) => match StreamId::parse(name) {
                Some(id) => self.stream_object(id).map(|_| ()),
                None => Ok(()),
            },
            ("trash", Some(stream), "stream") => self.deleted_stream(stream).map(|_| ()),
            ("revisions" | "trash", Some(stream), name) => match RecordKey::parse(name) {
                Some(record) => self.read_record_in(&key.area, stream, &record).map(|_| ()),
                None => Ok(()),
            },
            ("labels", Some(id), name) => match RevisionId::parse(name) {
                Some(revision) => {
                    let stream = Stream { id, name: id.to_string(), kind: Kind::Image };
                    self.labels(&stream, revision).map(|_| ())
                }
                None => Ok(()),
            },
            // A table is read with its packs; here it is only known that it is no file.
            _ => self.backend().open(key).map(|_| ()),
        }
    }

    /// Notes what has the name of an object and is no file: what should lie there is lost.
    fn check_names(&self, area: &Area, is_ours: impl Fn(&str) -> bool, files: &mut SmallFiles) -> Result<()> {
        for name in self.backend().strangers(area)? {
            if is_ours(&name) && !files.damaged.iter().any(|(known, _)| *known == area.key(&name)) {
                files.damaged.push((area.key(name), "it is no regular file".to_owned()));
            }
        }
        Ok(())
    }
}
