//! Locks, sessions and pins. All are flocks: they die with their process, and a stale one needs nobody.

use std::io;
use std::time::Duration;

use super::{Repository, Stream};
use crate::backend::{Area, ClaimGuard, ClaimState, Key, LockGuard};
use crate::error::{Error, Result};
use crate::format::{Claim, MAX_SEALED_SIZE, Timestamp, open, seal};
use crate::id::{ClaimId, ObjectId, RevisionId, StreamId};
use crate::store::LockName;

/// How often a claim is read that is being changed.
const RETRY: Duration = Duration::from_millis(50);

/// What a gc says that it does.
const GC_PURPOSE: &str = "gc";

/// How often a claim is read that is damaged because it is being changed.
const READS_MAX: u32 = 40;

/// The lock of one stream: one backup at a time.
pub(crate) struct StreamLock {
    _lock: LockGuard,
}

/// A session or a pin that is held.
pub(crate) struct Claimed {
    claim: Claim,
    guard: Box<dyn ClaimGuard>,
}

impl Claimed {
    /// Names what must stay readable while this lives. The caller then looks again whether it is there.
    pub(crate) fn hold(&mut self, revisions: Vec<RevisionId>, roots: Vec<ObjectId>) -> Result<()> {
        self.claim.revisions = revisions;
        self.claim.roots = roots;
        self.guard.update(&seal(&self.claim)?)
    }
}

impl Repository {
    /// Begins a session: from now on gc keeps what this process relies on.
    pub(crate) fn begin_session(&self, purpose: &str, stream: StreamId) -> Result<Claimed> {
        self.sweep_claims()?;
        let claim = new_claim(purpose, Some(stream));
        let guard = self.backend().claim(&Key::session(claim.id), &seal(&claim)?)?;
        Ok(Claimed { claim, guard })
    }

    /// Removes the claims of processes that died. A claim has its lock before it has its name, so one without is dead.
    /// A courtesy to who comes later: one that can't be looked at, such as another user's, is left to others.
    pub(crate) fn sweep_claims(&self) -> Result<()> {
        for area in [Area::sessions(), Area::pins()] {
            for name in self.backend().names(&area)? {
                let Some(key) = ClaimId::parse(&name).map(|id| area.key(id)) else { continue };
                if let Err(error) = self.sweep_claim(&key) {
                    log::debug!("{key} is left as it is: {error}");
                }
            }
        }
        Ok(())
    }

    fn sweep_claim(&self, key: &Key) -> Result<()> {
        self.backend().remove_if_dead(key).map(|_| ())
    }

