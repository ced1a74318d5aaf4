//! Revision records: what was backed up, when, how, and where its content begins.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sealed::SealedKind;
use super::time::Timestamp;
use crate::error::{Error, Result};
use crate::id::{ObjectId, RevisionId, StreamId};

/// What a revision holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One range of bytes.
    Image,
    /// A directory tree.
    Tree,
}

impl Kind {
    /// The word that users and scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Tree => "tree",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One revision of a stream. Its creation is the commit of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The stream.
    pub stream: StreamId,
    /// The revision's place in the order of commits.
    pub sequence: u64,
    /// Its id.
    pub id: RevisionId,
    /// The name that the mount shows.
    pub name: String,
    /// When the source's snapshot was taken, if there was one.
    pub snapshot_time: Option<Timestamp>,
    /// When the backup began.
    pub start: Timestamp,
    /// When all data was stored.
    pub end: Timestamp,
    /// The host that the backup ran on.
    pub host: String,
    /// Name and version of the program that wrote it.
    pub program: String,
    /// The source, as the user named it.
    pub source: String,
    /// The source's own snapshot that was read.
    pub source_snapshot: Option<String>,
    /// What tells whether the source file is unchanged.
    pub evidence: Option<FileEvidence>,
    /// The revision that it was compared with.
    pub parent: Option<RevisionId>,
    /// How the changes were found.
    pub method: Method,
    /// The evidence of hints, also of such that were not believed.
    pub hints: Option<HintEvidence>,
    /// What it took.
    pub counters: Counters,
    /// What could not be read, or is worth knowing.
    pub warnings: Vec<String>,
    /// What the revision holds.
    pub content: Content,
}

impl SealedKind for Record {
    const KIND: [u8; 4] = *b"REVN";
    const NOUN: &'static str = "revision record";
}

impl Record {
    /// The revision's time: that of its snapshot, else that of the backup's begin.
    pub fn time(&self) -> Timestamp {
        self.snapshot_time.unwrap_or(self.start)
    }

    /// The name of the record's file.
    pub fn key(&self) -> RecordKey {
        RecordKey { sequence: self.sequence, id: self.id, name: self.name.clone() }
    }

    /// What kind of revision it is.
    pub fn kind(&self) -> Kind {
        match self.content {
            Content::Image(_) => Kind::Image,
            Content::Tree(_) => Kind::Tree,
        }
    }

    /// Where the image begins.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] if the revision is a tree.
    pub fn image(&self) -> Result<&ImageContent> {
        match &self.content {
            Content::Image(content) => Ok(content),
            Content::Tree(_) => Err(Error::NotAnImage { revision: self.name.clone() }),
        }
    }

    /// Where the tree begins.
    ///
    /// # Errors
    /// [`Error::NotATree`] if the revision is an image.
    pub fn tree(&self) -> Result<&TreeContent> {
        match &self.content {
            Content::Tree(content) => Ok(content),
            Content::Image(_) => Err(Error::NotATree { revision: self.name.clone() }),
        }
    }

    /// The object that all the others of the revision are found from.
    pub(crate) fn root(&self) -> ObjectId {
        self.content.root()
    }
}

/// What a revision holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// An image.
    Image(ImageContent),
    /// A directory tree.
    Tree(TreeContent),
}

impl Content {
    /// The root of its map or tree.
    pub(crate) fn root(&self) -> ObjectId {
        match self {
            Self::Image(content) => content.root,
            Self::Tree(content) => content.root,
        }
    }

    /// Size of an image, or of all files of a tree, in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Image(content) => content.size,
            Self::Tree(content) => content.bytes,
        }
    }
}

/// Where an image begins. All but the root repeats what the root node says, so that listing opens no pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageContent {
    /// The root node of its map.
    pub root: ObjectId,
    /// The image's size in bytes.
    pub size: u64,
    /// Bytes that are not holes.
    pub data_bytes: u64,
}

