//! Damage below a tree: every command names what is lost, is right about all else, and the next backup heals it.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::blobs::{Blob, all_blobs};
use support::manifest::{Held, Manifest, below, newest, top_of};
use support::oracle::{RESTORED, assert_same};
use support::system::{Mounted, Requirement, can_use};
use support::{Run, World, noise, settle};
use treering_engine::{EntryContent, TreeReader};

const MIB: usize = 1 << 20;

/// A world with two revisions of a tree of files of all sizes, and its directories of all.
fn world() -> World {
    let world = World::new();
    let home = world.path("home");
    for directory in ["docs/deep", "many"] {
        fs::create_dir_all(home.join(directory)).unwrap();
    }
    for number in 0..500 {
        let name = format!("many/a-file-of-many-with-a-long-name-{number:05}");
        fs::write(home.join(name), format!("content of {number}")).unwrap();
    }
    fs::write(home.join("docs/a"), b"of a bundle").unwrap();
    fs::write(home.join("docs/medium"), noise(1, 90_000)).unwrap();
    fs::write(home.join("docs/deep/large"), noise(2, 5 * MIB)).unwrap();
    fs::write(home.join("vm.img"), noise(3, 3 * MIB)).unwrap();
    let attributed = home.join("docs/attributed");
    fs::write(&attributed, b"with a long list of attributes").unwrap();
    rustix::fs::setxattr(&attributed, "user.long", &noise(4, 3_000), rustix::fs::XattrFlags::empty())
        .unwrap();
    settle();
    world.backup("home", "home");
    fs::write(home.join("docs/a"), b"of another bundle").unwrap();
    fs::write(home.join("new"), noise(5, 300_000)).unwrap();
    fs::remove_file(home.join("many/a-file-of-many-with-a-long-name-00007")).unwrap();
    let mut large = fs::read(home.join("docs/deep/large")).unwrap();
    large.extend(noise(6, MIB));
    fs::write(home.join("docs/deep/large"), large).unwrap();
    settle();
    world.backup("home", "home");
    world
}

/// Runs the program, which may end with one of these codes, and never by a panic.
#[track_caller]
fn run(world: &World, arguments: &[&str], codes: &[i32]) -> Run {
    let run = world.run(arguments);
    let is_expected = run.code.is_some_and(|code| codes.contains(&code));
    assert!(is_expected, "treering {}: {:?}\n{}", run.arguments, run.code, run.stderr);
    assert!(!run.stderr.contains("panicked"), "treering {}: {}", run.arguments, run.stderr);
    if run.code == Some(4) && !arguments.contains(&"scrub") {
        let words = ["damaged", "cannot read", "lost", "missing"];
        assert!(words.iter().any(|word| run.stderr.contains(word)), "{}: {}", run.arguments, run.stderr);
        assert!(["hint:", "treering scrub"].iter().any(|next| run.stderr.contains(next)), "{}", run.stderr);
    }
    run
}

/// What can still be read of the newest revision.
#[derive(Default)]
struct Readable {
    files: BTreeSet<String>,
    /// Files that are listed, and can't be read or whose attributes can't.
    broken: BTreeSet<String>,
    /// Directories of which something can't be listed.
    cut: BTreeSet<String>,
}

impl Readable {
    fn of(world: &World) -> Self {
        let mut readable = Self::default();
        let (repository, records) = support::manifest::records(&world.repository(), "home");
        match repository.open_tree(records.last().unwrap()) {
            Ok(tree) => readable.walk(&tree),
            Err(_) => _ = readable.cut.insert(String::new()),
        }
        readable
    }

