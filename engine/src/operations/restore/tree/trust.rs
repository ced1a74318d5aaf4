//! What of that which is there may stay, or be changed in place, and what has to make room for something new.
//!
//! Whoever may read or write a file may have it open, and keeps that whatever mode it gets later. So what lets in somebody
//! whom the revision keeps out is replaced. Of the mode the group's bits count for all whom an ACL names: they are its mask.

use super::context::Context;
use super::metadata::{Changes, GROUP, Wanted};
use crate::format::Entry;
use crate::source::tree::{EntryStat, EntryType};

/// What others than the owner may do.
const WRITE: u16 = 0o022;
const READ_OR_WRITE: u16 = 0o066;

/// Whether what is there may stay, if its content is right.
///
/// What has further names is never changed, since these may lie anywhere: it stays if all of it is right and it is to have
/// further names. What somebody else owns who is not to own it is not given away.
pub(super) fn may_stay(
    context: &Context<'_>,
    entry: &Entry,
    stat: &EntryStat,
    wanted: &Wanted,
    changes: &Changes,
) -> bool {
    let is_named_right = stat.links == 1 || changes.is_empty() && entry.has_other_names;
    is_named_right && belongs(context, stat, wanted) && !lets_in(stat, wanted, changes, WRITE)
}

/// Whether what stays is the only one to do so under several names.
pub(super) fn claim(context: &Context<'_>, stat: &EntryStat) -> bool {
    stat.links == 1 || context.links.claim(stat.identity)
}

/// Whether what is to be restored may be written into a file that is there.
pub(super) fn may_mend(context: &Context<'_>, stat: &EntryStat, wanted: &Wanted, changes: &Changes) -> bool {
    is_plain(stat) && belongs(context, stat, wanted) && !lets_in(stat, wanted, changes, READ_OR_WRITE)
}

/// Whether something is a file without further names.
pub(super) fn is_plain(stat: &EntryStat) -> bool {
    stat.kind == EntryType::File && stat.links == 1
}

fn belongs(context: &Context<'_>, stat: &EntryStat, wanted: &Wanted) -> bool {
    stat.uid == wanted.uid || context.is_own(stat)
}

/// Whether somebody has the access in question whom the revision does not give it.
fn lets_in(stat: &EntryStat, wanted: &Wanted, changes: &Changes, access: u16) -> bool {
    // The mode of a link means nothing.
    if stat.kind == EntryType::Symlink {
        return false;
    }
    let allowed = stat.mode & access;
    // The same bits for others than before. That another group may read ends before anything is written.
    let is_group_changed = changes.has_acl() || is_given_away(stat, wanted) && allowed & WRITE & GROUP != 0;
    allowed & !wanted.mode != 0 || is_group_changed && allowed & GROUP != 0
}

/// Whether its group will be another one: only root can choose any.
fn is_given_away(stat: &EntryStat, wanted: &Wanted) -> bool {
    stat.gid != wanted.gid && rustix::process::geteuid().is_root()
}
