//! A tree with something of everything that a file system can hold, and what tells two trees apart, entry by entry.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, SeekFrom, Timespec, Timestamps, XattrFlags, chownat,
    fallocate, lgetxattr, llistxattr, lsetxattr, mknodat, utimensat,
};

/// What of two trees need not be the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leniency {
    /// Where files have holes.
    pub(crate) holes: bool,
    /// Times of the last change of an inode, which nobody can set.
    pub(crate) ctime: bool,
    /// Owners, device nodes and what else only root may set.
    pub(crate) privileged: bool,
}

/// What restored trees are compared with: nobody can set a ctime.
pub(crate) const RESTORED: Leniency = Leniency { holes: false, ctime: true, privileged: false };

/// Fills a directory, which must be there, with entries of all kinds; as root also with those that only root can make.
/// Lies on a file system with extended attributes and ACLs.
pub(crate) fn make_nasty_tree(root: &Path) {
    make_files(root);
    make_names(root);
    make_links(root);
    make_modes(root);
    make_attributes(root);
    if rustix::process::geteuid().is_root() {
        make_privileged(root);
    }
    // Last, since what is made in a directory changes its times.
    make_times(root);
}

fn write(path: PathBuf, content: &[u8]) {
    fs::write(path, content).unwrap();
}

/// Bytes that don't repeat themselves.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn make_files(root: &Path) {
    let files = root.join("files");
    fs::create_dir(&files).unwrap();
    for length in [0, 1, 100, 4095, 4096, 16_383, 16_384, 65_537, 1 << 20] {
        write(files.join(format!("of-{length}")), &noise(length, length as usize));
    }
    for number in 0..50 {
        write(
            files.join(format!("small-{number}")),
            format!("the content of {number}\n").repeat(20).as_bytes(),
        );
    }
    write(files.join("large"), &noise(1, 5 << 20));
    write(files.join("large.img"), &noise(2, 3 << 20));
    write(files.join("zeros"), &vec![0; 300_000]);
    let sparse = |name: &str, size: u64, pieces: &[(u64, usize)]| {
        let file = File::create(files.join(name)).unwrap();
        file.set_len(size).unwrap();
        for (offset, length) in pieces {
            file.write_all_at(&noise(*offset, *length), *offset).unwrap();
        }
    };
    sparse("hole", 10 << 20, &[]);
    sparse("sparse", 20 << 20, &[(0, 4096), (5 << 20, 70_000), (12 << 20, 4096)]);
    sparse("sparse-to-the-end", 8 << 20, &[((8 << 20) - 4096, 4096)]);
    sparse("wide", 100 << 30, &[(50 << 30, 8192), ((100 << 30) - 4096, 4096)]);
    let allocated = File::create(files.join("allocated")).unwrap();
    fallocate(&allocated, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
}

fn make_names(root: &Path) {
    let names = root.join("names");
    fs::create_dir(&names).unwrap();
    let longest = "n".repeat(255);
    let odd: [&[u8]; 12] = [
        b"with space",
        b"new\nline",
        b"-dash",
        b"tab\there",
        b"quote'\"",
        b"back\\slash",
        b"\xff\xfe not utf-8",
        "\u{fc}mlaut".as_bytes(),
        b".hidden",
        b"...",
        b"*?[glob]",
        longest.as_bytes(),
    ];
    for name in odd {
        write(names.join(OsStr::from_bytes(name)), name);
    }
    let mut deep = root.join("deep");
    for level in 0..60 {
        fs::create_dir(&deep).unwrap();
        write(deep.join("file"), format!("{level}").as_bytes());
        deep.push("a-directory-in-a-directory");
    }
    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..2000 {
        write(many.join(format!("{number:05}")), format!("{number}").as_bytes());
    }
}

