//! Texts: names of files in a repository, what users call things, and hints.

use std::fmt::Display;

use crate::format::RecordKey;
use crate::id::{ClaimId, ObjectId, PackId, RevisionId, StreamId, TableId};
use crate::operations::Hints;
use crate::repository::{validate_label, validate_stream_name};
use crate::revision::{is_relative, names_on, split_revision, tidy_path};

/// A name of whatever kind.
pub fn names(bytes: &[u8]) -> bool {
    let components = names_on(bytes);
    assert!(components.into_iter().all(|name| !name.is_empty() && !name.contains(&b'/')));
    let _ = tidy_path(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (stream, spec) = split_revision(text);
    let _ = is_relative(spec.unwrap_or(stream));
    for is_valid in [validate_stream_name(stream).is_ok(), validate_label(stream).is_ok()] {
        assert!(!is_valid || is_harmless(stream), "{stream:?}");
    }
    [
        is_spelt_so(text, RecordKey::parse),
        is_spelt_so(text, StreamId::parse),
        is_spelt_so(text, RevisionId::parse),
        is_spelt_so(text, ClaimId::parse),
        is_spelt_so(text, PackId::parse),
        is_spelt_so(text, TableId::parse),
        is_spelt_so(text, ObjectId::parse),
    ]
    .contains(&true)
}

/// What is parsed has one spelling, so no two files have one meaning, and is the name of a file in its own directory.
fn is_spelt_so<T: Display>(text: &str, parse: impl Fn(&str) -> Option<T>) -> bool {
    let Some(parsed) = parse(text) else { return false };
    assert!(parsed.to_string() == text, "{text:?}");
    assert!(is_harmless(text), "{text:?}");
    true
}

fn is_harmless(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_graphic() && c != '/')
}

/// Hints, behind eight bytes that say how long the image is.
pub fn hints(bytes: &[u8]) -> bool {
    let Some((size, json)) = bytes.split_first_chunk() else { return false };
    let size = u64::from_le_bytes(*size);
    let Ok(hints) = Hints::parse(json, size) else { return false };
    assert!(hints.byte_count() <= size, "ranges overlap, or pass the end");
    true
}
