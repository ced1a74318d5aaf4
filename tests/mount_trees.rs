//! Trees through a real mount: what is shown is what was backed up, to every tool that looks at it.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::oracle::{Leniency, RESTORED, assert_same, data_extents, make_nasty_tree};
use support::system::{Mounted, Requirement, can_use, system};
use support::{USER, World, flip_bit, settle, wait_until};

fn can_mount() -> bool {
    can_use(&[Requirement::Root, Requirement::Fuse])
}

/// A world with a directory `home`, filled and backed up.
fn world_with(fill: impl FnOnce(&Path)) -> World {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    fill(&world.path("home"));
    settle();
    world.backup("home", "home");
    world
}

fn small_tree(root: &Path) {
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("a"), b"first").unwrap();
    fs::write(root.join("sub/b"), b"second").unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_tree_of_everything_is_shown_as_it_was() {
    if !can_mount() {
        return;
    }
    let world = world_with(make_nasty_tree);
    let _mounted = Mounted::repository(&world, &[]);
    let latest = world.path("mnt/home").join(fs::read_link(world.path("mnt/home/latest")).unwrap());
    // What is allocated and has no data is shown as data, which it must be made into when it is copied.
    assert_same(&world.path("home"), &latest, Leniency { holes: true, ..Leniency::default() });
}

#[test]
fn holes_of_files_are_shown_and_copied() {
    if !can_mount() {
        return;
    }
    let world = world_with(make_nasty_tree);
    let _mounted = Mounted::repository(&world, &[]);
    for name in ["hole", "sparse", "sparse-to-the-end", "wide", "of-1", "large"] {
        let path = world.path("mnt/home/latest/files").join(name);
        let (shown, original) =
            (File::open(&path).unwrap(), File::open(world.path("home/files").join(name)).unwrap());
        let extents = data_extents(&shown);
        assert_eq!(extents, data_extents(&original), "{name}");
        let bytes: u64 = extents.iter().map(|(start, end)| end - start).sum();
        assert_eq!(shown.metadata().unwrap().blocks(), bytes.div_ceil(512), "{name}");
    }
    let copy = world.path("copy");
    system("cp", &["--sparse=auto", text(&world.path("mnt/home/latest/files/wide")), text(&copy)]);
    assert_eq!(fs::metadata(&copy).unwrap().len(), 100 << 30);
    assert!(fs::metadata(&copy).unwrap().blocks() < 1000);
}

#[test]
fn tools_find_no_difference_and_make_faithful_copies() {
    let programs = ["rsync", "tar", "diff", "find"].map(Requirement::Program);
    if !can_mount() || !can_use(&programs) {
        return;
    }
    let world = world_with(|home| {
        make_nasty_tree(home);
        // Of these rsync reads every byte.
        fs::remove_file(home.join("files/wide")).unwrap();
    });
    let _mounted = Mounted::repository(&world, &[]);
    let shown = world.path("mnt/home/latest");
    let (from, to) = (format!("{}/", text(&world.path("home"))), format!("{}/", text(&shown)));
    for (from, to) in [(&from, &to), (&to, &from)] {
        let said = system("rsync", &["-aHAXn", "--checksum", "--itemize-changes", "--delete", from, to]);
        assert_eq!(said, "");
    }
    let listed = |root: &Path| {
        let mut find = Command::new("find");
        find.args([".", "-printf", "%p %y %m %U %G %s %T@ %C@ %n %l\\n"]).current_dir(root);
        let mut lines: Vec<String> =
            String::from_utf8_lossy(&find.output().unwrap().stdout).lines().map(str::to_owned).collect();
        // Directories have the size that their file system likes.
        lines.retain(|line| !line.contains(" d "));
        lines.sort();
        lines
    };
    assert_eq!(listed(&world.path("home")), listed(&fs::canonicalize(&shown).unwrap()));
    system("cp", &["--archive", "--sparse=auto", &to, text(&world.path("copy"))]);
    assert_same(&world.path("home"), &world.path("copy"), Leniency { holes: true, ..RESTORED });
}

