//! Random changes of a directory tree, one after the other: all that users and programs do to files, with a liking for what
//! is hard to follow (names that change hands, hard links, times that are set back, changes within one tick of the clock).

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "as in the module above")]

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, RenameFlags, XattrFlags, fallocate, lremovexattr, lsetxattr,
    makedev, mknodat, renameat_with,
};

use super::oracle::{acl, set_mtime};
use super::random::Random;

/// More entries are not made: what follows is removed.
const ENTRIES_MAX: usize = 120;

/// Changes a tree. What it did is printed if the test fails.
pub(crate) struct Editor {
    root: PathBuf,
    random: Random,
    made: u64,
    log: Vec<String>,
}

/// What there is to be changed.
struct Census {
    /// The root first.
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl Census {
    fn of(root: &Path) -> Self {
        let mut census = Self { directories: vec![root.to_owned()], files: Vec::new(), others: Vec::new() };
        let mut next = 0;
        while let Some(directory) = census.directories.get(next).cloned() {
            next += 1;
            let mut entries: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap()).collect();
            entries.sort_by_key(|entry| entry.file_name());
            for entry in entries {
                let kind = entry.file_type().unwrap();
                let list = match (kind.is_dir(), kind.is_file()) {
                    (true, _) => &mut census.directories,
                    (_, true) => &mut census.files,
                    _ => &mut census.others,
                };
                list.push(entry.path());
            }
        }
        census
    }

    fn below_root(&self) -> &[PathBuf] {
        &self.directories[1..]
    }

    /// Everything but directories.
    fn leaves(&self) -> Vec<PathBuf> {
        [&self.files[..], &self.others].concat()
    }

    fn all_below_root(&self) -> Vec<PathBuf> {
        [self.below_root(), &self.leaves()].concat()
    }

    fn files_and_directories(&self) -> Vec<PathBuf> {
        [&self.files[..], &self.directories].concat()
    }
}

impl Editor {
    /// Changes what lies below `root`, and `root` itself.
    pub(crate) fn new(root: &Path, seed: u64) -> Self {
        Self { root: root.to_owned(), random: Random::new(seed), made: 0, log: Vec::new() }
    }

    /// Does so many changes.
    pub(crate) fn edit(&mut self, count: u64) {
        for _ in 0..count {
            let census = Census::of(&self.root);
            let is_full = census.directories.len() + census.files.len() + census.others.len() > ENTRIES_MAX;
            let done = if is_full { self.remove(&census) } else { self.change(&census) };
            // Where there is nothing to be changed, something is made.
            if done.is_none() {
                self.create_file(&census);
            }
        }
    }

    fn change(&mut self, census: &Census) -> Option<()> {
        match self.random.below(38) {
            0..=4 => self.create_file(census),
            5 => self.create_sparse(census),
            6 | 7 => self.create_directory(census),
            8 | 9 => self.create_other(census),
            10..=13 => self.write(census),
            14 => self.truncate(census),
            15 => self.punch(census),
            16 => self.replace(census),
            17..=20 => self.rename(census),
            21..=23 => self.rename_over(census),
            24 => self.exchange(census),
            25..=27 => self.link(census),
            28 => self.remove(census),
            29 | 30 => self.change_mode(census),
            31 | 32 => self.change_owner(census),
            33..=35 => self.change_attributes(census),
            _ => self.change_time(census),
        }
    }

    fn note(&mut self, what: &str, paths: &[&Path]) {
        let shown =
            |path: &&Path| path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        let paths: Vec<String> =
            paths.iter().map(shown).map(|path| path.chars().take(60).collect()).collect();
        self.log.push(format!("{what} {paths:?}"));
    }

    /// A path that is free, in any of the directories.
    fn free_path(&mut self, census: &Census) -> PathBuf {
        let directory = self.random.pick(&census.directories).unwrap();
        loop {
            let path = directory.join(OsStr::from_bytes(&self.name()));
            if path.symlink_metadata().is_err() {
                return path;
            }
        }
    }

    /// Few names for many entries, so that they change hands.
    fn name(&mut self) -> Vec<u8> {
        self.made += 1;
        let number = self.random.below(24);
        let longest = || [format!("{:03}", self.made).as_bytes(), &[b'n'; 252]].concat();
        match self.random.below(16) {
            0 => format!("{number}.tmp").into_bytes(),
            1 => b"cache".to_vec(),
            2 => [b"\xff\xfe".as_slice(), number.to_string().as_bytes()].concat(),
            3 => format!("new\nline {number}").into_bytes(),
            4 => longest(),
            5 => format!("n{number}.img").into_bytes(),
            6 => format!("-{number} \u{e4}\u{1f600}").into_bytes(),
            7 => format!("n{number}.treering-damaged").into_bytes(),
            8..=10 => format!("n{}", self.made).into_bytes(),
            _ => format!("n{number}").into_bytes(),
        }
    }

