//! Backups of images whose parent's chunks were lost together with the table that named them.

use std::fs;
use std::io::Cursor;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::changed_bytes;
use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::{FileEvidence, ObjectType, Root, Subtree};
use crate::id::ObjectId;
use crate::monitor::CollectingMonitor;
use crate::operations::backup::{BackupOptions, BackupReport, backup};
use crate::repository::{CreateOptions, Repository};
use crate::revision::MapReader;
use crate::revision::test_maps::{Maps, absent, chunk as map_chunk};
use crate::source::{FileSource, ImageSource, Source};

const CHUNK: usize = 4096;

/// A chunk that is like no other.
fn chunk(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; CHUNK];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

struct World {
    directory: tempfile::TempDir,
    content: Vec<u8>,
}

impl World {
    /// Two revisions that share all chunks but the last, which are lost with their table. The first one passes the filter
    /// of another table by chance.
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let options = CreateOptions { chunk_size: CHUNK as u32, ..CreateOptions::default() };
        Repository::create(&directory.path().join("r"), &options).unwrap();
        let mut world = Self { directory, content: Vec::new() };
        world.back_up_file("other", &(0..3000).flat_map(chunk).collect::<Vec<u8>>()).unwrap();
        let chance = world.number_that_passes_by_chance();
        // Few enough for one worker, which comes to that one first.
        world.content = [chance].into_iter().chain(10_000..10_200).flat_map(chunk).collect();
        let files = || [world.files("packs/data"), world.files("index")].concat();
        let before = files();
        world.back_up_file("vm", &world.content).unwrap();
        let lost: Vec<PathBuf> = files().into_iter().filter(|file| !before.contains(file)).collect();
        assert_eq!(lost.len(), 2);
        let length = world.content.len();
        world.content[length - CHUNK..].copy_from_slice(&chunk(20_000));
        world.back_up_file("vm", &world.content).unwrap();
        lost.iter().for_each(|file| fs::remove_file(file).unwrap());
        world
    }

    /// One revision, of which nothing is lost.
    fn whole() -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let options = CreateOptions { chunk_size: CHUNK as u32, ..CreateOptions::default() };
        Repository::create(&directory.path().join("r"), &options).unwrap();
        let world = Self { directory, content: (0..300).flat_map(chunk).collect() };
        world.back_up_file("vm", &world.content).unwrap();
        world
    }

    fn repository(&self) -> Repository {
        Repository::open(&self.directory.path().join("r"), 1 << 20).unwrap()
    }

    /// Makes the first leaf of the newest revision's map unreadable.
    fn flip_first_leaf(&self) {
        let repository = self.repository();
        let newest = repository.latest(&repository.stream("vm").unwrap()).unwrap().unwrap();
        let map = MapReader::open(repository.store(), &newest.root()).unwrap();
        let leaf = map.subtree(0, 0).unwrap().unwrap().id;
        let place = repository.store().index().locate_in_tables(&leaf).unwrap()[0];
        let pack = Key::pack(place.kind, place.pack).to_string();
        let pack = self.directory.path().join("r").join(pack);
        let mut bytes = fs::read(&pack).unwrap();
        bytes[place.offset as usize + 10] ^= 1;
        fs::write(pack, bytes).unwrap();
    }

    fn number_that_passes_by_chance(&self) -> u64 {
        let repository = self.repository();
        let store = repository.store();
        let id = |number| -> ObjectId { store.hasher().id(ObjectType::Chunk, &chunk(number)) };
        let mut absent = 30_000..40_000;
        absent.find(|&number| store.index().stands(&id(number)).unwrap()).unwrap()
    }

    fn files(&self, area: &str) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.directory.path().join("r").join(area)).unwrap();
        listed.map(|entry| entry.unwrap().path()).collect()
    }

    fn back_up(
        &self,
        stream: &str,
        source: Source,
        hints: Option<&[u8]>,
    ) -> (Result<BackupReport>, Vec<String>) {
        let options = BackupOptions {
            stream: stream.to_owned(),
            hints: hints.map(<[u8]>::to_vec),
            ..BackupOptions::default()
        };
        let monitor = CollectingMonitor::default();
        let report = backup(&self.repository(), source, &options, &monitor);
        (report, monitor.warnings())
    }

    fn file(&self) -> Source {
        Source::Image(Box::new(FileSource::open(&self.directory.path().join("image")).unwrap()))
    }

    fn stdin(&self) -> Source {
        Source::Stream { name: "stdin".to_owned(), bytes: Box::new(Cursor::new(self.content.clone())) }
    }

    fn back_up_file(&self, stream: &str, content: &[u8]) -> Result<BackupReport> {
        fs::write(self.directory.path().join("image"), content).unwrap();
        // Long enough ago to be believed the next time.
        std::thread::sleep(Duration::from_millis(2_100));
        self.back_up(stream, self.file(), None).0
    }

    fn assert_newest_is_whole(&self) {
        let repository = self.repository();
        let newest = repository.latest(&repository.stream("vm").unwrap()).unwrap().unwrap();
        let mut bytes = vec![0; self.content.len()];
        repository.open_image(&newest).unwrap().read_at(0, &mut bytes).unwrap();
        assert!(bytes == self.content);
    }
}