    fn walk(&mut self, tree: &TreeReader) {
        let mut todo = vec![(Vec::new(), top_of(tree.root()))];
        while let Some((directory, top)) = todo.pop() {
            for entry in tree.entries(top.as_ref(), None) {
                let Ok(entry) = entry else {
                    self.cut.insert(text(&directory));
                    continue;
                };
                let path = below(&directory, entry.name.as_bytes());
                let reads = tree.attributes(&entry).is_ok();
                match &entry.content {
                    EntryContent::Directory(top) => todo.push((path, *top)),
                    EntryContent::File(data) => {
                        let mut content = vec![0; data.size() as usize];
                        let reads = tree.open_file(data).read_at(0, &mut content).is_ok() && reads;
                        let list = if reads { &mut self.files } else { &mut self.broken };
                        list.insert(text(&path));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.broken.is_empty() && self.cut.is_empty()
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8(path.to_vec()).unwrap()
}

/// What the commands that look into trees say, by the commands.
struct Sound(Vec<(Vec<&'static str>, BTreeSet<String>)>);

impl Sound {
    /// What they say when nothing is damaged.
    fn of(world: &World) -> Self {
        let commands = [
            &["ls", "-R", "home", "--json"][..],
            &["ls", "home", "docs", "--json"],
            &["find", "home", "*", "--json"],
            &["diff", "home@1", "0", "--json"],
        ];
        let said = |command: &&[&'static str]| (command.to_vec(), facts(&world.ok(command).json()));
        Self(commands.iter().map(said).collect())
    }

    /// Fails unless each command says now what it said then, or that something is damaged and a part of it.
    fn check(&self, world: &World) -> bool {
        let mut is_whole = true;
        for (command, sound) in &self.0 {
            let run = run(world, command, &[0, 4]);
            let said = run.json();
            let now = facts(&said);
            let invented: Vec<_> = now.difference(sound).collect();
            assert!(invented.is_empty(), "{command:?} invents {invented:?}");
            if run.code == Some(0) {
                assert!(now == *sound, "{command:?} keeps something back without a word");
                assert!(said["damaged"].as_array().is_none_or(Vec::is_empty), "{said}");
            } else {
                is_whole = false;
            }
        }
        for path in ["docs/a", "docs/deep/large", "many/a-file-of-many-with-a-long-name-00300"] {
            let run = run(world, &["history", "home", path, "--json"], &[0, 4]);
            let versions = run.json()["versions"].to_string();
            assert_eq!(run.code == Some(4), versions.contains("unreadable"), "{path}: {}", run.stderr);
            assert!(!versions.contains("absent"), "{path} is taken for absent: {versions}");
        }
        is_whole
    }
}

/// Paths that a document tells, each with the list that it stands in.
fn facts(said: &Value) -> BTreeSet<String> {
    let lists = said.as_object().unwrap().iter().filter(|(key, _)| *key != "damaged" && *key != "error");
    let mut facts = BTreeSet::new();
    for (key, list) in lists {
        for item in list.as_array().into_iter().flatten() {
            let path = item.as_str().or_else(|| item["path"].as_str());
            // In how many revisions it can be found is another matter.
            facts.insert(format!("{key}: {}", path.map_or_else(|| item.to_string(), str::to_owned)));
        }
    }
    facts
}

/// Fails unless `dump` gives right bytes, all of them or up to the damage.
fn check_dumps(world: &World, readable: &Readable) {
    let sampled = readable.files.iter().step_by(170).map(|path| (path, 0));
    for (path, code) in sampled.chain(readable.broken.iter().take(3).map(|path| (path, 4))) {
        // What of it is lost may be its attributes, which a dump does not read.
        let run = run(world, &["dump", "home", path], if code == 0 { &[0] } else { &[0, 4] });
        let original = fs::read(world.path("home").join(path)).unwrap();
        assert!(original.starts_with(&run.stdout), "{path}: wrong bytes");
        assert_eq!(run.code == Some(0), run.stdout.len() == original.len(), "{path}");
    }
}

/// Fails unless `restore` names what is lost and brings back all else.
fn check_restore(world: &World, readable: &Readable) {
    let target = world.path("out");
    let said = run(world, &["restore", "home", "out", "--json"], &[if readable.is_whole() { 0 } else { 4 }]);
    for path in &readable.broken {
        said.says(&[path.as_str()]);
        let document = said.json();
        let named = document["error"]["damaged"].as_array().unwrap();
        assert!(
            named.iter().any(|entry| entry["path"] == path.as_str()),
            "{path} is not named: {document:#}"
        );
    }
    for directory in &readable.cut {
        said.says(&[directory.as_str()]);
    }
    for path in &readable.files {
        let restored = fs::read(target.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(restored == fs::read(world.path("home").join(path)).unwrap(), "{path}");
    }
    if target.exists() {
        let restored = Manifest::of_directory(&target, &|_, _| false);
        let is_rest = |path: &[u8]| path.ends_with(b".treering-damaged");
        let files = restored.entries.iter().filter(|(_, facts)| matches!(facts.held, Held::File(..)));
        for (path, _) in files.filter(|(path, _)| !is_rest(path)) {
            let (path, known) = (text(path), readable.broken.contains(&text(path)));
            assert!(known || readable.files.contains(&path), "{path} can't have been restored");
        }
        fs::remove_dir_all(target).unwrap();
    }
}

/// Fails unless `scrub` finds the damage, and the next backup heals the newest revision of it.
fn check_healing(world: &World) {
    let before = Manifest::of_directory(&world.path("home"), &|_, _| false);
    let scrub = run(world, &["scrub", "--json"], &[4]).json();
    assert!(!scrub["bad"].as_array().unwrap().is_empty(), "{scrub:#}");
    assert_eq!(world.json(&["list", "home"])["revisions"][1]["damaged"], true);
    heal(world);
    let (_, tree) = newest(&world.repository(), "home");
    before.assert_same(&Manifest::of_revision(&tree).unwrap(), "healed");
    world.ok(&["restore", "home", "healed", "--verify"]);
    assert_same(&world.path("home"), &world.path("healed"), RESTORED);
    world.ok(&["scrub", "home@latest"]);
}

fn heal(world: &World) {
    let run = run(world, &["backup", "home", "--json"], &[0, 3]);
    assert_eq!(run.json()["problems"], 0, "{}", run.stderr);
}

/// Damages a world in one way, and looks at it through all commands.
fn check_damage(world: &World, sound: &Sound, is_data: bool) {
    let readable = Readable::of(world);
    let looks_whole = sound.check(world);
    if is_data {
        assert!(!readable.broken.is_empty() || readable.is_whole());
        assert!(readable.cut.is_empty());
    } else {
        assert!(readable.cut.is_empty() || !looks_whole);
    }
    check_dumps(world, &readable);
    check_restore(world, &readable);
}

/// Blobs of all kinds, not too many of each pack.
fn sampled(world: &World, directory: &str, count: usize) -> Vec<Blob> {
    let all = all_blobs(world, directory);
    let step = all.len().div_ceil(count);
    all.into_iter().step_by(step).collect()
}

#[test]
fn a_flipped_bit_costs_what_it_belongs_to_and_nothing_else() {
    let world = world();
    let sound = Sound::of(&world);
    for (directory, is_data) in [("packs/data", true), ("packs/metadata", false)] {
        let blobs = sampled(&world, directory, 6);
        assert!(blobs.len() > 3, "{}", blobs.len());
        for blob in blobs {
            blob.flip();
            check_damage(&world, &sound, is_data);
            blob.flip();
        }
    }
    assert!(sound.check(&world) && Readable::of(&world).is_whole());
}

#[test]
fn a_lost_pack_costs_what_was_in_it_and_the_next_backup_brings_it_back() {
    for directory in ["packs/data", "packs/metadata"] {
        for number in 0..2 {
            let world = world();
            let sound = Sound::of(&world);
            let mut packs = world.stored_files(directory);
            packs.sort_by_key(|pack| fs::metadata(pack).unwrap().modified().unwrap());
            assert_eq!(packs.len(), 2, "one of each revision");
            fs::remove_file(&packs[number]).unwrap();
            check_damage(&world, &sound, directory == "packs/data");
            check_healing(&world);
        }
    }
}

#[test]
fn a_flipped_bit_is_healed_by_the_next_backup() {
    for directory in ["packs/data", "packs/metadata"] {
        let world = world();
        let blobs = sampled(&world, directory, 5);
        blobs.iter().for_each(Blob::flip);
        check_healing(&world);
    }
}

/// Without a scrub nobody knows of it: but what shows on the way is read from the source, and never taken over.
#[test]
fn damage_of_directories_that_nobody_has_noticed_is_healed_as_well() {
    let world = world();
    let blobs = all_blobs(&world, "packs/metadata");
    blobs.iter().for_each(Blob::flip);
    let before = Manifest::of_directory(&world.path("home"), &|_, _| false);
    heal(&world);
    let (_, tree) = newest(&world.repository(), "home");
    before.assert_same(&Manifest::of_revision(&tree).unwrap(), "healed");
}

/// What of the newest revision can be read through a mount: files, and those that can't be read.
fn shown(mounted: &Mounted, world: &World) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut whole, mut broken) = (BTreeSet::new(), BTreeSet::new());
    let latest = mounted.path().join("home/latest");
    for path in files_below(&world.path("home")) {
        let shown = latest.join(&path);
        let attributes = || rustix::fs::getxattr(&shown, "user.long", &mut [0; 4000][..]);
        let has_attributes = path.ends_with("attributed");
        let read = fs::read(&shown).and_then(|bytes| {
            if has_attributes {
                attributes()?;
            }
            Ok(bytes)
        });
        let name = path.to_str().unwrap().to_owned();
        match read {
            Ok(bytes) => {
                assert!(bytes == fs::read(world.path("home").join(&path)).unwrap(), "{name}: wrong bytes");
                whole.insert(name);
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "{name}: {error}");
                broken.insert(name);
            }
        }
    }
    (whole, broken)
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let manifest = Manifest::of_directory(root, &|_, _| false);
    let files = manifest.entries.iter().filter(|(_, facts)| matches!(facts.held, Held::File(..)));
    files.map(|(path, _)| PathBuf::from(text(path))).collect()
}

/// EIO for what is lost, right bytes for all else, and for all of it when a backup has healed it.
#[test]
fn a_mount_fails_for_what_is_lost_alone() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    for directory in ["packs/data", "packs/metadata"] {
        let world = world();
        for blob in sampled(&world, directory, 3) {
            blob.flip();
            let readable = Readable::of(&world);
            let mounted = Mounted::repository(&world, &["--log-file", "log"]);
            let (whole, broken) = shown(&mounted, &world);
            if readable.cut.is_empty() {
                assert_eq!((&whole, &broken), (&readable.files, &readable.broken), "{blob:?}");
            } else {
                // A name that can't be listed may still be looked up, and the other way round never.
                assert!(readable.files.is_subset(&whole) && !broken.is_empty(), "{blob:?}");
            }
            assert!(fs::read_dir(mounted.path().join("home")).unwrap().count() >= 4);
            world.ok(&["unmount", "mnt"]);
            drop(mounted);
            blob.flip();
        }
        let packs = world.stored_files(directory);
        packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
        let mounted = Mounted::repository(&world, &["--log-file", "log"]);
        let (whole, _) = shown(&mounted, &world);
        assert!(whole.is_empty(), "{whole:?}");
        heal(&world);
        support::wait_until("the healed revision shows", || shown(&mounted, &world).1.is_empty());
        world.ok(&["unmount", "mnt"]);
    }
}
