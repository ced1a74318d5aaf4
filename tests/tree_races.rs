//! Backups of a tree that changes while they run: whatever a revision says of a path, that path has been.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::actors::{Actor, DEPTH, Linked, Moving, Revision, Wandering, Written, read};
use support::manifest::{Held, Manifest, newest};
use support::oracle::noise;
use support::{World, random_seed, settle};
use treering_engine::operations::backup::{BackupOptions, backup};
use treering_engine::{Monitor, Repository, Source, TreeOptions, TreeSource};

/// How long further rounds are begun.
const TIME: Duration = Duration::from_secs(15);

<<<<<<< HEAD
=======
/// Deeper than the walk looks ahead: what lies there is listed when all that comes before it is done.
const DEPTH: usize = 70;

/// Something that changes a part of the tree which nobody else changes.
trait Actor: Send {
    /// Changes something.
    fn act(&mut self);

    fn begin(&mut self);

    /// Fails unless what is stored of the part is what it has been.
    fn check(&self, revision: &Revision);
}

/// A revision that was made meanwhile, and what was told of it.
struct Revision {
    manifest: Manifest,
    tree: TreeReader,
    warnings: Vec<String>,
}

impl Revision {
    fn get(&self, path: &str) -> Option<&Facts> {
        self.manifest.entries.get(path.as_bytes())
    }

