//! Work on all cores with bounded memory: items are produced by one thread, worked on by several, taken by the caller.

use std::thread::{Builder, JoinHandle, Scope};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, Result};

/// How many threads work.
pub(crate) fn worker_count() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Starts a thread of a scope. The system may have none left, which is no reason to panic.
pub(crate) fn start_in<'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> Result<()> {
    Builder::new().spawn_scoped(scope, work).map(drop).map_err(Error::io("start", "a thread"))
}

/// Starts a thread of its own; see [`start_in`].
pub(crate) fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new().spawn(work).map_err(Error::io("start", "a thread"))
}

/// Works on `items` side by side and hands the results to `take` in the order of the items.
///
/// `take` runs on the calling thread. A few items for each core are under way at most. The first error, in the order
/// of the items, ends the work.
pub(crate) fn ordered<T: Send, S, R: Send>(
    items: impl Iterator<Item = Result<T>> + Send,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let workers = worker_count();
    let (jobs, job_queue) = bounded::<(T, Sender<Result<R>>)>(workers);
    let (results, result_queue) = bounded::<Receiver<Result<R>>>(workers * 3);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (queue, state, work) = (job_queue.clone(), &state, &work);
            start_in(scope, move || {
                let mut state = state();
                for (item, reply) in queue {
                    // Nobody waits for it any more when the caller has given up.
                    let _ = reply.send(work(&mut state, item));
                }
            })?;
        }
        drop(job_queue);
        start_in(scope, move || {
            for item in items {
                let (reply, result) = bounded(1);
                if results.send(result).is_err() {
                    return;
                }
                match item {
                    Ok(item) => {
                        if jobs.send((item, reply)).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        return;
                    }
                }
            }
        })?;
        // Dropping the queue on an error ends the other threads.
        result_queue.into_iter().try_for_each(|result| take(result.recv().map_err(|_| Error::Cancelled)??))
    })
}

/// Works on `items` side by side, in no order. The first error ends the work.
pub(crate) fn unordered<T: Send>(
    items: impl Iterator<Item = Result<T>> + Send,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    ordered(items, || (), |(), item| work(item), |()| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let mut taken = Vec::new();
        let work = |(): &mut (), item: u64| {
            std::thread::sleep(std::time::Duration::from_micros(item * 37 % 500));
            Ok(item * 2)
        };
        ordered(
            (0..200).map(Ok),
            || (),
            work,
            |result| {
                taken.push(result);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(taken, (0..200).map(|item| item * 2).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_anywhere_ends_the_work() {
        let endless = || (0u64..).map(Ok);
        let fail_at =
            |at: u64| move |(): &mut (), item| if item == at { Err(Error::Cancelled) } else { Ok(item) };
        assert!(ordered(endless(), || (), fail_at(50), |_| Ok(())).is_err());
        assert!(
            ordered(
                endless(),
                || (),
                fail_at(u64::MAX),
                |item| if item == 9 { Err(Error::Cancelled) } else { Ok(()) }
            )
            .is_err()
        );
        let bad_item = (0..5).map(Ok).chain([Err(Error::Cancelled)]).chain((0..5).map(Ok));
        let mut taken = 0;
        assert!(
            ordered(
                bad_item,
                || (),
                fail_at(u64::MAX),
                |_: u64| {
                    taken += 1;
                    Ok(())
                }
            )
            .is_err()
        );
        assert_eq!(taken, 5);
    }
}