    /// Of a file: some that others have as well, some that nobody has, some zeros.
    fn content(&mut self) -> Vec<u8> {
        let length = match self.random.below(24) {
            0 | 1 => 0,
            2..=13 => self.random.below(4_000),
            14..=18 => self.random.below(40_000),
            19..=22 => self.random.below(700_000),
            _ => 4_000_000 + self.random.below(3_000_000),
        };
        self.bytes(length as usize)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        match self.random.below(8) {
            0 => vec![0; length.min(500_000)],
            1 => b"some text that compresses well\n".iter().copied().cycle().take(length).collect(),
            2 | 3 => super::oracle::noise(self.random.below(4), length),
            _ => self.random.noise(length),
        }
    }

    fn create_file(&mut self, census: &Census) -> Option<()> {
        let path = self.free_path(census);
        self.note("create", &[&path]);
        fs::write(path, self.content()).unwrap();
        Some(())
    }

    fn create_sparse(&mut self, census: &Census) -> Option<()> {
        let path = self.free_path(census);
        self.note("create sparse", &[&path]);
        let file = File::create(path).unwrap();
        let size = self.random.below(40 << 20) + 1;
        file.set_len(size).unwrap();
        for _ in 0..self.random.below(4) {
            let length = self.random.below(100_000) as usize;
            file.write_all_at(&self.bytes(length), self.random.below(size)).unwrap();
        }
        Some(())
    }

    fn create_directory(&mut self, census: &Census) -> Option<()> {
        let path = self.free_path(census);
        self.note("mkdir", &[&path]);
        fs::create_dir(path).unwrap();
        Some(())
    }

