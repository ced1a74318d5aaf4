//! Damage of each kind of stored file: a clear error or the right bytes, never a wrong one; found by scrub, healed by
//! the next backup.

#![allow(clippy::unwrap_used, reason = "a failure of a test's own means is a failure of the test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use treering_engine::operations::backup::{BackupOptions, backup};
use treering_engine::operations::scrub::{ScrubOptions, ScrubReport, ScrubScope, scrub};
use treering_engine::{
    CollectingMonitor, CreateOptions, Error, FileSource, Record, Repository, Result, SilentMonitor, Source,
};

const CHUNK: usize = 4096;
/// Chunks of the image: more than one leaf.
const CHUNKS: usize = 600;

struct World {
    directory: tempfile::TempDir,
    /// What the revisions hold, the oldest first.
    contents: Vec<Vec<u8>>,
}

impl World {
    /// Two revisions: the second differs in one chunk.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = CreateOptions { chunk_size: CHUNK as u32, ..CreateOptions::default() };
        Repository::create(&directory.path().join("repository"), &options).unwrap();
        let mut world = Self { directory, contents: Vec::new() };
        let mut content: Vec<u8> = (0..CHUNKS).flat_map(|chunk| noise(chunk as u64)).collect();
        world.back_up(&content).unwrap();
        content[300 * CHUNK..301 * CHUNK].copy_from_slice(&noise(9999));
        world.back_up(&content).unwrap();
        world
    }

    fn repository(&self) -> Repository {
        Repository::open(&self.root(), 1 << 20).unwrap()
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    fn back_up(&mut self, content: &[u8]) -> Result<Record> {
        let image = self.directory.path().join("image");
        fs::write(&image, content).unwrap();
        let record = back_up_as_it_is(&self.repository(), &image)?;
        self.contents.push(content.to_vec());
        Ok(record)
    }

    /// Files of one kind, by the directory that they lie in.
    fn files(&self, area: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.root().join(area)];
        while let Some(directory) = directories.pop() {
            if directory.is_file() {
                found.push(directory);
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten() {
                directories.push(entry.unwrap().path());
            }
        }
        found.sort();
        found
    }

    /// Reads every revision whose record can be read. Panics on a wrong byte; counts what could not be read.
    fn read_all(&self) -> usize {
        let repository = match Repository::open(&self.root(), 1 << 20) {
            Ok(repository) => repository,
            Err(error) => return expect_damage(&error),
        };
        let Ok(stream) = repository.stream("vm") else { return 1 };
        let keys = repository.revisions(&stream).unwrap();
        let mut failures = self.contents.len() - keys.len();
        for key in keys {
            let content = &self.contents[key.sequence as usize - 1];
            let image = repository.record(&stream, &key).and_then(|record| repository.open_image(&record));
            let image = match image {
                Ok(image) => image,
                Err(error) => {
                    failures += expect_damage(&error);
                    continue;
                }
            };
            assert_eq!(image.size(), content.len() as u64);
            for chunk in 0..CHUNKS {
                let mut bytes = vec![0; CHUNK];
                match image.read_at((chunk * CHUNK) as u64, &mut bytes) {
                    Ok(_) => assert!(
                        bytes == content[chunk * CHUNK..(chunk + 1) * CHUNK],
                        "a wrong byte in {chunk}"
                    ),
                    Err(error) => failures += expect_damage(&error),
                }
            }
        }
        failures
    }

    fn scrub(&self) -> ScrubReport {
        let options = ScrubOptions { percent: 100.0, source: None };
        scrub(&self.repository(), &ScrubScope::Everything, &options, &SilentMonitor).unwrap()
    }
}

fn back_up_as_it_is(repository: &Repository, image: &Path) -> Result<Record> {
    let tags = vec!["daily".to_owned()];
    let options = BackupOptions { stream: "vm".to_owned(), tags, ..BackupOptions::default() };
    let source = Source::Image(Box::new(FileSource::open(image)?));
    backup(repository, source, &options, &CollectingMonitor::default()).map(|report| report.record)
}

/// Half noise, half text: stored compressed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![b'x'; CHUNK];
    for byte in bytes.iter_mut().take(CHUNK / 2) {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *byte = (state >> 33) as u8;
    }
    bytes
}

fn expect_damage(error: &Error) -> usize {
    assert!(
        error.is_damage() || error.is_not_found() || matches!(error, Error::NotARepository { .. }),
        "{error}"
    );
    1
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Flip,
    Truncate,
    TruncateToNothing,
    Delete,
}

