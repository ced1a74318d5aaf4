//! What the workers do: read, cut, hash, compress.

use super::super::chunks::{ChunkEncoder, NewChunk, is_zero};
use super::file::{FileReading, Piece};
use super::item::{
    Done, DoneStep, End, Found, Item, Look, Lost, Part, Step, Stretch, is_unsettled, lack_of, path_of,
};
use super::plan::LARGE;
use crate::chunker::Bundler;
use crate::error::Result;
use crate::format::{
    AttributeList, Attributes, Compression, EntryContent, FileData, FileSlot, MAX_CHUNK_SIZE, ObjectHasher,
    ObjectType, Slot, SymlinkTarget,
};
use crate::id::ObjectId;
use crate::source::tree::{
    Attribute, Cause, Entry as SourceEntry, EntryError, EntryStat, EntryType, FileExtent, HeldEntry,
    OpenFile, readable,
};
use crate::store::Presence;

const STORE_ATTRIBUTES: &str = "store extended attributes of";
/// A list is the content of a chunk at most.
const UNSTORABLE: Cause = Cause::TooManyAttributes(MAX_CHUNK_SIZE as usize);

/// What the workers share.
pub(super) struct Context<'a> {
    pub(super) hasher: ObjectHasher,
    pub(super) compression: Compression,
    pub(super) chunk_size: u32,
    pub(super) presence: Presence<'a>,
    /// Extended attributes of all namespaces show.
    pub(super) sees_all_attributes: bool,
}

/// What a thread keeps between pieces of work.
#[derive(Default)]
pub(super) struct Worker {
    encoder: ChunkEncoder,
}

/// What is to be stored and told of an entry besides itself.
#[derive(Default)]
struct Extras {
    new: Vec<NewChunk>,
    problems: Vec<String>,
}

/// A stretch with so many bytes of new lists of attributes takes no more: what follows in it is looked at one by one.
const LISTS_MAX: usize = 4 << 20;

/// The small files of a stretch, one behind the other.
#[derive(Default)]
struct Bundle {
    bytes: Vec<u8>,
}

/// No bundle gets more bytes, though its files have grown since they were listed.
const BUNDLE_MAX: u64 = 1 << 20;

impl Worker {
    pub(super) fn work(&mut self, context: &Context<'_>, item: Item) -> Result<Done> {
        match item {
            Item::Stretch(steps) => self.stretch(context, steps).map(Done::Stretch),
            Item::File(entry) => self.whole_file(context, &entry).map(Done::Part),
            Item::Piece(piece) => self.piece(context, piece).map(Done::Part),
            Item::End(Ok(file)) => {
                let (look, new) = self.end(context, &file)?;
                Ok(Done::Part(Part { new, ..Part::ending(End::Read(look)) }))
            }
            Item::End(Err(error)) => Ok(Done::Part(Part::ending(End::Failed(error)))),
        }
    }

    /// A piece of a file.
    pub(super) fn piece(&mut self, context: &Context<'_>, piece: Piece) -> Result<Part> {
        let mut part = Part::default();
        match piece {
            Piece::Hole(length) => part.slots.push(FileSlot { content: Slot::Hole, length }),
            Piece::Zeros(length) => part.slots.push(FileSlot { content: Slot::Zeros, length }),
            Piece::Data { bytes, lengths } => {
                part.bytes_read = bytes.len() as u64;
                let mut rest = bytes.as_slice();
                for length in lengths {
                    let Some((content, after)) = rest.split_at_checked(length) else { break };
                    rest = after;
                    let content = self.slot(context, content, &mut part.new)?;
                    part.slots.push(FileSlot { content, length: length as u64 });
                }
            }
        }
        Ok(part)
    }

    /// What is to be known of a file that was read to its end.
    pub(super) fn end(&mut self, context: &Context<'_>, file: &OpenFile) -> Result<(Look, Vec<NewChunk>)> {
        let mut extras = Extras::default();
        let look = self.look_at_file(context, file, &mut extras)?;
        Ok((Look { problems: extras.problems, ..look }, extras.new))
    }

