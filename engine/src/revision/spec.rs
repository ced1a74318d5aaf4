//! `STREAM@SPEC`: which revision a user means.

use super::labels::StreamLabels;
use std::collections::HashSet;

use crate::error::{Corrupt, Error, Result};
use crate::format::{Labels, RecordKey};
use crate::id::RevisionId;
use crate::repository::{Repository, Stream};

/// A revision, or several, as a user names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    /// The newest one.
    Latest,
    /// The N-th newest; 0 is the newest.
    Nth(u64),
    /// The newest with this tag.
    Tag(String),
    /// A revision id or a unique prefix of it.
    Id(String),
    /// The name that the mount shows, or a unique prefix of it.
    Time(String),
    /// An id, a name, or a prefix of either.
    Any(String),
    /// All of them.
    All,
    /// From the one that the first SPEC means to that of the second, both included.
    Range(String, String),
}

/// Splits `STREAM@SPEC`; the SPEC is `None` where there is no `@`.
pub fn split_revision(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((stream, spec)) => (stream, Some(spec)),
        None => (text, None),
    }
}

impl Spec {
    /// Reads a SPEC. Any text is one: whether it matches anything is found out by [`Repository::find_revision`].
    pub(crate) fn parse(text: &str) -> Self {
        if let Some((first, last)) = text.split_once("..") {
            return Self::Range(first.to_owned(), last.to_owned());
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once(':') {
            Some(("tag", tag)) => Self::Tag(tag.to_owned()),
            Some(("id", id)) => Self::Id(id.to_owned()),
            Some(("time", time)) => Self::Time(without_suffix(time).to_owned()),
            _ if text == "latest" => Self::Latest,
            _ if text == "all" => Self::All,
            _ if digits => text.parse().map_or_else(|_| Self::Id(text.to_owned()), Self::Nth),
            _ => Self::Any(without_suffix(text).to_owned()),
        }
    }
}

/// Whether a SPEC means another revision once there are newer ones, so that it depends on all of them being there.
pub(crate) fn is_relative(spec: &str) -> bool {
    spec.starts_with("tag:") || matches!(Spec::parse(spec), Spec::Latest | Spec::Nth(_))
}

/// The name without the `.img` that the mount shows behind it.
fn without_suffix(name: &str) -> &str {
    name.strip_suffix(".img").unwrap_or(name)
}

/// The shortest prefix of an id that counts.
const MIN_ID_PREFIX: usize = 4;

impl Repository {
    /// The one revision that a SPEC means.
    ///
    /// # Errors
    /// [`Error::NoSuchRevision`] and [`Error::AmbiguousRevision`], with the candidates; damage where the SPEC counts
    /// a revision that is lost: another one than was meant must not pass for it.
    pub fn find_revision(&self, stream: &Stream, spec: &str) -> Result<RecordKey> {
        let keys = self.revisions(stream)?;
        let meant = self.meant(stream, &keys, spec)?;
        let mut found = self.matches(stream, &keys, &meant)?;
        if matches!(meant, Spec::Latest | Spec::Nth(_) | Spec::Tag(_)) {
            self.refuse_to_count_lost(stream, &meant, spec, found.first())?;
        }
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => Err(no_such_revision(stream, spec, &keys)),
            _ => Err(ambiguous(stream, spec, &found)),
        }
    }

    /// The revisions that a SPEC of several means, the oldest first; none matching is an error.
    pub fn find_revisions(&self, stream: &Stream, spec: &str) -> Result<Vec<RecordKey>> {
        let keys = self.revisions(stream)?;
        match self.meant(stream, &keys, spec)? {
            Spec::All => Ok(keys),
            Spec::Range(first, last) => {
                let (first, last) = (self.find_revision(stream, &first)?, self.find_revision(stream, &last)?);
                let (first, last) = (first.clone().min(last.clone()), first.max(last));
                Ok(keys.into_iter().filter(|key| (&first..=&last).contains(&key)).collect())
            }
            _ => self.find_revision(stream, spec).map(|key| vec![key]),
        }
    }

    /// The revisions that a SPEC means among those that were forgotten; none matching is an error.
    pub fn find_forgotten(&self, stream: &Stream, spec: &str) -> Result<Vec<RecordKey>> {
        let keys = self.forgotten_revisions(stream)?;
        let found = match self.meant(stream, &keys, spec)? {
            Spec::All => keys.clone(),
            Spec::Range(..) => {
                return Err(Error::BadParameter {
                    what: "revision",
                    reason: "of those that were forgotten, name one, or all".to_owned(),
                });
            }
            meant => self.matches(stream, &keys, &meant)?,
        };
        match (found.len(), spec) {
            (0, _) => Err(no_such_revision(stream, spec, &keys)),
            (1, _) | (_, "all") => Ok(found),
            _ => Err(ambiguous(stream, spec, &found)),
        }
    }

