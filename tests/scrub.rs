//! `treering scrub`, through the program: damage is found, shown, and healed by the next backup.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::time::Duration;

use support::system::{Requirement, can_use, system};
use support::{CHUNK, Run, World, assert_keys, flip_bit, interrupt, write_at, write_chunk};

fn world() -> World {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    write_chunk(&image, 1, 1000);
    world.backup("vm1.img", "vm1");
    world
}

/// The first of the packs: that of the first revision.
fn damage_first_revision(world: &World) {
    let packs = world.stored_files("packs/data");
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    // Within chunk 0, which both revisions have.
    flip_bit(largest, 200);
}

#[test]
fn a_sound_repository_is_found_to_be_sound() {
    let world = world();
    let said = world.json(&["scrub"]);
    let keys =
        ["chunks_checked", "bytes_checked", "bad", "unused", "mismatched", "damaged_files", "superseded"];
    assert_keys(&said, &keys);
    let help = world.ok(&["scrub", "--help"]).text();
    for key in said.as_object().unwrap().keys() {
        assert!(help.contains(key), "the help says nothing of {key}");
    }
    assert_eq!((&said["chunks_checked"], &said["bytes_checked"]), (&33.into(), &(33 * CHUNK).into()));
    assert_eq!((said["bad"].as_array().unwrap().len(), said["mismatched"].as_array().unwrap().len()), (0, 0));
    assert_eq!(world.json(&["scrub", "vm1"])["chunks_checked"], 33);
    assert_eq!(world.json(&["scrub", "vm1@latest"])["chunks_checked"], 32);
    assert!(world.ok(&["scrub"]).text().contains("all is in order"));
}

#[test]
fn a_percentage_reads_less() {
    let world = World::new();
    let data: Vec<u64> = (0..400).collect();
    world.image("vm1.img", 400 * CHUNK, &data);
    world.backup("vm1.img", "vm1");
    for arguments in [&["scrub", "-p", "10"][..], &["scrub", "vm1", "--percentile", "10"]] {
        let checked = world.json(arguments)["chunks_checked"].as_u64().unwrap();
        assert!((5..120).contains(&checked), "{checked} of 400");
    }
    for percent in ["0", "-0", "-1", "100.1", "101", "nan", "-nan", "inf", "many", ""] {
        world.fails(2, &["scrub", "-p", percent], &[]);
    }
    for percent in ["0.1", "1e-300", "100"] {
        // Never none, of which it would be said that all is in order.
        assert_ne!(world.json(&["scrub", "-p", percent])["chunks_checked"], 0, "{percent}");
        assert_ne!(world.json(&["scrub", "vm1", "-p", percent])["chunks_checked"], 0, "{percent}");
    }
}

#[test]
fn damage_is_found_shown_and_healed() {
    let world = world();
    let image = world.path("vm1.img");
    damage_first_revision(&world);
    assert_eq!(world.json(&["status"])["streams"][0]["damaged"], 0, "nobody has looked yet");

    let run = world.run(&["scrub", "--json"]).expect_code(4);
    let bad = run.json()["bad"].as_array().unwrap().clone();
    assert_eq!(bad.len(), 1);
    assert_keys(&bad[0], &["chunk", "type", "reason", "revisions", "more_revisions"]);
    assert_eq!(bad[0]["revisions"].as_array().unwrap().len(), 2);
    let text = world.run(&["scrub"]).expect_code(4).text();
    assert!(text.contains("BAD") && text.contains("needed by vm1@"), "{text}");

    assert!(world.revisions("vm1").iter().all(|revision| revision["damaged"] == true));
    let status = world.json(&["status"]);
    assert_eq!(
        (&status["streams"][0]["damaged"], &status["repository"]["damaged_objects"]),
        (&2.into(), &1.into())
    );
    assert!(world.ok(&["status"]).text().contains("DAMAGE in 2 revisions"));

    // Neither times nor the parent are believed for what is damaged.
    support::settle();
    world.backup("vm1.img", "vm1");
    world.assert_same("vm1", &image);
    assert!(world.revisions("vm1").iter().all(|revision| revision["damaged"] == false));
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], 0);
    world.ok(&["dump", "vm1@2"]);
    world.ok(&["scrub", "vm1"]);
}

#[test]
fn damage_is_healed_through_hints_and_with_the_file_unchanged() {
    let world = world();
    support::settle();
    world.backup("vm1.img", "vm1");
    damage_first_revision(&world);
    world.run(&["scrub", "vm1"]).expect_code(4);
    fs::write(world.path("hints"), "[]").unwrap();
    world.ok(&["backup", "vm1.img", "vm1", "--hints", "hints"]);
    world.ok(&["scrub", "vm1"]);
    world.assert_same("vm1", &world.path("vm1.img"));
}

