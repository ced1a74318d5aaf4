//! Small files of the repository that are lost or damaged: what still works, what is said, and what to do.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use support::system::{Mounted, Requirement, can_use};
use support::{CHUNK, Run, World, flip_bit, settle, wait_until, write_chunk};

/// Two revisions of vm1 with a tag each, and one of web.
fn world() -> World {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.json(&["backup", "vm1.img", "vm1", "--tag", "first"]);
    write_chunk(&image, 0, 1000);
    settle();
    world.json(&["backup", "vm1.img", "vm1", "--tag", "nightly"]);
    world.image("web.img", 5 * CHUNK, &[1, 2]);
    world.backup("web.img", "web");
    world
}

/// The file that holds a stream's name.
fn file_of(world: &World, stream: &str) -> PathBuf {
    let holds_name = |path: &PathBuf| {
        fs::read(path).unwrap().windows(stream.len()).any(|bytes| bytes == stream.as_bytes())
    };
    world.stored_files("streams").into_iter().find(holds_name).unwrap()
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn damaged_files(said: &Value) -> Vec<&str> {
    said.as_array().unwrap().iter().map(|damaged| damaged["file"].as_str().unwrap()).collect()
}

/// Loses the file of vm1 in one way after another, and looks each time; then puts it back.
fn with_lost_name(look: impl Fn(&World, &str)) {
    let ways: [fn(&PathBuf); 3] = [
        |file| fs::remove_file(file).unwrap(),
        |file| fs::write(file, "").unwrap(),
        |file| flip_bit(file, 40),
    ];
    for lose in ways {
        let world = world();
        let file = file_of(&world, "vm1");
        let kept = fs::read(&file).unwrap();
        lose(&file);
        look(&world, &file_name(&file));
        fs::write(&file, kept).unwrap();
        assert_eq!(world.json(&["status"])["repository"]["damaged_files"], serde_json::json!([]));
        world.assert_same("vm1", &world.path("vm1.img"));
    }
}

/// A lost file of some hundred bytes once hid a whole history without a word.
#[test]
fn a_stream_without_its_name_is_named_by_list_status_and_scrub() {
    with_lost_name(|world, id| {
        let file = format!("streams/{id}");
        let says = |run: &Run| run.says(&["error:", id, "back from a copy of the repository"]);
        let list = world.ok(&["list"]);
        says(&list);
        assert!(list.text().contains("NAME LOST") && list.text().contains(id), "{}", list.text());
        let status = world.ok(&["status"]);
        says(&status);
        assert!(status.text().contains(&format!("DAMAGE in {file}")), "{}", status.text());
        let said = world.json(&["status"]);
        assert_eq!(damaged_files(&said["repository"]["damaged_files"]), [&file]);
        let names = said["streams"].as_array().unwrap();
        assert!(names.iter().any(|stream| stream["name"] == id && stream["revisions"] == 2), "{said}");
        assert_eq!(damaged_files(&world.json(&["list"])["damaged_files"]), [&file]);
        let scrub = world.fails(4, &["scrub"], &[]);
        assert!(scrub.text().contains(&format!("DAMAGED  {file}: ")), "{}", scrub.text());
        // Another stream is not bothered.
        assert_eq!(world.ok(&["list", "web"]).stderr, "");
    });
}

#[test]
fn what_a_stream_without_its_name_holds_is_read_under_its_id() {
    with_lost_name(|world, id| {
        world.assert_same(id, &world.path("vm1.img"));
        world.dump(&format!("{id}@tag:first"));
        world.ok(&["restore", &format!("{id}@0"), "out.img"]);
        assert_eq!(world.revisions(id).len(), 2);
        assert_eq!(world.json(&["diff", &format!("{id}@1"), "0"])["bytes_changed"], CHUNK);
        world.fails(
            4,
            &["dump", "vm1"],
            &["cannot dump vm1", "lost or damaged", id, "hint:", "under its id"],
        );
        world.fails(1, &["list", "vm1"], &["cannot list vm1", "lost or damaged", id, "hint:"]);
    });
}

/// A stream whose own file is lost was once taken for one of images, and all records of trees for damaged.
#[test]
fn trees_of_a_stream_without_its_name_are_read_under_its_id() {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    fs::write(world.path("home/file"), "content").unwrap();
    world.ok(&["backup", "home"]);
    let file = file_of(&world, "home");
    fs::remove_file(&file).unwrap();
    let id = file_name(&file);
    assert_eq!(world.ok(&["dump", &id, "file"]).text(), "content");
    assert_eq!(world.json(&["ls", &id])["entries"].as_array().unwrap().len(), 1);
    world.ok(&["restore", &id, "out"]);
    assert_eq!(fs::read_to_string(world.path("out/file")).unwrap(), "content");
    assert_eq!(world.revisions(&id)[0]["kind"], "tree");
    let status = world.json(&["status"]);
    assert_eq!(damaged_files(&status["repository"]["damaged_files"]), [format!("streams/{id}")]);
    let scrub = world.fails(4, &["scrub"], &[]).text();
    assert!(scrub.contains(&format!("streams/{id}")) && !scrub.contains("revisions/"), "{scrub}");
}

#[test]
fn a_second_stream_of_a_lost_name_is_made_only_if_it_is_asked_for() {
    with_lost_name(|world, id| {
        let streams = world.stored_files("streams").len();
        for options in [&[][..], &["--dry-run"]] {
            for stream in ["vm1", "new"] {
                let arguments = [&["backup", "web.img", stream], options].concat();
                world.fails(1, &arguments, &["cannot back up web.img", id, "hint:", "--new-stream"]);
            }
        }
        // Nobody could tell such a stream from the lost one.
        for options in [&[][..], &["--dry-run"], &["--new-stream"], &["--new-stream", "--dry-run"]] {
            let arguments = [&["backup", "web.img", id], options].concat();
            world.fails(2, &arguments, &[id, "is the id of a stream", "hint:"]);
        }
        assert_eq!(world.stored_files("streams").len(), streams);
        // One that can be read is known not to be it.
        world.backup("web.img", "web");
        world.ok(&["backup", "web.img", "new", "--new-stream", "--dry-run"]);
        world.ok(&["backup", "web.img", "new", "--new-stream"]);
        world.backup("web.img", "new");
        assert_eq!(world.revisions("new").len(), 2);
    });
}

/// It was once taken for a stream that never had a revision, and begun anew.
#[test]
fn a_stream_whose_revisions_are_lost_is_named_and_takes_no_backup() {
    let world = world();
    let lost = format!("revisions/{}", file_name(&file_of(&world, "vm1")));
    let (there, away) = (world.path("repo").join(&lost), world.path("away"));
    let words = ["the revisions of stream 'vm1' are lost", "back from a copy of the repository"];
    for is_empty in [false, true] {
        fs::rename(&there, &away).unwrap();
        if is_empty {
            fs::create_dir(&there).unwrap();
        }
        world.ok(&["list"]).says(&words);
        world.ok(&["status"]).says(&words);
        assert_eq!(damaged_files(&world.json(&["list"])["damaged_files"]), [&lost]);
        assert_eq!(damaged_files(&world.json(&["status"])["repository"]["damaged_files"]), [&lost]);
        let scrub = world.fails(4, &["scrub"], &[]);
        assert!(scrub.text().contains(&format!("DAMAGED  {lost}: ")), "{}", scrub.text());
        for options in [&[][..], &["--dry-run"], &["--new-stream"]] {
            world.fails(1, &[&["backup", "vm1.img", "vm1"], options].concat(), &words);
        }
        world.fails(1, &["list", "vm1"], &words);
        world.fails(4, &["dump", "vm1"], &words);
        world.assert_same("web", &world.path("web.img"));
        world.backup("web.img", "web");
        if is_empty {
            fs::remove_dir(&there).unwrap();
        }
        fs::rename(&away, &there).unwrap();
        world.assert_same("vm1", &world.path("vm1.img"));
        world.backup("vm1.img", "vm1");
        assert_eq!(world.ok(&["list"]).stderr, "");
    }
}

#[test]
fn damaged_tables_labels_and_lists_show_in_the_status() {
    let world = world();
    world.damage_data_packs();
    world.fails(4, &["scrub"], &[]);
    let label = world.stored_files("labels").remove(0);
    let table = world.stored_files("index").remove(0);
    let list = world.path("repo/damage");
    for file in [&label, &table, &list] {
        let kept = fs::read(file).unwrap();
        let shown = file.strip_prefix(world.repository()).unwrap().to_str().unwrap();
        let truncated = kept.len() as u64 / 2;
        // In the middle: of a table that is an entry, which nothing else reads.
        flip_bit(file, truncated);
        for _ in 0..2 {
            let said = world.json(&["status"]);
            assert_eq!(damaged_files(&said["repository"]["damaged_files"]), [shown]);
            let status = world.ok(&["status"]);
            assert!(
                status.text().contains(&format!("DAMAGE in {shown}")) || status.text().contains("; DAMAGE")
            );
            status.says(&["error:", "damaged"]);
            fs::write(file, &kept[..truncated as usize]).unwrap();
        }
        fs::write(file, kept).unwrap();
        assert_eq!(world.json(&["status"])["repository"]["damaged_files"], serde_json::json!([]));
    }
}

#[test]
fn the_next_step_fits_what_is_damaged() {
    let world = world();
    for (directory, words) in [
        ("index", ["nothing is lost", "check --repair"]),
        ("labels", ["back from a copy", "only tags and protection"]),
    ] {
        let file = world.stored_files(directory).remove(0);
        let kept = fs::read(&file).unwrap();
        fs::write(&file, "").unwrap();
        world.ok(&["status"]).says(&words);
        let scrub = world.fails(4, &["scrub"], &[]);
        assert!(words.iter().all(|word| scrub.text().contains(word)), "{}", scrub.text());
        world.dump("vm1");
        fs::write(&file, kept).unwrap();
    }
    flip_bit(&world.path("repo/treering-repository"), 30);
    let run = world.fails(1, &["list"], &["hint: put the file treering-repository back from a copy"]);
    assert!(!run.stderr.contains("next backup"), "{}", run.stderr);
}

/// Some commands went on, and forgot what was protected; others told the log of the system for a hint.
#[test]
fn a_repository_that_lacks_a_directory_is_opened_by_no_command() {
    let world = world();
    world.ok(&["init", "second"]);
    fs::create_dir(world.path("mnt")).unwrap();
    for (directory, held) in [
        ("streams", "names of streams"),
        ("revisions", "revisions"),
        ("labels", "tags and protection"),
        ("packs/data", "what revisions are made of"),
        ("packs/metadata", "what revisions are made of"),
    ] {
        let (there, away) = (world.path("repo").join(directory), world.path("away"));
        fs::rename(&there, &away).unwrap();
        let (path, mkdir) = (there.to_str().unwrap(), format!("`mkdir -p {}`", there.display()));
        let words = [path, "the directory is missing", "hint:", "mounted", "from a copy", &mkdir, held];
        for command in [
            "list",
            "status",
            "backup vm1.img vm1",
            "backup vm1.img vm1 --dry-run",
            "tag vm1",
            "protect vm1",
            "forget vm1@1",
            "forget --undo vm1",
            "gc",
            "gc --dry-run",
            "stream list",
            "mount mnt",
        ] {
            world.fails(1, &command.split(' ').collect::<Vec<_>>(), &words);
        }
        for command in [
            "check",
            "check --repair",
            "scrub",
            "restore vm1 out.img",
            "dump vm1",
            "diff vm1@1 0",
            "copy --all --to second",
            "-r second copy --all --to repo",
        ] {
            world.fails(4, &command.split(' ').collect::<Vec<_>>(), &words);
        }
        let said = world.run(&["check", "--json"]).expect_code(4).json();
        assert_eq!(said["error"]["missing"], serde_json::json!([path]));
        assert!(!there.exists(), "nothing is made anew");
        fs::rename(&away, &there).unwrap();
        assert_eq!(world.revisions("vm1").len(), 2);
    }
    fs::rename(world.path("repo/packs"), world.path("away")).unwrap();
    let words = ["packs/data, ", "packs/metadata: the directories are missing", "put them back"];
    world.fails(4, &["check"], &words);
    fs::rename(world.path("away"), world.path("repo/packs")).unwrap();
    // As the hint says.
    fs::remove_dir_all(world.path("repo/labels")).unwrap();
    fs::create_dir(world.path("repo/labels")).unwrap();
    world.fails(4, &["check"], &[]);
    world.run(&["check", "--repair"]).expect_code(4);
    world.ok(&["check"]);
    assert_eq!(world.revisions("vm1")[1]["tags"], serde_json::json!([]));
}

#[test]
fn directories_that_need_not_be_there_are_not_missed() {
    let world = world();
    // Nothing is lost with these.
    for directory in ["sessions", "pins", "locks", "incoming"] {
        fs::remove_dir_all(world.path("repo").join(directory)).unwrap();
    }
    world.ok(&["list"]);
    world.assert_same("vm1", &world.path("vm1.img"));
    world.backup("vm1.img", "vm1");
}

/// Mounts with a log file, and gives the lines that hold a word when the mount has been looked at for a while.
fn lines_of_mount(world: &World, word: &str, mut look: impl FnMut(&std::path::Path)) -> Vec<String> {
    let mounted = Mounted::repository(world, &["--log-file", "log"]);
    for _ in 0..4 {
        look(mounted.path());
        std::thread::sleep(std::time::Duration::from_millis(600));
    }
    world.ok(&["unmount", "mnt"]);
    let log = fs::read_to_string(world.path("log")).unwrap();
    log.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

#[test]
fn a_mount_tells_of_lost_files_once_and_serves_what_there_is() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let world = world();
    let file = file_of(&world, "vm1");
    let id = file_name(&file);
    fs::remove_file(&file).unwrap();
    flip_bit(&world.stored_files("labels").remove(0), 40);
    let lines = lines_of_mount(&world, "error", |mount| {
        assert!(
            fs::read(mount.join(&id).join("latest.img")).unwrap() == fs::read(world.path("vm1.img")).unwrap()
        );
        assert_eq!(fs::read_dir(mount.join(&id).join("by-tag")).unwrap().count(), 1);
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[test]
fn a_mount_whose_repository_goes_away_fails_and_does_not_look_empty() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let world = world();
    let away = world.path("away");
    let mut gone = false;
    let lines = lines_of_mount(&world, "cannot list", |mount| {
        if !gone {
            assert_eq!(fs::read_dir(mount).unwrap().count(), 2);
            fs::rename(world.repository(), &away).unwrap();
            fs::create_dir(world.repository()).unwrap();
            gone = true;
        }
        let lists = || fs::read_dir(mount).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        wait_until("the root fails", || lists().is_err_and(|error| error.raw_os_error() == Some(5)));
    });
    assert_eq!(lines.len(), 1, "{lines:#?}");
}

#[test]
fn what_looks_through_all_revisions_of_a_tree_tells_that_the_newest_is_lost() {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    fs::write(world.path("home/old"), "text").unwrap();
    world.backup("home", "home");
    let first = world.stored_files("revisions");
    fs::write(world.path("home/new"), "text").unwrap();
    world.backup("home", "home");
    let newest = world.stored_files("revisions").into_iter().find(|file| !first.contains(file)).unwrap();
    fs::remove_file(newest).unwrap();
    let words = ["home@20", "number 2, is lost"];
    for of in ["home", "home@all"] {
        assert!(world.fails(4, &["find", of, "*"], &words).text().contains("old"));
        assert!(world.fails(4, &["history", of, "old"], &words).text().contains("-rw"));
    }
    let said = world.run(&["find", "home", "new", "--json"]).expect_code(4).json();
    assert!(said["damaged"][0]["revisions"].as_str().unwrap().starts_with("home@20"), "{said}");
}

/// The newest record was once lost without a word: hints relative to it were applied to the one before, and its number was
/// given again.
#[test]
fn the_loss_of_the_newest_record_is_told_and_hints_are_not_applied_to_an_older_one() {
    let world = world();
    let image = world.path("vm1.img");
    let newest = world.revisions("vm1").pop().unwrap();
    let id = newest["id"].as_str().unwrap().to_owned();
    let is_newest = |path: &PathBuf| path.to_str().unwrap().contains(&id);
    fs::remove_file(world.stored_files("revisions").into_iter().find(is_newest).unwrap()).unwrap();
    let words = ["revision vm1@20", "number 2, is lost"];
    world.ok(&["list", "vm1"]).says(&words);
    world.ok(&["list"]).says(&words);
    world.ok(&["status"]).says(&words);
    for arguments in [
        &["scrub"][..],
        &["scrub", "vm1"],
        // No older revision passes for the newest one.
        &["restore", "vm1", "older"],
        &["dump", "vm1@0"],
        &["diff", "vm1@latest", "vm1@0"],
    ] {
        let run = world.fails(4, arguments, &[]);
        let said = run.text() + &run.stderr;
        assert!(said.contains(words[0]), "{arguments:?}: {said}");
    }
    assert!(!world.path("older").exists());
    for (spec, code) in [("tag:nightly", 4), ("tag:first", 0)] {
        world.run(&["dump", &format!("vm1@{spec}")]).expect_code(code);
    }
    let oldest = world.revisions("vm1").remove(0)["id"].as_str().unwrap().to_owned();
    world.ok(&["restore", &format!("vm1@{oldest}"), "named"]);
    // What changed since the lost one says nothing of what changed since the one before: chunk 0 did.
    fs::write(world.path("hints"), format!(r#"[{{"offset":{},"length":1,"exists":true}}]"#, 5 * CHUNK))
        .unwrap();
    write_chunk(&image, 5, 2000);
    for base in ["latest", "0", "tag:none"] {
        let said =
            world.json(&["backup", "vm1.img", "vm1", "--hints", "hints", "--hints-base", base, "--dry-run"]);
        assert!(said["warnings"][1].as_str().unwrap().contains("everything is read"), "{base}: {said}");
    }
    let said = world.json(&["backup", "vm1.img", "vm1", "--hints", "hints"]);
    assert!(said["warnings"][0].as_str().unwrap().contains(words[0]), "{said}");
    world.assert_same("vm1", &image);
    world.ok(&["list"]).says(&words);
    world.run(&["check", "--repair"]).expect_code(4);
    assert_eq!(world.ok(&["list"]).stderr, "");
    let names = world.stored_files("revisions");
    assert!(names.iter().any(|path| path.to_str().unwrap().contains("0000000000000003_")), "{names:?}");
}

/// An image with three leaves in its map, of whose second revision gc has written the rest anew, while the table that named
/// its packs stays. Returns the table that alone names the new packs.
fn with_rewritten_packs(world: &World) -> PathBuf {
    let image = world.image("vm.img", 600 * CHUNK, &(0..600).collect::<Vec<_>>());
    for revision in 0..11 {
        (0..4).for_each(|chunk| write_chunk(&image, chunk, 10_000 + 4 * revision + chunk));
        if revision == 1 {
            write_chunk(&image, 300, 20_000);
        }
        world.json(&["backup", "vm.img", "vm", "--force-read"]);
    }
    let before = world.stored_files("index");
    world.ok(&["forget", "vm@9"]);
    let said = world.json(&["gc"]);
    assert_eq!(said["packs_rewritten"]["files"], 2, "{said}");
    assert!(world.repository().join("gc/dropped").exists(), "a table names the old packs");
    let new: Vec<PathBuf> =
        world.stored_files("index").into_iter().filter(|table| !before.contains(table)).collect();
    assert_eq!(new.len(), 1);
    new[0].clone()
}

/// What a table said of packs that gc had deleted hid that another pack has it all, which only a lost table named: files
/// could not be read, scrub called intact nodes bad, and a repair after that believed it.
#[test]
fn a_table_that_names_packs_that_gc_has_deleted_hides_no_others() {
    let world = World::new();
    let table = with_rewritten_packs(&world);
    let before: Vec<Vec<u8>> = (0..10).map(|n| world.dump(&format!("vm@{n}"))).collect();
    fs::remove_file(table).unwrap();
    for (n, bytes) in before.iter().enumerate() {
        assert!(world.dump(&format!("vm@{n}")) == *bytes);
    }
    for command in ["scrub", "check"] {
        let said = world.run(&[command, "--json"]).expect_code(4).json();
        assert_eq!(
            (&said["bad"], damaged_files(&said["damaged_files"])),
            (&serde_json::json!([]), vec!["index/"])
        );
    }
    assert_ne!(world.run(&["gc"]).code, Some(0), "gc does not go on without tables");
    let said = world.json(&["check", "--repair"]);
    assert_eq!((&said["bad"], &said["affected"]), (&serde_json::json!([]), &serde_json::json!([])));
    for command in ["check", "scrub", "gc", "check"] {
        world.ok(&[command]);
    }
    for (n, bytes) in before.iter().enumerate() {
        assert!(world.dump(&format!("vm@{n}")) == *bytes);
    }
}

/// What was called bad once was called so by every check, also when it could be read again, until a whole scrub.
#[test]
fn a_check_takes_off_the_damage_list_what_can_be_read_again() {
    let world = world();
    let packs = world.stored_files("packs/data");
    packs.iter().for_each(|pack| flip_bit(pack, 200));
    world.fails(4, &["scrub"], &[]);
    let listed = |world: &World| world.json(&["status"])["repository"]["damaged_objects"].as_u64().unwrap();
    assert_ne!(listed(&world), 0);
    world.fails(4, &["check"], &[]);
    assert_ne!(listed(&world), 0, "what is bad stays on the list");
    packs.iter().for_each(|pack| flip_bit(pack, 200));
    let said = world.json(&["check"]);
    assert_eq!((&said["bad"], &said["affected"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!(listed(&world), 0);
}

/// The records of a stream, the oldest first.
fn records(world: &World) -> Vec<PathBuf> {
    let mut records = world.stored_files("revisions");
    records.sort_by_key(|record| file_name(record));
    records
}

/// An older record that was gone altogether was noticed by nobody, and gc freed what only it needed.
#[test]
fn the_loss_of_an_older_record_is_told_by_all_that_look_and_stops_gc() {
    let world = World::new();
    for seed in 1..=3 {
        world.image_with_seeds("vm.img", &[seed, 10 + seed]);
        world.backup("vm.img", "vm");
    }
    let record = records(&world)[1].clone();
    let name = world.revisions("vm")[1]["name"].as_str().unwrap().to_owned();
    let kept = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let file = record.strip_prefix(world.repository()).unwrap().to_str().unwrap().to_owned();
    let words = [file.as_str(), "number 2, is lost", &format!("vm@{name}")];
    for command in [&["list"][..], &["list", "vm"], &["status"]] {
        world.ok(command).says(&words[1..]);
    }
    for command in ["check", "scrub"] {
        let said = world.run(&[command, "--json"]).expect_code(4).json();
        assert_eq!(damaged_files(&said["damaged_files"]), [&file], "{command}");
    }
    // What is counted is another one than before, and only if the lost one is counted.
    world.fails(1, &["list", "vm@1"], &words[1..]);
    assert!(world.dump("vm@0") == fs::read(world.path("vm.img")).unwrap());
    world.ok(&["forget", "vm", "--keep-last", "9"]);
    world.fails(1, &["gc"], &words[1..]);
    world.backup("vm.img", "vm");
    assert!(world.run(&["check"]).expect_code(4).text().contains(&file));
    fs::write(&record, &kept).unwrap();
    world.ok(&["check"]);
    world.ok(&["gc"]);
    assert_eq!(world.dump("vm@2")[..CHUNK as usize], support::noise(2, CHUNK as usize));
}

#[test]
fn a_repair_gives_up_records_that_are_gone_where_their_stream_has_others() {
    let world = World::new();
    for seed in 1..=3 {
        world.image_with_seeds("vm.img", &[seed]);
        world.backup("vm.img", "vm");
    }
    let record = records(&world)[1].clone();
    let kept = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let said = world.run(&["check", "--repair", "--json"]).expect_code(4).json();
    let repaired = &said["repaired"][0];
    assert!(repaired["file"].as_str().unwrap().ends_with(&file_name(&record)), "{said:#}");
    assert!(repaired["loss"].as_str().unwrap().contains("back"), "{said:#}");
    world.ok(&["check"]);
    // It can be put back as long as gc has not run.
    fs::write(&record, &kept).unwrap();
    world.ok(&["check"]);
    assert!(world.dump("vm@1") == support::noise(2, CHUNK as usize));
    fs::remove_file(&record).unwrap();
    world.ok(&["gc"]);
    assert_eq!(world.revisions("vm").len(), 2);
    // All records of a stream at once are rather on a medium that is not there.
    records(&world).iter().for_each(|record| fs::remove_file(record).unwrap());
    let said = world.run(&["check", "--repair", "--json"]).expect_code(4).json();
    assert_eq!(
        (&said["repaired"], said["damaged_files"].as_array().unwrap().len()),
        (&serde_json::json!([]), 1)
    );
}

/// A protected revision whose labels were lost, or the labels of a whole stream, was forgotten by the next policy.
#[test]
fn labels_that_are_gone_are_missed_and_what_had_them_is_kept() {
    let world = World::new();
    for seed in 1..=3 {
        world.image_with_seeds("vm.img", &[seed]);
        world.backup("vm.img", "vm");
    }
    world.ok(&["protect", "vm@2"]);
    world.ok(&["tag", "vm@1", "--add", "monthly"]);
    fs::remove_dir_all(world.stored_files("labels")[0].parent().unwrap()).unwrap();
    let said = world.run(&["check", "--json"]).expect_code(4).json();
    assert_eq!(said["damaged_files"].as_array().unwrap().len(), 2, "{said:#}");
    for command in ["list", "status"] {
        world.ok(&[command]).says(&["set of labels", "its file is gone", "back from a copy"]);
    }
    world.ok(&["forget", "vm", "--keep-last", "1"]);
    assert_eq!(world.revisions("vm").len(), 3, "nobody knows whether they are protected");
    for command in
        [&["forget", "vm@2"][..], &["tag", "vm@2", "--add", "x"], &["stream", "delete", "vm", "--yes"]]
    {
        world.fails(1, command, &["set of labels", "its file is gone"]);
    }
    let said = world.run(&["check", "--repair", "--json"]).expect_code(4).json();
    assert_eq!(said["repaired"].as_array().unwrap().len(), 2, "{said:#}");
    assert!(said["repaired"][0]["loss"].as_str().unwrap().contains("not protected"), "{said:#}");
    world.ok(&["check"]);
    world.ok(&["protect", "vm@2"]);
    world.ok(&["forget", "vm", "--keep-last", "1"]);
    assert_eq!(world.revisions("vm").len(), 2);
}

/// A backup had stored a rotten node anew and was killed, or the table of its packs was lost. The good copy could be read:
/// so gc took the rotten one for it, deleted the other, and backups did not store it anew either.
#[test]
fn a_good_copy_that_no_table_names_is_neither_deleted_nor_relied_upon() {
    let world = World::new();
    let image = world.image("vm.img", 600 * CHUNK, &(0..600).collect::<Vec<_>>());
    world.backup("vm.img", "vm");
    let content = fs::read(&image).unwrap();
    let before = (world.stored_files("index"), world.stored_files("packs/metadata"));
    flip_bit(&before.1[0], 9000);
    // Reads the rotten node, and stores it anew.
    write_chunk(&image, 599, 10_000);
    world.json(&["backup", "vm.img", "vm", "--force-read"]);
    world.ok(&["forget", "vm@0"]);
    let new: Vec<PathBuf> =
        world.stored_files("index").into_iter().filter(|table| !before.0.contains(table)).collect();
    assert_eq!(new.len(), 1);
    fs::remove_file(&new[0]).unwrap();
    assert!(world.dump("vm") == content, "the good copy is found");
    let packs = world.stored_files("packs");
    for options in [&[][..], &["--despite-damage"]] {
        world.fails(1, &[&["gc"], options].concat(), &["index", "no table names a good copy"]);
        assert_eq!(world.stored_files("packs"), packs);
    }
    // The next backup does not rely on it.
    fs::write(&image, &content).unwrap();
    world.json(&["backup", "vm.img", "vm", "--force-read"]);
    let without_table = world.stored_files("packs/metadata").into_iter();
    let of_lost_table = without_table.filter(|pack| packs.contains(pack) && !before.1.contains(pack));
    of_lost_table.for_each(|pack| fs::remove_file(pack).unwrap());
    assert!(world.dump("vm") == content);
}

/// A healed chunk: its old copy is rotten, and the table of the good one is lost. gc looked only whether tables name it,
/// and deleted the good one.
#[test]
fn gc_deletes_no_pack_without_a_table_that_has_the_only_good_copy() {
    let world = World::new();
    world.image_with_seeds("vm.img", &(0..40).collect::<Vec<_>>());
    world.backup("vm.img", "vm");
    let (tables, packs) = (world.stored_files("index"), world.stored_files("packs"));
    world.damage_data_packs();
    world.fails(4, &["scrub"], &[]);
    world.json(&["backup", "vm.img", "vm", "--force-read"]);
    world.ok(&["scrub"]);
    let is_new = |table: &PathBuf| !tables.contains(table);
    world.stored_files("index").into_iter().filter(is_new).for_each(|table| fs::remove_file(table).unwrap());
    let content = fs::read(world.path("vm.img")).unwrap();
    assert!(world.dump("vm@1") == content);
    let before = world.stored_files("packs");
    assert_ne!(before, packs);
    for dry_run in [&["--dry-run"][..], &[]] {
        world.fails(1, &[&["gc"], dry_run].concat(), &["no table names a good copy", "check --repair"]);
    }
    assert_eq!(world.stored_files("packs"), before);
    world.ok(&["check", "--repair"]);
    world.ok(&["gc"]);
    for revision in ["vm@0", "vm@1"] {
        assert!(world.dump(revision) == content);
    }
    world.ok(&["scrub"]);
}

/// Nothing could be done about it: no command took the stream, and gc waited for ever.
#[test]
fn a_stream_that_has_lost_all_its_revisions_can_be_deleted() {
    let world = world();
    let records = world.stored_files("revisions").into_iter();
    let id = file_name(&file_of(&world, "vm1"));
    records
        .filter(|file| file.to_str().unwrap().contains(&id))
        .for_each(|file| fs::remove_file(file).unwrap());
    world.fails(1, &["gc"], &["stream delete"]);
    world.fails(1, &["backup", "vm1.img", "vm1"], &["`treering stream delete` gives the stream up"]);
    world.ok(&["stream", "delete", "vm1", "--yes"]);
    world.backup("vm1.img", "vm1");
    world.ok(&["gc"]);
    world.ok(&["check"]);
    world.assert_same("vm1", &world.path("vm1.img"));
}
