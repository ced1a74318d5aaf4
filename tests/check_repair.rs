//! `treering check --repair`, through the program: what can be mended is, the rest is set aside and named.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use support::harms::contradict_packs;
use support::system::{LoopDevice, Mounted, Requirement, can_use, system};
use support::{CHUNK, World, flip_bit, noise, settle, wait_until, write_chunk};

/// Two revisions of an image with tags, and one of a tree.
fn world() -> World {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.json(&["backup", "vm1.img", "vm1", "--tag", "first"]);
    fs::copy(&image, world.path("vm1-first.img")).unwrap();
    write_chunk(&image, 1, 1000);
    world.json(&["backup", "vm1.img", "vm1", "--tag", "second"]);
    fs::create_dir_all(world.path("home/dir")).unwrap();
    fs::write(world.path("home/dir/file"), noise(7, 2_000_000)).unwrap();
    settle();
    world.backup("home", "home");
    world
}

#[track_caller]
fn repair(world: &World, code: i32) -> Value {
    world.run(&["check", "--repair", "--json"]).expect_code(code).json()
}

fn repaired(said: &Value) -> Vec<String> {
    let repaired = said["repaired"].as_array().unwrap().iter();
    repaired.map(|done| done["file"].as_str().unwrap().to_owned()).collect()
}

fn relative(world: &World, file: &Path) -> String {
    file.strip_prefix(world.repository()).unwrap().to_str().unwrap().to_owned()
}

/// The files in the quarantine, each with its path as it was.
fn quarantine(world: &World) -> Vec<(String, PathBuf)> {
    let place = world.repository().join("quarantine");
    let was = |file: &PathBuf| {
        let below = file.strip_prefix(&place).unwrap();
        below.iter().skip(1).collect::<PathBuf>().to_str().unwrap().to_owned()
    };
    world.stored_files("quarantine").into_iter().map(|file| (was(&file), file)).collect()
}

/// Fails unless all is as it was backed up, and gc, backups and scrubs work.
#[track_caller]
fn assert_all_works(world: &World) {
    world.ok(&["check"]);
    world.assert_same("vm1@0", &world.path("vm1.img"));
    world.assert_same("vm1@1", &world.path("vm1-first.img"));
    assert!(world.ok(&["dump", "home", "dir/file"]).stdout == noise(7, 2_000_000));
    world.ok(&["scrub"]);
    world.ok(&["gc"]);
    let health = &world.json(&["status"])["repository"];
    assert_eq!((&health["damaged_files"], &health["damaged_objects"]), (&json!([]), &json!(0)));
    write_chunk(&world.path("vm1.img"), 2, 9000);
    world.backup("vm1.img", "vm1");
    world.assert_same("vm1", &world.path("vm1.img"));
    world.ok(&["check"]);
}

#[test]
fn of_a_sound_repository_nothing_is_changed() {
    let world = world();
    let before = world.stored_files("");
    assert_eq!(repaired(&repair(&world, 0)), Vec::<String>::new());
    let after = world.stored_files("");
    let is_lock = |file: &PathBuf| relative(&world, file).starts_with("locks/");
    assert!(after.iter().all(|file| before.contains(file) || is_lock(file)));
    assert_all_works(&world);
}

#[test]
fn tables_are_made_anew_whatever_became_of_them() {
    let ways: [fn(&Path); 4] = [
        |table| fs::remove_file(table).unwrap(),
        |table| flip_bit(table, 40),
        |table| flip_bit(table, 9000),
        |table| File::options().write(true).open(table).unwrap().set_len(5000).unwrap(),
    ];
    for damage in ways {
        let world = world();
        let tables = world.stored_files("index");
        tables.iter().for_each(|table| damage(table));
        let kept: Vec<_> = tables
            .iter()
            .filter_map(|table| Some((relative(&world, table), fs::read(table).ok()?)))
            .collect();
        world.run(&["check"]).expect_code(4);
        assert_ne!(world.run(&["gc"]).code, Some(0), "gc does not go on without tables");
        let text = world.ok(&["check", "--repair"]).text();
        assert!(text.contains("REPAIRED index/: made anew"), "{text}");
        let aside = quarantine(&world);
        assert_eq!(aside.len(), kept.len());
        for (name, bytes) in kept {
            let (_, file) = aside.iter().find(|(was, _)| *was == name).unwrap();
            assert!(fs::read(file).unwrap() == bytes, "what is set aside is as it was");
            assert!(text.contains(&format!("REPAIRED {name}: set aside as quarantine/")), "{text}");
        }
        assert_all_works(&world);
    }
}