const ACTIONS: [Action; 4] = [Action::Flip, Action::Truncate, Action::TruncateToNothing, Action::Delete];

impl Action {
    fn apply(self, path: &Path, seed: u64) {
        let length = fs::metadata(path).unwrap().len();
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        match self {
            Self::Flip => {
                let offset = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % length;
                let mut byte = [0];
                file.read_exact_at(&mut byte, offset).unwrap();
                file.write_all_at(&[byte[0] ^ (1 << (seed % 8))], offset).unwrap();
            }
            Self::Truncate => file.set_len(length / 2).unwrap(),
            Self::TruncateToNothing => file.set_len(0).unwrap(),
            Self::Delete => fs::remove_file(path).unwrap(),
        }
    }
}

#[test]
fn no_damage_of_any_file_gives_a_wrong_byte_or_a_panic() {
    for area in
        ["packs/data", "packs/metadata", "index", "revisions", "streams", "labels", "treering-repository"]
    {
        for action in ACTIONS {
            for seed in 0..6 {
                let world = World::new();
                let files = world.files(area);
                action.apply(&files[seed as usize % files.len()], seed + 1);
                world.read_all();
                if area != "treering-repository" {
                    world.scrub();
                }
            }
        }
    }
}

#[test]
fn a_damaged_or_lost_index_table_costs_nothing_but_time() {
    for action in ACTIONS {
        for seed in 0..8 {
            let world = World::new();
            let tables = world.files("index");
            action.apply(&tables[seed as usize % tables.len()], seed);
            assert_eq!(world.read_all(), 0, "{action:?} {seed}: the packs know all that the table knew");
            let found = world.scrub();
            assert!(!found.damaged_files.is_empty(), "{action:?} {seed}");
            assert!(found.bad.is_empty());
        }
    }
}

#[test]
fn damaged_packs_are_found_by_scrub_and_healed_by_the_next_backup() {
    for area in ["packs/data", "packs/metadata"] {
        for action in ACTIONS {
            for seed in 0..4 {
                let mut world = World::new();
                // The pack of the first revision: it has nearly all of the second one, too.
                let packs = world.files(area);
                let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
                action.apply(largest, seed);
                let unreadable = world.read_all();
                let found = world.scrub();
                assert!(!found.is_clean(), "{area} {action:?} {seed} was not found");
                assert_eq!(
                    unreadable > 0,
                    !found.bad.is_empty(),
                    "{area} {action:?} {seed}: {:?}",
                    found.damaged_files
                );
                if found.bad.is_empty() {
                    continue;
                }
                let listed = world.repository().damage().unwrap().objects.len();
                assert_eq!(listed, found.bad.len());
                let affected: BTreeSet<&String> =
                    found.bad.iter().flat_map(|bad| bad.revisions.iter().flatten()).collect();
                assert!(!affected.is_empty(), "{area} {action:?} {seed}");

                let content = world.contents[1].clone();
                world.back_up(&content).unwrap();
                let repository = world.repository();
                let stream = repository.stream("vm").unwrap();
                let newest = repository.latest(&stream).unwrap().unwrap();
                let mut bytes = vec![0; content.len()];
                repository.open_image(&newest).unwrap().read_at(0, &mut bytes).unwrap();
                assert!(bytes == content);
                // The second revision had the same bytes: its chunks are whole again, and of the first all but one.
                if area == "packs/data" {
                    assert!(world.read_all() <= 1, "{area} {action:?} {seed}");
                }
                let bad = world.scrub().bad;
                let still_named = |name: &str| {
                    bad.iter()
                        .any(|bad| bad.revisions.iter().flatten().any(|revision| revision.ends_with(name)))
                };
                assert!(!still_named(&newest.name), "{area} {action:?} {seed}: {bad:?}");
            }
        }
    }
}

#[test]
fn an_unchanged_file_is_read_again_where_its_revision_is_damaged() {
    let mut world = World::new();
    let image = world.directory.path().join("image");
    // Long settled: the next backup would take it over unread.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(&image).unwrap().set_modified(old).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    back_up_as_it_is(&world.repository(), &image).unwrap();
    let untouched = back_up_as_it_is(&world.repository(), &image).unwrap();
    assert_eq!(untouched.counters.bytes_read, 0);
    world.contents.extend([world.contents[1].clone(), world.contents[1].clone()]);

    let packs = world.files("packs/data");
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    Action::Flip.apply(largest, 1);
    assert!(!world.scrub().bad.is_empty());
    let healed = back_up_as_it_is(&world.repository(), &image).unwrap();
    assert_eq!(healed.counters.bytes_read, (CHUNKS * CHUNK) as u64);
    assert_eq!(healed.counters.chunks_new, 1);
    world.contents.push(world.contents[1].clone());
    assert_eq!(world.read_all(), 0);
    assert!(world.repository().damage().unwrap().objects.is_empty());
}

