//! Where the results go, in order: chunks to the packs, slots to the maps of files, entries to their directories.

use std::collections::VecDeque;

use super::super::chunks::{NewChunk, store_chunks};
use super::directory::DirectoryBuilder;
use super::file::FileReading;
use super::file_map::FileMap;
use super::hard_links::{HardLinks, Inode};
use super::item::{Done, DoneStep, End, Found, Look, Lost, Part, Stretch};
use super::owners::Owners;
use super::problems::Problems;
use super::sums::Sums;
use super::worker::{Context, Worker};
use crate::error::{Error, Result};
use crate::format::{Entry, EntryContent, FileData, FileSlot, TreeRoot};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::source::tree::{EntryError, EntryType};
use crate::store::StoreWriter;

/// A tree that is put together.
pub(super) struct Assembly<'a, 'w, 's> {
    context: &'a Context<'a>,
    links: &'a HardLinks,
    monitor: &'a dyn Monitor,
    writer: &'w mut StoreWriter<'s>,
    /// Reads what has to be read out of turn.
    worker: Worker,
    /// The directories that were entered and not left.
    open: Vec<(Entry, DirectoryBuilder)>,
    root: Option<Entry>,
    /// The file whose parts come.
    file: FileMap,
    /// Files that were read ahead of their stretch.
    read: VecDeque<ReadFile>,
    owners: Owners,
    sums: Sums,
    problems: Problems<'a>,
}

/// A tree that was stored.
pub(super) struct Assembled {
    pub(super) root: ObjectId,
    pub(super) sums: Sums,
    pub(super) problem_count: u64,
    pub(super) warnings: Vec<String>,
}

/// What became of a file that was read by itself.
enum ReadFile {
    Whole(FileData, Look),
    Failed(EntryError),
    TooLong,
}

impl<'a, 'w, 's> Assembly<'a, 'w, 's> {
    pub(super) fn new(
        context: &'a Context<'a>,
        links: &'a HardLinks,
        writer: &'w mut StoreWriter<'s>,
        monitor: &'a dyn Monitor,
    ) -> Self {
        Self {
            context,
            links,
            monitor,
            writer,
            worker: Worker::default(),
            open: Vec::new(),
            root: None,
            file: FileMap::default(),
            read: VecDeque::new(),
            owners: Owners::new(),
            sums: Sums::default(),
            problems: Problems::new(monitor),
        }
    }

    /// Takes the next result.
    pub(super) fn take(&mut self, done: Done) -> Result<()> {
        self.check()?;
        match done {
            Done::Stretch(stretch) => self.take_stretch(stretch),
            Done::Part(part) => self.take_part(part),
        }
    }

    /// Fails if there is no use in going on.
    fn check(&mut self) -> Result<()> {
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.writer.check()
    }

    fn take_stretch(&mut self, stretch: Stretch) -> Result<()> {
        self.store(stretch.new)?;
        self.sums.bytes_read += stretch.bytes_read;
        stretch.steps.into_iter().try_for_each(|step| self.take_step(step))
    }

    fn take_step(&mut self, step: DoneStep) -> Result<()> {
        match step {
            DoneStep::Enter(entry) => {
                self.owners.note(&entry);
                self.open.push((entry, DirectoryBuilder::default()));
                Ok(())
            }
            DoneStep::Leave { left_out } => self.leave(left_out),
            DoneStep::Entry(entry, link) | DoneStep::Bundled(entry, link) => {
                self.monitor.advance(size_of(&entry));
                self.add_settled(entry, link)
            }
            DoneStep::Queued(found) => self.take_queued(&found),
            DoneStep::Same(found) => self.add_same(&found),
            DoneStep::Alone(found) => self.read_here(&found),
            DoneStep::Lost(lost) => self.lose(lost),
            DoneStep::Problem(message) => {
                self.problems.tell(message);
                Ok(())
            }
        }
    }

    fn leave(&mut self, left_out: bool) -> Result<()> {
        let Some((mut entry, builder)) = self.open.pop() else { return Ok(()) };
        entry.left_out |= left_out;
        entry.content = EntryContent::Directory(builder.finish(self.writer)?);
        self.sums.count(&entry, true);
        match self.open.last_mut() {
            Some((_, above)) => above.push(entry, self.writer),
            None => {
                self.root = Some(entry);
                Ok(())
            }
        }
    }

    /// Adds an entry for which other names may wait.
    fn add_settled(&mut self, entry: Entry, link: Option<Inode>) -> Result<()> {
        if let Some(inode) = link {
            self.links.settle(inode, Some(&entry));
        }
        self.add(entry, true)
    }

    /// Adds an entry; `is_first` unless another name of its inode is there.
    fn add(&mut self, entry: Entry, is_first: bool) -> Result<()> {
        self.owners.note(&entry);
        self.sums.count(&entry, is_first);
        match self.open.last_mut() {
            Some((_, directory)) => directory.push(entry, self.writer),
            None => Ok(()),
        }
    }

