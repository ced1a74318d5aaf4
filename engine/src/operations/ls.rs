//! What a directory of a tree holds, or all that is below it.

use crate::error::{Error, Result};
use crate::format::{Entry, EntryContent};
use crate::monitor::Monitor;
use crate::revision::{
    Met, TreeNumbers, TreeReader, TreesWalk, Variant, directories_of, no_such_path, tidy_path,
};

/// What a listing tells of.
pub enum Listed<'a> {
    /// An entry, and its path from the tree's root on.
    Entry {
        /// The path; that of the root is empty.
        path: &'a [u8],
        /// The entry.
        entry: &'a Entry,
    },
    /// A part of the directory of this path that can't be read, or all of it. What else there is comes all the same.
    Lost {
        /// The path.
        path: &'a [u8],
        /// Why.
        error: &'a Error,
    },
}

/// Lists the entries of the directory of this path in the order of their names, and with `recursive` what is below each
/// of them before the next one; whatever else is there lists itself. Links are not followed. However many there are,
/// a few are held.
///
/// # Errors
/// [`Error::NoSuchPath`] in `revision`, what `tell` fails with, [`Error::Cancelled`].
pub fn ls<E: From<Error>>(
    tree: &TreeReader,
    revision: &str,
    path: &[u8],
    recursive: bool,
    monitor: &dyn Monitor,
    tell: &mut dyn FnMut(Listed<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let path = tidy_path(path);
    let entry = tree.find(&path)?.ok_or_else(|| no_such_path(&path, revision))?;
    if !matches!(entry.content, EntryContent::Directory(_)) {
        return tell(Listed::Entry { path: &path, entry: &entry });
    }
    let trees = TreeNumbers::one(0);
    let directories = directories_of(&[Variant { entry: &entry, trees: &trees }]);
    let mut visit = |met: Met<'_>| {
        match met {
            Met::Entries { path, variants, .. } => {
                variants.iter().try_for_each(|Variant { entry, .. }| tell(Listed::Entry { path, entry }))?;
            }
            Met::Lost { path, error, .. } => tell(Listed::Lost { path, error: &error })?,
        }
        Ok(recursive)
    };
    TreesWalk::new(tree.store(), monitor).run(&path, directories, &mut visit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{DirectoryTop, FileData};
    use crate::monitor::SilentMonitor;
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::{Trees, entry};

    fn listed(tree: &TreeReader, path: &str, recursive: bool) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        ls(tree, "home@x", path.as_bytes(), recursive, &SilentMonitor, &mut |listed| -> Result<()> {
            lines.push(match listed {
                Listed::Entry { path, .. } => String::from_utf8(path.to_vec()).unwrap(),
                Listed::Lost { path, .. } => format!("lost {}", String::from_utf8(path.to_vec()).unwrap()),
            });
            Ok(())
        })?;
        Ok(lines)
    }

    #[test]
    fn a_directory_lists_its_entries_and_whatever_else_there_is_itself() {
        let trees = Trees::new();
        let file = |name| entry(name, EntryContent::File(FileData::Empty));
        let sub = entry("sub", EntryContent::Directory(trees.directory(&[file("x"), file("y")])));
        let gone = DirectoryTop { level: 0, id: absent(1), entry_count: 3 };
        let lost = entry("lost", EntryContent::Directory(Some(gone)));
        let top = trees.directory(&[file("a"), lost, sub, file("z")]);
        let tree = trees.open(top);
        assert_eq!(listed(&tree, "", false).unwrap(), ["a", "lost", "sub", "z"]);
        assert_eq!(listed(&tree, "/sub/", false).unwrap(), ["sub/x", "sub/y"]);
        assert_eq!(listed(&tree, "sub/x", true).unwrap(), ["sub/x"]);
        let all = ["a", "lost", "lost lost", "sub", "sub/x", "sub/y", "z"];
        assert_eq!(listed(&tree, "", true).unwrap(), all);
        assert_eq!(listed(&tree, "lost", false).unwrap(), ["lost lost"]);
        for path in ["b", "a/b", "sub/x/y", ".."] {
            let error = listed(&tree, path, false).unwrap_err();
            assert_eq!(error.to_string(), format!("home@x has no entry '{path}'"));
        }
        assert!(listed(&tree, "lost/x", false).unwrap_err().is_damage());
        assert_eq!(listed(&trees.open(None), "", true).unwrap(), [""; 0]);
    }

    #[test]
    fn who_is_told_can_end_it() {
        let trees = Trees::new();
        let entries = crate::revision::test_trees::numbered(0..5000);
        let tree = trees.open(trees.directory(&entries));
        let mut told = 0;
        let ended = ls(&tree, "x", b"", false, &SilentMonitor, &mut |_| {
            told += 1;
            if told == 7 { Err(Error::Cancelled) } else { Ok(()) }
        });
        assert!(matches!(ended, Err(Error::Cancelled)) && told == 7);
    }
}
