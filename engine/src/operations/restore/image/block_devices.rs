//! Block devices that depend on each other where the kernel does not tell: a loop device does not hold what it lies on, so
//! opening that exclusively succeeds though a file system is mounted from the loop device.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

/// Loop devices lie on each other so deep at most.
const DEPTH_MAX: usize = 16;

/// The part of a file or device that a loop device lies on.
pub(super) struct Backing {
    /// As the kernel has it: behind the name of a file that was deleted stands ` (deleted)`.
    pub(super) path: PathBuf,
    /// In bytes; it may reach past the end.
    range: Range<u64>,
    /// Name of the loop device; none where all of a file or device is meant, whoever uses it.
    user: Option<String>,
}

impl Backing {
    /// All of a file or device.
    pub(super) fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), range: 0..u64::MAX, user: None }
    }

    /// What the loop device with this directory in sysfs lies on.
    fn of(device: &Path) -> Option<Self> {
        let path = PathBuf::from(read_line(&device.join("loop/backing_file"))?);
        let start = read_number(&device.join("loop/offset"))?;
        let end = match read_number(&device.join("loop/sizelimit"))? {
            0 => u64::MAX,
            size => start.saturating_add(size),
        };
        let user = device.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned();
        Some(Self { path, range: start..end, user: Some(user) })
    }

    fn meets(&self, other: &Self) -> bool {
        let overlap = self.range.start < other.range.end && other.range.start < self.range.end;
        // A file that was deleted has nothing but its name to know it by.
        if self.path == other.path {
            return overlap;
        }
        match (fs::metadata(&self.path), fs::metadata(&other.path)) {
            (Ok(a), Ok(b)) => (is_same(&a, &b) && overlap) || is_part(&a, &b),
            _ => false,
        }
    }
}

/// What a device lies on, if it is a loop device or a partition of one, and what that lies on, the nearest first.
pub(super) fn below(device: u64) -> Vec<Backing> {
    let mut found = Vec::new();
    let mut next = backing_of(device);
    while let Some(backing) = next.take().filter(|_| found.len() < DEPTH_MAX) {
        next = fs::metadata(&backing.path).ok().filter(is_device).and_then(|there| backing_of(there.rdev()));
        found.push(backing);
    }
    found
}

/// Another loop device that lies on a part of the same.
pub(super) fn other_user(backing: &Backing) -> Option<String> {
    let devices = fs::read_dir("/sys/block").ok()?.flatten();
    let mut others = devices.filter_map(|device| Backing::of(&device.path()));
    let user = others.find(|other| other.user != backing.user && other.meets(backing))?.user?;
    Some(format!("/dev/{user}"))
}

/// Where a device is mounted.
pub(super) fn mountpoint_of(device: u64) -> Option<String> {
    let wanted = numbers(device);
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(wanted.as_str()))?;
    line.split(' ').nth(4).map(str::to_owned)
}

/// Whether nothing can be written to a device.
pub(super) fn is_read_only(device: u64) -> bool {
    read_number(&in_sys(device).join("ro")) == Some(1)
}

pub(super) fn is_device(what: &Metadata) -> bool {
    what.file_type().is_block_device()
}

/// What the loop device with this number, or of which it is a partition, lies on.
fn backing_of(device: u64) -> Option<Backing> {
    Backing::of(&in_sys(whole(device)))
}

/// The device that one is a partition of, or else itself.
fn whole(device: u64) -> u64 {
    let place = in_sys(device);
    if !place.join("partition").exists() {
        return device;
    }
    // The directory of a partition lies in that of its device.
    let above = place.canonicalize().ok().and_then(|place| read_line(&place.parent()?.join("dev")));
    let parsed = above.and_then(|above| {
        let (major, minor) = above.to_str()?.split_once(':')?;
        Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
    });
    parsed.unwrap_or(device)
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    match (is_device(a), is_device(b)) {
        (true, true) => a.rdev() == b.rdev(),
        (false, false) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Whether one is a partition of the other. Where it lies there is not looked for: any part may be in the way.
fn is_part(a: &Metadata, b: &Metadata) -> bool {
    let (is_devices, a, b) = (is_device(a) && is_device(b), a.rdev(), b.rdev());
    is_devices && a != b && (whole(a) == b || a == whole(b))
}

fn numbers(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

fn in_sys(device: u64) -> PathBuf {
    Path::new("/sys/dev/block").join(numbers(device))
}

/// What a file in sysfs says. Only the newline is cut: a path may end in other white space, and be no UTF-8.
fn read_line(file: &Path) -> Option<OsString> {
    let text = fs::read(file).ok()?;
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    (!line.is_empty()).then(|| OsString::from_vec(line.to_vec()))
}

fn read_number(file: &Path) -> Option<u64> {
    read_line(file)?.to_str()?.parse().ok()
}
