//! Streams: named histories of one source each.

use super::Repository;
use crate::backend::{Area, Key};
use crate::error::{Error, Result};
use crate::format::{Kind, MAX_SEALED_SIZE, StreamObject, Timestamp, open, seal};
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
    /// All streams, sorted by name. One that is damaged is reported, and does not hide the others.
    pub fn streams(&self) -> Result<Vec<Stream>> {
        let (streams, damaged) = self.readable_streams()?;
        damaged.iter().for_each(|error| log::error!("{error}"));
        Ok(streams)
    }

    /// The streams, sorted by name, and what is wrong with those that can't be read.
    fn readable_streams(&self) -> Result<(Vec<Stream>, Vec<Error>)> {
        let (mut streams, mut damaged) = (Vec::new(), Vec::new());
        for listed in self.backend().list(&Area::streams())? {
            let Some(id) = StreamId::parse(&listed.name) else { continue };
            match self.stream_object(id) {
                Ok(object) => streams.push(Stream::from(object)),
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((streams, damaged))
    }

    /// The stream of this name.
    ///
    /// # Errors
    /// [`Error::NoSuchStream`], with the names that there are.
    pub fn stream(&self, name: &str) -> Result<Stream> {
        let mut streams = self.streams()?;
        match streams.iter().position(|stream| stream.name == name) {
            Some(index) => Ok(streams.swap_remove(index)),
            None => Err(Error::NoSuchStream {
                name: name.to_owned(),
                streams: streams.into_iter().map(|stream| stream.name).collect(),
            }),
        }
    }

    /// The stream of this name, made if need be.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if it holds something else; `object` names what it should hold.
    pub(crate) fn stream_for_backup(&self, name: &str, kind: Kind, object: &str) -> Result<Stream> {
        validate_stream_name(name)?;
        let stream = match self.stream(name) {
            Err(Error::NoSuchStream { .. }) => self.create_stream(name, kind)?,
            other => other?,
        };
        stream.must_hold(kind, object)?;
        Ok(stream)
    }

    /// Makes a stream, unless another process has made it meanwhile.
    fn create_stream(&self, name: &str, kind: Kind) -> Result<Stream> {
        let _lock = self.lock("streams", "the list of streams", || Ok(true))?;
        let (streams, damaged) = self.readable_streams()?;
        if let Some(stream) = streams.into_iter().find(|stream| stream.name == name) {
            return Ok(stream);
        }
        // One that can't be read may be the one that is wanted: a second of its name would split the history.
        if let Some(error) = damaged.into_iter().next() {
            return Err(error);
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
