//! Runs a target of the engine, and counts what memory it takes: a few bytes must not make a decoder allocate many.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use treering_engine::fuzzing::target;

/// So many bytes may be taken for each that is given, besides what the target takes anyway: a decoded entry is some times
/// as long as an encoded one, and is encoded again.
const BYTES_FOR_EACH: usize = 128;

/// Runs the target of this name.
///
/// # Panics
/// If there is none, if it breaks a promise, or if it takes more memory than it may.
pub fn run(name: &str, bytes: &[u8]) {
    let target = target(name).expect("a target of the engine");
    let before = IN_USE.get();
    PEAK.set(before);
    (target.run)(bytes);
    let taken = usize::try_from(PEAK.get() - before).unwrap_or(0);
    let allowed = target.memory_bytes + BYTES_FOR_EACH * bytes.len();
    assert!(taken <= allowed, "{} bytes make {name} take {taken} bytes of memory", bytes.len());
}

thread_local! {
    static IN_USE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, and what each thread has of it.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn note(change: i64) {
    // A thread that ends has nothing to be counted any more.
    let _ = IN_USE.try_with(|in_use| {
        in_use.set(in_use.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
    });
}

// SAFETY: all is left to the system's allocator; counting in a thread's own cells, which need no allocation, changes
// nothing of what it gives and takes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
