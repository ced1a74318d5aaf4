//! Backups of directory trees, read back entry by entry.

#![allow(clippy::unwrap_used, reason = "a failure of a test's own means is a failure of the test")]
#![allow(clippy::print_stdout, reason = "tests say aloud what they skip")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, XattrFlags, fallocate, makedev, mknodat, setxattr};
use treering_engine::operations::backup::{BackupOptions, BackupReport, backup};
use treering_engine::{
    Content, CreateOptions, DirectoryTop, Entry, EntryContent, Error, FileData, FileExtent, Monitor, Record,
    Repository, Result, SilentMonitor, Source, Timestamp, TreeOptions, TreeReader, TreeSource,
};

struct World {
    directory: tempfile::TempDir,
    repository: Repository,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("repository");
        let repository = Repository::create(&path, &CreateOptions::default()).unwrap();
        fs::create_dir(directory.path().join("source")).unwrap();
        Self { directory, repository }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("source").join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A backup of the settled source.
    fn backup(&self) -> BackupReport {
        settle();
        self.run(&options(), &SilentMonitor).unwrap()
    }

    fn run(&self, options: &BackupOptions, monitor: &dyn Monitor) -> Result<BackupReport> {
        self.run_with(TreeOptions::default(), options, monitor)
    }

    fn run_with(
        &self,
        tree: TreeOptions,
        options: &BackupOptions,
        monitor: &dyn Monitor,
    ) -> Result<BackupReport> {
        let source = TreeSource::open(&self.directory.path().join("source"), tree)?;
        backup(&self.repository, Source::Tree(Box::new(source)), options, monitor)
    }

    fn open(&self, record: &Record) -> TreeReader {
        self.repository.open_tree(record).unwrap()
    }

    fn find(&self, report: &BackupReport, path: &str) -> Option<Entry> {
        self.open(&report.record).find(path.as_bytes()).unwrap()
    }

    fn data(&self, report: &BackupReport, path: &str) -> FileData {
        match self.find(report, path).unwrap().content {
            EntryContent::File(data) => data,
            other => panic!("{path} is {other:?}"),
        }
    }

    /// Fails unless the revision has all that the source has, and nothing else.
    #[track_caller]
    fn assert_same(&self, report: &BackupReport) {
        let tree = self.open(&report.record);
        let root = self.directory.path().join("source");
        let mut compare = Compare { tree: &tree, entries: 0 };
        compare.entry(&root, tree.root());
        let Content::Tree(content) = &report.record.content else { panic!("no tree") };
        assert_eq!(content.entries, compare.entries);
        assert_eq!(tree.totals().entries(), Some(compare.entries));
    }
}

fn options() -> BackupOptions {
    BackupOptions { stream: "home".to_owned(), ..BackupOptions::default() }
}

/// Until a further change shows in the times of files.
fn settle() {
    std::thread::sleep(Duration::from_millis(2_100));
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8 + 1).flat_map(|_| next()).take(length).collect()
}

fn time(seconds: i64, nanoseconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: nanoseconds as u32 }
}

/// The comparison of a source with a tree.
struct Compare<'a> {
    tree: &'a TreeReader,
    entries: u64,
}

