//! Ranges of files and devices: where they have data, and making them zero in the ways that the system has.

use std::fs::File;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::error::Error;
use crate::monitor::Monitor;

/// Bytes that are looked at or written at a time.
pub(super) const STEP: u64 = 1 << 20;

/// No file system has longer blocks.
const BLOCK_MAX: u64 = 64 << 10;

/// A hole in the place of what was there, which leaves the size as it is.
const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// The first data from a range's begin on, as the system tells it, cut to the range.
pub(super) fn next_data(file: &File, range: &Range<u64>) -> Option<Range<u64>> {
    let start = match seek(file, SeekFrom::Data(range.start)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return None,
        // The file system does not tell where data is.
        Err(_) => range.start,
    };
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(range.end).min(range.end);
    (start < range.end).then(|| start..end.max(start + 1))
}

/// The stretch of data that was last found in a file, to be asked of ranges that are to be data and of no others: what of
/// a stretch is to be a hole may be one by now.
///
/// To find the end of a stretch the system walks through all extents of it, which is not to be done for every chunk.
#[derive(Debug, Default)]
pub(super) struct Stretch(Mutex<Range<u64>>);

impl Stretch {
    /// Whether a range of the file is data, as the system tells it.
    pub(super) fn covers(&self, file: &File, range: &Range<u64>) -> bool {
        let covers = |stretch: &Range<u64>| stretch.start <= range.start && range.end <= stretch.end;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !covers(&known)
            && let Some(found) = next_data(file, &(range.start..u64::MAX))
        {
            *known = found;
        }
        covers(&known)
    }
}

/// Allocates, zeroes or frees a range as the flags say; `false` where that is not supported.
pub(super) fn allocate(file: &File, flags: FallocateFlags, range: &Range<u64>) -> Result<bool, Errno> {
    match fallocate(file, flags, range.start, range.end - range.start) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Makes a range a hole; `false` where that is not supported.
///
/// Of a block that lies in the range only in part the bytes are zeroed and the space stays. So what ends with the file is
/// punched beyond it, where nothing is: else its last block would stay data.
pub(super) fn punch(file: &File, range: &Range<u64>) -> Result<bool, Errno> {
    let ends_file = file.metadata().is_ok_and(|there| there.is_file() && there.len() <= range.end);
    let end = if ends_file { range.end.saturating_add(BLOCK_MAX) } else { range.end };
    allocate(file, PUNCH, &(range.start..end))
}

/// Writes zeros step by step.
pub(super) fn write_zeros<E: From<Error>>(
    range: &Range<u64>,
    monitor: &dyn Monitor,
    write: impl Fn(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let zeros = vec![0; STEP.min(range.end - range.start) as usize];
    let mut at = range.start;
    while at < range.end {
        if monitor.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        let step = (range.end - at).min(STEP) as usize;
        write(at, zeros.get(..step).unwrap_or_default())?;
        at += step as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::monitor::SilentMonitor;

    #[test]
    fn data_is_found_and_cut_to_the_range() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(&[1; 8192], 4 << 20).unwrap();
        let data = (4 << 20)..(4 << 20) + 8192;
        assert_eq!(next_data(&file, &(0..10 << 20)), Some(data.clone()));
        assert_eq!(next_data(&file, &(data.start + 5..data.start + 7)), Some(data.start + 5..data.start + 7));
        assert_eq!(next_data(&file, &(0..data.start)), None);
        assert_eq!(next_data(&file, &(data.end..10 << 20)), None);
    }

    /// The last part of a file that was shorter than a block once stayed data.
    #[test]
    fn a_hole_reaches_to_the_end_of_a_file_whatever_its_length() {
        let file = tempfile::tempfile().unwrap();
        let size = (1 << 20) + 1709;
        file.write_all_at(&vec![1; size as usize], 0).unwrap();
        file.sync_all().unwrap();
        if punch(&file, &(1 << 20..size)).unwrap() {
            assert_eq!(next_data(&file, &(1 << 20..size)), None);
            assert_eq!(next_data(&file, &(0..size)), Some(0..1 << 20));
        }
        assert_eq!(file.metadata().unwrap().len(), size);
    }

    #[test]
    fn zeros_are_written_to_the_last_byte_and_no_further() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![1; (3 << 20) + 10], 0).unwrap();
        let range = 7..(2 << 20) + 9;
        write_zeros::<Error>(&range, &SilentMonitor, |at, bytes| {
            file.write_all_at(bytes, at).map_err(Error::io("write", "the file"))
        })
        .unwrap();
        let mut there = vec![0; (3 << 20) + 10];
        file.read_exact_at(&mut there, 0).unwrap();
        let zeros: Vec<usize> = (0..there.len()).filter(|&at| there[at] == 0).collect();
        assert_eq!((zeros.len(), zeros[0]), ((2 << 20) + 2, 7));
    }
}
