//! The way through the revision: directories are made on the way, everything else is worked on by several threads.
//!
//! Entries come in the order in which they were stored, so that neighbours find the chunk that they share in the cache. No
//! node is kept while what lies below it is walked: directories lie in each other as deep as who wrote them liked.

use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use super::content::{Piece, pieces};
use super::context::Context;
use super::directory::TargetDirectory;
use super::entry::process;
use super::large::{Large, is_large};
use super::problems::Trouble;
use crate::error::{Error, Result};
use crate::format::{Entry, EntryContent, EntryName, FileData};
use crate::parallel::{start_in, worker_count};
use crate::revision::EntryRun;

/// So many entries, and bytes of files, one thread works on at a time.
const JOB_ENTRIES: usize = 64;
const JOB_BYTES: u64 = 4 << 20;

/// What lies deeper is not restored: no path leads there, and each level takes some memory.
const DEPTH_MAX: usize = 32_768;

/// One piece of work.
enum Job {
    Entries { directory: Arc<TargetDirectory>, run: EntryRun, range: Range<usize> },
    One { directory: Arc<TargetDirectory>, entry: Box<Entry> },
    Piece { large: Arc<Large>, piece: Piece },
}

/// Goes through all that is to be restored, or read back.
pub(super) fn run(context: &Context<'_>, root: Arc<TargetDirectory>, single: Option<&Entry>) -> Result<()> {
    let workers = worker_count();
    let (jobs, queue) = bounded::<Job>(workers * 2);
    std::thread::scope(|scope| {
        let start = |_| {
            let queue = queue.clone();
            start_in(scope, move || queue.into_iter().for_each(|job| job.work(context)))
        };
        let started = (0..workers).try_for_each(start);
        drop(queue);
        let mut walk = Walk { context, jobs, open: Vec::new(), seen: 0 };
        if let Err(error) = started.and_then(|()| walk.go(root, single)) {
            context.stop(error);
        }
    });
    context.failure()
}

struct Walk<'c, 'a> {
    context: &'c Context<'a>,
    jobs: Sender<Job>,
    /// The directories from the target down to where the walk is, each with the name that it is behind.
    open: Vec<(Arc<TargetDirectory>, Option<EntryName>)>,
    /// Entries that were met.
    seen: u64,
}

/// Entries of a run that are to go into one job.
#[derive(Default)]
struct Gathered {
    range: Range<usize>,
    bytes: u64,
}

impl Walk<'_, '_> {
    fn go(&mut self, root: Arc<TargetDirectory>, single: Option<&Entry>) -> Result<()> {
        if let Some(entry) = single {
            self.single(&root, entry)?;
            root.done(self.context);
            return Ok(());
        }
        root.remove_extras(self.context)?;
        self.open.push((root, None));
        while !self.open.is_empty() {
            self.step()?;
        }
        Ok(())
    }

    fn single(&mut self, root: &Arc<TargetDirectory>, entry: &Entry) -> Result<()> {
        if let Some(data) = large_data(entry) {
            return self.large(root, entry, data);
        }
        root.begin();
        self.send(Job::One { directory: Arc::clone(root), entry: Box::new(entry.clone()) })
    }

    /// Goes on in the innermost directory, up to the next one in it or to its end.
    fn step(&mut self) -> Result<()> {
        let Some((directory, after)) = self.open.last() else { return Ok(()) };
        let (directory, after) = (Arc::clone(directory), after.clone());
        for run in self.context.tree.entry_runs(directory.top(), after.as_ref()) {
            match run {
                Ok(run) => {
                    if self.run(&directory, &run)? {
                        return Ok(());
                    }
                }
                Err(error) if error.is_loss() => {
                    let path = self.context.path_in_revision(&directory, b"");
                    let detail = format!("entries of this directory are lost: {error}");
                    self.context.problems.tell_damage(path, Vec::new(), detail);
                }
                Err(error) => return Err(error),
            }
        }
        self.open.pop();
        directory.done(self.context);
        Ok(())
    }

    /// Sends off the entries of a run; stops with `true` behind a directory that was entered.
    fn run(&mut self, directory: &Arc<TargetDirectory>, run: &EntryRun) -> Result<bool> {
        let mut gathered = Gathered::default();
        for (index, entry) in run.iter().enumerate() {
            self.meet()?;
            if matches!(entry.content, EntryContent::Directory(_)) {
                self.flush(directory, run, &mut gathered, index + 1)?;
                if self.enter(directory, entry)? {
                    return Ok(true);
                }
            } else if let Some(data) = large_data(entry) {
                self.flush(directory, run, &mut gathered, index + 1)?;
                self.large(directory, entry, data)?;
            } else {
                gathered.add(entry, index);
                if gathered.is_full() {
                    self.flush(directory, run, &mut gathered, index + 1)?;
                }
            }
        }
        self.flush(directory, run, &mut gathered, 0)?;
        Ok(false)
    }