#[test]
fn damage_that_the_source_no_longer_has_stays_known() {
    let world = world();
    damage_first_revision(&world);
    world.run(&["scrub"]).expect_code(4);
    write_chunk(&world.path("vm1.img"), 0, 4000);
    world.backup("vm1.img", "vm1");
    let damaged: Vec<bool> =
        world.revisions("vm1").iter().map(|revision| revision["damaged"] == true).collect();
    assert_eq!(damaged, [true, true, false]);
    world.assert_same("vm1", &world.path("vm1.img"));
    world.fails(4, &["dump", "vm1@1"], &["damaged"]);
}

#[test]
fn a_missing_and_a_truncated_pack_are_damage() {
    for missing in [true, false] {
        let world = world();
        for pack in world.stored_files("packs/data") {
            match missing {
                true => fs::remove_file(pack).unwrap(),
                false => File::options().write(true).open(pack).unwrap().set_len(1000).unwrap(),
            }
        }
        let said = world.run(&["scrub", "--json"]).expect_code(4).json();
        assert_eq!(said["bad"].as_array().unwrap().len(), 33, "missing: {missing}");
        world.backup("vm1.img", "vm1");
        world.assert_same("vm1", &world.path("vm1.img"));
        world.ok(&["scrub", "vm1@latest"]);
    }
}

#[test]
fn a_repository_that_was_healed_is_in_order() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    damage_first_revision(&world);
    let found = world.run(&["scrub", "--json"]).expect_code(4).json();
    assert_eq!(found["superseded"], serde_json::json!([]));
    support::settle();
    world.backup("vm1.img", "vm1");
    let healed = world.json(&["scrub"]);
    assert_eq!(healed["damaged_files"], serde_json::json!([]));
    assert_eq!(healed["superseded"], found["damaged_files"]);
    // It is no damage, but a note, which is not for who wants it quiet.
    assert!(world.ok(&["scrub"]).text().contains("note     packs/"));
    assert_eq!(world.ok(&["scrub", "-q"]).text(), "");
    let text = world.ok(&["scrub"]).text();
    assert!(text.contains("note ") && text.contains("all is in order"), "{text}");
}

#[test]
fn what_no_revision_uses_is_a_note_and_no_damage() {
    let world = world();
    // The newest can't go, so there is a third one, which is as the first.
    world.ok(&["restore", "vm1@1", "vm1.img", "--overwrite"]);
    world.backup("vm1.img", "vm1");
    world.ok(&["forget", "vm1@1"]);
    // The one chunk that the second revision has for itself.
    let packs = world.stored_files("packs/data");
    flip_bit(packs.iter().min_by_key(|path| fs::metadata(path).unwrap().len()).unwrap(), 200);
    let said = world.json(&["scrub"]);
    assert_eq!((said["bad"].as_array().unwrap().len(), said["unused"].as_array().unwrap().len()), (0, 1));
    let text = world.ok(&["scrub"]).text();
    assert!(text.contains("no revision uses it") && text.contains("all is in order"), "{text}");
    let text = world.ok(&["status"]).text();
    assert!(text.contains("1 bad object marked") && !text.contains("DAMAGE in"), "{text}");
}

#[test]
fn a_damaged_record_is_found() {
    let world = world();
    let records = world.stored_files("revisions");
    flip_bit(&records[0], 50);
    let all = world.run(&["scrub", "--json"]).expect_code(4).json();
    assert_eq!(all["damaged_files"].as_array().unwrap().len(), 1, "{all:#}");
    let stream = world.run(&["scrub", "vm1", "--json"]).expect_code(4).json();
    assert_eq!(stream["damaged_files"].as_array().unwrap().len(), 1, "{stream:#}");
    world.ok(&["scrub", "vm1@latest"]);
}

#[test]
fn a_damaged_index_table_is_found_and_in_nobodys_way() {
    let world = world();
    let tables = world.stored_files("index");
    tables.iter().for_each(|table| flip_bit(table, 5000));
    world.assert_same("vm1", &world.path("vm1.img"));
    world.run(&["scrub", "--json"]).expect_code(4);
}