#[test]
fn an_index_that_is_gone_with_its_directory_is_made_anew() {
    let world = world();
    fs::remove_dir_all(world.repository().join("index")).unwrap();
    world.run(&["check"]).expect_code(4);
    repair(&world, 0);
    assert_all_works(&world);
}

#[test]
fn a_table_that_contradicts_its_packs_is_named_and_made_anew() {
    let world = world();
    let table = world.stored_files("index").remove(0);
    contradict_packs(&table);
    let said = world.run(&["check", "--json"]).expect_code(4).json();
    let damaged = &said["damaged_files"];
    assert_eq!(
        (damaged.as_array().unwrap().len(), &damaged[0]["file"]),
        (1, &json!(relative(&world, &table)))
    );
    assert!(damaged[0]["reason"].as_str().unwrap().contains("does not say of pack"), "{said:#}");
    assert_eq!(said["bad"], json!([]));
    repair(&world, 0);
    assert_all_works(&world);
}

#[test]
fn all_that_can_be_read_is_copied_out_of_packs_whose_frames_are_damaged() {
    for area in ["packs/data", "packs/metadata"] {
        for from_end in [false, true] {
            let world = world();
            for pack in world.stored_files(area) {
                let end = fs::metadata(&pack).unwrap().len();
                flip_bit(&pack, if from_end { end - 10 } else { 20 });
            }
            let packs: Vec<String> =
                world.stored_files(area).iter().map(|pack| relative(&world, pack)).collect();
            world.run(&["check"]).expect_code(4);
            let said = repair(&world, 0);
            for pack in packs {
                let done =
                    said["repaired"].as_array().unwrap().iter().find(|done| done["file"] == pack).unwrap();
                assert!(done["action"].as_str().unwrap().contains("0 can't be read"), "{done}");
                assert!(quarantine(&world).iter().any(|(was, _)| *was == pack), "{pack}");
            }
            assert_all_works(&world);
        }
    }
}

/// Their own directories tell what lies in them.
#[test]
fn packs_with_damaged_headers_that_no_table_names_are_saved() {
    let world = world();
    for kind in ["packs/data", "packs/metadata"] {
        world.stored_files(kind).iter().for_each(|pack| flip_bit(pack, 20));
    }
    fs::remove_dir_all(world.repository().join("index")).unwrap();
    let said = repair(&world, 0);
    assert!(repaired(&said).iter().any(|file| file.starts_with("packs/data")), "{said:#}");
    assert_all_works(&world);
}

/// With it, all packs look damaged.
#[test]
fn nothing_is_set_aside_because_of_the_header_of_another_repository() {
    let world = world();
    world.ok(&["init", "other"]);
    let (header, other) =
        (world.repository().join("treering-repository"), world.path("other/treering-repository"));
    let own = fs::read(&header).unwrap();
    fs::write(&header, fs::read(other).unwrap()).unwrap();
    let said = world.run(&["check", "--json"]).expect_code(4).json();
    let named = said["damaged_files"].as_array().unwrap();
    assert!(named.iter().any(|damaged| damaged["file"] == "treering-repository"), "{said:#}");
    let run = world.run(&["check", "--repair"]).expect_code(4);
    run.says(&[
        "the repository header",
        "all packs are of repository",
        "hint: put the file treering-repository",
    ]);
    assert_eq!(quarantine(&world), []);
    fs::write(&header, own).unwrap();
    assert_all_works(&world);
}

