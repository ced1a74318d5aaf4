//! Where a new revision goes, and what it builds upon.

use super::{BackupOptions, HintsBase, root_of};
use crate::error::{Error, Result};
use crate::format::{Damage, Kind, Record};
use crate::monitor::Monitor;
use crate::repository::{Claimed, Repository, Stream, StreamLock, validate_stream_name};

/// Where the new revision goes, and what it builds upon. Holds the session and the stream's lock.
pub(super) struct Place {
    pub(super) stream: Option<Stream>,
    stream_name: String,
    pub(super) parent: Option<Record>,
    pub(super) hints_base: Option<Record>,
    pub(super) damage: Damage,
    _lock: Option<StreamLock>,
    _session: Option<Claimed>,
}

impl Place {
    /// The order is that of `docs/format.md` section 5: claim, choose, name what was chosen, look again.
    pub(super) fn take(
        repository: &Repository,
        options: &BackupOptions,
        source: &str,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let stream = match options.dry_run {
            true => find_stream(repository, &options.stream)?,
            false => Some(repository.stream_for_backup(&options.stream, Kind::Image, source)?),
        };
        let mut place = Self {
            stream,
            stream_name: options.stream.clone(),
            parent: None,
            hints_base: None,
            damage: Damage::default(),
            _lock: None,
            _session: None,
        };
        let Some(stream) = place.stream.clone() else {
            place.damage = repository.damage_now()?;
            place.hints_base = place.choose_hints_base(repository, options)?;
            return Ok(place);
        };
        if options.dry_run {
            place.choose(repository, options, &stream)?;
            return Ok(place);
        }
        let purpose = format!("backup of {source} to stream '{}'", stream.name);
        let mut session = repository.begin_session(&purpose, stream.id)?;
        let wait = || match monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(options.wait),
        };
        place._lock = Some(repository.lock_stream(stream.id, &stream.name, wait)?);
        place.choose(repository, options, &stream)?;
        let chosen: Vec<Record> = place.parent.iter().chain(&place.hints_base).cloned().collect();
        session
            .hold(chosen.iter().map(|record| record.id).collect(), chosen.iter().map(root_of).collect())?;
        for record in &chosen {
            repository.record(&stream, &record.key())?;
        }
        place._session = Some(session);
        Ok(place)
    }

    fn choose(&mut self, repository: &Repository, options: &BackupOptions, stream: &Stream) -> Result<()> {
        // What was known before the claim may be gone: gc did not know of us.
        repository.store().index().reload()?;
        self.damage = repository.damage_now()?;
        self.parent = newest_readable(repository, stream)?;
        self.hints_base = self.choose_hints_base(repository, options)?;
        Ok(())
    }

    fn choose_hints_base(&self, repository: &Repository, options: &BackupOptions) -> Result<Option<Record>> {
        if options.hints.is_none() {
            return Ok(None);
        }
        match (&options.hints_base, &self.stream, &self.parent) {
            (HintsBase::Nothing, _, _) => Ok(None),
            (HintsBase::Newest, _, Some(parent)) => Ok(Some(parent.clone())),
            (HintsBase::Spec(spec), Some(stream), _) => {
                let key = repository.find_revision(stream, spec)?;
                repository.record(stream, &key).map(Some)
            }
            (HintsBase::Newest | HintsBase::Spec(_), _, _) => Err(Error::Hints {
                reason: format!(
                    "stream '{}' has no revision that they could be relative to; with --hints-base none they say which parts are in use",
                    self.stream_name
                ),
            }),
        }
    }
}

fn find_stream(repository: &Repository, name: &str) -> Result<Option<Stream>> {
    validate_stream_name(name)?;
    match repository.stream(name) {
        Ok(stream) => Ok(Some(stream)),
        Err(Error::NoSuchStream { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The newest revision whose record can be read: a damaged one must not stop the next backup.
fn newest_readable(repository: &Repository, stream: &Stream) -> Result<Option<Record>> {
    for key in repository.revisions(stream)?.iter().rev() {
        match repository.record(stream, key) {
            Ok(record) => return Ok(Some(record)),
            Err(error) if error.is_damage() || error.is_not_found() => {
                log::warn!("{error}; an older revision is compared with")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
