//! gc beside what changes the repository: something happens at each moment of it, one after the other.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tempfile::TempDir;
use treering_engine::operations::backup::{BackupOptions, backup};
use treering_engine::operations::forget::{ForgetScope, forget, undo_forget};
use treering_engine::operations::gc::{GcOptions, GcReport, gc};
use treering_engine::{CreateOptions, Monitor, Repository, SilentMonitor, Source, Stream};

const CHUNK: usize = 4096;

/// Chunks that don't compress, each named by its seed.
fn image(seeds: std::ops::Range<u8>) -> Vec<u8> {
    let chunk = |seed: u8| {
        let mut bytes = vec![0; CHUNK];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    };
    seeds.flat_map(chunk).collect()
}

/// What was the older content, and what is the newest.
fn old() -> Vec<u8> {
    image(0..8)
}

fn new() -> Vec<u8> {
    image(6..20)
}

struct World {
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        // In memory, where there is such a place: syncing is not what this is about.
        let memory = Path::new("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let options = CreateOptions { chunk_size: CHUNK as u32, ..CreateOptions::default() };
        Repository::create(&directory.path().join("r"), &options).unwrap();
        Self { directory }
    }

    /// The repository as another process sees it.
    fn repository(&self) -> Repository {
        Repository::open(&self.directory.path().join("r"), 1 << 20).unwrap()
    }

    fn stream(&self) -> Stream {
        self.repository().stream("vm").unwrap()
    }

    fn forget_oldest(&self) {
        let repository = self.repository();
        let oldest = repository.revisions(&self.stream()).unwrap().remove(0);
        forget(&repository, &self.stream(), &ForgetScope::Revisions(&[oldest]), false).unwrap();
    }

    fn gc(&self, monitor: &dyn Monitor) -> GcReport {
        let options = GcOptions { rewrite_below_percent: 90, ..GcOptions::default() };
        gc(&self.repository(), &options, monitor).unwrap()
    }

    /// Reads all revisions of a stream, the oldest first.
    fn contents(&self, stream: &str) -> Vec<Vec<u8>> {
        let repository = self.repository();
        let stream = repository.stream(stream).unwrap();
        let read = |key| {
            let record = repository.record(&stream, &key).unwrap();
            let image = repository.open_image(&record).unwrap();
            let mut bytes = vec![0; image.size() as usize];
            image.read_at(0, &mut bytes).unwrap();
            bytes
        };
        repository.revisions(&stream).unwrap().into_iter().map(read).collect()
    }
}

fn back_up(repository: &Repository, stream: &str, bytes: impl Read + Send + 'static) {
    let source = Source::Stream { name: "stdin".to_owned(), bytes: Box::new(bytes) };
    let options = BackupOptions { stream: stream.to_owned(), ..BackupOptions::default() };
    backup(repository, source, &options, &SilentMonitor).unwrap();
}

/// A backup that runs until it is told to finish.
struct Running {
    bytes: Sender<Vec<u8>>,
    thread: JoinHandle<()>,
}

struct Pipe(Receiver<Vec<u8>>, Cursor<Vec<u8>>);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.1.read(buffer)? {
            0 => match self.0.recv() {
                Ok(bytes) => {
                    self.1 = Cursor::new(bytes);
                    self.1.read(buffer)
                }
                Err(_) => Ok(0),
            },
            read => Ok(read),
        }
    }
}

impl Running {
    fn start(world: &World, stream: &'static str) -> Self {
        let (bytes, receiver) = channel();
        let repository = world.repository();
        let sessions = world.directory.path().join("r/sessions");
        let before = names(&sessions);
        let thread =
            std::thread::spawn(move || back_up(&repository, stream, Pipe(receiver, Cursor::new(Vec::new()))));
        while names(&sessions) == before {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Self { bytes, thread }
    }

    fn finish(self, bytes: Vec<u8>) {
        self.bytes.send(bytes).unwrap();
        drop(self.bytes);
        self.thread.join().unwrap();
    }
}

fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

type Act<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Does something when it is asked for the n-th time whether to go on, and perhaps something else later.
struct Acting<'a> {
    asked: AtomicU64,
    /// What is still to be done, and when.
    acts: Mutex<Vec<(u64, Act<'a>)>>,
}

impl<'a> Acting<'a> {
    fn new(at: u64, act: impl FnOnce() + Send + 'a) -> Self {
        Self { asked: AtomicU64::new(0), acts: Mutex::new(vec![(at, Box::new(act))]) }
    }

    /// Something more is done, at the same moment or later.
    fn then(self, at: u64, act: impl FnOnce() + Send + 'a) -> Self {
        self.acts.lock().unwrap().push((at, Box::new(act)));
        self
    }

    /// Whether it was asked so often.
    fn has_acted(&self) -> bool {
        self.acts.lock().unwrap().is_empty()
    }
}

impl Monitor for Acting<'_> {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, message: &str) {
        panic!("{message}");
    }

    fn is_cancelled(&self) -> bool {
        let moment = self.asked.fetch_add(1, Ordering::Relaxed);
        let mut acts = self.acts.lock().unwrap();
        acts.extract_if(.., |(at, _)| *at == moment).for_each(|(_, act)| act());
        false
    }
}

/// Two revisions, of which the older is forgotten; and where `pending`, one more before it that an earlier gc condemned.
fn world(pending: bool) -> World {
    let world = World::new();
    if pending {
        back_up(&world.repository(), "vm", Cursor::new(image(100..110)));
    }
    back_up(&world.repository(), "vm", Cursor::new(old()));
    back_up(&world.repository(), "vm", Cursor::new(new()));
    if pending {
        let running = Running::start(&world, "other");
        world.forget_oldest();
        assert!(world.gc(&SilentMonitor).pending.is_some());
        running.finish(image(200..201));
    }
    world.forget_oldest();
    world
}

