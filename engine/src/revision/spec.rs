//! `STREAM@SPEC`: which revision a user means.

use crate::error::{Error, Result};
use crate::format::RecordKey;
use crate::repository::{Repository, Stream};

/// A revision, or several, as a user names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// The newest one.
    Latest,
    /// The N-th newest; 0 is the newest.
    Nth(u64),
    /// The newest with this tag.
    Tag(String),
    /// A revision id or a unique prefix of it.
    Id(String),
    /// The name that the mount shows, or a unique prefix of it.
    Time(String),
    /// An id, a name, or a prefix of either.
    Any(String),
    /// All of them.
    All,
    /// From the first to the second, both included.
    Range(Box<Spec>, Box<Spec>),
}

/// Splits `STREAM@SPEC`; the SPEC is `None` where there is no `@`.
pub fn split_revision(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((stream, spec)) => (stream, Some(spec)),
        None => (text, None),
    }
}

impl Spec {
    /// Reads a SPEC. Any text is one: whether it matches anything is found out by [`Repository::find_revision`].
    pub fn parse(text: &str) -> Self {
        if let Some((first, last)) = text.split_once("..") {
            return Self::Range(Box::new(Self::parse(first)), Box::new(Self::parse(last)));
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once(':') {
            Some(("tag", tag)) => Self::Tag(tag.to_owned()),
            Some(("id", id)) => Self::Id(id.to_owned()),
            Some(("time", time)) => Self::Time(without_suffix(time).to_owned()),
            _ if text == "latest" => Self::Latest,
            _ if text == "all" => Self::All,
            _ if digits => text.parse().map_or_else(|_| Self::Id(text.to_owned()), Self::Nth),
            _ => Self::Any(without_suffix(text).to_owned()),
        }
    }
}

/// The name without the `.img` that the mount shows behind it.
fn without_suffix(name: &str) -> &str {
    name.strip_suffix(".img").unwrap_or(name)
}

/// The shortest prefix of an id that counts.
const MIN_ID_PREFIX: usize = 4;

impl Repository {
    /// The one revision that a SPEC means.
    ///
    /// # Errors
    /// [`Error::NoSuchRevision`] and [`Error::AmbiguousRevision`], with the candidates.
    pub fn find_revision(&self, stream: &Stream, spec: &str) -> Result<RecordKey> {
        let keys = self.revisions(stream)?;
        let mut found = self.matches(stream, &keys, &Spec::parse(spec))?;
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => Err(no_such_revision(stream, spec, &keys)),
            _ => Err(Error::AmbiguousRevision {
                stream: stream.name.clone(),
                spec: spec.to_owned(),
                candidates: found.iter().map(|key| format!("{} (id {})", key.name, key.id)).collect(),
            }),
        }
    }

    /// The revisions that a SPEC of several means, the oldest first; none matching is an error.
    pub fn find_revisions(&self, stream: &Stream, spec: &str) -> Result<Vec<RecordKey>> {
        let keys = self.revisions(stream)?;
        match Spec::parse(spec) {
            Spec::All => Ok(keys),
            Spec::Range(..) => {
                let (first, last) = spec.split_once("..").unwrap_or((spec, spec));
                let (first, last) = (self.find_revision(stream, first)?, self.find_revision(stream, last)?);
                let (first, last) = (first.clone().min(last.clone()), first.max(last));
                Ok(keys.into_iter().filter(|key| (&first..=&last).contains(&key)).collect())
            }
            _ => self.find_revision(stream, spec).map(|key| vec![key]),
        }
    }

    fn matches(&self, stream: &Stream, keys: &[RecordKey], spec: &Spec) -> Result<Vec<RecordKey>> {
        let nth = |n: u64| {
            let index = usize::try_from(n).ok().and_then(|n| keys.len().checked_sub(n.checked_add(1)?));
            index.and_then(|index| keys.get(index)).cloned().into_iter().collect()
        };
        let by_id = |text: &str| select(keys, text, text.len() >= MIN_ID_PREFIX, |key| key.id.to_string());
        let by_name = |text: &str| select(keys, text, text.contains('-'), |key| key.name.clone());
        Ok(match spec {
            Spec::Latest => nth(0),
            Spec::Nth(n) => nth(*n),
            Spec::Id(text) => by_id(text).into_keys(),
            Spec::Time(text) => by_name(text).into_keys(),
            Spec::Any(text) => match (by_id(text), by_name(text)) {
                (Selected::Exact(key), _) | (_, Selected::Exact(key)) => vec![key],
                (Selected::Prefix(mut ids), Selected::Prefix(names)) => {
                    ids.extend(names);
                    ids.sort();
                    ids.dedup();
                    ids
                }
            },
            Spec::Tag(tag) => {
                let labels = self.all_labels(stream)?;
                let tagged =
                    |key: &&RecordKey| labels.get(&key.id).is_some_and(|labels| labels.tags.contains(tag));
                keys.iter().rev().find(tagged).cloned().into_iter().collect()
            }
            Spec::All | Spec::Range(..) => {
                return Err(Error::BadParameter {
                    what: "revision",
                    reason: "one revision is wanted here, not several".to_owned(),
                });
            }
        })
    }
}

enum Selected {
    Exact(RecordKey),
    Prefix(Vec<RecordKey>),
}

impl Selected {
    fn into_keys(self) -> Vec<RecordKey> {
        match self {
            Self::Exact(key) => vec![key],
            Self::Prefix(keys) => keys,
        }
    }
}

/// The revision with exactly this text, or those that begin with it if a prefix may count.
fn select(
    keys: &[RecordKey],
    text: &str,
    prefix_counts: bool,
    text_of: impl Fn(&RecordKey) -> String,
) -> Selected {
    if let Some(key) = keys.iter().find(|key| text_of(key) == text) {
        return Selected::Exact(key.clone());
    }
    let begins = |key: &&RecordKey| prefix_counts && text_of(key).starts_with(text);
    Selected::Prefix(keys.iter().filter(begins).cloned().collect())
}

fn no_such_revision(stream: &Stream, spec: &str, keys: &[RecordKey]) -> Error {
    const SHOWN: usize = 10;
    Error::NoSuchRevision {
        stream: stream.name.clone(),
        spec: spec.to_owned(),
        candidates: keys
            .iter()
            .rev()
            .take(SHOWN)
            .map(|key| format!("{} (id {})", key.name, key.id))
            .collect(),
    }
}
