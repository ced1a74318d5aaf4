//! `treering ls`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};
use support::blobs::{DIRECTORY, blobs};
use support::oracle::make_nasty_tree;
use support::system::{Requirement, can_use};
use support::{World, interrupt, settle};
use treering_engine::Timestamp;

/// A world with a small tree that is backed up.
fn world() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("home/docs/deep")).unwrap();
    fs::write(world.path("home/docs/a.txt"), b"text").unwrap();
    fs::write(world.path("home/docs/new\nline"), b"").unwrap();
    fs::write(world.path("home/docs/deep/x"), b"x").unwrap();
    fs::write(world.path("home/z"), vec![7; 5000]).unwrap();
    symlink("docs/a.txt", world.path("home/link")).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    world
}

fn bytes_of(object: &Value, key: &str) -> Vec<u8> {
    match object.get(format!("{key}_bytes")) {
        Some(digits) => {
            let digits = digits.as_str().unwrap();
            (0..digits.len() / 2)
                .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
                .collect()
        }
        None => object[key].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// What `ls --json` should say of each path below a directory.
fn expected(directory: &Path, above: &[u8], found: &mut BTreeMap<Vec<Vec<u8>>, Value>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let (kind, name) = (metadata.file_type(), entry.file_name());
        let path = [above, name.as_bytes()].concat();
        let time = |seconds, nanoseconds: i64| Timestamp { seconds, nanoseconds: nanoseconds as u32 };
        let types = [
            (kind.is_file(), "file"),
            (kind.is_dir(), "directory"),
            (kind.is_symlink(), "symlink"),
            (kind.is_block_device(), "block-device"),
            (kind.is_char_device(), "character-device"),
            (kind.is_fifo(), "fifo"),
            (kind.is_socket(), "socket"),
        ];
        let has_size = kind.is_file() || kind.is_symlink();
        let device = |number: fn(u64) -> u32| {
            (kind.is_block_device() || kind.is_char_device()).then(|| number(metadata.rdev()))
        };
        let value = json!({
            "type": types.iter().find(|(is, _)| *is).unwrap().1,
            "mode": format!("{:04o}", metadata.mode() & 0o7777),
            "uid": metadata.uid(),
            "gid": metadata.gid(),
            "size": has_size.then_some(metadata.size()),
            "mtime": time(metadata.mtime(), metadata.mtime_nsec()).to_string(),
            "ctime": time(metadata.ctime(), metadata.ctime_nsec()).to_string(),
            "inode": metadata.ino(),
            "links": metadata.nlink(),
            "major": device(rustix::fs::major),
            "minor": device(rustix::fs::minor),
        });
        found.insert(path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect(), value);
        if kind.is_dir() {
            expected(&entry.path(), &[&path[..], b"/"].concat(), found);
        }
    }
}

#[test]
fn everything_that_a_file_system_can_hold_is_listed_as_it_is() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    let home = world.path("home");
    fs::create_dir(&home).unwrap();
    make_nasty_tree(&home);
    settle();
    world.ok(&["backup", "home"]);
    let mut all = BTreeMap::new();
    expected(&home, b"", &mut all);
    let said = world.json(&["ls", "-R", "home"]);
    assert_eq!(said["damaged"], json!([]));
    let entries = said["entries"].as_array().unwrap();
    assert_eq!(entries.len(), all.len());
    for (entry, (parts, value)) in entries.iter().zip(&all) {
        assert_eq!(bytes_of(entry, "path"), parts.join(&b'/'), "in order");
        assert_eq!(&bytes_of(entry, "name"), parts.last().unwrap());
        for (key, value) in value.as_object().unwrap() {
            assert_eq!(&entry[key], value, "{key} of {}", entry["path"]);
        }
        let path = home.join(OsStr::from_bytes(&parts.join(&b'/')));
        if entry["type"] == "symlink" {
            let target = fs::read_link(path).unwrap();
            assert_eq!(bytes_of(entry, "target"), target.as_os_str().as_bytes());
        } else if entry["type"] == "directory" {
            assert_eq!(entry["entries"], fs::read_dir(path).unwrap().count());
        }
        if entry["uid"] == 0 {
            assert_eq!(entry["user"], "root");
        }
    }
    let lines = world.ok(&["ls", "-lR", "home"]).text();
    assert_eq!(lines.lines().count(), all.len(), "no name breaks a line");
    assert!(lines.contains("names/\\xff\\xfe not utf-8") && lines.contains("names/new\\nline"), "{lines}");
    assert!(lines.lines().all(|line| !line.chars().any(char::is_control)));
}

