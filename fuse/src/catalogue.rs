//! What the repository holds right now, listed again when somebody asks, but not more often than a short interval.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use treering_engine::{Error, Repository, Result, RevisionId, Stream, StreamId};

use crate::errno::Errno;
use crate::namespace::{Revisions, Streams, Tags};

/// How long a listing counts as new. With the second for which the kernel keeps a name, a new revision shows
/// within two.
const INTERVAL: Duration = Duration::from_millis(500);

/// But where a listing takes long, it counts as new for so many times as long: a slow medium is not listed all the time.
const LISTING_SHARE: u32 = 4;

/// The streams and revisions of a repository.
pub(crate) struct Catalogue {
    repository: Repository,
    chosen: Option<HashSet<StreamId>>,
    started: SystemTime,
    streams: Listing<Streams>,
    lists: Mutex<HashMap<StreamId, Arc<Lists>>>,
}

#[derive(Default)]
struct Lists {
    revisions: Listing<Revisions>,
    tags: Listing<Tags>,
}

impl Catalogue {
    /// Lists nothing yet, but looks for the chosen streams; none chosen means all.
    pub(crate) fn new(repository: Repository, chosen: &[String]) -> Result<Self> {
        let ids = chosen.iter().map(|name| repository.stream(name).map(|stream| stream.id));
        let ids = ids.collect::<Result<HashSet<_>>>()?;
        Ok(Self {
            repository,
            chosen: (!ids.is_empty()).then_some(ids),
            started: SystemTime::now(),
            streams: Listing::default(),
            lists: Mutex::default(),
        })
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The streams that are shown.
    pub(crate) fn streams(&self) -> Result<Arc<Streams>> {
        self.streams.get("the streams", || {
            let shown = |stream: &Stream| self.chosen.as_ref().is_none_or(|ids| ids.contains(&stream.id));
            let list = self.repository.list_streams()?;
            Ok(Listed {
                value: Streams::new(list.streams.into_iter().filter(shown).collect()),
                damaged: list.damaged.into_iter().map(|stream| stream.reason).collect(),
            })
        })
    }

    /// A stream that is shown.
    pub(crate) fn stream(&self, id: StreamId) -> Result<Stream> {
        let streams = self.streams()?;
        streams.find(id).cloned().ok_or_else(|| no_such_stream(id))
    }

    /// The revisions of a stream.
    pub(crate) fn revisions(&self, id: StreamId) -> Result<Arc<Revisions>> {
        self.lists(id).revisions.get("revisions", || {
            let stream = self.stream(id)?;
            let keys = self.repository.revisions(&stream)?;
            Ok(Listed::intact(Revisions::new(id, stream.kind, keys)))
        })
    }

    /// What a read of an open revision fails with: a gc elsewhere keeps what records reach, and what readers have pinned.
    pub(crate) fn failure(&self, id: StreamId, revision: RevisionId, is_pinned: bool) -> Errno {
        let is_forgotten = || self.revisions(id).is_ok_and(|revisions| revisions.find(revision).is_none());
        if !is_pinned && is_forgotten() { Errno::Stale } else { Errno::Unreadable }
    }

    /// The tags of a stream's revisions.
    pub(crate) fn tags(&self, id: StreamId) -> Result<Arc<Tags>> {
        self.lists(id).tags.get("tags", || {
            let stream = self.stream(id)?;
            let labels = self.repository.all_labels(&stream)?;
            Ok(Listed {
                value: Tags::new(id, labels.readable.into_values()),
                damaged: labels.damaged.into_iter().map(|(_, reason)| reason).collect(),
            })
        })
    }

    /// When something was last seen to change: of a stream, or of the list of streams. Lists nothing.
    pub(crate) fn changed(&self, id: Option<StreamId>) -> SystemTime {
        let changed = match id {
            None => self.streams.changed(),
            Some(id) => {
                let known = lock(&self.lists).get(&id).cloned();
                known.and_then(|lists| lists.revisions.changed().max(lists.tags.changed()))
            }
        };
        changed.unwrap_or(self.started)
    }

    fn lists(&self, id: StreamId) -> Arc<Lists> {
        Arc::clone(lock(&self.lists).entry(id).or_default())
    }
}

fn no_such_stream(id: StreamId) -> Error {
    Error::NoSuchStream { name: id.to_string(), streams: Vec::new() }
}

/// What a listing gave, and what of it is damaged.
struct Listed<T> {
    value: T,
    damaged: Vec<String>,
}

impl<T> Listed<T> {
    fn intact(value: T) -> Self {
        Self { value, damaged: Vec::new() }
    }
}

/// One listing, and when it was made.
struct Listing<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    known: Option<Known<T>>,
    failing: bool,
    /// What was found to be damaged the last time.
    damaged: Vec<String>,
}

