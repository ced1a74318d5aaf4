//! Restores from damaged repositories and to difficult targets.

#![allow(clippy::unwrap_used, reason = "a failure of a test's own means is a failure of the test")]

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use treering_engine::operations::backup::{BackupOptions, backup};
use treering_engine::operations::restore::{RestoreOptions, partial_file, restore};
use treering_engine::{
    CreateOptions, Error, FileSource, ImageReader, Monitor, Repository, Result, SilentMonitor, Source,
};

const CHUNK: u64 = 4096;
const LEAF: u64 = 256 * CHUNK;
/// More than one inner node of the lowest level.
const SIZE: u64 = 258 * LEAF;

const IN_PLACE: RestoreOptions = RestoreOptions { in_place: true, overwrite: false, verify: false };
const OVERWRITE: RestoreOptions = RestoreOptions { in_place: false, overwrite: true, verify: false };
const NEW: RestoreOptions = RestoreOptions { in_place: false, overwrite: false, verify: false };

struct World {
    directory: tempfile::TempDir,
}

impl World {
    /// An image with data in three leaves, the last of them below another inner node.
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        let options = CreateOptions { chunk_size: CHUNK as u32, ..CreateOptions::default() };
        let repository = Repository::create(&world.path("repository"), &options).unwrap();
        let image = File::create(world.path("image")).unwrap();
        image.set_len(SIZE).unwrap();
        for range in data() {
            image.write_all_at(&noise(&range), range.start).unwrap();
        }
        let source = Source::Image(Box::new(FileSource::open(&world.path("image")).unwrap()));
        let options = BackupOptions { stream: "vm".to_owned(), ..BackupOptions::default() };
        backup(&repository, source, &options, &SilentMonitor).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn repository(&self) -> Repository {
        Repository::open(&self.path("repository"), 1 << 20).unwrap()
    }

    fn image(&self, repository: &Repository) -> Result<ImageReader> {
        let stream = repository.stream("vm")?;
        let key = repository.revisions(&stream)?[0].clone();
        repository.open_image(&repository.record(&stream, &key)?)
    }

    fn restore(&self, target: &str, options: &RestoreOptions) -> Result<()> {
        let repository = self.repository();
        let image = self.image(&repository)?;
        restore(&image, "vm@1", &repository, &self.path(target), options, &SilentMonitor).map(|_| ())
    }

    fn metadata_pack(&self) -> PathBuf {
        let mut directories = vec![self.path("repository/packs/metadata")];
        let mut packs = Vec::new();
        while let Some(directory) = directories.pop() {
            match directory.is_dir() {
                true => {
                    directories.extend(fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()))
                }
                false => packs.push(directory),
            }
        }
        assert_eq!(packs.len(), 1);
        packs.swap_remove(0)
    }

    /// Fails unless a restored file is right outside of the damaged ranges, and as it was in them.
    fn assert_restored(&self, restored: &Path, damaged: &[Range<u64>], before: u8) {
        let file = File::open(restored).unwrap();
        assert_eq!(file.metadata().unwrap().len(), SIZE);
        let image = File::open(self.path("image")).unwrap();
        let (mut wanted, mut found) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
        let looked_at = data().into_iter().map(|range| range.start / CHUNK - 1..range.end / CHUNK + 1);
        for chunk in looked_at.flatten() {
            let offset = chunk * CHUNK;
            image.read_exact_at(&mut wanted, offset).unwrap();
            if damaged.iter().any(|range| range.contains(&offset)) {
                wanted.fill(before);
            }
            file.read_exact_at(&mut found, offset).unwrap();
            assert!(wanted == found, "chunk {chunk}");
        }
    }
}

/// Where the image has data: chunks, and a hole, on both sides of each range.
fn data() -> [Range<u64>; 3] {
    [
        LEAF / 2..LEAF - 2 * CHUNK,
        LEAF + CHUNK..2 * LEAF - 2 * CHUNK,
        257 * LEAF + CHUNK..258 * LEAF - CHUNK * 2,
    ]
}

