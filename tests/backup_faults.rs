//! Backups that are killed, run out of space, or meet each other: earlier revisions stay as they were.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::system::{Requirement, SmallDisk, can_use, system};
use support::{CHUNK, Run, World, fraction, interrupt, noise, random_seed, wait_until, write_chunk};

/// A backup of stdin that holds its stream until it gets the rest.
fn start_slow_backup(world: &World, stream: &str) -> Child {
    let mut child = world.command(&["backup", "-", stream, "--json"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&noise(8, 4 * CHUNK as usize)).unwrap();
    wait_until("the backup has its session", || !world.stored_files("sessions").is_empty());
    wait_until("the backup has its lock", || {
        let probe = world.run(&["backup", "probe", stream]);
        probe.stderr.contains("is in use by")
    });
    child
}

fn finish(mut child: Child) -> Run {
    drop(child.stdin.take());
    Run::of(&["backup", "-"], child.wait_with_output().unwrap())
}

#[test]
fn a_second_backup_of_a_stream_is_refused_or_waits() {
    let world = World::new();
    world.small_image("probe");
    world.small_image("vm1.img");
    let first = start_slow_backup(&world, "vm1");
    world.fails(
        1,
        &["backup", "vm1.img", "vm1"],
        &["cannot back up vm1.img", "'vm1' is in use by", "--wait"],
    );
    let second = world.start(&["backup", "vm1.img", "vm1", "--wait", "--json"]);
    std::thread::sleep(Duration::from_millis(200));
    let mut second = second;
    assert!(second.try_wait().unwrap().is_none(), "it waits");
    let first = finish(first).expect_code(0).json();
    let second = Run::of(&["backup", "--wait"], second.wait_with_output().unwrap()).expect_code(0).json();
    assert_eq!(second["parent"], first["id"]);
    assert_eq!(world.revisions("vm1").len(), 2);
}

#[test]
fn a_backup_that_waits_can_be_interrupted() {
    let world = World::new();
    world.small_image("probe");
    world.small_image("vm1.img");
    let first = start_slow_backup(&world, "vm1");
    let mut second = world.start(&["backup", "vm1.img", "vm1", "--wait"]);
    wait_until("the second has its session", || world.stored_files("sessions").len() > 1);
    assert!(second.try_wait().unwrap().is_none(), "it waits");
    interrupt(&second);
    finish(second).expect_code(130).says(&["interrupted"]);
    assert_eq!(world.stored_files("sessions").len(), 1, "it has given up its session");
    let first = finish(first).expect_code(0).json();
    let listed = world.revisions("vm1");
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &first["id"]));
}

#[test]
fn two_streams_are_backed_up_at_once() {
    let world = World::new();
    world.small_image("probe");
    world.small_image("web.img");
    let first = start_slow_backup(&world, "vm1");
    world.backup("web.img", "web");
    finish(first).expect_code(0);
    world.assert_same("web", &world.path("web.img"));
    assert!(world.dump("vm1") == noise(8, 4 * CHUNK as usize));
}

#[test]
fn many_streams_at_once_share_chunks_and_lose_nothing() {
    let world = World::new();
    world.small_image("vm.img");
    let names: Vec<String> = (0..6).map(|n| format!("vm{n}")).collect();
    let children: Vec<Child> = names.iter().map(|name| world.start(&["backup", "vm.img", name])).collect();
    for child in children {
        Run::of(&["backup"], child.wait_with_output().unwrap()).expect_code(0);
    }
    for name in &names {
        world.assert_same(name, &world.path("vm.img"));
    }
    world.ok(&["scrub"]);
}

/// Kill -9 at random points: no visible revision is ever damaged, and the next backup always succeeds, and does not store
/// again what the killed one had published.
#[test]
fn a_killed_backup_leaves_earlier_revisions_intact() {
    const CHUNKS: u64 = 1500;
    const ROUNDS: u64 = 24;
    let seed = random_seed();
    let world = World::new();
    let image = world.image("vm1.img", CHUNKS * CHUNK, &(0..CHUNKS).collect::<Vec<_>>());
    let change = |round: u64| {
        for chunk in (0..CHUNKS).filter(|chunk| chunk % 10 == round % 10) {
            write_chunk(&image, chunk, 10_000 * (round + 1) + chunk);
        }
    };
    world.backup("vm1.img", "vm1");
    let before = fs::read(&image).unwrap();
    change(0);
    let start = Instant::now();
    world.backup("vm1.img", "vm1");
    let whole = start.elapsed();
    let mut cut_short = 0;
    for round in 1..=ROUNDS {
        change(round);
        let (known, tables) = (world.revisions("vm1").len(), world.stored_files("index"));
        let mut child = world.start(&["backup", "vm1.img", "vm1"]);
        std::thread::sleep(whole.mul_f64(fraction(seed.wrapping_add(round))));
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = world.revisions("vm1").len();
        assert!(listed == known || listed == known + 1, "a backup is there or not");
        match listed == known {
            true => cut_short += 1,
            false => world.assert_same("vm1", &image),
        }
        world.ok(&["scrub", "vm1@latest"]);
        let has_published = world.stored_files("index").iter().any(|table| !tables.contains(table));
        let said = world.backup("vm1.img", "vm1");
        assert!(said["chunks_new"] == 0 || !has_published, "what was published is not stored again");
        world.assert_same("vm1", &image);
    }
    assert!(cut_short > 0, "every backup was done before it was killed");
    assert!(world.dump(&format!("vm1@{}", world.revisions("vm1").len() - 1)) == before);
    world.ok(&["scrub"]);
}

