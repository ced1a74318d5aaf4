//! A file system with a name that is longer than most allow, as FAT and NTFS have them in UTF-8.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, Request,
};

const LIFETIME: Duration = Duration::from_secs(1);
const CONTENT: &[u8] = b"text";

/// The files: one name of 300 bytes is between others, however they are sorted.
pub(crate) fn names() -> [String; 3] {
    ["before".to_owned(), format!("long{}", "x".repeat(296)), "then".to_owned()]
}

/// Mounts it; it is gone when the session is dropped.
pub(crate) fn mount(directory: &Path) -> BackgroundSession {
    std::fs::create_dir_all(directory).unwrap();
    fuser::spawn_mount(LongNames, directory, &Config::default()).unwrap()
}

struct LongNames;

fn attributes(ino: INodeNo) -> FileAttr {
    super::failing_source::attributes(ino, CONTENT.len() as u64)
}

impl Filesystem for LongNames {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match names().iter().zip(2..).find(|(known, _)| name == known.as_str()) {
            Some((_, number)) => reply.entry(&LIFETIME, &attributes(INodeNo(number)), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&LIFETIME, &attributes(ino));
    }

    fn readdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        for (name, index) in names().iter().zip(0..).skip(offset as usize) {
            if reply.add(INodeNo(index + 2), index + 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        _size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(CONTENT.get(offset as usize..).unwrap_or_default());
    }
}
