//! The bytes of a file: written to a new one, or compared with what is there, and only what differs written.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use rustix::fs::FallocateFlags;

use super::super::ranges::{STEP, Stretch, allocate, next_data, punch, write_zeros};
use super::metadata::disarm;
use super::problems::{Attempt, Trouble};
use crate::error::{Error, Result};
use crate::extent::push_joined;
use crate::format::{ObjectType, Slot};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::revision::FileReader;
use crate::source::tree::EntryStat;

/// A piece has so many bytes of data, or one chunk of more.
pub(super) const PIECE_BYTES: u64 = 4 << 20;

/// And no more parts: of tiny chunks there could be very many.
const PIECE_PARTS: usize = 4_096;

/// Zeros up to this length are written, which keeps them data to whoever looks for holes; longer ones are allocated.
const WRITTEN_ZEROS: u64 = 1 << 20;

/// What a range of a file is.
#[derive(Debug)]
pub(super) enum Part {
    Chunk(ObjectId),
    /// The whole of a small file.
    Slice,
    Zeros,
    Hole,
    /// Nobody knows: the map is damaged there.
    Lost(Error),
}

/// Some parts of a file side by side.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) parts: Vec<(Range<u64>, Part)>,
}

/// What became of a piece, or a file.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) written: u64,
    pub(super) compared: u64,
    /// The target differs, or differed before it was written.
    pub(super) differs: bool,
    /// What has no intact copy.
    pub(super) lost: Vec<Range<u64>>,
    /// Why, of the first.
    pub(super) detail: String,
}

/// A file of a revision, and the one that it is restored to.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) reader: &'a FileReader,
    pub(super) file: &'a File,
    pub(super) allocation: Allocation,
    pub(super) monitor: &'a dyn Monitor,
    /// Where the file is known to have data.
    pub(super) stretch: &'a Stretch,
    /// What is to be taken from it before it is changed.
    pub(super) arms: Option<&'a Arms>,
}

/// What makes a file that is there a privileged program, and the group that may read it if that is to be another one: both
/// go before the first byte of it is changed.
#[derive(Debug)]
pub(super) struct Arms {
    mode: u16,
    group: Option<u32>,
    taken: OnceLock<rustix::io::Result<()>>,
}

/// Whether the allocation of a file that is there may have to be mended beside its bytes: the system does not tell
/// everywhere what is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Allocation {
    /// Less is allocated than there should be.
    fill: bool,
    /// There should be holes. So the blocks of the file may lie in the wrong places, and data are what was data to the
    /// system when it was backed up.
    has_holes: bool,
    /// More is allocated.
    punch: bool,
}

impl Arms {
    /// Of a file that looks like this, with the group that it is to have.
    pub(super) fn of(stat: &EntryStat, group: u32) -> Self {
        let group = (stat.gid != group).then_some(group);
        Self { mode: stat.mode, group, taken: OnceLock::new() }
    }

    pub(super) fn take(&self, file: &File) -> Attempt<()> {
        let taken = self.taken.get_or_init(|| disarm(file.as_fd(), self.mode, self.group));
        taken.map_err(Trouble::of("take the privileges of"))
    }
}

impl Allocation {
    /// Judges by what is there.
    pub(super) fn of(stat: &EntryStat, reader: &FileReader) -> Self {
        /// What the file system may take for itself.
        const SLACK: u64 = 128 << 10;
        let (there, wanted) = (stat.blocks.saturating_mul(512), reader.data_bytes());
        let has_holes = wanted < reader.size();
        let punch = has_holes && there > wanted.saturating_add(wanted / 64).saturating_add(SLACK);
        Self { fill: there < wanted, has_holes, punch }
    }
}

/// The pieces of a file from its begin to its end.
pub(super) fn pieces(reader: &FileReader) -> impl Iterator<Item = Result<Piece>> + '_ {
    let (size, is_slice) = (reader.size(), reader.is_slice());
    let slice = is_slice.then_some((0..size, Ok(Part::Slice)));
    let mut parts = reader.slots(0).map(|(range, slot)| (range, part_of(slot))).chain(slice).peekable();
    std::iter::from_fn(move || {
        let mut piece = Piece::default();
        let mut bytes = 0;
        while let Some((range, _)) = parts.peek() {
            let length = range.end - range.start;
            if !piece.parts.is_empty() && (bytes + length > PIECE_BYTES || piece.parts.len() >= PIECE_PARTS) {
                break;
            }
            let (range, part) = parts.next()?;
            match part {
                Ok(part) => {
                    bytes += if matches!(part, Part::Hole | Part::Zeros) { 0 } else { length };
                    piece.parts.push((range, part));
                }
                Err(error) => return Some(Err(error)),
            }
        }
        (!piece.parts.is_empty()).then_some(Ok(piece))
    })
}

