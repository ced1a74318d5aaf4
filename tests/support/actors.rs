//! Actors that change a tree, each a part of its own, and know what of it a revision may hold that is made meanwhile.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use treering_engine::{EntryContent, TreeReader};

use super::World;
use super::manifest::{Facts, Manifest};
use super::tagged::{BLOCK, Maker, Names, Tag, block, version_of};

/// Deeper than the walk looks ahead: what lies there is listed when all that comes before it is done.
pub(crate) const DEPTH: usize = 70;

/// Something that changes a part of the tree which nobody else changes.
pub(crate) trait Actor: Send {
    /// Changes something.
    fn act(&mut self);

    fn begin(&mut self);

    /// Fails unless what is stored of the part is what it has been.
    fn check(&self, revision: &Revision);
}

/// A revision that was made meanwhile, and what was told of it.
pub(crate) struct Revision {
    pub(crate) manifest: Manifest,
    pub(crate) tree: TreeReader,
    pub(crate) warnings: Vec<String>,
}

impl Revision {
    pub(crate) fn get(&self, path: &str) -> Option<&Facts> {
        self.manifest.entries.get(path.as_bytes())
    }

    pub(crate) fn is_named(&self, path: &str) -> bool {
        let path = format!("/home/{path}");
        let ends = |rest: &str| rest.is_empty() || rest.starts_with([':', ' ']);
        self.warnings
            .iter()
            .any(|warning| warning.match_indices(&path).any(|(at, found)| ends(&warning[at + found.len()..])))
    }

    /// Fails unless all that is stored under these names are states that they have had, and those that always were
    /// something are there.
    fn check_names(&self, names: &Names, maker: &Maker) {
        for (path, had, is_always) in names.all() {
            match self.get(path).map(|facts| maker.tag_of(facts)) {
                None => assert!(!is_always || self.is_named(path), "{path} is missing without a word"),
                Some(Ok(tag)) => assert!(had.contains(&tag), "{path} is {tag}, and was {had:?}"),
                Some(Err(wrong)) => panic!("{path}: {wrong}"),
            }
        }
    }
}

/// Hard links whose first names in the walk are given to new files and back, as by programs that save atomically.
pub(crate) struct Linked {
    home: PathBuf,
    maker: Maker,
    names: Names,
    deep: String,
}

const GROUPS: u64 = 20;

impl Linked {
    pub(crate) fn new(world: &World, seed: u64) -> Self {
        let deep = format!("z{}", "/d".repeat(DEPTH));
        let home = world.path("home");
        fs::create_dir(home.join("a")).unwrap();
        fs::create_dir_all(home.join(&deep)).unwrap();
        let maker = Maker::new(world.directory(), 1, seed);
        let mut linked = Self { home, maker, names: Names::default(), deep };
        for group in 0..GROUPS {
            let (tag, staged) = linked.maker.make();
            for name in linked.of(group) {
                fs::hard_link(&staged, linked.home.join(&name)).unwrap();
                linked.names.enter(&name, tag);
            }
            fs::remove_file(staged).unwrap();
        }
        linked
    }

    fn of(&self, group: u64) -> [String; 3] {
        let Self { deep, .. } = self;
        [format!("a/{group}"), format!("{deep}/second-{group}"), format!("{deep}/third-{group}")]
    }
}

impl Actor for Linked {
    fn act(&mut self) {
        let group = self.maker.random.below(GROUPS);
        let names = self.of(group);
        let is_linked = self.names.current[&names[0]] == self.names.current[&names[1]];
        let (name, (tag, staged)) = match is_linked {
            // Seldom all but one of the names, so that the inode gets lost.
            true if self.maker.random.one_in(6) => (&names[1], self.maker.make()),
            true => (&names[0], self.maker.make()),
            false => {
                let path = self.home.join(&names[1]);
                (&names[0], (self.names.current[&names[1]], self.maker.link(&path)))
            }
        };
        self.names.enter(name, tag);
        fs::rename(staged, self.home.join(name)).unwrap();
    }

    fn begin(&mut self) {
        self.names.begin();
    }

    fn check(&self, revision: &Revision) {
        revision.check_names(&self.names, &self.maker);
    }
}

/// Files that are made, moved, put over each other and removed.
pub(crate) struct Wandering {
    home: PathBuf,
    maker: Maker,
    names: Names,
}

