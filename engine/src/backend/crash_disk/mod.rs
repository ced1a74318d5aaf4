//! A disk that can lose its power after any change, and fail at any call.
//!
//! Calls go through to a real directory, so that reads, claims and locks are what they always are; but nothing is really
//! synced. Every change is noted, and [`CrashDisk::medium`] tells what assumptions 1, 2 and 5 of `docs/format.md`
//! section 2 leave of the first n of them. What the local backend does past the seam, empty lock files and claims that
//! change in place, is lost with the power: it is of no use after its process.

mod fault;
mod medium;
mod outcome;

pub(crate) use fault::{Fault, FaultKind};
pub(crate) use medium::Medium;
pub(crate) use outcome::{Outcome, Remains};

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use self::fault::{Call, Verdict};
use self::medium::{Change, FileNumber};
use super::{Disk, DiskFile, SystemDisk};

/// A directory whose changes are noted. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct CrashDisk {
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    /// What was there when the notes began; all of it is durable.
    before: Medium,
    changes: Vec<Change>,
    file_count: usize,
    call_count: usize,
    fault: Option<Fault>,
}

impl CrashDisk {
    /// A disk that holds what lies in a directory.
    pub(crate) fn new(root: &Path) -> Self {
        let before = Medium::of_directory(root);
        let file_count = before.file_count();
        let state = State { before, changes: Vec::new(), file_count, call_count: 0, fault: None };
        Self { root: root.to_owned(), state: Arc::new(Mutex::new(state)) }
    }

    /// How many changes were noted.
    pub(crate) fn change_count(&self) -> usize {
        self.state().changes.len()
    }

    /// The medium after the first changes.
    pub(crate) fn medium(&self, change_count: usize) -> Medium {
        let state = self.state();
        let mut medium = state.before.clone();
        state.changes[..change_count].iter().for_each(|change| medium.apply(change));
        medium
    }

    /// Has calls fail from now on as the fault says; those that it concerns are counted from here.
    pub(crate) fn fail(&self, fault: Fault) {
        let mut state = self.state();
        (state.call_count, state.fault) = (0, Some(fault));
    }

    /// Ends the fault, and says whether there was a call that met it.
    pub(crate) fn mend(&self) -> bool {
        let mut state = self.state();
        let call_count = state.call_count;
        state.fault.take().is_some_and(|fault| call_count > fault.at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap().to_owned()
    }

    /// Makes one change, unless the fault forbids it. The lock is held, so that the notes have the order of what was done.
    fn change(&self, call: Call, act: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        match state.judge(call) {
            Verdict::Grant => act(&mut state),
            Verdict::Refuse(error) => Err(error),
            Verdict::Deny(error) => act(&mut state).and(Err(error)),
        }
    }
}

impl State {
    fn judge(&mut self, call: Call) -> Verdict {
        let Some(fault) = self.fault.filter(|fault| fault.concerns(call)) else { return Verdict::Grant };
        self.call_count += 1;
        fault.judge(self.call_count - 1)
    }
}

struct CrashFile {
    disk: CrashDisk,
    file: Box<dyn DiskFile>,
    number: FileNumber,
}

impl CrashFile {
    fn append(&mut self, state: &mut State, bytes: &[u8]) -> io::Result<()> {
        self.file.write(bytes)?;
        state.changes.push(Change::Write { file: self.number, bytes: bytes.to_vec() });
        Ok(())
    }
}

impl DiskFile for CrashFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let disk = self.disk.clone();
        let mut state = disk.state();
        match state.judge(Call::Write) {
            Verdict::Grant => self.append(&mut state, bytes),
            // Some of it may have come through.
            Verdict::Refuse(error) | Verdict::Deny(error) => {
                self.append(&mut state, &bytes[..bytes.len() / 2]).and(Err(error))
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let verdict = state.judge(Call::Sync);
        let is_synced = matches!(verdict, Verdict::Grant);
        state.changes.push(Change::Sync { file: self.number, is_synced });
        verdict.into_result()
    }

    fn file(&self) -> io::Result<File> {
        self.file.file()
    }
}

impl Disk for CrashDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut created = None;
        self.change(Call::Create, |state| {
            let file = FileNumber(state.file_count);
            created = Some((SystemDisk.create(path)?, file));
            state.file_count += 1;
            state.changes.push(Change::Create { path: self.relative(path), file });
            Ok(())
        })?;
        let (file, number) = created.unwrap();
        Ok(Box::new(CrashFile { disk: self.clone(), file, number }))
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        self.change(Call::Rename, |state| {
            SystemDisk.rename(from, to, replace)?;
            state.changes.push(Change::Rename { from: self.relative(from), to: self.relative(to) });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Call::Remove, |state| {
            SystemDisk.remove(path)?;
            state.changes.push(Change::Remove { path: self.relative(path) });
            Ok(())
        })
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.change(Call::CreateDirectory, |state| {
            let is_new = !path.exists();
            SystemDisk.create_directory(path)?;
            if is_new {
                state.changes.push(Change::CreateDirectory { path: self.relative(path) });
            }
            Ok(())
        })
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.change(Call::Remove, |state| {
            SystemDisk.remove_directory(path)?;
            state.changes.push(Change::Remove { path: self.relative(path) });
            Ok(())
        })
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let verdict = state.judge(Call::Sync);
        let is_synced = matches!(verdict, Verdict::Grant);
        state.changes.push(Change::SyncNamed { path: self.relative(path), is_synced });
        verdict.into_result()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let verdict = state.judge(Call::SyncDirectory);
        if matches!(verdict, Verdict::Grant) {
            state.changes.push(Change::SyncDirectory { path: self.relative(path) });
        }
        verdict.into_result()
    }
}

#[cfg(test)]
mod tests;
