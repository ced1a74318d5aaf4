//! What one path was over the revisions of a stream.

use crate::error::{Error, Result};
use crate::format::{DirectoryTop, Entry, EntryContent, RecordKey};
use crate::monitor::Monitor;
use crate::repository::{Repository, Stream};
use crate::revision::{LostRevision, TreeReader, TreeSet, names_on, no_such_path, same_version, tidy_path};

/// What a path is in revisions that follow each other.
#[derive(Debug)]
pub struct Version {
    /// The first of the revisions.
    pub first: RecordKey,
    /// The last one.
    pub last: RecordKey,
    /// How many there are.
    pub revision_count: u64,
    /// What it is there.
    pub state: PathState,
}

/// What a path is in a revision.
#[derive(Debug)]
pub enum PathState {
    /// This; of the first of several revisions.
    Entry(Box<Entry>),
    /// Nothing.
    Absent,
    /// Nobody knows, as something on the way to it can't be read.
    Lost,
}

/// What a history tells of.
#[derive(Debug)]
pub enum Told<'a> {
    /// The next version, the oldest first.
    Version(Version),
    /// A revision in which something can't be read that is needed to tell what the path is.
    Lost {
        /// The revision.
        revision: &'a RecordKey,
        /// Why.
        error: Error,
    },
}

/// What a history has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryReport {
    /// Directories in which a name was looked up: what stands as in the revision before is not.
    pub lookups: u64,
}

/// Tells of the versions of a path over revisions of a stream, which are given in the order of their commits. A version
/// ends where type, content, mode, owner, group, time of modification or extended attributes change; of a directory, where
/// one below it ends, too. Revisions before the first one that has the path are no version of it.
///
/// # Errors
/// [`Error::NoSuchPath`] if the path is in none of them, [`Error::NotATree`], what `tell` fails with, [`Error::Cancelled`].
pub fn history<E: From<Error>>(
    repository: &Repository,
    stream: &Stream,
    keys: &[RecordKey],
    path: &[u8],
    monitor: &dyn Monitor,
    tell: &mut dyn FnMut(Told<'_>) -> Result<(), E>,
) -> Result<HistoryReport, E> {
    let set = TreeSet::open(repository, stream, keys, "history")?;
    let path = tidy_path(path);
    let revision_count = set.trees().len() as u64;
    let mut history =
        History { way: Way::new(&path), current: None, newest: None, is_begun: false, monitor, tell };
    history.run(set)?;
    let report = HistoryReport { lookups: history.way.lookups };
    match history.current {
        Some(Version { state: PathState::Absent, revision_count: absent, .. })
            if absent == revision_count =>
        {
            Err(no_such_path(&path, format!("stream '{}'", stream.name)).into())
        }
        Some(version) => (history.tell)(Told::Version(version)).map(|()| report),
        None => Ok(report),
    }
}

struct History<'a, E> {
    way: Way,
    /// The version that may go on.
    current: Option<Version>,
    /// What the path was in the last revision that could be looked into. This the next one is compared with: neighbours
    /// have most in common.
    newest: Option<Entry>,
    /// Whether a version was told.
    is_begun: bool,
    monitor: &'a dyn Monitor,
    tell: &'a mut dyn FnMut(Told<'_>) -> Result<(), E>,
}

