//! Block devices that depend on each other where the kernel does not tell: a loop device does not hold what it lies on, so
//! opening that exclusively succeeds though a file system is mounted from the loop device.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

/// Loop devices lie on each other so deep at most.
const DEPTH_MAX: usize = 16;

/// The files and devices that a device lies on, if it is a loop device or a partition of one, the nearest first.
pub(super) fn below(device: u64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = backing_of(device);
    while let Some(path) = next.take().filter(|_| found.len() < DEPTH_MAX) {
        next = fs::metadata(&path).ok().filter(is_device).and_then(|there| backing_of(there.rdev()));
        found.push(path);
    }
    found
}

/// The loop device that serves a file, a device, or a partition of that, other than the device `but`.
pub(super) fn loop_device_on(what: &Metadata, but: Option<u64>) -> Option<String> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let backing = read_line(&entry.path().join("loop/backing_file"))?;
        let is_other =
            but.is_none_or(|but| read_line(&entry.path().join("dev")) != Some(numbers(whole(but))));
        let serves = is_other && fs::metadata(backing).is_ok_and(|backing| is_same(&backing, what));
        serves.then(|| format!("/dev/{}", entry.file_name().to_string_lossy()))
    })
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
    read_line(&in_sys(device).join("ro")).as_deref() == Some("1")
}

pub(super) fn is_device(what: &Metadata) -> bool {
    what.file_type().is_block_device()
}

/// What the loop device with this number, or of which it is a partition, lies on.
fn backing_of(device: u64) -> Option<PathBuf> {
    read_line(&in_sys(whole(device)).join("loop/backing_file")).map(PathBuf::from)
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
        let (major, minor) = above.split_once(':')?;
        Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
    });
    parsed.unwrap_or(device)
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    match (is_device(a), is_device(b)) {
        (true, true) => {
            let (a, b) = (a.rdev(), b.rdev());
            a == b || whole(a) == b || a == whole(b)
        }
        (false, false) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn numbers(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

fn in_sys(device: u64) -> PathBuf {
    Path::new("/sys/dev/block").join(numbers(device))
}

fn read_line(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim_end().to_owned()).filter(|line| !line.is_empty())
}
