//! How mounts begin and end: refusals, detaching under open files, dead endpoints, other users.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::mount::{UnmountFlags, unmount as system_unmount};
use support::{Fixture, SIZE, can_mount, eventually, names, run};
use treering_engine::Repository;
use treering_fuse::{MountError, MountOptions, mount, unmount};

#[test]
fn detached_under_an_open_file_it_serves_on_until_that_is_closed() {
    if !can_mount("detached_under_an_open_file_it_serves_on_until_that_is_closed") {
        return;
    }
    let fixture = Fixture::with_image();
    let mut mounted = fixture.mount();
    let file = File::open(mounted.path("vm1/latest.img")).unwrap();
    let detacher = mounted.mount().detacher();
    detacher.detach().unwrap();
    // Twice is no error.
    detacher.detach().unwrap();
    assert_eq!(names(&mounted.root()), [""; 0]);
    // The next mount on the same directory is not touched when the first one ends.
    let next = mount(&fixture.reopened(), &mounted.root(), &MountOptions::default()).unwrap();
    detacher.detach().unwrap();
    let waiting = mounted.take();
    let waiter = std::thread::spawn(move || waiting.wait());
    let mut bytes = vec![0; SIZE as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == fixture.bytes());
    assert!(!waiter.is_finished());
    drop(file);
    waiter.join().unwrap().unwrap();
    assert_eq!(names(&mounted.root()), ["vm1"]);
    unmount(&mounted.root()).unwrap();
    next.wait().unwrap();
    assert_eq!(names(&mounted.root()), [""; 0]);
}

#[test]
fn wait_ends_when_anybody_unmounts() {
    if !can_mount("wait_ends_when_anybody_unmounts") {
        return;
    }
    let fixture = Fixture::with_image();
    let mut mounted = fixture.mount();
    run("umount", &[mounted.root().as_os_str()]);
    mounted.take().wait().unwrap();
    let mut mounted = fixture.mount();
    unmount(&mounted.root()).unwrap();
    mounted.take().wait().unwrap();
}

#[test]
fn an_abort_ends_at_once_also_with_open_files() {
    if !can_mount("an_abort_ends_at_once_also_with_open_files") {
        return;
    }
    let fixture = Fixture::with_image();
    let mut mounted = fixture.mount();
    let file = File::open(mounted.path("vm1/latest.img")).unwrap();
    let detacher = mounted.mount().detacher();
    let waiting = mounted.take();
    let waiter = std::thread::spawn(move || waiting.wait());
    detacher.abort();
    waiter.join().unwrap().unwrap();
    assert_eq!(names(&mounted.root()), [""; 0]);
    assert!(file.read_at(&mut [0; 4096], 0).is_err());
}

/// The kernel gives the numbers of a mount that has ended to the next one. A mount that was dropped after its end, as
/// by `wait`, once took that next mount away.
#[test]
fn a_mount_that_has_ended_leaves_later_ones_alone() {
    if !can_mount("a_mount_that_has_ended_leaves_later_ones_alone") {
        return;
    }
    let fixture = Fixture::with_image();
    let mut later = Vec::new();
    for _ in 0..10 {
        let mut mounted = fixture.mount();
        let detacher = mounted.mount().detacher();
        run("umount", &[mounted.root().as_os_str()]);
        mounted.take().wait().unwrap();
        later.push(fixture.mount());
        detacher.detach().unwrap();
        detacher.abort();
        assert!(later.iter().all(|mounted| names(&mounted.root()) == ["vm1"]));
    }
}

#[test]
fn a_dropped_mount_is_taken_off() {
    if !can_mount("a_dropped_mount_is_taken_off") {
        return;
    }
    let fixture = Fixture::with_image();
    let mut mounted = fixture.mount();
    drop(mounted.take());
    assert_eq!(names(&mounted.root()), [""; 0]);
}

#[test]
fn what_would_hide_something_is_refused() {
    if !can_mount("what_would_hide_something_is_refused") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let refused = |path: &Path| {
        let error = mount(&fixture.repository, path, &MountOptions::default()).err().unwrap();
        assert!(error.hint().is_some(), "{error}");
        error.to_string()
    };
    let said = refused(&mounted.root());
    assert!(said.contains("something is mounted there already"), "{said}");
    assert!(refused(&fixture.path("repository")).contains("it is the repository"));
    assert!(refused(fixture.directory.path()).contains("would be hidden"));
    assert!(refused(&fixture.path("repository/packs")).contains("it lies in the repository"));
    assert!(refused(&fixture.image()).contains("not a directory"));
    let full = fixture.path("full");
    std::fs::create_dir_all(full.join("something")).unwrap();
    assert!(refused(&full).contains("not empty"));
    // None of this did anything.
    assert_eq!(names(&mounted.root()), ["vm1"]);
}

#[test]
fn only_our_mounts_are_unmounted() {
    if !can_mount("only_our_mounts_are_unmounted") {
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(unmount(empty.path()), Err(MountError::NotMounted { .. })));
    assert!(matches!(unmount(Path::new("/proc")), Err(MountError::NotOurs { kind, .. }) if kind == "proc"));
    assert!(names(Path::new("/proc")).len() > 10);
}

