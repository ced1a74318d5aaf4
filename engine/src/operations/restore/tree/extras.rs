//! What a directory of the target has and the revision's does not.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use super::context::Context;
use super::directory::TargetDirectory;
use super::large::is_large;
use super::names::is_partial;
use super::problems::{Attempt, Trouble, shown};
use super::remove::{list, remove};
use super::target::LOST_AND_FOUND;
use crate::error::Result;
use crate::format::DirectoryTop;
use crate::revision::TreeReader;
use crate::source::tree::{EntryStat, EntryType, Names};

/// Removes all names of a directory that the revision's does not have. Where that can't be read in full, or is known not
/// to have all that was there, nothing.
pub(super) fn remove_extras(context: &Context<'_>, directory: &TargetDirectory) -> Result<()> {
    let listed = directory.open().and_then(|descriptor| list(&descriptor).map(|names| (descriptor, names)));
    let found = listed.and_then(|(descriptor, names)| {
        let extras = extras(context.tree, directory.top(), &names)?;
        let mut kept = unfinished(context, directory, &names, &extras)?;
        if directory.is_root() && is_directory(&descriptor, LOST_AND_FOUND) {
            kept.insert(LOST_AND_FOUND);
        }
        let extras: Vec<Vec<u8>> =
            extras.into_iter().filter(|name| !kept.contains(name)).map(<[u8]>::to_vec).collect();
        Ok((descriptor, extras))
    });
    let path = || shown(&directory.place.path(b""));
    match found {
        Ok((_, extras)) if directory.is_partly_stored() => {
            if !extras.is_empty() {
                context.problems.tell_kept(kept_message(extras.len(), &path()));
            }
            Ok(())
        }
        Ok((descriptor, extras)) => remove_all(context, directory, &descriptor, &extras),
        Err(Trouble::Engine(error)) if error.is_loss() => {
            let path = path();
            context
                .problems
                .tell_kept(format!("nothing is removed from {path}: the revision's directory is damaged"));
            Ok(())
        }
        Err(Trouble::Engine(error)) => Err(error),
        Err(trouble) => {
            context.fail(directory, b"", trouble);
            Ok(())
        }
    }
}

fn is_directory(above: &OwnedFd, name: &[u8]) -> bool {
    EntryStat::at(above, name).is_ok_and(|stat| stat.kind == EntryType::Directory)
}

fn remove_all(
    context: &Context<'_>,
    directory: &TargetDirectory,
    descriptor: &OwnedFd,
    extras: &[Vec<u8>],
) -> Result<()> {
    for name in extras {
        context.go_on()?;
        remove(context, &directory.place, descriptor, name)?;
    }
    Ok(())
}

fn kept_message(count: usize, path: &str) -> String {
    let names = match count {
        1 => "1 name that the revision does not have is".to_owned(),
        _ => format!("{count} names that the revision does not have are"),
    };
    format!(
        "{names} kept in {path}: its backup left something out there (excluded, on another file system, or unreadable), and \
         that may be this; what is not wanted has to be removed by hand"
    )
}

/// Names that the revision's directory does not have; both are in the order of their bytes.
fn extras<'a>(tree: &TreeReader, top: Option<&DirectoryTop>, names: &'a Names) -> Result<Vec<&'a [u8]>> {
    let mut there = names.part(0, usize::MAX).peekable();
    let mut extras = Vec::new();
    for run in tree.entry_runs(top, None) {
        for entry in run?.iter() {
            let wanted = entry.name.as_bytes();
            while let Some(name) = there.next_if(|name| *name < wanted) {
                extras.push(name);
            }
            there.next_if(|name| *name == wanted);
        }
    }
    extras.extend(there);
    Ok(extras)
}

/// Of these names those of large files that an interrupted run has begun, and that this one will go on with: what they will
/// be called is not there yet.
fn unfinished<'a>(
    context: &Context<'_>,
    directory: &TargetDirectory,
    names: &Names,
    extras: &[&'a [u8]],
) -> Attempt<HashSet<&'a [u8]>> {
    let mut begun: HashSet<&[u8]> = extras.iter().copied().filter(|name| is_partial(name)).collect();
    let mut found = HashSet::new();
    if begun.is_empty() {
        return Ok(found);
    }
    for run in context.tree.entry_runs(directory.top(), None) {
        for entry in run?.iter().filter(|entry| is_large(entry)) {
            let partial = directory.partial_name(context, entry.name.as_bytes())?;
            if let Some(name) = begun.take(&partial[..])
                && !names.contains(entry.name.as_bytes())
            {
                found.insert(name);
            }
        }
    }
    Ok(found)
}