#[test]
fn hard_links_share_an_inode_and_numbers_stay() {
    if !can_mount() {
        return;
    }
    let world = world_with(make_nasty_tree);
    let inode = |path: &str| fs::symlink_metadata(world.path("mnt/home/latest").join(path)).unwrap().ino();
    let inodes = || ["links/first", "links/second", "files/third", "links/dangling", "files/of-1"].map(inode);
    let mounted = Mounted::repository(&world, &[]);
    let first = inodes();
    assert!(first[0] == first[1] && first[0] == first[2] && first[0] != first[3] && first[3] != first[4]);
    // Found by another name alone, it is found as well.
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    assert_eq!(fs::read(world.path("mnt/home/latest/files/third")).unwrap(), b"has three names");
    drop(mounted);
    let _again = Mounted::repository(&world, &[]);
    assert_eq!(inodes(), first);
}

#[test]
fn the_layout_is_that_of_the_contract_and_new_revisions_show() {
    if !can_mount() {
        return;
    }
    let world = world_with(small_tree);
    let first = world.revisions("home")[0].clone();
    let _mounted = Mounted::repository(&world, &[]);
    let stream = world.path("mnt/home");
    let name = first["name"].as_str().unwrap();
    assert_eq!(fs::read_link(stream.join("latest")).unwrap(), Path::new(name));
    let by_id = stream.join("by-id").join(first["id"].as_str().unwrap());
    assert_eq!(fs::read_link(&by_id).unwrap(), Path::new("..").join(name));
    assert_eq!(fs::read(by_id.join("sub/b")).unwrap(), b"second");
    fs::write(world.path("home/new"), b"third").unwrap();
    settle();
    world.ok(&["backup", "home", "--tag", "daily"]);
    wait_until("the new revision shows", || stream.join("latest/new").exists());
    assert!(!stream.join(name).join("new").exists());
    wait_until("its tag shows", || stream.join("by-tag/daily").is_dir());
    let tagged = fs::read_dir(stream.join("by-tag/daily")).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read(tagged.path().join("new")).unwrap(), b"third");
}