#[test]
fn a_directory_shows_its_names_and_all_below_their_paths() {
    let world = world();
    assert_eq!(world.ok(&["ls", "home"]).text(), "docs\nlink\nz\n");
    assert_eq!(world.ok(&["ls", "home@0", "/docs/"]).text(), "a.txt\ndeep\nnew\\nline\n");
    let all = "docs/a.txt\ndocs/deep\ndocs/deep/x\ndocs/new\\nline\n";
    assert_eq!(world.ok(&["ls", "home", "docs", "-R"]).text(), all);
    assert_eq!(world.ok(&["ls", "home", "docs/a.txt"]).text(), "docs/a.txt\n");
    assert_eq!(world.ok(&["ls", "-R", "home", "link"]).text(), "link\n");
    let long = world.ok(&["ls", "-l", "home"]).text();
    let lines: Vec<&str> = long.lines().collect();
    assert!(
        lines[0].starts_with("drwx") && lines[0].contains(" - ") && lines[0].ends_with("Z docs"),
        "{long}"
    );
    assert!(lines[1].starts_with("lrwxrwxrwx") && lines[1].ends_with(" link -> docs/a.txt"), "{long}");
    assert!(lines[2].starts_with("-rw") && lines[2].contains("4.88 KiB"), "{long}");
}

#[test]
fn what_is_not_there_is_an_error_that_names_it() {
    let world = world();
    for path in ["nothing", "z/below", "link/below", "docs/../z"] {
        let run = world.fails(1, &["ls", "home", path], &["cannot list", "has no entry", path, "hint:"]);
        assert_eq!(run.text(), "");
        let run = world.fails(1, &["ls", "home", path, "--json"], &[]);
        assert!(run.json()["error"]["message"].as_str().unwrap().contains(path));
    }
    world.fails(1, &["ls", "home@7"], &["no revision of 'home' matches '7'"]);
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.fails(1, &["ls", "vm1"], &["is an image, not a tree", "treering list"]);
    let empty = world.path("empty");
    fs::create_dir(empty).unwrap();
    world.ok(&["backup", "empty"]);
    assert_eq!(world.json(&["ls", "empty"]), json!({ "entries": [], "damaged": [] }));
}

#[test]
fn what_can_be_read_is_shown_whatever_is_damaged() {
    let world = world();
    let whole = world.json(&["ls", "-R", "home"])["entries"].as_array().unwrap().len();
    let directories = blobs(&world, "packs/metadata", DIRECTORY);
    assert!(directories.len() >= 4, "{directories:?}");
    let mut shown = Vec::new();
    for blob in directories {
        blob.flip();
        let run = world.run(&["ls", "-R", "home", "--json"]).expect_code(4);
        run.says(&["damaged"]);
        let said = run.json();
        if said.get("error").is_none() {
            let damaged = said["damaged"].as_array().unwrap();
            assert_eq!(damaged.len(), 1);
            run.says(&[damaged[0]["path"].as_str().unwrap(), "treering scrub"]);
            shown.push(said["entries"].as_array().unwrap().len());
            world.fails(4, &["ls", "-R", "home"], &["cannot read"]);
        }
        blob.flip();
    }
    shown.sort_unstable();
    assert_eq!(shown, [0, 3, whole - 1], "without the root's entries, those of docs, those of docs/deep");
    world.ok(&["ls", "-R", "home"]);
}