impl<E: From<Error>> History<'_, E> {
    fn run(&mut self, mut set: TreeSet) -> Result<(), E> {
        let mut lost = set.take_lost().into_iter().peekable();
        for (key, root) in set.trees() {
            while let Some(LostRevision { key, error }) = lost.next_if(|lost| lost.key < *key) {
                self.lose(&key, error)?;
            }
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled.into());
            }
            match set.tree(root) {
                Ok(tree) => self.look_into(key, &tree)?,
                Err(error) if error.is_loss() => self.lose(key, error)?,
                Err(error) => return Err(error.into()),
            }
        }
        lost.try_for_each(|LostRevision { key, error }| self.lose(&key, error))
    }

    /// Looks for the path in the tree of a revision.
    fn look_into(&mut self, key: &RecordKey, tree: &TreeReader) -> Result<(), E> {
        match self.way.find(tree) {
            Ok(found) => {
                let goes_on = self.goes_on(key, tree, found.as_ref())?;
                self.newest.clone_from(&found);
                let state = found.map_or(PathState::Absent, |entry| PathState::Entry(Box::new(entry)));
                self.add(key, state, goes_on)
            }
            Err(error) if error.is_loss() => self.lose(key, error),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what was found is still the current version.
    fn goes_on(&mut self, key: &RecordKey, tree: &TreeReader, found: Option<&Entry>) -> Result<bool, E> {
        let before = match (self.current.as_ref().map(|version| &version.state), &self.newest) {
            (Some(PathState::Absent), _) => return Ok(found.is_none()),
            (Some(PathState::Entry(_)), Some(before)) => before,
            _ => return Ok(false),
        };
        let Some(entry) = found else { return Ok(false) };
        match same_version(tree, before, entry, self.monitor) {
            Ok(same) => Ok(same),
            Err(error) if error.is_loss() => (self.tell)(Told::Lost { revision: key, error }).map(|()| false),
            Err(error) => Err(error.into()),
        }
    }

    fn lose(&mut self, key: &RecordKey, error: Error) -> Result<(), E> {
        (self.tell)(Told::Lost { revision: key, error })?;
        let goes_on = matches!(self.current, Some(Version { state: PathState::Lost, .. }));
        self.add(key, PathState::Lost, goes_on)
    }

    fn add(&mut self, key: &RecordKey, state: PathState, goes_on: bool) -> Result<(), E> {
        match &mut self.current {
            Some(version) if goes_on => {
                version.last = key.clone();
                version.revision_count += 1;
                Ok(())
            }
            current => {
                let version = Version { first: key.clone(), last: key.clone(), revision_count: 1, state };
                current.replace(version).map_or(Ok(()), |done| self.end(done))
            }
        }
    }

    /// Tells of a version that has ended.
    fn end(&mut self, version: Version) -> Result<(), E> {
        if !self.is_begun && matches!(version.state, PathState::Absent) {
            return Ok(());
        }
        self.is_begun = true;
        (self.tell)(Told::Version(version))
    }
}

/// The way to a path, as it was in the tree before: what stands unchanged on it is not looked up again.
struct Way {
    names: Vec<Vec<u8>>,
    /// Of each name the directory that it was looked up in, and what was found.
    known: Vec<(DirectoryTop, Option<Entry>)>,
    lookups: u64,
}

impl Way {
    fn new(path: &[u8]) -> Self {
        Self { names: names_on(path).map(<[u8]>::to_vec).collect(), known: Vec::new(), lookups: 0 }
    }

    /// What the path is in this tree.
    fn find(&mut self, tree: &TreeReader) -> Result<Option<Entry>> {
        let mut entry = tree.root().clone();
        for (depth, name) in self.names.iter().enumerate() {
            let EntryContent::Directory(Some(top)) = entry.content else { return Ok(None) };
            if self.known.get(depth).is_none_or(|(known, _)| *known != top) {
                self.lookups += 1;
                let found = (top, tree.lookup(Some(&top), name)?);
                // What is known of directories further down stands: each says which one it is of.
                match self.known.get_mut(depth) {
                    Some(known) => *known = found,
                    None => self.known.push(found),
                }
            }
            match self.known.get(depth) {
                Some((_, Some(found))) => entry = found.clone(),
                _ => return Ok(None),
            }
        }
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FileData, TreeRoot};
    use crate::monitor::SilentMonitor;
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::{Trees, entry};

    /// The versions as `state:count`, what was lost, and the cost.
    fn told(trees: &Trees, stream: &Stream, path: &str) -> Result<(Vec<String>, usize, u64)> {
        let keys = trees.repository.revisions(stream)?;
        let (mut versions, mut lost) = (Vec::new(), 0);
        let mut tell = |told: Told<'_>| -> Result<()> {
            match told {
                Told::Lost { error, .. } => {
                    assert!(error.is_damage());
                    lost += 1;
                }
                Told::Version(Version { state, revision_count, first, last }) => {
                    assert_eq!(last.sequence - first.sequence + 1, revision_count);
                    let state = match state {
                        PathState::Entry(entry) => format!("{:o}", entry.metadata.mode),
                        PathState::Absent => "absent".to_owned(),
                        PathState::Lost => "lost".to_owned(),
                    };
                    versions.push(format!("{state}:{revision_count}"));
                }
            }
            Ok(())
        };
        let report = history(&trees.repository, stream, &keys, path.as_bytes(), &SilentMonitor, &mut tell)?;
        Ok((versions, lost, report.lookups))
    }

    fn file(name: &str, mode: u16) -> Entry {
        let mut file = entry(name, EntryContent::File(FileData::Empty));
        file.metadata.mode = mode;
        file
    }

    /// A root with a directory `sub` of these entries, and a file of this mode.
    fn root(trees: &Trees, below: &[Entry], other: u16) -> TreeRoot {
        let sub = entry("sub", EntryContent::Directory(trees.directory(below)));
        trees.root(trees.directory(&[file("other", other), sub]))
    }

    #[test]
    fn versions_follow_each_other_with_gaps_where_there_is_nothing() {
        let trees = Trees::new();
        let stream = trees.stream();
        let mut moved = file("x", 0o644);
        moved.metadata.inode = 99;
        let states: [&[Entry]; 8] = [
            &[],
            &[file("x", 0o644)],
            &[moved],
            &[file("x", 0o600)],
            &[file("y", 0o644)],
            &[],
            &[file("x", 0o600)],
            &[file("x", 0o600), file("y", 0o644)],
        ];
        for (sequence, below) in (1..).zip(states) {
            trees.commit(&stream, sequence, &root(&trees, below, 0));
        }
        let (versions, lost, _) = told(&trees, &stream, "/sub/x").unwrap();
        assert_eq!(versions, ["644:2", "600:1", "absent:2", "600:2"]);
        assert_eq!(lost, 0);
        assert_eq!(told(&trees, &stream, "other").unwrap().0, ["0:8"]);
        assert_eq!(told(&trees, &stream, "").unwrap().0.len(), 7, "only an inode changed in the third");
        assert_eq!(told(&trees, &stream, "sub").unwrap().0.len(), 7);
        let error = told(&trees, &stream, "sub/z").unwrap_err();
        assert_eq!(error.to_string(), "stream 'home' has no entry 'sub/z'");
    }

    /// As in revisions of an active tree, of which one directory stays.
    #[test]
    fn a_directory_has_a_new_version_where_something_below_it_has() {
        let trees = Trees::new();
        let stream = trees.stream();
        for sequence in 1..=12 {
            let mut touched = file("a", 0o644);
            touched.metadata.ctime.seconds = sequence as i64;
            touched.unsettled = sequence % 2 == 0;
            let mode = if sequence > 8 { 0o600 } else { 0o644 };
            trees.commit(&stream, sequence, &root(&trees, &[touched, file("b", mode)], 0));
        }
        assert_eq!(told(&trees, &stream, "sub").unwrap().0, ["644:8", "644:4"]);
        assert_eq!(told(&trees, &stream, "sub/a").unwrap().0, ["644:12"]);
        assert_eq!(told(&trees, &stream, "sub/b").unwrap().0, ["644:8", "600:4"]);
    }

    #[test]
    fn a_directory_of_which_something_is_lost_ends_a_version_only_if_nobody_can_tell() {
        let trees = Trees::new();
        let stream = trees.stream();
        let gone = |number| {
            let top = DirectoryTop { level: 0, id: absent(number), entry_count: 1 };
            entry("gone", EntryContent::Directory(Some(top)))
        };
        for (sequence, (number, mode)) in (1..).zip([(1, 1), (1, 2), (2, 2), (2, 2), (3, 3)]) {
            trees.commit(&stream, sequence, &root(&trees, &[gone(number), file("x", mode)], 0));
        }
        let (versions, lost, _) = told(&trees, &stream, "sub").unwrap();
        assert_eq!(versions, ["644:1", "644:1", "644:2", "644:1"]);
        assert_eq!(lost, 1, "of the third revision nobody knows whether it differs from the second");
    }

    #[test]
    fn what_stands_as_before_is_not_looked_up() {
        let trees = Trees::new();
        let stream = trees.stream();
        for sequence in 1..=20 {
            let below = if sequence < 10 { file("x", 1) } else { file("x", 2) };
            trees.commit(&stream, sequence, &root(&trees, &[below], sequence as u16));
        }
        let (versions, _, lookups) = told(&trees, &stream, "sub/x").unwrap();
        assert_eq!(versions, ["1:9", "2:11"]);
        assert_eq!(lookups, 20 + 2, "in each root, and in both states of the directory");
    }

    #[test]
    fn what_is_lost_hides_nothing_else() {
        let trees = Trees::new();
        let stream = trees.stream();
        trees.commit(&stream, 1, &root(&trees, &[file("x", 1)], 0));
        for sequence in 2..4 {
            let gone = DirectoryTop { level: 0, id: absent(sequence), entry_count: 1 };
            let sub = entry("sub", EntryContent::Directory(Some(gone)));
            trees.commit(&stream, sequence, &trees.root(trees.directory(&[sub])));
        }
        trees.commit(&stream, 4, &root(&trees, &[file("x", 1)], 0));
        let (versions, lost, _) = told(&trees, &stream, "sub/x").unwrap();
        assert_eq!((versions, lost), (vec!["1:1".to_owned(), "lost:2".into(), "1:1".into()], 2));
        assert_eq!(
            told(&trees, &stream, "none").unwrap_err().to_string(),
            "stream 'home' has no entry 'none'"
        );
    }
}