    fn whole_file(&mut self, context: &Context<'_>, entry: &SourceEntry) -> Result<Part> {
        let mut reading = match FileReading::open(entry, context.chunk_size) {
            Ok(reading) if reading.size() > LARGE => return Ok(Part::ending(End::TooLong)),
            Ok(reading) => reading,
            Err(error) => return Ok(Part::ending(End::Failed(error))),
        };
        let mut whole = Part::default();
        loop {
            match reading.next_piece() {
                Ok(Some(piece)) => whole.append(self.piece(context, piece)?),
                Ok(None) => break,
                Err(error) => return Ok(Part { end: Some(End::Failed(error)), ..whole }),
            }
        }
        let (look, new) = self.end(context, &reading.into_file())?;
        whole.new.extend(new);
        Ok(Part { end: Some(End::Read(look)), ..whole })
    }

    fn stretch(&mut self, context: &Context<'_>, steps: Vec<Step>) -> Result<Stretch> {
        let mut bundle = Bundle::default();
        let mut extras = Extras::default();
        let mut stretch = Stretch { steps: Vec::with_capacity(steps.len()), ..Stretch::default() };
        for step in steps {
            let is_full = extras.new_bytes() > LISTS_MAX;
            let done = match step {
                Step::Enter(found, None) | Step::Look(found) | Step::Small(found) if is_full => {
                    DoneStep::Alone(found)
                }
                Step::Leave { left_out } => DoneStep::Leave { left_out },
                Step::Ready(entry, link) => DoneStep::Entry(entry, link),
                Step::Queued(found) => DoneStep::Queued(found),
                Step::Same(found) => DoneStep::Same(found),
                Step::Failed(error) => DoneStep::Lost(Lost::of(&error, None)),
                Step::Enter(found, known) => self.enter(context, &found, known, &mut extras)?,
                Step::Look(found) => self.look(context, &found, &mut extras)?,
                Step::Small(found) => self.small(context, found, &mut bundle, &mut extras)?,
            };
            stretch.steps.extend(extras.problems.drain(..).map(DoneStep::Problem));
            stretch.steps.push(done);
        }
        stretch.bytes_read = bundle.bytes.len() as u64;
        stretch.new = extras.new;
        self.close(context, bundle, &mut stretch)?;
        Ok(stretch)
    }