    fn is_named(&self, path: &str) -> bool {
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
struct Linked {
    home: PathBuf,
    maker: Maker,
    names: Names,
    deep: String,
}

const GROUPS: u64 = 20;

impl Linked {
    fn new(world: &World, seed: u64) -> Self {
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
struct Wandering {
    home: PathBuf,
    maker: Maker,
    names: Names,
}

impl Wandering {
    fn new(world: &World, seed: u64) -> Self {
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
struct Moving {
    home: PathBuf,
    maker: Maker,
    /// Where each of them is now, its inode, and its files.
    directories: Vec<(String, u64, Vec<Tag>)>,
}

impl Moving {
    fn new(world: &World, seed: u64) -> Self {
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
struct Written {
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
}

impl Written {
    fn new(world: &World) -> Self {
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
            let blocks = content.chunks(BLOCK).zip(0..);
            let versions: Vec<u64> =
                blocks.map(|(bytes, index)| version_of(bytes, file.tag, index).unwrap()).collect();
            assert!(versions.iter().all(|version| *version <= file.next / file.blocks + 1), "{path}");
            let (first, last) = (versions[0], versions[versions.len() - 1]);
            let is_one_state = versions.is_sorted_by(|one, next| one >= next) && first - last <= 1;
            assert!(
                is_one_state || revision.is_named(&path),
                "{path} is {versions:?}, which nobody was told"
            );
        }
        let content = read(&revision.tree, "w/growing");
        let is_right =
            |(bytes, index): (&[u8], u64)| block(GROWING, index, 0).starts_with(bytes) && index < self.grown;
        assert!(content.chunks(BLOCK).zip(0..).all(is_right), "w/growing");
    }
}

fn read(tree: &TreeReader, path: &str) -> Vec<u8> {
    let entry = tree.find(path.as_bytes()).unwrap().unwrap_or_else(|| panic!("{path} is missing"));
    let EntryContent::File(data) = &entry.content else { panic!("{path} is no file") };
    let mut content = vec![0; data.size() as usize];
    assert_eq!(tree.open_file(data).read_at(0, &mut content).unwrap(), content.len());
    content
}

>>>>>>> restore-trees
/// Runs something while all actors act.
fn meanwhile<T>(actors: &mut [Box<dyn Actor>], run: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for actor in actors {
            actor.begin();
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    actor.act();
                    std::thread::sleep(Duration::from_micros(1_500));
                }
            });
        }
        let result = run();
        stop.store(true, Ordering::SeqCst);
        result
    })
}

/// Files that nobody touches: small ones, and some so large that what was listed ahead of them waits for a while.
fn make_steady(home: &Path) -> BTreeMap<String, blake3::Hash> {
    let mut steady = BTreeMap::new();
    for directory in ["0", "a-", "m", "zz"] {
        fs::create_dir(home.join(directory)).unwrap();
        for number in 0..20 {
            let length = if number == 19 { 20 << 20 } else { 700 };
            let content = noise(number, length);
            let path = format!("{directory}/{number}");
            fs::write(home.join(&path), &content).unwrap();
            steady.insert(path, blake3::hash(&content));
        }
    }
    steady
}

fn warnings_of(said: &Value) -> Vec<String> {
    said["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// Fails unless the source, at rest now, is stored as it is, whatever its parent holds.
fn check_at_rest(world: &World) {
    settle();
    let now = Manifest::of_directory(&world.path("home"), &|_, _| false);
    let said = world.json(&["backup", "home"]);
    assert_eq!(said["problems"], 0, "{said:#}");
    let (_, tree) = newest(&world.repository(), "home");
    now.assert_same(&Manifest::of_revision(&tree).unwrap(), "at rest");
}

#[test]
fn whatever_moves_meanwhile_a_revision_holds_states_that_were() {
    let seed = random_seed();
    let world = World::new();
    let home = world.path("home");
    fs::create_dir(&home).unwrap();
    let steady = make_steady(&home);
    let mut actors: Vec<Box<dyn Actor>> = vec![
        Box::new(Linked::new(&world, seed)),
        Box::new(Wandering::new(&world, seed)),
        Box::new(Moving::new(&world, seed)),
        Box::new(Written::new(&world)),
    ];
    let (start, mut rounds) = (Instant::now(), 0);
    while rounds < 4 || start.elapsed() < TIME {
        rounds += 1;
        let absolute = home.to_str().unwrap();
        let arguments = ["backup", absolute, "--json", "--force-read"];
        // Every other time what did not change is taken over.
        let arguments = if rounds % 2 == 0 { &arguments[..] } else { &arguments[..3] };
        let run = meanwhile(&mut actors, || world.run(arguments));
        let warnings = warnings_of(&run.json());
        assert_eq!(run.code, Some(if warnings.is_empty() { 0 } else { 3 }), "{}", run.stderr);
        let (record, tree) = newest(&world.repository(), "home");
        assert_eq!(record.warnings, warnings);
        let manifest = Manifest::of_revision(&tree).unwrap();
        let revision = Revision { manifest, tree, warnings };
        for (path, hash) in &steady {
            let facts = revision.get(path).unwrap_or_else(|| panic!("{path} is missing"));
<<<<<<< HEAD
            assert!(matches!(&facts.held, Held::File(_, _, held) if held == hash), "{path}");
=======
            assert!(
                matches!(&facts.held, support::manifest::Held::File(_, _, held) if held == hash),
                "{path}"
            );
>>>>>>> restore-trees
            assert!(!revision.is_named(path), "{path}");
        }
        actors.iter().for_each(|actor| actor.check(&revision));
        check_at_rest(&world);
    }
}

/// Does something once, as soon as bytes were read.
struct Hook<F> {
    action: F,
    is_done: AtomicBool,
}

impl<F: Fn() + Send + Sync> Monitor for Hook<F> {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}

    fn advance(&self, bytes: u64) {
        if bytes > 0 && !self.is_done.swap(true, Ordering::SeqCst) {
            (self.action)();
        }
    }

    fn warn(&self, _message: &str) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// The new file was once stored under all further names of the old one, without a word: rename gives both the same time
/// of status change.
#[test]
fn a_first_name_that_is_given_to_another_file_does_not_pass_its_content_on() {
    let world = World::new();
    let home = world.path("home");
    let deep = home.join(format!("z{}", "/d".repeat(DEPTH)));
    for directory in [&home.join("b"), &deep] {
        fs::create_dir_all(directory).unwrap();
    }
    // So long that what follows has been listed and not been read when its first bytes are.
    let cores = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    fs::write(home.join("a"), noise(1, (5 * cores + 8) * (2 << 20))).unwrap();
    fs::write(home.join("b/first"), b"old content").unwrap();
    for name in ["second", "third"] {
        fs::hard_link(home.join("b/first"), deep.join(name)).unwrap();
    }
    fs::write(world.path("new"), b"NEW content").unwrap();
    settle();
    let (new, first) = (world.path("new"), home.join("b/first"));
    let hook = Hook { action: || fs::rename(&new, &first).unwrap(), is_done: AtomicBool::new(false) };
    let repository = Repository::open(&world.repository(), 8 << 20).unwrap();
    let source = TreeSource::open(&home, TreeOptions::default()).unwrap();
    let options = BackupOptions { stream: "home".to_owned(), ..BackupOptions::default() };
    backup(&repository, Source::Tree(Box::new(source)), &options, &hook).unwrap();
    let (_, tree) = newest(&world.repository(), "home");
    let deep = deep.strip_prefix(&home).unwrap().to_str().unwrap();
    for (path, content) in [("b/first", "NEW content"), ("second", "old content"), ("third", "old content")] {
        let path = if path == "b/first" { path.to_owned() } else { format!("{deep}/{path}") };
        assert_eq!(String::from_utf8_lossy(&read(&tree, &path)), content, "{path}");
    }
    check_at_rest(&world);
}