    fn add_same(&mut self, found: &Found) -> Result<()> {
        let ctime = found.entry.stat.ctime;
        match found.link.and_then(|inode| self.links.take(inode, &found.name, ctime)) {
            Some(entry) => self.add(entry, false),
            // The first name could not be read, or is that of something else by now.
            None => self.read_here(found),
        }
    }

    fn take_queued(&mut self, found: &Found) -> Result<()> {
        match self.read.pop_front() {
            Some(ReadFile::Whole(data, look)) => self.add_file(found, data, look),
            Some(ReadFile::Failed(error)) => self.lose(Lost::of(&error, found.link)),
            Some(ReadFile::TooLong) | None => self.read_here(found),
        }
    }

    fn add_file(&mut self, found: &Found, data: FileData, look: Look) -> Result<()> {
        look.problems.into_iter().for_each(|problem| self.problems.tell(problem));
        let content = EntryContent::File(data);
        let entry = found.stored(&look.stat, content, look.attributes, look.unsettled);
        self.add_settled(entry, found.link)
    }

    fn lose(&mut self, lost: Lost) -> Result<()> {
        if let Some(lack) = lost.lack {
            return Err(lack);
        }
        self.problems.tell(lost.message);
        if let Some(inode) = lost.link {
            self.links.settle(inode, None);
        }
        if let (false, Some((directory, _))) = (lost.is_gone, self.open.last_mut()) {
            directory.left_out = true;
        }
        Ok(())
    }

    fn take_part(&mut self, part: Part) -> Result<()> {
        let mut file = std::mem::take(&mut self.file);
        self.append(&mut file, part.slots, part.new, part.bytes_read)?;
        match part.end {
            None => self.file = file,
            Some(End::Read(look)) => self.read.push_back(ReadFile::Whole(file.finish(self.writer)?, look)),
            Some(End::Failed(error)) => self.read.push_back(ReadFile::Failed(error)),
            Some(End::TooLong) => self.read.push_back(ReadFile::TooLong),
        }
        Ok(())
    }

    /// Appends what was read of a file.
    fn append(
        &mut self,
        file: &mut FileMap,
        slots: Vec<FileSlot>,
        new: Vec<NewChunk>,
        bytes_read: u64,
    ) -> Result<()> {
        self.monitor.advance(bytes_read);
        self.sums.bytes_read += bytes_read;
        self.store(new)?;
        slots.into_iter().try_for_each(|slot| file.push(slot, self.writer))
    }

    /// Reads something here and now: what the workers could not, since only here it is known that it must be read.
    fn read_here(&mut self, found: &Found) -> Result<()> {
        if found.entry.stat.kind == EntryType::File {
            return self.read_file_here(found);
        }
        let (steps, new) = self.worker.look_here(self.context, found)?;
        self.store(new)?;
        steps.into_iter().try_for_each(|step| self.take_step(step))
    }

    fn read_file_here(&mut self, found: &Found) -> Result<()> {
        let mut file = FileMap::default();
        let read = self.read_into(found, &mut file)?;
        match read {
            Ok(look) => {
                let data = file.finish(self.writer)?;
                self.add_file(found, data, look)
            }
            Err(error) => self.lose(Lost::of(&error, found.link)),
        }
    }

    fn read_into(&mut self, found: &Found, file: &mut FileMap) -> Result<Result<Look, EntryError>> {
        let mut reading = match FileReading::open(&found.entry, self.context.chunk_size) {
            Ok(reading) => reading,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            self.check()?;
            match reading.next_piece() {
                Ok(None) => break,
                Ok(Some(piece)) => {
                    let part = self.worker.piece(self.context, piece)?;
                    self.append(file, part.slots, part.new, part.bytes_read)?;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        let (look, new) = self.worker.end(self.context, &reading.into_file())?;
        self.store(new)?;
        Ok(Ok(look))
    }

    fn store(&mut self, new: Vec<NewChunk>) -> Result<()> {
        let added = store_chunks(new, self.writer)?;
        self.sums.chunks_new += added.count;
        self.sums.bytes_new += added.bytes;
        Ok(())
    }

    /// Stores the root of the tree, after all results; `None` if there was none, so that nothing could be stored.
    pub(super) fn finish(mut self) -> Result<Option<Assembled>> {
        let Some(entry) = self.root.take() else { return Ok(None) };
        let (users, groups) = self.owners.into_names();
        let (totals, sees_all_attributes) = (self.sums.totals, self.context.sees_all_attributes);
        let root = TreeRoot { users, groups, totals, sees_all_attributes, entry };
        let root = self.writer.add_directory(&root.encode())?;
        let problem_count = self.problems.count();
        Ok(Some(Assembled { root, sums: self.sums, problem_count, warnings: self.problems.into_warnings() }))
    }
}

fn size_of(entry: &Entry) -> u64 {
    match &entry.content {
        EntryContent::File(data) => data.size(),
        _ => 0,
    }
}
