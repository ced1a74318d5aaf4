//! What is told of entries: metadata, content, link targets, extended attributes.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

use rustix::fs::{FallocateFlags, XattrFlags, fallocate, lsetxattr, setxattr};

use super::limits::Mount;
use super::*;

#[test]
fn a_stat_tells_what_the_system_tells() {
    let tree = Tree::new().with(&["file"]);
    fs::hard_link(tree.at("file"), tree.at("other")).unwrap();
    fs::set_permissions(tree.at("file"), std::os::unix::fs::PermissionsExt::from_mode(0o6751)).unwrap();
    let (stat, metadata) = (tree.entry("file").stat, fs::metadata(tree.at("file")).unwrap());
    assert_eq!((stat.kind, stat.mode, stat.links, stat.size), (EntryType::File, 0o6751, 2, 4));
    assert_eq!((stat.uid, stat.gid, stat.blocks), (metadata.uid(), metadata.gid(), metadata.blocks()));
    assert_eq!(stat.identity, Identity { device: metadata.dev(), inode: metadata.ino() });
    assert_eq!(
        (stat.mtime.seconds, i64::from(stat.mtime.nanoseconds)),
        (metadata.mtime(), metadata.mtime_nsec())
    );
    assert_eq!(
        (stat.ctime.seconds, i64::from(stat.ctime.nanoseconds)),
        (metadata.ctime(), metadata.ctime_nsec())
    );
    assert_eq!(stat.identity, tree.entry("other").stat.identity);
    assert_eq!(stat.evidence().inode, metadata.ino());
}

#[test]
fn an_entry_was_not_seen_before_the_time_it_tells() {
    let tree = Tree::new();
    let before = Timestamp::now();
    let tree = tree.with(&["file"]);
    let entry = tree.entry("file");
    let file = entry.open().unwrap();
    let clean_at = file.clean_at.unwrap();
    assert!(before <= entry.seen && before <= clean_at && clean_at <= Timestamp::now());
    let next = tree.entry("file").open().unwrap();
    assert!(clean_at <= next.clean_at.unwrap());
}

#[test]
fn devices_fifos_and_sockets_are_told_and_never_opened() {
    if !is_root("devices_fifos_and_sockets_are_told_and_never_opened") {
        return;
    }
    let tree = Tree::new();
    tree.special("block", FileType::BlockDevice, (7, 300));
    tree.special("character", FileType::CharacterDevice, (1, 3));
    tree.special("fifo", FileType::Fifo, (0, 0));
    tree.special("socket", FileType::Socket, (0, 0));
    let found: Vec<_> =
        entries(&tree.source()).iter().map(|entry| (entry.stat.kind, entry.stat.device_number)).collect();
    assert_eq!(
        found[1..],
        [
            (EntryType::BlockDevice, (7, 300)),
            (EntryType::CharacterDevice, (1, 3)),
            (EntryType::Fifo, (0, 0)),
            (EntryType::Socket, (0, 0)),
        ]
    );
    for name in ["fifo", "socket", "character"] {
        assert_eq!(tree.entry(name).open().err().unwrap().cause, Cause::Replaced, "{name}");
        assert_eq!(tree.entry(name).hold().unwrap().attributes().unwrap(), [], "{name}");
    }
}

#[test]
fn symlinks_are_told_and_never_followed() {
    let tree = Tree::new().with(&["a/file"]);
    symlink("a", tree.at("to-directory")).unwrap();
    symlink(".", tree.at("to-itself")).unwrap();
    symlink("/", tree.at("a/to-root")).unwrap();
    let long = "x/".repeat(2000);
    symlink(&long, tree.at("long")).unwrap();
    assert_eq!(steps(&tree.source()), ["a/", "file", "to-root", "..", "long", "to-directory", "to-itself"]);
    let target = |path: &str| tree.entry(path).hold().unwrap().link_target().unwrap();
    assert_eq!((target("a/to-root"), target("long")), (b"/".to_vec(), long.into_bytes()));
    assert_eq!(tree.entry("to-directory").open().err().unwrap().cause, Cause::Replaced);
}

#[test]
fn a_file_is_read_in_full_and_no_further() {
    let tree = Tree::new().with(&["file", "empty"]);
    fs::write(tree.at("empty"), "").unwrap();
    let file = tree.entry("file").open().unwrap();
    let mut buffer = [0; 10];
    assert_eq!(file.read_at(1, &mut buffer).unwrap(), 3);
    assert_eq!(&buffer[..3], b"ile");
    assert_eq!(file.read_at(4, &mut buffer).unwrap(), 0);
    assert_eq!(file.extent_at(0), Some(FileExtent::Data(0..4)));
    assert_eq!(file.extent_at(4), None);
    assert_eq!(tree.entry("empty").open().unwrap().extent_at(0), None);
}

#[test]
fn a_change_after_opening_shows() {
    let tree = Tree::new().with(&["file"]);
    let file = tree.entry("file").open().unwrap();
    assert_eq!(file.stat_now().unwrap(), file.stat);
    fs::write(tree.at("file"), "longer than before").unwrap();
    assert_ne!(file.stat_now().unwrap(), file.stat);
}