    /// What a SPEC means in a stream. Tags may have dots: what looks like a range is a tag where there is such a one.
    fn meant(&self, stream: &Stream, keys: &[RecordKey], spec: &str) -> Result<Spec> {
        if let Some(tag) = spec.strip_prefix("tag:").filter(|tag| tag.contains(".."))
            && newest_with_tag(keys, &self.all_labels(stream)?, tag).is_some()
        {
            return Ok(Spec::Tag(tag.to_owned()));
        }
        Ok(Spec::parse(spec))
    }

    /// Fails if a SPEC that looks for the newest of some revisions, and `found` one, may mean one that is lost.
    fn refuse_to_count_lost(
        &self,
        stream: &Stream,
        meant: &Spec,
        spec: &str,
        found: Option<&RecordKey>,
    ) -> Result<()> {
        let mut newer = self.lost_revisions(stream)?;
        newer.retain(|lost| found.is_none_or(|found| lost.key > *found));
        match newer.pop() {
            Some(lost) if self.may_mean_lost(stream, meant)? => {
                let reason = format!(
                    "{}, and '{spec}' counts from it: name a revision by its id or time",
                    lost.reason
                );
                Err(Corrupt::new(lost.file, reason).into())
            }
            _ => Ok(()),
        }
    }

    fn may_mean_lost(&self, stream: &Stream, spec: &Spec) -> Result<bool> {
        let Spec::Tag(tag) = spec else { return Ok(true) };
        let labels = self.all_labels(stream)?;
        let lost: HashSet<RevisionId> =
            self.lost_revisions(stream)?.into_iter().map(|lost| lost.key.id).collect();
        let has_tag = |labels: &Labels| labels.tags.iter().any(|own| own == tag);
        let has_lost = labels.readable.iter().any(|(id, labels)| has_tag(labels) && lost.contains(id));
        Ok(has_lost || !labels.damaged.is_empty())
    }

    fn matches(&self, stream: &Stream, keys: &[RecordKey], spec: &Spec) -> Result<Vec<RecordKey>> {
        let nth = |n: u64| {
            let index = usize::try_from(n).ok().and_then(|n| keys.len().checked_sub(n.checked_add(1)?));
            index.and_then(|index| keys.get(index)).cloned().into_iter().collect()
        };
        let by_id = |text: &str| select(keys, text, text.len() >= MIN_ID_PREFIX, |key| key.id.to_string());
        let by_name = |text: &str| select(keys, text, text.contains('-'), |key| key.name.clone());
        Ok(match spec {
            Spec::Latest => nth(0),
            Spec::Nth(n) => nth(*n),
            Spec::Id(text) => by_id(text).into_keys(),
            Spec::Time(text) => by_name(text).into_keys(),
            Spec::Any(text) => match (by_id(text), by_name(text)) {
                (Selected::Exact(key), _) | (_, Selected::Exact(key)) => vec![key],
                (Selected::Prefix(mut ids), Selected::Prefix(names)) => {
                    ids.extend(names);
                    ids.sort();
                    ids.dedup();
                    ids
                }
            },
            Spec::Tag(tag) => {
                let labels = self.all_labels(stream)?;
                // A newer revision than the one that is found may have the tag.
                labels.damaged.iter().for_each(|(_, reason)| log::warn!("{reason}"));
                newest_with_tag(keys, &labels, tag).cloned().into_iter().collect()
            }
            Spec::All | Spec::Range(..) => {
                return Err(Error::BadParameter {
                    what: "revision",
                    reason: "one revision is wanted here, not several".to_owned(),
                });
            }
        })
    }
}

fn ambiguous(stream: &Stream, spec: &str, found: &[RecordKey]) -> Error {
    Error::AmbiguousRevision {
        stream: stream.name.clone(),
        spec: spec.to_owned(),
        candidates: found.iter().map(|key| format!("{} (id {})", key.name, key.id)).collect(),
    }
}

fn newest_with_tag<'a>(keys: &'a [RecordKey], labels: &StreamLabels, tag: &str) -> Option<&'a RecordKey> {
    let has_tag = |labels: &Labels| labels.tags.iter().any(|own| own == tag);
    keys.iter().rev().find(|key| labels.readable.get(&key.id).is_some_and(has_tag))
}