#[test]
fn a_source_is_compared() {
    let world = world();
    assert_eq!(world.json(&["scrub", "vm1", "-s", "vm1.img"])["mismatched"], serde_json::json!([]));
    write_at(&world.path("vm1.img"), 5 * CHUNK + 3, b"different");
    let said = world.run(&["scrub", "vm1", "-s", "vm1.img", "--json"]).expect_code(4).json();
    assert_eq!(said["mismatched"], serde_json::json!([{ "offset": 5 * CHUNK, "length": CHUNK }]));
    world.run(&["scrub", "vm1@1", "-s", "vm1.img"]).expect_code(4);
    world.fails(1, &["scrub", "vm1", "-s", "missing"], &["cannot use missing as a source"]);
    world.fails(1, &["scrub", "vm9"], &["cannot scrub vm9", "streams: vm1"]);
}

#[test]
fn a_file_that_is_read_by_nobody_may_be_scrubbed_beside_a_mount() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let world = world();
    let mounted = support::system::Mounted::repository(&world, &[]);
    world.ok(&["scrub"]);
    assert!(
        fs::read(mounted.path().join("vm1/latest.img")).unwrap() == fs::read(world.path("vm1.img")).unwrap()
    );
}

#[test]
fn a_source_of_another_size_differs_and_what_is_no_source_is_refused() {
    let world = world();
    let image = world.path("vm1.img");
    let size = 64 * CHUNK;
    for (other, offset, length) in [(size + 5, size, 5), (size - 5, size - CHUNK, CHUNK), (0, 0, size)] {
        fs::copy(&image, world.path("other.img")).unwrap();
        File::options().write(true).open(world.path("other.img")).unwrap().set_len(other).unwrap();
        let said = world.run(&["scrub", "vm1", "-s", "other.img", "--json"]).expect_code(4).json();
        assert_eq!(said["mismatched"], serde_json::json!([{ "offset": offset, "length": length }]));
    }
    world.fails(1, &["scrub", "vm1", "-s", "."], &["it is a directory"]);
    world.fails(1, &["scrub", "vm1", "-s", "/dev/null"], &["neither a file nor a block device"]);
    world.fails(2, &["scrub", "vm1@all", "-s", "vm1.img"], &["STREAM@SPEC"]);
    world.fails(2, &["scrub", "-s", "vm1.img"], &[]);
    world.fails(1, &["scrub", "vm1@7"], &["cannot scrub vm1@7"]);
}

/// Each pack was once read twice, for its checksums and for its contents.
#[test]
fn a_full_scrub_reads_what_is_stored_once() {
    let world = World::new();
    let data: Vec<u64> = (0..400).collect();
    world.image("vm1.img", 400 * CHUNK, &data);
    world.backup("vm1.img", "vm1");
    let stored: u64 = world.stored_files("packs").iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    let child = world.start(&["scrub"]);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    let ended = rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child));
    rustix::process::waitid(ended, options).unwrap();
    // The system counts for a process until somebody asks how it ended.
    let counters = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    let read =
        counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse::<u64>().unwrap();
    Run::of(&["scrub"], child.wait_with_output().unwrap()).expect_code(0);
    assert!((stored..stored * 5 / 4).contains(&read), "{read} bytes for {stored} that are stored");
}

#[test]
fn an_interrupted_scrub_ends_with_130_and_has_marked_what_it_found() {
    let world = World::new();
    let data: Vec<u64> = (0..3000).collect();
    world.image("vm1.img", 3000 * CHUNK, &data);
    world.backup("vm1.img", "vm1");
    world.damage_data_packs();
    let damaged_objects = || world.json(&["status"])["repository"]["damaged_objects"].as_u64().unwrap();
    // Whether the signal comes in time is chance: try until it does.
    for attempt in 0..40 {
        let mut child = world.start(&["scrub", "--json", "--verbose"]);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("reading packs")));
        std::thread::sleep(Duration::from_millis(5 * attempt));
        interrupt(&child);
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        let run = Run::of(&["scrub"], child.wait_with_output().unwrap());
        if run.code == Some(130) {
            let error = &run.json()["error"];
            let found = &error["found"];
            let bad = found["bad"].as_array().unwrap();
            assert_eq!(error["code"], 130);
            assert!(found["chunks_checked"].as_u64().unwrap() < 3000);
            assert_eq!(damaged_objects(), bad.len() as u64);
            if !bad.is_empty() {
                assert!(rest.iter().any(|line| line.contains("interrupted")), "{rest:?}");
                assert_eq!(bad[0]["revisions"], serde_json::Value::Null);
                let all = world.run(&["scrub", "--json"]).expect_code(4).json();
                assert_eq!(damaged_objects(), all["bad"].as_array().unwrap().len() as u64);
                assert_eq!(all["bad"].as_array().unwrap().len(), world.stored_files("packs/data").len());
                return;
            }
        }
        fs::remove_file(world.repository().join("damage")).unwrap_or_default();
    }
    panic!("no scrub was ever interrupted half-way");
}