/// Where a tree begins. All but the root repeats what the tree's root says, so that listing opens no pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeContent {
    /// The root of the tree.
    pub root: ObjectId,
    /// Files, directories and others together; the root directory is one.
    pub entries: u64,
    /// Sizes of the files, of one with several names once.
    pub bytes: u64,
}

/// What is compared to tell that an image file is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEvidence {
    /// Size in bytes.
    pub size: u64,
    /// Time of modification.
    pub mtime: Timestamp,
    /// Time of status change.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// The file changed so shortly before it was read, or while it was, that a further change may show the same
    /// times: it must be read again.
    pub unsettled: bool,
}

/// How a backup found what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// All data of the source was read.
    Read,
    /// Only what hints named was read.
    Hints,
    /// The file's times and size stood as recorded: nothing was read.
    Unchanged,
}

/// What hints said and how they were tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintEvidence {
    /// The revision that they were relative to.
    pub base: Option<RevisionId>,
    /// Ranges that they named.
    pub range_count: u64,
    /// Bytes of these ranges.
    pub range_bytes: u64,
    /// Chunks outside the ranges that were read and compared with the base.
    pub sampled_chunks: u64,
    /// Offset of the first sampled chunk that differed: the hints were not believed, and all was read.
    pub differing_offset: Option<u64>,
}

/// What a backup took and gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes that differ from the parent.
    pub bytes_changed: u64,
    /// What the repository grew by, metadata included.
    pub bytes_stored: u64,
    /// Chunks of the revision that hold data.
    pub chunks_total: u64,
    /// Chunks that had to be stored.
    pub chunks_new: u64,
    /// Nanoseconds from begin to end.
    pub nanoseconds: u64,
}

/// The name of a record's file: order, id and name of a revision without opening it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Place in the order of commits.
    pub sequence: u64,
    /// The revision's id.
    pub id: RevisionId,
    /// The name that the mount shows.
    pub name: String,
}

impl RecordKey {
    /// Parses a file name; `None` if it is not a record's.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '_');
        let (sequence, id, name) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = sequence.len() == 16 && !sequence.starts_with('+');
        let key = Self {
            sequence: u64::from_str_radix(sequence, 16).ok().filter(|_| digits)?,
            id: RevisionId::parse(id)?,
            name: is_revision_name(name).then(|| name.to_owned())?,
        };
        (key.to_string() == text).then_some(key)
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}_{}_{}", self.sequence, self.id, self.name)
    }
}

/// Whether a text has the form `YYYY-MM-DDTHH-MM-SSZ` or that with `-N`; nothing else may become a file name.
fn is_revision_name(name: &str) -> bool {
    const PATTERN: &[u8] = b"dddd-dd-ddTdd-dd-ddZ";
    let Some((time, suffix)) = name.as_bytes().split_at_checked(PATTERN.len()) else {
        return false;
    };
    let fits = |(&byte, &pattern): (&u8, &u8)| match pattern {
        b'd' => byte.is_ascii_digit(),
        _ => byte == pattern,
    };
    let suffix_fits = match suffix {
        [] => true,
        [b'-', first, rest @ ..] => {
            (b'1'..=b'9').contains(first) && rest.len() < 10 && rest.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    time.iter().zip(PATTERN).all(fits) && suffix_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_key_is_parsed_as_it_is_written() {
        let key = RecordKey {
            sequence: 0x1f,
            id: RevisionId::random(),
            name: "2026-11-20T10-13-20Z-12".to_owned(),
        };
        assert_eq!(RecordKey::parse(&key.to_string()), Some(key));
    }

    #[test]
    fn names_that_could_leave_the_directory_are_no_record_keys() {
        let id = RevisionId::random();
        for name in [
            "",
            "../x",
            "2026-11-20T10-13-20Z/../..",
            "2026-11-20T10-13-20Z-",
            "latest",
            "2026-11-20T10-13-20Z-01x",
        ] {
            assert_eq!(RecordKey::parse(&format!("0000000000000001_{id}_{name}")), None, "{name}");
        }
        assert_eq!(RecordKey::parse(&format!("1_{id}_2026-11-20T10-13-20Z")), None);
    }
}