    /// The claims of living processes in an area.
    ///
    /// # Errors
    /// A claim of a living process that can't be read: what it holds on to is not known.
    pub(crate) fn living_claims(&self, area: &Area) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for name in self.backend().names(area)? {
            let Some(id) = ClaimId::parse(&name) else { continue };
            claims.extend(self.living_claim(&area.key(id))?);
        }
        Ok(claims)
    }

    fn living_claim(&self, key: &Key) -> Result<Option<Claim>> {
        let mut tries = 0;
        loop {
            if self.backend().claim_state(key)? != ClaimState::Living {
                return Ok(None);
            }
            let bytes = self.backend().read(key, MAX_SEALED_SIZE);
            match bytes.and_then(|bytes| open(&key.to_string(), &bytes)) {
                Err(error) if error.is_not_found() => return Ok(None),
                // It is changed in place.
                Err(error) if error.is_damage() && tries < READS_MAX => tries += 1,
                other => return other.map(Some),
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Pins revisions, so that gc keeps them while the pin lives; `None` on a medium that takes no pin.
    ///
    /// # Errors
    /// What is not the medium's, such as too many open files: it goes by, and gc could take what is read without a pin.
    pub(crate) fn pin(
        &self,
        purpose: &str,
        revisions: Vec<RevisionId>,
        roots: Vec<ObjectId>,
    ) -> Result<Option<Claimed>> {
        let claim = Claim { revisions, roots, ..new_claim(purpose, None) };
        match self.backend().claim(&Key::pin(claim.id), &seal(&claim)?) {
            Ok(guard) => Ok(Some(Claimed { claim, guard })),
            Err(Error::Io { source, .. }) if takes_no_pin(&source) => {
                let revisions: Vec<String> = claim.revisions.iter().map(ToString::to_string).collect();
                log::info!(
                    "read without a pin, which a gc elsewhere would heed: revision {}: {source}",
                    revisions.join(", ")
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Locks a stream for a backup. If another backup has it, `wait` is asked again and again whether to wait on.
    ///
    /// # Errors
    /// [`Error::Busy`] names the other backup.
    pub(crate) fn lock_stream(
        &self,
        stream: StreamId,
        name: &str,
        own: &Claimed,
        wait: impl Fn() -> Result<bool>,
    ) -> Result<StreamLock> {
        let (name, what) = (format!("stream-{stream}"), format!("stream '{name}'"));
        let holder = || self.session_on(stream, own.claim.id);
        let lock = self.store().locks().take_unless(LockName { name: &name, what: &what }, wait, holder)?;
        Ok(StreamLock { _lock: lock })
    }

    /// Locks what is told of a stream: its own file, its labels, the list of its records. It is held for moments only, also
    /// by a backup, whose own lock of the stream lasts as long as it runs.
    pub(crate) fn lock_history(&self, stream: &Stream) -> Result<LockGuard> {
        self.lock(&format!("history-{}", stream.id), &format!("stream '{}'", stream.name), || Ok(true))
    }

    /// Locks the repository against every other gc. A pin says who has it.
    pub(crate) fn lock_gc(&self) -> Result<(LockGuard, Option<Claimed>)> {
        let wanted = LockName { name: "gc", what: "the repository's gc" };
        let lock = self.store().locks().take_unless(wanted, || Ok(false), || self.running_gc())?;
        Ok((lock, self.pin(GC_PURPOSE, Vec::new(), Vec::new())?))
    }

    /// Takes a lock of the repository.
    pub(crate) fn lock(&self, name: &str, what: &str, wait: impl Fn() -> Result<bool>) -> Result<LockGuard> {
        self.store().locks().take_unless(LockName { name, what }, wait, || None)
    }

    /// Who runs a gc, if their pin can be read.
    fn running_gc(&self) -> Option<String> {
        let pins = self.living_claims(&Area::pins()).ok()?;
        pins.iter().find(|pin| pin.purpose == GC_PURPOSE).map(Claim::holder)
    }

    /// Who else runs a backup of this stream, if their session can be read: of several the first, as the others wait.
    fn session_on(&self, stream: StreamId, own: ClaimId) -> Option<String> {
        let claims = self.living_claims(&Area::sessions()).ok()?;
        let others = claims.iter().filter(|claim| claim.stream == Some(stream) && claim.id != own);
        others.min_by_key(|claim| claim.created).map(Claim::holder)
    }
}

/// Whether a medium takes no pin: it is read-only, forbidden, full, failing, or knows no locks. What is on it must be
/// readable all the same.
fn takes_no_pin(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let reasons = [
        Errno::ROFS,
        Errno::ACCESS,
        Errno::PERM,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::IO,
        Errno::NOLCK,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        // What a file system says that has no such operation at all.
        Errno::INVAL,
    ];
    Errno::from_io_error(error).is_some_and(|errno| reasons.contains(&errno))
}

fn new_claim(purpose: &str, stream: Option<StreamId>) -> Claim {
    Claim {
        id: ClaimId::random(),
        created: Timestamp::now(),
        host: host_name(),
        process: std::process::id(),
        purpose: purpose.to_owned(),
        stream,
        revisions: Vec::new(),
        roots: Vec::new(),
    }
}

/// The name of this host.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