#[test]
fn of_a_truncated_pack_the_rest_is_saved_and_what_is_lost_is_named_to_the_byte() {
    let world = world();
    let packs = world.stored_files("packs/data");
    // That of the first revision: chunks in their order, each with a byte before it.
    let first = packs.iter().find(|pack| fs::metadata(pack).unwrap().len() / CHUNK == 32).unwrap();
    File::options().write(true).open(first).unwrap().set_len(20 * (CHUNK + 1) + 64).unwrap();
    let said = repair(&world, 4);
    assert!(repaired(&said).contains(&relative(&world, first)));
    assert_eq!(said["bad"].as_array().unwrap().len(), 12);
    // Half of each MiB is data, and the first twenty chunks of it are there.
    let lost = json!([
        { "offset": 36 * CHUNK, "length": 4 * CHUNK },
        { "offset": 48 * CHUNK, "length": 8 * CHUNK },
    ]);
    for affected in said["affected"].as_array().unwrap() {
        assert_eq!(affected["ranges"], lost, "{said:#}");
    }
    assert_eq!(said["affected"].as_array().unwrap().len(), 2);
    assert_eq!(said["damaged_files"], json!([]), "only what is lost is damage now");
    let restored = world.run(&["restore", "vm1", "out.img", "--json"]).expect_code(4).json();
    assert_eq!(restored["error"]["ranges"], lost);
    // Run again, it has nothing more to do and says the same.
    let again = repair(&world, 4);
    assert_eq!((repaired(&again), &again["affected"]), (Vec::new(), &said["affected"]));
    settle();
    world.backup("vm1.img", "vm1");
    world.ok(&["forget", "vm1@1"]);
    world.ok(&["gc"]);
    world.ok(&["check"]);
    world.assert_same("vm1@0", &world.path("vm1.img"));
    world.assert_same("vm1@1", &world.path("vm1-first.img"));
}

fn smallest(files: Vec<PathBuf>) -> PathBuf {
    files.into_iter().min_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

#[test]
fn tables_no_longer_name_packs_that_are_gone() {
    let world = world();
    // All of them would be taken for a medium that is not there.
    fs::write(world.path("small"), noise(99, 1000)).unwrap();
    world.backup("small", "small");
    let own = smallest(world.stored_files("packs/data"));
    for pack in world.stored_files("packs/data").into_iter().filter(|pack| *pack != own) {
        fs::remove_file(pack).unwrap();
    }
    let said = repair(&world, 4);
    assert_eq!(said["damaged_files"], json!([]));
    assert_eq!(said["affected"].as_array().unwrap().len(), 3);
    settle();
    world.backup("vm1.img", "vm1");
    world.backup("home", "home");
    world.assert_same("vm1", &world.path("vm1.img"));
    world.ok(&["forget", "vm1@1..2"]);
    world.ok(&["gc"]);
    world.ok(&["check"]);
}

#[test]
fn a_stream_is_made_anew_from_its_revisions_and_gets_a_name() {
    for way in [
        |file: &Path| fs::remove_file(file).unwrap(),
        |file: &Path| flip_bit(file, 40),
        |file: &Path| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        },
    ] {
        let world = world();
        for file in world.stored_files("streams") {
            way(&file);
        }
        let said = repair(&world, 4);
        assert_eq!(repaired(&said).len(), 2);
        assert!(said["repaired"][0]["loss"].as_str().unwrap().contains("stream rename"));
        world.ok(&["check"]);
        for stream in world.json(&["status"])["streams"].as_array().unwrap() {
            let name = if stream["kind"] == "tree" { "home" } else { "vm1" };
            world.ok(&["stream", "rename", stream["name"].as_str().unwrap(), name]);
        }
        assert_eq!(world.revisions("vm1")[0]["tags"], json!(["first"]));
        assert_all_works(&world);
    }
}

#[test]
fn a_damaged_record_is_set_aside_and_its_stream_goes_on() {
    for newest in [false, true] {
        let world = world();
        let record = world.stored_files("revisions").into_iter().find(|file| {
            file.to_str().unwrap().contains(if newest { "0002_" } else { "/0000000000000001_" })
                && file.to_str().unwrap().contains(&stream_of(&world, "vm1"))
        });
        let record = record.unwrap();
        flip_bit(&record, 60);
        assert_ne!(world.run(&["gc"]).code, Some(0));
        let said = repair(&world, 4);
        assert_eq!(repaired(&said), [relative(&world, &record)]);
        assert!(said["repaired"][0]["loss"].as_str().unwrap().contains("the revision is lost"));
        world.ok(&["check"]);
        world.ok(&["gc"]);
        let left = if newest { "vm1-first.img" } else { "vm1.img" };
        world.assert_same("vm1", &world.path(left));
        world.backup("vm1.img", "vm1");
        let revisions = world.revisions("vm1");
        assert_eq!(revisions.last().unwrap()["sequence"], 3, "no number is given again");
        world.assert_same("vm1", &world.path("vm1.img"));
        world.ok(&["check"]);
    }
}