/// How many packs of data the index tables of a repository name.
fn named_packs(repository: &Path) -> usize {
    let files = |area: &str| fs::read_dir(repository.join(area)).unwrap().map(|file| file.unwrap().path());
    // One that is merged away meanwhile is in another.
    let tables: Vec<Vec<u8>> = files("index").filter_map(|table| fs::read(table).ok()).collect();
    let is_named = |pack: &PathBuf| {
        let id = u128::from_str_radix(pack.file_name().unwrap().to_str().unwrap(), 16).unwrap().to_be_bytes();
        tables.iter().any(|table| table.windows(id.len()).any(|bytes| bytes == id))
    };
    files("packs/data").filter(is_named).count()
}

/// What a killed backup has published is found and used by the next one.
#[test]
fn what_a_killed_backup_has_published_is_not_stored_again() {
    // Some packs, but not so many that their number alone makes a table: time does.
    const CHUNKS: u64 = 2_000;
    let world = World::without_repository();
    world.ok(&["init", "--compression", "none"]);
    let image = world.image("vm1.img", CHUNKS * CHUNK, &(0..CHUNKS).collect::<Vec<_>>());
    let mut command = world.command(&["backup", "-", "vm1"]);
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    io::copy(&mut fs::File::open(&image).unwrap(), &mut input).unwrap();
    // The input stays open, so the program waits for more; the table comes all the same.
    let full_packs = (CHUNKS / 512) as usize;
    wait_until("the packs have a table", || named_packs(&world.repository()) == full_packs);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.json(&["list"])["revisions"], serde_json::json!([]));

    let said = world.backup("vm1.img", "vm1");
    let new = said["chunks_new"].as_u64().unwrap();
    // What was in the pack that was not full yet is lost.
    assert!(new <= CHUNKS % 512 + 512, "{new} of {CHUNKS} chunks were stored again");
    world.assert_same("vm1", &image);
    world.ok(&["scrub"]);
}

#[test]
fn a_full_disk_is_a_clean_error_and_works_again_with_room() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")]) {
        return;
    }
    let world = World::without_repository();
    let disk = SmallDisk::new(&world, 24 << 20);
    let repository = disk.path().join("repo");
    let repository = repository.to_str().unwrap();
    world.ok(&["init", repository]);
    let small = world.small_image("small.img");
    world.ok(&["-r", repository, "backup", "small.img", "small"]);
    let chunks: Vec<u64> = (1000..1400).collect();
    world.image("big.img", 1400 * CHUNK, &chunks);
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let run = world.run(&["-r", repository, "backup", "big.img", "big", "--json"]).expect_code(1);
    run.says(&["No space left on device", "free some space"]);
    assert!(run.json()["error"]["hint"].as_str().unwrap().contains("are intact"));
    let listed = world.json(&["-r", repository, "list"]);
    assert_eq!(listed["revisions"].as_array().unwrap().len(), 1);
    let status = world.json(&["-r", repository, "status"]);
    assert_eq!(status["repository"]["leftovers"]["files"], 0, "it clears up what it has written");
    assert!(world.ok(&["-r", repository, "dump", "small"]).stdout == fs::read(&small).unwrap());
    fs::remove_file(ballast).unwrap();
    write_chunk(&small, 1, 1000);
    world.ok(&["-r", repository, "backup", "small.img", "small"]);
    assert!(world.ok(&["-r", repository, "dump", "small"]).stdout == fs::read(&small).unwrap());
    world.ok(&["-r", repository, "scrub"]);
}

