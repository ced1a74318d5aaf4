//! Image files and block devices.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, SeekFrom, fadvise, seek};

use super::file_system::tells_changes;
use super::{ImageSource, extents};
use crate::error::{Error, Result};
use crate::format::{FileEvidence, Timestamp};

/// An image file or a block device, open for reading.
pub struct FileSource {
    file: File,
    path: PathBuf,
    size: u64,
    is_device: bool,
}

impl FileSource {
    /// Opens a file or block device.
    ///
    /// # Errors
    /// [`Error::UnusableSource`] for anything that is not one of the two.
    pub fn open(path: &Path) -> Result<Self> {
        let unusable = |reason: String| Error::UnusableSource { path: path.display().to_string(), reason };
        // Opening a fifo would wait for a writer, so look first.
        let kind = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?.file_type();
        let is_device = kind.is_block_device();
        if !kind.is_file() && !is_device {
            let noun = if kind.is_dir() { "a directory" } else { "neither a file nor a block device" };
            return Err(unusable(format!("it is {noun}; an image is a file or a block device")));
        }
        let file = File::open(path).map_err(|error| unusable(error.to_string()))?;
        let size = seek(&file, SeekFrom::End(0)).map_err(|error| unusable(error.to_string()))?;
        if is_device && size == 0 {
            return Err(unusable(
                "it is a device of no bytes: there is no medium in it, or nothing is attached to it"
                    .to_owned(),
            ));
        }
        // Only a hint to the system.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        Ok(Self { file, path: path.to_owned(), size, is_device })
    }

    fn failed(&self, offset: u64, error: &io::Error) -> Error {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("it ends there, but had {} bytes when the backup began", self.size)
            }
            _ => error.to_string(),
        };
        Error::SourceRead { path: self.path.display().to_string(), offset, reason }
    }
}

impl ImageSource for FileSource {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match extents::read_at(&self.file, offset, buffer) {
            Ok(read) if read < buffer.len() => {
                Err(self.failed(offset + read as u64, &io::ErrorKind::UnexpectedEof.into()))
            }
            Ok(_) => Ok(()),
            Err((at, error)) => Err(self.failed(at, &error)),
        }
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        Ok(extents::next_data(&self.file, offset, self.size))
    }

    fn will_read(&self, range: Range<u64>) {
        let length = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
        let _ = fadvise(&self.file, range.start, length, Advice::WillNeed);
    }

    fn write_back(&self) -> bool {
        // Why a disk fails is told to those who wrote. A device has no times to be believed.
        self.is_device || rustix::fs::fsync(&self.file).is_ok()
    }

    fn evidence(&self) -> Result<Option<FileEvidence>> {
        if self.is_device {
            return Ok(None);
        }
        let metadata = self.file.metadata().map_err(Error::io("stat", self.path.display()))?;
        Ok(Some(FileEvidence {
            size: metadata.size(),
            mtime: Timestamp::from_stat(metadata.mtime(), metadata.mtime_nsec()),
            ctime: Timestamp::from_stat(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            unsettled: !tells_changes(&self.file),
        }))
    }
}