#[test]
fn a_directory_of_many_entries_is_listed_and_sought_in() {
    const COUNT: usize = 100_000;
    if !can_mount() {
        return;
    }
    let world = world_with(|home| {
        for number in 0..COUNT {
            File::create(home.join(format!("{number:06}"))).unwrap();
        }
    });
    let _mounted = Mounted::repository(&world, &[]);
    let listed: Vec<PathBuf> =
        fs::read_dir(world.path("mnt/home/latest")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(listed.len(), COUNT);
    assert!(listed.is_sorted());
    // From the middle, as telldir and seekdir do.
    let directory = rustix::fs::open(
        world.path("mnt/home/latest"),
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    rustix::fs::seek(&directory, rustix::fs::SeekFrom::Start(50_002)).unwrap();
    let mut buffer = Vec::with_capacity(4096);
    let mut entries = rustix::fs::RawDir::new(&directory, buffer.spare_capacity_mut());
    assert_eq!(entries.next().unwrap().unwrap().file_name().to_bytes(), b"050000");
    assert!(world.path("mnt/home/latest/099999").exists());
}

#[test]
fn damage_is_an_error_of_its_file_alone() {
    if !can_mount() {
        return;
    }
    let world = world_with(|home| {
        for (number, name) in ["good", "bad", "other"].into_iter().enumerate() {
            fs::write(home.join(name), support::noise(number as u64, 300_000)).unwrap();
        }
    });
    let _mounted = Mounted::repository(&world, &["--log-file", "log"]);
    let shown = |name: &str| fs::read(world.path("mnt/home/latest").join(name));
    let [pack] = &world.stored_files("packs/data")[..] else { panic!("more packs than one") };
    // "bad" comes first in the directory, and so in the pack.
    flip_bit(pack, 1000);
    assert_eq!(shown("bad").unwrap_err().raw_os_error(), Some(5));
    for name in ["good", "other"] {
        assert!(shown(name).unwrap() == fs::read(world.path("home").join(name)).unwrap(), "{name}");
    }
    let _ = shown("bad");
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert_eq!(
        log.lines().filter(|line| line.contains("ERROR") || line.contains("error")).count(),
        1,
        "{log}"
    );
}

#[test]
fn the_kernel_enforces_modes_and_acls_for_other_users() {
    if !can_mount() || !can_use(&[Requirement::Program("setpriv")]) {
        return;
    }
    let world = world_with(make_nasty_tree);
    system("chmod", &["755", text(world.directory())]);
    let _mounted = Mounted::repository(&world, &["--allow-other"]);
    let read_as = |user: &str, path: &str| {
        let path = world.path("mnt/home/latest").join(path);
        let id = ["--reuid", user, "--regid", "99", "--clear-groups", "cat"];
        Command::new("setpriv").args(id).arg(path).output().unwrap().status.success()
    };
    assert!(read_as("1234", "files/of-100") && !read_as("1234", "modes/0400"));
    assert!(read_as("1234", "attributes/acl") && !read_as("1235", "attributes/acl"));
}

/// Without a pin that is let go of, gc would keep what somebody once looked at.
#[test]
fn a_tree_that_nobody_reads_is_let_go_of() {
    if !can_mount() {
        return;
    }
    let world = world_with(small_tree);
    let _mounted = Mounted::repository(&world, &[]);
    let file = File::open(world.path("mnt/home/latest/a")).unwrap();
    assert_eq!(world.stored_files("pins").len(), 1);
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert_eq!(world.stored_files("pins").len(), 1, "while a file is open it stays");
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"first");
    drop(file);
    wait_until("the pin is gone", || world.stored_files("pins").is_empty());
    assert_eq!(fs::read(world.path("mnt/home/latest/sub/b")).unwrap(), b"second");
    let odd = OsStr::from_bytes(b"\xff");
    assert!(!world.path("mnt/home/latest").join(odd).exists());
}

#[test]
fn the_owner_of_the_mount_is_not_that_of_what_was_saved() {
    if !can_mount() {
        return;
    }
    let world = world_with(small_tree);
    rustix::fs::chown(
        world.path("home/a"),
        Some(rustix::fs::Uid::from_raw(1234)),
        Some(rustix::fs::Gid::from_raw(4321)),
    )
    .unwrap();
    settle();
    world.backup("home", "home");
    let _mounted = Mounted::repository(&world, &["--owner", "5:6"]);
    let owner = |path: &str| {
        let metadata = fs::symlink_metadata(world.path("mnt").join(path)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!((owner("home"), owner("home/latest")), ((5, 6), (5, 6)));
    assert_eq!((owner("home/latest/"), owner("home/latest/sub")), ((0, 0), (0, 0)));
    assert_eq!(owner("home/latest/a"), (1234, 4321));
}

/// Whom the mount is for does not matter: a normal user reads of a tree what its modes let this user read.
#[test]
fn a_normal_user_sees_what_the_saved_modes_allow() {
    let programs = ["setpriv", "fusermount3"].map(Requirement::Program);
    if !can_mount() || !can_use(&programs) {
        return;
    }
    let world = world_with(|home| {
        small_tree(home);
        for (name, mode, uid) in
            [("of-root", 0o600, 0), ("own", 0o600, 65_534), ("own-unreadable", 0, 65_534)]
        {
            fs::write(home.join(name), name).unwrap();
            fs::set_permissions(home.join(name), fs::Permissions::from_mode(mode)).unwrap();
            let uid = rustix::fs::Uid::from_raw(uid);
            rustix::fs::chown(home.join(name), Some(uid), None).unwrap();
        }
        fs::create_dir(home.join("closed")).unwrap();
        fs::write(home.join("closed/file"), "hidden").unwrap();
        fs::set_permissions(home.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    });
    fs::create_dir(world.path("mnt")).unwrap();
    system("cp", &[env!("CARGO_BIN_EXE_treering"), text(&world.path("treering"))]);
    system("chmod", &["-R", "a+rX", text(&world.repository())]);
    system("chmod", &["755", text(world.directory())]);
    system("chown", &["65534", text(&world.path("mnt"))]);
    let mounted = Mounted::take_over(world.path("mnt"));
    let user = |command: &str| {
        let id = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", command];
        let mut run = Command::new("setpriv");
        run.args(id).env("TREERING_REPOSITORY", world.repository()).current_dir(world.directory());
        let output = run.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert!(user("./treering mount mnt").0);
    let read = |path: &str| user(&format!("cat mnt/home/latest/{path}"));
    assert_eq!(read("a"), (true, "first".to_owned()));
    assert_eq!(read("sub/b"), (true, "second".to_owned()));
    assert_eq!(read("own"), (true, "own".to_owned()));
    for path in ["of-root", "own-unreadable", "closed/file"] {
        assert_eq!(read(path), (false, String::new()), "{path}");
    }
    assert_eq!(user("stat -c '%U %a' mnt/home/latest/of-root"), (true, "root 600\n".to_owned()));
    assert!(!user("touch mnt/home/latest/own").0 && !user("rm -f mnt/home/latest/own").0);
    assert!(user("./treering unmount mnt").0);
    drop(mounted);
}

/// What a system has in its own directories, compared entry by entry and by rsync, in both directions.
#[test]
fn a_tree_of_the_system_is_shown_as_it_is() {
    if !can_mount() || !can_use(&[Requirement::Program("rsync")]) {
        return;
    }
    let world = world_with(|home| {
        // Copies, as nobody changes those meanwhile.
        for part in ["/etc", "/usr/share/zoneinfo", "/usr/lib/python3"] {
            if Path::new(part).exists() {
                system("cp", &["-a", part, text(home)]);
            }
        }
    });
    let _mounted = Mounted::repository(&world, &[]);
    let latest = world.path("mnt/home").join(fs::read_link(world.path("mnt/home/latest")).unwrap());
    assert_same(&world.path("home"), &latest, Leniency { holes: true, ..Leniency::default() });
    let (from, to) = (format!("{}/", text(&world.path("home"))), format!("{}/", text(&latest)));
    for (from, to) in [(&from, &to), (&to, &from)] {
        let said = system("rsync", &["-aHAXn", "--checksum", "--itemize-changes", "--delete", from, to]);
        assert_eq!(said, "");
    }
}

/// Who can't read `trusted.` attributes must not be told their names: `rsync -X` would fail on each.
#[test]
fn a_normal_user_copies_files_with_attributes_that_root_alone_may_read() {
    if !can_mount() || !can_use(&[Requirement::Program("rsync")]) {
        return;
    }
    let world = world_with(|home| {
        fs::write(home.join("file"), b"content").unwrap();
        for name in ["trusted.x", "user.x"] {
            rustix::fs::setxattr(home.join("file"), name, b"1", rustix::fs::XattrFlags::empty()).unwrap();
        }
    });
    system("chmod", &["755", text(world.directory())]);
    fs::create_dir(world.path("copy")).unwrap();
    std::os::unix::fs::chown(world.path("copy"), Some(USER), Some(USER)).unwrap();
    let _mounted = Mounted::repository(&world, &["--allow-other"]);
    let from = format!("{}/", text(&world.path("mnt/home/latest")));
    let mut rsync = Command::new("rsync");
    rsync.args(["-rlptX", &from, text(&world.path("copy"))]).uid(USER).gid(USER);
    let output = rsync.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(world.path("copy/file"), "user.x", &mut value[..]), Ok(1));
}
