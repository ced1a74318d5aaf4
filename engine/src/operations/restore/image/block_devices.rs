//! Block devices that depend on each other where the kernel does not tell: a loop device does not hold what it lies on, so
//! opening that exclusively succeeds though a file system is mounted from the loop device.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

/// What a device lies on: a part of a file or device.
pub(super) struct Backing {
    /// As the kernel has it: behind the name of a file that was deleted stands ` (deleted)`.
    pub(super) path: PathBuf,
    /// In bytes; it may reach past the end.
    range: Range<u64>,
    /// Name of the loop device that lies on it; none where all of a file or device is meant, whoever uses it.
    user: Option<String>,
    /// The kernel keeps others from it, as loop devices don't.
    pub(super) is_held: bool,
}

impl Backing {
    /// All of a file or device.
    pub(super) fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), range: 0..u64::MAX, user: None, is_held: false }
    }

    /// The device with this directory in sysfs, of which another one is made.
    fn part(place: &Path) -> Option<Self> {
        let name = place.file_name()?.to_str()?.replace('!', "/");
        Some(Self { is_held: true, ..Self::whole(&Path::new("/dev").join(name)) })
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
        Some(Self { path, range: start..end, user: Some(user), is_held: false })
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

/// What a device lies on, if it is a loop device, a partition of one, or made of other devices (by device-mapper), and what
/// these lie on, the nearest first.
pub(super) fn below(device: u64) -> Vec<Backing> {
    let (mut found, mut devices) = (Vec::new(), vec![whole(device)]);
    let mut looked_at = 0;
    while let Some(&device) = devices.get(looked_at) {
        looked_at += 1;
        let place = in_sys(device);
        let mut next = Vec::new();
        for part in entries(&place.join("slaves")) {
            next.extend(number_in(&part));
            found.extend(Backing::part(&part));
        }
        if let Some(backing) = Backing::of(&place) {
            next.extend(fs::metadata(&backing.path).ok().filter(is_device).map(|there| there.rdev()));
            found.push(backing);
        }
        for device in next.into_iter().map(whole) {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
    }
    found
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Another loop device that lies on a part of the same.
pub(super) fn other_user(backing: &Backing) -> Option<String> {
    let mut others = entries(Path::new("/sys/block")).filter_map(|device| Backing::of(&device));
    let user = others.find(|other| other.user != backing.user && other.meets(backing))?.user?;
    Some(format!("/dev/{user}"))
}

/// Where a device is mounted.
pub(super) fn mountpoint_of(device: u64) -> Option<String> {
    let wanted = numbers(device);
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let mounts = String::from_utf8_lossy(&mounts);
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

/// The device that one is a partition of, or else itself.
fn whole(device: u64) -> u64 {
    let place = in_sys(device);
    if !place.join("partition").exists() {
        return device;
    }
    // The directory of a partition lies in that of its device.
    place.canonicalize().ok().and_then(|place| number_in(place.parent()?)).unwrap_or(device)
}

/// The number of the device with this directory in sysfs.
fn number_in(place: &Path) -> Option<u64> {
    let numbers = read_line(&place.join("dev"))?;
    let (major, minor) = numbers.to_str()?.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
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
