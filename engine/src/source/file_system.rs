//! Which file systems can be believed when they say that a file is as it was.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

/// File systems whose times say nothing of changes: images that are made at one go, with whatever times their maker likes (a
/// new one may have other content under the same inode and times), and those of FAT, which have no time of status change
/// and count in two seconds. Numbers of `statfs(2)`: squashfs, erofs, iso9660, udf, cramfs, romfs, vfat, exfat.
const TIMES_SAY_NOTHING: [u64; 8] =
    [0x7371_7368, 0xE0F5_E1E2, 0x9660, 0x1501_3346, 0x28CD_3D45, 0x7275, 0x4D44, 0x2011_BAB0];

/// Whether size, times and inode of a file tell that it was not changed. `descriptor` may be opened with `O_PATH`.
pub(crate) fn tells_changes(descriptor: impl AsFd) -> bool {
    fstatfs(descriptor).is_ok_and(|system| !TIMES_SAY_NOTHING.contains(&(system.f_type as u64 & 0xFFFF_FFFF)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_file_system_is_believed() {
        assert!(tells_changes(tempfile::tempfile().unwrap()));
    }
}