/// Flips a bit in the middle of a file, where blobs and entries lie.
fn flip_middle(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, length / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], length / 2).unwrap();
}

fn largest(files: Vec<PathBuf>) -> PathBuf {
    files.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

/// The newest revision, read whole.
fn newest_content(world: &World) -> Result<Vec<u8>> {
    let repository = world.repository();
    let newest = repository.latest(&repository.stream("vm")?)?.unwrap();
    let image = repository.open_image(&newest)?;
    let mut bytes = vec![0; image.size() as usize];
    image.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A node that rotted without anybody having noticed was taken for stored, and the new revision referred to it.
#[test]
fn a_damaged_node_is_stored_anew_without_a_scrub() {
    let mut world = World::new();
    for pack in world.files("packs/metadata") {
        flip_middle(&pack);
    }
    let content = world.contents[1].clone();
    world.back_up(&content).unwrap();
    assert!(newest_content(&world).unwrap() == content);
}

#[test]
fn a_damaged_parent_does_not_stop_the_backup_of_a_stream_of_bytes() {
    let world = World::new();
    for pack in world.files("packs/metadata") {
        flip_middle(&pack);
    }
    let content = world.contents[1].clone();
    let bytes = Box::new(std::io::Cursor::new(content.clone()));
    let source = Source::Stream { name: "stdin".to_owned(), bytes };
    let options = BackupOptions { stream: "vm".to_owned(), ..BackupOptions::default() };
    let monitor = CollectingMonitor::default();
    let report = backup(&world.repository(), source, &options, &monitor).unwrap();
    assert!(newest_content(&world).unwrap() == content);
    assert_eq!(report.record.warnings, monitor.warnings());
    assert!(
        report.record.warnings.iter().any(|warning| warning.contains("damaged")),
        "{:?}",
        report.record.warnings
    );
}

#[test]
fn a_damaged_table_does_not_stop_the_backup_that_would_merge_it() {
    let mut world = World::new();
    let mut content = world.contents[1].clone();
    for seed in 0..5 {
        content[..CHUNK].copy_from_slice(&noise(20_000 + seed));
        world.back_up(&content).unwrap();
    }
    let tables = world.files("index");
    assert_eq!(tables.len(), 7, "the next backup has to merge");
    flip_middle(&largest(tables));
    content[..CHUNK].copy_from_slice(&noise(30_000));
    world.back_up(&content).unwrap();
    assert_eq!(world.read_all(), 0);
}

/// The hints named what changed since a revision that can't be read, and were applied to the one before it.
#[test]
fn hints_relative_to_a_damaged_record_are_not_used() {
    let mut world = World::new();
    let newest = world.files("revisions").pop().unwrap();
    flip_middle(&newest);
    let image = world.directory.path().join("image");
    let options =
        BackupOptions { stream: "vm".to_owned(), hints: Some(b"[]".to_vec()), ..BackupOptions::default() };
    let source = Source::Image(Box::new(FileSource::open(&image).unwrap()));
    let report = backup(&world.repository(), source, &options, &SilentMonitor).unwrap();
    assert_eq!(report.record.counters.bytes_read, (CHUNKS * CHUNK) as u64);
    assert!(
        report.record.warnings.iter().any(|warning| warning.contains("hints")),
        "{:?}",
        report.record.warnings
    );
    world.contents.push(world.contents[1].clone());
    assert!(newest_content(&world).unwrap() == world.contents[1]);
}

#[test]
fn a_file_that_changes_its_size_after_it_was_opened_is_not_cut_off() {
    let world = World::new();
    let image = world.directory.path().join("image");
    for size in [CHUNKS * CHUNK / 2, CHUNKS * CHUNK * 2] {
        let source = FileSource::open(&image).unwrap();
        fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(size as u64).unwrap();
        let options = BackupOptions { stream: "vm".to_owned(), ..BackupOptions::default() };
        let error = backup(&world.repository(), Source::Image(Box::new(source)), &options, &SilentMonitor)
            .unwrap_err();
        assert!(matches!(error, Error::SourceRead { .. }), "{error}");
    }
    assert_eq!(world.files("revisions").len(), 2);
}

#[test]
fn a_second_stream_is_not_made_while_one_of_its_name_may_be_damaged() {
    let world = World::new();
    flip_middle(&world.files("streams")[0]);
    let image = world.directory.path().join("image");
    let error = back_up_as_it_is(&world.repository(), &image).unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert_eq!(world.files("streams").len(), 1);
}

#[test]
fn hints_do_not_keep_a_damaged_chunk_from_being_healed() {
    let mut world = World::new();
    let packs = world.files("packs/data");
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    Action::Flip.apply(largest, 1);
    assert!(!world.scrub().bad.is_empty());
    let options =
        BackupOptions { stream: "vm".to_owned(), hints: Some(b"[]".to_vec()), ..BackupOptions::default() };
    let image = world.directory.path().join("image");
    let source = Source::Image(Box::new(FileSource::open(&image).unwrap()));
    backup(&world.repository(), source, &options, &SilentMonitor).unwrap();
    world.contents.push(world.contents[1].clone());
    assert_eq!(world.read_all(), 0);
}

#[test]
fn a_pack_that_is_gone_is_noticed_without_a_scrub() {
    let mut world = World::new();
    let packs = world.files("packs/data");
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    let content = world.contents[1].clone();
    let record = world.back_up(&content).unwrap();
    assert_eq!(record.counters.chunks_new, CHUNKS as u64 - 1);
    let repository = world.repository();
    let mut bytes = vec![0; content.len()];
    repository.open_image(&record).unwrap().read_at(0, &mut bytes).unwrap();
    assert!(bytes == content);
}

/// A read of the whole source once gave a revision that could not be read.
#[test]
fn a_pack_that_is_gone_with_its_table_is_noticed_by_the_next_backup() {
    for touched in [true, false] {
        let mut world = World::new();
        let (packs, tables) = (world.files("packs/data"), world.files("index"));
        let largest = |files: &[PathBuf]| {
            files.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap().clone()
        };
        assert_eq!(tables.len(), 2);
        fs::remove_file(largest(&packs)).unwrap();
        fs::remove_file(largest(&tables)).unwrap();
        let content = world.contents[1].clone();
        if touched {
            world.back_up(&content).unwrap();
        } else {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let image = world.directory.path().join("image");
            back_up_as_it_is(&world.repository(), &image).unwrap();
            world.contents.push(content.clone());
        }
        assert!(newest_content(&world).unwrap() == content, "{touched}");
    }
}

/// Each failing read would list the packs anew, and a wrong entry was never found.
#[test]
fn a_table_that_is_wrong_though_its_checksums_are_right_is_found_and_read_past() {
    let world = World::new();
    for table in world.files("index") {
        move_entries(&table);
    }
    assert_eq!(world.read_all(), 0);
    let report = world.scrub();
    assert!(!report.is_clean());
    let said: Vec<&str> = report.damaged_files.iter().map(|(file, _)| file.as_str()).collect();
    assert!(said.contains(&"index/"), "{said:?}");
}

/// Moves the places in the entries of a table by a few bytes, and makes the checksums anew (`docs/format.md`, section 9).
fn move_entries(table: &Path) {
    const BLOCK: usize = 4096;
    let mut bytes = fs::read(table).unwrap();
    let id: [u8; 16] = bytes[8..24].try_into().unwrap();
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let entry_count = u64::from_le_bytes(bytes[48..56].try_into().unwrap()) as usize;
    let first = 1 + number(&bytes, 60);
    let key = blake3::derive_key("treering v1 index block", b"");
    for index in 0..entry_count {
        let at = (first + index / 85) * BLOCK + index % 85 * 48 + 36;
        let moved = number(&bytes, at) as u32 + 7;
        bytes[at..at + 4].copy_from_slice(&moved.to_le_bytes());
    }
    for block in first..first + entry_count.div_ceil(85) {
        let content = &bytes[block * BLOCK..(block + 1) * BLOCK - 16];
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&id).update(&(block as u64).to_le_bytes()).update(content);
        let checksum: [u8; 16] = hasher.finalize().as_bytes()[..16].try_into().unwrap();
        bytes[(block + 1) * BLOCK - 16..(block + 1) * BLOCK].copy_from_slice(&checksum);
    }
    fs::write(table, bytes).unwrap();
}
