//! Looks for paths over revisions of a stream.
//!
//! All revisions are walked at once: a directory that several of them have in one place is searched once, and a path
//! comes with all revisions that have it, so nothing has to be kept until the end.

mod pattern;

pub use pattern::Pattern;

use crate::error::{Error, Result};
use crate::format::{Entry, EntryType, RecordKey};
use crate::monitor::Monitor;
use crate::repository::{Repository, Stream};
use crate::revision::{
    LostRevision, Met, SharedDirectory, TreeNumbers, TreeSet, TreesWalk, Variant, directories_of,
};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct FindOptions {
    /// What names or paths must be like.
    pub pattern: Pattern,
    /// The types that count; all if there are none.
    pub types: Vec<EntryType>,
}

impl FindOptions {
    fn counts(&self, entry_type: EntryType) -> bool {
        let is_wanted = self.types.is_empty() || self.types.contains(&entry_type);
        is_wanted && (entry_type == EntryType::Directory || !self.pattern.directories_only())
    }
}

/// What a search tells of. Revisions are numbered as in [`Search::revisions`].
pub enum Found<'a> {
    /// A path that is like the pattern.
    Match {
        /// The path from the tree's root on.
        path: &'a [u8],
        /// What the newest of the revisions has there.
        entry: &'a Entry,
        /// The revisions that have something of a type that counts there.
        revisions: &'a TreeNumbers,
    },
    /// A part of the directory of this path that can't be read, or all of it, or of a revision all.
    Lost {
        /// The path.
        path: &'a [u8],
        /// The revisions that it is lost in.
        revisions: &'a TreeNumbers,
        /// Why.
        error: &'a Error,
    },
}

/// What a search has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindReport {
    /// Nodes of directories that were read, each once for all revisions that have it in one place, unless so many states of
    /// a directory stand side by side that they can't all be held.
    pub nodes_read: u64,
}

/// Revisions of a stream that are to be searched; gc keeps them meanwhile.
pub struct Search {
    set: TreeSet,
    revisions: Vec<RecordKey>,
}

impl Search {
    /// Opens revisions of a stream, given in the order of their commits. Also returns those that can't be opened, and why.
    ///
    /// # Errors
    /// [`Error::NotATree`] if the stream holds images.
    pub fn open(
        repository: &Repository,
        stream: &Stream,
        keys: &[RecordKey],
    ) -> Result<(Self, Vec<(RecordKey, Error)>)> {
        let mut set = TreeSet::open(repository, stream, keys, "find")?;
        let lost = set.take_lost().into_iter().map(|LostRevision { key, error }| (key, error)).collect();
        let revisions = set.trees().iter().map(|(key, _)| key.clone()).collect();
        Ok((Self { set, revisions }, lost))
    }

    /// The revisions, the oldest first.
    pub fn revisions(&self) -> &[RecordKey] {
        &self.revisions
    }

    /// Tells of all paths that are like the pattern, in the order of trees.
    ///
    /// # Errors
    /// What `tell` fails with, [`Error::Cancelled`], and what says nothing of the stored bytes.
    pub fn run<E: From<Error>>(
        &self,
        options: &FindOptions,
        monitor: &dyn Monitor,
        tell: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<FindReport, E> {
        let directories = self.roots(tell)?;
        let mut visit = |met: Met<'_>| -> Result<bool, E> {
            match met {
                Met::Entries { path, variants, .. } if options.pattern.is_match(path) => {
                    tell_match(path, variants, options, tell)?;
                }
                Met::Entries { .. } => {}
                Met::Lost { path, trees, error } => {
                    tell(Found::Lost { path, revisions: trees, error: &error })?;
                }
            }
            Ok(true)
        };
        let mut walk = TreesWalk::new(self.set.store(), monitor);
        walk.run(b"", directories, &mut visit)?;
        Ok(FindReport { nodes_read: walk.nodes_read() })
    }

