//! What scrub reads, marks and says.

#![allow(clippy::unwrap_used, reason = "a failure of a test's own means is a failure of the test")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use treering_engine::operations::backup::{BackupOptions, backup};
use treering_engine::operations::forget::{ForgetScope, forget};
use treering_engine::operations::scrub::{
    BadFinding, ScrubOptions, ScrubReport, ScrubScope, UnfinishedScrub, scrub,
};
use treering_engine::{
    BadObject, CreateOptions, Damage, Error, FileSource, Monitor, ObjectType, Record, Repository,
    SilentMonitor, Source, Timestamp,
};

const CHUNK: usize = 4096;
/// Chunks of the image: three leaves.
const CHUNKS: usize = 600;
/// Chunks of a whole leaf.
const LEAF: usize = 256;
/// Length of a pack's header.
const HEADER: u64 = 64;

struct World {
    directory: tempfile::TempDir,
    content: Vec<u8>,
}

impl World {
    /// One revision of noise.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = CreateOptions { chunk_size: CHUNK as u32, ..CreateOptions::default() };
        Repository::create(&directory.path().join("repository"), &options).unwrap();
        let world = Self { directory, content: (0..CHUNKS).flat_map(|seed| noise(seed as u64)).collect() };
        world.back_up(&world.content);
        world
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    fn repository(&self) -> Repository {
        Repository::open(&self.root(), 1 << 20).unwrap()
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn back_up(&self, content: &[u8]) -> Record {
        fs::write(self.image(), content).unwrap();
        let options = BackupOptions { stream: "vm".to_owned(), ..BackupOptions::default() };
        let source = Source::Image(Box::new(FileSource::open(&self.image()).unwrap()));
        backup(&self.repository(), source, &options, &SilentMonitor).unwrap().record
    }

    /// The packs of a kind, the largest first.
    fn packs(&self, kind: &str) -> Vec<PathBuf> {
        let mut packs = files_below(&self.root().join("packs").join(kind));
        packs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
        packs
    }

    fn everything(&self, percent: f64) -> ScrubReport {
        let options = ScrubOptions { percent, source: None };
        scrub(&self.repository(), &ScrubScope::Everything, &options, &SilentMonitor).unwrap()
    }

    /// All revisions.
    fn scope(&self) -> ScrubScope {
        let repository = self.repository();
        let stream = repository.stream("vm").unwrap();
        let keys = repository.revisions(&stream).unwrap();
        let records = keys.iter().map(|key| (stream.clone(), repository.record(&stream, key).unwrap()));
        ScrubScope::Revisions(records.collect())
    }

    fn scrub_revisions(&self, monitor: &dyn Monitor) -> Result<ScrubReport, Box<UnfinishedScrub>> {
        let options = ScrubOptions { percent: 100.0, source: None };
        scrub(&self.repository(), &self.scope(), &options, monitor)
    }

    fn listed(&self) -> usize {
        self.repository().damage().unwrap().objects.len()
    }
}

/// How many revisions need it.
fn needing(bad: &BadFinding) -> usize {
    bad.revisions.as_ref().unwrap().len()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(CHUNK).collect()
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

#[test]
fn a_percentage_does_not_read_the_other_chunks() {
    let world = World::new();
    // Every chunk is damaged: as many are found as were read.
    for chunk in 0..CHUNKS as u64 {
        flip(&world.packs("data")[0], HEADER + chunk * (CHUNK as u64 + 1) + 100);
    }
    let found = world.everything(10.0);
    assert!((5..200).contains(&found.bad.len()), "{} of {CHUNKS} were read", found.bad.len());
    assert_eq!(found.damaged_files.len(), 1);
    assert_eq!(world.listed(), found.bad.len());
}

#[test]
fn a_percentage_verifies_the_frame_of_every_pack_and_what_is_listed() {
    let world = World::new();
    let pack = world.packs("data").remove(0);
    let length = fs::metadata(&pack).unwrap().len();
    for (offset, part) in [(20, "header"), (length - 70, "directory"), (length - 30, "trailer")] {
        flip(&pack, offset);
        let found = world.everything(0.001).damaged_files;
        assert!(found.len() == 1 && found[0].1.contains(part), "{part}: {found:?}");
        flip(&pack, offset);
    }
    flip(&pack, HEADER + 100);
    assert_eq!(world.everything(100.0).bad.len(), 1);
    assert_eq!(world.everything(0.001).bad.len(), 1);
    flip(&pack, HEADER + 100);
    assert!(world.everything(0.001).is_clean());
    assert_eq!(world.listed(), 0, "what is on the list is always read");
}

#[test]
fn a_pack_that_nobody_misses_anything_of_is_no_damage() {
    for missing in [false, true] {
        let world = World::new();
        let pack = world.packs("data").remove(0);
        match missing {
            true => fs::remove_file(&pack).unwrap(),
            false => flip(&pack, HEADER + 100),
        }
        let found = world.everything(100.0);
        assert_eq!((found.damaged_files.len(), found.superseded.len()), (1, 0), "{missing}");
        assert!(!found.is_clean());

        world.back_up(&world.content);
        let healed = world.everything(100.0);
        assert_eq!((healed.damaged_files.len(), healed.superseded.len()), (0, 1), "{missing}");
        assert!(healed.is_clean() && healed.bad.is_empty());
        assert_eq!(healed.superseded, found.damaged_files);
        assert!(world.everything(10.0).is_clean());
    }
}

#[test]
fn a_source_is_compared_though_a_leaf_is_damaged_and_the_leaf_is_marked() {
    let world = World::new();
    let pack = world.packs("metadata").remove(0);
    flip(&pack, HEADER + 200);
    let source = || Some(Box::new(FileSource::open(&world.image()).unwrap()) as Box<_>);
    let options = ScrubOptions { percent: 100.0, source: source() };
    let found = scrub(&world.repository(), &world.scope(), &options, &SilentMonitor).unwrap();
    assert_eq!(found.mismatched, vec![std::ops::Range { start: 0, end: (LEAF * CHUNK) as u64 }]);
    assert_eq!((found.bad.len(), found.bad[0].object_type), (1, ObjectType::Node));
    assert_eq!((needing(&found.bad[0]), world.listed()), (1, 1));

    // It was a bad cable: the node is good again.
    flip(&pack, HEADER + 200);
    assert!(world.scrub_revisions(&SilentMonitor).unwrap().is_clean());
    assert_eq!(world.listed(), 0);
}

#[test]
fn an_error_that_is_no_damage_ends_the_scrub_and_marks_nothing() {
    let world = World::new();
    for kind in ["metadata", "data"] {
        let pack = world.packs(kind).remove(0);
        let aside = world.directory.path().join("aside");
        fs::rename(&pack, &aside).unwrap();
        // Too many symbolic links, as nobody is denied anything who runs tests as root.
        std::os::unix::fs::symlink(&pack, &pack).unwrap();
        let error = world.scrub_revisions(&SilentMonitor).unwrap_err().error;
        assert!(!error.is_damage(), "{error}");
        assert_eq!(world.listed(), 0);
        fs::remove_file(&pack).unwrap();
        fs::rename(&aside, &pack).unwrap();
    }
    assert!(world.everything(100.0).is_clean());
}

#[test]
fn a_chunk_of_several_revisions_counts_once() {
    let world = World::new();
    let mut content = world.content.clone();
    content[5 * CHUNK..6 * CHUNK].fill(7);
    world.back_up(&content);
    let found = world.scrub_revisions(&SilentMonitor).unwrap();
    assert_eq!(found.chunks_checked, CHUNKS as u64 + 1);
    assert_eq!(found.bytes_checked, ((CHUNKS + 1) * CHUNK) as u64);
    assert_eq!(world.everything(100.0).chunks_checked, CHUNKS as u64 + 1);
}

#[test]
fn a_damaged_chunk_affects_the_revisions_that_have_it() {
    let world = World::new();
    let mut content = world.content.clone();
    let first = world.scope();
    content[300 * CHUNK..301 * CHUNK].copy_from_slice(&noise(9999));
    world.back_up(&content);
    world.back_up(&content);
    // The chunk that the first revision alone has, and one of a leaf that all share.
    let pack = world.packs("data").remove(0);
    for (chunk, revisions) in [(300, 1), (5, 3)] {
        flip(&pack, HEADER + chunk * (CHUNK as u64 + 1) + 100);
        let options = ScrubOptions { percent: 100.0, source: None };
        let found = scrub(&world.repository(), &first, &options, &SilentMonitor).unwrap();
        assert_eq!((found.bad.len(), needing(&found.bad[0])), (1, revisions));
        let damage = Damage {
            objects: vec![BadObject {
                id: found.bad[0].id,
                type_code: 1,
                found: Timestamp::now(),
                reason: String::new(),
            }],
        };
        let ScrubScope::Revisions(all) = world.scope() else { unreachable!() };
        let records: Vec<Record> = all.into_iter().map(|(_, record)| record).collect();
        let affected = world.repository().damaged_revisions(&damage, &records).unwrap();
        let reaching = records.iter().filter(|record| affected.contains(&record.id));
        let reaching: Vec<String> = reaching.map(|record| format!("vm@{}", record.name)).collect();
        assert_eq!(affected.len(), revisions);
        assert_eq!(found.bad[0].revisions.as_ref(), Some(&reaching));
        flip(&pack, HEADER + chunk * (CHUNK as u64 + 1) + 100);
    }
}

#[test]
fn a_leaf_that_stands_in_a_map_several_times_is_followed_once() {
    let world = World::new();
    let leaf = world.content[..LEAF * CHUNK].to_vec();
    world.back_up(&leaf.repeat(3));
    let pack = world.packs("data").remove(0);
    flip(&pack, HEADER + 100);
    let ScrubScope::Revisions(all) = world.scope() else { unreachable!() };
    let repeated = ScrubScope::Revisions(all[1..].to_vec());
    let options = ScrubOptions { percent: 100.0, source: None };
    let found = scrub(&world.repository(), &repeated, &options, &SilentMonitor).unwrap();
    assert_eq!((found.chunks_checked, found.bad.len()), (LEAF as u64, 1));
    assert_eq!(needing(&found.bad[0]), 2);
}

/// Counts the pins that there are while a scrub goes on.
struct PinMonitor {
    pins: PathBuf,
    most: AtomicUsize,
}

impl Monitor for PinMonitor {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {
        let pins = fs::read_dir(&self.pins).map_or(0, Iterator::count);
        self.most.fetch_max(pins, Ordering::Relaxed);
    }
    fn warn(&self, message: &str) {
        panic!("{message}");
    }
}

#[test]
fn a_revision_is_pinned_while_it_is_walked() {
    let world = World::new();
    let monitor = PinMonitor { pins: world.root().join("pins"), most: AtomicUsize::new(0) };
    world.scrub_revisions(&monitor).unwrap();
    assert_eq!(monitor.most.load(Ordering::Relaxed), 1);
    assert_eq!(fs::read_dir(&monitor.pins).unwrap().count(), 0);
}

/// Ends a scrub when it has told so often that it got on.
struct CancellingMonitor {
    task: &'static str,
    advances: AtomicUsize,
    is_on: AtomicBool,
}

impl CancellingMonitor {
    fn after(task: &'static str, advances: usize) -> Self {
        Self { task, advances: AtomicUsize::new(advances), is_on: AtomicBool::new(false) }
    }
}

impl Monitor for CancellingMonitor {
    fn begin(&self, task: &str, _total_bytes: Option<u64>) {
        self.is_on.store(task == self.task, Ordering::Relaxed);
    }
    fn advance(&self, _bytes: u64) {
        if self.is_on.load(Ordering::Relaxed) {
            let left = |left: usize| Some(left.saturating_sub(1));
            let _ = self.advances.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        }
    }
    fn warn(&self, message: &str) {
        panic!("{message}");
    }
    fn is_cancelled(&self) -> bool {
        self.advances.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn what_an_interrupted_scrub_has_found_is_told_and_marked() {
    for everything in [true, false] {
        let world = World::new();
        flip(&world.packs("data")[0], HEADER + 100);
        let (scope, task) = match everything {
            true => (ScrubScope::Everything, "reading packs"),
            false => (world.scope(), "following revisions"),
        };
        let options = ScrubOptions { percent: 100.0, source: None };
        let monitor = CancellingMonitor::after(task, CHUNKS / 2);
        let ended = scrub(&world.repository(), &scope, &options, &monitor).unwrap_err();
        assert!(matches!(ended.error, Error::Cancelled));
        let found = ended.report;
        assert!((1..CHUNKS as u64).contains(&found.chunks_checked), "{}", found.chunks_checked);
        assert_eq!((found.bad.len(), &found.bad[0].revisions), (1, &None));
        assert_eq!(world.listed(), 1);
        assert_eq!(world.repository().damage().unwrap().objects[0].id, found.bad[0].id);
    }
}

#[test]
fn what_was_found_before_an_error_is_told_and_marked() {
    let world = World::new();
    let first = world.packs("data").remove(0);
    world.back_up(&noise(9999).repeat(2));
    let second = world.packs("data").into_iter().find(|pack| *pack != first).unwrap();
    flip(&first, HEADER + 100);
    let aside = world.directory.path().join("aside");
    fs::rename(&second, &aside).unwrap();
    std::os::unix::fs::symlink(&second, &second).unwrap();
    let options = ScrubOptions { percent: 100.0, source: None };
    let ended = scrub(&world.repository(), &ScrubScope::Everything, &options, &SilentMonitor).unwrap_err();
    assert!(!ended.error.is_damage(), "{ended}");
    assert_eq!((ended.report.bad.len(), world.listed()), (1, 1));
}

#[test]
fn what_a_comparison_has_found_is_told_when_it_is_interrupted() {
    let world = World::new();
    let mut content = world.content.clone();
    content[3] ^= 1;
    fs::write(world.image(), content).unwrap();
    let source = Some(Box::new(FileSource::open(&world.image()).unwrap()) as Box<_>);
    let options = ScrubOptions { percent: 100.0, source };
    let monitor = CancellingMonitor::after("comparing", 1);
    let ended = scrub(&world.repository(), &world.scope(), &options, &monitor).unwrap_err();
    assert_eq!(ended.report.mismatched, vec![std::ops::Range { start: 0, end: CHUNK as u64 }]);
}

/// A world with chunks that no revision uses any more: its pack comes second.
fn world_with_leftovers() -> (World, PathBuf, Vec<u8>) {
    let world = World::new();
    let before = files_below(&world.root());
    let content = (2000..2020).flat_map(noise).collect::<Vec<_>>();
    world.back_up(&content);
    let new: Vec<PathBuf> =
        files_below(&world.root()).into_iter().filter(|file| !before.contains(file)).collect();
    let below =
        |area: &str| new.iter().find(|file| file.starts_with(world.root().join(area))).unwrap().clone();
    let pack = below("packs/data");
    world.back_up(&world.content);
    let repository = world.repository();
    let stream = repository.stream("vm").unwrap();
    let second = &repository.revisions(&stream).unwrap()[1..2];
    forget(&repository, &stream, &ForgetScope::Revisions(second), false).unwrap();
    (world, pack, content)
}

#[test]
fn bad_objects_that_no_revision_uses_are_no_damage_and_not_used_again() {
    let (world, pack, content) = world_with_leftovers();
    flip(&pack, HEADER + 100);
    for _ in 0..2 {
        let found = world.everything(100.0);
        assert!(found.is_clean() && found.bad.is_empty());
        assert_eq!((found.unused.len(), found.superseded.len(), world.listed()), (1, 1, 1));
    }
    world.back_up(&content);
    let found = world.everything(100.0);
    assert!(found.is_clean());
    assert_eq!((found.unused.len(), found.superseded.len(), world.listed()), (0, 1, 0));
    assert!(world.scrub_revisions(&SilentMonitor).unwrap().is_clean());
}

#[test]
fn a_pack_with_a_damaged_frame_is_no_damage_where_no_revision_uses_it() {
    let (world, unused, _) = world_with_leftovers();
    let used = world.packs("data").remove(0);
    for (pack, is_damage) in [(&unused, false), (&used, true)] {
        flip(pack, 20);
        let found = world.everything(100.0);
        assert_eq!(
            (found.damaged_files.len(), found.superseded.len()),
            (is_damage.into(), (!is_damage).into())
        );
        flip(pack, 20);
    }
    // Known to no table, and unreadable: what lay in it is not known, but nothing is missed.
    let name = unused.with_file_name("0123456789abcdef0123456789abcdef");
    fs::write(name, b"torn").unwrap();
    let found = world.everything(100.0);
    assert_eq!((found.damaged_files.len(), found.superseded.len()), (0, 1));
    flip(&used, HEADER + 100);
    assert_eq!(world.everything(100.0).damaged_files.len(), 2, "it may be what is missed");
}

#[test]
fn nothing_counts_as_unused_while_a_revision_can_not_be_followed() {
    for damaged in ["record", "no record", "node"] {
        let (world, pack, _) = world_with_leftovers();
        flip(&pack, HEADER + 100);
        let record = files_below(&world.root().join("revisions")).remove(0);
        match damaged {
            "record" => flip(&record, 50),
            "no record" => make_directory(&record),
            _ => flip(&world.packs("metadata")[0], HEADER + 200),
        }
        let found = world.everything(100.0);
        assert!(found.unused.is_empty(), "{damaged}");
        assert!(found.bad.iter().any(|bad| bad.object_type == ObjectType::Chunk), "{damaged}");
    }
}

/// Damage of a label, a table or the damage list hides no revision: once, what nobody uses was an alarm beside it.
#[test]
fn what_is_unused_stays_so_beside_other_damaged_files() {
    for area in ["index", "damage", "labels"] {
        let (world, pack, _) = world_with_leftovers();
        flip(&pack, HEADER + 100);
        let stream = world.repository().stream("vm").unwrap().id;
        let label = world.root().join(format!("labels/{stream}/018f2f6e-7b5c-4c3a-9d1e-0123456789ab"));
        let file = match area {
            "index" => files_below(&world.root().join("index")).remove(0),
            "damage" => world.root().join("damage"),
            _ => label,
        };
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "garbage").unwrap();
        let found = world.everything(100.0);
        assert_eq!(found.damaged_files.len(), 1, "{area}: {found:?}");
        assert_eq!((found.bad.len(), found.unused.len(), found.superseded.len()), (0, 1, 1), "{area}");
    }
}

/// What lies below a record that can't be read is looked for by nobody: what is listed of it must stay listed.
#[test]
fn nothing_is_taken_off_the_list_while_a_revision_can_not_be_followed() {
    let world = World::new();
    fs::remove_file(world.packs("data").remove(0)).unwrap();
    assert_eq!(world.everything(100.0).bad.len(), CHUNKS);
    // Neither the pack nor its table tells any more what was in it.
    files_below(&world.root().join("index")).iter().for_each(|table| fs::remove_file(table).unwrap());
    flip(&files_below(&world.root().join("revisions"))[0], 50);
    assert!(world.everything(100.0).bad.is_empty());
    assert_eq!(world.listed(), CHUNKS);
}

/// It once stayed damaged for as long as nothing was bad, and no scrub told.
#[test]
fn a_full_scrub_tells_of_a_damaged_damage_list_and_makes_it_anew() {
    let world = World::new();
    let list = world.root().join("damage");
    fs::write(&list, "garbage").unwrap();
    for percent in [10.0, 100.0] {
        let found = world.everything(percent);
        assert_eq!(found.damaged_files.len(), 1, "{found:?}");
        assert_eq!(found.damaged_files[0].0, "damage");
    }
    assert!(world.everything(100.0).is_clean());
    assert_eq!(world.listed(), 0);
}

/// Forgets a revision as soon as a scrub has begun to follow the revisions.
struct ForgettingMonitor {
    record: PathBuf,
}

impl Monitor for ForgettingMonitor {
    fn begin(&self, task: &str, _total_bytes: Option<u64>) {
        if task == "following revisions" {
            fs::remove_file(&self.record).unwrap();
        }
    }
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, message: &str) {
        panic!("{message}");
    }
}

/// A pin protects only what was there after it was made: of a revision that is gone, gc may have taken anything.
#[test]
fn a_revision_that_is_forgotten_before_it_is_pinned_is_passed_over() {
    let world = World::new();
    world.back_up(&noise(9999).repeat(2));
    let scope = world.scope();
    let pack = world.packs("data").remove(0);
    // The first revision: gone, and with it the pack that it alone needs.
    let record = files_below(&world.root().join("revisions")).into_iter().min().unwrap();
    let monitor = ForgettingMonitor { record };
    fs::remove_file(pack).unwrap();
    let options = ScrubOptions { percent: 100.0, source: None };
    let found = scrub(&world.repository(), &scope, &options, &monitor).unwrap();
    assert!(found.is_clean(), "{found:?}");
    assert_eq!((found.chunks_checked, world.listed()), (1, 0));
}

fn make_directory(file: &Path) {
    fs::remove_file(file).unwrap_or_default();
    fs::create_dir_all(file).unwrap();
}

#[test]
fn a_directory_in_the_place_of_a_file_is_damage() {
    for area in ["packs/data", "packs/metadata", "index", "revisions", "labels"] {
        let world = World::new();
        let record = world.back_up(&noise(77));
        let file = match area {
            "labels" => world.root().join(format!("labels/{}/{}", record.stream, record.id)),
            _ => files_below(&world.root().join(area)).remove(0),
        };
        make_directory(&file);
        let found = world.everything(100.0);
        let shown = file.strip_prefix(world.root()).unwrap().to_str().unwrap();
        let files = found.damaged_files.iter().map(|(file, _)| file.as_str());
        // With the table is lost what it named, and the newest record is missed.
        let is_told_besides = |file: &&str| {
            *file == "index/" || shown.strip_prefix(*file).is_some_and(|rest| rest.starts_with('/'))
        };
        let files: Vec<&str> = files.filter(|file| !is_told_besides(file)).collect();
        assert_eq!(files, [shown], "{area}: {found:?}");
    }
}

#[test]
fn a_directory_in_the_place_of_a_pack_costs_all_that_was_in_it() {
    let world = World::new();
    make_directory(&world.packs("data").remove(0));
    assert_eq!(world.everything(100.0).bad.len(), CHUNKS);
    assert_eq!(world.scrub_revisions(&SilentMonitor).unwrap().bad.len(), CHUNKS);
}
