//! What goes from thread to thread: planned by one, worked on by several, assembled in order by the caller's.

use rustix::io::Errno;

use super::super::chunks::NewChunk;
use super::super::unsettled;
use super::file::Piece;
use super::hard_links::Inode;
use crate::error::Error;
use crate::format::{Attributes, Entry, EntryContent, EntryName, FileSlot, Metadata, Timestamp};
use crate::source::tree::{
    Cause, Entry as SourceEntry, EntryError, EntryStat, EntryType, OpenFile, readable,
};

/// An entry that the walk met.
pub(super) struct Found {
    pub(super) entry: SourceEntry,
    pub(super) name: EntryName,
    /// Ordinal of its file system.
    pub(super) mount: u32,
    /// That its times stand says that it is unchanged.
    pub(super) is_believed: bool,
    /// Its inode, if that has further names.
    pub(super) link: Option<Inode>,
}

/// One piece of work.
pub(super) enum Item {
    /// A stretch of the walk; its small files go into one bundle.
    Stretch(Vec<Step>),
    /// A file to be read whole, for the next [`Step::Queued`] that has none yet.
    File(SourceEntry),
    /// A piece of a large file, read by the planner.
    Piece(Piece),
    /// The end of that file.
    End(Result<OpenFile, EntryError>),
}

/// A step of the walk, and what is to be done there.
pub(super) enum Step {
    /// A directory begins; its attributes, if they are known.
    Enter(Found, Option<Attributes>),
    /// The directory that was entered last ends; whether something of it was left out.
    Leave { left_out: bool },
    /// Nothing is to be done: all is as in the parent.
    Ready(Entry, Option<Inode>),
    /// Neither a file nor a directory.
    Look(Found),
    /// A small file.
    Small(Found),
    /// A file that is read by itself, before this stretch.
    Queued(Found),
    /// A further name of an inode.
    Same(Found),
    /// Something that could not be looked at.
    Failed(EntryError),
}

/// A piece of work that is done.
pub(super) enum Done {
    Stretch(Stretch),
    Part(Part),
}

/// A stretch that was read.
#[derive(Default)]
pub(super) struct Stretch {
    pub(super) steps: Vec<DoneStep>,
    pub(super) new: Vec<NewChunk>,
    pub(super) bytes_read: u64,
}

/// A step that was worked on.
pub(super) enum DoneStep {
    /// A directory begins; its top is not known yet.
    Enter(Entry),
    Leave {
        left_out: bool,
    },
    Entry(Entry, Option<Inode>),
    /// A file with a slice of the bundle.
    Bundled(Entry, Option<Inode>),
    Queued(Found),
    Same(Found),
    /// Must be read by itself after all, or entered, if it is a directory.
    Alone(Found),
    /// Could not be read; it is left out.
    Lost(Lost),
    /// Something is wrong with the entry that follows.
    Problem(String),
}

/// Something that is left out.
pub(super) struct Lost {
    /// What to tell.
    pub(super) message: String,
    /// Its inode, if that has further names.
    pub(super) link: Option<Inode>,
    /// There is nothing any more that could be left out.
    pub(super) is_gone: bool,
    /// What this process lacks to read anything: it is not the source's.
    pub(super) lack: Option<Error>,
}

/// A part of a file, or all of it.
#[derive(Default)]
pub(super) struct Part {
    pub(super) slots: Vec<FileSlot>,
    pub(super) new: Vec<NewChunk>,
    pub(super) bytes_read: u64,
    pub(super) end: Option<End>,
}

/// How a file ends.
pub(super) enum End {
    Read(Look),
    Failed(EntryError),
    /// It has grown too long to be read in one go.
    TooLong,
}

/// What is recorded of an entry besides its content.
pub(super) struct Look {
    pub(super) stat: EntryStat,
    pub(super) attributes: Attributes,
    pub(super) unsettled: bool,
    pub(super) problems: Vec<String>,
}

impl Lost {
    pub(super) fn of(error: &EntryError, link: Option<Inode>) -> Self {
        Self { message: error.to_string(), link, is_gone: error.cause.is_gone(), lack: lack_of(error) }
    }
}

/// What this process lacks, if that is what went wrong: then the run must end.
pub(super) fn lack_of(error: &EntryError) -> Option<Error> {
    match error.cause {
        Cause::System(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
            Some(Error::io(error.action, readable(&error.path))(errno.into()))
        }
        _ => None,
    }
}

impl Found {
    /// What to store of it.
    pub(super) fn stored(
        &self,
        stat: &EntryStat,
        content: EntryContent,
        attributes: Attributes,
        unsettled: bool,
    ) -> Entry {
        let metadata = Metadata {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            links: stat.links,
            mount: self.mount,
            inode: stat.identity.inode,
            mtime: stat.mtime,
            ctime: stat.ctime,
        };
        let has_other_names = stat.links > 1 && stat.kind != EntryType::Directory;
        let name = self.name.clone();
        Entry { name, metadata, content, attributes, has_other_names, unsettled, left_out: false }
    }

    /// The inode that was listed.
    pub(super) fn inode(&self) -> Inode {
        Inode { mount: self.mount, number: self.entry.stat.identity.inode }
    }
}

/// The path of an entry for people.
pub(super) fn path_of(entry: &SourceEntry) -> String {
    readable(&entry.error("read", Cause::Vanished).path).to_string()
}

/// Whether an entry changed so shortly before it was seen that a further change may show the same times.
pub(super) fn is_unsettled(before: &EntryStat, after: Option<&EntryStat>, seen: Timestamp) -> bool {
    let after = after.map(EntryStat::evidence);
    unsettled::judge(before.evidence(), after.as_ref(), seen).unsettled
}
