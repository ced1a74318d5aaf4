//! What could be read of a file of which parts are lost, under a name that tells.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{OFlags, fremovexattr, renameat};

use super::content::Outcome;
use super::context::Context;
use super::directory::TargetDirectory;
use super::entry::Ended;
use super::file::{NewFile, tell_lost};
use super::metadata::PRIVILEGED;
use super::names::damaged_name;
use super::partial;
use super::problems::{Attempt, Trouble, shown};
use super::trust::is_plain;
use crate::backend::rename_new;
use crate::extent::total;
use crate::format::Entry;
use crate::revision::FileReader;
use crate::source::tree::{EntryStat, open_quietly};

/// So many names are tried.
const NAMES_MAX: u32 = 100;

/// Bytes that are compared at a time.
const STEP: usize = 1 << 20;

/// Keeps what could be read of a damaged file, if that is anything.
pub(super) fn keep_rest(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
    new: &NewFile,
    (reader, outcome): (&FileReader, Outcome),
) -> Attempt<Ended> {
    let name = entry.name.as_bytes();
    let is_worthless = total(&outcome.lost) >= reader.data_bytes();
    let kept = match is_worthless {
        true => None,
        false => {
            unprivileged(context, directory, entry, new)?;
            name_rest(context, directory, above, name, new)?
        }
    };
    match kept {
        Some(rest) => {
            let rest = format!("the rest of it is restored as {}", shown(&rest));
            tell_lost(context, directory, name, outcome, &rest);
        }
        None => {
            new.remove(above, name);
            tell_lost(context, directory, name, outcome, "nothing of it is restored");
        }
    }
    Ok(Ended::Damaged)
}

/// Gives it what the entry has, but no privileges: a part of a program is none.
fn unprivileged(
    context: &Context<'_>,
    directory: &TargetDirectory,
    entry: &Entry,
    new: &NewFile,
) -> Attempt<()> {
    let mut entry = entry.clone();
    entry.metadata.mode &= !PRIVILEGED;
    new.set_metadata(context, directory, &entry)?;
    let _ = fremovexattr(&new.file, "security.capability");
    Ok(())
}

/// Gives it the first name that neither the revision nor anything else has. Returns that, `None` if all are taken.
fn name_rest(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    name: &[u8],
    new: &NewFile,
) -> Attempt<Option<Vec<u8>>> {
    let is_at = new.partial.as_deref().unwrap_or(name);
    partial::check(above, is_at, &new.file)?;
    for number in 1..=NAMES_MAX {
        let rest = damaged_name(name, number);
        if directory.has_entry(context, &rest)? {
            continue;
        }
        match rename_new(&path_in(above, is_at), &path_in(above, &rest)) {
            Ok(()) => return Ok(Some(rest)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Trouble::of("rename")(error)),
        }
        // An earlier run, which met the same damage.
        if is_same_as(context, above, &rest, &new.file)? {
            renameat(above, is_at, above, rest.as_slice()).map_err(Trouble::of("rename"))?;
            return Ok(Some(rest));
        }
    }
    Ok(None)
}

/// A path that leads through an open directory, and to no other one.
fn path_in(above: &OwnedFd, name: &[u8]) -> PathBuf {
    let directory = PathBuf::from(format!("/proc/self/fd/{}", above.as_raw_fd()));
    directory.join(std::ffi::OsStr::from_bytes(name))
}

/// Whether a name leads to a file of the same bytes.
fn is_same_as(context: &Context<'_>, above: &OwnedFd, name: &[u8], file: &File) -> Attempt<bool> {
    let Ok(there) = open_quietly(above, name, OFlags::empty()) else { return Ok(false) };
    let (own, stat) = (look(file)?, look(&there)?);
    if !is_plain(&stat) || stat.size != own.size {
        return Ok(false);
    }
    let there = File::from(there);
    let (mut left, mut right) = (vec![0; STEP], vec![0; STEP]);
    let mut at = 0;
    while at < own.size {
        context.go_on()?;
        let step = (own.size - at).min(STEP as u64) as usize;
        let (left, right) = (&mut left[..step], &mut right[..step]);
        let read = file.read_exact_at(left, at).and_then(|()| there.read_exact_at(right, at));
        if read.is_err() || left != right {
            return Ok(false);
        }
        at += step as u64;
    }
    Ok(true)
}

fn look(file: impl std::os::fd::AsFd) -> Attempt<EntryStat> {
    EntryStat::of(file).map_err(Trouble::of("look at"))
}
