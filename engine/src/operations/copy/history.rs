//! Whether a stream has the same history on both sides, and which of its revisions are to be sent.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::CopyRequest;
use crate::error::{Error, Result};
use crate::format::{RecordKey, StreamObject};
use crate::id::RevisionId;

/// A stream on one side.
pub(super) struct Side {
    /// Its own file.
    pub(super) object: StreamObject,
    /// Its revisions, the oldest first.
    pub(super) keys: Vec<RecordKey>,
    /// Those that were forgotten there and can be brought back; of the source nobody asks.
    pub(super) forgotten: Vec<RecordKey>,
}

const DIVERGED: &str = "two histories can't be made one: copy to another repository, or delete the stream there (`treering stream delete`)";

const IN_TRASH: &str = "`treering gc` there takes it for good, and then it is in nobody's way; to keep it, copy to another repository";

const WENT_ON: &str = "the target went on by itself: copy from it to here instead, or to another repository";

/// Fails if the target has revisions that can't be of this stream.
pub(super) fn refuse_other_history(source: &Side, target: &Side, place: &str) -> Result<()> {
    let by_id: HashMap<RevisionId, &RecordKey> = source.keys.iter().map(|key| (key.id, key)).collect();
    let sequences: HashSet<u64> = source.keys.iter().map(|key| key.sequence).collect();
    let names: HashSet<&str> = source.keys.iter().map(|key| key.name.as_str()).collect();
    let newest = source.keys.last().map_or(0, |key| key.sequence).max(source.object.sequence_floor);
    let refuse = |key: &RecordKey, what: &str, hint| {
        Err(Error::OtherHistory {
            stream: source.object.name.clone(),
            target: place.to_owned(),
            reason: format!("revision {} (number {}, id {}) there {what}", key.name, key.sequence, key.id),
            hint,
        })
    };
    for key in &target.keys {
        match by_id.get(&key.id) {
            Some(own) if *own == key => {}
            Some(own) => {
                let what = format!("is revision {} (number {}) here", own.name, own.sequence);
                return refuse(key, &what, DIVERGED);
            }
            None if sequences.contains(&key.sequence) || names.contains(key.name.as_str()) => {
                return refuse(key, "has the place of another one here", DIVERGED);
            }
            None if key.sequence > newest => return refuse(key, "was never here", WENT_ON),
            // It was forgotten here.
            None => {}
        }
    }
    // Brought back, it would have the place of another one.
    let has_place = |key: &&RecordKey| sequences.contains(&key.sequence) || names.contains(key.name.as_str());
    match target.forgotten.iter().filter(|key| !by_id.contains_key(&key.id)).find(has_place) {
        Some(key) => refuse(key, "was forgotten, and has the place of another one here", IN_TRASH),
        None => Ok(()),
    }
}

/// What is to be done about the revisions that were asked for, each list with the oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) absent: Vec<RecordKey>,
    pub(super) present: Vec<RecordKey>,
    pub(super) forgotten: Vec<RecordKey>,
}

impl Plan {
    pub(super) fn new(source: &Side, target: &Side, request: &CopyRequest) -> Self {
        let mut wanted: BTreeSet<&RecordKey> = request.named.iter().collect();
        if request.whole {
            wanted.extend(&source.keys);
        }
        let named: HashSet<RevisionId> = request.named.iter().map(|key| key.id).collect();
        let there: HashSet<RevisionId> = target.keys.iter().map(|key| key.id).collect();
        let retired: HashSet<&str> = target.object.retired_names.iter().map(String::as_str).collect();
        // What was forgotten here before it was copied, and has come back since.
        let retired_here: HashSet<&str> = source.object.retired_names.iter().map(String::as_str).collect();
        let is_forgotten = |key: &RecordKey| {
            let name = key.name.as_str();
            retired.contains(name) && !retired_here.contains(name) && !named.contains(&key.id)
        };
        let mut plan = Self::default();
        for key in wanted {
            let list = match there.contains(&key.id) {
                true => &mut plan.present,
                false if is_forgotten(key) => &mut plan.forgotten,
                false => &mut plan.absent,
            };
            list.push(key.clone());
        }
        plan
    }
}

