//! Puts [`FileSystem`] on the wire: translates types, and nothing else.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    Errno as Code, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyXattr, Request,
};

use crate::answers::{Attributes, NAME_LIFETIME, Room};
use crate::errno::Errno;
use crate::fs::FileSystem;
use crate::handle::HandleId;
use crate::inode::Ino;
use crate::namespace::FileKind;

/// Requests that the kernel may have under way for read-ahead; the default of 12 starves several readers.
const MAX_BACKGROUND: u16 = 128;

/// The `lseek` that looks for data, as Linux numbers it.
const SEEK_DATA: i32 = 3;
/// The `lseek` that looks for a hole.
const SEEK_HOLE: i32 = 4;

pub(crate) struct Adapter {
    fs: Arc<FileSystem>,
}

impl Adapter {
    pub(crate) fn new(fs: Arc<FileSystem>) -> Self {
        Self { fs }
    }

    /// Does a request's work. A panic would end the thread, and in the end the mount: it becomes an error of this
    /// request alone.
    fn answer<T>(&self, work: impl FnOnce(&FileSystem) -> Result<T, Errno>) -> Result<T, Code> {
        match catch_unwind(AssertUnwindSafe(|| work(&self.fs))) {
            Ok(answer) => answer.map_err(code),
            Err(_) => {
                log::error!("a request of the mount panicked; this is a bug of treering");
                Err(Code::EIO)
            }
        }
    }
}

