//! A small repository that holds some of everything, and what its revisions hold, as text that a person can check.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, XattrFlags, fallocate, setxattr};

use super::oracle::{attributes, data_extents, set_mtime};
use super::system::system;
use super::{CHUNK, World, flip_bit, noise, write_at};

/// Makes the repository of a world, and returns what its revisions hold.
pub(crate) fn make(world: &World) -> String {
    let plain = Plain { world, root: world.path("plain") };
    make_images(world, &plain);
    make_trees(world, &plain);
    world.ok(&["protect", "vm@1"]);
    empty_damage_list(world);
    facts(&plain.root)
}

/// Copies of what was backed up, laid out like the mount.
struct Plain<'a> {
    world: &'a World,
    root: PathBuf,
}

impl Plain<'_> {
    fn back_up(&self, source: &str, stream: &str, tag: &str, suffix: &str) {
        let said = self.world.json(&["backup", source, stream, "--tag", tag]);
        let target = self.root.join(stream).join(format!("{}{suffix}", said["name"].as_str().unwrap()));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        system("cp", &["-a", self.world.path(source).to_str().unwrap(), target.to_str().unwrap()]);
    }
}

/// An image of text, a little noise and holes; it changes, grows, and gets another hole. Data fill whole chunks, as those of
/// an image that is read back do.
fn make_images(world: &World, plain: &Plain<'_>) {
    let image = world.image("vm.img", 50 * CHUNK + 12_345, &[]);
    write_at(&image, 0, &text("the first chunks", 3 * CHUNK));
    write_at(&image, 20 * CHUNK, &noise(7, CHUNK as usize));
    write_at(&image, 50 * CHUNK, &text("the end", 12_345));
    plain.back_up("vm.img", "vm", "first", ".img");
    write_at(&image, CHUNK + 100, b"changed");
    plain.back_up("vm.img", "vm", "daily", ".img");
    let file = File::options().write(true).open(&image).unwrap();
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 2 * CHUNK, CHUNK).unwrap();
    // More chunks than one leaf has slots.
    file.set_len(300 * CHUNK).unwrap();
    write_at(&image, 50 * CHUNK, &text("no end any more", CHUNK));
    write_at(&image, 299 * CHUNK, &text("the new end", CHUNK));
    plain.back_up("vm.img", "vm", "daily", ".img");
}

/// A tree with all sorts of entries; then a day's work on it. A revision between these is forgotten.
fn make_trees(world: &World, plain: &Plain<'_>) {
    let home = world.path("home");
    fs::create_dir_all(home.join("docs/deep/er")).unwrap();
    fs::create_dir(home.join("empty")).unwrap();
    for number in 0..40 {
        fs::write(home.join(format!("docs/file-{number:02}")), format!("small file {number}\n")).unwrap();
    }
    fs::write(home.join("docs/deep/er/large"), text("a large file", 600_000)).unwrap();
    fs::write(home.join("docs/medium"), text("a medium file", 40_000)).unwrap();
    fs::write(home.join("none"), "").unwrap();
    make_odd_files(&home);
    set_mtime(&home.join("docs/medium"), -1_000_000_000, 123_456_789);
    plain.back_up("home", "home", "first", "");
    fs::write(home.join("passing"), "a file of the revision that is forgotten").unwrap();
    world.backup("home", "home");
    fs::remove_file(home.join("passing")).unwrap();
    fs::write(home.join("docs/file-07"), "changed\n").unwrap();
    fs::rename(home.join("docs/file-08"), home.join("docs/renamed")).unwrap();
    fs::remove_file(home.join("docs/file-09")).unwrap();
    write_at(&home.join("docs/deep/er/large"), 300_000, b"changed");
    plain.back_up("home", "home", "daily", "");
    world.ok(&["forget", "home@1"]);
}

