//! `treering backup` of directory trees, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::XattrFlags;
use support::system::{Mounted, Requirement, can_use, system};
use support::trees::{give_to_user, let_user_in};
use support::{Run, USER, World, long_names, settle};

/// A world with a directory `home`.
fn world() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("home/sub/cache")).unwrap();
    fs::write(world.path("home/a.txt"), b"text").unwrap();
    fs::write(world.path("home/b.tmp"), b"temporary").unwrap();
    fs::write(world.path("home/sub/c.log"), b"log").unwrap();
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
    fs::write(world.path("home/sub/cache/CACHEDIR.TAG"), tag).unwrap();
    fs::write(world.path("home/sub/cache/data"), b"can be made again").unwrap();
    settle();
    world
}

#[test]
fn a_directory_is_a_tree_and_its_name_the_streams() {
    let world = world();
    let first = world.json(&["backup", "home"]);
    assert_eq!((&first["stream"], &first["kind"]), (&"home".into(), &"tree".into()));
    assert_eq!((&first["warnings"], &first["problems"]), (&serde_json::json!([]), &0.into()));
    let second = world.json(&["backup", "home/", "--kind", "tree"]);
    assert_eq!((&second["stream"], &second["parent"]), (&"home".into(), &first["id"]));
    assert_eq!((&second["bytes_read"], &second["chunks_new"]), (&0.into(), &0.into()));
    let text = world.ok(&["backup", "home"]).text();
    assert!(text.contains("in 8 entries"), "{text}");
}

#[test]
fn a_name_that_is_too_long_is_told_and_left_out_alone() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let world = world();
    let _long_names = long_names::mount(&world.path("stick"));
    let told = ["stick/longxxx", "its name has more than 255 bytes"];
    world.fails(3, &["backup", "stick"], &told);
    assert_eq!(world.ok(&["ls", "stick"]).text(), "before\nthen\n");
    assert_eq!(world.ok(&["dump", "stick", "then"]).text(), "text");
    world.ok(&["backup", "stick", "--exclude", "long*"]);
}

/// Where names are listed that may not be looked at.
#[test]
fn what_is_excluded_unseen_is_left_out_and_not_removed_by_a_restore() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    let his = let_user_in(&world);
    fs::create_dir_all(his.join("home/closed")).unwrap();
    fs::write(his.join("home/closed/kept"), b"text").unwrap();
    give_to_user(&his);
    fs::set_permissions(his.join("home/closed"), Permissions::from_mode(0o444)).unwrap();
    let repository = his.join("repository");
    let as_user = |arguments: &[&str]| {
        let all = [&["-r", repository.to_str().unwrap()], arguments].concat();
        world.run_as_user(&all).expect_code(0)
    };
    as_user(&["init"]);
    as_user(&["backup", "his/home", "home", "--exclude", "kept"]);
    let restore =
        ["-r", repository.to_str().unwrap(), "restore", "home", "his/home", "--in-place", "--delete"];
    world.fails(1, &restore, &["1 name that the revision does not have is kept in his/home/closed"]);
    assert_eq!(fs::read(his.join("home/closed/kept")).unwrap(), b"text");
}