/// The id of a stream.
fn stream_of(world: &World, stream: &str) -> String {
    let holds_name = |path: &PathBuf| {
        fs::read(path).unwrap().windows(stream.len()).any(|bytes| bytes == stream.as_bytes())
    };
    let file = world.stored_files("streams").into_iter().find(holds_name).unwrap();
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn other_small_files_are_set_aside_and_what_is_lost_with_them_is_told() {
    let world = world();
    world.ok(&["scrub"]);
    world.ok(&["init", "second"]);
    world.ok(&["copy", "vm1@latest", "--to", "second", "--remember"]);
    write_chunk(&world.path("vm1.img"), 1, 1001);
    world.backup("vm1.img", "vm1");
    world.ok(&["forget", "vm1@0"]);
    fs::create_dir_all(world.repository().join("gc")).unwrap();
    let mut damaged = world.stored_files("labels");
    damaged.extend(world.stored_files("trash"));
    let others = ["scrub", "copy-target", "damage", "gc/condemned", "gc/dropped"];
    damaged.extend(others.map(|name| world.repository().join(name)));
    damaged.iter().for_each(|file| fs::write(file, "garbage").unwrap());
    let said = repair(&world, 4);
    let mut names: Vec<String> = damaged.iter().map(|file| relative(&world, file)).collect();
    let mut done = repaired(&said);
    names.sort();
    done.sort();
    assert_eq!(done, names);
    for done in said["repaired"].as_array().unwrap() {
        let file = done["file"].as_str().unwrap();
        let expected = match file.split('/').next().unwrap() {
            "labels" => Some("no tags now"),
            "trash" => Some("can't be brought back"),
            "copy-target" => Some("--remember"),
            "damage" => Some("full `treering scrub`"),
            _ => None,
        };
        match expected {
            Some(words) => assert!(done["loss"].as_str().unwrap().contains(words), "{done}"),
            None => assert_eq!(done["loss"], json!(null), "{done}"),
        }
    }
    assert_eq!(quarantine(&world).len(), names.len());
    write_chunk(&world.path("vm1.img"), 1, 1000);
    assert_all_works(&world);
}

/// A btrfs of its own. What is changed below it, it does not give back, as checksums tell it.
struct Btrfs {
    file: PathBuf,
    mounted: Option<(Mounted, LoopDevice)>,
}

impl Btrfs {
    /// With a copy of the repository.
    fn with_repository(world: &World) -> Self {
        let file = world.image("disk", 128 << 20, &[]);
        // Data that is stored once, and not among the metadata.
        system("mkfs.btrfs", &["-q", "-d", "single", "-m", "single", file.to_str().unwrap()]);
        let mut disk = Self { file, mounted: None };
        disk.mount(world);
        let (from, to) = (world.repository(), disk.repository(world));
        system("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
        disk
    }

    fn repository(&self, world: &World) -> PathBuf {
        world.path("disk-mount").join("repository")
    }

    fn mount(&mut self, world: &World) {
        let device = LoopDevice::attach(&self.file, &[]);
        let mounted = Mounted::mount(device.path(), world.path("disk-mount"), "noatime,max_inline=0");
        self.mounted = Some((mounted, device));
    }

    /// Where a file lies that begins thus.
    fn find(&self, begin: &[u8]) -> usize {
        system("sync", &["-f", self.mounted.as_ref().unwrap().0.path().to_str().unwrap()]);
        let disk = fs::read(&self.file).unwrap();
        let blocks = disk.as_chunks::<4096>().0.iter();
        let places: Vec<usize> = blocks
            .enumerate()
            .filter(|(_, block)| block.starts_with(begin))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(places.len(), 1, "one file begins thus");
        places[0] * 4096
    }

    /// Flips a bit there, or flips it back.
    fn flip(&mut self, world: &World, place: usize) {
        drop(self.mounted.take());
        flip_bit(&self.file, place as u64);
        self.mount(world);
    }
}

/// It may do so the next time.
#[test]
fn what_the_medium_does_not_give_back_is_not_set_aside() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.btrfs")]) {
        return;
    }
    for area in ["revisions", "labels", "packs/metadata", "index"] {
        let world = world();
        let begin = fs::read(&world.stored_files(area)[0]).unwrap()[..60].to_vec();
        let mut disk = Btrfs::with_repository(&world);
        let repository = disk.repository(&world).to_str().unwrap().to_owned();
        let place = disk.find(&begin);
        disk.flip(&world, place);
        let run = world.run(&["check", "--repair", "-r", &repository]).expect_code(4);
        run.says(&["does not give it back", "hint: nothing is set aside"]);
        assert!(!Path::new(&repository).join("quarantine").exists(), "{area}");
        // It passes.
        disk.flip(&world, place);
        world.ok(&["check", "-r", &repository]);
    }
}

