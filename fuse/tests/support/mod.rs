//! What the tests of this crate share: images with known bytes and holes, repositories, mounts that go away.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

pub(crate) mod damage;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use treering_engine::operations::backup::{BackupOptions, backup};
use treering_engine::{
    CreateOptions, FileSource, Record, Repository, SilentMonitor, Source, TreeOptions, TreeSource,
};
use treering_fuse::{Mount, MountOptions};

/// A generator of numbers that is the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Bytes that compress to about a half, and in which no chunk is like another.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
            bytes.extend_from_slice(b"treering");
        }
        bytes.truncate(length);
        bytes
    }
}

pub(crate) const CHUNK: u64 = 64 << 10;

/// Where an image of the tests has data; the size is not a multiple of anything.
pub(crate) const SIZE: u64 = 23 * (1 << 20) + 12_345;

/// Whole chunks with data, as the mount must tell them.
pub(crate) fn data_ranges() -> Vec<Range<u64>> {
    vec![
        0..CHUNK,
        3 * CHUNK..40 * CHUNK,
        100 * CHUNK..101 * CHUNK,
        200 * CHUNK..280 * CHUNK,
        SIZE / CHUNK * CHUNK..SIZE,
    ]
}

/// Makes a sparse image with data in the ranges of [`data_ranges`].
pub(crate) fn make_image(path: &Path, seed: u64) {
    let file = File::create(path).unwrap();
    file.set_len(SIZE).unwrap();
    let mut numbers = Numbers::new(seed);
    for range in data_ranges() {
        let bytes = numbers.bytes((range.end - range.start) as usize);
        file.write_all_at(&bytes, range.start).unwrap();
    }
}

/// A directory with a repository, an image, and a place to mount on.
pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) repository: Repository,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository =
            Repository::create(&directory.path().join("repository"), &CreateOptions::default()).unwrap();
        Self { directory, repository }
    }

    /// A fixture whose stream `vm1` has one revision of the image.
    pub(crate) fn with_image() -> Self {
        let fixture = Self::new();
        make_image(&fixture.image(), 1);
        fixture.back_up("vm1", &[]);
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.path("disk.raw")
    }

    /// The bytes that were backed up, as long as the file has not been changed since.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.image()).unwrap()
    }

    /// Backs up the directory `tree`.
    pub(crate) fn back_up_tree(&self, stream: &str) -> Record {
        let source = TreeSource::open(&self.path("tree"), TreeOptions::default()).unwrap();
        self.back_up_source(Source::Tree(Box::new(source)), stream, &[])
    }

    pub(crate) fn back_up(&self, stream: &str, tags: &[&str]) -> Record {
        let source = Source::Image(Box::new(FileSource::open(&self.image()).unwrap()));
        self.back_up_source(source, stream, tags)
    }

    fn back_up_source(&self, source: Source, stream: &str, tags: &[&str]) -> Record {
        let options = BackupOptions {
            stream: stream.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..Default::default()
        };
        backup(&self.repository, source, &options, &SilentMonitor).unwrap().record
    }

    /// The repository opened anew: caches are empty.
    pub(crate) fn reopened(&self) -> Repository {
        Repository::open(&self.path("repository"), 64 << 20).unwrap()
    }

    pub(crate) fn mount(&self) -> Mounted {
        self.mount_with(&MountOptions::default())
    }

    pub(crate) fn mount_with(&self, options: &MountOptions) -> Mounted {
        let place = tempfile::tempdir().unwrap();
        let mount = treering_fuse::mount(&self.reopened(), place.path(), options).unwrap();
        Mounted { mount: Some(mount), place: Some(place) }
    }

    /// All stored files below an area of the repository.
    pub(crate) fn stored(&self, area: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut left = vec![self.path("repository").join(area)];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { left.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

/// A mount that goes away with the test, also with one that fails.
pub(crate) struct Mounted {
    mount: Option<Mount>,
    place: Option<tempfile::TempDir>,
}

impl Mounted {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.as_ref().unwrap().path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.place.as_ref().unwrap().path().to_owned()
    }

    pub(crate) fn mount(&self) -> &Mount {
        self.mount.as_ref().unwrap()
    }

    pub(crate) fn take(&mut self) -> Mount {
        self.mount.take().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.mount.take());
        if let Some(place) = self.place.take() {
            // Whatever is still there: a directory below a mount must not be walked and removed.
            let path = place.keep();
            let _ = treering_fuse::unmount(&path);
            let _ = std::fs::remove_dir(&path);
        }
    }
}

/// Says something to who runs the tests, past what the harness swallows.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether real mounts can be tested here; says loudly if not.
pub(crate) fn can_mount(test: &str) -> bool {
    let fuse = File::options().read(true).write(true).open("/dev/fuse").is_ok();
    let root = rustix::process::geteuid().is_root();
    if !(fuse && root) {
        note(&format!("SKIPPED {test}: needs root and /dev/fuse"));
    }
    fuse && root
}

/// Runs a program and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The data ranges of a file as SEEK_DATA and SEEK_HOLE tell them.
pub(crate) fn seek_map(file: &File) -> Vec<Range<u64>> {
    let size = file.metadata().unwrap().len();
    let (mut ranges, mut offset) = (Vec::new(), 0);
    while offset < size {
        let start = match seek(file, SeekFrom::Data(offset)) {
            Err(Errno::NXIO) => break,
            other => other.unwrap(),
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap();
        assert!(start >= offset && end > start, "{offset} {start} {end}");
        ranges.push(start..end);
        offset = end;
    }
    ranges
}

/// Names in a directory, without asking for anything else; sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until something holds; how long may not decide whether a test passes, so the bound is generous.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
