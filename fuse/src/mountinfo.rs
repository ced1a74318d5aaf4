//! What is mounted where: the table of `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::MountError;

/// The type by which our mounts are known.
pub(crate) const FILE_SYSTEM_TYPE: &str = "fuse.treering";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountInfo {
    pub(crate) id: u32,
    pub(crate) parent: u32,
    /// The device's numbers, as `major:minor`.
    pub(crate) device: String,
    pub(crate) mountpoint: PathBuf,
    pub(crate) kind: String,
}

impl MountInfo {
    /// Whether it is one of ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.kind == FILE_SYSTEM_TYPE
    }
}

/// All mounts of this process's namespace.
pub(crate) fn mounts() -> Result<Vec<MountInfo>, MountError> {
    let path = Path::new("/proc/self/mountinfo");
    let table = std::fs::read(path).map_err(MountError::io("read", path))?;
    Ok(parse(&table))
}

/// Where repositories are mounted in this process's namespace.
///
/// # Errors
/// If `/proc` is not mounted.
pub fn mountpoints() -> Result<Vec<PathBuf>, MountError> {
    Ok(mounts()?.into_iter().filter(MountInfo::is_ours).map(|mount| mount.mountpoint).collect())
}

/// The mount that a path leads to if it is a mount point: of several on one path, that on top.
pub(crate) fn mount_on(path: &Path) -> Result<Option<MountInfo>, MountError> {
    Ok(topmost(&mounts()?, path).cloned())
}

/// The mount on this path which no other mount on the same path has as its parent.
fn topmost<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let here = || mounts.iter().filter(|mount| mount.mountpoint == path);
    here().rfind(|mount| !here().any(|other| other.parent == mount.id && other.id != mount.id))
}

fn parse(table: &[u8]) -> Vec<MountInfo> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// Reads a line as `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext3 /dev/root rw`.
fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut text = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let id = text()?.parse().ok()?;
    let parent = text()?.parse().ok()?;
    let device = text()?.to_owned();
    let mountpoint = unescape(fields.nth(1)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(MountInfo { id, parent, device, mountpoint, kind: String::from_utf8_lossy(kind).into_owned() })
}

/// Takes back the octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, after @ ..] = rest {
        let octal = |digit: &u8| (b'0'..=b'7').contains(digit);
        rest = match after {
            [a, b, c, after @ ..] if *byte == b'\\' && [a, b, c].into_iter().all(octal) => {
                path.push((a & 3) << 6 | (b & 7) << 3 | (c & 7));
                after
            }
            _ => {
                path.push(*byte);
                after
            }
        };
    }
    PathBuf::from(OsString::from_vec(path))
}

/// A path as an option of a mount may hold it: a comma would end the option.
pub(crate) fn escape_option(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, ',' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Whether a path can be given to the system at all.
pub(crate) fn has_nul(path: &Path) -> bool {
    path.as_os_str().as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
        30 22 0:25 / /mnt/a\\040b\\134c rw shared:1 master:2 - fuse.treering /backup ro,user_id=0\n\
        31 22 0:26 / /mnt/x rw - tmpfs none rw\n\
        nonsense\n\
        32 31 0:27 / /mnt/x ro - fuse.treering /backup ro\n";

    #[test]
    fn a_table_is_read_with_escapes_and_optional_fields() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].mountpoint, Path::new("/mnt/a b\\c"));
        assert_eq!((mounts[1].id, mounts[1].parent, mounts[1].device.as_str()), (30, 22, "0:25"));
        assert!(mounts[1].is_ours() && !mounts[0].is_ours());
    }

    #[test]
    fn of_two_mounts_on_one_path_the_upper_counts() {
        let mut mounts = parse(TABLE);
        assert_eq!(topmost(&mounts, Path::new("/mnt/x")).unwrap().id, 32);
        mounts.reverse();
        assert_eq!(topmost(&mounts, Path::new("/mnt/x")).unwrap().id, 32);
        assert_eq!(topmost(&mounts, Path::new("/mnt")), None);
    }

    #[test]
    fn commas_do_not_end_an_option() {
        assert_eq!(escape_option("/a,b\\c"), "/a\\,b\\\\c");
    }
}