/// The revision of `there` that has most in common with one that it has not: the newest older one, else the oldest newer
/// one.
pub(super) fn nearest<'a>(there: &'a BTreeSet<RecordKey>, key: &RecordKey) -> Option<&'a RecordKey> {
    there.range(..key).next_back().or_else(|| there.range(key..).next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Kind, Timestamp};
    use crate::id::StreamId;
    use crate::repository::Stream;

    fn key(sequence: u64) -> RecordKey {
        let id = RevisionId::from_bytes([sequence as u8; 16]);
        RecordKey { sequence, id, name: format!("2026-11-20T10-00-{sequence:02}Z") }
    }

    fn side(sequences: impl IntoIterator<Item = u64>, floor: u64, retired: &[u64]) -> Side {
        let object = StreamObject {
            id: StreamId::from_bytes([1; 16]),
            name: "vm".to_owned(),
            kind: Kind::Image,
            created: Timestamp::now(),
            sequence_floor: floor,
            revisions: Vec::new(),
            retired_names: retired.iter().map(|&sequence| key(sequence).name).collect(),
        };
        Side { object, keys: sequences.into_iter().map(key).collect(), forgotten: Vec::new() }
    }

    fn refusal(source: &Side, target: &Side) -> Option<&'static str> {
        match refuse_other_history(source, target, "/mnt").err()? {
            Error::OtherHistory { hint, .. } => Some(hint),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_target_that_lacks_some_or_kept_what_was_forgotten_has_the_same_history() {
        let source = side([3, 5, 6], 7, &[1, 2, 4, 7]);
        for target in [vec![], vec![3], vec![1, 2, 3, 4], vec![3, 5, 6, 7]] {
            assert_eq!(refusal(&source, &side(target, 0, &[])), None);
        }
    }

    /// It could be brought back beside the one that had come into its place: two had one number.
    #[test]
    fn what_was_forgotten_in_the_place_of_another_one_is_in_the_way() {
        let source = side([1, 2], 2, &[]);
        let mut target = side([1], 2, &[2]);
        target.forgotten = vec![key(2)];
        assert_eq!(refusal(&source, &target), None, "the same one");
        target.forgotten[0].id = RevisionId::from_bytes([9; 16]);
        assert_eq!(refusal(&source, &target), Some(IN_TRASH));
        target.forgotten[0].sequence = 3;
        target.forgotten[0].name = "another".to_owned();
        assert_eq!(refusal(&source, &target), None, "of no place here");
    }

    #[test]
    fn what_can_not_be_of_the_stream_is_another_history() {
        let source = side([1, 2, 3], 3, &[]);
        assert_eq!(refusal(&source, &side([1, 2, 3, 4], 4, &[])), Some(WENT_ON));
        let mut other = side([1, 2], 2, &[]);
        for change in [
            (|key: &mut RecordKey| key.id = RevisionId::from_bytes([9; 16])) as fn(&mut RecordKey),
            |key| (key.id, key.sequence) = (RevisionId::from_bytes([9; 16]), 0),
            |key| key.sequence = 7,
            |key| key.name = "2020-01-01T00-00-00Z".to_owned(),
        ] {
            other.keys[1] = key(2);
            assert_eq!(refusal(&source, &other), None);
            change(&mut other.keys[1]);
            assert_eq!(refusal(&source, &other), Some(DIVERGED));
        }
    }

    #[test]
    fn what_was_forgotten_in_the_target_is_sent_only_if_it_is_named() {
        let (source, target) = (side(1..=5, 5, &[]), side([2, 5], 5, &[1, 4]));
        let stream = Stream { id: source.object.id, name: "vm".to_owned(), kind: Kind::Image };
        let plan = |whole, named: &[u64]| {
            let named = named.iter().map(|&sequence| key(sequence)).collect();
            Plan::new(&source, &target, &CopyRequest { stream: stream.clone(), whole, named })
        };
        let lists = |absent: &[u64], present: &[u64], forgotten: &[u64]| {
            let [absent, present, forgotten] =
                [absent, present, forgotten].map(|list| list.iter().map(|&it| key(it)).collect());
            Plan { absent, present, forgotten }
        };
        assert_eq!(plan(true, &[]), lists(&[3], &[2, 5], &[1, 4]));
        assert_eq!(plan(true, &[4]), lists(&[3, 4], &[2, 5], &[1]));
        assert_eq!(plan(false, &[5, 1]), lists(&[1], &[5], &[]));
    }

    #[test]
    fn the_nearest_older_revision_has_most_in_common_and_then_the_next_newer_one() {
        let there: BTreeSet<RecordKey> = [key(2), key(5)].into();
        let nearest = |sequence| nearest(&there, &key(sequence)).map(|key| key.sequence);
        assert_eq!([1, 3, 4, 9].map(nearest), [Some(2), Some(2), Some(2), Some(5)]);
        assert_eq!(super::nearest(&BTreeSet::new(), &key(1)), None);
    }
}
