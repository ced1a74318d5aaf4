//! What makes two states of a path one version of it.

use super::entry_compare::same_itself;
use super::forest::{Met, TreesWalk, both_sides, differing_directories, on_each_side};
use super::tree_reader::TreeReader;
use crate::error::{Error, Result};
use crate::format::Entry;
use crate::monitor::Monitor;

/// Whether two entries, which may be of any trees of the repository of `tree`, are one version of what they name: of one
/// type, with the same metadata and content as [`same_itself`] has it, and so is all that is below them. Where both have
/// the same nodes nothing is read, and the first difference that is certain ends it.
///
/// # Errors
/// Damage of what must be read to tell, unless a difference is certain without that; [`Error::Cancelled`].
pub(crate) fn same_version(tree: &TreeReader, a: &Entry, b: &Entry, monitor: &dyn Monitor) -> Result<bool> {
    if !same_itself(tree, a, b, monitor)? {
        return Ok(false);
    }
    let mut comparison = Comparison { tree, monitor, lost: None };
    let walked = TreesWalk::new(tree.store(), monitor).passing_by(both_sides()).run(
        b"",
        differing_directories([Some(a), Some(b)]),
        &mut |met| comparison.visit(met),
    );
    match (walked, comparison.lost) {
        (Ok(()), None) => Ok(true),
        (Err(Stop::Different), _) => Ok(false),
        (Err(Stop::Failed(error)), _) | (Ok(()), Some(error)) => Err(error),
    }
}

/// What ends a comparison before its end.
enum Stop {
    Different,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Comparison<'a> {
    tree: &'a TreeReader,
    monitor: &'a dyn Monitor,
    /// Why the first of the places that can't be compared can't be.
    lost: Option<Error>,
}

