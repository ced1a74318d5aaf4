//! Which parts of a file hold data, and reading them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The first range of data that ends behind `offset` and begins before `size`, cut to lie between the two; `None` if only
/// holes follow. Where the file system does not tell holes, everything counts as data.
pub(super) fn next_data(file: &File, offset: u64, size: u64) -> Option<Range<u64>> {
    if offset >= size {
        return None;
    }
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return None,
        Err(_) => return Some(offset..size),
    };
    if start >= size {
        return None;
    }
    match seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Some(start..end.min(size)),
        Err(_) => Some(offset..size),
    }
}

/// Reads from `offset` on until the buffer is full or the file ends, and tells how many bytes that were. An error
/// comes with the offset it happened at.
pub(super) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, (u64, io::Error)> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset + done as u64;
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((at, error)),
        }
    }
    Ok(done)
}
