//! Files whose content, times, mode and attributes tell which inode they are of, and records of what each path has been:
//! so that a revision that was made while all of it moved can be judged.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, setxattr};

use super::manifest::{Facts, Held};
use super::oracle::{noise, set_mtime};
use super::random::Random;

/// Identifies an inode among all that a test makes.
pub(crate) type Tag = u64;

/// The size of a block of a file that is written in place.
pub(crate) const BLOCK: usize = 4096;

/// Makes files that are complete when they get their first name in the tree.
pub(crate) struct Maker {
    staging: PathBuf,
    next: Tag,
    pub(crate) random: Random,
    /// The inodes of what was made.
    inodes: HashMap<Tag, u64>,
    contents: HashMap<blake3::Hash, Tag>,
}

impl Maker {
    /// Makes files in a directory of its own beside the tree. No other maker has the same number.
    pub(crate) fn new(beside: &Path, number: u64, seed: u64) -> Self {
        let staging = beside.join(format!("staging-{number}"));
        fs::create_dir(&staging).unwrap();
        let (inodes, contents) = (HashMap::new(), HashMap::new());
        Self { staging, next: number * 1_000_000 + 1, random: Random::new(seed + number), inodes, contents }
    }

    /// Makes a file, which has a name outside of the tree as yet.
    pub(crate) fn make(&mut self) -> (Tag, PathBuf) {
        let tag = self.next;
        self.next += 1;
        let length = match self.random.below(8) {
            0..=4 => 50 + self.random.below(3_000),
            5 | 6 => self.random.below(60_000) + 50,
            _ => 300_000,
        };
        let content = [&tag.to_le_bytes()[..], &noise(tag, length as usize)].concat();
        let path = self.staging.join(tag.to_string());
        fs::write(&path, &content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode_of(tag))).unwrap();
        setxattr(&path, "user.tag", &tag.to_le_bytes(), XattrFlags::empty()).unwrap();
        set_mtime(&path, tag as i64, 1);
        self.inodes.insert(tag, fs::metadata(&path).unwrap().ino());
        self.contents.insert(blake3::hash(&content), tag);
        (tag, path)
    }

    /// A second name for a path of the tree, outside of it as yet.
    pub(crate) fn link(&mut self, path: &Path) -> PathBuf {
        let link = self.staging.join("link");
        fs::hard_link(path, &link).unwrap();
        link
    }

    /// Whose content a stored file has. Fails unless all else that is stored is of the same inode.
    pub(crate) fn tag_of(&self, facts: &Facts) -> Result<Tag, String> {
        let Held::File(_, _, hash) = &facts.held else { return Err("it is no file".to_owned()) };
        let tag = *self.contents.get(hash).ok_or("its content is that of no file")?;
        let attribute = facts.attributes.get("user.tag").map(Vec::as_slice);
        let metadata = (facts.mode, facts.mtime, Some(&facts.inode), attribute);
        let expected = (mode_of(tag), (tag as i64, 1), self.inodes.get(&tag), Some(&tag.to_le_bytes()[..]));
        match metadata == expected {
            true => Ok(tag),
            false => Err(format!("the content of {tag}, and {metadata:?} for {expected:?}")),
        }
    }
}

fn mode_of(tag: Tag) -> u32 {
    0o600 | (tag as u32 & 0o77)
}

/// What paths are, and what they have been since the last [`Names::begin`].
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) current: BTreeMap<String, Tag>,
    had: BTreeMap<String, BTreeSet<Tag>>,
    /// Those that were nothing for a while.
    missed: BTreeSet<String>,
}

impl Names {
    /// Forgets what has been.
    pub(crate) fn begin(&mut self) {
        self.had = self.current.iter().map(|(path, tag)| (path.clone(), BTreeSet::from([*tag]))).collect();
        self.missed.clear();
    }

    /// Notes that a path is about to become something.
    pub(crate) fn enter(&mut self, path: &str, tag: Tag) {
        if !self.current.contains_key(path) {
            self.missed.insert(path.to_owned());
        }
        self.current.insert(path.to_owned(), tag);
        self.had.entry(path.to_owned()).or_default().insert(tag);
    }

    /// Notes that a path is about to become nothing.
    pub(crate) fn leave(&mut self, path: &str) -> Tag {
        self.missed.insert(path.to_owned());
        self.current.remove(path).unwrap()
    }

    /// All paths that have been something, what that was, and whether they have always been.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &BTreeSet<Tag>, bool)> {
        self.had.iter().map(|(path, had)| (path, had, !self.missed.contains(path)))
    }
}

/// A block of a file that is written in place: whose it is, where it belongs, which version it is of, and noise of these.
pub(crate) fn block(tag: Tag, index: u64, version: u64) -> Vec<u8> {
    let head = [tag, index, version].map(u64::to_le_bytes).concat();
    [&head[..], &noise(tag ^ index << 20 ^ version << 40, BLOCK - 24)].concat()
}

/// The version of a block. Fails unless it is a block of this file that belongs here.
pub(crate) fn version_of(bytes: &[u8], tag: Tag, index: u64) -> Result<u64, String> {
    let version = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    match bytes == block(tag, index, version) {
        true => Ok(version),
        false => Err(format!("block {index} is none of the file's")),
    }
}
