//! Deep scrub: compares a revision with its source.

use std::ops::Range;

use super::{Findings, Scrub, damage_of, gather};
use crate::error::Result;
use crate::extent::push_joined;
use crate::format::{Record, Slot};
use crate::revision::ImageReader;
use crate::source::ImageSource;

const BATCH_BYTES: u64 = 1 << 20;

impl Scrub<'_> {
    /// Notes the ranges of chunks in which the source differs, neighbours joined; what one of the two has beyond the
    /// other's end differs, and so does what lies below a node that can't be read.
    pub(super) fn compare(
        &self,
        record: &Record,
        source: &dyn ImageSource,
        findings: &mut Findings,
    ) -> Result<()> {
        let mismatched = &mut findings.mismatched;
        let image = match self.repository.open_image(record) {
            Ok(image) => image,
            Err(error) => {
                damage_of(error)?;
                push_joined(mismatched, 0..record.content.size().max(source.size()));
                return Ok(());
            }
        };
        let chunk_size = u64::from(image.chunk_size());
        let common = image.size().min(source.size());
        let slots = common / chunk_size;
        let batch = (BATCH_BYTES / chunk_size).max(1);
        self.monitor.begin("comparing", Some(common));
        gather(
            (0..slots).step_by(batch as usize).map(|start| start..(start + batch).min(slots)),
            |slots| {
                let mut differing = Vec::new();
                let result = self.compare_slots(&image, source, slots, &mut differing);
                (differing, result)
            },
            |differing| {
                differing.into_iter().for_each(|range| push_joined(mismatched, range));
                Ok(())
            },
        )?;
        push_joined(mismatched, differing_tail(&image, source, slots * chunk_size)?);
        Ok(())
    }

    fn compare_slots(
        &self,
        image: &ImageReader,
        source: &dyn ImageSource,
        slots: Range<u64>,
        differing: &mut Vec<Range<u64>>,
    ) -> Result<()> {
        self.go_on()?;
        let chunk_size = u64::from(image.chunk_size());
        let bytes_of = |slots: Range<u64>| slots.start * chunk_size..slots.end * chunk_size;
        let all = bytes_of(slots.clone());
        let length = all.end - all.start;
        self.monitor.advance(length);
        let contents = match image.map().slots(slots.clone()) {
            Ok(contents) => contents,
            Err(error) => {
                damage_of(error)?;
                push_joined(differing, all);
                return Ok(());
            }
        };
        let is_hole = contents.iter().all(|content| *content == Slot::Hole);
        if is_hole && source.next_data(all.start)?.is_none_or(|data| data.start >= all.end) {
            return Ok(());
        }
        let mut bytes = vec![0; length as usize];
        source.read_at(all.start, &mut bytes)?;
        for ((slot, content), bytes) in slots.zip(contents).zip(bytes.chunks(chunk_size as usize)) {
            if !content.matches(image.hasher(), bytes) {
                push_joined(differing, bytes_of(slot..slot + 1));
            }
        }
        Ok(())
    }
}

/// What differs behind the last chunk that both have whole; empty if nothing does.
fn differing_tail(image: &ImageReader, source: &dyn ImageSource, start: u64) -> Result<Range<u64>> {
    let size = image.size().max(source.size());
    if image.size() != source.size() {
        return Ok(start..size);
    }
    let mut stored = vec![0; (size - start) as usize];
    let mut found = stored.clone();
    source.read_at(start, &mut found)?;
    let readable = match image.read_at(start, &mut stored) {
        Ok(_) => true,
        Err(error) => damage_of(error).map(|_| false)?,
    };
    Ok(if readable && stored == found { start..start } else { start..size })
}
