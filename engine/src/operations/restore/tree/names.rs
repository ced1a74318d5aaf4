//! Names of our own beside those of the revision: for what is being written, and for what could be read of a damaged file.

use crate::error::Result;
use crate::format::{DirectoryTop, EntryName};
use crate::revision::TreeReader;

/// What a name begins with while what has it is being written.
const PARTIAL: &[u8] = b".treering-partial-";

/// What stands behind the name of a file of which parts are lost.
const DAMAGED: &[u8] = b".treering-damaged";

/// So many prefixes are tried: a hostile directory may have entries with any of them.
const PREFIXES_MAX: u32 = 1_000;

/// A prefix that no entry of this directory of the revision has; `None` if it has all that are tried.
pub(super) fn partial_prefix(tree: &TreeReader, top: Option<&DirectoryTop>) -> Result<Option<Vec<u8>>> {
    for number in 0..PREFIXES_MAX {
        let prefix = match number {
            0 => PARTIAL.to_vec(),
            _ => [PARTIAL, format!("{number}-").as_bytes()].concat(),
        };
        if !has_prefix(tree, top, &prefix)? {
            return Ok(Some(prefix));
        }
    }
    Ok(None)
}

/// Whether an entry of the directory begins like this.
fn has_prefix(tree: &TreeReader, top: Option<&DirectoryTop>, prefix: &[u8]) -> Result<bool> {
    let after = EntryName::new(prefix);
    let first = tree.entry_runs(top, after.as_ref()).next().transpose()?;
    let starts = first.and_then(|run| run.first().map(|entry| entry.name.as_bytes().starts_with(prefix)));
    Ok(starts.unwrap_or(false) || tree.lookup(top, prefix)?.is_some())
}

/// The name that `name` has until it is complete; the same in every run, so that what a killed one left is found.
pub(super) fn partial_name(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let hash = blake3::hash(name).to_hex();
    [prefix, hash.as_bytes().get(..32).unwrap_or_default()].concat()
}

/// Whether a name looks like one of our own for something unfinished.
pub(super) fn is_partial(name: &[u8]) -> bool {
    name.starts_with(PARTIAL)
}

/// The name for what could be read of a damaged file; those after the first have a number.
pub(super) fn damaged_name(name: &[u8], number: u32) -> Vec<u8> {
    let suffix = match number {
        ..=1 => DAMAGED.to_vec(),
        _ => [DAMAGED, format!("-{number}").as_bytes()].concat(),
    };
    let room = EntryName::MAX_LEN - suffix.len();
    if name.len() <= room {
        return [name, &suffix].concat();
    }
    // Cut, it may be that of another: the hash tells them apart.
    let hash = blake3::hash(name).to_hex();
    let start = name.get(..room - 17).unwrap_or_default();
    [start, b"-", hash.as_bytes().get(..16).unwrap_or_default(), &suffix].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{EntryContent, FileData};
    use crate::revision::test_trees::{Trees, entry};

    #[test]
    fn names_of_our_own_are_none_of_the_revision() {
        let trees = Trees::new();
        let tree = trees.open(None);
        let prefix = |names: &[&str]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            let entries: Vec<_> =
                names.iter().map(|name| entry(name, EntryContent::File(FileData::Empty))).collect();
            partial_prefix(&tree, trees.directory(&entries).as_ref()).unwrap()
        };
        let plain = Some(PARTIAL.to_vec());
        let first = Some(b".treering-partial-1-".to_vec());
        assert_eq!(prefix(&[]), plain);
        assert_eq!(prefix(&["a", ".treering-partial", ".treering-partiam", "z"]), plain);
        assert_eq!(prefix(&["a", ".treering-partial-x", "z"]), first);
        assert_eq!(prefix(&[".treering-partial-"]), first);
        assert_eq!(prefix(&[".treering-partial-1-x"]), Some(b".treering-partial-2-".to_vec()));
    }

    #[test]
    fn a_name_of_any_length_has_one_for_its_damaged_state() {
        assert_eq!(damaged_name(b"a", 1), b"a.treering-damaged");
        assert_eq!(damaged_name(b"a", 2), b"a.treering-damaged-2");
        for (length, number) in [(237, 1), (238, 1), (239, 2), (255, 1), (255, u32::MAX)] {
            let name = vec![b'x'; length];
            let damaged = String::from_utf8(damaged_name(&name, number)).unwrap();
            assert!(damaged.len() <= 255 && damaged.contains(".treering-damaged"), "{length}");
        }
        let (mut one, mut other) = (vec![b'x'; 255], vec![b'x'; 255]);
        (one[254], other[254]) = (b'1', b'2');
        assert_ne!(damaged_name(&one, 1), damaged_name(&other, 1));
        assert!(EntryName::new(&partial_name(PARTIAL, &one)).is_some());
    }
}