#[test]
fn options_are_those_of_a_harmless_mount() {
    if !can_mount("options_are_those_of_a_harmless_mount") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = mounted.root();
    let line = table.lines().find(|line| line.contains(root.to_str().unwrap())).unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noatime "), "{line}");
    assert!(line.contains(" - fuse.treering "), "{line}");
    assert!(line.contains(fixture.path("repository").to_str().unwrap()), "{line}");
    assert!(line.contains("default_permissions") && !line.contains("allow_other"), "{line}");
}

#[test]
fn a_mount_whose_process_was_killed_is_cleared() {
    if !can_mount("a_mount_whose_process_was_killed_is_cleared") {
        return;
    }
    let fixture = Fixture::with_image();
    let place = Place(tempfile::tempdir().unwrap().keep());
    for clear in ["mount", "unmount"] {
        let mut child =
            spawn_holder(&std::env::current_exe().unwrap(), &fixture.path("repository"), &place.0, None);
        assert_eq!(names(&place.0), ["vm1"]);
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the endpoint is dead", || rustix::fs::statvfs(&place.0).is_err());
        match clear {
            "mount" => {
                let next = mount(&fixture.reopened(), &place.0, &MountOptions::default()).unwrap();
                assert_eq!(names(&place.0), ["vm1"]);
                drop(next);
            }
            _ => unmount(&place.0).unwrap(),
        }
        assert_eq!(names(&place.0), [""; 0]);
    }
}

#[test]
fn a_user_mounts_through_fusermount() {
    if !can_mount("a_user_mounts_through_fusermount") {
        return;
    }
    if Command::new("fusermount3").arg("--version").output().is_err() {
        support::note("SKIPPED a_user_mounts_through_fusermount: needs fusermount3");
        return;
    }
    const NOBODY: u32 = 65534;
    let fixture = Fixture::with_image();
    // Everything that another user needs: the program, the repository, a place of its own.
    for path in [fixture.directory.path().to_owned(), fixture.image()] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    run("chmod", &["-R".as_ref(), "a+rX".as_ref(), fixture.path("repository").as_os_str()]);
    let program = fixture.path("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let place = Place(fixture.path("place"));
    std::fs::create_dir(&place.0).unwrap();
    std::os::unix::fs::chown(&place.0, Some(NOBODY), Some(NOBODY)).unwrap();

    let hold = || spawn_holder(&program, &fixture.path("repository"), &place.0, Some(NOBODY));
    let mut child = hold();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(place.0.to_str().unwrap())).unwrap();
    assert!(line.contains(" - fuse.treering "), "{line}");
    // Only the mounting user may look, and not even root.
    assert!(std::fs::read_dir(&place.0).is_err());
    let as_user = |program: &str| {
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY);
        command
    };
    let image = place.0.join("vm1/latest.img");
    assert!(as_user("cmp").arg(&image).arg(fixture.image()).status().unwrap().success());
    let owner = as_user("stat").args(["-Lc", "%u:%g %a"]).arg(&image).output().unwrap();
    assert_eq!(String::from_utf8(owner.stdout).unwrap(), "65534:65534 440\n");
    // The end of its input tells the child to unmount, which it does through fusermount3.
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(names(&place.0), [""; 0]);

    // A user clears a dead mount too, and root may unmount what a user has mounted.
    let mut killed = hold();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut child = hold();
    assert!(as_user("cmp").arg(&image).arg(fixture.image()).status().unwrap().success());
    unmount(&place.0).unwrap();
    assert_eq!(names(&place.0), [""; 0]);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// A directory that is not left mounted.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = system_unmount(&self.0, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What tells this program that it is a child that holds a mount.
const HOLD: &str = "TREERING_TEST_HOLD";

/// Starts this program again as one that mounts and waits.
fn spawn_holder(program: &Path, repository: &Path, place: &Path, user: Option<u32>) -> Child {
    let mut command = Command::new(program);
    command.args(["--exact", "holds_a_mount", "--ignored", "--nocapture"]);
    command.env(HOLD, repository).env("TREERING_TEST_PLACE", place);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    // A child that another test has just forked may still hold the copy of the program open for writing.
    let mut child = loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("it answers") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child did not mount");
    }
    // Whoever can't print any more fails.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    child
}

#[test]
#[ignore = "run by other tests as a process of its own"]
#[allow(clippy::print_stdout, reason = "tells the parent that the mount answers")]
fn holds_a_mount() {
    let Some(repository) = std::env::var_os(HOLD) else { return };
    let place = PathBuf::from(std::env::var_os("TREERING_TEST_PLACE").unwrap());
    let repository = Repository::open(Path::new(&repository), 1 << 20).unwrap();
    let mount = mount(&repository, &place, &MountOptions::default()).unwrap();
    println!("it answers");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    mount.detacher().detach().unwrap();
    mount.wait().unwrap();
}