/// Hard links, symlinks, attributes short and long, holes, modes and owners.
fn make_odd_files(home: &Path) {
    fs::hard_link(home.join("docs/file-00"), home.join("other-name")).unwrap();
    symlink("docs/medium", home.join("link")).unwrap();
    symlink("/no/where", home.join("docs/dangling")).unwrap();
    let attributed = home.join("docs/file-01");
    setxattr(&attributed, "user.short", b"value", XattrFlags::empty()).unwrap();
    setxattr(home.join("docs/file-02"), "user.long", &text("value", 2_500), XattrFlags::empty()).unwrap();
    let sparse = home.join("sparse");
    File::create(&sparse).unwrap().set_len(8 << 20).unwrap();
    write_at(&sparse, 4 << 20, &text("behind a hole", 100_000));
    fs::set_permissions(home.join("docs/file-03"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(home.join("docs/deep"), fs::Permissions::from_mode(0o1777)).unwrap();
    chown(home.join("docs/file-04"), Some(1000), Some(100)).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, home.join("fifo"), 0o600.into()).unwrap();
}

/// Lets a damage list come into being and lose all that it has.
fn empty_damage_list(world: &World) {
    let pack = world.stored_files("packs/data").remove(0);
    flip_bit(&pack, 80);
    world.fails(4, &["scrub"], &[]);
    flip_bit(&pack, 80);
    world.ok(&["scrub"]);
    assert!(world.repository().join("damage").exists());
}

/// Lines that are all different, and compress well.
fn text(what: &str, length: impl TryInto<usize>) -> Vec<u8> {
    let length = length.try_into().ok().unwrap();
    let lines = (0..).flat_map(|number| format!("{what}, line {number}\n").into_bytes());
    lines.take(length).collect()
}

/// What revisions hold that lie below a directory as in the mount, a line each. Of images their bytes and holes alone.
pub(crate) fn facts(root: &Path) -> String {
    let mut lines = Vec::new();
    for stream in children(root) {
        for revision in children(&root.join(&stream)) {
            let path = format!("{stream}/{revision}");
            let metadata = fs::symlink_metadata(root.join(&path)).unwrap();
            // `latest` is a link, and `by-id` and `by-tag` hold links alone.
            if metadata.is_file() {
                lines.push(format!("{path}\timage\t{}", content(&root.join(&path), &metadata)));
            } else if metadata.is_dir() && !revision.starts_with("by-") {
                add_tree(root, &path, &mut lines);
            }
        }
    }
    lines.join("\n") + "\n"
}

fn add_tree(root: &Path, path: &str, lines: &mut Vec<String>) {
    let full = root.join(path);
    let metadata = fs::symlink_metadata(&full).unwrap();
    let attributes: Vec<String> = attributes(&full)
        .iter()
        .filter(|(name, _)| name.starts_with("user."))
        .map(|(name, value)| format!("{name}={}", value.escape_ascii()))
        .collect();
    lines.push(format!(
        "{path}\t{}\t{:o} {}:{} {}.{:09}\t{}",
        kind(&full, &metadata),
        metadata.mode() & 0o7777,
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        attributes.join(" ")
    ));
    if metadata.is_dir() {
        children(&full).iter().for_each(|name| add_tree(root, &format!("{path}/{name}"), lines));
    }
}

fn kind(path: &Path, metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_symlink() {
        format!("link to {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        format!("file of {} names\t{}", metadata.nlink(), content(path, metadata))
    } else {
        "other".to_owned()
    }
}

/// Size, SHA-256 and where data are.
fn content(path: &Path, metadata: &Metadata) -> String {
    let sum = system("sha256sum", &[path.to_str().unwrap()]);
    let ranges = data_extents(&File::open(path).unwrap());
    let ranges: Vec<String> = ranges.iter().map(|(start, end)| format!("{start}-{end}")).collect();
    format!("{} bytes\t{}\t{}", metadata.len(), sum.split(' ').next().unwrap(), ranges.join(","))
}

/// Names in a directory, sorted.
pub(crate) fn children(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
