//! Backup: from a source to a new revision.
//!
//! Here is what images and trees have in common: the options, the place of the new revision, when a file counts as
//! unchanged, and the commit.

mod chunks;
mod commit;
mod image;
mod place;
mod tree;
mod unsettled;

use std::collections::HashSet;

pub(crate) use image::Hints;
use image::ImageBackup;
use place::Place;

use crate::error::{Error, Result};
use crate::format::{Content, Counters, FileEvidence, HintEvidence, Kind, Method, Record, Timestamp};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::repository::{Repository, validate_label};
use crate::revision::is_relative;
use crate::source::Source;

/// How a backup is to be done.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    /// The stream, which is made if need be.
    pub stream: String,
    /// Which parts changed, as `rbd diff --format json` prints it.
    pub hints: Option<Vec<u8>>,
    /// What the hints are relative to.
    pub hints_base: HintsBase,
    /// Tags of the new revision.
    pub tags: Vec<String>,
    /// Ignore hints and parent: read everything.
    pub force_read: bool,
    /// Do everything but store.
    pub dry_run: bool,
    /// Make the stream also where a damaged one, whose name is not known, may be it.
    pub new_stream: bool,
    /// Wait for another backup of the stream instead of refusing.
    pub wait: bool,
}

/// What hints are relative to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HintsBase {
    /// The stream's newest revision.
    #[default]
    Newest,
    /// Nothing: they say which parts are in use.
    Nothing,
    /// The revision that this SPEC means.
    Spec(String),
}

impl HintsBase {
    /// Whether it depends on which revision is the newest.
    fn is_relative(&self) -> bool {
        match self {
            Self::Newest => true,
            Self::Nothing => false,
            Self::Spec(spec) => is_relative(spec),
        }
    }
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The stream's name.
    pub stream: String,
    /// The new revision's record; not stored after a dry run.
    pub record: Record,
    /// Whether the source changed while it was read, so that parts of two states may be in the revision.
    pub source_changed: bool,
    /// Entries of a tree that could not be read, or not as they should; the record's warnings name the first of them.
    pub problem_count: u64,
}

/// Backs up a source.
///
/// # Errors
/// Whatever goes wrong, no revision is left behind; [`Error::SourceRead`] names the place that could not be read of an
/// image. Entries of a tree that can't be read are no error: they are told, counted, and left out.
pub fn backup(
    repository: &Repository,
    source: Source,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupReport> {
    options.tags.iter().try_for_each(|tag| validate_label(tag))?;
    let name = source.name();
    // Hints that can't be right are refused before anything is made.
    let hints = read_hints(&source, options)?;
    let place = Place::take(repository, options, kind_of(&source), &name, monitor)?;
    let mut run = Run::new(repository, options, monitor, place);
    let made = match source {
        Source::Image(image) => ImageBackup::new(&mut run, hints).back_up_image(image.as_ref())?,
        Source::Stream { name, bytes } => ImageBackup::new(&mut run, hints).back_up_stream(name, bytes)?,
        Source::Tree(tree) => tree::back_up(&mut run, &tree)?,
    };
    run.tell_of_lost_tables();
    run.commit(&name, made)
}

fn kind_of(source: &Source) -> Kind {
    match source {
        Source::Image(_) | Source::Stream { .. } => Kind::Image,
        Source::Tree(_) => Kind::Tree,
    }
}

fn read_hints(source: &Source, options: &BackupOptions) -> Result<Option<Hints>> {
    let Some(json) = &options.hints else {
        if options.hints_base != HintsBase::Newest {
            return Err(Error::Hints { reason: "a base is of no use without hints".to_owned() });
        }
        return Ok(None);
    };
    let reason = match source {
        Source::Image(image) => return Hints::parse(json, image.size()).map(Some),
        Source::Stream { .. } => "a stream of bytes can't be read in places, so hints are of no use",
        Source::Tree(_) => "they name ranges of an image, and a directory tree is none",
    };
    Err(Error::Hints { reason: reason.to_owned() })
}

/// One backup on its way.
struct Run<'a> {
    repository: &'a Repository,
    options: &'a BackupOptions,
    monitor: &'a dyn Monitor,
    place: Place,
    start: Timestamp,
    source_changed: bool,
    problem_count: u64,
    warnings: Vec<String>,
}

/// What was stored, before it is committed.
struct Made {
    content: Content,
    method: Method,
    hints: Option<HintEvidence>,
    evidence: Option<FileEvidence>,
    /// Without the time that it took.
    counters: Counters,
    /// Bad objects that have a good copy again.
    healed: Vec<ObjectId>,
}

impl<'a> Run<'a> {
    /// Begins after the wait for another backup, if there was one.
    fn new(
        repository: &'a Repository,
        options: &'a BackupOptions,
        monitor: &'a dyn Monitor,
        mut place: Place,
    ) -> Self {
        let (start, warnings) = (Timestamp::now(), Vec::new());
        let unreadable = std::mem::take(&mut place.unreadable);
        let (source_changed, problem_count) = (false, 0);
        let mut run =
            Self { repository, options, monitor, place, start, source_changed, problem_count, warnings };
        unreadable.iter().for_each(|error| run.warn(format!("{error}; an older revision is compared with")));
        run
    }

    /// What must not be relied upon.
    fn bad_objects(&self) -> HashSet<ObjectId> {
        self.place.damage.objects.iter().map(|object| object.id).collect()
    }

    fn tell_of_lost_tables(&mut self) {
        if self.repository.store().index().has_lost_tables() {
            let message = "index tables are lost or damaged: what none names of the newest revision was stored anew; a full scrub tells what is lost of older ones";
            self.warn(message.to_owned());
        }
    }

    fn warn(&mut self, message: String) {
        self.monitor.warn(&message);
        self.warnings.push(message);
    }
}
