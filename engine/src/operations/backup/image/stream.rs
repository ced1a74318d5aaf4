//! The steps of a stream of bytes, which comes when its producer likes.
//!
//! A thread of its own reads it, and nobody joins that thread: a backup that fails or is stopped ends at once, however
//! long the producer is silent. While nothing comes there are empty steps, so that the pipeline sees what else happens.

use std::io::{self, Read};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::pipeline::{Input, Step, batch_slots};
use crate::error::{Error, Result};
use crate::parallel;

/// How long nothing may come before there is an empty step.
const PATIENCE: Duration = Duration::from_millis(100);

/// Batches that are read before they are asked for.
const BATCHES_AHEAD: usize = 2;

/// The steps of a stream, which is read to its end.
pub(super) fn steps_of_stream(
    stream: Box<dyn Read + Send>,
    name: String,
    chunk_size: u32,
) -> Result<impl Iterator<Item = Result<Step>> + Send> {
    let batch_bytes = (batch_slots(chunk_size) * u64::from(chunk_size)) as usize;
    let batches = read_batches(stream, batch_bytes)?;
    let (mut offset, mut ended) = (0, false);
    Ok(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let bytes = match batches.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => return Some(Ok(Step::Wait)),
            Ok(Ok(bytes)) => bytes,
            failed => {
                ended = true;
                let reason = match failed {
                    Ok(Err(error)) => error.to_string(),
                    // Never taken for the end of the stream.
                    _ => "its reader ended early".to_owned(),
                };
                return Some(Err(Error::SourceRead { path: name.clone(), offset, reason }));
            }
        };
        ended = bytes.len() < batch_bytes;
        if offset == 0 && bytes.is_empty() {
            // A producer that failed at once is likelier than an image of no bytes.
            let reason = "nothing came before its end".to_owned();
            return Some(Err(Error::SourceRead { path: name.clone(), offset, reason }));
        }
        let first = offset / u64::from(chunk_size);
        offset += bytes.len() as u64;
        let slots = first..offset.div_ceil(chunk_size.into());
        (!slots.is_empty()).then_some(Ok(Step::Batch { slots, input: Input::Given(bytes) }))
    }))
}

/// Batches of `batch_bytes`, the last of which is shorter, perhaps empty.
fn read_batches(
    mut stream: Box<dyn Read + Send>,
    batch_bytes: usize,
) -> Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = bounded(BATCHES_AHEAD);
    parallel::start(move || {
        loop {
            let batch = read_batch(stream.as_mut(), batch_bytes);
            let is_last = batch.as_ref().map_or(true, |bytes| bytes.len() < batch_bytes);
            // Nobody takes it any more when the backup has ended.
            if sender.send(batch).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn read_batch(stream: &mut dyn Read, batch_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(batch_bytes);
    stream.take(batch_bytes as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u32 = 4 << 10;
    const BATCH: usize = 1 << 20;

    /// Gives what it is sent, a piece for each read, and waits for more while the sender lives.
    struct Pipe(Receiver<io::Result<Vec<u8>>>);

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Ok(piece) = self.0.recv() else { return Ok(0) };
            let piece = piece?;
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn steps(pieces: Vec<io::Result<Vec<u8>>>) -> impl Iterator<Item = Result<Step>> {
        let (sender, receiver) = bounded(pieces.len());
        pieces.into_iter().for_each(|piece| sender.send(piece).unwrap());
        steps_of_stream(Box::new(Pipe(receiver)), "-".to_owned(), CHUNK)
            .unwrap()
            .filter(|step| !matches!(step, Ok(Step::Wait)))
    }

    fn slots(step: Result<Step>) -> (std::ops::Range<u64>, usize) {
        match step.unwrap() {
            Step::Batch { slots, input: Input::Given(bytes) } => (slots, bytes.len()),
            _ => panic!("not a batch of given bytes"),
        }
    }

    #[test]
    fn pieces_of_any_size_become_full_batches_and_a_rest() {
        let pieces = vec![4096; 300].into_iter().map(|size| Ok(vec![1; size])).collect();
        let found: Vec<_> = steps(pieces).map(slots).collect();
        assert_eq!(found, [(0..256, BATCH), (256..300, 44 * 4096)]);
        let whole = vec![4096; 256].into_iter().map(|size| Ok(vec![1; size])).collect();
        assert_eq!(steps(whole).map(slots).collect::<Vec<_>>(), [(0..256, BATCH)]);
    }

    #[test]
    fn a_stream_without_a_byte_is_no_image() {
        let mut steps = steps(Vec::new());
        assert!(matches!(steps.next(), Some(Err(Error::SourceRead { offset: 0, .. }))));
        assert!(steps.next().is_none());
    }

    #[test]
    fn an_error_of_the_stream_is_told_once_and_is_no_end() {
        let mut steps = steps(vec![Ok(vec![1; 100]), Err(io::Error::other("broken"))]);
        assert!(matches!(steps.next(), Some(Err(Error::SourceRead { reason, .. })) if reason == "broken"));
        assert!(steps.next().is_none());
    }

    #[test]
    fn a_reader_that_panics_does_not_end_the_image() {
        struct Panics;
        impl Read for Panics {
            fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
                panic!("on purpose");
            }
        }
        let mut steps = steps_of_stream(Box::new(Panics), "-".to_owned(), CHUNK).unwrap();
        let first = steps.find(|step| !matches!(step, Ok(Step::Wait)));
        assert!(matches!(first, Some(Err(Error::SourceRead { .. }))));
    }

    #[test]
    fn a_silent_stream_gives_empty_steps() {
        let (_silent, receiver) = bounded(1);
        let mut steps = steps_of_stream(Box::new(Pipe(receiver)), "-".to_owned(), CHUNK).unwrap();
        assert!(matches!(steps.next(), Some(Ok(Step::Wait))));
    }
}
