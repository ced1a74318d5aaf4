//! Deep trees, large directories, odd names, and what may not be read.

use std::ffi::OsStr;

use rustix::fs::mkdirat;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::*;

/// A file system of its own, until it is dropped.
pub(super) struct Mount {
    at: PathBuf,
    /// Where its image lies.
    _around: Option<Tree>,
}

impl Mount {
    /// A new and empty one in a file.
    pub(super) fn new(kind: &str) -> Self {
        let tree = Tree::new().with(&["mounted/"]);
        let (at, image) = (tree.at("mounted"), tree.at("image"));
        fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at));
        Self { at, _around: Some(tree) }
    }

    pub(super) fn tmpfs(at: &Path) -> Self {
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), None).unwrap();
        Self { at: at.to_owned(), _around: None }
    }

    /// A tree in it.
    pub(super) fn tree(&self) -> Tree {
        let at = self.at.join("tree");
        fs::create_dir(&at).unwrap();
        Tree(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.at, UnmountFlags::empty()).unwrap();
    }
}

/// Without the powers that let root read everything, as long as this lives.
struct Powerless(rustix::thread::CapabilitySets);

impl Powerless {
    fn new() -> Self {
        let before = capabilities(None).unwrap();
        let mut sets = before;
        sets.effective -=
            CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::FOWNER;
        set_capabilities(None, sets).unwrap();
        Self(before)
    }
}

impl Drop for Powerless {
    fn drop(&mut self) {
        set_capabilities(None, self.0).unwrap();
    }
}

fn set_mode(path: PathBuf, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn what_may_not_be_read_is_named_and_the_walk_goes_on() {
    let tree = Tree::new().with(&["a/x", "listed/x", "searched/x", "shut/x", "z"]);
    ["listed", "searched", "shut"]
        .into_iter()
        .zip([0o600, 0o300, 0])
        .for_each(|(name, mode)| set_mode(tree.at(name), mode));
    set_mode(tree.at("z"), 0);
    let powerless = Powerless::new();
    let found = steps(&tree.source());
    let denied = "Permission denied (os error 13)";
    assert_eq!(
        found,
        [
            "a/".to_owned(),
            "x".into(),
            "..".into(),
            "listed/".into(),
            format!("!cannot look at /listed/x: {denied}"),
            "..".into(),
            "searched/".into(),
            format!("!cannot open /searched: {denied}"),
            "..".into(),
            "shut/".into(),
            format!("!cannot open /shut: {denied}"),
            "..".into(),
            "z".into(),
        ]
    );
    let source = tree.source();
    let steps = source
        .walk()
        .unwrap()
        .filter_map(|step| if let Step::Entry(entry) = step { Some(entry) } else { None });
    let z = steps.last().unwrap();
    assert_eq!(z.open().err().unwrap().cause, Cause::System(rustix::io::Errno::ACCESS));
    // Its metadata can be told all the same.
    assert_eq!(z.hold().unwrap().attributes().unwrap(), []);
    drop(powerless);
    assert!(z.open().is_ok());
}

#[test]
fn a_file_of_somebody_else_is_read_without_the_power_to_leave_no_trace() {
    if !is_root("a_file_of_somebody_else_is_read_without_the_power_to_leave_no_trace") {
        return;
    }
    let tree = Tree::new().with(&["directory/file"]);
    for path in ["directory", "directory/file"] {
        std::os::unix::fs::chown(tree.at(path), Some(12345), None).unwrap();
    }
    let _powerless = Powerless::new();
    assert_eq!(tree.entry("directory/file").open().unwrap().read_at(0, &mut [0; 20]).unwrap(), 14);
}

#[test]
fn names_may_be_any_bytes() {
    let tree = Tree::new();
    let long = [b'\xfe'; 255];
    let names: [&[u8]; 6] = [b" ", b"\n", b"-x", b"A\xc3", b"\xc3\xa4", &long];
    for name in names {
        fs::write(tree.at(OsStr::from_bytes(name)), name).unwrap();
    }
    let found = entries(&tree.source());
    assert_eq!(
        found[1..].iter().map(Entry::name).collect::<Vec<_>>(),
        [names[1], names[0], names[2], names[3], names[4], names[5]]
    );
    for entry in &found[1..] {
        let mut content = [0; 300];
        let length = entry.open().unwrap().read_at(0, &mut content).unwrap();
        assert_eq!(&content[..length], entry.name());
    }
    assert!(found[6].error("open", Cause::Vanished).to_string().contains(r"\xfe\xfe"));
}

#[test]
fn a_large_directory_comes_whole_and_sorted() {
    let tree = Tree::in_memory();
    let mut names: Vec<String> = (0..5000).map(|index| format!("{:04}", index * 7919 % 5000)).collect();
    for (index, name) in names.iter().enumerate() {
        if index % 50 == 0 {
            fs::create_dir(tree.at(name)).unwrap();
            fs::write(tree.at(name).join("inner"), "").unwrap();
        } else {
            fs::write(tree.at(name), "").unwrap();
        }
    }
    names.sort();
    let found = entries(&tree.source());
    let outer = |entry: &&Entry| !entry.name().is_empty() && entry.name() != b"inner";
    let outer: Vec<_> = found.iter().filter(outer).map(|entry| readable(entry.name()).to_string()).collect();
    assert_eq!(outer, names);
    let inner: Vec<_> = found.windows(2).filter(|pair| pair[1].name() == b"inner").collect();
    assert_eq!(inner.len(), 100);
    assert!(inner.iter().all(|pair| pair[0].stat.kind == EntryType::Directory));
}

/// How many files and directories this process has open in a tree, or at a path that is too long to be told.
fn open_in(tree: &Tree, deep: bool) -> usize {
    let is_inside = |descriptor: &PathBuf| match fs::read_link(descriptor) {
        Ok(path) => path.starts_with(tree.path()),
        Err(error) => deep && error.kind() == std::io::ErrorKind::InvalidFilename,
    };
    fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path()).filter(is_inside).count()
}

