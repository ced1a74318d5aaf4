//! Which file systems can be believed when they say that a file is as it was.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

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

/// Whether size, times and inode of a file tell that it was not changed. `descriptor` may be opened with `O_PATH`.
pub(crate) fn tells_changes(descriptor: impl AsFd) -> bool {
    fstatfs(descriptor).is_ok_and(|system| !TIMES_SAY_NOTHING.contains(&(system.f_type as u64 & 0xFFFF_FFFF)))
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
}
