//! Damage to stored files, and what is logged of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

/// Lines that were logged, by all tests of this program.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            LINES.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// The lines that name something.
pub(crate) fn lines_about(what: &str) -> Vec<String> {
    LINES.lock().unwrap().iter().filter(|line| line.contains(what)).cloned().collect()
}

/// Records from now on what is logged.
pub(crate) fn record_lines() {
    if log::set_logger(&Recorder).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// Flips a bit of a file.
pub(crate) fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// Where the blobs of a pack begin: its directory tells (`docs/format.md`, section 8).
pub(crate) fn blobs(pack: &Path) -> Vec<u64> {
    let bytes = std::fs::read(pack).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let trailer = bytes.len() - 64;
    let (directory, count) = (number(trailer), number(trailer + 8));
    (0..count).map(|index| number(directory + 56 * index + 32) as u64).collect()
}