impl Compare<'_> {
    #[track_caller]
    fn entry(&mut self, path: &Path, entry: &Entry) {
        self.entries += 1;
        let found = fs::symlink_metadata(path).unwrap();
        let shown = path.display();
        let stored = &entry.metadata;
        assert_eq!(u32::from(stored.mode), found.mode() & 0o7777, "{shown}");
        assert_eq!((stored.uid, stored.gid), (found.uid(), found.gid()), "{shown}");
        assert_eq!(u64::from(stored.links), found.nlink(), "{shown}");
        assert_eq!(stored.inode, found.ino(), "{shown}");
        assert_eq!(stored.mtime, time(found.mtime(), found.mtime_nsec()), "{shown}");
        assert_eq!(stored.ctime, time(found.ctime(), found.ctime_nsec()), "{shown}");
        let kind = found.file_type();
        assert_eq!(entry.has_other_names, !kind.is_dir() && found.nlink() > 1, "{shown}");
        self.attributes(path, entry);
        match &entry.content {
            EntryContent::File(data) => self.file(path, data),
            EntryContent::Directory(top) => self.directory(path, top.as_ref()),
            EntryContent::Symlink(target) => {
                assert_eq!(target.as_bytes(), fs::read_link(path).unwrap().as_os_str().as_bytes());
            }
            EntryContent::BlockDevice { .. } => assert!(kind.is_block_device(), "{shown}"),
            EntryContent::CharacterDevice { major, minor } => {
                assert_eq!(makedev(*major, *minor), found.rdev(), "{shown}");
            }
            EntryContent::Fifo => assert!(kind.is_fifo(), "{shown}"),
            EntryContent::Socket => assert!(kind.is_socket(), "{shown}"),
        }
    }

    fn directory(&mut self, path: &Path, top: Option<&DirectoryTop>) {
        let stored: Vec<Entry> = self.tree.entries(top, None).collect::<Result<_>>().unwrap();
        let mut names: Vec<OsString> =
            fs::read_dir(path).unwrap().map(|one| one.unwrap().file_name()).collect();
        names.sort();
        let stored_names: Vec<&[u8]> = stored.iter().map(|entry| entry.name.as_bytes()).collect();
        assert_eq!(stored_names, names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
        for entry in &stored {
            let found = self.tree.lookup(top, entry.name.as_bytes()).unwrap();
            assert_eq!(found.as_ref(), Some(entry));
            self.entry(&path.join(OsStr::from_bytes(entry.name.as_bytes())), entry);
        }
    }

    fn file(&self, path: &Path, data: &FileData) {
        let expected = fs::read(path).unwrap();
        let reader = self.tree.open_file(data);
        assert_eq!(reader.size(), expected.len() as u64, "{}", path.display());
        let mut content = vec![0xaa; expected.len()];
        assert_eq!(reader.read_at(0, &mut content).unwrap(), expected.len());
        assert!(content == expected, "{}", path.display());
    }

    fn attributes(&self, path: &Path, entry: &Entry) {
        let stored: BTreeMap<Vec<u8>, Vec<u8>> = self
            .tree
            .attributes(entry)
            .unwrap()
            .iter()
            .flat_map(|list| list.iter())
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        assert_eq!(stored, attributes_of(path), "{}", path.display());
    }
}

/// The attributes that the system tells of a path.
fn attributes_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Sets an attribute where the file system has any.
fn set_attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    let set = setxattr(path, name, value, XattrFlags::empty());
    if let Err(error) = set {
        println!("SKIPPED: {name} can't be set here: {error}");
    }
    set.is_ok()
}