/// A world with a directory of so many files that is backed up.
fn world_with_many(count: u64) -> World {
    let world = World::new();
    fs::create_dir(world.path("many")).unwrap();
    for number in 0..count {
        fs::write(world.path(&format!("many/a-file-of-many-{number:08}")), b"").unwrap();
    }
    world.ok(&["backup", "many"]);
    world
}

/// The most memory that a process has had, in KiB.
fn peak_memory(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_directory_of_many_entries_is_listed_in_little_memory() {
    const COUNT: u64 = 100_000;
    let world = world_with_many(COUNT);
    let said = world.ok(&["ls", "many", "--json"]);
    assert_eq!(said.json()["entries"].as_array().unwrap().len() as u64, COUNT);
    // Nearly all of it is printed, and the process waits for the rest to be read.
    let mut child = world.start(&["ls", "many", "--json"]);
    let mut stdout = child.stdout.take().unwrap();
    let mut most = vec![0; said.stdout.len() - (200 << 10)];
    stdout.read_exact(&mut most).unwrap();
    let listing = peak_memory(&child);
    stdout.read_to_end(&mut most).unwrap();
    assert!(child.wait().unwrap().success() && most == said.stdout);
    let mut child = world.start(&["find", "many", "*", "--json"]);
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut vec![0; 10 << 20]).unwrap();
    let finding = peak_memory(&child);
    stdout.read_to_end(&mut Vec::new()).unwrap();
    child.wait().unwrap();
    // The cache alone may take 64 MiB.
    assert!(listing < 110 << 10 && finding < 110 << 10, "{listing} KiB, {finding} KiB");
}

#[test]
fn an_interrupted_listing_ends_with_130_and_one_json_document() {
    let world = world_with_many(5000);
    for arguments in [&["ls", "many", "--json"][..], &["find", "many", "*", "--json"], &["ls", "-l", "many"]]
    {
        let mut child = world.start(arguments);
        let mut stdout = child.stdout.take().unwrap();
        let mut said = vec![0; 1000];
        stdout.read_exact(&mut said).unwrap();
        interrupt(&child);
        // Nobody reads: that must not keep it from ending, unless the document is to be ended.
        std::thread::sleep(std::time::Duration::from_millis(400));
        stdout.read_to_end(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{arguments:?}");
        if arguments.contains(&"--json") {
            let said: Value = serde_json::from_slice(&said).unwrap();
            assert_eq!(said["error"]["code"], 130);
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    use std::os::unix::process::ExitStatusExt;
    let world = world_with_many(5000);
    for arguments in [&["ls", "many"][..], &["ls", "many", "--json"], &["find", "many", "*"]] {
        let mut child = world.start(arguments);
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 100]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(13), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

/// As it is typed where names are completed: `./docs` once was no entry.
#[test]
fn a_dot_in_a_path_leads_nowhere() {
    let world = world();
    let same = |commands: [&[&str]; 2]| {
        let [plain, dotted] = commands.map(|arguments| world.ok(arguments).stdout);
        assert!(plain == dotted, "{commands:?}");
    };
    same([&["ls", "home"], &["ls", "home", "."]]);
    same([&["ls", "home", "docs"], &["ls", "home", "./docs/."]]);
    same([&["dump", "home", "docs/a.txt"], &["dump", "home", "./docs/./a.txt"]]);
    same([&["history", "home", "docs/a.txt", "--json"], &["history", "home", "./docs/a.txt", "--json"]]);
    world.ok(&["restore", "home", "out", "--path", "./docs"]);
    assert_eq!(fs::read(world.path("out/deep/x")).unwrap(), b"x");
    world.fails(1, &["ls", "home", "docs/../docs"], &["no entry"]);
}