#[test]
fn reading_leaves_no_trace() {
    let tree = Tree::new().with(&["a/file"]);
    let accessed = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    for name in ["a/file", "a"] {
        File::open(tree.at(name)).unwrap().set_times(fs::FileTimes::new().set_accessed(accessed)).unwrap();
    }
    let file = tree.entry("a/file").open().unwrap();
    assert_eq!(file.read_at(0, &mut [0; 10]).unwrap(), 6);
    assert_eq!(fs::metadata(tree.at("a/file")).unwrap().accessed().unwrap(), accessed);
    assert_eq!(fs::metadata(tree.at("a")).unwrap().accessed().unwrap(), accessed);
}

#[test]
fn holes_data_and_preallocated_zeros_are_told_apart() {
    const MIB: u64 = 1 << 20;
    let tree = Tree::new();
    let mut sparse = File::create(tree.at("sparse")).unwrap();
    sparse.write_all_at(&[1; 4096], MIB).unwrap();
    sparse.seek(SeekFrom::Start(3 * MIB)).unwrap();
    sparse.write_all(b"end").unwrap();
    let full = File::create(tree.at("preallocated")).unwrap();
    fallocate(&full, FallocateFlags::empty(), 0, 2 * MIB).unwrap();
    full.write_all_at(&[1; 4096], MIB).unwrap();
    full.sync_all().unwrap();

    let sparse = tree.entry("sparse").open().unwrap();
    assert_eq!(sparse.extent_at(0), Some(FileExtent::Hole(0..MIB)));
    assert_eq!(sparse.extent_at(4096), Some(FileExtent::Hole(4096..MIB)));
    assert_eq!(sparse.extent_at(MIB + 1), Some(FileExtent::Data(MIB + 1..MIB + 4096)));
    assert_eq!(sparse.extent_at(3 * MIB + 1), Some(FileExtent::Data(3 * MIB + 1..3 * MIB + 3)));
    let full = tree.entry("preallocated").open().unwrap();
    let extents = [full.extent_at(0), full.extent_at(MIB), full.extent_at(MIB + 4096)];
    // Some file systems read preallocated space as data: that is as true.
    if extents[0] != Some(FileExtent::Data(0..2 * MIB)) {
        assert_eq!(
            extents,
            [
                Some(FileExtent::Zeros(0..MIB)),
                Some(FileExtent::Data(MIB..MIB + 4096)),
                Some(FileExtent::Zeros(MIB + 4096..2 * MIB))
            ]
        );
    }
}

#[test]
fn a_file_that_is_one_hole_has_no_data() {
    let tree = Tree::new();
    File::create(tree.at("hole")).unwrap().set_len(100 << 30).unwrap();
    assert_eq!(tree.entry("hole").open().unwrap().extent_at(5), Some(FileExtent::Hole(5..100 << 30)));
}

/// An ACL that lets the user 12345 read: version 2, then tag, permissions and id of each entry.
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 12345), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 4, u32::MAX)];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// `cap_net_raw=ep`.
fn capability() -> Vec<u8> {
    [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn attribute(name: &str, value: &[u8]) -> Attribute {
    Attribute { name: name.into(), value: value.into() }
}

/// Sets attributes of every namespace and finds them again.
fn check_attributes(tree: Tree) {
    let tree = tree.with(&["directory/", "file"]);
    symlink("nowhere", tree.at("link")).unwrap();
    tree.special("fifo", FileType::Fifo, (0, 0));
    let all = [
        attribute("security.capability", &capability()),
        attribute("system.posix_acl_access", &acl()),
        attribute("trusted.treering", b""),
        attribute("user.long", &[7; 2000]),
        attribute("user.text", b"\0\xff"),
    ];
    let set = |path: &str, attribute: &Attribute| {
        lsetxattr(tree.at(path), &attribute.name, &attribute.value, XattrFlags::empty()).unwrap();
    };
    all.iter().for_each(|attribute| set("file", attribute));
    all[1..].iter().for_each(|attribute| set("directory", attribute));
    setxattr(tree.at("directory"), "system.posix_acl_default", &acl(), XattrFlags::empty()).unwrap();
    set("link", &all[2]);
    set("fifo", &all[2]);

    let held = |path: &str| tree.entry(path).hold().unwrap().attributes().unwrap();
    assert_eq!(held("file"), all);
    assert_eq!(tree.entry("file").open().unwrap().attributes().unwrap(), all);
    let mut of_directory = all[1..].to_vec();
    of_directory.insert(1, attribute("system.posix_acl_default", &acl()));
    assert_eq!(held("directory"), of_directory);
    assert_eq!(held("link"), all[2..3]);
    assert_eq!(held("fifo"), all[2..3]);
    setxattr(tree.path(), "user.root", b"x", XattrFlags::empty()).unwrap();
    assert_eq!(tree.source().root().hold().unwrap().attributes().unwrap(), [attribute("user.root", b"x")]);
}

#[test]
fn attributes_of_all_namespaces_are_read() {
    if !is_root("attributes_of_all_namespaces_are_read") {
        return;
    }
    for file_system in ["ext4", "btrfs"] {
        check_attributes(Mount::new(file_system).tree());
    }
    let around = Tree::new();
    check_attributes(Mount::tmpfs(around.path()).tree());
}

#[test]
fn a_file_system_without_attributes_has_none() {
    // /proc keeps none, and says so in its own way.
    let source = TreeSource::open(Path::new("/proc/self/ns"), TreeOptions::default()).unwrap();
    assert_eq!(source.root().hold().unwrap().attributes().unwrap(), []);
}
