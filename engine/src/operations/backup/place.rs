//! Where a new revision goes, and what it builds upon.

use super::{BackupOptions, HintsBase};
use crate::error::{Error, Result};
use crate::format::{Damage, Kind, Record};
use crate::monitor::Monitor;
use crate::repository::{Claimed, Repository, Stream, StreamLock};

/// Where the new revision goes, and what it builds upon. Holds the session and the stream's lock.
pub(super) struct Place {
    pub(super) stream: Option<Stream>,
    pub(super) parent: Option<Record>,
    pub(super) hints_base: Option<Record>,
    pub(super) damage: Damage,
    /// What is wrong with newer records than the parent's.
    pub(super) unreadable: Vec<String>,
    /// Whether the hints may be relative to a revision that can't be read.
    pub(super) hints_are_void: bool,
    _lock: Option<StreamLock>,
    _session: Option<Claimed>,
}

impl Place {
    /// The order is that of `docs/format.md` section 5: claim, choose, name what was chosen, look again.
    pub(super) fn take(
        repository: &Repository,
        options: &BackupOptions,
        kind: Kind,
        source: &str,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut stream = find_stream(repository, options)?;
        if let Some(stream) = &stream {
            stream.must_hold(kind, source)?;
        }
        if stream.is_none() && needs_base(options) {
            return Err(no_base(&options.stream));
        }
        if !options.dry_run {
            stream = Some(repository.stream_for_backup(&options.stream, kind, source, options.new_stream)?);
        }
        let mut place = Self {
            stream,
            parent: None,
            hints_base: None,
            damage: Damage::default(),
            unreadable: Vec::new(),
            hints_are_void: false,
            _lock: None,
            _session: None,
        };
        let Some(stream) = place.stream.clone() else {
            place.damage = known_damage(repository, monitor)?;
            return Ok(place);
        };
        if options.dry_run {
            place.choose(repository, options, &stream, monitor)?;
            return Ok(place);
        }
        let purpose = format!("backup of {source} to stream '{}'", stream.name);
        let mut session = repository.begin_session(&purpose, stream.id)?;
        let wait = || match monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(options.wait),
        };
        place._lock = Some(repository.lock_stream(stream.id, &stream.name, &session, wait)?);
        repository.object_of_locked(&stream)?;
        place.choose(repository, options, &stream, monitor)?;
        // What was chosen may have been forgotten before it was held.
        while !place.hold(repository, &mut session, &stream)? {
            place.choose(repository, options, &stream, monitor)?;
        }
        place._session = Some(session);
        Ok(place)
    }

    /// Names in the session what was chosen; whether it is there still, so that gc keeps it.
    fn hold(&self, repository: &Repository, session: &mut Claimed, stream: &Stream) -> Result<bool> {
        let chosen: Vec<&Record> = self.parent.iter().chain(&self.hints_base).collect();
        session.hold(
            chosen.iter().map(|record| record.id).collect(),
            chosen.iter().map(|record| record.root()).collect(),
        )?;
        for record in chosen {
            match repository.record(stream, &record.key()) {
                Err(error) if error.is_not_found() => return Ok(false),
                found => found.map(|_| ())?,
            }
        }
        Ok(true)
    }

    fn choose(
        &mut self,
        repository: &Repository,
        options: &BackupOptions,
        stream: &Stream,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        self.damage = known_damage(repository, monitor)?;
        (self.parent, self.unreadable) = (None, Vec::new());
        self.choose_parent(repository, stream)?;
        self.hints_base = self.choose_hints_base(repository, options, stream)?;
        Ok(())
    }

    /// The newest revision whose record can be read: a damaged one must not stop the next backup.
    fn choose_parent(&mut self, repository: &Repository, stream: &Stream) -> Result<()> {
        self.unreadable.extend(repository.lost_newest(stream)?.map(|lost| lost.reason));
        for key in repository.revisions(stream)?.iter().rev() {
            match repository.record(stream, key) {
                Ok(record) => {
                    self.parent = Some(record);
                    return Ok(());
                }
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => self.unreadable.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn choose_hints_base(
        &mut self,
        repository: &Repository,
        options: &BackupOptions,
        stream: &Stream,
    ) -> Result<Option<Record>> {
        if !needs_base(options) {
            return Ok(None);
        }
        // Hints relative to a revision that can't be read are of no use: the caller reads everything.
        self.hints_are_void = options.hints_base.is_relative() && !self.unreadable.is_empty();
        if self.hints_are_void {
            return Ok(self.parent.clone());
        }
        match (&options.hints_base, &self.parent) {
            (HintsBase::Spec(spec), _) => {
                let key = repository.find_revision(stream, spec)?;
                repository.record(stream, &key).map(Some)
            }
            (_, Some(parent)) => Ok(Some(parent.clone())),
            (_, None) => Err(no_base(&stream.name)),
        }
    }
}

/// The damage list; packs that are missing or condemned are noted in the index, which relies on them no more. What was
/// known of them before the claim may be wrong: gc did not know of us.
fn known_damage(repository: &Repository, monitor: &dyn Monitor) -> Result<Damage> {
    let missing = repository.store().index().begin_reliance()?;
    if missing > 0 {
        let packs = if missing == 1 { "1 pack is".to_owned() } else { format!("{missing} packs are") };
        monitor.warn(&format!(
            "{packs} gone or truncated: what only was there is read from the source and stored anew"
        ));
    }
    repository.damage()
}

/// Whether hints were given that are relative to some revision.
fn needs_base(options: &BackupOptions) -> bool {
    options.hints.is_some() && !options.force_read && options.hints_base != HintsBase::Nothing
}

fn no_base(stream: &str) -> Error {
    let reason = format!(
        "stream '{stream}' has no revision that they could be relative to; with --hints-base none they say which parts are in use"
    );
    Error::Hints { reason }
}

fn find_stream(repository: &Repository, options: &BackupOptions) -> Result<Option<Stream>> {
    repository.validate_name_for_backup(&options.stream)?;
    match repository.stream(&options.stream) {
        Ok(stream) => Ok(Some(stream)),
        Err(Error::NoSuchStream { .. }) => Ok(None),
        Err(Error::LostStreamName { .. }) if options.new_stream => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::SilentMonitor;
    use crate::repository::CreateOptions;

    #[test]
    fn a_stream_takes_no_source_of_the_other_kind() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::create(&directory.path().join("r"), &CreateOptions::default()).unwrap();
        repository.stream_for_backup("home", Kind::Tree, "/home", false).unwrap();
        repository.stream_for_backup("vm1", Kind::Image, "vm1.img", false).unwrap();
        for (stream, kind) in [("home", Kind::Image), ("vm1", Kind::Tree)] {
            let options = BackupOptions { stream: stream.to_owned(), ..BackupOptions::default() };
            let place = Place::take(&repository, &options, kind, "source", &SilentMonitor);
            let error = place.map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::WrongKind { .. }), "{error}");
        }
    }
}