#[test]
fn what_is_excluded_is_left_out() {
    let world = world();
    fs::write(world.path("patterns"), "# of the user\n*.tmp\n\n*.log\n").unwrap();
    let size =
        |arguments: &[&str]| world.json(&[&["backup", "home"][..], arguments].concat())["size"].clone();
    assert_eq!(size(&["--exclude", "sub"]), 4 + 9);
    assert_eq!(size(&["--exclude", "sub", "--exclude", "/b.*"]), 4);
    assert_eq!(size(&["--exclude-from", "patterns", "--exclude-caches"]), 4 + 44);
    assert_eq!(size(&["--exclude-from", "patterns", "--exclude", "!*.log", "--exclude", "cache"]), 4 + 3);
    // In the order in which they are given.
    fs::write(world.path("again"), "!a.txt\n").unwrap();
    assert_eq!(size(&["--exclude", "*.t*", "--exclude-from", "again", "--exclude", "sub"]), 4);
    assert_eq!(size(&["--exclude-from", "again", "--exclude", "*.t*", "--exclude", "sub"]), 0);
    // Some editors begin a text with a mark for the order of its bytes.
    fs::write(world.path("marked"), "\u{feff}sub\n").unwrap();
    assert_eq!(size(&["--exclude-from", "marked"]), 4 + 9);
    let from = |file| ["backup", "home", "--exclude-from", file];
    world.fails(1, &from("missing"), &["exclude patterns", "missing", "check the path"]);
    fs::write(world.path("latin"), b"caf\xe9\n").unwrap();
    world.fails(1, &from("latin"), &["exclude patterns", "latin", "patterns are UTF-8"]);
    world.fails(2, &["backup", "home", "--exclude", "a[z-a]"], &["a[z-a]"]);
}

#[test]
fn the_repository_is_never_walked_into() {
    let world = world();
    let said = world.json(&["backup", world.directory().to_str().unwrap(), "all"]);
    let again = world.json(&["backup", world.directory().to_str().unwrap(), "all"]);
    assert_eq!(said["size"], again["size"], "what was stored is not in it");
    let inside = world.repository().join("packs");
    world.fails(1, &["backup", inside.to_str().unwrap(), "packs"], &["the repository"]);
    if can_use(&[Requirement::Root]) {
        let home = world.path("home");
        let size = world.backup("home", "home")["size"].clone();
        let _part = Mounted::mount(&inside, home.join("part"), "bind");
        assert_eq!(world.backup("home", "home")["size"], size, "nor is a part of it");
        assert!(!world.ok(&["ls", "home"]).text().contains("part"));
    }
}