enum Selected {
    Exact(RecordKey),
    Prefix(Vec<RecordKey>),
}

impl Selected {
    fn into_keys(self) -> Vec<RecordKey> {
        match self {
            Self::Exact(key) => vec![key],
            Self::Prefix(keys) => keys,
        }
    }
}

/// The revision with exactly this text, or those that begin with it if a prefix may count.
fn select(
    keys: &[RecordKey],
    text: &str,
    prefix_counts: bool,
    text_of: impl Fn(&RecordKey) -> String,
) -> Selected {
    if let Some(key) = keys.iter().find(|key| text_of(key) == text) {
        return Selected::Exact(key.clone());
    }
    let begins = |key: &&RecordKey| prefix_counts && text_of(key).starts_with(text);
    Selected::Prefix(keys.iter().filter(begins).cloned().collect())
}

fn no_such_revision(stream: &Stream, spec: &str, keys: &[RecordKey]) -> Error {
    const SHOWN: usize = 10;
    Error::NoSuchRevision {
        stream: stream.name.clone(),
        spec: spec.to_owned(),
        candidates: keys
            .iter()
            .rev()
            .take(SHOWN)
            .map(|key| format!("{} (id {})", key.name, key.id))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::Key;
    use crate::format::Kind;
    use crate::id::{RevisionId, StreamId};
    use crate::repository::CreateOptions;

    const IDS: [&str; 5] = [
        "018f0000-0000-4000-8000-000000000001",
        "018f0000-0000-4000-8000-000000000002",
        "abcd0000-0000-4000-8000-000000000003",
        "20261120-0000-4000-8000-000000000004",
        "eeee0000-0000-4000-8000-000000000005",
    ];
    const NAMES: [&str; 5] = [
        "2025-12-31T23-00-00Z",
        "2026-11-20T10-07-51Z",
        "2026-11-20T10-13-20Z",
        "2026-11-20T10-13-20Z-2",
        "2026-12-01T00-00-00Z",
    ];

    /// A stream; a SPEC asks for no more of it than its id and name.
    fn stream(name: &str) -> Stream {
        Stream { id: StreamId::random(), name: name.to_owned(), kind: Kind::Image }
    }

    /// A stream with a revision for each of [`IDS`], the oldest first.
    struct World {
        _directory: tempfile::TempDir,
        repository: Repository,
        stream: Stream,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let repository =
                Repository::create(&directory.path().join("repository"), &CreateOptions::default()).unwrap();
            let stream = stream("vm1");
            let world = Self { _directory: directory, repository, stream };
            // Names are all that a SPEC looks at.
            world.keys().iter().for_each(|key| world.put(key));
            world.tag(0, &["daily", "monthly"]);
            world.tag(2, &["daily", "2026-11"]);
            world
        }

        fn keys(&self) -> Vec<RecordKey> {
            let key = |(index, (id, name)): (usize, (&&str, &&str))| RecordKey {
                sequence: index as u64 + 1,
                id: RevisionId::parse(id).unwrap(),
                name: (*name).to_owned(),
            };
            IDS.iter().zip(&NAMES).enumerate().map(key).collect()
        }

        fn put(&self, key: &RecordKey) {
            self.repository.backend().put(&Key::record(self.stream.id, key), b"").unwrap();
        }

        fn tag(&self, index: usize, tags: &[&str]) {
            let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
            self.repository.put_tags(&self.stream, self.keys()[index].id, &tags).unwrap();
        }

        /// The place of the revision that is found, the oldest being 0.
        fn find(&self, spec: &str) -> Result<usize> {
            let found = self.repository.find_revision(&self.stream, spec)?;
            Ok(found.sequence as usize - 1)
        }

        fn find_all(&self, spec: &str) -> Result<Vec<usize>> {
            let found = self.repository.find_revisions(&self.stream, spec)?;
            Ok(found.iter().map(|key| key.sequence as usize - 1).collect())
        }

        fn finds(&self, spec: &str, index: usize) {
            assert_eq!(self.find(spec).unwrap(), index, "{spec}");
            assert_eq!(self.find_all(spec).unwrap(), [index], "{spec}");
        }

        /// Fails unless nothing is found, and the newest are offered.
        fn finds_nothing(&self, spec: &str) {
            match self.find(spec).unwrap_err() {
                Error::NoSuchRevision { spec: said, candidates, .. } => {
                    assert_eq!((said.as_str(), candidates.len()), (spec, 5));
                    assert_eq!(candidates[0], format!("{} (id {})", NAMES[4], IDS[4]));
                }
                other => panic!("{spec}: {other}"),
            }
        }

        /// Fails unless exactly these revisions are offered.
        fn is_ambiguous(&self, spec: &str, expected: &[usize]) {
            match self.find(spec).unwrap_err() {
                Error::AmbiguousRevision { candidates, .. } => {
                    let expected: Vec<String> =
                        expected.iter().map(|&i| format!("{} (id {})", NAMES[i], IDS[i])).collect();
                    assert_eq!(candidates, expected, "{spec}");
                }
                other => panic!("{spec}: {other}"),
            }
        }
    }

    #[test]
    fn a_revision_is_split_at_the_first_at_sign() {
        assert_eq!(split_revision("vm1"), ("vm1", None));
        assert_eq!(split_revision("vm1@latest"), ("vm1", Some("latest")));
        assert_eq!(split_revision("vm1@"), ("vm1", Some("")));
        assert_eq!(split_revision("vm1@a@b"), ("vm1", Some("a@b")));
    }

    #[test]
    fn latest_and_digits_count_from_the_newest() {
        let world = World::new();
        world.finds("latest", 4);
        (0..5).for_each(|n| world.finds(&n.to_string(), 4 - n));
        world.finds("0003", 1);
        world.finds_nothing("5");
        // Digits alone are never an id or a year.
        world.finds_nothing("2026");
        world.finds_nothing("20261120");
        world.finds_nothing("99999999999999999999999999");
    }

    #[test]
    fn an_id_or_a_unique_prefix_of_four_characters_is_found() {
        let world = World::new();
        for (index, id) in IDS.iter().enumerate() {
            world.finds(id, index);
            world.finds(&format!("id:{id}"), index);
        }
        world.finds("abcd", 2);
        world.finds("abcd0000-00", 2);
        world.finds("id:2026", 3);
        world.finds("id:20261120", 3);
        world.finds_nothing("abc");
        world.finds_nothing("id:abc");
        world.finds_nothing("id:");
        world.finds_nothing("bcd0");
        world.is_ambiguous("018f", &[0, 1]);
        world.is_ambiguous("id:018f0000-0000", &[0, 1]);
        // A name is no id.
        world.finds_nothing("id:2026-11-20T10-07-51Z");
    }

    #[test]
    fn a_name_with_or_without_its_suffix_or_a_unique_prefix_with_a_dash_is_found() {
        let world = World::new();
        for (index, name) in NAMES.iter().enumerate() {
            world.finds(name, index);
            world.finds(&format!("{name}.img"), index);
            world.finds(&format!("time:{name}"), index);
            world.finds(&format!("time:{name}.img"), index);
        }
        world.finds("2025-", 0);
        world.finds("time:2025-12", 0);
        world.finds("2026-12", 4);
        world.finds("2026-11-20T10-0", 1);
        world.is_ambiguous("2026-11", &[1, 2, 3]);
        world.is_ambiguous("time:2026-", &[1, 2, 3, 4]);
        world.finds_nothing("time:2025");
        world.finds_nothing("2024-");
        world.finds_nothing("-12");
        world.finds_nothing(&format!("time:{}", IDS[2]));
    }

    #[test]
    fn an_exact_match_wins_over_any_prefix() {
        let world = World::new();
        // The third name begins the fourth.
        world.finds("2026-11-20T10-13-20Z", 2);
        world.finds("2026-11-20T10-13-20Z-", 3);
        world.is_ambiguous("2026-11-20T10-13-20", &[2, 3]);
    }

    #[test]
    fn a_prefix_of_an_id_and_of_a_name_is_ambiguous_and_names_each_once() {
        let world = World::new();
        let id = RevisionId::parse("2026112a-0000-4000-8000-000000000006").unwrap();
        world.put(&RecordKey { sequence: 6, id, name: "2026-12-02T00-00-00Z".to_owned() });
        match world.find("id:2026112").unwrap_err() {
            Error::AmbiguousRevision { candidates, .. } => assert_eq!(candidates.len(), 2),
            other => panic!("{other}"),
        }
        world.finds("2026112a", 5);
    }

    #[test]
    fn a_tag_is_the_newest_revision_with_it() {
        let world = World::new();
        world.finds("tag:daily", 2);
        world.finds("tag:monthly", 0);
        world.finds("tag:2026-11", 2);
        world.finds_nothing("tag:dail");
        world.finds_nothing("tag:");
        world.finds_nothing("daily");
    }

    /// A range is split at its first dots, and tags may have dots.
    #[test]
    fn a_tag_that_looks_like_a_range_is_found_where_there_is_one() {
        let world = World::new();
        world.tag(1, &["a", "a..b"]);
        world.tag(3, &["b"]);
        world.finds("tag:a..b", 1);
        assert_eq!(world.find_all("latest..tag:a..b").unwrap(), [1, 2, 3, 4]);
        assert_eq!(world.find_all("tag:b..tag:a").unwrap(), [1, 2, 3]);
        assert!(matches!(world.find("tag:a..latest"), Err(Error::BadParameter { what: "revision", .. })));
        assert!(matches!(world.find_all("tag:a..c"), Err(Error::NoSuchRevision { .. })));
    }

    #[test]
    fn several_are_all_or_from_one_to_another_whichever_is_older() {
        let world = World::new();
        assert_eq!(world.find_all("all").unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(world.find_all("3..1").unwrap(), [1, 2, 3]);
        assert_eq!(world.find_all("1..3").unwrap(), [1, 2, 3]);
        assert_eq!(world.find_all("latest..latest").unwrap(), [4]);
        assert_eq!(world.find_all("2025-..tag:daily").unwrap(), [0, 1, 2]);
        assert_eq!(world.find_all("id:abcd..2026-12-01T00-00-00Z.img").unwrap(), [2, 3, 4]);
        assert!(matches!(world.find_all("018f..latest"), Err(Error::AmbiguousRevision { .. })));
        assert!(matches!(world.find_all("latest..9"), Err(Error::NoSuchRevision { .. })));
        for several in ["all", "1..2"] {
            assert!(matches!(world.find(several), Err(Error::BadParameter { what: "revision", .. })));
        }
    }

    #[test]
    fn in_a_stream_without_revisions_nothing_is_found_and_all_are_none() {
        let world = World::new();
        let empty = stream("empty");
        for spec in ["latest", "0", "abcd", "2026-11", "tag:daily", ""] {
            match world.repository.find_revision(&empty, spec).unwrap_err() {
                Error::NoSuchRevision { candidates, .. } => assert_eq!(candidates, [""; 0]),
                other => panic!("{spec}: {other}"),
            }
        }
        assert_eq!(world.repository.find_revisions(&empty, "all").unwrap(), []);
    }

    /// What a user may mean by a text that is no keyword, told plainly.
    fn meant(text: &str) -> Vec<usize> {
        let (forced, bare) = match text.split_once(':') {
            Some((forced, rest)) => (Some(forced), rest),
            None => (None, text),
        };
        let name = bare.strip_suffix(".img").unwrap_or(bare);
        let id = if forced == Some("id") { bare } else { name };
        let ids = |matches: &dyn Fn(&str) -> bool| {
            (0..5).filter(|&i| forced != Some("time") && matches(IDS[i])).collect::<Vec<_>>()
        };
        let names = |matches: &dyn Fn(&str) -> bool| {
            (0..5).filter(|&i| forced != Some("id") && matches(NAMES[i])).collect::<Vec<_>>()
        };
        let exact = [ids(&|known| known == id), names(&|known| known == name)].concat();
        if !exact.is_empty() {
            return exact;
        }
        let mut found = ids(&|known| id.len() >= 4 && known.starts_with(id));
        found.extend(names(&|known| name.contains('-') && known.starts_with(name)));
        found.sort_unstable();
        found.dedup();
        found
    }

    proptest! {
        #[test]
        fn any_piece_of_an_id_or_name_is_found_offered_or_unknown(
            force in prop::sample::select(vec!["", "id:", "time:"]),
            known in prop::sample::select([IDS, NAMES].concat()),
            end in 1..=40usize,
            suffix in prop::sample::select(vec!["", "", ".img", "x"]),
        ) {
            let text = format!("{force}{}{suffix}", &known[..end.min(known.len())]);
            prop_assume!(!text.bytes().all(|byte| byte.is_ascii_digit()));
            thread_local!(static WORLD: World = World::new());
            WORLD.with(|world| match meant(&text)[..] {
                [] => world.finds_nothing(&text),
                [index] => world.finds(&text, index),
                ref several => world.is_ambiguous(&text, several),
            });
        }

        #[test]
        fn any_text_at_all_is_a_spec(text in any::<String>()) {
            Spec::parse(&text);
            split_revision(&text);
        }
    }
}
