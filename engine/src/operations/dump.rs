//! An image from the first byte to the last, into a pipe.

use std::io::Write;

use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::parallel;
use crate::revision::ImageReader;

/// Bytes that are decompressed at a time on one core.
const BATCH_BYTES: u64 = 1 << 20;

/// Writes the whole image, holes as zeros. Returns its size.
///
/// # Errors
/// [`Error::Damaged`] names the range that has no intact copy; what was written before it is right.
pub fn dump(
    image: &ImageReader,
    revision: &str,
    output: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<u64> {
    monitor.begin("dumping", Some(image.size()));
    let offsets = (0..image.size()).step_by(BATCH_BYTES as usize).map(Ok);
    let read = |(): &mut (), offset: u64| {
        let length = BATCH_BYTES.min(image.size() - offset);
        let mut bytes = vec![0; length as usize];
        image.read_at(offset, &mut bytes).map_err(|error| damaged(revision, offset, length, error))?;
        Ok(bytes)
    };
    parallel::ordered(
        offsets,
        || (),
        read,
        |bytes| {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            output.write_all(&bytes).map_err(Error::io("write", "the output"))?;
            monitor.advance(bytes.len() as u64);
            Ok(())
        },
    )?;
    output.flush().map_err(Error::io("write", "the output"))?;
    Ok(image.size())
}

fn damaged(revision: &str, offset: u64, length: u64, error: Error) -> Error {
    match error.is_damage() || error.is_not_found() {
        true => Error::Damaged {
            revision: revision.to_owned(),
            ranges: vec![(offset, length)],
            detail: error.to_string(),
        },
        false => error,
    }
}