    /// The root directories.
    fn roots<E: From<Error>>(
        &self,
        tell: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<Vec<SharedDirectory>, E> {
        let mut roots: Vec<(Entry, TreeNumbers)> = Vec::new();
        for (number, (_, root)) in (0..).zip(self.set.trees()) {
            let revisions = TreeNumbers::one(number);
            match self.set.tree(root) {
                Ok(tree) => roots.push((tree.root().clone(), revisions)),
                Err(error) if error.is_loss() => {
                    tell(Found::Lost { path: b"", revisions: &revisions, error: &error })?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let variants: Vec<Variant<'_>> =
            roots.iter().map(|(entry, trees)| Variant { entry, trees }).collect();
        Ok(directories_of(&variants))
    }
}

/// Tells of a path, unless nothing there is of a type that counts.
fn tell_match<E>(
    path: &[u8],
    variants: &[Variant<'_>],
    options: &FindOptions,
    tell: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let counts = |variant: &&Variant<'_>| options.counts(EntryType::from(&variant.entry.content));
    let counting = || variants.iter().filter(counts);
    let Some(newest) = counting().max_by_key(|variant| variant.trees.highest()) else { return Ok(()) };
    let revisions = TreeNumbers::union(counting().map(|variant| variant.trees));
    tell(Found::Match { path, entry: newest.entry, revisions: &revisions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{EntryContent, FileData};
    use crate::monitor::SilentMonitor;
    use crate::revision::test_trees::{Trees, entry, numbered};

    fn found(search: &Search, pattern: &str, types: &[EntryType]) -> (Vec<(String, Vec<u32>)>, u64) {
        let pattern = Pattern::glob(pattern, false).unwrap();
        let options = FindOptions { pattern, types: types.to_vec() };
        let mut matches = Vec::new();
        let report = search.run(&options, &SilentMonitor, &mut |found| -> Result<()> {
            let Found::Match { path, revisions, .. } = found else { panic!("nothing is lost") };
            matches.push((String::from_utf8(path.to_vec()).unwrap(), revisions.iter().collect()));
            Ok(())
        });
        (matches, report.unwrap().nodes_read)
    }

    #[test]
    fn a_path_comes_once_with_the_revisions_that_have_it() {
        let trees = Trees::new();
        let stream = trees.stream();
        let file = |name| entry(name, EntryContent::File(FileData::Empty));
        let below = trees.directory(&[file("a.txt"), file("b.c")]);
        let directory = |name| entry(name, EntryContent::Directory(below));
        let versions = [
            vec![directory("one"), file("x.txt")],
            vec![directory("one"), directory("x.txt")],
            vec![directory("two"), file("x.txt")],
        ];
        for (sequence, version) in (1..).zip(&versions) {
            trees.commit(&stream, sequence, &trees.root(trees.directory(version)));
        }
        let keys = trees.repository.revisions(&stream).unwrap();
        let (search, lost) = Search::open(&trees.repository, &stream, &keys).unwrap();
        assert!(lost.is_empty() && search.revisions() == keys);
        let expected = |list: &[(&str, &[u32])]| -> Vec<(String, Vec<u32>)> {
            list.iter().map(|(path, revisions)| ((*path).to_owned(), revisions.to_vec())).collect()
        };
        let all: &[(&str, &[u32])] =
            &[("one/a.txt", &[0, 1]), ("two/a.txt", &[2]), ("x.txt", &[0, 1, 2]), ("x.txt/a.txt", &[1])];
        assert_eq!(found(&search, "*.txt", &[]).0, expected(all));
        let files: &[(&str, &[u32])] =
            &[("one/a.txt", &[0, 1]), ("two/a.txt", &[2]), ("x.txt", &[0, 2]), ("x.txt/a.txt", &[1])];
        assert_eq!(found(&search, "*.txt", &[EntryType::File]).0, expected(files));
        assert_eq!(found(&search, "x.txt", &[EntryType::Directory]).0, expected(&[("x.txt", &[1])]));
        assert_eq!(found(&search, "/one/*", &[]).0.len(), 2);
        assert_eq!(found(&search, "x.txt/", &[]).0, expected(&[("x.txt", &[1])]));
        assert_eq!(found(&search, "./x.txt/", &[EntryType::File]).0, []);
        assert_eq!(found(&search, "*.txt", &[EntryType::Fifo]).0, []);
        let (newest, _) = Search::open(&trees.repository, &stream, &keys[2..]).unwrap();
        assert_eq!(found(&newest, "a.txt", &[]).0, expected(&[("two/a.txt", &[0])]));
    }

    #[test]
    fn the_cost_follows_what_differs() {
        let trees = Trees::new();
        let stream = trees.stream();
        let many = trees.directory(&numbered(0..20_000));
        for sequence in 1..=30 {
            let top = trees.directory(&[
                entry("many", EntryContent::Directory(many)),
                entry(format!("of-{sequence:02}"), EntryContent::File(FileData::Empty)),
            ]);
            trees.commit(&stream, sequence, &trees.root(top));
        }
        let keys = trees.repository.revisions(&stream).unwrap();
        let nodes = |keys: &[RecordKey]| {
            let (search, _) = Search::open(&trees.repository, &stream, keys).unwrap();
            let (matches, nodes) = found(&search, "*", &[]);
            assert_eq!(matches.len(), 20_001 + keys.len());
            nodes
        };
        let one = nodes(&keys[..1]);
        assert!(one > 50, "{one}");
        assert_eq!(nodes(&keys), one + 29, "of each further revision its root directory");
    }
}
