//! Whether stdout was closed when the process began. The standard library opens /dev/null in the place of a stream that
//! is closed, before `main`: what is written there would be lost without a word.

use std::sync::atomic::{AtomicBool, Ordering};

static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether stdout was closed when the process began.
pub(crate) fn stdout_was_closed() -> bool {
    STDOUT_WAS_CLOSED.load(Ordering::Relaxed)
}

extern "C" fn look() {
    let is_closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err();
    STDOUT_WAS_CLOSED.store(is_closed, Ordering::Relaxed);
}

// SAFETY: the loader calls each function whose address stands in this section once, before `main`. This one needs
// nothing that is set up later: it makes one system call and stores a flag.
#[expect(unsafe_code, reason = "nothing else runs before the standard library opens /dev/null")]
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;
