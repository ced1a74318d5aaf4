//! What the end-to-end tests share: a world of its own for each test, the real program, real images and devices.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on may panic")]
#![allow(clippy::print_stderr, reason = "what is skipped must be said")]

pub(crate) mod actors;
pub(crate) mod blobs;
pub(crate) mod failing_source;
pub(crate) mod fixture;
pub(crate) mod harms;
pub(crate) mod long_names;
pub(crate) mod manifest;
pub(crate) mod oracle;
pub(crate) mod probes;
pub(crate) mod random;
pub(crate) mod system;
pub(crate) mod tagged;
pub(crate) mod tree_edits;
pub(crate) mod trees;
pub(crate) mod versions;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

/// The chunk size of a new repository.
pub(crate) const CHUNK: u64 = 64 << 10;
/// Longer than what makes a file "unsettled".
pub(crate) const SETTLED: Duration = Duration::from_millis(2_100);

/// The uid and gid of a normal user.
pub(crate) const USER: u32 = 1234;

/// A directory of its own with a repository in it, and an environment that holds nothing of the user's.
pub(crate) struct World {
    directory: TempDir,
}

impl World {
    /// A world with an empty repository.
    pub(crate) fn new() -> Self {
        let world = Self::without_repository();
        world.ok(&["init"]);
        world
    }

    /// A world in which `repo` is not there yet.
    pub(crate) fn without_repository() -> Self {
        Self { directory: TempDir::with_prefix("treering-test-").unwrap() }
    }

    /// The directory that commands run in.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("repo")
    }

    /// The program, about to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_treering"));
        command.args(arguments).current_dir(self.directory());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.directory()).env("TREERING_REPOSITORY", self.repository());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(arguments, self.command(arguments).output().unwrap())
    }

    /// Runs the program with `input` on its stdin.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A program that does not want all of it is no error of the test.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Run::of(arguments, output)
    }

    /// Runs the program, which must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> Run {
        self.run(arguments).expect_code(0)
    }

    /// Runs the program with `--json`, which must succeed.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.ok(&arguments).json()
    }

    /// Runs the program, which must end with `code` and say all of `words` on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, arguments: &[&str], words: &[&str]) -> Run {
        let run = self.run(arguments).expect_code(code);
        run.says(words);
        run
    }

    /// Runs the program as the normal user `USER`, which only root may do.
    pub(crate) fn run_as_user(&self, arguments: &[&str]) -> Run {
        Run::of(arguments, self.command(arguments).uid(USER).gid(USER).output().unwrap())
    }

    /// Starts the program in the background.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Backs an image up, and returns what `--json` says.
    #[track_caller]
    pub(crate) fn backup(&self, source: &str, stream: &str) -> Value {
        self.json(&["backup", source, stream])
    }

    /// The revisions that `list --json` shows.
    #[track_caller]
    pub(crate) fn revisions(&self, named: &str) -> Vec<Value> {
        self.json(&["list", named])["revisions"].as_array().unwrap().clone()
    }

    /// Makes an image with data in the given chunks, and holes elsewhere.
    pub(crate) fn image(&self, name: &str, size: u64, data_chunks: &[u64]) -> PathBuf {
        let path = self.path(name);
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for &chunk in data_chunks {
            write_chunk(&path, chunk, chunk + 1);
        }
        path
    }

    /// Makes an image of chunks with noise of these seeds.
    pub(crate) fn image_with_seeds(&self, name: &str, seeds: &[u64]) -> PathBuf {
        let path = self.path(name);
        let content: Vec<u8> = seeds.iter().flat_map(|&seed| noise(seed, CHUNK as usize)).collect();
        fs::write(&path, content).unwrap();
        path
    }

    /// Makes an image of a few MiB, half of it data.
    pub(crate) fn small_image(&self, name: &str) -> PathBuf {
        let chunks: Vec<u64> = (0..64).filter(|chunk| chunk % 16 < 8).collect();
        self.image(name, 64 * CHUNK, &chunks)
    }

    /// The content of a revision.
    #[track_caller]
    pub(crate) fn dump(&self, revision: &str) -> Vec<u8> {
        self.ok(&["dump", revision]).stdout
    }

    /// Fails unless a revision is what a file holds.
    #[track_caller]
    pub(crate) fn assert_same(&self, revision: &str, file: &Path) {
        assert!(self.dump(revision) == fs::read(file).unwrap(), "{revision} is not {}", file.display());
    }

    /// Files of the repository in one of its directories.
    pub(crate) fn stored_files(&self, directory: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect_files(&self.repository().join(directory), &mut files);
        files.sort();
        files
    }

    /// Flips a bit in the middle of every data pack.
    pub(crate) fn damage_data_packs(&self) {
        let packs = self.stored_files("packs/data");
        assert!(!packs.is_empty());
        packs.iter().for_each(|pack| flip_bit(pack, 200));
    }
}

fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => collect_files(&entry.path(), files),
            false => files.push(entry.path()),
        }
    }
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) arguments: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(arguments: &[&str], output: Output) -> Self {
        Self {
            arguments: arguments.join(" "),
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        let Self { arguments, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "treering {arguments}\n{}\n{stderr}", self.text());
        self
    }

    /// What it printed on stdout.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Fails unless stderr has all of these words.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "treering {}: no '{word}' in: {}",
                self.arguments,
                self.stderr
            );
        }
    }
}

/// Fails unless a JSON object has these keys.
#[track_caller]
pub(crate) fn assert_keys(object: &Value, keys: &[&str]) {
    for key in keys {
        assert!(object.get(key).is_some(), "no key '{key}' in {object:#}");
    }
}

/// Bytes that don't compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

/// A seed that differs from run to run, printed so that TREERING_TEST_SEED can give it again.
pub(crate) fn random_seed() -> u64 {
    let given = std::env::var("TREERING_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = given.unwrap_or_else(now);
    eprintln!("TREERING_TEST_SEED={seed}");
    seed
}

/// A number from 0 to 1 that looks random, the same for the same seed.
pub(crate) fn fraction(seed: u64) -> f64 {
    let number = u64::from_le_bytes(noise(seed, 8).try_into().unwrap());
    number as f64 / u64::MAX as f64
}

/// Fills a chunk of an image with noise of this seed.
pub(crate) fn write_chunk(path: &Path, chunk: u64, seed: u64) {
    write_at(path, chunk * CHUNK, &noise(seed, CHUNK as usize));
}

pub(crate) fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// Flips a bit of a file.
pub(crate) fn flip_bit(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

/// Bytes that a file takes on disk.
pub(crate) fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().blocks() * 512
}

/// Waits until something is so; fails after half a minute.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a process what Ctrl-C sends it. One that has ended already is none to interrupt.
pub(crate) fn interrupt(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    let _ = kill_process(Pid::from_child(child), Signal::INT);
}

/// Lets the file's last change be long enough ago to be believed.
pub(crate) fn settle() {
    std::thread::sleep(SETTLED);
}