    /// Makes a chunk of the bundle, and names it in the entries that have a slice of it.
    fn close(&mut self, context: &Context<'_>, bundle: Bundle, stretch: &mut Stretch) -> Result<()> {
        if bundle.bytes.is_empty() {
            return Ok(());
        }
        let id = self.chunk(context, &bundle.bytes, &mut stretch.new)?;
        for step in &mut stretch.steps {
            if let DoneStep::Bundled(entry, _) = step
                && let EntryContent::File(FileData::Slice { chunk, .. }) = &mut entry.content
            {
                *chunk = id;
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        context: &Context<'_>,
        found: &Found,
        known: Option<Attributes>,
        extras: &mut Extras,
    ) -> Result<DoneStep> {
        let content = EntryContent::Directory(None);
        if let Some(attributes) = known {
            return Ok(DoneStep::Enter(found.stored(&found.entry.stat, content, attributes, false)));
        }
        let entry = match found.entry.hold() {
            Ok(held) => {
                let look = self.look_at_held(context, found, &held, extras)?;
                found.stored(&look.stat, content, look.attributes, look.unsettled)
            }
            Err(error) => {
                extras.tell(&error)?;
                found.stored(&found.entry.stat, content, Attributes::None, true)
            }
        };
        Ok(DoneStep::Enter(entry))
    }

    /// The steps for something that is no file, out of turn.
    pub(super) fn look_here(
        &mut self,
        context: &Context<'_>,
        found: &Found,
    ) -> Result<(Vec<DoneStep>, Vec<NewChunk>)> {
        let mut extras = Extras::default();
        let done = match found.entry.stat.kind {
            EntryType::Directory => self.enter(context, found, None, &mut extras)?,
            _ => self.look(context, found, &mut extras)?,
        };
        let steps = extras.problems.into_iter().map(DoneStep::Problem).chain([done]).collect();
        Ok((steps, extras.new))
    }

    /// Anything but files and directories.
    fn look(&mut self, context: &Context<'_>, found: &Found, extras: &mut Extras) -> Result<DoneStep> {
        let lost = |error: &EntryError| DoneStep::Lost(Lost::of(error, found.link));
        let held = match found.entry.hold() {
            Ok(held) => held,
            Err(error) => return Ok(lost(&error)),
        };
        let content = match content_of(&held) {
            Ok(Some(content)) => content,
            Ok(None) => {
                let message = format!("cannot store {}: it has no target", path_of(&found.entry));
                return Ok(DoneStep::Lost(Lost { message, link: found.link, is_gone: false, lack: None }));
            }
            Err(error) => return Ok(lost(&error)),
        };
        let look = self.look_at_held(context, found, &held, extras)?;
        let entry = found.stored(&look.stat, content, look.attributes, look.unsettled);
        Ok(DoneStep::Entry(entry, found.link))
    }

    /// A small file, into the bundle. One that is not small any more, or has holes, must be read by itself.
    fn small(
        &mut self,
        context: &Context<'_>,
        found: Found,
        bundle: &mut Bundle,
        extras: &mut Extras,
    ) -> Result<DoneStep> {
        let file = match found.entry.open() {
            Ok(file) => file,
            Err(error) => return Ok(DoneStep::Lost(Lost::of(&error, found.link))),
        };
        let size = file.stat.size;
        let is_plain = file.extent_at(0) == Some(FileExtent::Data(0..size));
        let fits = bundle.bytes.len() as u64 + size <= BUNDLE_MAX;
        if size > 0 && !(Bundler::takes(size) && is_plain && fits) {
            return Ok(DoneStep::Alone(found));
        }
        let data = match bundle.add(&file, size as usize) {
            Ok(data) => data,
            Err(error) => return Ok(DoneStep::Lost(Lost::of(&error, found.link))),
        };
        let look = self.look_at_file(context, &file, extras)?;
        let content = EntryContent::File(data);
        let entry = found.stored(&look.stat, content, look.attributes, look.unsettled);
        Ok(DoneStep::Bundled(entry, found.link))
    }

    /// What is recorded of a file after it was read.
    fn look_at_file(&mut self, context: &Context<'_>, file: &OpenFile, extras: &mut Extras) -> Result<Look> {
        let unstorable = || file.error(STORE_ATTRIBUTES, UNSTORABLE);
        let (attributes, is_complete) = self.attributes(context, file.attributes(), unstorable, extras)?;
        let after = file.stat_now().ok();
        if after.as_ref().map(EntryStat::evidence) != Some(file.stat.evidence()) {
            let EntryError { path, .. } = file.error("read", Cause::Replaced);
            extras.problems.push(format!(
                "{} changed while it was read: the revision may hold parts of two states of it",
                readable(&path)
            ));
        }
        if file.stat.size == 0 && has_content(file) {
            let EntryError { path, .. } = file.error("read", Cause::Replaced);
            extras.problems.push(format!(
                "{} has content although it says it is empty: it is stored as empty",
                readable(&path)
            ));
        }
        let is_young = |clean_at| is_unsettled(&file.stat, after.as_ref(), clean_at);
        let unsettled = !is_complete || file.clean_at.is_none_or(is_young);
        Ok(Look { stat: file.stat.clone(), attributes, unsettled, problems: Vec::new() })
    }

    fn look_at_held(
        &mut self,
        context: &Context<'_>,
        found: &Found,
        held: &HeldEntry,
        extras: &mut Extras,
    ) -> Result<Look> {
        let unstorable = || found.entry.error(STORE_ATTRIBUTES, UNSTORABLE);
        let (attributes, is_complete) = self.attributes(context, held.attributes(), unstorable, extras)?;
        let unsettled = !is_complete || is_unsettled(&held.stat, Some(&held.stat), held.seen);
        Ok(Look { stat: held.stat.clone(), attributes, unsettled, problems: Vec::new() })
    }

    /// Attributes as they are stored, and whether they are all.
    fn attributes(
        &mut self,
        context: &Context<'_>,
        read: Result<Vec<Attribute>, EntryError>,
        unstorable: impl FnOnce() -> EntryError,
        extras: &mut Extras,
    ) -> Result<(Attributes, bool)> {
        let attributes = match read {
            Ok(attributes) if attributes.is_empty() => return Ok((Attributes::None, true)),
            Ok(attributes) => attributes,
            Err(error) => {
                extras.tell(&error)?;
                return Ok((Attributes::None, false));
            }
        };
        let pairs = attributes.iter().map(|one| (one.name.as_slice(), one.value.as_slice())).collect();
        match AttributeList::new(pairs) {
            Some(list) if list.fits_inline() => Ok((Attributes::Inline(list), true)),
            Some(list) => {
                let id = self.chunk(context, list.encoded(), &mut extras.new)?;
                Ok((Attributes::Chunk(id), true))
            }
            None => {
                extras.problems.push(unstorable().to_string());
                Ok((Attributes::None, false))
            }
        }
    }

    fn slot(&mut self, context: &Context<'_>, content: &[u8], new: &mut Vec<NewChunk>) -> Result<Slot> {
        match is_zero(content) {
            true => Ok(Slot::Zeros),
            false => self.chunk(context, content, new).map(Slot::Chunk),
        }
    }

    fn chunk(&mut self, context: &Context<'_>, content: &[u8], new: &mut Vec<NewChunk>) -> Result<ObjectId> {
        let id = context.hasher.id(ObjectType::Chunk, content);
        if !context.presence.contains(&id)? {
            new.push(self.encoder.encode(context.compression, id, content)?);
        }
        Ok(id)
    }
}

impl Extras {
    /// Tells what went wrong with an entry that is stored all the same. What this process lacks ends the run.
    fn tell(&mut self, error: &EntryError) -> Result<()> {
        self.problems.push(error.to_string());
        lack_of(error).map_or(Ok(()), Err)
    }

    fn new_bytes(&self) -> usize {
        self.new.iter().map(|chunk| chunk.blob.len()).sum()
    }
}

impl Bundle {
    /// Reads a file of this size to the end of the bundle. The chunk of the slice is not known yet.
    fn add(&mut self, file: &OpenFile, size: usize) -> Result<FileData, EntryError> {
        let start = self.bytes.len();
        self.bytes.resize(start + size, 0);
        let read = file.read_at(0, self.bytes.get_mut(start..).unwrap_or_default());
        // A file that has become shorter, or can't be read, leaves nothing of its room.
        self.bytes.truncate(start + *read.as_ref().unwrap_or(&0));
        let length = read? as u32;
        let chunk = ObjectId::from_bytes([0; ObjectId::LEN]);
        Ok(match length {
            0 => FileData::Empty,
            _ => FileData::Slice { chunk, offset: start as u32, length },
        })
    }
}

/// Whether a file that says it is empty gives bytes all the same, as those of procfs do.
fn has_content(file: &OpenFile) -> bool {
    matches!(file.read_at(0, &mut [0]), Ok(read) if read > 0)
        && file.stat_now().is_ok_and(|stat| stat.size == 0)
}

impl Part {
    fn ending(end: End) -> Self {
        Self { end: Some(end), ..Self::default() }
    }

    fn append(&mut self, next: Self) {
        self.slots.extend(next.slots);
        self.new.extend(next.new);
        self.bytes_read += next.bytes_read;
    }
}

/// What is stored of something that has no bytes; `None` for a link whose target can't be stored.
fn content_of(held: &HeldEntry) -> Result<Option<EntryContent>, EntryError> {
    let (major, minor) = held.stat.device_number;
    Ok(Some(match held.stat.kind {
        EntryType::Symlink => match SymlinkTarget::new(&held.link_target()?) {
            Some(target) => EntryContent::Symlink(target),
            None => return Ok(None),
        },
        EntryType::BlockDevice => EntryContent::BlockDevice { major, minor },
        EntryType::CharacterDevice => EntryContent::CharacterDevice { major, minor },
        EntryType::Fifo => EntryContent::Fifo,
        EntryType::Socket => EntryContent::Socket,
        EntryType::File | EntryType::Directory => return Ok(None),
    }))
}
