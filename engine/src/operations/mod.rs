//! What users do. An operation may use everything below it, and never another operation.

pub mod backup;
pub mod check;
pub mod copy;
#[cfg(test)]
mod crash_tests;
pub mod diff;
pub mod dump;
pub mod find;
pub mod forget;
pub mod gc;
pub mod history;
pub mod ls;
pub mod restore;
pub mod retention;
pub mod scrub;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use backup::Hints;
