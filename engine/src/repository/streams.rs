//! Streams: named histories of one source each.

use std::collections::BTreeSet;

use super::Repository;
use crate::backend::{Area, Key};
use crate::error::{Error, Result};
use crate::format::{Kind, MAX_SEALED_SIZE, RecordKey, StreamObject, Timestamp, open, seal};
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
    /// under its id in place of its name: all that it holds can be read.
    pub streams: Vec<Stream>,
    /// Those whose own files are lost or damaged.
    pub damaged: Vec<DamagedStream>,
}

/// A stream whose own file, which holds its name, can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedStream {
    /// The stream.
    pub id: StreamId,
    /// What is wrong with its file.
    pub reason: String,
}

impl DamagedStream {
    /// The stream's file, from the repository's directory on.
    pub fn file(&self) -> String {
        Key::stream(self.id).to_string()
    }
}

impl StreamList {
    /// The stream of this name.
    ///
    /// # Errors
    /// [`Error::NoSuchStream`] with the names that there are; [`Error::LostStreamName`] if a damaged one may be meant.
    pub fn find(&self, name: &str) -> Result<Stream> {
        if let Some(stream) = self.streams.iter().find(|stream| stream.name == name) {
            return Ok(stream.clone());
        }
        if self.damaged.is_empty() {
            let streams = self.streams.iter().map(|stream| stream.name.clone()).collect();
            return Err(Error::NoSuchStream { name: name.to_owned(), streams });
        }
        Err(Error::LostStreamName {
            name: name.to_owned(),
            files: self.damaged.iter().map(DamagedStream::file).collect(),
        })
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

    /// All streams that have or had a revision, and what is wrong with those that can't be read.
    pub fn list_streams(&self) -> Result<StreamList> {
        let (objects, damaged) = self.stream_objects()?;
        let mut list = StreamList { streams: Vec::with_capacity(objects.len()), damaged };
        for object in objects {
            if object.sequence_floor > 0 || self.has_revisions(object.id)? {
                list.streams.push(object.into());
            }
        }
        for &DamagedStream { id, .. } in &list.damaged {
            if self.has_revisions(id)? {
                // There is no other kind yet.
                list.streams.push(Stream { id, name: id.to_string(), kind: Kind::Image });
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

    /// All streams, used or not, and those that can't be read. They are looked for in `revisions/` as well: a file that is
    /// lost must not hide what its stream holds.
    fn stream_objects(&self) -> Result<(Vec<StreamObject>, Vec<DamagedStream>)> {
        let mut ids: BTreeSet<StreamId> = BTreeSet::new();
        for names in
            [self.backend().areas_below(&Area::all_revisions())?, self.backend().names(&Area::streams())?]
        {
            ids.extend(names.iter().filter_map(|name| StreamId::parse(name)));
        }
        let (mut objects, mut damaged) = (Vec::new(), Vec::new());
        for id in ids {
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
            damaged.push(DamagedStream { id, reason });
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
        validate_stream_name(name)?;
        let stream = match self.find_object(name)? {
            (Some(known), _) => known.into(),
            (None, _) => self.create_stream(name, kind, is_new)?,
        };
        stream.must_hold(kind, object)?;
        Ok(stream)
    }

    /// Makes a stream, unless another process has made it meanwhile.
    fn create_stream(&self, name: &str, kind: Kind, is_new: bool) -> Result<Stream> {
        let _lock = self.lock("streams", "the list of streams", || Ok(true))?;
        match self.find_object(name)? {
            (Some(known), _) => return Ok(known.into()),
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
            retired_names: Vec::new(),
        };
        self.backend().create(&Key::stream(object.id), &seal(&object)?)?;
        Ok(object.into())
    }

    /// The stream of this name, used or not, and those that can't be read.
    fn find_object(&self, name: &str) -> Result<(Option<StreamObject>, Vec<DamagedStream>)> {
        let (objects, damaged) = self.stream_objects()?;
        Ok((objects.into_iter().find(|object| object.name == name), damaged))
    }

    pub(crate) fn stream_object(&self, id: StreamId) -> Result<StreamObject> {
        let bytes = self.backend().read(&Key::stream(id), MAX_SEALED_SIZE)?;
        let object: StreamObject = open(&format!("stream {id}"), &bytes)?;
        if object.id == id && validate_stream_name(&object.name).is_ok() {
            return Ok(object);
        }
        Err(crate::error::Corrupt::new(format!("stream {id}"), "it holds another stream, or a bad name")
            .into())
    }
}
