//! Backup of a directory tree.
//!
//! One thread walks the source beside the parent's tree and plans ([`plan`], on [`merge`] and [`parent`]): what is as it
//! was is taken over unread. Workers read, cut, hash and compress ([`worker`]). The calling thread takes the results in the
//! order of the walk and puts the tree together ([`assembly`]). What is held at a time is bounded: the directories from the
//! root to where the walk is, some pieces of work for each core, and tables with bounds of their own.
//!
//! What goes wrong with an entry is told, counted and recorded, and the backup goes on ([`problems`]).

mod assembly;
mod directory;
mod file;
mod file_map;
mod hard_links;
mod item;
mod merge;
mod owners;
mod parent;
mod plan;
mod problems;
mod sums;
mod tower;
mod worker;

use std::sync::{Mutex, PoisonError};

use assembly::{Assembled, Assembly};
use hard_links::HardLinks;
use merge::Merge;
use parent::Parent;
use plan::Planner;
use worker::{Context, Worker};

use super::{Made, Run};
use crate::error::{Error, Result};
use crate::format::{Content, Counters, Method, TreeContent};
use crate::parallel;
use crate::revision::TreeReader;
use crate::source::TreeSource;
use crate::source::tree::sees_all_attributes;
use crate::store::{Index, StoreWriter, Stored};

/// Ways from the root down on which the parent is looked at before files are taken over from it unread.
const SAMPLED_WAYS: usize = 64;

/// Stores a tree.
pub(super) fn back_up(run: &mut Run<'_>, source: &TreeSource) -> Result<Made> {
    run.monitor.begin("reading", None);
    let reader = parent_tree(run);
    if let Some(reader) = &reader {
        look_for_losses(run.repository.store().index(), reader)?;
    }
    let index = run.repository.store().index();
    let was_known = index.has_losses();
    let (mut assembled, mut stored) = store(run, source, reader.as_ref())?;
    if index.has_lost_tables() && !was_known && !run.options.dry_run {
        // What was taken over before that showed may have passed the filters of other tables by chance.
        run.monitor.warn("index tables are lost, which showed only on the way: the tree is looked at again");
        let bytes = stored.bytes;
        (assembled, stored) = store(run, source, reader.as_ref())?;
        stored.bytes += bytes;
    }
    run.problem_count = assembled.problem_count;
    // They were told as they came.
    run.warnings.extend(assembled.warnings);
    let sums = assembled.sums;
    let entries = sums.totals.entries().unwrap_or(u64::MAX);
    Ok(Made {
        content: Content::Tree(TreeContent { root: assembled.root, entries, bytes: sums.totals.bytes }),
        method: Method::Read,
        hints: None,
        evidence: None,
        counters: Counters {
            bytes_read: sums.bytes_read,
            bytes_changed: if run.place.parent.is_some() { sums.bytes_new } else { sums.data_bytes },
            bytes_stored: stored.bytes,
            chunks_total: sums.chunks,
            chunks_new: sums.chunks_new,
            nanoseconds: 0,
        },
        healed: stored.healed,
    })
}

/// The parent's tree, if there is one to compare with. The session keeps it.
fn parent_tree(run: &Run<'_>) -> Option<TreeReader> {
    let parent = run.place.parent.as_ref().filter(|_| !run.options.force_read)?;
    match TreeReader::open_unpinned(run.repository.store(), &parent.root()) {
        Ok(reader) => Some(reader),
        Err(error) => {
            run.monitor.warn(&format!("{error}; the parent is not relied upon"));
            None
        }
    }
}

/// Looks whether tables were lost that named something of the parent's. If so, all of it is looked up from now on.
fn look_for_losses(index: &Index, parent: &TreeReader) -> Result<()> {
    let mut sampled = parent.random_objects(SAMPLED_WAYS)?.into_iter();
    sampled.try_for_each(|id| index.still_contains(&id).map(|_| ()))
}

fn store(run: &mut Run<'_>, source: &TreeSource, reader: Option<&TreeReader>) -> Result<(Assembled, Stored)> {
    let (store, monitor) = (run.repository.store(), run.monitor);
    let bad = run.bad_objects();
    let damage = Mutex::default();
    let mut writer = StoreWriter::new(store, bad, run.options.dry_run)?;
    let presence = writer.presence();
    let context = Context {
        hasher: store.hasher().clone(),
        compression: store.header().compression,
        chunk_size: store.header().chunk_size,
        presence: writer.presence(),
        sees_all_attributes: sees_all_attributes(),
    };
    let links = HardLinks::default();
    // Where more attributes show than to the parent's run, what it recorded of them says nothing.
    let lacks_attributes = |reader: &TreeReader| context.sees_all_attributes && !reader.sees_all_attributes();
    let reader = reader.filter(|reader| !lacks_attributes(reader));
    let parent = reader.map(|reader| Parent { reader, store, presence, damage: &damage, monitor });
    let merge = Merge::new(source.walk()?, parent);
    let planner = Planner::new(merge, &links, monitor, context.chunk_size);
    let mut assembly = Assembly::new(&context, &links, &mut writer, monitor);
    let ran = parallel::ordered(
        planner,
        Worker::default,
        |worker, item| worker.work(&context, item),
        |done| assembly.take(done),
    );
    let assembled = match ran.and_then(|()| assembly.finish()) {
        Err(Error::Cancelled) if monitor.is_cancelled() => {
            // What was done so far is kept for the next run.
            writer.finish()?;
            return Err(Error::Cancelled);
        }
        assembled => assembled?,
    };
    let assembled = assembled.ok_or_else(|| Error::UnusableSource {
        path: source.name(),
        reason: "its root could not be read any more".to_owned(),
    })?;
    if let Some(error) = damage.into_inner().unwrap_or_else(PoisonError::into_inner) {
        run.warn(format!("{error}; what it covers was read from the source"));
    }
    Ok((assembled, writer.finish()?))
}
