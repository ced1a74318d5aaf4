//! A file system with one image that can't be read everywhere: a disk with a bad region, or a file that was cut.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
};

use super::noise;

const IMAGE: INodeNo = INodeNo(2);
const LIFETIME: Duration = Duration::from_secs(1);

/// What happens behind the good part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Reads fail with EIO.
    BadRegion,
    /// The file ends, though its size says otherwise.
    Truncated,
}

/// The mounted file system; gone when dropped.
pub(crate) struct FailingSource {
    directory: PathBuf,
    _session: BackgroundSession,
}

impl FailingSource {
    /// Mounts it on an empty directory. The image has `size` bytes, of which the first `good` can be read.
    pub(crate) fn mount(directory: &Path, size: u64, good: u64, fault: Fault) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let content = noise(77, good as usize);
        let session = fuser::spawn_mount(Image { size, content, fault }, directory, &Config::default());
        Self { directory: directory.to_owned(), _session: session.unwrap() }
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join("bad.img")
    }
}

struct Image {
    size: u64,
    content: Vec<u8>,
    fault: Fault,
}

impl Image {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        attributes(ino, self.size)
    }
}

/// Those of a file of this size, or of the root.
pub(super) fn attributes(ino: INodeNo, size: u64) -> FileAttr {
    let is_root = ino == INodeNo::ROOT;
    FileAttr {
        ino,
        size: if is_root { 0 } else { size },
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_root { FileType::Directory } else { FileType::RegularFile },
        perm: if is_root { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Image {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == "bad.img" {
            true => reply.entry(&LIFETIME, &self.attributes(IMAGE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&LIFETIME, &self.attributes(ino));
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Past the page cache, which would fill a short answer up with zeros.
        reply.opened(FileHandle(1), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let start = (offset as usize).min(self.content.len());
        let end = (start + size as usize).min(self.content.len());
        match (self.content.get(start..end).filter(|bytes| !bytes.is_empty()), self.fault) {
            (Some(bytes), _) => reply.data(bytes),
            (None, Fault::Truncated) => reply.data(&[]),
            (None, Fault::BadRegion) => reply.error(Errno::EIO),
        }
    }
}