#[test]
fn a_read_only_copy_is_scrubbed_and_it_is_said_that_nothing_can_be_marked() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = world();
    damage_first_revision(&world);
    let repository = world.repository();
    let path = repository.to_str().unwrap();
    system("mount", &["--bind", path, path]);
    let mounted = support::system::Mounted::take_over(repository.clone());
    system("mount", &["-o", "remount,ro,bind", path]);
    let run = world.run(&["scrub", "--json"]).expect_code(4);
    run.says(&["could not be noted in the repository", "ead-only"]);
    assert_eq!(run.json()["bad"].as_array().unwrap().len(), 1);
    drop(mounted);
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], 0);
}

#[test]
fn scrubs_run_beside_each_other_and_beside_a_backup() {
    let world = world();
    damage_first_revision(&world);
    let scrubs: Vec<_> = (0..3).map(|_| world.start(&["scrub", "--json"])).collect();
    let chunks: Vec<u64> = (5000..5600).collect();
    world.image_with_seeds("web.img", &chunks);
    world.backup("web.img", "web");
    for scrub in scrubs {
        let said = Run::of(&["scrub"], scrub.wait_with_output().unwrap()).expect_code(4).json();
        assert_eq!(
            (said["bad"].as_array().unwrap().len(), &said["damaged_files"].as_array().unwrap().len()),
            (1, &1)
        );
    }
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], 1);
    world.ok(&["scrub", "web"]);
}

#[test]
fn a_pack_that_is_empty_or_another_one_is_damage() {
    for empty in [true, false] {
        let world = world();
        let mut packs = world.stored_files("packs/data");
        packs.sort_by_key(|pack| std::cmp::Reverse(fs::metadata(pack).unwrap().len()));
        match empty {
            true => fs::write(&packs[0], []).unwrap(),
            false => drop(fs::copy(&packs[1], &packs[0]).unwrap()),
        }
        let said = world.run(&["scrub", "--json"]).expect_code(4).json();
        assert_eq!(said["bad"].as_array().unwrap().len(), 32, "{said:#}");
        assert_eq!(said["damaged_files"].as_array().unwrap().len(), 1);
        world.backup("vm1.img", "vm1");
        world.assert_same("vm1", &world.path("vm1.img"));
        world.ok(&["scrub", "vm1@latest"]);
    }
}

#[test]
fn a_damaged_damage_list_is_told_and_made_anew_by_a_full_scrub() {
    let world = world();
    fs::write(world.repository().join("damage"), "garbage").unwrap();
    let damaged = || world.json(&["status"])["repository"]["damaged_files"].as_array().unwrap().len();
    world.backup("vm1.img", "vm1");
    world.ok(&["scrub", "vm1"]);
    assert_eq!(damaged(), 1, "who looks at a part does not know what else was on it");
    let text = world.run(&["scrub"]).expect_code(4).text();
    assert!(text.contains("DAMAGED  damage: ") && text.contains("a full `treering scrub`"), "{text}");
    assert_eq!(damaged(), 0);
    world.ok(&["scrub"]);
}

#[test]
fn garbage_in_the_place_of_any_small_file_is_damage_and_stops_no_scrub() {
    for area in ["index", "revisions", "streams"] {
        for garbage in [&[][..], b"garbage", &[0xa5; 70_000]] {
            let world = world();
            let file = world.stored_files(area).remove(0);
            fs::write(&file, garbage).unwrap();
            let said = world.run(&["scrub", "--json"]).expect_code(4).json();
            let damaged = said["damaged_files"].as_array().unwrap();
            assert_eq!(damaged.len(), 1, "{area}: {said:#}");
            assert!(damaged[0]["file"].as_str().unwrap().starts_with(area));
        }
    }
}

/// `status` told of it, and `scrub` said that all was in order.
#[test]
fn lost_tables_are_found() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    for table in world.stored_files("index") {
        fs::remove_file(table).unwrap();
    }
    let said = world.run(&["scrub"]).expect_code(4).text();
    assert!(said.contains("index tables are missing"), "{said}");
}

/// A terabyte of nothing once took minutes to be compared.
#[test]
fn what_is_a_hole_on_both_sides_is_not_read() {
    let world = World::new();
    let image = world.image("wide.img", 1 << 40, &[3, 70_000]);
    world.backup("wide.img", "wide");
    world.ok(&["scrub", "wide", "-s", image.to_str().unwrap()]);
    let target = world.path("restored.img");
    world.ok(&["restore", "wide", target.to_str().unwrap(), "--verify"]);
    write_chunk(&image, 5_000_000, 7);
    world.fails(4, &["scrub", "wide", "-s", image.to_str().unwrap()], &[]);
}

