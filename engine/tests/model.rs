//! Random sequences of changes and backups against plain copies.

#![allow(clippy::unwrap_used, reason = "a failure of a test's own means is a failure of the test")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use treering_engine::operations::backup::{BackupOptions, BackupReport, HintsBase, backup};
use treering_engine::operations::restore::{RestoreOptions, restore};
use treering_engine::{
    CreateOptions, FileSource, ImageReader, Method, Record, Repository, SilentMonitor, Source, operations,
};

/// SplitMix64: the same sequence for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        // Words of few different values, so that there is something to compress and to deduplicate.
        (0..length / 8 + 1).flat_map(|_| (self.next() % 1000).to_le_bytes()).take(length).collect()
    }
}

struct World {
    directory: tempfile::TempDir,
    repository: Repository,
    random: Random,
    revisions: Vec<(Record, PathBuf)>,
    /// Ranges that were changed since the last backup, and whether they hold data.
    changed: Vec<(u64, u64)>,
}

const CHUNK: u64 = 4096;

impl World {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = CreateOptions { chunk_size: CHUNK as u32, ..CreateOptions::default() };
        let repository = Repository::create(&directory.path().join("repository"), &options).unwrap();
        File::create(directory.path().join("image")).unwrap();
        Self { directory, repository, random: Random(seed), revisions: Vec::new(), changed: Vec::new() }
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn size(&self) -> u64 {
        fs::metadata(self.image()).unwrap().len()
    }

    fn change(&mut self) {
        let file = OpenOptions::new().read(true).write(true).open(self.image()).unwrap();
        let size = self.size();
        match self.random.below(10) {
            0 => {
                // Up to 3 GiB, sparse: two levels of inner nodes.
                let new = self.random.below(3 << 30);
                file.set_len(new).unwrap();
                self.changed.retain_mut(|(offset, length)| {
                    *length = (*length).min(new.saturating_sub(*offset));
                    *length > 0
                });
            }
            1 if size > 0 => {
                let offset = self.random.below(size);
                let length = self.random.below((size - offset).min(1 << 24)) + 1;
                punch(&file, offset, length.min(size - offset));
                self.changed.push((offset, length.min(size - offset)));
            }
            2 if size > 0 => {
                let offset = self.random.below(size);
                let length = self.random.below(100_000).min(size - offset) as usize;
                file.write_all_at(&vec![0; length], offset).unwrap();
                self.changed.push((offset, length as u64));
            }
            _ => {
                let offset = self.random.below(size + 200_000);
                let length = self.random.below(300_000) as usize + 1;
                let bytes = self.random.bytes(length);
                file.write_all_at(&bytes, offset).unwrap();
                self.changed.push((offset, length as u64));
            }
        }
    }

    fn options(&mut self) -> BackupOptions {
        let mut options = BackupOptions { stream: "vm".to_owned(), ..BackupOptions::default() };
        match self.random.below(4) {
            0 => options.force_read = true,
            1 | 2 => {
                options.hints = Some(self.hints());
                if self.revisions.is_empty() {
                    options.hints_base = HintsBase::Nothing;
                }
            }
            _ => {}
        }
        options
    }