    fn create_other(&mut self, census: &Census) -> Option<()> {
        let path = self.free_path(census);
        let kind = match self.random.below(6) {
            0 => FileType::Fifo,
            1 => FileType::Socket,
            2 => FileType::CharacterDevice,
            _ => {
                self.note("symlink", &[&path]);
                let target = self.random.pick(&["n1", "../n2", "/nowhere", "cache", "new\nline"]).unwrap();
                symlink(target, path).unwrap();
                return Some(());
            }
        };
        self.note("mknod", &[&path]);
        let device = if kind == FileType::CharacterDevice { makedev(1, 3) } else { 0 };
        mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).unwrap();
        Some(())
    }

    /// Writes into a file, often at its end; the time of modification may be set back afterwards.
    fn write(&mut self, census: &Census) -> Option<()> {
        let path = self.random.pick(&census.files)?;
        self.note("write", &[&path]);
        let file = File::options().write(true).open(&path).unwrap();
        let before = file.metadata().unwrap();
        let size = before.len();
        let offset = match self.random.below(4) {
            0 => size,
            1 => size + self.random.below(100_000),
            _ => self.random.below(size + 1),
        };
        // Within the file or behind its end.
        let most = if self.random.one_in(3) { 50_000 } else { (size - offset.min(size)).clamp(1, 20_000) };
        let length = self.random.below(most) as usize + 1;
        file.write_all_at(&self.bytes(length), offset).unwrap();
        if self.random.one_in(4) {
            file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
        }
        Some(())
    }

    fn truncate(&mut self, census: &Census) -> Option<()> {
        let path = self.random.pick(&census.files)?;
        self.note("truncate", &[&path]);
        let file = File::options().write(true).open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        file.set_len(self.random.below(size.saturating_mul(2).min(50 << 20) + 1)).unwrap();
        Some(())
    }

    fn punch(&mut self, census: &Census) -> Option<()> {
        let path = self.random.pick(&census.files)?;
        let file = File::options().write(true).open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        if size == 0 {
            return None;
        }
        self.note("punch", &[&path]);
        let offset = self.random.below(size);
        let length = self.random.below((size - offset).min(1 << 20)) + 1;
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length).unwrap();
        Some(())
    }

    /// As editors save: a new file takes the place of the old one, which may live on under another name.
    fn replace(&mut self, census: &Census) -> Option<()> {
        let path = self.random.pick(&census.files)?;
        let new = self.free_path(census);
        self.note("replace", &[&path, &new]);
        fs::write(&new, self.content()).unwrap();
        fs::rename(new, path).unwrap();
        Some(())
    }

    fn rename(&mut self, census: &Census) -> Option<()> {
        let from = self.random.pick(&census.all_below_root())?;
        let to = self.free_path(census);
        if to.starts_with(&from) {
            return None;
        }
        self.note("rename", &[&from, &to]);
        fs::rename(from, to).unwrap();
        Some(())
    }

    /// Over something else; where that is the same inode, nothing happens.
    fn rename_over(&mut self, census: &Census) -> Option<()> {
        let from = self.random.pick(&census.all_below_root())?;
        let is_empty = |path: &PathBuf| fs::read_dir(path).unwrap().next().is_none();
        let targets: Vec<PathBuf> = match from.symlink_metadata().unwrap().is_dir() {
            true => census.below_root().iter().filter(|path| is_empty(path)).cloned().collect(),
            false => census.leaves(),
        };
        let to = self.random.pick(&targets)?;
        if to.starts_with(&from) {
            return None;
        }
        self.note("rename over", &[&from, &to]);
        fs::rename(from, to).unwrap();
        Some(())
    }

    fn exchange(&mut self, census: &Census) -> Option<()> {
        let all = census.all_below_root();
        let (one, other) = (self.random.pick(&all)?, self.random.pick(&all)?);
        if one.starts_with(&other) || other.starts_with(&one) {
            return None;
        }
        self.note("exchange", &[&one, &other]);
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
        Some(())
    }

    fn link(&mut self, census: &Census) -> Option<()> {
        let from = self.random.pick(&census.leaves())?;
        let to = self.free_path(census);
        self.note("link", &[&from, &to]);
        fs::hard_link(from, to).unwrap();
        Some(())
    }

    fn remove(&mut self, census: &Census) -> Option<()> {
        if self.random.one_in(6) {
            let path = self.random.pick(census.below_root())?;
            self.note("remove all", &[&path]);
            fs::remove_dir_all(path).unwrap();
        } else {
            let path = self.random.pick(&census.leaves())?;
            self.note("unlink", &[&path]);
            fs::remove_file(path).unwrap();
        }
        Some(())
    }

    fn change_mode(&mut self, census: &Census) -> Option<()> {
        let path = self.random.pick(&census.files_and_directories())?;
        self.note("chmod", &[&path]);
        let mode = self.random.pick(&[0, 0o400, 0o644, 0o755, 0o4755, 0o2775, 0o1777, 0o7777, 0o600])?;
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        Some(())
    }

    fn change_owner(&mut self, census: &Census) -> Option<()> {
        let path = self.random.pick(&[census.all_below_root(), vec![self.root.clone()]].concat())?;
        self.note("chown", &[&path]);
        let id =
            |random: &mut Random| random.pick(&[None, Some(0), Some(1), Some(1234), Some(3_000_000_000)]);
        let (uid, gid) = (id(&mut self.random)?, id(&mut self.random)?);
        lchown(path, uid, gid).unwrap();
        Some(())
    }

    fn change_attributes(&mut self, census: &Census) -> Option<()> {
        let path = self.random.pick(&[census.all_below_root(), vec![self.root.clone()]].concat())?;
        let kind = path.symlink_metadata().unwrap().file_type();
        let mut names = vec!["trusted.short"];
        if kind.is_file() || kind.is_dir() {
            names.extend(["user.one", "user.two", "user.long", "system.posix_acl_access"]);
        }
        if kind.is_dir() {
            names.push("system.posix_acl_default");
        }
        let name = self.random.pick(&names)?;
        self.note(name, &[&path]);
        if self.random.one_in(4) {
            // One that is not there need not be removed.
            let _ = lremovexattr(&path, name);
            return Some(());
        }
        let value = match name {
            "user.long" => self.random.noise(2_500),
            _ if name.starts_with("system.") => acl(self.random.below(3) as u32 + 1234),
            _ => {
                let length = self.random.below(200) as usize;
                self.random.noise(length)
            }
        };
        lsetxattr(&path, name, &value, XattrFlags::empty()).unwrap();
        Some(())
    }

    fn change_time(&mut self, census: &Census) -> Option<()> {
        let path = self.random.pick(&[census.all_below_root(), vec![self.root.clone()]].concat())?;
        self.note("touch", &[&path]);
        let seconds = match self.random.below(4) {
            0 => -(self.random.below(1_000_000) as i64),
            1 => path.symlink_metadata().unwrap().mtime(),
            _ => self.random.below(4_000_000_000) as i64,
        };
        set_mtime(&path, seconds, self.random.below(1_000_000_000) as i64);
        Some(())
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} was changed so:\n  {}", self.root.display(), self.log.join("\n  "));
        }
    }
}
