//! Locks of a repository, and the wait for them.
//!
//! All are held for moments only, but for that of a stream, which a backup holds as long as it runs, and gc's. So nothing is
//! said of a wait in its first second; from then on whoever looks on knows what is waited for, and may end it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::backend::{Backend, LockGuard};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// How often a lock that is awaited is tried.
const RETRY: Duration = Duration::from_millis(20);

/// What is held for moments only is not held longer than this.
const MOMENT: Duration = Duration::from_secs(1);

/// Takes the locks of one repository.
pub(crate) struct Locks {
    backend: Arc<dyn Backend>,
    /// Who looks on while something is waited for.
    monitor: OnceLock<Arc<dyn Monitor>>,
}

/// A lock, and what people call it.
#[derive(Clone, Copy)]
pub(crate) struct LockName<'a> {
    pub(crate) name: &'a str,
    pub(crate) what: &'a str,
}

impl Locks {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, monitor: OnceLock::new() }
    }

    /// From now on this one, the first that is given, is told of waits and may end them.
    pub(crate) fn tell(&self, monitor: Arc<dyn Monitor>) {
        let _ = self.monitor.set(monitor);
    }

    /// Takes a lock that others hold for moments only.
    pub(super) fn take(&self, wanted: LockName<'_>) -> Result<LockGuard> {
        self.take_unless(wanted, || Ok(true), || None)
    }

    /// Takes a lock. While others have it, it is asked again and again if it is to be waited for, and who `holds` it.
    ///
    /// # Errors
    /// [`Error::Busy`] names who holds it, if that is known; [`Error::Cancelled`] if whoever looks on ends the wait.
    pub(crate) fn take_unless(
        &self,
        wanted: LockName<'_>,
        waits: impl Fn() -> Result<bool>,
        holds: impl Fn() -> Option<String>,
    ) -> Result<LockGuard> {
        let holder = || holds().unwrap_or_else(|| "another process".to_owned());
        let (begin, mut is_told) = (Instant::now(), false);
        loop {
            if let Some(lock) = self.backend.try_lock(wanted.name)? {
                return Ok(lock);
            }
            if !waits()? {
                return Err(Error::Busy { what: wanted.what.to_owned(), holder: holder() });
            }
            if begin.elapsed() >= MOMENT {
                self.look_out(&mut is_told, || {
                    format!("waiting for {}, which is in use by {}", wanted.what, holder())
                })?;
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Says once what is waited for, and whether to wait on.
    fn look_out(&self, is_told: &mut bool, message: impl Fn() -> String) -> Result<()> {
        let Some(monitor) = self.monitor.get() else { return Ok(()) };
        if !std::mem::replace(is_told, true) {
            monitor.note(&message());
        }
        match monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::backend::LocalBackend;

    /// Presses Ctrl-C as soon as it is told of a wait, if it is impatient.
    #[derive(Default)]
    struct Onlooker {
        told: Mutex<Vec<String>>,
        is_impatient: bool,
        has_ended: AtomicBool,
    }

    impl Monitor for Onlooker {
        fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
        fn advance(&self, _bytes: u64) {}
        fn warn(&self, _message: &str) {}

        fn note(&self, message: &str) {
            self.told.lock().unwrap().push(message.to_owned());
            self.has_ended.store(self.is_impatient, Ordering::Relaxed);
        }

        fn is_cancelled(&self) -> bool {
            self.has_ended.load(Ordering::Relaxed)
        }
    }

    const INDEX: LockName<'static> = LockName { name: "index", what: "the index" };

    fn with_locks(test: impl FnOnce(&Locks)) {
        let directory = tempfile::tempdir().unwrap();
        test(&Locks::new(Arc::new(LocalBackend::new(directory.path().to_owned()))));
    }

    #[test]
    fn who_looks_on_is_told_of_a_wait_once_and_may_end_it() {
        with_locks(|locks| {
            let onlooker = Arc::new(Onlooker { is_impatient: true, ..Onlooker::default() });
            locks.tell(Arc::<Onlooker>::clone(&onlooker));
            let held = locks.take(INDEX).unwrap();
            assert!(matches!(locks.take(INDEX), Err(Error::Cancelled)));
            assert_eq!(
                *onlooker.told.lock().unwrap(),
                ["waiting for the index, which is in use by another process"]
            );
            drop(held);
            // One that is free is taken also by who has been told to stop: there is nothing to wait for.
            locks.take(INDEX).unwrap();
        });
    }

    #[test]
    fn a_wait_ends_when_the_lock_does_and_one_of_a_moment_is_not_told() {
        with_locks(|locks| {
            let onlooker = Arc::new(Onlooker::default());
            locks.tell(Arc::<Onlooker>::clone(&onlooker));
            for (held_for, told) in [(MOMENT / 10, 0), (MOMENT * 3 / 2, 1)] {
                let held = locks.take(INDEX).unwrap();
                std::thread::scope(|scope| {
                    scope.spawn(|| locks.take_unless(INDEX, || Ok(true), || Some("gc".to_owned())).unwrap());
                    std::thread::sleep(held_for);
                    drop(held);
                });
                assert_eq!(onlooker.told.lock().unwrap().len(), told);
            }
            assert!(onlooker.told.lock().unwrap()[0].ends_with("by gc"));
        });
    }

    #[test]
    fn who_does_not_wait_is_told_who_has_it() {
        with_locks(|locks| {
            let _held = locks.take(INDEX).unwrap();
            let busy = locks.take_unless(INDEX, || Ok(false), || Some("gc".to_owned())).err().unwrap();
            assert_eq!(busy.to_string(), "the index is in use by gc");
        });
    }
}