impl Wandering {
    pub(crate) fn new(world: &World, seed: u64) -> Self {
        let home = world.path("home");
        for directory in ["c", "x"] {
            fs::create_dir(home.join(directory)).unwrap();
        }
        let maker = Maker::new(world.directory(), 2, seed);
        let mut wandering = Self { home, maker, names: Names::default() };
        (0..60).for_each(|_| wandering.act());
        wandering
    }

    fn place(&mut self) -> String {
        let directory = self.maker.random.pick(&["c", "x"]).unwrap();
        format!("{directory}/{}", self.maker.random.below(40))
    }

    fn taken(&mut self) -> Option<String> {
        let taken: Vec<&String> = self.names.current.keys().collect();
        self.maker.random.pick(&taken).cloned()
    }
}

impl Actor for Wandering {
    fn act(&mut self) {
        let to = self.place();
        let from = self.taken().filter(|_| self.maker.random.one_in(2));
        match from {
            Some(from) if from != to => {
                let tag = self.names.leave(&from);
                self.names.enter(&to, tag);
                fs::rename(self.home.join(from), self.home.join(to)).unwrap();
            }
            Some(from) => {
                self.names.leave(&from);
                fs::remove_file(self.home.join(from)).unwrap();
            }
            None => {
                let (tag, staged) = self.maker.make();
                self.names.enter(&to, tag);
                fs::rename(staged, self.home.join(to)).unwrap();
            }
        }
    }

    fn begin(&mut self) {
        self.names.begin();
    }

    fn check(&self, revision: &Revision) {
        revision.check_names(&self.names, &self.maker);
    }
}

/// Directories that are moved as a whole, with files that always stay in them.
pub(crate) struct Moving {
    home: PathBuf,
    maker: Maker,
    /// Where each of them is now, its inode, and its files.
    directories: Vec<(String, u64, Vec<Tag>)>,
}

impl Moving {
    pub(crate) fn new(world: &World, seed: u64) -> Self {
        let home = world.path("home");
        let mut maker = Maker::new(world.directory(), 3, seed);
        for directory in ["b", "y"] {
            fs::create_dir(home.join(directory)).unwrap();
        }
        let mut directories = Vec::new();
        for number in 0..5 {
            let place = format!("b/{number}");
            let path = home.join(&place);
            fs::create_dir(&path).unwrap();
            let file = |name: usize, maker: &mut Maker| {
                let (tag, staged) = maker.make();
                fs::rename(staged, path.join(name.to_string())).unwrap();
                tag
            };
            let tags = (0..8).map(|name| file(name, &mut maker)).collect();
            directories.push((place, fs::metadata(&path).unwrap().ino(), tags));
        }
        Self { home, maker, directories }
    }
}

impl Actor for Moving {
    fn act(&mut self) {
        let number = self.maker.random.below(self.directories.len() as u64) as usize;
        let above = self.maker.random.pick(&["b", "y"]).unwrap();
        let to = format!("{above}/{}", self.maker.random.below(9));
        if self.directories.iter().all(|(place, ..)| *place != to) {
            let from = std::mem::replace(&mut self.directories[number].0, to.clone());
            fs::rename(self.home.join(from), self.home.join(to)).unwrap();
        }
    }

    fn begin(&mut self) {}

    /// Whatever the name of a directory in the revision, its files are its own, and none is missing without a word.
    fn check(&self, revision: &Revision) {
        for place in ["b", "y"].iter().flat_map(|above| (0..9).map(move |slot| format!("{above}/{slot}"))) {
            let Some(directory) = revision.get(&place) else { continue };
            let (_, _, tags) =
                self.directories.iter().find(|(_, inode, _)| *inode == directory.inode).unwrap();
            for (name, tag) in tags.iter().enumerate() {
                let path = format!("{place}/{name}");
                match revision.get(&path) {
                    Some(facts) => assert_eq!(self.maker.tag_of(facts), Ok(*tag), "{path}"),
                    None => assert!(
                        revision.is_named(&path) || revision.is_named(&place),
                        "{path} is missing without a word: {:#?}",
                        revision.warnings
                    ),
                }
            }
        }
    }
}

/// Files that are written in place, block after block, and one that only grows.
pub(crate) struct Written {
    home: PathBuf,
    files: Vec<InPlace>,
    grown: u64,
}

/// A file whose blocks are written from the first to the last, again and again.
struct InPlace {
    tag: Tag,
    blocks: u64,
    next: u64,
}