    fn meet(&mut self) -> Result<()> {
        self.context.go_on()?;
        self.seen += 1;
        match self.context.tree.totals().entries() {
            // The root itself is not met.
            Some(entries) if self.seen < entries => Ok(()),
            _ => Err(self.context.too_many()),
        }
    }

    /// Sends off what was gathered; what follows begins at `next`.
    fn flush(
        &mut self,
        directory: &Arc<TargetDirectory>,
        run: &EntryRun,
        gathered: &mut Gathered,
        next: usize,
    ) -> Result<()> {
        let range = std::mem::replace(gathered, Gathered { range: next..next, bytes: 0 }).range;
        if range.is_empty() {
            return Ok(());
        }
        directory.begin();
        self.send(Job::Entries { directory: Arc::clone(directory), run: run.clone(), range })
    }

    /// Goes into a directory; says whether that was possible.
    fn enter(&mut self, directory: &Arc<TargetDirectory>, entry: &Entry) -> Result<bool> {
        let name = entry.name.as_bytes();
        let entered = match self.open.len() {
            DEPTH_MAX.. => Err(Trouble::Refused("it lies too deep")),
            _ => directory.enter(self.context, entry),
        };
        match entered {
            Ok(child) => {
                child.remove_extras(self.context)?;
                if let Some((_, after)) = self.open.last_mut() {
                    *after = Some(entry.name.clone());
                }
                self.open.push((child, None));
                Ok(true)
            }
            Err(trouble) => {
                self.context.fail(directory, name, trouble);
                Ok(false)
            }
        }
    }

    fn large(&mut self, directory: &Arc<TargetDirectory>, entry: &Entry, data: &FileData) -> Result<()> {
        let Some(large) = Large::begin(self.context, directory, entry, data) else { return Ok(()) };
        let sent = self.pieces(&large);
        if sent.is_err() {
            large.fail(Trouble::Engine(Error::Cancelled));
        }
        large.done(self.context);
        sent
    }

    fn pieces(&mut self, large: &Arc<Large>) -> Result<()> {
        for piece in pieces(large.reader()) {
            self.context.go_on()?;
            large.begin_piece();
            self.send(Job::Piece { large: Arc::clone(large), piece: piece? })?;
        }
        Ok(())
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.send(job).map_err(|_| Error::Cancelled)
    }
}

/// The bytes of an entry that is worked on piece by piece.
fn large_data(entry: &Entry) -> Option<&FileData> {
    match &entry.content {
        EntryContent::File(data) if is_large(entry) => Some(data),
        _ => None,
    }
}

impl Gathered {
    fn add(&mut self, entry: &Entry, index: usize) {
        self.range.end = index + 1;
        if let EntryContent::File(data) = &entry.content {
            self.bytes += data.size();
        }
    }

    fn is_full(&self) -> bool {
        self.range.len() >= JOB_ENTRIES || self.bytes >= JOB_BYTES
    }
}

impl Job {
    fn work(self, context: &Context<'_>) {
        match self {
            Self::Entries { directory, run, range } => {
                let entries = run.get(range).unwrap_or_default();
                process_all(context, &directory, entries);
                directory.done(context);
            }
            Self::One { directory, entry } => {
                process_all(context, &directory, std::slice::from_ref(&*entry));
                directory.done(context);
            }
            Self::Piece { large, piece } => {
                large.work(context, &piece);
                large.done(context);
            }
        }
    }
}

fn process_all(context: &Context<'_>, directory: &TargetDirectory, entries: &[Entry]) {
    let above = match directory.open() {
        Ok(above) => above,
        Err(_) => return fail_all(context, directory, entries),
    };
    for entry in entries {
        match context.go_on() {
            Ok(()) => process(context, directory, &above, entry),
            Err(error) => return context.stop(error),
        }
    }
}

/// Names each of the entries whose directory can't be opened.
fn fail_all(context: &Context<'_>, directory: &TargetDirectory, entries: &[Entry]) {
    for entry in entries.iter().take_while(|_| !context.is_stopped()) {
        match directory.open() {
            // It can be opened again.
            Ok(above) => process(context, directory, &above, entry),
            Err(trouble) => context.fail(directory, entry.name.as_bytes(), trouble),
        }
    }
}
