//! Extended attributes: ACLs, capabilities, labels, and what users set.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{fgetxattr, flistxattr, getxattr, listxattr};
use rustix::io::Errno;

use super::problem::Cause;

/// Longest list of names and longest value, in bytes, as Linux limits them.
const SYSTEM_MAX: usize = 64 << 10;
/// What most lists and values fit into.
const SHORT: usize = 512;
/// How many bytes of attributes an entry may have in all.
const TOTAL_MAX: usize = 4 << 20;

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attribute {
    /// Its name, with the namespace: `user.mime_type`.
    pub(crate) name: Vec<u8>,
    /// Its value.
    pub(crate) value: Vec<u8>,
}

/// The inode of the first user namespace (`PROC_USER_INIT_INO` of the kernel).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether this process sees attributes of all namespaces. The kernel shows `trusted.` only to who has `CAP_SYS_ADMIN` in the
/// first user namespace, and keeps silent about it to all others (xattr(7)).
pub(crate) fn sees_all_attributes() -> bool {
    let namespace = rustix::fs::stat("/proc/self/ns/user").map(|stat| stat.st_ino);
    let may_administer = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    may_administer && namespace.is_ok_and(|inode| inode == FIRST_USER_NAMESPACE)
}

/// The attributes of an entry that is open for reading, sorted by name.
pub(crate) fn of_open(descriptor: impl AsFd) -> Result<Vec<Attribute>, Cause> {
    let list = read(|buffer| flistxattr(&descriptor, buffer));
    collect(list, |name| read(|buffer| fgetxattr(&descriptor, name, buffer)))
}

/// The attributes of an entry of any type behind a descriptor that was opened with `O_PATH`.
///
/// The calls for descriptors refuse such a one. The path below `/proc` leads to what it holds and no further, so that
/// also a symlink's own attributes are read, whatever has its name by now.
pub(crate) fn of_held(descriptor: impl AsFd) -> Result<Vec<Attribute>, Cause> {
    let path = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    let list = match read(|buffer| listxattr(&path, buffer)) {
        // What is held is there, if only its path is.
        Err(Errno::NOENT) => return Err(Cause::NoProc),
        list => list,
    };
    collect(list, |name| read(|buffer| getxattr(&path, name, buffer)))
}

fn collect(
    list: Result<Vec<u8>, Errno>,
    value_of: impl Fn(&[u8]) -> Result<Vec<u8>, Errno>,
) -> Result<Vec<Attribute>, Cause> {
    let list = match list {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        list => list?,
    };
    let mut attributes = Vec::new();
    let mut total = 0;
    for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let value = match value_of(name) {
            Ok(value) => value,
            // Gone by now, or not for us to read.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => continue,
            Err(error) => return Err(error.into()),
        };
        total += name.len() + value.len();
        if total > TOTAL_MAX {
            return Err(Cause::TooManyAttributes(TOTAL_MAX));
        }
        attributes.push(Attribute { name: name.to_vec(), value });
    }
    attributes.sort_unstable();
    Ok(attributes)
}

/// Reads a list or value of unknown length.
fn read(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut short = [0; SHORT];
    match call(&mut short) {
        Ok(length) => Ok(short.get(..length).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            let mut long = vec![0; SYSTEM_MAX];
            let length = call(&mut long)?;
            long.truncate(length);
            long.shrink_to_fit();
            Ok(long)
        }
        Err(error) => Err(error),
    }
}
