//! Hints: which parts of an image changed, as `rbd diff --format json` prints them.

use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::error::{Error, Result};

/// Ranges that changed, sorted and disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(super) ranges: Vec<Hint>,
}

/// One range that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hint {
    /// In bytes.
    pub(super) range: Range<u64>,
    /// `false` if the range became a hole.
    pub(super) exists: bool,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with offset, length and exists")]
struct Raw {
    offset: u64,
    length: u64,
    /// Ceph prints a string up to version 16 and a boolean later.
    exists: Value,
    /// Other keys; with a field for these a list in place of an object is refused.
    #[serde(flatten)]
    _others: IgnoredAny,
}

impl Hints {
    /// Reads and checks hints for an image of `size` bytes.
    ///
    /// # Errors
    /// [`Error::Hints`] if they are malformed, overlap or reach past the end.
    pub(crate) fn parse(json: &[u8], size: u64) -> Result<Self> {
        let raw: Vec<Raw> = serde_json::from_slice(json).map_err(|error| refuse(error.to_string()))?;
        let mut ranges = raw.into_iter().map(|raw| raw.check(size)).collect::<Result<Vec<_>>>()?;
        ranges.sort_by_key(|hint| hint.range.start);
        for pair in ranges.windows(2) {
            if let [a, b] = pair
                && a.range.end > b.range.start
            {
                return Err(refuse(format!("the ranges at {} and {} overlap", a.range.start, b.range.start)));
            }
        }
        Ok(Self { ranges })
    }

    /// Bytes of all ranges.
    pub(crate) fn byte_count(&self) -> u64 {
        self.ranges.iter().map(|hint| hint.range.end - hint.range.start).sum()
    }
}

impl Raw {
    fn check(self, size: u64) -> Result<Hint> {
        let (offset, length) = (self.offset, self.length);
        if length == 0 {
            return Err(refuse(format!("the range at {offset} has length 0")));
        }
        let end = offset.checked_add(length).filter(|&end| end <= size).ok_or_else(|| {
            refuse(format!("the range at {offset} with length {length} reaches past the end of the source, which is at {size}"))
        })?;
        let exists = match &self.exists {
            Value::Bool(exists) => *exists,
            Value::String(text) if text == "true" => true,
            Value::String(text) if text == "false" => false,
            other => {
                let reason = format!("'exists' of the range at {offset} is {other}, not true or false");
                return Err(refuse(reason));
            }
        };
        Ok(Hint { range: offset..end, exists })
    }
}

fn refuse(reason: String) -> Error {
    Error::Hints { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Hints> {
        Hints::parse(json.as_bytes(), 1000)
    }

    #[test]
    fn what_rbd_prints_is_understood_in_both_spellings_and_any_order() {
        let json = r#"[{"offset":500,"length":100,"exists":"false"},{"offset":0,"length":10,"exists":true}]"#;
        let hints = parse(json).unwrap();
        let expected = [Hint { range: 0..10, exists: true }, Hint { range: 500..600, exists: false }];
        assert_eq!(hints.ranges, expected);
        assert_eq!(hints.byte_count(), 110);
        assert_eq!(parse("[]").unwrap(), Hints::default());
        let more = r#"[{"object":"x","offset":0,"more":[1,{"a":2}],"length":10,"exists":true}]"#;
        assert_eq!(parse(more).unwrap().ranges, [Hint { range: 0..10, exists: true }]);
    }

    #[test]
    fn wrong_hints_are_refused_with_the_reason() {
        for (json, reason) in [
            ("", "EOF"),
            ("{}", "sequence"),
            (r#"[{"offset":-1,"length":1,"exists":true}]"#, "-1"),
            (r#"[{"offset":0,"length":1}]"#, "exists"),
            ("[[0,1,true]]", "expected an object"),
            (r#"[{"offset":0,"length":1,"exists":"maybe"}]"#, "maybe"),
            (
                r#"[{"offset":7,"length":1,"exists":null}]"#,
                "'exists' of the range at 7 is null, not true or false",
            ),
            (r#"[{"offset":7,"length":1,"exists":1}]"#, "is 1, not true or false"),
            (r#"[{"offset":0,"length":0,"exists":true}]"#, "length 0"),
            (r#"[{"offset":999,"length":2,"exists":true}]"#, "past the end"),
            (r#"[{"offset":18446744073709551615,"length":2,"exists":true}]"#, "past the end"),
            (r#"[{"offset":0,"length":9,"exists":true},{"offset":8,"length":1,"exists":true}]"#, "overlap"),
            (r#"[] []"#, "trailing"),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
