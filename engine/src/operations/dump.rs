//! An image from the first byte to the last, into a pipe.

use std::io::Write;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::parallel;
use crate::revision::ImageReader;

/// Bytes that are decompressed at a time on one core.
const BATCH_BYTES: u64 = 1 << 20;

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
    monitor.begin("dumping", Some(image.size()));
    let offsets = (0..image.size()).step_by(BATCH_BYTES as usize).map(Ok);
    let read = |(): &mut (), offset: u64| {
        let mut bytes = vec![0; BATCH_BYTES.min(image.size() - offset) as usize];
        match image.read_at(offset, &mut bytes) {
            Ok(_) => Ok((bytes, None)),
            Err(_) => read_up_to_damage(image, revision, offset, bytes),
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
    Ok(image.size())
}

/// Reads chunk by chunk. Returns what lies before the first failure, and the failure.
fn read_up_to_damage(
    image: &ImageReader,
    revision: &str,
    offset: u64,
    mut bytes: Vec<u8>,
) -> Result<(Vec<u8>, Option<Error>)> {
    let chunk_size = u64::from(image.chunk_size());
    let mut done = 0;
    while done < bytes.len() {
        let from = offset + done as u64;
        let start = from / chunk_size * chunk_size;
        let length = ((start + chunk_size - from) as usize).min(bytes.len() - done);
        if let Err(error) = image.read_at(from, &mut bytes[done..done + length]) {
            bytes.truncate(done);
            let chunk = start..(start + chunk_size).min(image.size());
            return Ok((bytes, Some(damaged(revision, chunk, error))));
        }
        done += length;
    }
    Ok((bytes, None))
}

fn damaged(revision: &str, chunk: Range<u64>, error: Error) -> Error {
    match error.is_loss() {
        true => {
            Error::Damaged { revision: revision.to_owned(), ranges: vec![chunk], detail: error.to_string() }
        }
        false => error,
    }
}