    /// What a source that knows its changes would say: sorted, disjoint, holes as such.
    fn hints(&mut self) -> Vec<u8> {
        let mut ranges: Vec<(u64, u64)> =
            self.changed.iter().map(|(offset, length)| (*offset, offset + length)).collect();
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (start, end) in ranges {
            match joined.last_mut() {
                Some(last) if last.1 >= start => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        let source = SparseFile(File::open(self.image()).unwrap());
        let hints: Vec<String> = joined
            .into_iter()
            .filter(|(start, end)| start < end)
            .map(|(start, end)| {
                let exists = !source.is_zero(start, end);
                format!(r#"{{"offset":{start},"length":{},"exists":"{exists}"}}"#, end - start)
            })
            .collect();
        format!("[{}]", hints.join(",")).into_bytes()
    }

    fn back_up(&mut self) -> BackupReport {
        let options = self.options();
        let source = Source::Image(Box::new(FileSource::open(&self.image()).unwrap()));
        let report = backup(&self.repository, source, &options, &SilentMonitor).unwrap();
        if options.hints.is_some() {
            assert_eq!(report.record.method, Method::Hints, "true hints were not believed");
        }
        let copy = self.directory.path().join(format!("copy-{}", self.revisions.len()));
        let status =
            std::process::Command::new("cp").arg("--sparse=always").arg(self.image()).arg(&copy).status();
        assert!(status.unwrap().success());
        self.revisions.push((report.record.clone(), copy));
        self.changed.clear();
        report
    }

    fn check_all(&mut self) {
        // A fresh process would see the same.
        let repository = Repository::open(&self.directory.path().join("repository"), 8 << 20).unwrap();
        let stream = repository.stream("vm").unwrap();
        let keys = repository.revisions(&stream).unwrap();
        assert_eq!(keys.len(), self.revisions.len());
        for ((record, copy), key) in self.revisions.iter().zip(keys) {
            assert_eq!(&repository.record(&stream, &key).unwrap(), record);
            let image = repository.open_image(record).unwrap();
            compare(&image, copy, &mut self.random);
        }
        let last = self.revisions.len() - 1;
        let (a, b) = (self.random.below(last as u64 + 1) as usize, last);
        compare_diff(&repository, &self.revisions[a], &self.revisions[b]);
    }
}

fn punch(file: &File, offset: u64, length: u64) {
    use rustix::fs::FallocateFlags;
    rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)
        .unwrap();
}

/// Reads a sparse file without its holes.
struct SparseFile(File);

impl SparseFile {
    fn ranges(&self) -> Vec<(u64, u64)> {
        use rustix::fs::{SeekFrom, seek};
        let mut ranges = Vec::new();
        let mut at = 0;
        while let Ok(start) = seek(&self.0, SeekFrom::Data(at)) {
            at = seek(&self.0, SeekFrom::Hole(start)).unwrap();
            ranges.push((start, at));
        }
        ranges
    }

    fn is_zero(&self, start: u64, end: u64) -> bool {
        self.ranges().into_iter().all(|(from, to)| {
            let (from, to) = (from.max(start), to.min(end));
            from >= to || self.read(from, to).iter().all(|&byte| byte == 0)
        })
    }

    fn read(&self, start: u64, end: u64) -> Vec<u8> {
        let mut bytes = vec![0; (end - start) as usize];
        self.0.read_exact_at(&mut bytes, start).unwrap();
        bytes
    }

    /// Chunks with a byte that is not zero.
    fn data_chunks(&self, size: u64) -> Vec<u64> {
        let mut chunks = Vec::new();
        for (start, end) in self.ranges() {
            for chunk in start / CHUNK..end.div_ceil(CHUNK) {
                let bytes = self.read(chunk * CHUNK, ((chunk + 1) * CHUNK).min(size));
                if bytes.iter().any(|&byte| byte != 0) && chunks.last() != Some(&chunk) {
                    chunks.push(chunk);
                }
            }
        }
        chunks
    }
}

fn compare(image: &ImageReader, copy: &Path, random: &mut Random) {
    let file = SparseFile(File::open(copy).unwrap());
    let size = fs::metadata(copy).unwrap().len();
    assert_eq!(image.size(), size);
    let expected = file.data_chunks(size);
    let mut found = Vec::new();
    let mut data_bytes = 0;
    for range in image.data_ranges() {
        let range = range.unwrap();
        data_bytes += range.end - range.start;
        found.extend(range.start / CHUNK..range.end.div_ceil(CHUNK));
        let mut bytes = vec![0; (range.end - range.start) as usize];
        assert_eq!(image.read_at(range.start, &mut bytes).unwrap(), bytes.len());
        assert!(bytes == file.read(range.start, range.end), "{range:?}");
    }
    assert_eq!(found, expected, "data lies elsewhere");
    assert_eq!(image.data_bytes(), data_bytes);
    for _ in 0..20 {
        let offset = random.below(size + 10_000);
        let mut bytes = vec![0xaa; random.below(50_000) as usize];
        let read = image.read_at(offset, &mut bytes).unwrap();
        assert_eq!(read as u64, size.saturating_sub(offset).min(bytes.len() as u64));
        if read > 0 {
            assert!(bytes[..read] == file.read(offset, offset + read as u64), "at {offset}");
        }
    }
}

fn compare_diff(repository: &Repository, a: &(Record, PathBuf), b: &(Record, PathBuf)) {
    let diff = operations::diff::diff_images(repository, &a.0, &b.0).unwrap();
    let chunks: Vec<u64> =
        diff.ranges.iter().flat_map(|range| range.start / CHUNK..range.end.div_ceil(CHUNK)).collect();
    let files =
        [a, b].map(|(_, copy)| (SparseFile(File::open(copy).unwrap()), fs::metadata(copy).unwrap().len()));
    let mut candidates: Vec<u64> = files.iter().flat_map(|(file, size)| file.data_chunks(*size)).collect();
    candidates.sort_unstable();
    candidates.dedup();
    let content = |chunk: u64| {
        files.each_ref().map(|(file, size)| {
            let (start, end) = ((chunk * CHUNK).min(*size), ((chunk + 1) * CHUNK).min(*size));
            let bytes = file.read(start, end);
            // Data of another length is another chunk; a hole is a hole at any length.
            if bytes.iter().all(|&byte| byte == 0) { Vec::new() } else { bytes }
        })
    };
    let expected: Vec<u64> = candidates
        .into_iter()
        .filter(|&chunk| {
            let [a, b] = content(chunk);
            a != b
        })
        .collect();
    assert_eq!(chunks, expected);
}

#[test]
fn every_revision_stays_what_its_source_was() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        for _ in 0..6 {
            for _ in 0..world.random.below(6) {
                world.change();
            }
            world.back_up();
        }
        world.check_all();
    }
}

#[test]
fn a_restore_in_place_turns_any_revision_into_any_other() {
    for seed in 100..102 {
        let mut world = World::new(seed);
        for _ in 0..4 {
            for _ in 0..4 {
                world.change();
            }
            world.back_up();
        }
        let target = world.directory.path().join("target");
        for _ in 0..4 {
            let index = world.random.below(world.revisions.len() as u64) as usize;
            let (record, copy) = &world.revisions[index];
            let image = world.repository.open_image(record).unwrap();
            let options = RestoreOptions { in_place: true, verify: true, ..RestoreOptions::default() };
            restore(&image, "vm", &world.repository, &target, &options, &SilentMonitor).unwrap();
            compare_files(&target, copy);
            let allocated = SparseFile(File::open(&target).unwrap()).data_chunks(image.size());
            assert_eq!(allocated.len() as u64 * CHUNK / CHUNK, image.data_bytes().div_ceil(CHUNK));
        }
    }
}

fn compare_files(a: &Path, b: &Path) {
    let status = std::process::Command::new("cmp").arg(a).arg(b).status().unwrap();
    assert!(status.success(), "{} differs from {}", a.display(), b.display());
}