thread_local! {
    /// What is read into: one buffer for each event loop, as long as the longest request so far.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Kernel caches are kept: nothing asks for AUTO_INVAL_DATA. No CACHE_SYMLINKS: `latest` changes.
        let wanted = [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            // The kernel heeds ACLs, and asks for each once.
            InitFlags::FUSE_POSIX_ACL,
        ];
        for capability in wanted {
            // An old kernel does without.
            let _ = config.add_capabilities(capability);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND / 4 * 3);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.answer(|fs| fs.lookup(ino(parent), name.as_bytes()));
        match found {
            Ok(found) => {
                let lifetime = name_lifetime(&found);
                reply.entry_with_ttls(&found.lifetime, &lifetime, &attr(&found), Generation(0));
            }
            Err(code) => reply.error(code),
        }
    }

    fn forget(&self, _request: &Request, number: INodeNo, lookup_count: u64) {
        let _ = self.answer(|fs| {
            fs.forget(ino(number), lookup_count);
            Ok(())
        });
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.answer(|fs| fs.attributes(ino(number))) {
            Ok(found) => reply.attr(&found.lifetime, &attr(&found)),
            Err(code) => reply.error(code),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.answer(|fs| fs.read_link(ino(number))) {
            Ok(target) => reply.data(&target),
            Err(code) => reply.error(code),
        }
    }

    fn open(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
        match self.answer(|fs| fs.open(ino(number))) {
            Ok(handle) => reply.opened(FileHandle(handle.get()), flags),
            Err(code) => reply.error(code),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let target = &mut buffer[..size];
            match self.answer(|fs| fs.read(HandleId::new(handle.0), offset, target)) {
                Ok(length) => reply.data(&buffer[..length]),
                Err(code) => reply.error(code),
            }
        });
    }

    fn lseek(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let handle = HandleId::new(handle.0);
        let found = self.answer(|fs| {
            let offset = u64::try_from(offset).map_err(|_| Errno::NoSuchOffset)?;
            let found = match whence {
                SEEK_DATA => fs.seek_data(handle, offset),
                SEEK_HOLE => fs.seek_hole(handle, offset),
                _ => Err(Errno::Invalid),
            }?;
            i64::try_from(found).map_err(|_| Errno::NoSuchOffset)
        });
        match found {
            Ok(offset) => reply.offset(offset),
            Err(code) => reply.error(code),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _ = self.answer(|fs| {
            fs.release(HandleId::new(handle.0));
            Ok(())
        });
        reply.ok();
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.answer(|fs| {
            let handle = fs.open_directory(ino(number))?;
            Ok((handle, fs.is_immutable(handle)))
        });
        match opened {
            Ok((handle, is_immutable)) => {
                let cached = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
                let flags = if is_immutable { cached } else { FopenFlags::empty() };
                reply.opened(FileHandle(handle.get()), flags);
            }
            Err(code) => reply.error(code),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.answer(|fs| {
            fs.read_directory(HandleId::new(handle.0), offset, &mut |entry| {
                let number = INodeNo(entry.ino.get());
                let name = OsStr::from_bytes(entry.name);
                room(reply.add(number, entry.next_offset, file_type(entry.kind), name))
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(code) => reply.error(code),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.answer(|fs| {
            fs.read_directory_plus(HandleId::new(handle.0), offset, &mut |entry, found| {
                let (number, found_attr) = (INodeNo(entry.ino.get()), attr(found));
                let lifetime = name_lifetime(found);
                let (next, name) = (entry.next_offset, OsStr::from_bytes(entry.name));
                room(reply.add(number, next, name, &lifetime, &found_attr, Generation(0)))
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(code) => reply.error(code),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.fs.release_directory(HandleId::new(handle.0));
        reply.ok();
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        reply_attribute(self.answer(|fs| fs.extended_attribute(ino(number), name.as_bytes())), size, reply);
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        // The kernel lets nobody else read the values of `trusted.`, and file systems of its own do not name them.
        let is_privileged = request.uid() == 0;
        let names = self.answer(|fs| fs.extended_attribute_names(ino(number), is_privileged));
        reply_attribute(names, size, reply);
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        // It has no space of its own: what it shows lies on another file system, which is asked about that.
        const BLOCK_SIZE: u32 = 4096;
        const NAME_MAX: u32 = 255;
        reply.statfs(0, 0, 0, 0, 0, BLOCK_SIZE, NAME_MAX, BLOCK_SIZE);
    }

    // What follows is never asked of a read-only mount, or only once: fuser would write a line into the log.

    fn flush(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn ioctl(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Code::ENOTTY);
    }

    fn poll(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Code::ENOSYS);
    }
}

fn ino(number: INodeNo) -> Ino {
    Ino::new(number.0)
}

fn room(full: bool) -> Room {
    if full { Room::Full } else { Room::Left }
}

fn code(errno: Errno) -> Code {
    match errno {
        Errno::NotFound => Code::ENOENT,
        Errno::Unreadable => Code::EIO,
        Errno::Stale => Code::ESTALE,
        Errno::NotADirectory => Code::ENOTDIR,
        Errno::IsADirectory => Code::EISDIR,
        Errno::Invalid => Code::EINVAL,
        Errno::NoSuchOffset => Code::ENXIO,
        Errno::BadHandle => Code::EBADF,
        Errno::NoAttribute => Code::ENODATA,
    }
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Directory => FileType::Directory,
        FileKind::File => FileType::RegularFile,
        FileKind::Symlink => FileType::Symlink,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::CharacterDevice => FileType::CharDevice,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
    }
}

/// How long a name may be kept: for ever in trees, a second above them, where names come and go.
fn name_lifetime(found: &Attributes) -> Duration {
    match found.ino.is_entry() {
        true => found.lifetime,
        false => NAME_LIFETIME.min(found.lifetime),
    }
}

/// Answers with a value, or with its length if that is what was asked for.
fn reply_attribute(value: Result<Vec<u8>, Code>, size: u32, reply: ReplyXattr) {
    match value {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(Code::ERANGE),
        Ok(value) => reply.data(&value),
        Err(code) => reply.error(code),
    }
}

/// A device's number as FUSE has it.
fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn attr(found: &Attributes) -> FileAttr {
    /// What is told as the best size of a read; the kernel asks in larger pieces anyway.
    const BLOCK_SIZE: u32 = 4096;
    FileAttr {
        ino: INodeNo(found.ino.get()),
        size: found.size,
        blocks: found.blocks,
        atime: found.modified,
        mtime: found.modified,
        ctime: found.changed,
        crtime: found.modified,
        kind: file_type(found.kind),
        perm: found.mode,
        nlink: found.links,
        uid: found.owner.uid,
        gid: found.owner.gid,
        rdev: device_number(found.device),
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}