fn scrub_state(world: &World) -> serde_json::Value {
    world.json(&["status"])["repository"]["scrub"].clone()
}

/// Some packs, each of a run of its own.
fn world_of_packs(count: u64) -> World {
    let world = World::new();
    let image = world.image("vm1.img", 8 * CHUNK, &[0]);
    for number in 0..count {
        write_chunk(&image, 0, 10_000 + number);
        world.backup("vm1.img", "vm1");
    }
    world
}

#[test]
fn short_scrubs_read_every_pack_in_turn() {
    let world = world_of_packs(4);
    let packs = world.stored_files("packs").len() as u64;
    assert_eq!(
        (&scrub_state(&world)["verified_packs"], &scrub_state(&world)["last"]),
        (&0.into(), &().into())
    );
    assert!(world.ok(&["status"]).text().contains("scrubbed    nothing yet"));
    let mut verified = 0;
    for _ in 0..packs {
        // Less than any pack takes: one is read all the same, or the few that were begun at the same time.
        let said = world.json(&["scrub", "--max-duration", "1us"]);
        let read = said["packs_read"].as_u64().unwrap();
        assert!(read >= 1, "{said}");
        let state = scrub_state(&world);
        // None is read twice before all were read.
        assert_eq!(state["verified_packs"], (verified + read).min(packs));
        verified = state["verified_packs"].as_u64().unwrap();
        assert_eq!(said["out_of_time"], verified < packs || read < packs);
        assert_eq!(state["last"]["packs"], read);
    }
    let state = scrub_state(&world);
    assert_eq!((&state["verified_packs"], &state["recent_bytes"]), (&packs.into(), &state["bytes"]));
    let text = world.ok(&["status"]).text();
    assert!(text.contains("100 % within 30 days") && text.contains("nothing bad"), "{text}");
}

#[test]
fn only_scrubs_of_everything_are_in_the_ledger() {
    let world = world_of_packs(2);
    for command in [&["scrub", "-p", "50"][..], &["scrub", "vm1"]] {
        world.ok(command);
        assert_eq!(scrub_state(&world)["verified_packs"], 0, "{command:?}");
    }
    world.ok(&["scrub"]);
    let state = scrub_state(&world);
    assert_eq!(state["verified_packs"], world.stored_files("packs").len());
    assert_eq!(state["last"]["complete"], true);
    // Time enough: all is read, and revisions are followed.
    assert_eq!(world.json(&["scrub", "--max-duration", "1h"])["out_of_time"], false);
}

#[test]
fn a_scrub_that_is_short_of_time_finds_marks_and_notes_what_is_bad() {
    let world = world_of_packs(1);
    world.damage_data_packs();
    let mut codes = Vec::new();
    for _ in 0..world.stored_files("packs").len() {
        codes.push(world.run(&["scrub", "--max-duration", "1us"]).code.unwrap());
    }
    assert!(codes.contains(&4), "{codes:?}");
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], 1);
    world.run(&["scrub"]).expect_code(4);
    assert_eq!(scrub_state(&world)["last"]["bad_objects"], 1);
    assert!(world.ok(&["status"]).text().contains("found 1 bad object"));
}

#[test]
fn forgotten_revisions_and_lists_of_gc_are_read_by_a_full_scrub() {
    let world = world_of_packs(2);
    world.ok(&["forget", "vm1@1"]);
    world.ok(&["scrub"]);
    fs::create_dir_all(world.repository().join("gc")).unwrap();
    let forgotten = world.stored_files("trash").remove(0);
    flip_bit(&forgotten, 60);
    for list in ["condemned", "dropped"] {
        fs::write(world.repository().join("gc").join(list), "garbage").unwrap();
    }
    fs::write(world.repository().join("scrub"), "garbage").unwrap();
    let said = world.run(&["scrub", "--json"]).expect_code(4).json();
    let damaged: Vec<&str> =
        said["damaged_files"].as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
    let forgotten = forgotten.strip_prefix(world.repository()).unwrap().to_str().unwrap();
    assert_eq!(damaged, ["gc/condemned", "gc/dropped", "scrub", forgotten]);
    let status = world.json(&["status"]);
    assert_eq!(status["repository"]["damaged_files"], serde_json::json!([]), "the ledger is made anew");
}