const GROWING: Tag = 4_999_999;

impl InPlace {
    fn path(&self) -> String {
        format!("w/{}", self.tag)
    }

    /// Writes a part of the file.
    fn write(&mut self, home: &Path) {
        let file = File::options().write(true).open(home.join(self.path())).unwrap();
        for _ in 0..self.blocks / 24 {
            let (index, version) = (self.next % self.blocks, self.next / self.blocks + 1);
            file.write_all_at(&block(self.tag, index, version), index * BLOCK as u64).unwrap();
            self.next += 1;
        }
    }

    /// The version of each block that is stored; `None` of one that was written while it was read, which no system call
    /// prevents: it has bytes of two versions, one after the other. Fails if any byte is of none of them.
    fn versions_of(&self, content: &[u8]) -> Vec<Option<u64>> {
        let last = self.next / self.blocks + 1;
        let blocks = content.chunks(BLOCK).zip(0..);
        blocks
            .map(|(bytes, index)| match version_of(bytes, self.tag, index) {
                Ok(version) => {
                    assert!(version <= last, "{} has a block of the future", self.path());
                    Some(version)
                }
                Err(wrong) => {
                    let of = |version| block(self.tag, index, version);
                    assert!((1..=last).any(|new| is_torn(bytes, &of(new - 1), &of(new))), "{wrong}");
                    None
                }
            })
            .collect()
    }
}

/// Whether each byte is that of one of two blocks.
fn is_torn(bytes: &[u8], old: &[u8], new: &[u8]) -> bool {
    bytes.iter().zip(old).zip(new).all(|((byte, old), new)| byte == old || byte == new)
}

/// Whether blocks that are written from the first to the last have ever been of these versions at once.
fn is_one_state(versions: &[Option<u64>]) -> bool {
    let Some(versions) = versions.iter().copied().collect::<Option<Vec<u64>>>() else { return false };
    versions.is_sorted_by(|one, next| one >= next) && versions[0] - versions[versions.len() - 1] <= 1
}

impl Written {
    pub(crate) fn new(world: &World) -> Self {
        let home = world.path("home");
        fs::create_dir(home.join("w")).unwrap();
        let files =
            [(0, 24), (1, 24), (2, 72), (3, 2400)].map(|(tag, blocks)| InPlace { tag, blocks, next: 0 });
        for file in &files {
            let content: Vec<u8> = (0..file.blocks).flat_map(|index| block(file.tag, index, 0)).collect();
            fs::write(home.join(file.path()), content).unwrap();
        }
        fs::write(home.join("w/growing"), b"").unwrap();
        Self { home, files: files.into(), grown: 0 }
    }
}

impl Actor for Written {
    fn act(&mut self) {
        self.files.iter_mut().for_each(|file| file.write(&self.home));
        let file = File::options().write(true).open(self.home.join("w/growing")).unwrap();
        file.write_all_at(&block(GROWING, self.grown, 0), self.grown * BLOCK as u64).unwrap();
        self.grown += 1;
    }

    fn begin(&mut self) {}

    /// Several states of one file only where that was told, and never a byte of another file.
    fn check(&self, revision: &Revision) {
        for file in &self.files {
            let path = file.path();
            let content = read(&revision.tree, &path);
            assert_eq!(content.len() as u64, file.blocks * BLOCK as u64, "{path}");
            let versions = file.versions_of(&content);
            assert!(
                is_one_state(&versions) || revision.is_named(&path),
                "{path} is {versions:?}, which nobody was told"
            );
        }
        let content = read(&revision.tree, "w/growing");
        let is_right =
            |(bytes, index): (&[u8], u64)| block(GROWING, index, 0).starts_with(bytes) && index < self.grown;
        assert!(content.chunks(BLOCK).zip(0..).all(is_right), "w/growing");
    }
}

/// The content of a file of a tree, which must be there.
pub(crate) fn read(tree: &TreeReader, path: &str) -> Vec<u8> {
    let entry = tree.find(path.as_bytes()).unwrap().unwrap_or_else(|| panic!("{path} is missing"));
    let EntryContent::File(data) = &entry.content else { panic!("{path} is no file") };
    let mut content = vec![0; data.size() as usize];
    assert_eq!(tree.open_file(data).read_at(0, &mut content).unwrap(), content.len());
    content
}