impl Comparison<'_> {
    fn visit(&mut self, met: Met<'_>) -> Result<bool, Stop> {
        match met {
            Met::Entries { variants, unknown, .. } => match on_each_side(variants) {
                [Some(a), Some(b)] => self.compare(a, b),
                // The other side may have it as well.
                _ if !unknown.is_empty() => Ok(false),
                _ => Err(Stop::Different),
            },
            Met::Lost { error, .. } => self.lose(error),
        }
    }

    /// Compares what both sides have under a name; says whether to go on below it.
    fn compare(&mut self, a: &Entry, b: &Entry) -> Result<bool, Stop> {
        match same_itself(self.tree, a, b, self.monitor) {
            Ok(true) => Ok(true),
            Ok(false) => Err(Stop::Different),
            Err(error) if error.is_loss() => self.lose(error),
            Err(error) => Err(error.into()),
        }
    }

    /// What comes behind it may differ for certain.
    fn lose(&mut self, error: Error) -> Result<bool, Stop> {
        self.lost.get_or_insert(error);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{DirectoryTop, EntryContent, FileData, SymlinkTarget, Timestamp};
    use crate::id::ObjectId;
    use crate::monitor::SilentMonitor;
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::{Trees, entry, numbered};

    const LATER: Timestamp = Timestamp { seconds: 9, nanoseconds: 0 };

    fn compare(trees: &Trees, a: &Entry, b: &Entry) -> Result<bool> {
        let tree = trees.open(None);
        let there = same_version(&tree, a, b, &SilentMonitor);
        let back = same_version(&tree, b, a, &SilentMonitor);
        assert_eq!(there.as_ref().ok(), back.as_ref().ok());
        there
    }

    fn same(trees: &Trees, a: &Entry, b: &Entry) -> bool {
        compare(trees, a, b).unwrap()
    }

    fn slice(name: &str, chunk: ObjectId, offset: u32) -> Entry {
        entry(name, EntryContent::File(FileData::Slice { chunk, offset, length: 1 }))
    }

    fn directory(trees: &Trees, below: &[Entry]) -> Entry {
        entry("x", EntryContent::Directory(trees.directory(below)))
    }

    #[test]
    fn a_version_is_what_an_entry_holds_and_is() {
        let trees = Trees::new();
        let same = |a: &Entry, b: &Entry| same(&trees, a, b);
        let chunk = trees.chunk(b"aab");
        let file = |offset| slice("x", chunk, offset);
        assert!(same(&file(0), &file(1)), "the same byte in another place");
        assert!(!same(&file(0), &file(2)));
        let link = |target: &[u8]| entry("x", EntryContent::Symlink(SymlinkTarget::new(target).unwrap()));
        assert!(same(&link(b"a"), &link(b"a")) && !same(&link(b"a"), &link(b"b")));
        assert!(!same(&link(b"a"), &file(0)));
        let fifo = |name: &str| directory(&trees, &[entry(name, EntryContent::Fifo)]);
        assert!(same(&fifo("a"), &fifo("a")) && !same(&fifo("a"), &fifo("b")));
        assert!(!same(&fifo("a"), &directory(&trees, &[])) && !same(&fifo("a"), &file(0)));
    }

    /// A second backup of an untouched directory settles its entries, and so once gave another version of it.
    #[test]
    fn a_directory_is_the_same_if_all_below_it_is_however_it_is_stored() {
        let trees = Trees::new();
        let chunk = trees.chunk(b"aab");
        let tree = |change: &dyn Fn(&mut Entry)| {
            let mut file = slice("f", chunk, 0);
            change(&mut file);
            let mut below = entry("sub", EntryContent::Directory(trees.directory(&[file])));
            (below.metadata.ctime, below.metadata.mtime) = (LATER, LATER);
            below.left_out = true;
            directory(&trees, &[below, entry("z", EntryContent::Socket)])
        };
        let plain = tree(&|_| {});
        let followers: [&dyn Fn(&mut Entry); 6] = [
            &|file| file.unsettled = true,
            &|file| file.metadata.inode = 99,
            &|file| file.metadata.mount = 1,
            &|file| file.metadata.ctime = LATER,
            &|file| (file.metadata.links, file.has_other_names) = (2, true),
            &|file| *file = slice("f", chunk, 1),
        ];
        for change in followers {
            let changed = tree(change);
            assert_ne!(changed.content, plain.content);
            assert!(same(&trees, &plain, &changed), "{changed:?}");
        }
        let changes: [&dyn Fn(&mut Entry); 4] = [
            &|file| *file = slice("f", chunk, 2),
            &|file| file.metadata.mode = 0o600,
            &|file| file.metadata.mtime = LATER,
            &|file| file.content = EntryContent::Fifo,
        ];
        for change in changes {
            assert!(!same(&trees, &plain, &tree(change)));
        }
    }

    #[test]
    fn what_both_have_is_not_read() {
        let trees = Trees::new();
        let lost = |number| DirectoryTop { level: 0, id: absent(number), entry_count: 1 };
        let many = |mode| {
            let mut entries = numbered(0..3000);
            entries[1500].metadata.mode = mode;
            entries[2999].content = EntryContent::Directory(Some(lost(1)));
            directory(&trees, &entries)
        };
        assert!(same(&trees, &many(1), &many(1)));
        assert!(!same(&trees, &many(1), &many(2)));
    }

    #[test]
    fn what_is_lost_hides_no_difference_that_is_certain() {
        let trees = Trees::new();
        let lost = |number| DirectoryTop { level: 0, id: absent(number), entry_count: 1 };
        let with = |number, name: &str| {
            let gone = entry("a", EntryContent::Directory(Some(lost(number))));
            directory(&trees, &[gone, entry(name, EntryContent::Fifo)])
        };
        assert!(same(&trees, &with(1, "z"), &with(1, "z")), "the same nodes");
        assert!(compare(&trees, &with(1, "z"), &with(2, "z")).unwrap_err().is_damage());
        assert!(!same(&trees, &with(1, "z"), &with(2, "y")));
        // What the lost part has is not known, so a name that only the other one shows is no difference.
        let whole = entry("a", EntryContent::Directory(trees.directory(&[entry("b", EntryContent::Fifo)])));
        let whole = directory(&trees, &[whole, entry("z", EntryContent::Fifo)]);
        assert!(compare(&trees, &whole, &with(1, "z")).unwrap_err().is_damage());
        let content = |number| slice("f", absent(number), 0);
        assert!(compare(&trees, &content(1), &content(2)).unwrap_err().is_damage());
        let files = |number, name| directory(&trees, &[content(number), entry(name, EntryContent::Fifo)]);
        assert!(compare(&trees, &files(1, "z"), &files(2, "z")).unwrap_err().is_damage());
        assert!(!same(&trees, &files(1, "z"), &files(2, "y")));
    }
}