fn part_of(slot: Result<Slot>) -> Result<Part> {
    Ok(match slot {
        Ok(Slot::Chunk(id)) => Part::Chunk(id),
        Ok(Slot::Zeros) => Part::Zeros,
        Ok(Slot::Hole) => Part::Hole,
        Err(error) if error.is_loss() => Part::Lost(error),
        Err(error) => return Err(error),
    })
}

impl Piece {
    /// Bytes of the file that it stands for.
    pub(super) fn length(&self) -> u64 {
        let ends = self.parts.first().zip(self.parts.last());
        ends.map_or(0, |((first, _), (last, _))| last.end - first.start)
    }
}

impl Outcome {
    /// Adds what became of what lies behind.
    pub(super) fn add(&mut self, next: Self) {
        self.written += next.written;
        self.compared += next.compared;
        self.differs |= next.differs;
        if self.lost.is_empty() {
            self.detail = next.detail;
        }
        self.lost.extend(next.lost);
    }

    fn lose(&mut self, range: Range<u64>, error: &Error) {
        if self.lost.is_empty() {
            self.detail = error.to_string();
        }
        push_joined(&mut self.lost, range);
    }
}

impl Content<'_> {
    /// Writes a piece to a file that is all hole there.
    pub(super) fn write(&self, piece: &Piece) -> Attempt<Outcome> {
        let mut outcome = Outcome { differs: true, ..Outcome::default() };
        let is_data = |part: &Part| matches!(part, Part::Chunk(_) | Part::Slice);
        for run in piece.parts.chunk_by(|(_, left), (_, right)| is_data(left) && is_data(right)) {
            match run.first() {
                Some((range, Part::Zeros)) => outcome.written += self.allocate(range, false)?,
                Some((range, Part::Lost(error))) => outcome.lose(range.clone(), error),
                Some((_, Part::Chunk(_) | Part::Slice)) => self.write_run(run, &mut outcome)?,
                Some((_, Part::Hole)) | None => {}
            }
        }
        Ok(outcome)
    }

    /// Writes data that lie side by side: at once, or one by one where something of them is lost.
    fn write_run(&self, run: &[(Range<u64>, Part)], outcome: &mut Outcome) -> Attempt<()> {
        let Some(((first, _), (last, _))) = run.first().zip(run.last()) else { return Ok(()) };
        match self.stored(&(first.start..last.end)) {
            Ok(bytes) => outcome.written += self.put(first.start, &bytes)?,
            Err(error) if !error.is_loss() => return Err(error.into()),
            Err(error) if run.len() == 1 => outcome.lose(first.clone(), &error),
            Err(_) => {
                for part in run.chunks(1) {
                    self.write_run(part, outcome)?;
                }
            }
        }
        Ok(())
    }

    /// Compares a piece with what is there, and with `write` writes what differs. Without, it stops at the first
    /// difference. With `holes`, what should be a hole must be one, and what should take space must do so.
    pub(super) fn compare(&self, piece: &Piece, write: bool, holes: bool) -> Attempt<Outcome> {
        let mut outcome = Outcome::default();
        for (range, part) in &piece.parts {
            let before = outcome.differs;
            outcome.differs = false;
            match part {
                Part::Chunk(id) => self.compare_chunk(range, id, write, holes, &mut outcome)?,
                Part::Slice => self.compare_slice(range, write, holes, &mut outcome)?,
                Part::Zeros => self.compare_zeros(range, write, holes, &mut outcome)?,
                Part::Hole => self.compare_hole(range, write, holes, &mut outcome)?,
                Part::Lost(error) => outcome.lose(range.clone(), error),
            }
            if outcome.differs && !write {
                return Ok(outcome);
            }
            outcome.differs |= before;
        }
        Ok(outcome)
    }

    fn compare_chunk(
        &self,
        range: &Range<u64>,
        id: &ObjectId,
        write: bool,
        allocated: bool,
        outcome: &mut Outcome,
    ) -> Attempt<()> {
        // The hash tells whether it is there: nothing is read from the repository.
        if let Some(bytes) = self.there(range)? {
            outcome.compared += bytes.len() as u64;
            let is_same = self.reader.hasher().id(ObjectType::Chunk, &bytes) == *id;
            if is_same && !(allocated && self.lacks_space(range)) {
                return Ok(());
            }
        }
        outcome.differs = true;
        if write { self.replace(range, outcome) } else { Ok(()) }
    }

    fn compare_slice(
        &self,
        range: &Range<u64>,
        write: bool,
        allocated: bool,
        outcome: &mut Outcome,
    ) -> Attempt<()> {
        let there = self.there(range)?;
        outcome.compared += there.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let lacks_space = allocated && self.lacks_space(range);
        match self.stored(range) {
            Ok(bytes) if there.as_ref() == Some(&bytes) && !lacks_space => {}
            Ok(bytes) => {
                outcome.differs = true;
                outcome.written += if write { self.put(range.start, &bytes)? } else { 0 };
            }
            Err(error) if error.is_loss() => outcome.lose(range.clone(), &error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn compare_zeros(
        &self,
        range: &Range<u64>,
        write: bool,
        allocated: bool,
        outcome: &mut Outcome,
    ) -> Attempt<()> {
        let is_zero = self.is_zero(range, outcome)?;
        // Of long ones the system says that they are a hole though they are allocated; see `fill_long_zeros`.
        let is_allocated = || match range.end - range.start < WRITTEN_ZEROS {
            true => !self.lacks_space(range),
            false => !self.allocation.fill,
        };
        if is_zero && (!allocated || is_allocated()) {
            return Ok(());
        }
        outcome.differs = true;
        if write {
            outcome.written += self.allocate(range, !is_zero)?;
        }
        Ok(())
    }

    fn compare_hole(
        &self,
        range: &Range<u64>,
        write: bool,
        holes: bool,
        outcome: &mut Outcome,
    ) -> Attempt<()> {
        let is_right = match holes {
            true => !self.allocation.punch && next_data(self.file, range).is_none(),
            false => self.is_zero(range, outcome)?,
        };
        if is_right {
            return Ok(());
        }
        outcome.differs = true;
        if write { self.punch(range) } else { Ok(()) }
    }

    /// Allocates the long zeros of a file that had blocks enough before, and lacks some now that those in wrong places are
    /// gone.
    pub(super) fn fill_long_zeros(&self) -> Attempt<()> {
        let Allocation { fill, has_holes, .. } = self.allocation;
        if fill || !has_holes {
            return Ok(());
        }
        let stat = EntryStat::of(self.file).map_err(Trouble::of("look at"))?;
        if !Allocation::of(&stat, self.reader).fill {
            return Ok(());
        }
        for (range, slot) in self.reader.slots(0) {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled.into());
            }
            let is_long = range.end - range.start >= WRITTEN_ZEROS;
            if is_long && matches!(slot, Ok(Slot::Zeros)) {
                self.allocate(&range, false)?;
            }
        }
        Ok(())
    }

    /// Whether there are holes in a range of data: zeros among that read the same.
    fn lacks_space(&self, range: &Range<u64>) -> bool {
        let Allocation { fill, has_holes, .. } = self.allocation;
        (fill || has_holes) && !self.stretch.covers(self.file, range)
    }

    /// Writes what is stored of a range over what is there.
    fn replace(&self, range: &Range<u64>, outcome: &mut Outcome) -> Attempt<()> {
        match self.stored(range) {
            Ok(bytes) => outcome.written += self.put(range.start, &bytes)?,
            Err(error) if error.is_loss() => outcome.lose(range.clone(), &error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn stored(&self, range: &Range<u64>) -> Result<Vec<u8>> {
        // No longer than a piece.
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.reader.read_at(range.start, &mut bytes).map(|_| bytes)
    }

    /// What the target has there; `None` if it ends before.
    fn there(&self, range: &Range<u64>) -> Attempt<Option<Vec<u8>>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        match self.file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Trouble::of("read")(error)),
        }
    }

    /// To be called before anything is changed.
    fn prepare(&self) -> Attempt<()> {
        self.arms.map_or(Ok(()), |arms| arms.take(self.file))
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Attempt<u64> {
        self.prepare()?;
        self.file.write_all_at(bytes, offset).map_err(Trouble::of("write"))?;
        Ok(bytes.len() as u64)
    }

    /// Whether the target reads as zeros there.
    fn is_zero(&self, range: &Range<u64>, outcome: &mut Outcome) -> Attempt<bool> {
        let mut rest = range.clone();
        while let Some(data) = next_data(self.file, &rest) {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled.into());
            }
            let step = data.start..data.end.min(data.start + STEP);
            rest.start = step.end;
            let bytes = self.there(&step)?;
            outcome.compared += step.end - step.start;
            if bytes.is_none_or(|bytes| bytes.iter().any(|&byte| byte != 0)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes a range zeros that take space. Returns how many bytes were written for that.
    fn allocate(&self, range: &Range<u64>, stale: bool) -> Attempt<u64> {
        let length = range.end - range.start;
        if length >= WRITTEN_ZEROS {
            self.prepare()?;
            let flags = if stale { FallocateFlags::ZERO_RANGE } else { FallocateFlags::empty() };
            if allocate(self.file, flags, range).map_err(Trouble::of("allocate"))? {
                return Ok(0);
            }
        }
        self.write_zeros(range)
    }

    /// Makes a range a hole, or zeros where there are no holes.
    pub(super) fn punch(&self, range: &Range<u64>) -> Attempt<()> {
        self.prepare()?;
        if punch(self.file, range).map_err(Trouble::of("punch a hole into"))? {
            return Ok(());
        }
        let mut rest = range.clone();
        while let Some(data) = next_data(self.file, &rest) {
            self.write_zeros(&data)?;
            rest.start = data.end;
        }
        Ok(())
    }

    fn write_zeros(&self, range: &Range<u64>) -> Attempt<u64> {
        write_zeros(range, self.monitor, |at, bytes| self.put(at, bytes).map(drop))?;
        Ok(range.end - range.start)
    }
}