/// A backup that fails for want of space keeps what tables name, since others may use it, and gives back the rest.
#[test]
fn what_was_published_before_the_disk_was_full_stays_and_is_used_again() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")]) {
        return;
    }
    const BEFORE: usize = 48 << 20;
    let world = World::without_repository();
    let disk = SmallDisk::new(&world, 200 << 20);
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 32 << 20]).unwrap();
    let path = disk.path().join("repo");
    let repository = path.to_str().unwrap();
    world.ok(&["init", repository, "--compression", "none"]);
    let content = noise(7, 200 << 20);
    let mut child =
        world.command(&["-r", repository, "backup", "-", "big"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&content[..BEFORE]).unwrap();
    wait_until("a table was published", || named_packs(&path) == 1);
    // The program may end before it has taken all of it.
    let _ = input.write_all(&content[BEFORE..]);
    drop(input);
    let run = Run::of(&["backup", "-"], child.wait_with_output().unwrap()).expect_code(1);
    run.says(&["No space left on device", "what this run had stored is used again"]);
    let packs = fs::read_dir(path.join("packs/data")).unwrap().count();
    assert!(packs == named_packs(&path) && packs >= 1, "{packs} packs");
    assert_eq!(world.json(&["-r", repository, "list"])["revisions"], serde_json::json!([]));
    assert_eq!(world.json(&["-r", repository, "status"])["repository"]["leftovers"]["files"], 0);

    fs::remove_file(ballast).unwrap();
    let small = world.small_image("small.img");
    world.ok(&["-r", repository, "backup", "small.img", "small"]);
    assert!(world.ok(&["-r", repository, "dump", "small"]).stdout == fs::read(&small).unwrap());
    fs::write(world.path("begin.img"), &content[..BEFORE]).unwrap();
    let again = world.json(&["-r", repository, "backup", "begin.img", "big"]);
    let new = again["chunks_new"].as_u64().unwrap();
    assert!(new <= (BEFORE as u64 / CHUNK) - 511, "{new} chunks were stored again");
    world.ok(&["-r", repository, "scrub"]);
}

