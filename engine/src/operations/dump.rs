//! An image, or a file of a tree, from the first byte to the last, into a pipe.

use std::io::Write;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::parallel;
use crate::revision::{FileReader, ImageReader};

/// Bytes that are decompressed at a time on one core.
const BATCH_BYTES: u64 = 1 << 20;

/// What can be dumped.
trait Dumped: Sync {
    fn size(&self) -> u64;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// The chunk, or other piece, that holds a byte: lost as a whole, or not at all.
    fn piece_at(&self, offset: u64) -> Range<u64>;
}

impl Dumped for ImageReader {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        Self::read_at(self, offset, buffer)
    }

    fn piece_at(&self, offset: u64) -> Range<u64> {
        let chunk_size = u64::from(self.chunk_size());
        let start = offset / chunk_size * chunk_size;
        start..(start + chunk_size).min(self.size())
    }
}

impl Dumped for FileReader {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        Self::read_at(self, offset, buffer)
    }

    fn piece_at(&self, offset: u64) -> Range<u64> {
        self.slots(offset).next().map_or(0..self.size(), |(range, _)| range)
    }
}

/// Writes the whole image, holes as zeros. Returns its size.
///
/// # Errors
/// [`Error::Damaged`] names the first chunk that has no intact copy; all that lies before it was written.
pub fn dump(
    image: &ImageReader,
    revision: &str,
    output: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<u64> {
    dump_all(image, revision, output, monitor)
}

/// Writes a whole file of a tree, holes as zeros. Returns its size. `name` is what messages call it.
///
/// # Errors
/// As those of [`dump`].
pub fn dump_file(
    file: &FileReader,
    name: &str,
    output: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<u64> {
    dump_all(file, name, output, monitor)
}

fn dump_all(dumped: &impl Dumped, name: &str, output: &mut dyn Write, monitor: &dyn Monitor) -> Result<u64> {
    let size = dumped.size();
    monitor.begin("dumping", Some(size));
    let offsets = (0..size).step_by(BATCH_BYTES as usize).map(Ok);
    let read = |(): &mut (), offset: u64| {
        let mut bytes = vec![0; BATCH_BYTES.min(size - offset) as usize];
        match dumped.read_at(offset, &mut bytes) {
            Ok(_) => Ok((bytes, None)),
            Err(_) => read_up_to_damage(dumped, name, offset, bytes),
        }
    };
    parallel::ordered(
        offsets,
        || (),
        read,
        |(bytes, failure)| {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            output.write_all(&bytes).map_err(Error::io("write", "the output"))?;
            monitor.advance(bytes.len() as u64);
            failure.map_or(Ok(()), Err)
        },
    )?;
    output.flush().map_err(Error::io("write", "the output"))?;
    Ok(size)
}

/// Reads piece by piece. Returns what lies before the first failure, and the failure.
fn read_up_to_damage(
    dumped: &impl Dumped,
    name: &str,
    offset: u64,
    mut bytes: Vec<u8>,
) -> Result<(Vec<u8>, Option<Error>)> {
    let mut done = 0;
    while done < bytes.len() {
        let from = offset + done as u64;
        let piece = dumped.piece_at(from);
        let length = (piece.end.saturating_sub(from) as usize).clamp(1, bytes.len() - done);
        if let Err(error) = dumped.read_at(from, &mut bytes[done..done + length]) {
            bytes.truncate(done);
            return Ok((bytes, Some(damaged(name, piece, error))));
        }
        done += length;
    }
    Ok((bytes, None))
}

fn damaged(name: &str, piece: Range<u64>, error: Error) -> Error {
    match error.is_loss() {
        true => Error::Damaged { revision: name.to_owned(), ranges: vec![piece], detail: error.to_string() },
        false => error,
    }
}
