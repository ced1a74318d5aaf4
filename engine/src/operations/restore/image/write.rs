//! Writes to a target, and makes ranges of it zero in the way that it supports.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Advice, FallocateFlags, fadvise};
use rustix::io::Errno;

use super::super::ranges::{STEP, allocate, next_data, punch, write_zeros};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// What lies in a target before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Only zeros: a hole needs no work.
    Empty,
    /// Anything: all is written, and holes are made zero.
    Stale,
    /// Perhaps what is wanted: it is compared, and only what differs is written.
    Compare,
}

/// A target that is open for writing; used by several threads at once.
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    before: Before,
    is_device: bool,
    sync_failure: Mutex<Option<io::Error>>,
}

/// Bytes of a device that are zeroed at a time: one call of the system for each.
const ZERO_STEP: u64 = 1 << 30;

impl Writer {
    pub(super) fn file(file: File, path: PathBuf, before: Before) -> Self {
        Self::new(file, path, before, false)
    }

    pub(super) fn device(file: File, path: PathBuf, before: Before) -> Self {
        Self::new(file, path, before, true)
    }

    fn new(file: File, path: PathBuf, before: Before, is_device: bool) -> Self {
        let writer = Self { file, path, before, is_device, sync_failure: Mutex::new(None) };
        if before == Before::Compare {
            // After a failed writeback Linux keeps the pages as clean: what they hold need not be on the medium.
            writer.forget_cached();
        }
        writer
    }

    /// Lets later reads come from the medium instead of from memory.
    pub(super) fn forget_cached(&self) {
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    pub(super) fn before(&self) -> Before {
        self.before
    }

    pub(super) fn handle(&self) -> &File {
        &self.file
    }

    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(self.failed("write"))
    }

    pub(super) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(self.failed("read"))
    }

    /// Makes what was written durable; fails also if an earlier [`Writer::start_sync`] did.
    pub(super) fn sync(&self) -> Result<()> {
        match self.sync_failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(self.failed("sync")(error)),
            None => self.file.sync_all().map_err(self.failed("sync")),
        }
    }

    /// Sends what was written so far to the medium. The system tells of a failure only once, so it is kept.
    pub(super) fn start_sync(&self) {
        if let Err(error) = self.file.sync_data() {
            *self.sync_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        Error::io(action, self.path.display())
    }

    /// Makes a range read as zeros.
    pub(super) fn make_zero(&self, offset: u64, length: u64, monitor: &dyn Monitor) -> Result<()> {
        match (self.before, self.is_device) {
            (Before::Empty, _) => Ok(()),
            (_, false) => self.punch_data(offset, length, monitor),
            (Before::Stale, true) => self.zero_steps(offset, length, ZERO_STEP, monitor, |_, _| Ok(true)),
            (Before::Compare, true) => self.zero_steps(offset, length, STEP, monitor, |from, length| {
                let mut bytes = vec![0; length as usize];
                self.read_at(from, &mut bytes)?;
                Ok(bytes.iter().any(|&byte| byte != 0))
            }),
        }
    }

    /// Zeroes a range of a device step by step, where `wanted` says so.
    fn zero_steps(
        &self,
        offset: u64,
        length: u64,
        step: u64,
        monitor: &dyn Monitor,
        wanted: impl Fn(u64, u64) -> Result<bool>,
    ) -> Result<()> {
        let end = offset + length;
        let mut from = offset;
        while from < end {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let length = step.min(end - from);
            if wanted(from, length)? {
                self.zero(from, length, monitor)?;
            }
            from += length;
        }
        Ok(())
    }

    /// Punches out what data a file has in a range.
    fn punch_data(&self, offset: u64, length: u64, monitor: &dyn Monitor) -> Result<()> {
        let mut rest = offset..offset + length;
        while let Some(data) = next_data(&self.file, &rest) {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            // A large extent goes in steps only where zeros must be written.
            self.zero(data.start, data.end - data.start, monitor)?;
            rest.start = data.end;
        }
        Ok(())
    }

    /// Makes a range zero: a hole, or else whatever the target does fastest.
    fn zero(&self, offset: u64, length: u64, monitor: &dyn Monitor) -> Result<()> {
        let range = offset..offset + length;
        // On devices the kernel makes BLKZEROOUT of it, with leave to discard.
        let failed = |errno: Errno| self.failed("zero")(errno.into());
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        if punch(&self.file, &range).map_err(failed)? || allocate(&self.file, zero, &range).map_err(failed)? {
            return Ok(());
        }
        write_zeros(&range, monitor, |at, bytes| self.write_at(at, bytes))
    }
}