#[test]
fn a_tree_deeper_than_any_path_is_walked_with_few_descriptors() {
    const LEVELS: usize = 3000;
    let tree = Tree::in_memory();
    let mut descriptor: OwnedFd = fs::File::open(tree.path()).unwrap().into();
    for _ in 0..LEVELS {
        mkdirat(&descriptor, "m", Mode::RWXU).unwrap();
        for name in ["a", "z"] {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            let file = openat(&descriptor, name, flags, Mode::RWXU).unwrap();
            rustix::io::write(file, b"x").unwrap();
        }
        descriptor = openat(&descriptor, "m", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(descriptor);
    let source = tree.source();
    let mut most = 0;
    let mut count = 0;
    let mut longest = 0;
    for step in source.walk().unwrap() {
        let Step::Entry(entry) = step else { continue };
        // Those behind `m` are opened after all that lies deeper, when their directory was closed long ago.
        assert_eq!(entry.open().unwrap().read_at(0, &mut [0; 2]).unwrap(), 1);
        count += 1;
        longest = longest.max(entry.path().len());
        if count % 100 == 0 {
            most = most.max(open_in(&tree, true));
        }
    }
    assert_eq!((count, longest), (2 * LEVELS, 2 * LEVELS - 1));
    assert!((50..150).contains(&most), "{most}");
    assert_eq!(open_in(&tree, true), 1);
}

#[test]
fn a_walk_can_be_given_up() {
    let paths: Vec<String> = (0..2000).map(|index| format!("{index}/a/b/c")).collect();
    let tree = Tree::in_memory().with(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let source = tree.source();
    for count in [0, 1, 2, 100] {
        assert_eq!(source.walk().unwrap().take(count).count(), count);
    }
    drop(source);
    assert_eq!(open_in(&tree, false), 0);
}

#[test]
fn a_tree_can_be_walked_again() {
    let tree = Tree::new().with(&["a/b/c", "d"]);
    let source = tree.source();
    let first = steps(&source);
    fs::write(tree.at("a/new"), "").unwrap();
    assert_eq!(first, ["a/", "b/", "c", "..", "..", "d"]);
    assert_eq!(steps(&source), ["a/", "b/", "c", "..", "new", "..", "d"]);
}
