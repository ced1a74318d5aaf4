//! Damage under a live mount: EIO where data is gone, one line about it, and everything else is served.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, seek};
use support::damage::{blobs, flip, lines_about, record_lines};
use support::{CHUNK, Fixture, Mounted, SIZE, can_mount, names, seek_map};
use treering_fuse::{FileSystem, Ino, Owner};

/// A repository with one image in a stream of this name, so that its lines are told from those of other tests.
fn fixture(stream: &str) -> Fixture {
    record_lines();
    let fixture = Fixture::new();
    support::make_image(&fixture.image(), 1);
    fixture.back_up(stream, &[]);
    fixture
}

fn data_packs(fixture: &Fixture) -> Vec<PathBuf> {
    fixture.stored("packs/data")
}

/// Reads all of an image in pages: gives the chunks of which a page failed, and checks all other bytes.
fn failed_chunks(fixture: &Fixture, file: &File) -> BTreeSet<u64> {
    let bytes = fixture.bytes();
    let mut failed = BTreeSet::new();
    let mut page = [0xee; 4096];
    for offset in (0..SIZE).step_by(4096) {
        let expected = &bytes[offset as usize..SIZE.min(offset + 4096) as usize];
        match file.read_at(&mut page, offset) {
            Ok(length) => assert!(page[..length] == *expected, "wrong bytes at {offset}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "{error} at {offset}");
                failed.insert(offset / CHUNK);
            }
        }
    }
    failed
}

fn open(mounted: &Mounted, stream: &str) -> File {
    File::open(mounted.path(&format!("{stream}/latest.img"))).unwrap()
}

/// Checks that the mount still does everything.
fn assert_alive(mounted: &Mounted, stream: &str) {
    assert_eq!(names(&mounted.root()), [stream]);
    assert_eq!(names(&mounted.path(stream)).len(), 4);
    open(mounted, stream);
}

#[test]
fn a_flipped_bit_in_a_pack_costs_its_chunk_alone_and_one_line() {
    if !can_mount("a_flipped_bit_in_a_pack_costs_its_chunk_alone_and_one_line") {
        return;
    }
    let stream = "flipped-pack";
    let fixture = fixture(stream);
    let mounted = fixture.mount();
    let file = open(&mounted, stream);
    let packs = data_packs(&fixture);
    flip(&packs[0], std::fs::metadata(&packs[0]).unwrap().len() / 2);
    let failed = failed_chunks(&fixture, &file);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed_chunks(&fixture, &file), failed);
    let lines = lines_about(stream);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let offset = failed.first().unwrap() * CHUNK;
    assert!(lines[0].contains(&format!("offset {offset}:")), "{lines:?}");
    assert_alive(&mounted, stream);
}

#[test]
fn a_large_read_over_damage_fails_and_is_never_short() {
    if !can_mount("a_large_read_over_damage_fails_and_is_never_short") {
        return;
    }
    let stream = "large-read";
    let fixture = fixture(stream);
    let mounted = fixture.mount();
    let file = open(&mounted, stream);
    let packs = data_packs(&fixture);
    flip(&packs[0], std::fs::metadata(&packs[0]).unwrap().len() / 2);
    let mut bytes = vec![0; SIZE as usize];
    // What is read before the damage counts, as on a disk; then the error comes.
    let mut done = 0;
    let error = loop {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => panic!("taken for the end"),
            Ok(length) => done += length,
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(5));
    assert!(bytes[..done] == fixture.bytes()[..done]);
}

#[test]
fn what_lies_before_and_behind_a_damaged_chunk_is_read() {
    if !can_mount("what_lies_before_and_behind_a_damaged_chunk_is_read") {
        return;
    }
    let stream = "around-damage";
    let fixture = fixture(stream);
    let bytes = fixture.bytes();
    let packs = data_packs(&fixture);
    flip(&packs[0], std::fs::metadata(&packs[0]).unwrap().len() / 2);
    // With nothing in the kernel's memory, and with requests that go over the damage.
    let damaged = {
        let mounted = fixture.mount();
        let failed = failed_chunks(&fixture, &open(&mounted, stream));
        assert_eq!(failed.len(), 1);
        failed.first().unwrap() * CHUNK..(failed.first().unwrap() + 1) * CHUNK
    };
    for length in [CHUNK as usize + 4096, 1 << 20, SIZE as usize] {
        let mounted = fixture.mount();
        let file = open(&mounted, stream);
        let mut buffer = vec![0xee; length];
        let mut done = 0;
        let error = loop {
            match file.read_at(&mut buffer, done) {
                Ok(read) => {
                    assert!(read > 0, "taken for the end at {done}");
                    assert!(buffer[..read] == bytes[done as usize..][..read], "{length} at {done}");
                    done += read as u64;
                }
                Err(error) => break error,
            }
        };
        assert_eq!((error.raw_os_error(), done), (Some(5), damaged.start), "reads of {length}");
        let mut rest = vec![0xee; (SIZE - damaged.end) as usize];
        file.read_exact_at(&mut rest, damaged.end).unwrap();
        assert!(rest == bytes[damaged.end as usize..]);
    }
}

