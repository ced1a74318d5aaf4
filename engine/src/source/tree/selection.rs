//! What of a tree is left out.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;

use super::directory::open_quietly;
use super::names::Names;
use super::stat::{EntryStat, EntryType, Identity};
use crate::error::{Error, Result};

/// The tag of a directory that holds nothing but what can be made again: <https://bford.info/cachedir/>.
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// How such a tag begins.
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What of a tree is backed up.
#[derive(Clone, Debug, Default)]
pub struct TreeOptions {
    /// Patterns in the syntax of gitignore, relative to the root of the tree; of those that match, the last decides.
    /// What lies in a directory that is left out can't be taken in again.
    pub excludes: Vec<String>,
    /// Directories of other file systems than the root's are kept empty. A subvolume counts as one.
    pub one_file_system: bool,
    /// Of directories with a valid `CACHEDIR.TAG`, the root included, only the tag is kept.
    pub exclude_caches: bool,
    /// Directories that are left out whatever else is said, by device and inode: the repository.
    pub never: Vec<(u64, u64)>,
}

/// The same, ready for questions.
pub(super) struct Selection {
    excludes: Gitignore,
    only_device: Option<u64>,
    exclude_caches: bool,
    never: Vec<Identity>,
}

impl Selection {
    /// # Errors
    /// [`Error::BadParameter`] names a pattern that is malformed.
    pub(super) fn new(options: &TreeOptions, root: &EntryStat) -> Result<Self> {
        let bad = |pattern: &str, error: ignore::Error| Error::BadParameter {
            what: "exclude pattern",
            reason: format!("'{pattern}': {error}"),
        };
        let mut excludes = GitignoreBuilder::new("");
        for pattern in &options.excludes {
            excludes.add_line(None, &with_plain_braces(pattern)).map_err(|error| bad(pattern, error))?;
        }
        Ok(Self {
            excludes: excludes.build().map_err(|error| bad("", error))?,
            only_device: options.one_file_system.then_some(root.identity.device),
            exclude_caches: options.exclude_caches,
            never: options.never.iter().map(|&(device, inode)| Identity { device, inode }).collect(),
        })
    }

    /// Whether paths matter at all.
    pub(super) fn knows_paths(&self) -> bool {
        !self.excludes.is_empty()
    }

    /// Whether an entry is left out because of its path below the root.
    pub(super) fn excludes_path(&self, path: &[u8], is_directory: bool) -> bool {
        self.excludes.matched(Path::new(OsStr::from_bytes(path)), is_directory).is_ignore()
    }

    /// Whether this directory is never backed up.
    pub(super) fn is_never(&self, identity: Identity) -> bool {
        self.never.contains(&identity)
    }

    /// Whether a directory is kept without its content, because it lies on another file system.
    pub(super) fn is_boundary(&self, directory: &EntryStat) -> bool {
        self.only_device.is_some_and(|device| device != directory.identity.device)
    }

    /// The names of an open directory that are to be looked at: all, or the tag of a cache.
    pub(super) fn names(&self, directory: impl AsFd, all: Names) -> Names {
        if self.exclude_caches && all.contains(CACHE_TAG) && is_cache(directory) {
            return Names::new([CACHE_TAG]);
        }
        all
    }
}

/// The pattern with braces that mean themselves, as they do to git; the library would take them for alternatives.
fn with_plain_braces(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    // Where a class of characters began; its first character does not end it.
    let mut class: Option<usize> = None;
    let mut characters = pattern.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match (character, class) {
            ('\\', None) => {
                plain.push(character);
                plain.extend(characters.next().map(|(_, escaped)| escaped));
                continue;
            }
            ('[', None) => {
                let is_negated = characters.peek().is_some_and(|(_, next)| matches!(next, '!' | '^'));
                class = Some(at + 1 + usize::from(is_negated));
            }
            (']', Some(start)) if at > start => class = None,
            ('{' | '}', None) => plain.push('\\'),
            _ => {}
        }
        plain.push(character);
    }
    plain
}

fn is_cache(directory: impl AsFd) -> bool {
    let Ok(tag) = open_quietly(directory, CACHE_TAG, OFlags::empty()) else { return false };
    let is_file = EntryStat::of(&tag).is_ok_and(|stat| stat.kind == EntryType::File);
    let mut start = [0; CACHE_SIGNATURE.len()];
    is_file
        && matches!(rustix::io::pread(&tag, &mut start, 0), Ok(read) if read == start.len())
        && start == *CACHE_SIGNATURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(patterns: &[&str]) -> Selection {
        let excludes = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let root = EntryStat::at(rustix::fs::CWD, b"/").unwrap();
        Selection::new(&TreeOptions { excludes, ..TreeOptions::default() }, &root).unwrap()
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        let selection = selection(&["# comment", "", "*.o", "!keep.o", "/build", "tmp/", "a/**/z", r"\#x"]);
        let excluded = |path: &str, is_directory| selection.excludes_path(path.as_bytes(), is_directory);
        assert!(excluded("x.o", false) && excluded("deep/er/x.o", false) && !excluded("deep/keep.o", false));
        assert!(excluded("build", true) && !excluded("deep/build", true));
        assert!(excluded("deep/tmp", true) && !excluded("deep/tmp", false));
        assert!(excluded("a/z", false) && excluded("a/b/c/z", false) && !excluded("b/a/z", false));
        assert!(excluded("#x", false) && !excluded("# comment", false));
    }

    #[test]
    fn patterns_match_names_that_are_no_text() {
        let selection = selection(&["*.o", "?x"]);
        assert!(selection.excludes_path(b"d\xff/\xfe\xff.o", false));
        assert!(selection.excludes_path(b"\xffx", false));
        assert!(!selection.excludes_path(b"\xff\xff.p", false));
    }

    #[test]
    fn braces_mean_themselves() {
        let excluded =
            |pattern: &str, path: &str| selection(&[pattern]).excludes_path(path.as_bytes(), false);
        for pattern in ["{cache}", r"\{cache\}", "[{]cache[}]", "{[c]ache}", "{cache*"] {
            assert!(excluded(pattern, "{cache}") && !excluded(pattern, "cache"), "{pattern}");
        }
        assert!(excluded("f{1,2}", "f{1,2}") && !excluded("f{1,2}", "f1"));
        assert!(
            excluded("[]{]", "{") && excluded("[]{]", "]") && excluded("[!{]", "x") && !excluded("[!{]", "{")
        );
        assert!(excluded("a{b", "a{b"));
    }

    #[test]
    fn a_malformed_pattern_is_refused_by_name() {
        let options = TreeOptions { excludes: vec!["a[z-a]".into()], ..TreeOptions::default() };
        let root = EntryStat::at(rustix::fs::CWD, b"/").unwrap();
        let error = Selection::new(&options, &root).err().unwrap().to_string();
        assert!(error.contains("a[z-a]"), "{error}");
    }
}
