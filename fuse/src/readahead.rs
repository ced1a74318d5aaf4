//! Decompresses chunks ahead of a sequential reader, on a few threads of its own.
//!
//! Needed where the kernel asks for little at a time: without it one request's chunks would be decompressed on one
//! core while the others wait. What is loaded lies in the engine's cache, so all of it together is bounded.

use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use treering_engine::FileReader;

use crate::handle::OpenFile;
use crate::image::OpenImage;

/// A reader counts as sequential after so many bytes.
const START_BYTES: u64 = 256 << 10;
/// Requests of one reader may overtake each other by so much.
const SLACK_BYTES: u64 = 1 << 20;
/// No more than this is loaded ahead of one reader.
const MAX_WINDOW_BYTES: u64 = 4 << 20;

/// Finds out whether a handle is read sequentially.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    /// End of the furthest request of the run.
    reached: u64,
    /// Bytes of the run.
    run_bytes: u64,
    /// Everything before this was asked for.
    ahead_to: u64,
}

impl Detector {
    /// Takes note of a request; gives the range to load now, if any.
    pub(crate) fn observe(&mut self, offset: u64, length: u64) -> Option<Range<u64>> {
        let end = offset.saturating_add(length);
        let near = offset.abs_diff(self.reached) <= SLACK_BYTES;
        if !near {
            *self = Self { reached: end, run_bytes: length, ahead_to: end };
            return None;
        }
        self.run_bytes = self.run_bytes.saturating_add(end.saturating_sub(self.reached));
        self.reached = self.reached.max(end);
        if self.run_bytes < START_BYTES {
            return None;
        }
        let window = self.run_bytes.min(MAX_WINDOW_BYTES);
        let range = self.ahead_to.max(self.reached)..self.reached.saturating_add(window);
        // Small pieces often would cost more than they give.
        if range.end.saturating_sub(range.start) < window / 4 {
            return None;
        }
        self.ahead_to = range.end;
        Some(range)
    }
}

/// What is loaded of a file of a tree in one piece: its chunks have no fixed size, and several threads load pieces.
const PIECE_BYTES: u64 = 512 << 10;

/// Something to load.
enum Job {
    /// A chunk of an image.
    Chunk(Arc<OpenImage>, u64),
    /// The chunks in a range of a file.
    Piece(FileReader, Range<u64>),
}

impl Job {
    fn run(self) {
        match self {
            Self::Chunk(image, index) => image.prefetch(index),
            Self::Piece(file, range) => {
                let mut next = Some(range.start);
                while let Some(at) = next.filter(|&at| at < range.end) {
                    next = file.prefetch(at);
                }
            }
        }
    }
}

/// The threads. They end when this is dropped.
pub(crate) struct ReadAhead {
    jobs: Sender<Job>,
}

impl ReadAhead {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        /// Enough for a few readers; what does not fit is left to the reader.
        const QUEUE_LEN: usize = 1024;
        let (jobs, queue) = bounded(QUEUE_LEN);
        for index in 0..threads.max(1) {
            let queue: Receiver<Job> = queue.clone();
            let work = move || queue.iter().for_each(Job::run);
            std::thread::Builder::new().name(format!("treering-ahead-{index}")).spawn(work)?;
        }
        Ok(Self { jobs })
    }

    /// Asks for the chunks of a range; what is too much now is left out.
    pub(crate) fn load(&self, file: &OpenFile, range: Range<u64>) {
        match file {
            OpenFile::Image(image) => {
                let chunk_size = image.chunk_size();
                let end = range.end.min(image.size()).div_ceil(chunk_size);
                let indexes = range.start.div_ceil(chunk_size)..end;
                self.send(indexes.map(|index| Job::Chunk(Arc::clone(image), index)));
            }
            OpenFile::Entry(entry) => {
                let file = entry.reader();
                self.send(pieces(range, file.size()).map(|piece| Job::Piece(file.clone(), piece)));
            }
        }
    }

    fn send(&self, mut jobs: impl Iterator<Item = Job>) {
        let _ = jobs.try_for_each(|job| self.jobs.try_send(job));
    }
}

/// Cuts a range of a file of this size into pieces.
fn pieces(range: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end.min(size);
    let mut start = range.start;
    std::iter::from_fn(move || {
        let piece = start..end.min(start.saturating_add(PIECE_BYTES));
        start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: u64 = 128 << 10;

    #[test]
    fn a_sequential_reader_gets_every_byte_ahead_once() {
        let mut detector = Detector::default();
        let mut asked: Vec<Range<u64>> = Vec::new();
        for index in 0..100 {
            asked.extend(detector.observe(index * REQUEST, REQUEST));
        }
        assert!(asked.len() > 2);
        for pair in asked.windows(2) {
            assert!(pair[0].end <= pair[1].start, "{asked:?}");
        }
        let last = asked.last().unwrap();
        assert!(last.end > 100 * REQUEST && last.end <= 100 * REQUEST + MAX_WINDOW_BYTES);
    }

    #[test]
    fn requests_that_overtake_each_other_are_still_sequential() {
        let mut detector = Detector::default();
        let order = [1, 0, 3, 2, 5, 4, 7, 6, 9, 8];
        let asked = order.iter().filter_map(|index| detector.observe(index * REQUEST, REQUEST)).count();
        assert!(asked > 0);
    }

    #[test]
    fn a_random_reader_gets_nothing() {
        let mut detector = Detector::default();
        for index in 0..1000u64 {
            let offset = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (1 << 40);
            assert_eq!(detector.observe(offset, 4096), None);
        }
    }

    #[test]
    fn a_range_is_cut_into_pieces_up_to_the_end_of_the_file() {
        let cut = |range, size| pieces(range, size).map(|piece| (piece.start, piece.end)).collect::<Vec<_>>();
        assert_eq!(cut(5..5, 100), []);
        assert_eq!(cut(5..200, 100), [(5, 100)]);
        assert_eq!(cut(200..300, 100), []);
        let two = 2 * PIECE_BYTES;
        assert_eq!(cut(1..u64::MAX, two), [(1, PIECE_BYTES + 1), (PIECE_BYTES + 1, two)]);
    }

    #[test]
    fn the_end_of_all_offsets_is_no_problem() {
        let mut detector = Detector::default();
        detector.observe(u64::MAX, u64::MAX);
        detector.observe(u64::MAX, u64::MAX);
    }
}
