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
            assert!(matches!(&facts.held, Held::File(_, _, held) if held == hash), "{path}");
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