#[test]
fn a_truncated_pack_costs_what_it_held_and_is_read_again_when_it_is_whole() {
    if !can_mount("a_truncated_pack_costs_what_it_held_and_is_read_again_when_it_is_whole") {
        return;
    }
    let stream = "truncated-pack";
    let fixture = fixture(stream);
    let mounted = fixture.mount();
    let file = open(&mounted, stream);
    // So that everything is open.
    file.read_exact_at(&mut [0; 4096], 0).unwrap();
    let pack = data_packs(&fixture).swap_remove(0);
    let whole = std::fs::read(&pack).unwrap();
    File::options().write(true).open(&pack).unwrap().set_len(whole.len() as u64 / 2).unwrap();
    let failed = failed_chunks(&fixture, &file);
    assert!(failed.len() > 10 && failed.len() < 110, "{failed:?}");
    assert_eq!(lines_about(stream).len(), failed.len());
    // Holes are told by the map, which lies in another pack.
    assert_eq!(seek_map(&file), support::data_ranges());
    assert_alive(&mounted, stream);
    File::options().write(true).open(&pack).unwrap().write_all_at(&whole, 0).unwrap();
    assert_eq!(failed_chunks(&fixture, &file), BTreeSet::new());
}

#[test]
fn a_removed_pack_costs_no_more_than_it_held() {
    if !can_mount("a_removed_pack_costs_no_more_than_it_held") {
        return;
    }
    let stream = "removed-pack";
    let fixture = fixture(stream);
    let mounted = fixture.mount();
    for pack in data_packs(&fixture) {
        std::fs::remove_file(pack).unwrap();
    }
    let file = open(&mounted, stream);
    let data: u64 =
        support::data_ranges().iter().map(|range| (range.end - range.start).div_ceil(CHUNK)).sum();
    assert_eq!(failed_chunks(&fixture, &file).len() as u64, data);
    assert_alive(&mounted, stream);
}

