//! Copies between repositories in a temporary directory.
