//! Where the draws of a test begin, and how a failure tells of it.

use std::io::Write;

/// The seed of this run: that of the environment, or one that is like no other.
pub(super) fn seed() -> u64 {
    match std::env::var("TREERING_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => uuid::Uuid::new_v4().as_u64_pair().1,
    }
}

/// Says on standard error what was looked at, if the test fails meanwhile.
pub(super) struct Told(pub(super) String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "this failed: {}", self.0);
        }
    }
}