#[test]
fn other_file_systems_are_left_out_where_that_is_wanted() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = world();
    let other = Mounted::mount_type("tmpfs", world.path("home/other"));
    fs::write(other.path().join("file"), b"of another one").unwrap();
    fs::write(world.path("home/mounted"), b"below it").unwrap();
    fs::write(world.path("home/own"), b"own").unwrap();
    let bind = |from: &Path, name: &str| {
        let at = world.path("home").join(name);
        system("mount", &["--bind", from.to_str().unwrap(), at.to_str().unwrap()]);
        Mounted::take_over(at)
    };
    let _mounted = bind(&other.path().join("file"), "mounted");
    let _own = bind(&world.path("home/a.txt"), "own");
    let listed = |options: &[&str]| {
        world.ok(&[&["backup", "home"][..], options].concat());
        world
            .ok(&["ls", "home"])
            .text()
            .lines()
            .map(|line| line.split(' ').next_back().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), ["a.txt", "b.tmp", "mounted", "other", "own", "sub"]);
    assert_eq!(listed(&["--one-file-system"]), ["a.txt", "b.tmp", "other", "own", "sub"]);
    assert_eq!(world.json(&["ls", "home", "other"])["entries"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_read_is_named_and_ends_with_3() {
    let system = Path::new("/sys/bus/cpu");
    if fs::File::open(system.join("uevent")).is_ok() || !system.join("uevent").exists() {
        println!("SKIPPED: /sys/bus/cpu/uevent is not there, or can be read");
        return;
    }
    let world = World::new();
    let run = world.run(&["backup", "/sys/bus/cpu", "system"]).expect_code(3);
    run.says(&["cannot open /sys/bus/cpu/uevent"]);
    let revision = world.revisions("system").remove(0);
    let warnings = revision["warnings"].as_array().unwrap();
    let named = |warning: &serde_json::Value| warning.as_str().unwrap().contains("/sys/bus/cpu/uevent");
    assert!(warnings.iter().any(named), "{warnings:?}");
}

/// Root may list every directory, so this is a normal user's backup.
#[test]
fn a_directory_that_cannot_be_listed_is_kept_empty_and_named() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = world();
    fs::create_dir(world.path("home/closed")).unwrap();
    fs::write(world.path("home/closed/file"), b"content").unwrap();
    fs::set_permissions(world.path("home/closed"), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(world.directory(), Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(world.directory(), Some(USER), Some(USER)).unwrap();
    world.run_as_user(&["init", "his"]).expect_code(0);
    let run = world.run_as_user(&["-r", "his", "backup", "home"]).expect_code(3);
    run.says(&["home/closed", "Permission denied"]);
    let listed = world.json(&["-r", "his", "ls", "home@latest", "--recursive"]);
    let paths: Vec<_> =
        listed["entries"].as_array().unwrap().iter().map(|entry| entry["path"].clone()).collect();
    assert!(paths.contains(&"closed".into()) && !paths.contains(&"closed/file".into()), "{paths:?}");
    assert!(paths.contains(&"sub/c.log".into()), "{paths:?}");
}

#[test]
fn a_stream_has_one_kind_for_ever() {
    let world = world();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.backup("home", "home");
    world.fails(1, &["backup", "home", "vm1"], &["holds images"]);
    world.fails(1, &["backup", "vm1.img", "home"], &["holds trees"]);
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let world = world();
    world.small_image("vm1.img");
    for option in [&["--exclude", "x"][..], &["--exclude-caches"], &["--one-file-system"]] {
        world.fails(2, &[&["backup", "vm1.img"][..], option].concat(), &[option[0]]);
    }
    world.fails(2, &["backup", "-", "s", "--kind", "tree"], &["stdin"]);
    world.fails(1, &["backup", "vm1.img", "--kind", "tree"], &["cannot use vm1.img as a source"]);
    fs::write(world.path("hints"), "[]").unwrap();
    world.fails(1, &["backup", "home", "--hints", "hints"], &["hints", "directory tree"]);
}

/// A file of procfs says that it is empty, and was once stored so without a word.
#[test]
fn files_that_hide_their_content_are_named() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    let run = world.run(&["backup", "/proc/sys/kernel/random", "random", "--json"]).expect_code(3);
    run.says(&["/proc/sys/kernel/random/uuid has content although it says it is empty"]);
    fs::create_dir(world.path("empty")).unwrap();
    fs::write(world.path("empty/file"), b"").unwrap();
    world.ok(&["backup", "empty"]);
}

/// File servers hold leases on the files that their clients work with. Such a file was once left out.
#[test]
fn a_file_that_another_process_has_a_lease_on_is_waited_for() {
    if !can_use(&[Requirement::Program("python3")]) {
        return;
    }
    let world = world();
    let holder = "import fcntl, signal, sys, time\n\
         file = open(sys.argv[1], 'r+')\n\
         def let_go(number, frame):\n    time.sleep(0.3)\n    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)\n\
         signal.signal(signal.SIGIO, let_go)\n\
         fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
         print('held', flush=True)\n\
         time.sleep(60)\n";
    let mut holder = Command::new("python3")
        .args(["-c", holder])
        .arg(world.path("home/a.txt"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let run = world.run(&["backup", "home", "--json"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(run.expect_code(0).json()["warnings"], serde_json::json!([]));
    assert_eq!(world.ok(&["dump", "home", "a.txt"]).text(), "text");
}

/// Only a privileged process sees attributes like `trusted.x`. What a normal user's backup had not seen was once taken over
/// from it for ever.
#[test]
fn attributes_that_a_normal_user_could_not_see_are_stored_by_the_next_backup_of_root() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = world();
    for path in ["home", "home/a.txt"] {
        rustix::fs::setxattr(world.path(path), "trusted.x", b"y", XattrFlags::empty()).unwrap();
    }
    fs::set_permissions(world.directory(), Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(world.directory(), Some(USER), Some(USER)).unwrap();
    settle();
    world.run_as_user(&["-r", "his", "init"]).expect_code(0);
    let attributes = |path: &str| {
        let said = world.json(&["-r", "his", "ls", "home", path]);
        said["entries"].as_array().unwrap().iter().filter(|entry| entry["attributes"] == true).count()
    };
    world.run_as_user(&["-r", "his", "backup", "home"]).expect_code(0);
    assert_eq!(attributes("a.txt"), 0);
    assert_eq!(world.run_as_user(&["-r", "his", "backup", "home", "--json"]).json()["bytes_read"], 0);
    world.ok(&["-r", "his", "backup", "home"]);
    assert_eq!(attributes("a.txt"), 1);
    assert_eq!(world.json(&["-r", "his", "backup", "home"])["bytes_read"], 0);
    // Nor does he lose what root had seen.
    system("chown", &["-R", "1234", world.path("his").to_str().unwrap()]);
    world.run_as_user(&["-r", "his", "backup", "home"]).expect_code(0);
    assert_eq!(attributes("a.txt"), 1);
}

/// A mount of the repository below the source would be backed up with all revisions in it, and twice the next time.
#[test]
fn a_mount_of_a_repository_below_the_source_is_left_out() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let world = world();
    world.ok(&["backup", "home"]);
    fs::create_dir(world.path("home/history")).unwrap();
    world.ok(&["mount", "home/history", "--log-file", "log"]);
    let mount = Mounted::take_over(world.path("home/history"));
    let said = world.json(&["backup", "home"]);
    assert_eq!(said["warnings"], serde_json::json!([]));
    let listed = world.json(&["ls", "home", "-R"]);
    let paths: Vec<_> = listed["entries"].as_array().unwrap().iter().map(|entry| &entry["path"]).collect();
    assert_eq!(paths.len(), 7, "{paths:?}");
    // Who asks for a part of the history itself gets it.
    let within = world.path("home/history/home/latest");
    let said = world.json(&["backup", within.to_str().unwrap(), "again"]);
    assert_eq!(said["size"], 4 + 9 + 3 + 44 + 17);
    drop(mount);
}

/// What the program itself lacks is no fault of the source: a nearly empty revision once became the newest.
#[test]
fn a_backup_that_may_open_too_few_files_ends() {
    let world = world();
    for number in 0..100 {
        fs::create_dir_all(world.path(&format!("home/{number}/deep"))).unwrap();
        fs::write(world.path(&format!("home/{number}/deep/file")), "content").unwrap();
    }
    for limit in 7..14 {
        let script = format!("ulimit -Sn {limit} && ulimit -Hn {limit} && exec \"$0\" backup home");
        let mut bash = Command::new("bash");
        bash.args(["-c", &script, env!("CARGO_BIN_EXE_treering")]).current_dir(world.directory());
        bash.env("TREERING_REPOSITORY", world.repository());
        let run = Run::of(&["backup"], bash.output().unwrap());
        assert!(matches!(run.code, Some(0 | 1)), "{limit}: {:?}\n{}", run.code, run.stderr);
        if run.code == Some(1) {
            run.says(&["Too many open files"]);
        }
    }
    let whole = world.json(&["backup", "home"])["size"].clone();
    assert!(world.revisions("home").iter().all(|revision| revision["size"] == whole));
}

#[test]
fn a_limit_of_the_length_of_files_is_an_error_and_no_sudden_death() {
    let world = world();
    fs::write(world.path("home/large"), support::noise(1, 3_000_000)).unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-c", "ulimit -f 100 && exec \"$0\" backup home", env!("CARGO_BIN_EXE_treering")]);
    bash.current_dir(world.directory()).env("TREERING_REPOSITORY", world.repository());
    Run::of(&["backup"], bash.output().unwrap()).expect_code(1).says(&["cannot write", "File too large"]);
    assert_eq!(world.json(&["list"])["revisions"], serde_json::json!([]));
}
