//! Looking into directories before it is their turn, in a few threads.
//!
//! What comes next in the walk is looked at first, and no more is held than a number of entries. Whoever walks never
//! waits for a thread to begin: what nobody works on yet it does itself.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::piece::{Found, Piece, Place, Task};
use super::selection::Selection;

/// How many threads look ahead. They wait for the disk more than they compute.
const THREADS: usize = 3;
/// How many entries are held for the walk.
const HELD_MAX: usize = 32 << 10;

/// Threads that look ahead of a walk.
pub(super) struct Ahead {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    selection: Selection,
    state: Mutex<State>,
    /// Something is wanted and may be held, or all is over.
    wanted: Condvar,
    /// Something is ready.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<Place, Task>,
    running: BTreeSet<Place>,
    ready: BTreeMap<Place, Piece>,
    /// The weight of what is ready.
    held: usize,
    is_over: bool,
}

impl Ahead {
    /// Starts the threads.
    pub(super) fn start(selection: Selection) -> Self {
        let shared = Arc::new(Shared {
            selection,
            state: Mutex::default(),
            wanted: Condvar::new(),
            ready: Condvar::new(),
        });
        let start = |_| {
            let shared = Arc::clone(&shared);
            // Without threads the walk does it all itself.
            std::thread::Builder::new().name("walk-ahead".into()).spawn(move || shared.work()).ok()
        };
        let threads = (0..THREADS).filter_map(start).collect();
        Self { shared, threads }
    }

    /// The piece whose turn it is.
    pub(super) fn take(&self, task: &Task) -> Piece {
        let piece = task.place().and_then(|place| self.shared.take(&place));
        piece.unwrap_or_else(|| {
            let piece = task.run(&self.shared.selection);
            self.shared.offer(&mut self.shared.lock(), &piece);
            piece
        })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.wanted.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What was looked at ahead, or `None` for the caller to do it.
    fn take(&self, place: &Place) -> Option<Piece> {
        let mut state = self.lock();
        while state.running.contains(place) {
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wanted.remove(place);
        let piece = state.ready.remove(place)?;
        let was_full = state.held >= HELD_MAX;
        state.held -= piece.weight();
        if was_full && state.held < HELD_MAX {
            self.wanted.notify_all();
        }
        Some(piece)
    }

    /// Lets the threads look into what was found.
    fn offer(&self, state: &mut State, piece: &Piece) {
        let directories = piece.found.iter().filter_map(|found| match found {
            Found::Directory(_, below) => below.as_ref(),
            Found::Entry(_) | Found::Failed(_) => None,
        });
        let before = state.wanted.len();
        for task in directories.chain(&piece.next) {
            if let Some(place) = task.place() {
                state.wanted.insert(place, task.clone());
            }
        }
        if state.wanted.len() > before {
            self.wanted.notify_all();
        }
    }

    fn work(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let next = if state.held < HELD_MAX { state.wanted.pop_first() } else { None };
            let Some((place, task)) = next else {
                state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.running.insert(place.clone());
            drop(state);
            // Whoever waits for a piece that will never come must look itself, and meets the panic there.
            let piece = catch_unwind(AssertUnwindSafe(|| task.run(&self.selection)));
            state = self.lock();
            state.running.remove(&place);
            if let Ok(piece) = piece {
                self.offer(&mut state, &piece);
                state.held += piece.weight();
                state.ready.insert(place, piece);
            }
            self.ready.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
