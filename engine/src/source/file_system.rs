//! Which file systems can be believed when they say that a file is as it was.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatFs, StatxFlags, fstatfs, statfs, statx};

/// File systems whose times say nothing of changes, by their numbers for `statfs(2)`.
const TIMES_SAY_NOTHING: [u64; 11] = [
    // Images that are made at one go, with whatever times their maker likes: a new one may have other content under the same
    // inode and times. squashfs, erofs, iso9660, udf, cramfs, romfs.
    0x7371_7368,
    0xE0F5_E1E2,
    0x9660,
    0x1501_3346,
    0x28CD_3D45,
    0x7275,
    // They have no time of status change, and count in two seconds. vfat, exfat.
    0x4D44,
    0x2011_BAB0,
    // What is in memory alone is never written back, so that only the first write to a page through a mapping sets a time.
    // tmpfs, ramfs, hugetlbfs.
    0x0102_1994,
    0x8584_58F6,
    0x9584_58F6,
];

const OVERLAYFS: u64 = 0x794C_7630;

/// Whether size, times and inode of a file tell that it was not changed. `descriptor` may be opened with `O_PATH`.
pub(crate) fn tells_changes(descriptor: impl AsFd) -> bool {
    let Ok(system) = fstatfs(&descriptor) else { return false };
    match kind_of(&system) {
        // What was not written to since it was mounted is that of a layer below.
        OVERLAYFS => layers_of(descriptor).iter().all(|layer| {
            let system = statfs(layer);
            // Mounted in another place, as in a container, nothing is known of it.
            system.map_or(true, |system| !TIMES_SAY_NOTHING.contains(&kind_of(&system)))
        }),
        kind => !TIMES_SAY_NOTHING.contains(&kind),
    }
}

fn kind_of(system: &StatFs) -> u64 {
    system.f_type as u64 & 0xFFFF_FFFF
}

/// The layers of the overlay file system that something lies on, as far as they are told.
fn layers_of(descriptor: impl AsFd) -> Vec<PathBuf> {
    let mount = statx(descriptor, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|found| found.stx_mnt_id);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo");
    let (Ok(mount), Ok(mounts)) = (mount, mounts) else { return Vec::new() };
    let mount = mount.to_string();
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(mount.as_str()));
    line.and_then(|line| line.rsplit(' ').next()).map(layers_in).unwrap_or_default()
}

/// The layers that the options of an overlay file system name.
fn layers_in(options: &str) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for option in split_unescaped(options, b',') {
        match option.split_once('=') {
            Some(("lowerdir", list)) => layers.extend(split_unescaped(list, b':')),
            Some(("upperdir" | "lowerdir+" | "datadir+", layer)) => layers.push(layer),
            _ => {}
        }
    }
    layers.into_iter().filter(|layer| !layer.is_empty()).map(unescaped).collect()
}

/// Splits where a backslash does not stand before the separator.
fn split_unescaped(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        if byte == separator && !escaped {
            parts.push(&text[start..index]);
            start = index + 1;
        }
        escaped = byte == b'\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

/// The path that stands with `\,`, `\:` and `\040` in a list of mounts.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let octal = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (byte, behind) = match (first, octal) {
            (b'\\', Some(byte)) => (byte, &behind[3..]),
            (b'\\', None) => behind.split_first().map_or((first, behind), |(&next, behind)| (next, behind)),
            _ => (first, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_file_system_is_believed() {
        assert!(tells_changes(tempfile::tempfile_in("/var/tmp").unwrap()));
    }

    #[test]
    fn what_is_in_memory_alone_is_not_believed() {
        assert!(!tells_changes(tempfile::tempfile_in("/dev/shm").unwrap()));
    }

    #[test]
    fn layers_are_read_from_the_options_of_a_mount() {
        let layers = |options| {
            layers_in(options).into_iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(layers("rw,lowerdir=/a:/b,upperdir=/c"), ["/a", "/b", "/c"]);
        assert_eq!(layers("ro,lowerdir=/a::/data"), ["/a", "/data"]);
        assert_eq!(layers("rw,lowerdir+=/a,datadir+=/b c"), ["/a", "/b c"]);
        assert_eq!(layers(r"rw,lowerdir=/a\040b\,c\:d:/e,xino=off"), ["/a b,c:d", "/e"]);
        assert!(layers("rw,relatime").is_empty());
    }
}