/// The error once showed only when the producer wrote its next byte.
#[test]
fn a_full_disk_ends_a_backup_whose_producer_is_silent() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")]) {
        return;
    }
    let world = World::without_repository();
    let disk = SmallDisk::new(&world, 24 << 20);
    let repository = disk.path().join("repo");
    let repository = repository.to_str().unwrap();
    world.ok(&["init", repository]);
    let room = rustix::fs::statvfs(disk.path()).unwrap();
    // More than fits with all that is stored beside it, but so little that it is read when the disk is full.
    let content = noise(3, (room.f_bfree * room.f_frsize) as usize);
    let mut command = world.command(&["-r", repository, "backup", "-", "vm1"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let producer = std::thread::spawn(move || {
        // The program may end before it has taken all of it.
        let _ = input.write_all(&content);
        // Open, and silent from here on.
        input
    });
    wait_until("the backup has ended", || child.try_wait().unwrap().is_some());
    drop(producer.join().unwrap());
    let run = Run::of(&["backup", "-"], child.wait_with_output().unwrap()).expect_code(1);
    run.says(&["No space left on device", "free some space"]);
    assert_eq!(world.json(&["-r", repository, "status"])["streams"], serde_json::json!([]));
}

#[test]
fn a_source_that_changes_while_it_is_read_is_told_and_ends_with_3() {
    let world = World::new();
    let chunks: Vec<u64> = (0..1000).collect();
    let image = world.image("vm1.img", 1000 * CHUNK, &chunks);
    // Whether the write comes in time is chance: try until it does.
    for _ in 0..20 {
        let child = world.start(&["backup", "vm1.img", "vm1", "--json", "--force-read"]);
        let end = Instant::now() + Duration::from_millis(400);
        while Instant::now() < end {
            support::write_at(&image, 0, b"changed");
            std::thread::sleep(Duration::from_millis(1));
        }
        let run = Run::of(&["backup"], child.wait_with_output().unwrap());
        if run.code == Some(3) {
            run.says(&["treering: warning:", "changed while it was read"]);
            let said = run.json();
            assert!(said["warnings"][0].as_str().unwrap().contains("changed while it was read"));
            assert_eq!(world.revisions("vm1@latest")[0]["id"], said["id"], "the revision was made");
            let again = world.backup("vm1.img", "vm1");
            assert!(again["bytes_read"].as_u64().unwrap() > 0, "what changed is never taken for settled");
            return;
        }
        run.expect_code(0);
    }
    panic!("no backup ever met a change");
}

/// The producer of a pipe dies of the same Ctrl-C, and its end looks like the end of the image: half an image was once
/// taken for a whole one.
#[test]
fn the_end_of_stdin_after_a_signal_is_no_end_of_the_image() {
    let world = World::new();
    let mut child = world.command(&["backup", "-", "vm1"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&noise(5, 50 * CHUNK as usize)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    finish(child).expect_code(130);
    assert_eq!(world.json(&["list"])["revisions"], serde_json::json!([]));
}

/// The end of a terminal ends a backup as Ctrl-C does: what it had stored is kept for the next run. `nohup` keeps it alive.
#[test]
fn the_end_of_the_terminal_ends_a_backup_in_order_unless_it_is_ignored() {
    let world = World::new();
    let hang_up = |program: &mut Command| {
        let mut child =
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&noise(5, 50 * CHUNK as usize)).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..2 {
            let _ = kill_process(Pid::from_child(&child), Signal::HUP);
        }
        std::thread::sleep(Duration::from_millis(100));
        drop(stdin);
        finish(child)
    };
    hang_up(&mut world.command(&["backup", "-", "vm1"])).expect_code(130).says(&["interrupted"]);
    assert_eq!(world.json(&["list"])["revisions"], serde_json::json!([]));
    let mut nohup = Command::new("nohup");
    nohup.args([env!("CARGO_BIN_EXE_treering"), "backup", "-", "vm1"]).current_dir(world.directory());
    nohup.env("TREERING_REPOSITORY", world.repository());
    hang_up(&mut nohup).expect_code(0);
    assert_eq!(world.revisions("vm1").len(), 1);
}

#[test]
fn an_interrupted_backup_ends_with_130_and_its_work_is_used_again() {
    let world = World::new();
    for attempt in 1..20 {
        let stream = format!("vm{attempt}");
        let chunks: Vec<u64> = (attempt * 10_000..attempt * 10_000 + 1500).collect();
        let image = world.image_with_seeds("vm1.img", &chunks);
        let child = world.start(&["backup", "vm1.img", &stream, "--json"]);
        std::thread::sleep(Duration::from_millis(20 * attempt));
        interrupt(&child);
        let run = Run::of(&["backup"], child.wait_with_output().unwrap());
        let said = world.backup("vm1.img", &stream);
        world.assert_same(&stream, &image);
        if run.code == Some(130) && said["chunks_new"].as_u64().unwrap() < 1500 {
            run.says(&["interrupted", "nothing half-done", "hint:"]);
            assert_eq!(run.json()["error"]["code"], 130);
            assert_eq!(world.revisions(&stream).len(), 1);
            return;
        }
    }
    panic!("no backup was ever interrupted half-way");
}

/// A mount of root's, with a umask of 077, once stopped every backup of a user, and went on doing so when it was killed.
#[test]
fn claims_of_others_that_can_not_be_looked_at_are_in_nobodys_way() {
    if !can_use(&[Requirement::Root, Requirement::Program("setpriv")]) {
        return;
    }
    let world = World::new();
    world.small_image("vm1.img");
    system("cp", &[env!("CARGO_BIN_EXE_treering"), world.path("treering").to_str().unwrap()]);
    system("chown", &["-R", "nobody", world.directory().to_str().unwrap()]);
    let pin = world.repository().join("pins/6f9619ff-8b86-d011-b42d-00cf4fc964ff");
    fs::create_dir_all(pin.parent().unwrap()).unwrap();
    fs::write(&pin, b"of root").unwrap();
    system("chmod", &["600", pin.to_str().unwrap()]);
    system("chmod", &["755", pin.parent().unwrap().to_str().unwrap()]);
    let plain = world.command(&[]);
    let mut command = std::process::Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "./treering",
        "backup",
        "vm1.img",
        "vm1",
    ]);
    command.current_dir(world.directory());
    command.env_clear().envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    Run::of(&["backup"], command.output().unwrap()).expect_code(0);
    assert!(pin.exists(), "it is not the user's to remove");
}

/// Where the system had no thread left, the program once panicked.
#[test]
fn a_user_who_may_have_no_more_threads_is_told_so() {
    if !can_use(&[Requirement::Root, Requirement::Program("setpriv")]) {
        return;
    }
    let world = World::new();
    world.image("vm1.img", 64 * CHUNK, &[1, 2]);
    world.backup("vm1.img", "vm1");
    system("chmod", &["-R", "a+rwX", world.directory().to_str().unwrap()]);
    // A number that no other test's processes have.
    let user = 70_000 + std::process::id() % 100_000;
    for command in ["backup vm1.img vm1 --force-read", "restore vm1 out.img", "scrub"] {
        let script = format!(
            "setpriv --reuid={user} --regid={user} --clear-groups bash -c 'ulimit -u 1 && exec {} {command}'",
            env!("CARGO_BIN_EXE_treering")
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(world.directory());
        shell.env("TREERING_REPOSITORY", world.repository());
        let run = Run::of(&[command], shell.output().unwrap()).expect_code(1);
        run.says(&["cannot start a thread", "ulimit -u"]);
    }
}