/// Something of each kind.
fn fill(world: &World) {
    world.write("empty", b"");
    world.write("small", b"a few bytes");
    world.write("medium", &noise(1, 100_000));
    world.write("large", &noise(2, 5_000_001));
    world.write("vm.img", &noise(3, 3_000_000));
    world.write("a/b/c/deep", b"deep");
    fs::create_dir(world.path("empty directory")).unwrap();
    for number in 0..50 {
        world.write(&format!("many/{number}"), &noise(number + 10, 300 * number as usize));
    }
    symlink("../nowhere", world.path("link")).unwrap();
    symlink("a/b", world.path("link to a directory")).unwrap();
    UnixListener::bind(world.path("socket")).unwrap();
    mknodat(CWD, world.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    if mknodat(CWD, world.path("null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).is_err() {
        println!("SKIPPED: no device can be made here");
    }
    fs::hard_link(world.path("medium"), world.path("a/another name")).unwrap();
    fs::hard_link(world.path("small"), world.path("z small")).unwrap();
    fs::hard_link(world.path("link"), world.path("link too")).unwrap();
    fs::set_permissions(world.path("small"), Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(world.path("a/b"), Permissions::from_mode(0o1777)).unwrap();
    let old = OpenOptions::new().write(true).open(world.path("medium")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH - Duration::from_millis(1_500)).unwrap();
    let bytes = [&b"not \xff\xfe text"[..], b"new\nline", &[b'x'; 255]];
    for name in bytes {
        let name = OsString::from_vec(name.to_vec());
        fs::write(world.path("a").join(name), b"content").unwrap();
    }
    set_attribute(&world.path("small"), "user.note", b"short");
    set_attribute(&world.path("a"), "user.of.a.directory", b"\0binary");
    set_attribute(&world.path("medium"), "user.long", &noise(4, 3_000));
}

#[test]
fn a_tree_reads_back_as_it_was() {
    let world = World::new();
    fill(&world);
    let report = world.backup();
    assert_eq!((report.problem_count, report.record.warnings.len()), (0, 0), "{:?}", report.record.warnings);
    world.assert_same(&report);
    let tree = world.open(&report.record);
    let owner = fs::metadata(world.path("small")).unwrap();
    if owner.uid() == 0 {
        assert_eq!((tree.user_name(0), tree.group_name(0)), (Some(&b"root"[..]), Some(&b"root"[..])));
    }
    let totals = tree.totals();
    assert_eq!(totals.files + totals.directories + totals.others, totals.entries().unwrap());
    assert!(report.record.counters.bytes_read >= 8_000_001);
    assert!(report.record.counters.bytes_stored > 8_000_001, "noise does not compress");
}

#[test]
fn an_unchanged_tree_is_taken_over_unread_and_stores_next_to_nothing() {
    let world = World::new();
    fill(&world);
    let first = world.backup();
    let second = world.backup();
    let counters = second.record.counters;
    assert_eq!((counters.bytes_read, counters.chunks_new, counters.bytes_changed), (0, 0, 0));
    assert_eq!(second.record.content, first.record.content);
    assert!(counters.bytes_stored < 2_000, "{}", counters.bytes_stored);
    assert_eq!(second.record.parent, Some(first.record.id));
    assert_eq!(counters.chunks_total, first.record.counters.chunks_total);
    world.assert_same(&second);
}

#[test]
fn all_is_read_where_that_is_asked_for() {
    let world = World::new();
    fill(&world);
    let first = world.backup();
    let forced = world.run(&BackupOptions { force_read: true, ..options() }, &SilentMonitor).unwrap();
    assert_eq!(forced.record.counters.bytes_read, first.record.counters.bytes_read);
    assert_eq!(forced.record.counters.chunks_new, 0);
    assert_eq!(forced.record.content, first.record.content);
}

#[test]
fn a_renamed_directory_costs_no_data_and_is_not_read() {
    let world = World::new();
    fill(&world);
    world.backup();
    fs::create_dir(world.path("below")).unwrap();
    fs::rename(world.path("many"), world.path("below/renamed")).unwrap();
    fs::rename(world.path("a"), world.path("z")).unwrap();
    let report = world.backup();
    let counters = report.record.counters;
    assert_eq!((counters.bytes_read, counters.chunks_new), (0, 0));
    world.assert_same(&report);
}

/// A rotation such as that of rsnapshot: each directory has the name that another one had.
#[test]
fn directories_that_take_each_others_names_are_not_read() {
    let world = World::new();
    for name in ["0", "1", "2"] {
        world.write(&format!("{name}/file"), &noise(name.len() as u64, 50_000));
    }
    world.backup();
    for (from, to) in [("2", "3"), ("1", "2"), ("0", "1")] {
        fs::rename(world.path(from), world.path(to)).unwrap();
    }
    let report = world.backup();
    assert_eq!(report.record.counters.bytes_read, 0);
    world.assert_same(&report);
}

#[test]
fn a_changed_small_file_stores_one_bundle() {
    let world = World::new();
    fill(&world);
    world.backup();
    world.write("many/7", b"changed");
    let report = world.backup();
    let counters = report.record.counters;
    assert_eq!((counters.bytes_read, counters.chunks_new, counters.bytes_changed), (7, 1, 7));
    world.assert_same(&report);
}

#[test]
fn a_large_file_with_an_insertion_stores_the_chunks_around_it() {
    let world = World::new();
    let content = noise(5, 20 << 20);
    world.write("large", &content);
    let first = world.backup();
    world.write("large", &[&content[..7 << 20], b"inserted", &content[7 << 20..]].concat());
    let second = world.backup();
    let counters = second.record.counters;
    assert_eq!(counters.bytes_read, (20 << 20) + 8);
    assert!((1..=3).contains(&counters.chunks_new), "{}", counters.chunks_new);
    assert!(counters.bytes_changed < 2 << 20, "{}", counters.bytes_changed);
    world.assert_same(&second);
    assert!(matches!(world.data(&first, "large"), FileData::Map { .. }));
}

#[test]
fn small_files_share_chunks() {
    let world = World::new();
    for number in 0..2_000 {
        world.write(&format!("{}/{number}", number / 100), &noise(number, 500));
    }
    let report = world.backup();
    assert_eq!(report.record.counters.bytes_read, 1_000_000);
    assert!((4..40).contains(&report.record.counters.chunks_new), "{}", report.record.counters.chunks_new);
    assert_eq!(report.record.counters.chunks_total, report.record.counters.chunks_new);
    world.assert_same(&report);
}

#[test]
fn hard_links_are_read_once_and_share_their_data() {
    let world = World::new();
    for (name, length) in [("small", 1_000), ("medium", 100_000), ("large", 5_000_000)] {
        world.write(name, &noise(length, length as usize));
        fs::create_dir_all(world.path("links")).unwrap();
        for number in 0..3 {
            fs::hard_link(world.path(name), world.path(&format!("links/{name}{number}"))).unwrap();
        }
    }
    let report = world.backup();
    assert_eq!(report.record.counters.bytes_read, 5_101_000);
    assert_eq!(report.record.content.size(), 5_101_000);
    for name in ["small", "medium", "large"] {
        let data = world.data(&report, name);
        assert_eq!(data, world.data(&report, &format!("links/{name}2")));
        assert_eq!(world.open(&report.record).totals().files, 12);
    }
    world.assert_same(&report);
    let again = world.backup();
    assert_eq!(again.record.counters.bytes_read, 0);
    assert_eq!(again.record.content, report.record.content);
}

#[test]
fn an_empty_tree_is_a_revision() {
    let world = World::new();
    let report = world.backup();
    world.assert_same(&report);
    assert_eq!(report.record.counters.chunks_total, 0);
    assert!(matches!(&report.record.content, Content::Tree(tree) if (tree.entries, tree.bytes) == (1, 0)));
}

#[test]
fn holes_stay_holes_and_zeros_take_no_chunk() {
    const MIB: u64 = 1 << 20;
    let world = World::new();
    let sparse = File::create(world.path("sparse")).unwrap();
    sparse.set_len(100 << 30).unwrap();
    sparse.write_all_at(&noise(1, 1 << 20), 10 * MIB).unwrap();
    let hole = File::create(world.path("hole")).unwrap();
    hole.set_len(3 * MIB + 5).unwrap();
    let small_hole = File::create(world.path("small hole")).unwrap();
    small_hole.set_len(8_000).unwrap();
    world.write("zeros", &vec![0; 3 << 20]);
    let allocated = File::create(world.path("preallocated")).unwrap();
    let can_allocate = fallocate(&allocated, FallocateFlags::empty(), 0, 4 * MIB).is_ok();
    let report = world.backup();
    assert_eq!(report.record.content.size(), (100 << 30) + 10 * MIB + 5 + 8_000);
    let tree = world.open(&report.record);
    let extents = |name: &str| {
        let reader = tree.open_file(&world.data(&report, name));
        reader.extents(0).collect::<Result<Vec<_>>>().unwrap()
    };
    let expected = [
        (0..10 * MIB, FileExtent::Hole),
        (10 * MIB..11 * MIB, FileExtent::Data),
        (11 * MIB..100 << 30, FileExtent::Hole),
    ];
    assert_eq!(extents("sparse"), expected);
    assert_eq!(extents("hole"), [(0..3 * MIB + 5, FileExtent::Hole)]);
    assert_eq!(extents("small hole"), [(0..8_000, FileExtent::Hole)]);
    assert_eq!(extents("zeros"), [(0..3 * MIB, FileExtent::Zeros)]);
    if can_allocate {
        assert_eq!(extents("preallocated"), [(0..4 * MIB, FileExtent::Zeros)]);
    } else {
        println!("SKIPPED: nothing can be preallocated here");
    }
    assert_eq!(world.backup().record.counters.bytes_read, 0);
}

#[test]
fn a_large_directory_is_cut_and_an_addition_rewrites_little_of_it() {
    let world = World::new();
    for number in 0..6_000 {
        File::create(world.path(&format!("a name of some length, number {number}"))).unwrap();
    }
    let first = world.backup();
    world.assert_same(&first);
    let EntryContent::Directory(Some(top)) = world.open(&first.record).root().content else { panic!() };
    assert_eq!((top.level, top.entry_count), (1, 6_000));
    File::create(world.path("a name of some length, number 3000.5")).unwrap();
    let second = world.backup();
    world.assert_same(&second);
    let (all, added) = (first.record.counters.bytes_stored, second.record.counters.bytes_stored);
    assert!(added < all / 2, "{added} of {all}");
}

#[test]
fn what_is_excluded_and_the_repository_are_left_out() {
    let world = World::new();
    fill(&world);
    let inside = world.path("a/repository");
    Repository::create(&inside, &CreateOptions::default()).unwrap();
    let never = fs::metadata(&inside).unwrap();
    let tree = TreeOptions {
        excludes: vec!["many".to_owned(), "*.img".to_owned()],
        never: vec![(never.dev(), never.ino())],
        ..TreeOptions::default()
    };
    let report = world.run_with(tree, &options(), &SilentMonitor).unwrap();
    for name in ["many", "vm.img", "a/repository"] {
        assert!(world.find(&report, name).is_none(), "{name}");
    }
    assert!(world.find(&report, "a/b/c/deep").is_some());
}

#[test]
fn a_dry_run_stores_nothing() {
    let world = World::new();
    fill(&world);
    let dry = world.run(&BackupOptions { dry_run: true, ..options() }, &SilentMonitor).unwrap();
    assert!(dry.record.counters.bytes_stored > 8_000_000);
    assert!(matches!(world.repository.stream("home"), Err(Error::NoSuchStream { .. })));
    assert_eq!(world.repository.size_bytes().unwrap(), 0);
    let first = world.backup();
    assert_eq!(first.record.counters.chunks_new, dry.record.counters.chunks_new);
}

/// Packs that are lost are not taken over, whatever the times say.
#[test]
fn files_whose_chunks_are_lost_are_read_again() {
    let world = World::new();
    fill(&world);
    let first = world.backup();
    for pack in files_below(&world.directory.path().join("repository/packs/data")) {
        fs::remove_file(pack).unwrap();
    }
    let repository = Repository::open(&world.directory.path().join("repository"), 1 << 20).unwrap();
    let world = World { repository, ..world };
    let second = world.backup();
    assert_eq!(second.record.counters.bytes_read, first.record.counters.bytes_read);
    world.assert_same(&second);
    assert_eq!(world.backup().record.counters.bytes_read, 0);
}

/// Without the parent's directories nothing is known of its files.
/// Of a large file only the top of its map was asked for, and that may be in another table than its chunks.
#[test]
fn files_whose_chunks_are_lost_with_their_table_are_read_again() {
    // A sample shows the loss; or where it is little of all, the small file does, when the large one was taken over.
    for (empty_files, small_file) in [(0, false), (3000, true)] {
        let world = World::new();
        world.write("first", &noise(1, 3 << 20));
        (0..empty_files).for_each(|number| _ = world.write(&format!("empty-{number}"), b""));
        if small_file {
            world.write("last", &noise(2, 5000));
        }
        assert_that_lost_chunks_are_read_again(&world);
    }
}

fn assert_that_lost_chunks_are_read_again(world: &World) {
    world.backup();
    let files = |area: &str| files_below(&world.directory.path().join("repository").join(area));
    let (tables, chunks) = (files("index"), files("packs/data"));
    // The nodes alone are stored anew, and named by another table.
    files("packs/metadata").iter().for_each(|pack| fs::remove_file(pack).unwrap());
    world.assert_same(&world.backup());
    assert_eq!((files("packs/data"), files("index").len()), (chunks.clone(), 2));
    [tables, chunks].concat().iter().for_each(|file| fs::remove_file(file).unwrap());
    let report = world.backup();
    world.assert_same(&report);
    let told = |words: &str| report.record.warnings.iter().any(|warning| warning.contains(words));
    assert!(told("index tables are lost or damaged"), "{:?}", report.record.warnings);
    // Once all is healed nothing is told any more.
    let report = world.backup();
    assert_eq!((report.record.warnings.as_slice(), report.record.counters.bytes_read), (&[][..], 0));
}

#[test]
fn a_parent_that_cannot_be_read_is_not_relied_upon() {
    let world = World::new();
    fill(&world);
    let first = world.backup();
    for pack in files_below(&world.directory.path().join("repository/packs/metadata")) {
        fs::remove_file(pack).unwrap();
    }
    let repository = Repository::open(&world.directory.path().join("repository"), 1 << 20).unwrap();
    let world = World { repository, ..world };
    let second = world.backup();
    assert_eq!(second.record.counters.bytes_read, first.record.counters.bytes_read);
    assert_eq!(second.record.counters.chunks_new, 0);
    world.assert_same(&second);
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Does something as soon as the first bytes were read, and collects warnings.
struct Hook<F> {
    action: F,
    is_done: AtomicBool,
    cancels: bool,
    warnings: Mutex<Vec<String>>,
}

impl<F: Fn() + Send + Sync> Hook<F> {
    fn new(cancels: bool, action: F) -> Self {
        Self { action, is_done: AtomicBool::new(false), cancels, warnings: Mutex::default() }
    }
}

impl<F: Fn() + Send + Sync> Monitor for Hook<F> {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}

    fn advance(&self, bytes: u64) {
        if bytes > 0 && !self.is_done.swap(true, Ordering::SeqCst) {
            (self.action)();
        }
    }

    fn warn(&self, message: &str) {
        self.warnings.lock().unwrap().push(message.to_owned());
    }

    fn is_cancelled(&self) -> bool {
        self.cancels && self.is_done.load(Ordering::SeqCst)
    }
}

/// A file that takes more pieces than can be under way at once: what follows it is not read when its first bytes are.
fn write_very_large(world: &World, name: &str) {
    let cores = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let file = File::create(world.path(name)).unwrap();
    for piece in 0..(5 * cores + 8) as u64 {
        file.write_all_at(&noise(piece, 2 << 20), piece * (2 << 20)).unwrap();
    }
}

#[test]
fn what_vanishes_or_changes_meanwhile_is_told_and_the_rest_is_stored() {
    let world = World::new();
    write_very_large(&world, "a");
    for name in ["vanishes small", "stays", "swapped"] {
        world.write(name, b"content");
    }
    world.write("vanishes medium", &noise(1, 100_000));
    world.write("vanishes large", &noise(1, 5_000_000));
    settle();
    let monitor = Hook::new(false, || {
        for name in ["vanishes small", "vanishes medium", "vanishes large", "swapped"] {
            fs::remove_file(world.path(name)).unwrap();
        }
        symlink("/etc/passwd", world.path("swapped")).unwrap();
        let file = OpenOptions::new().write(true).open(world.path("a")).unwrap();
        file.write_all_at(b"changed", 0).unwrap();
    });
    let report = world.run(&options(), &monitor).unwrap();
    let warnings = monitor.warnings.lock().unwrap().clone();
    assert_eq!(report.problem_count, 5, "{warnings:?}");
    assert_eq!(report.record.warnings, warnings);
    for (name, word) in [
        ("vanishes small", "vanished"),
        ("vanishes medium", "vanished"),
        ("vanishes large", "vanished"),
        ("swapped", "took its place"),
        ("a", "changed while it was read"),
    ] {
        let path = world.path(name).display().to_string();
        assert!(warnings.iter().any(|one| one.contains(&path) && one.contains(word)), "{name}: {warnings:?}");
        assert_eq!(world.find(&report, name).is_some(), name == "a");
    }
    assert!(world.find(&report, "a").unwrap().unsettled);
    assert!(world.find(&report, "stays").is_some());
    assert!(world.find(&report, "").unwrap().left_out, "what has a name of what was replaced was left out");
    let next = world.backup();
    assert_eq!(next.problem_count, 0);
    world.assert_same(&next);
}

/// Rename gives the file that it moves and the one that it takes a name from the same time of status change. Names of the
/// old file that were listed after it once got the new file's content.
#[test]
fn a_file_that_takes_the_first_name_of_another_is_not_stored_under_its_other_names() {
    let world = World::new();
    write_very_large(&world, "a");
    let first = world.write("b", b"old content");
    let new = world.write("c", b"new content");
    // So deep that nothing is looked at ahead of its turn.
    let deep = "d/".repeat(70) + "other";
    world.write(&deep, b"");
    for number in 0..2 {
        fs::hard_link(&first, world.path(&format!("{deep}{number}"))).unwrap();
    }
    settle();
    let monitor = Hook::new(false, || fs::rename(&new, &first).unwrap());
    let report = world.run(&options(), &monitor).unwrap();
    let tree = world.open(&report.record);
    for number in 0..2 {
        let entry = world.find(&report, &format!("{deep}{number}")).unwrap();
        let EntryContent::File(data) = &entry.content else { panic!("no file") };
        let mut content = vec![0; data.size() as usize];
        tree.open_file(data).read_at(0, &mut content).unwrap();
        assert_eq!(content, b"old content", "{:?}", monitor.warnings);
    }
}

/// Hard links to what could not be read under its first name are read under another one.
#[test]
fn a_linked_file_whose_first_name_vanishes_is_read_under_the_next() {
    let world = World::new();
    write_very_large(&world, "a");
    world.write("first", b"content");
    fs::hard_link(world.path("first"), world.path("second")).unwrap();
    fs::hard_link(world.path("first"), world.path("third")).unwrap();
    settle();
    let monitor = Hook::new(false, || fs::remove_file(world.path("first")).unwrap());
    let report = world.run(&options(), &monitor).unwrap();
    assert_eq!(report.problem_count, 1, "{:?}", report.record.warnings);
    assert!(!world.find(&report, "").unwrap().left_out, "what is gone was not left out");
    for name in ["second", "third"] {
        let data = world.data(&report, name);
        let mut content = [0; 7];
        world.open(&report.record).open_file(&data).read_at(0, &mut content).unwrap();
        assert_eq!(&content, b"content");
    }
}

#[test]
fn what_an_interrupted_backup_stored_is_not_stored_again() {
    let world = World::new();
    write_very_large(&world, "a");
    settle();
    let monitor = Hook::new(true, || std::thread::sleep(Duration::from_millis(50)));
    let error = world.run(&options(), &monitor).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    let report = world.backup();
    assert!(report.record.counters.chunks_new < report.record.counters.chunks_total);
    world.assert_same(&report);
}

/// A write that was under way leaves the times as they are.
#[test]
fn a_file_that_changed_just_before_it_was_read_is_read_again() {
    let world = World::new();
    let mut was_read_again = false;
    for attempt in 0..200 {
        world.write("file", format!("content {attempt}").as_bytes());
        world.run(&options(), &SilentMonitor).unwrap();
        let second = world.run(&options(), &SilentMonitor).unwrap();
        was_read_again |= second.record.counters.bytes_read > 0;
        if was_read_again {
            break;
        }
    }
    assert!(was_read_again, "no file was ever taken for unsettled");
    world.backup();
    assert_eq!(world.backup().record.counters.bytes_read, 0, "by now it has settled");
}

/// Lists of attributes that take more than a stretch may hold: what comes behind is read one by one.
#[test]
fn many_long_lists_of_attributes_are_stored_with_all_kinds_of_entries() {
    let world = World::new();
    for number in 0..500 {
        let directory = format!("{number:03}");
        world.write(&format!("{directory}/empty"), b"");
        world.write(&format!("{directory}/small"), &noise(number, 500));
        mknodat(CWD, world.path(&format!("{directory}/pipe")), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for (seed, name) in ["", "/empty", "/small", "/pipe"].into_iter().enumerate() {
            let path = world.path(&format!("{directory}{name}"));
            // Not of a pipe, but for root.
            if !set_attribute(&path, "trusted.long", &noise(number * 4 + seed as u64, 3_000)) {
                set_attribute(&path, "user.long", &noise(number, 3_000));
            }
        }
    }
    let report = world.backup();
    assert_eq!(report.problem_count, 0, "{:?}", report.record.warnings);
    world.assert_same(&report);
    assert_eq!(world.backup().record.counters.bytes_read, 0);
}

#[test]
fn no_time_of_access_of_a_directory_is_changed() {
    let world = World::new();
    world.write("below/file", b"content");
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let accessed = |path: &Path| fs::metadata(path).unwrap().accessed().unwrap();
    let paths = ["", "below", "below/file"].map(|name| world.path(name));
    for path in &paths {
        let times = fs::FileTimes::new().set_accessed(long_ago);
        File::open(path).unwrap().set_times(times).unwrap();
    }
    world.backup();
    for path in paths {
        assert_eq!(accessed(&path), long_ago, "{}", path.display());
    }
}

/// Linux gives a mapped page that is dirty no new time when it is written again, for as long as it is not written back:
/// what was written after the backup had read it was never seen.
#[test]
#[expect(unsafe_code, reason = "a mapping that others may change is what is to be tested")]
fn what_is_written_through_a_mapping_after_it_was_read_is_read_again() {
    let world = World::new();
    let path = world.write("a", &noise(1, 100_000));
    settle();
    write_very_large(&world, "b");
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // SAFETY: nobody but this test has the file, and it keeps its size.
    let mapped = Mutex::new(unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap());
    let write = |bytes: &[u8]| mapped.lock().unwrap()[5000..5003].copy_from_slice(bytes);
    write(b"AAA");
    settle();
    // When the file was read, and nothing was synced for the commit.
    world.run(&options(), &Hook::new(false, || write(b"BBB"))).unwrap();
    let next = world.backup();
    world.assert_same(&next);
}

/// Files of the system that may only be written can't be opened for reading, not even by root.
#[test]
fn a_file_that_cannot_be_opened_is_told_and_left_out() {
    let system = Path::new("/sys/bus/cpu");
    if File::open(system.join("uevent")).is_ok() || !system.join("uevent").exists() {
        println!("SKIPPED: /sys/bus/cpu/uevent is not there, or can be read");
        return;
    }
    let world = World::new();
    let options = options();
    let source = TreeSource::open(system, TreeOptions::default()).unwrap();
    let report = backup(&world.repository, Source::Tree(Box::new(source)), &options, &SilentMonitor).unwrap();
    assert!(report.problem_count > 0);
    let named = |warning: &String| warning.contains("cannot open /sys/bus/cpu/uevent");
    assert!(report.record.warnings.iter().any(named), "{:?}", report.record.warnings);
    assert!(world.find(&report, "uevent").is_none());
    assert!(world.find(&report, "devices").is_some());
}

/// A restore that removes what the revision lacks must know where that says nothing.
#[test]
fn directories_of_which_something_was_left_out_say_so() {
    let world = World::new();
    world.write("whole/file", b"1");
    world.write("excluded/a.tmp", b"2");
    world.write("cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n");
    world.write("cache/data", b"3");
    let large: Vec<String> = (0..3_000).map(|number| format!("large/{number:05}")).collect();
    large.iter().for_each(|name| drop(world.write(name, b"")));
    settle();
    let left_out = |tree: TreeOptions| {
        let report = world.run_with(tree, &options(), &SilentMonitor).unwrap();
        assert_eq!(report.problem_count, 0);
        let is_left_out = |path: &&str| world.find(&report, path).is_some_and(|entry| entry.left_out);
        ["", "whole", "excluded", "cache", "large"].into_iter().filter(is_left_out).collect::<Vec<_>>()
    };
    assert_eq!(left_out(TreeOptions::default()), [""; 0]);
    let excludes = vec!["*.tmp".to_owned(), "/large/02999".to_owned()];
    let tree = TreeOptions { excludes, exclude_caches: true, ..TreeOptions::default() };
    assert_eq!(left_out(tree), ["excluded", "cache", "large"]);
    let tree = TreeOptions { excludes: vec!["/whole".to_owned()], ..TreeOptions::default() };
    assert_eq!(left_out(tree), [""]);
    assert_eq!(left_out(TreeOptions::default()), [""; 0], "what was left out before is no more");
}

#[test]
fn a_directory_that_cannot_be_read_in_full_says_so_and_one_from_which_something_vanished_does_not() {
    let system = Path::new("/sys/bus/cpu");
    if File::open(system.join("uevent")).is_ok() || !system.join("uevent").exists() {
        println!("SKIPPED: /sys/bus/cpu/uevent is not there, or can be read");
        return;
    }
    let world = World::new();
    let source = TreeSource::open(system, TreeOptions::default()).unwrap();
    let report =
        backup(&world.repository, Source::Tree(Box::new(source)), &options(), &SilentMonitor).unwrap();
    let tree = world.open(&report.record);
    assert!(tree.root().left_out, "uevent can only be written");
    assert!(!tree.find(b"devices").unwrap().unwrap().left_out);
}