/// What it did is told, as the next one finds nothing of it.
#[test]
fn without_any_packs_it_is_refused_and_what_was_done_before_is_told() {
    let world = world();
    let label = world.stored_files("labels")[0].clone();
    let packs = world.repository().join("packs/data");
    fs::rename(&packs, world.path("unmounted")).unwrap();
    fs::create_dir(&packs).unwrap();
    let spoil = || fs::write(&label, "garbage").unwrap();
    spoil();
    let said = repair(&world, 1);
    assert!(said["error"]["message"].as_str().unwrap().contains("packs/data/"), "{said:#}");
    assert!(said["error"]["hint"].as_str().unwrap().contains("mounted"), "{said:#}");
    let done = said["error"]["found"]["repaired"].as_array().unwrap();
    assert_eq!(done.len(), 1, "{said:#}");
    assert_eq!(done[0]["file"], relative(&world, &label));
    spoil();
    let run = world.run(&["check", "--repair"]).expect_code(1);
    assert!(run.text().contains("no tags now and is not protected"), "{}", run.text());
    fs::remove_dir(&packs).unwrap();
    fs::rename(world.path("unmounted"), &packs).unwrap();
    assert_eq!(world.stored_files("index").len(), 3);
    let told = world.ok(&["check"]).text();
    assert!(told.contains("quarantine/: 2 files"), "{told}");
    assert_all_works(&world);
}

/// The kind of a stream is that of its own records.
#[test]
fn no_record_is_set_aside_for_what_another_one_says() {
    let world = world();
    let records = world.stored_files("revisions");
    let stream = stream_of(&world, "vm1");
    let mut own: Vec<&PathBuf> =
        records.iter().filter(|record| record.to_str().unwrap().contains(&stream)).collect();
    own.sort();
    let other = records.iter().find(|record| !record.to_str().unwrap().contains(&stream)).unwrap();
    fs::write(own[1], fs::read(other).unwrap()).unwrap();
    fs::write(world.repository().join("streams").join(&stream), "garbage").unwrap();
    let said = repair(&world, 4);
    let mut names = vec![format!("streams/{stream}"), relative(&world, own[1])];
    let mut done = repaired(&said);
    names.sort();
    done.sort();
    assert_eq!(done, names, "{said:#}");
    assert_eq!(world.revisions(&stream).len(), 1);
    world.assert_same(&stream, &world.path("vm1-first.img"));
}

#[test]
fn it_is_refused_while_a_backup_runs_and_by_whom_is_said() {
    let world = world();
    let mut backup = world.command(&["backup", "-", "stdin"]).stdin(Stdio::piped()).spawn().unwrap();
    wait_until("the backup has its session", || !world.stored_files("sessions").is_empty());
    world.stored_files("index").iter().for_each(|table| flip_bit(table, 9000));
    world.fails(
        1,
        &["check", "--repair"],
        &["cannot repair the repository", "in use by backup of -", "hint: run it again"],
    );
    world.run(&["check"]).expect_code(4);
    drop(backup.stdin.take());
    backup.wait().unwrap();
    repair(&world, 0);
    assert_all_works(&world);
}

/// Whatever the moment: nothing is lost, and the next one ends the work.
#[test]
fn killed_repairs_lose_nothing() {
    let world = World::new();
    world.image("vm1.img", 900 * CHUNK, &(0..900).collect::<Vec<_>>());
    for generation in 0..3 {
        write_chunk(&world.path("vm1.img"), generation, 50_000 + generation);
        world.backup("vm1.img", "vm1");
    }
    for attempt in 0..12 {
        // What is lost in both can't be found any more.
        match attempt % 2 {
            0 => world.stored_files("index").iter().for_each(|table| flip_bit(table, 4096)),
            _ => world.stored_files("packs/data").iter().for_each(|pack| {
                flip_bit(pack, fs::metadata(pack).unwrap().len() - 10);
            }),
        }
        let mut child = world.start(&["check", "--repair"]);
        std::thread::sleep(std::time::Duration::from_millis(7 * attempt));
        child.kill().unwrap();
        child.wait().unwrap();
        repair(&world, 0);
        world.ok(&["check"]);
        world.assert_same("vm1", &world.path("vm1.img"));
    }
}