fn noise(range: &Range<u64>) -> Vec<u8> {
    let word = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (range.start / 8..range.end / 8).flat_map(word).collect()
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn refusal(result: Result<()>) -> String {
    match result {
        Err(Error::UnusableTarget { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_node_of_the_map_costs_its_span_and_no_more() {
    let world = World::new();
    let pack = world.metadata_pack();
    let length = fs::metadata(&pack).unwrap().len();
    let mut spans = Vec::new();
    // Leaves are large, inner nodes small and behind them.
    let inner = (length.saturating_sub(1200)..length).step_by(60);
    for offset in (200..length - 1200).step_by(4000).chain(inner) {
        flip(&pack, offset);
        let repository = world.repository();
        if let Ok(image) = world.image(&repository) {
            let ranges: Vec<Range<u64>> = image.data_ranges().collect::<Result<_>>().unwrap();
            let _ = fs::remove_file(world.path("out.treering-partial"));
            match world.restore("out", &NEW) {
                Ok(()) => {
                    assert_eq!(ranges, data(), "{offset}");
                    world.assert_restored(&world.path("out"), &[], 0);
                    fs::remove_file(world.path("out")).unwrap();
                }
                Err(Error::Damaged { ranges: damaged, .. }) => {
                    for lost in &damaged {
                        let is_in = |range: &Range<u64>| range.start <= lost.start && lost.end <= range.end;
                        assert!(ranges.iter().any(is_in), "{offset}: {damaged:?} in {ranges:?}");
                    }
                    let partial = partial_file(&world.path("out")).unwrap();
                    world.assert_restored(&partial, &damaged, 0);
                    spans.push(damaged);
                }
                Err(error) => panic!("{offset}: {error}"),
            }
        }
        flip(&pack, offset);
    }
    for wanted in [0..LEAF, LEAF..2 * LEAF, 257 * LEAF..258 * LEAF, 256 * LEAF..258 * LEAF] {
        assert!(spans.iter().any(|span| span.as_slice() == [wanted.clone()]), "{wanted:?} of {spans:?}");
    }
}

#[test]
fn in_place_all_but_the_damaged_span_is_written() {
    let world = World::new();
    let pack = world.metadata_pack();
    let target = File::create(world.path("out")).unwrap();
    target.set_len(SIZE).unwrap();
    for range in data() {
        target.write_all_at(&vec![0xee; (range.end - range.start) as usize], range.start).unwrap();
    }
    drop(target);
    flip(&pack, 4000);
    let Err(Error::Damaged { ranges, .. }) = world.restore("out", &IN_PLACE) else { panic!() };
    assert_eq!(ranges.len(), 1);
    let file = File::open(world.path("out")).unwrap();
    let mut found = vec![0; CHUNK as usize];
    for range in data() {
        let is_damaged = ranges[0].start <= range.start && range.end <= ranges[0].end;
        file.read_exact_at(&mut found, range.start).unwrap();
        let wanted = match is_damaged {
            true => vec![0xee; CHUNK as usize],
            false => noise(&(range.start..range.start + CHUNK)),
        };
        assert!(found == wanted, "{range:?}");
    }
}

#[test]
fn two_restores_to_the_same_file_do_not_mix() {
    let world = World::new();
    fs::write(world.path("out"), "old").unwrap();
    for (locked, options) in [("out", IN_PLACE), ("out.treering-partial", OVERWRITE)] {
        let other = File::create(world.path(locked)).unwrap();
        other.lock().unwrap();
        assert!(refusal(world.restore("out", &options)).contains("another restore"));
        assert_eq!(other.metadata().unwrap().len(), 0, "left alone");
    }
    world.restore("out", &OVERWRITE).unwrap();
    world.assert_restored(&world.path("out"), &[], 0);
}

#[test]
fn an_unfinished_file_that_leads_elsewhere_is_refused() {
    let world = World::new();
    let (precious, partial) = (world.path("precious"), world.path("out.treering-partial"));
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, &partial).unwrap();
    assert!(refusal(world.restore("out", &NEW)).contains("not a plain file"));
    fs::remove_file(&partial).unwrap();
    fs::hard_link(&precious, &partial).unwrap();
    assert!(refusal(world.restore("out", &NEW)).contains("not a plain file"));
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}

#[test]
fn a_link_to_nothing_is_refused_before_anything_is_written() {
    let world = World::new();
    symlink(world.path("missing"), world.path("out")).unwrap();
    for options in [NEW, IN_PLACE, OVERWRITE] {
        assert!(refusal(world.restore("out", &options)).contains("symbolic link"));
    }
    assert!(partial_file(&world.path("out")).is_none());
}

#[test]
fn a_replaced_file_keeps_its_mode_and_a_new_one_is_private() {
    let world = World::new();
    let mode = |name| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o7777;
    world.restore("new", &NEW).unwrap();
    assert_eq!(mode("new"), 0o600);
    fs::write(world.path("old"), "old").unwrap();
    // More than what the umask lets through, and an unfinished file that was private.
    fs::set_permissions(world.path("old"), fs::Permissions::from_mode(0o666)).unwrap();
    File::create(world.path("old.treering-partial")).unwrap();
    world.restore("old", &OVERWRITE).unwrap();
    assert_eq!(mode("old"), 0o666);
}

/// Spoils the target as soon as it is read back.
struct Spoiler {
    target: PathBuf,
    offset: u64,
}

impl Monitor for Spoiler {
    fn begin(&self, task: &str, _total_bytes: Option<u64>) {
        if task == "verifying" {
            let file = OpenOptions::new().write(true).open(&self.target).unwrap();
            file.write_all_at(b"!", self.offset).unwrap();
        }
    }

    fn advance(&self, _bytes: u64) {}

    fn warn(&self, _message: &str) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn what_is_not_as_it_was_written_is_found() {
    let world = World::new();
    let (repository, target) = (world.repository(), world.path("out"));
    let image = world.image(&repository).unwrap();
    let hole = (0..SIZE / CHUNK)
        .map(|slot| slot * CHUNK)
        .find(|offset| data().iter().all(|range| !range.contains(offset)));
    for offset in [data()[0].start + 17, data()[2].end - 1, hole.unwrap() + 5] {
        let _ = fs::remove_file(&target);
        File::create(&target).unwrap();
        let options = RestoreOptions { verify: true, ..IN_PLACE };
        let spoiler = Spoiler { target: target.clone(), offset };
        let found = restore(&image, "vm", &repository, &target, &options, &spoiler).unwrap_err();
        let Error::VerifyFailed { offset: first, .. } = found else { panic!("{found}") };
        assert_eq!(first, offset / CHUNK * CHUNK);
    }
}
