//! Deep scrub: compares a revision with its source.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::damage_of;
use crate::error::{Error, Result};
use crate::format::{ObjectType, Record, Slot};
use crate::monitor::Monitor;
use crate::parallel;
use crate::repository::Repository;
use crate::source::ImageSource;

const BATCH_BYTES: u64 = 1 << 20;

/// The ranges of chunks in which the source differs, neighbours joined; what one of the two has beyond the other's
/// end differs, and so does what lies below a node that can't be read.
pub(super) fn compare(
    repository: &Repository,
    record: &Record,
    source: &dyn ImageSource,
    monitor: &dyn Monitor,
) -> Result<Vec<Range<u64>>> {
    let image = match repository.open_image(record) {
        Ok(image) => image,
        Err(error) => {
            damage_of(error)?;
            let all = 0..record.content.size().max(source.size());
            return Ok(Vec::from_iter((!all.is_empty()).then_some(all)));
        }
    };
    let chunk_size = u64::from(image.chunk_size());
    let (size, common) = (image.size().max(source.size()), image.size().min(source.size()));
    let slots = common / chunk_size;
    let batch = (BATCH_BYTES / chunk_size).max(1);
    let differing = Mutex::new(Vec::new());
    monitor.begin("comparing", Some(common));
    let batches = (0..slots).step_by(batch as usize).map(|start| Ok(start..(start + batch).min(slots)));
    parallel::unordered(batches, |slots| {
        if monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let bytes_of = |slots: Range<u64>| slots.start * chunk_size..slots.end * chunk_size;
        let contents = match image.map().slots(slots.clone()) {
            Ok(contents) => contents,
            Err(error) => {
                damage_of(error)?;
                monitor.advance((slots.end - slots.start) * chunk_size);
                differing.lock().unwrap_or_else(PoisonError::into_inner).push(bytes_of(slots));
                return Ok(());
            }
        };
        let mut bytes = vec![0; ((slots.end - slots.start) * chunk_size) as usize];
        source.read_at(slots.start * chunk_size, &mut bytes)?;
        for ((slot, content), bytes) in slots.zip(contents).zip(bytes.chunks(chunk_size as usize)) {
            let same = match content {
                Slot::Chunk(id) => image.hasher().id(ObjectType::Chunk, bytes) == id,
                Slot::Hole | Slot::Zeros => bytes.iter().all(|&byte| byte == 0),
            };
            if !same {
                let mut differing = differing.lock().unwrap_or_else(PoisonError::into_inner);
                differing.push(bytes_of(slot..slot + 1));
            }
            monitor.advance(bytes.len() as u64);
        }
        Ok(())
    })?;
    let mut differing = differing.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(tail) = compare_tail(&image, source, slots * chunk_size, size)? {
        differing.push(tail);
    }
    differing.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in differing {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    Ok(joined)
}

/// What lies behind the last chunk that both have whole.
fn compare_tail(
    image: &crate::revision::ImageReader,
    source: &dyn ImageSource,
    start: u64,
    size: u64,
) -> Result<Option<Range<u64>>> {
    if image.size() != source.size() {
        return Ok((start < size).then_some(start..size));
    }
    let mut stored = vec![0; (size - start) as usize];
    let mut found = stored.clone();
    source.read_at(start, &mut found)?;
    let readable = match image.read_at(start, &mut stored) {
        Ok(_) => true,
        Err(error) => damage_of(error).map(|_| false)?,
    };
    Ok((!readable || stored != found).then_some(start..size))
}