fn make_links(root: &Path) {
    let links = root.join("links");
    fs::create_dir(&links).unwrap();
    for (name, target) in [
        ("relative", "../files/of-100"),
        ("absolute", "/etc/passwd"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("up", ".."),
        ("long", &"x/".repeat(1000)),
    ] {
        symlink(target, links.join(name)).unwrap();
    }
    write(links.join("first"), b"has three names");
    fs::hard_link(links.join("first"), links.join("second")).unwrap();
    fs::hard_link(links.join("first"), root.join("files/third")).unwrap();
    fs::hard_link(links.join("dangling"), links.join("dangling-again")).unwrap();
}

fn make_modes(root: &Path) {
    let modes = root.join("modes");
    fs::create_dir(&modes).unwrap();
    for mode in [0o000, 0o400, 0o644, 0o755, 0o4755, 0o2755, 0o1644, 0o7777] {
        let path = modes.join(format!("{mode:04o}"));
        write(path.clone(), b"mode");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for mode in [0o700, 0o1777, 0o2775] {
        let path = modes.join(format!("dir-{mode:04o}"));
        fs::create_dir(&path).unwrap();
        write(path.join("file"), b"below");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    mknodat(CWD, modes.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(modes.join("socket")).unwrap());
}

/// An ACL as the kernel keeps it: entries of tag, permissions, id.
pub(crate) fn acl(named_user: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, NOBODY), (2, 4, named_user), (4, 4, NOBODY), (16, 6, NOBODY), (32, 0, NOBODY)];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn set(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn make_attributes(root: &Path) {
    let attributes = root.join("attributes");
    fs::create_dir(&attributes).unwrap();
    let file = attributes.join("file");
    write(file.clone(), b"with attributes");
    set(&file, "user.short", b"value");
    set(&file, "user.empty", b"");
    set(&file, "user.binary", &[0, 255, 10, 0]);
    let long = attributes.join("long");
    write(long.clone(), b"with a long attribute");
    set(&long, "user.long", &noise(3, 3000));
    let with_acl = attributes.join("acl");
    write(with_acl.clone(), b"with an ACL");
    set(&with_acl, "system.posix_acl_access", &acl(1234));
    let directory = attributes.join("default-acl");
    fs::create_dir(&directory).unwrap();
    write(directory.join("made-before"), b"");
    set(&directory, "system.posix_acl_default", &acl(4321));
    set(&directory, "user.of-a-directory", b"too");
}

fn make_privileged(root: &Path) {
    let privileged = root.join("privileged");
    fs::create_dir(&privileged).unwrap();
    let node = |name: &str, file_type, (major, minor)| {
        let device = rustix::fs::makedev(major, minor);
        mknodat(CWD, privileged.join(name), file_type, Mode::from_raw_mode(0o660), device).unwrap();
    };
    node("block", FileType::BlockDevice, (7, 300));
    node("character", FileType::CharacterDevice, (1, 3));
    let program = privileged.join("capable");
    write(program.clone(), b"#!/bin/true\n");
    // cap_net_raw=ep, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set(&program, "security.capability", &capability);
    set(&program, "trusted.of-root", b"only");
    symlink("target", privileged.join("owned-link")).unwrap();
    set(&privileged.join("owned-link"), "trusted.of-a-link", b"too");
    for (name, uid, gid) in
        [("others-file", 1234, 4321), ("of-nobody", 65_534, 65_534), ("setuid", 1234, 1234)]
    {
        write(privileged.join(name), b"not of root");
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        chownat(CWD, privileged.join(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    fs::set_permissions(privileged.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    let link = privileged.join("owned-link");
    let (uid, gid) = (rustix::fs::Uid::from_raw(77), rustix::fs::Gid::from_raw(78));
    chownat(CWD, link, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Sets the time of the last modification.
pub(crate) fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn make_times(root: &Path) {
    let times = root.join("times");
    fs::create_dir(&times).unwrap();
    for (name, seconds, nanoseconds) in [
        ("epoch", 0, 0),
        ("before-the-epoch", -1_000_000, 500_000_000),
        ("to-the-nanosecond", 1_700_000_000, 123_456_789),
        ("in-the-future", 4_000_000_000, 1),
    ] {
        write(times.join(name), b"time");
        set_mtime(&times.join(name), seconds, nanoseconds);
    }
    set_mtime(&root.join("links/dangling"), 1_600_000_000, 987_654_321);
    set_mtime(&root.join("deep/a-directory-in-a-directory"), 1_500_000_000, 1);
    set_mtime(&root.join("names"), 1_400_000_000, 999_999_999);
    set_mtime(&times, 1_300_000_000, 5);
}

/// What is different between two trees, a line each; empty if they are the same but for what may differ.
pub(crate) fn differences(left: &Path, right: &Path, leniency: Leniency) -> Vec<String> {
    let mut comparison = Comparison { leniency, found: Vec::new(), inodes: HashMap::new() };
    comparison.compare(left, right, Path::new(""));
    comparison.found
}

/// Fails with what is different, if anything is.
#[track_caller]
pub(crate) fn assert_same(left: &Path, right: &Path, leniency: Leniency) {
    let found = differences(left, right, leniency);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

struct Comparison {
    leniency: Leniency,
    found: Vec<String>,
    /// Of each inode on the left that has several names the one on the right.
    inodes: HashMap<(u64, u64), u64>,
}

impl Comparison {
    fn compare(&mut self, left: &Path, right: &Path, path: &Path) {
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            let (a, b) = (join(left, &path), join(right, &path));
            let metadata = (fs::symlink_metadata(&a).unwrap(), fs::symlink_metadata(&b).unwrap());
            self.compare_metadata(&path, &metadata.0, &metadata.1);
            self.compare_attributes(&path, &a, &b);
            let kind = metadata.0.file_type();
            if kind != metadata.1.file_type() {
                continue;
            }
            if kind.is_symlink() {
                self.note(&path, "target", &fs::read_link(&a).unwrap(), &fs::read_link(&b).unwrap());
            } else if kind.is_file() {
                self.compare_content(&path, &a, &b);
            } else if kind.is_dir() {
                todo.extend(self.compare_names(&path, &a, &b));
            }
        }
    }

    fn note<T: PartialEq + std::fmt::Debug>(&mut self, path: &Path, what: &str, left: &T, right: &T) {
        if left != right {
            self.found.push(format!("{}: {what}: {left:?} / {right:?}", path.display()));
        }
    }

    fn compare_names(&mut self, path: &Path, left: &Path, right: &Path) -> Vec<PathBuf> {
        let (a, b) = (names(left), names(right));
        let only = |these: &[OsString], others: &[OsString]| -> Vec<OsString> {
            these.iter().filter(|name| others.binary_search(name).is_err()).cloned().collect()
        };
        self.note(path, "names", &only(&a, &b), &only(&b, &a));
        a.into_iter().filter(|name| b.binary_search(name).is_ok()).map(|name| path.join(name)).collect()
    }

    fn compare_metadata(&mut self, path: &Path, left: &Metadata, right: &Metadata) {
        self.note(path, "type", &left.file_type(), &right.file_type());
        if !left.file_type().is_symlink() {
            self.note(path, "mode", &format!("{:o}", left.mode()), &format!("{:o}", right.mode()));
        }
        self.note(path, "mtime", &time(left), &time(right));
        if !self.leniency.ctime {
            let ctime = |of: &Metadata| (of.ctime(), of.ctime_nsec());
            self.note(path, "ctime", &ctime(left), &ctime(right));
        }
        if !self.leniency.privileged {
            self.note(path, "owner", &(left.uid(), left.gid()), &(right.uid(), right.gid()));
        }
        if left.is_dir() {
            return;
        }
        self.note(path, "size", &left.size(), &right.size());
        self.note(path, "links", &left.nlink(), &right.nlink());
        if left.file_type().is_block_device() || left.file_type().is_char_device() {
            self.note(path, "device", &left.rdev(), &right.rdev());
        }
        if left.nlink() > 1 {
            let known = *self.inodes.entry((left.dev(), left.ino())).or_insert(right.ino());
            self.note(path, "inode of its other names", &known, &right.ino());
        }
    }

    fn compare_attributes(&mut self, path: &Path, left: &Path, right: &Path) {
        let (mut a, mut b) = (attributes(left), attributes(right));
        if self.leniency.privileged {
            for list in [&mut a, &mut b] {
                list.retain(|name, _| name.starts_with("user.") || name.starts_with("system."));
            }
        }
        self.note(path, "attributes", &a, &b);
    }

    fn compare_content(&mut self, path: &Path, left: &Path, right: &Path) {
        let (Ok(a), Ok(b)) = (File::open(left), File::open(right)) else {
            self.found.push(format!("{}: can't be read", path.display()));
            return;
        };
        let (in_a, in_b) = (data_extents(&a), data_extents(&b));
        for (start, end) in in_a.iter().chain(&in_b) {
            if !is_same(&a, &b, *start, *end) {
                self.found.push(format!("{}: content between {start} and {end}", path.display()));
            }
        }
        if !self.leniency.holes {
            self.note(path, "data", &in_a, &in_b);
        }
    }
}

/// Like `Path::join`, but that the root of a tree has no slash behind it.
fn join(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

fn names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

fn time(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// The extended attributes of an entry, whatever it is, but for the second names that XFS gives to ACLs.
pub(crate) fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 64 << 10];
    let length = llistxattr(path, &mut list[..]).unwrap_or(0);
    list.truncate(length);
    let names = list.split(|&byte| byte == 0);
    let names = names.filter(|name| !name.is_empty() && !name.starts_with(b"trusted.SGI_ACL_"));
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let length = lgetxattr(path, OsString::from_vec(name.to_vec()), &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (String::from_utf8_lossy(name).into_owned(), value(name))).collect()
}

/// Where a file has data, as start and end.
pub(crate) fn data_extents(file: &File) -> Vec<(u64, u64)> {
    let size = file.metadata().unwrap().len();
    let (mut extents, mut at) = (Vec::new(), 0);
    while let Ok(start) = rustix::fs::seek(file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap().min(size);
        extents.push((start, at));
    }
    extents
}

fn is_same(a: &File, b: &File, start: u64, end: u64) -> bool {
    const PIECE: u64 = 1 << 20;
    let (mut in_a, mut in_b) = (vec![0; PIECE as usize], vec![0; PIECE as usize]);
    let mut at = start;
    while at < end {
        let length = (end - at).min(PIECE) as usize;
        let read = |file: &File, buffer: &mut Vec<u8>| file.read_exact_at(&mut buffer[..length], at).is_ok();
        if !read(a, &mut in_a) || !read(b, &mut in_b) || in_a[..length] != in_b[..length] {
            return false;
        }
        at += length as u64;
    }
    true
}