/// A file whose system takes its time to write back what it holds of it, or fails to.
struct SlowToSync {
    file: FileSource,
    takes: Duration,
    works: bool,
}

impl ImageSource for SlowToSync {
    fn name(&self) -> String {
        self.file.name()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        self.file.next_data(offset)
    }

    fn will_read(&self, range: Range<u64>) {
        self.file.will_read(range);
    }

    fn write_back(&self) -> bool {
        std::thread::sleep(self.takes);
        self.file.write_back() && self.works
    }

    fn evidence(&self) -> Result<Option<FileEvidence>> {
        self.file.evidence()
    }
}

/// A `write(2)` that began before may end after the file was read.
#[test]
fn a_file_that_is_written_back_for_long_is_no_older_for_it() {
    let world = World::whole();
    let image = world.directory.path().join("image");
    let is_believed = |takes, works| {
        let file = FileSource::open(&image).unwrap();
        let source = Source::Image(Box::new(SlowToSync { file, takes, works }));
        let made = world.back_up("vm", source, None).0.unwrap();
        made.record.evidence.is_some_and(|evidence| !evidence.unsettled)
    };
    fs::write(&image, chunk(1)).unwrap();
    assert!(!is_believed(Duration::from_millis(2_500), true));
    assert!(!is_believed(Duration::ZERO, false));
    assert!(is_believed(Duration::ZERO, true));
}

/// They counted as nothing where the parent could be read in part only.
#[test]
fn bytes_that_changed_are_counted_also_where_the_parent_is_damaged() {
    let maps = Maps::new();
    let [whole, other] = [1, 2].map(|number| maps.map(&[map_chunk(number); 600]));
    assert_eq!(changed_bytes(&whole, &other), Some(600 * CHUNK as u64));
    let Root { level, size, chunk_size, .. } = *whole.root();
    let top = Some(Subtree { id: absent(9), data_bytes: size, chunk_count: 600 });
    let lost = maps.open(&Root { level, size, chunk_size, top });
    assert_eq!(changed_bytes(&lost, &other), None);

    let world = World::whole();
    world.flip_first_leaf();
    let mut content = world.content.clone();
    content[..CHUNK].copy_from_slice(&chunk(1));
    let counters = world.back_up_file("vm", &content).unwrap().record.counters;
    // With the first leaf of the parent nothing could be compared.
    assert_eq!(counters.bytes_changed, 256 * CHUNK as u64);
}

fn tells(warnings: &[String], words: &str) -> bool {
    warnings.iter().any(|warning| warning.contains(words))
}

/// A filter lets one of thirty absent chunks pass, and there may be many filters: a read of the whole source once gave a
/// revision that could not be read.
#[test]
fn what_passed_a_filter_by_chance_before_the_loss_showed_is_stored_when_it_shows() {
    let world = World::new();
    // Touched, so that it is read.
    let file = fs::File::options().write(true).open(world.directory.path().join("image")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let (report, warnings) = world.back_up("vm", world.file(), None);
    let record = report.unwrap().record;
    world.assert_newest_is_whole();
    assert!(tells(&warnings, "the source is read again"), "{warnings:?}");
    assert!(tells(&record.warnings, "index tables are lost or damaged"), "{:?}", record.warnings);
    assert_eq!(record.counters.chunks_new, 200);
    assert_eq!(record.counters.bytes_read, 2 * world.content.len() as u64);
}

#[test]
fn what_is_lost_is_not_taken_over_unread_nor_on_the_word_of_hints() {
    for hints in [None, Some(&b"[]"[..])] {
        let world = World::new();
        let (report, warnings) = world.back_up("vm", world.file(), hints);
        let record = report.unwrap().record;
        world.assert_newest_is_whole();
        assert!(tells(&warnings, "is lost, or in no index table"), "{warnings:?}");
        assert_eq!((record.counters.chunks_new, record.hints), (200, None));
    }
}

/// A stream of bytes comes once.
#[test]
fn a_stream_of_bytes_ends_with_an_error_and_is_whole_the_next_time() {
    let world = World::new();
    let (report, _) = world.back_up("vm", world.stdin(), None);
    let error = report.map(|report| report.record.name).unwrap_err();
    assert!(
        matches!(error, Error::Corrupt(_)) && error.to_string().contains("run the backup again"),
        "{error}"
    );
    assert_eq!(world.repository().damage().unwrap().objects.len(), 1);
    let (report, _) = world.back_up("vm", world.stdin(), None);
    assert_eq!(report.unwrap().record.counters.chunks_new, 1);
    world.assert_newest_is_whole();
    assert!(world.repository().damage().unwrap().objects.is_empty());
}

#[test]
fn a_dry_run_tells_of_lost_tables_and_marks_nothing() {
    let world = World::new();
    for source in [world.file(), world.stdin()] {
        let options = BackupOptions { stream: "vm".to_owned(), dry_run: true, ..BackupOptions::default() };
        let monitor = CollectingMonitor::default();
        backup(&world.repository(), source, &options, &monitor).unwrap();
        assert!(tells(&monitor.warnings(), "index tables are lost"), "{:?}", monitor.warnings());
    }
    assert!(world.repository().damage().unwrap().objects.is_empty());
}
