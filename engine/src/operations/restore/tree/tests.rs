//! Tests of the restore of trees.
