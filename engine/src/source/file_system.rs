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
        OVERLAYFS => {
            let layers = layers_of(descriptor);
            !layers.is_empty() && layers.iter().all(is_layer_to_be_believed)
        }
        kind => !TIMES_SAY_NOTHING.contains(&kind),
    }
}

/// What was not written to since it was mounted is that of a layer below. Nothing is known of one that is mounted elsewhere,
/// as outside of a container, nor of what lies below another overlay file system, which may be this one itself.
fn is_layer_to_be_believed(layer: &PathBuf) -> bool {
    let kind = statfs(layer).map(|system| kind_of(&system));
    // The paths of a mount are shown as they were typed.
    layer.is_absolute() && kind.is_ok_and(|kind| kind != OVERLAYFS && !TIMES_SAY_NOTHING.contains(&kind))
}

fn kind_of(system: &StatFs) -> u64 {
    system.f_type as u64 & 0xFFFF_FFFF
}

/// The layers of the overlay file system that something lies on, as far as they are told.
fn layers_of(descriptor: impl AsFd) -> Vec<PathBuf> {
    let mount = statx(descriptor, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|found| found.stx_mnt_id);
    let mounts = std::fs::read("/proc/self/mountinfo");
    let (Ok(mount), Ok(mounts)) = (mount, mounts) else { return Vec::new() };
    let begin = format!("{mount} ");
    let line = mounts.split(|&byte| byte == b'\n').find(|line| line.starts_with(begin.as_bytes()));
    let options = line.and_then(|line| line.rsplit(|&byte| byte == b' ').next());
    options.map(layers_in).unwrap_or_default()
}

/// The layers that the options of an overlay file system name in `/proc/self/mountinfo`.
fn layers_in(options: &[u8]) -> Vec<PathBuf> {
    let mut layers: Vec<Vec<u8>> = Vec::new();
    for option in options.split(|&byte| byte == b',') {
        let Some(end) = option.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = (&option[..end], without_octal(&option[end + 1..]));
        match name {
            b"lowerdir" => layers.extend(split_at_colons(&value)),
            b"upperdir" | b"lowerdir+" | b"datadir+" => layers.push(value),
            _ => {}
        }
    }
    layers.retain(|layer| !layer.is_empty());
    layers.into_iter().map(|layer| OsString::from_vec(layer).into()).collect()
}

/// What stands with `\040` in a list of mounts.
fn without_octal(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((&first, behind)) = rest.split_first() {
        let digits =
            behind.get(..3).filter(|_| first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    bytes
}

/// The paths of a list as they were given to `mount(8)`: what follows a backslash stands for itself.
fn split_at_colons(list: &[u8]) -> Vec<Vec<u8>> {
    let mut paths = vec![Vec::new()];
    let mut bytes = list.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, paths.last_mut()) {
            (b':', _) => paths.push(Vec::new()),
            (b'\\', Some(path)) => path.extend(bytes.next()),
            (_, Some(path)) => path.push(byte),
            (_, None) => {}
        }
    }
    paths
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
            let layers = layers_in(str::as_bytes(options)).into_iter();
            layers.map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(layers("rw,lowerdir=/a:/b,upperdir=/c"), ["/a", "/b", "/c"]);
        assert_eq!(layers("ro,lowerdir=/a::/data"), ["/a", "/data"]);
        assert_eq!(layers("rw,lowerdir+=/a,datadir+=/b c"), ["/a", "/b c"]);
        // As Linux 6.18 shows `lowerdir=/c\:d:/a b\,c` and `/back\\slash`.
        assert_eq!(layers(r"rw,lowerdir=/c\134:d:/a\040b\134\054c,uuid=on"), ["/c:d", "/a b,c"]);
        assert_eq!(layers(r"ro,lowerdir=/back\134\134slash:/e"), [r"/back\slash", "/e"]);
        assert!(layers("rw,relatime").is_empty());
    }
}