/// Lets `act` happen at every moment of a gc, and looks each time whether all is there, also after another gc. `begin` is
/// done before the gc; what `act` leads to is what `contents` of the stream are.
fn at_every_moment<'w, T: Send + 'w>(
    begin: impl Fn(&World) -> T,
    act: impl Fn(&World, T) + Sync,
    stream: &str,
    contents: &[Vec<u8>],
) {
    for pending in [false, true] {
        let mut at = 0;
        loop {
            let world = world(pending);
            let begun = begin(&world);
            let monitor = Acting::new(at, || act(&world, begun));
            world.gc(&monitor);
            if !monitor.has_acted() {
                assert!(at >= 5, "gc asks at so few moments: {at}");
                break;
            }
            for _ in 0..2 {
                assert!(world.contents(stream) == contents, "{pending} {at}");
                assert_eq!(world.contents("vm").last().unwrap(), &new(), "{pending} {at}");
                world.gc(&SilentMonitor);
            }
            at += 1;
        }
    }
}

#[test]
fn a_backup_of_what_was_forgotten_may_come_at_any_moment() {
    let act = |world: &World, ()| back_up(&world.repository(), "again", Cursor::new(old()));
    at_every_moment(|_| (), act, "again", &[old()]);
}

#[test]
fn a_backup_that_had_begun_may_end_at_any_moment() {
    let begin = |world: &World| Running::start(world, "again");
    at_every_moment(begin, |_, running| running.finish(old()), "again", &[old()]);
}

#[test]
fn a_backup_beside_the_same_parent_may_come_at_any_moment() {
    let mixed = [old(), new()].concat();
    let act = |world: &World, ()| {
        back_up(&world.repository(), "vm", Cursor::new([old(), new()].concat()));
        back_up(&world.repository(), "vm", Cursor::new(new()));
    };
    at_every_moment(|_| (), act, "vm", &[new(), mixed, new()]);
}

#[test]
fn what_was_forgotten_may_be_brought_back_until_gc_takes_it() {
    let mut at = 0;
    loop {
        let world = world(false);
        let brought_back = AtomicU64::new(0);
        let monitor = Acting::new(at, || {
            let (repository, stream) = (world.repository(), world.stream());
            let keys = repository.forgotten_revisions(&stream).unwrap();
            undo_forget(&repository, &stream, &keys).unwrap();
            brought_back.store(keys.len() as u64, Ordering::Relaxed);
        });
        world.gc(&monitor);
        if !monitor.has_acted() {
            break;
        }
        let contents = world.contents("vm");
        assert!(contents.len() as u64 == 1 + brought_back.load(Ordering::Relaxed), "{at}");
        assert!(contents.len() == 1 || contents[0] == old(), "{at}");
        assert_eq!(contents.last().unwrap(), &new());
        assert!(at > 0 || contents.len() == 2, "at first it can be brought back");
        at += 1;
    }
}

/// A stream that gc looks at after the other one.
const LATER: &str = "zzz";

fn forget_later(world: &World) {
    let repository = world.repository();
    let Ok(stream) = repository.stream(LATER) else { return };
    let keys = repository.revisions(&stream).unwrap();
    forget(&repository, &stream, &ForgetScope::Revisions(&keys), false).unwrap();
}

/// Brings back what can be, and says how many revisions that are.
fn undo_later(world: &World) -> usize {
    let repository = world.repository();
    let Ok(stream) = repository.stream(LATER) else { return 0 };
    let keys = repository.forgotten_revisions(&stream).unwrap();
    undo_forget(&repository, &stream, &keys).unwrap();
    repository.revisions(&stream).unwrap().len()
}

/// Lets two things happen at every two moments of a gc, and looks each time whether what is there of a stream then is whole,
/// also after another gc.
fn at_every_two_moments(
    begin: impl Fn(&World),
    first: impl Fn(&World) + Sync,
    second: impl Fn(&World) + Sync,
) {
    let mut whole = 0;
    for pending in [false, true] {
        for at in 0.. {
            let mut is_over = true;
            for then in at.. {
                let world = world(pending);
                begin(&world);
                let monitor = Acting::new(at, || first(&world)).then(then, || second(&world));
                world.gc(&monitor);
                if !monitor.has_acted() {
                    break;
                }
                is_over = false;
                // What can be brought back is whole, too.
                let there = undo_later(&world);
                for _ in 0..2 {
                    assert!(world.contents(LATER) == vec![old(); there], "{pending} {at} {then}");
                    assert_eq!(world.contents("vm").last().unwrap(), &new(), "{pending} {at} {then}");
                    world.gc(&SilentMonitor);
                }
                whole += there;
            }
            if is_over {
                break;
            }
        }
    }
    assert!(whole > 5, "it was hardly ever there: {whole}");
}

#[test]
fn what_is_forgotten_and_brought_back_within_a_gc_is_whole() {
    let begin = |world: &World| back_up(&world.repository(), LATER, Cursor::new(old()));
    at_every_two_moments(begin, forget_later, |world| _ = undo_later(world));
}

#[test]
fn what_is_stored_and_forgotten_within_a_gc_can_be_brought_back_or_is_gone() {
    let store = |world: &World| back_up(&world.repository(), LATER, Cursor::new(old()));
    at_every_two_moments(|_| (), store, forget_later);
}