#[test]
fn damaged_metadata_is_an_error_and_not_the_end_of_the_mount() {
    if !can_mount("damaged_metadata_is_an_error_and_not_the_end_of_the_mount") {
        return;
    }
    let stream = "damaged-metadata";
    let fixture = fixture(stream);
    let mounted = fixture.mount();
    for path in fixture.stored("packs") {
        File::options().write(true).open(path).unwrap().set_len(100).unwrap();
    }
    let error = File::open(mounted.path(&format!("{stream}/latest.img"))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    assert_eq!(lines_about(&format!("{stream}@")).len(), 1);
    assert_eq!(names(&mounted.root()), [stream]);
    assert_eq!(names(&mounted.path(stream)).len(), 4);
}

/// Where a node of the map is lost nobody knows what was a hole: it counts as data, whose reads fail.
#[test]
fn a_damaged_node_of_the_map_costs_its_span_and_holes_behind_it_are_told() {
    if !can_mount("a_damaged_node_of_the_map_costs_its_span_and_holes_behind_it_are_told") {
        return;
    }
    let chunks = SIZE.div_ceil(CHUNK);
    // Two leaves, the node above them, in the order in which they are stored; and the next hole from the start on.
    let spans = [(0..256, 280 * CHUNK), (256..chunks, CHUNK), (0..chunks, SIZE)];
    for (node, (span, first_hole)) in spans.into_iter().enumerate() {
        let stream = format!("damaged-node-{node}");
        let fixture = fixture(&stream);
        let [pack] = &fixture.stored("packs/metadata")[..] else { panic!("one pack of metadata") };
        let nodes = blobs(pack);
        assert_eq!(nodes.len(), 4);
        let mounted = fixture.mount();
        let file = open(&mounted, &stream);
        flip(pack, nodes[node] + 9);

        assert_eq!(seek(&file, SeekFrom::Hole(0)), Ok(first_hole), "node {node}");
        for offset in [span.start * CHUNK, span.start * CHUNK + 50 * CHUNK + 7] {
            assert_eq!(seek(&file, SeekFrom::Data(offset)), Ok(offset), "node {node}");
        }
        if node == 0 {
            assert_eq!(seek(&file, SeekFrom::Data(290 * CHUNK)), Ok(SIZE / CHUNK * CHUNK));
        }
        assert_eq!(failed_chunks(&fixture, &file), span.collect(), "node {node}");
        assert!(!lines_about(&stream).is_empty());
        assert_alive(&mounted, &stream);
        // Who copies is told, and does not take it for a hole.
        let image = mounted.path(&format!("{stream}/latest.img"));
        let copy = std::process::Command::new("cp").arg(image).arg(fixture.path("copy")).output().unwrap();
        assert!(!copy.status.success());
        assert!(String::from_utf8_lossy(&copy.stderr).contains("Input/output error"));

        flip(pack, nodes[node] + 9);
        assert_eq!(seek_map(&file), support::data_ranges(), "node {node}");
        assert_eq!(failed_chunks(&fixture, &file), BTreeSet::new(), "node {node}");
    }
}

#[test]
fn a_damaged_index_table_costs_nothing() {
    if !can_mount("a_damaged_index_table_costs_nothing") {
        return;
    }
    for (number, damage) in ["flip", "truncate", "empty", "remove"].into_iter().enumerate() {
        let stream = format!("table-{number}");
        let fixture = fixture(&stream);
        let mounted = fixture.mount();
        let file = open(&mounted, &stream);
        file.read_exact_at(&mut [0; 4096], 0).unwrap();
        for table in fixture.stored("index") {
            let length = std::fs::metadata(&table).unwrap().len();
            let writable = || File::options().write(true).open(&table).unwrap();
            match damage {
                "flip" => (0..length).step_by(97).for_each(|offset| flip(&table, offset)),
                "truncate" => writable().set_len(length / 2).unwrap(),
                "empty" => writable().set_len(0).unwrap(),
                _ => std::fs::remove_file(&table).unwrap(),
            }
        }
        assert_eq!(failed_chunks(&fixture, &file), BTreeSet::new(), "{damage}");
        assert_alive(&mounted, &stream);
        if damage == "remove" {
            // Nobody can know of a table that is not there; `check --repair` makes it anew from the packs.
            continue;
        }
        // The same for a mount that comes after the damage.
        let later = fixture.mount();
        assert_eq!(failed_chunks(&fixture, &open(&later, &stream)), BTreeSet::new(), "{damage}, later");
    }
}

#[test]
fn a_damaged_record_costs_its_revision_alone() {
    if !can_mount("a_damaged_record_costs_its_revision_alone") {
        return;
    }
    let stream = "damaged-record";
    let fixture = fixture(stream);
    support::make_image(&fixture.image(), 2);
    fixture.back_up(stream, &[]);
    let records = fixture.stored("revisions");
    flip(&records[0], 40);
    let mounted = fixture.mount();
    let listed = names(&mounted.path(stream));
    assert_eq!(listed.len(), 5);
    // With attributes, as `ls -l` asks for them.
    let entries = std::fs::read_dir(mounted.path(stream)).unwrap();
    let failed = entries.filter(|entry| entry.as_ref().unwrap().metadata().is_err()).count();
    assert_eq!(failed, 1);
    let lines = lines_about(&format!("cannot open {stream}@"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(failed_chunks(&fixture, &open(&mounted, stream)), BTreeSet::new());
}

/// What can't be read for a while, for want of file handles say, once used up its one line for the life of the mount.
#[test]
fn damage_after_a_passing_error_has_a_line_of_its_own() {
    let stream = "passing-error";
    let fixture = fixture(stream);
    let fs = FileSystem::new(fixture.reopened(), &[], Owner { uid: 0, gid: 0 }).unwrap();
    let directory = fs.lookup(Ino::ROOT, stream).unwrap().ino;
    let latest = fs.read_link(fs.lookup(directory, "latest.img").unwrap().ino).unwrap();
    let image = fs.lookup(directory, &latest).unwrap().ino;
    let pack = fixture.stored("packs/metadata").remove(0);
    let kept = std::fs::read(&pack).unwrap();
    for lines in 1..=2 {
        std::fs::write(&pack, "").unwrap();
        (0..3).for_each(|_| assert!(fs.open(image).is_err()));
        assert_eq!(lines_about(stream).len(), lines);
        std::fs::write(&pack, &kept).unwrap();
        fs.release(fs.open(image).unwrap());
    }
    let handle = fs.open(image).unwrap();
    let failed = || {
        let mut chunk = vec![0; CHUNK as usize];
        let chunks = 0..SIZE.div_ceil(CHUNK);
        chunks.filter(|index| fs.read(handle, index * CHUNK, &mut chunk).is_err()).count()
    };
    let pack = data_packs(&fixture).remove(0);
    let middle = std::fs::metadata(&pack).unwrap().len() / 2;
    for lines in 3..=4 {
        flip(&pack, middle);
        assert_eq!((failed(), failed()), (1, 1));
        assert_eq!(lines_about(stream).len(), lines);
        flip(&pack, middle);
        assert_eq!(failed(), 0);
    }
}