struct Known<T> {
    fresh_until: Instant,
    changed: SystemTime,
    value: Arc<T>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { known: None, failing: false, damaged: Vec::new() }) }
    }
}

impl<T: PartialEq> Listing<T> {
    /// The listing if it is new enough, else what `list` gives. One thread lists, the others wait for it.
    fn get(&self, what: &str, list: impl FnOnce() -> Result<Listed<T>>) -> Result<Arc<T>> {
        let mut state = lock(&self.state);
        if let Some(known) = state.known.as_ref().filter(|known| Instant::now() < known.fresh_until) {
            return Ok(Arc::clone(&known.value));
        }
        let start = Instant::now();
        let Listed { value, damaged } = list().inspect_err(|error| {
            // One line when it begins; a medium that is gone would else fill the log.
            if !state.failing && !matches!(error, Error::NoSuchStream { .. }) {
                log::error!("cannot list {what}: {error}");
                state.failing = true;
            }
        })?;
        state.failing = false;
        // One line for each, not one for each listing.
        let new = damaged.iter().filter(|reason| !state.damaged.contains(reason));
        new.for_each(|reason| log::error!("{reason}"));
        state.damaged = damaged;
        let fresh_until = Instant::now() + INTERVAL.max(start.elapsed() * LISTING_SHARE);
        match state.known.as_mut().filter(|known| *known.value == value) {
            Some(known) => {
                known.fresh_until = fresh_until;
                Ok(Arc::clone(&known.value))
            }
            None => {
                let value = Arc::new(value);
                let changed = SystemTime::now();
                state.known = Some(Known { fresh_until, changed, value: Arc::clone(&value) });
                Ok(value)
            }
        }
    }
}

impl<T> Listing<T> {
    fn changed(&self) -> Option<SystemTime> {
        lock(&self.state).known.as_ref().map(|known| known.changed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed<T>(value: T) -> Result<Listed<T>> {
        Ok(Listed::intact(value))
    }

    #[test]
    fn a_new_listing_is_not_made_again_and_an_old_one_is() {
        let listing = Listing::default();
        assert_eq!(*listing.get("x", || listed(1)).unwrap(), 1);
        assert_eq!(*listing.get("x", || listed(2)).unwrap(), 1);
        std::thread::sleep(INTERVAL);
        assert_eq!(*listing.get("x", || listed(2)).unwrap(), 2);
    }

    #[test]
    fn a_slow_listing_is_made_seldom() {
        let listing = Listing::default();
        let slow = || {
            std::thread::sleep(INTERVAL);
            listed(1)
        };
        listing.get("x", slow).unwrap();
        std::thread::sleep(INTERVAL);
        assert_eq!(*listing.get("x", || listed(2)).unwrap(), 1);
    }

    #[test]
    fn the_time_of_change_stays_while_nothing_changes() {
        let listing = Listing::default();
        listing.get("x", || listed(1)).unwrap();
        let changed = listing.changed();
        std::thread::sleep(INTERVAL);
        listing.get("x", || listed(1)).unwrap();
        assert_eq!(listing.changed(), changed);
    }

    /// Of a stream that was not there nothing is logged: once that kept what came next out of the log, too.
    #[test]
    fn only_what_was_logged_counts_as_failing() {
        let listing = Listing::<()>::default();
        let is_failing = || lock(&listing.state).failing;
        assert!(listing.get("x", || Err(no_such_stream(StreamId::random()))).is_err());
        assert!(!is_failing());
        assert!(listing.get("x", || Err(Error::Cancelled)).is_err());
        assert!(is_failing());
        listing.get("x", || listed(())).unwrap();
        assert!(!is_failing());
    }

    #[test]
    fn a_failure_is_not_kept() {
        let listing = Listing::default();
        assert!(listing.get("x", || Err(Error::Cancelled)).is_err());
        assert_eq!(*listing.get("x", || listed(1)).unwrap(), 1);
    }
}
