//! Every kind of stored file, harmed in every way, under every command: what comes of it is right, or an error that names
//! what is wrong. The breadth; `tree_damage`, `lost_files`, `scrub` and the tests of crates go into the depth.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]
#![allow(clippy::print_stderr, reason = "what is harmed in which way must be said")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::World;
use support::harms::Harm;
use support::probes::Probes;
use support::system::{Requirement, can_use};

/// A kind of stored file.
struct Kind {
    /// Where such files lie in the repository; one file, or a directory.
    place: &'static str,
    /// What a message may call it beside the name of the file.
    words: &'static [&'static str],
    /// Whether the loss of one can look like something that may be so.
    is_missed_silently: bool,
    /// Whether scrub must find one that is spoilt.
    is_scrubbed: bool,
    /// Another name of the right form, in place of that of a file.
    other_name: Option<fn(&str) -> String>,
}

/// An id that no file has, in the form of the one that is given.
fn other_id(name: &str) -> String {
    let digits = "f0e1d2c3b4a5";
    let kept = name.len() - digits.len();
    format!("{}{digits}", &name[..kept])
}

/// Harms files of a kind in all ways, and runs all commands each time.
fn run_matrix(kind: &Kind, prepare: fn(&mut Probes)) {
    if !can_use(&[Requirement::Fuse]) {
        return;
    }
    let prepared = || {
        let mut probes = Probes::new();
        prepare(&mut probes);
        probes.keep();
        probes
    };
    // The other one has the same content, and other ids.
    let (probes, other) = (prepared(), prepared());
    let (files, others) = (files(&probes, kind.place), files(&other, kind.place));
    // One is often of the image and older, the other of the tree and newer, or the other way round.
    let ends = [files.first(), files.last().filter(|_| files.len() > 1)];
    for file in ends.into_iter().flatten() {
        for harm in harms(&probes.world, kind, file, &files) {
            run_case(&probes, kind, file, &harm);
        }
        run_case(&probes, kind, file, &Harm::Replace(other.world.path("sound").join(&others[0])));
    }
}

/// Runs all commands after one harm to one file.
fn run_case(probes: &Probes, kind: &Kind, file: &Path, harm: &Harm) {
    // Printed if it fails.
    eprintln!("{}: {harm:?}", file.display());
    probes.restore_sound();
    harm.apply(&probes.world.repository().join(file));
    let may_be_silent = match harm {
        Harm::Delete => kind.is_missed_silently,
        Harm::Replace(_) | Harm::Duplicate(_) => true,
        Harm::Flip(_) | Harm::Truncate(_) => false,
    };
    let outcome = probes.run_all(&names(kind, file, harm), may_be_silent);
    let must_be_found = kind.is_scrubbed && harm.spoils_content();
    assert!(outcome.is_found || !must_be_found, "scrub does not find it");
    eprintln!("  {outcome:?}");
}

/// The files of a kind, from the sound repository on.
fn files(probes: &Probes, place: &str) -> Vec<PathBuf> {
    let sound = probes.world.path("sound");
    let files = files_of(&sound, place);
    assert!(!files.is_empty(), "there is no {place}");
    files.iter().map(|path| path.strip_prefix(&sound).unwrap().to_owned()).collect()
}

fn files_of(repository: &Path, place: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![repository.join(place)];
    while let Some(path) = todo.pop() {
        match path.is_dir() {
            true => todo.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// The harms of one file that need no other repository.
fn harms(world: &World, kind: &Kind, file: &Path, files: &[PathBuf]) -> Vec<Harm> {
    let mut harms = Harm::of_size(fs::metadata(world.path("sound").join(file)).unwrap().len());
    let another = files.iter().find(|other| *other != file);
    harms.extend(another.map(|other| Harm::Replace(world.path("sound").join(other))));
    if let Some(other_name) = kind.other_name {
        let name = other_name(file.file_name().unwrap().to_str().unwrap());
        harms.push(Harm::Duplicate(world.repository().join(file).with_file_name(name)));
    }
    harms
}

/// What a message may call a harmed file.
fn names(kind: &Kind, file: &Path, harm: &Harm) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names = vec![name(file)];
    names.extend(kind.words.iter().map(|word| (*word).to_owned()));
    if let Harm::Duplicate(other) = harm {
        names.push(name(other));
    }
    names
}

/// A repository as it is.
fn as_it_is(_: &mut Probes) {}

#[test]
fn a_harmed_header_is_told_by_every_command() {
    let kind = Kind {
        place: "treering-repository",
        words: &["repository header", "is not a repository", "index table", "packs/"],
        is_missed_silently: false,
        is_scrubbed: true,
        other_name: None,
    };
    run_matrix(&kind, as_it_is);
}

#[test]
fn a_harmed_stream_is_told_or_read_under_its_id() {
    let kind = Kind {
        place: "streams",
        words: &[],
        is_missed_silently: false,
        is_scrubbed: true,
        other_name: Some(other_id),
    };
    run_matrix(&kind, as_it_is);
}

#[test]
fn a_harmed_record_is_told_and_never_another_revision() {
    let next = |name: &str| format!("{:016x}{}-2", 9, &name[16..]);
    let kind = Kind {
        place: "revisions",
        words: &["the record of", "no revision of", "revisions/", ", is lost"],
        is_missed_silently: false,
        is_scrubbed: true,
        other_name: Some(next),
    };
    run_matrix(&kind, as_it_is);
}

#[test]
fn harmed_labels_are_told_and_cost_no_revision() {
    let kind = Kind {
        place: "labels",
        words: &[],
        is_missed_silently: false,
        is_scrubbed: true,
        other_name: Some(other_id),
    };
    run_matrix(&kind, as_it_is);
}

#[test]
fn a_harmed_damage_list_stops_nobody() {
    let list_damage = |probes: &mut Probes| {
        probes.world.damage_data_packs();
        probes.world.fails(4, &["scrub"], &[]);
        probes.world.damage_data_packs();
    };
    let kind = Kind {
        place: "damage",
        words: &["damage list"],
        is_missed_silently: true,
        is_scrubbed: true,
        other_name: None,
    };
    run_matrix(&kind, list_damage);
}

#[test]
fn a_harmed_pack_of_data_gives_right_bytes_or_none() {
    let kind = Kind {
        place: "packs/data",
        words: &["packs/", "pack ", "chunk ", "node ", "directory ", "object "],
        is_missed_silently: false,
        is_scrubbed: true,
        other_name: Some(other_id),
    };
    run_matrix(&kind, as_it_is);
}

#[test]
fn a_harmed_pack_of_metadata_gives_right_bytes_or_none() {
    let kind = Kind {
        place: "packs/metadata",
        words: &["packs/", "pack ", "chunk ", "node ", "directory ", "object "],
        is_missed_silently: false,
        is_scrubbed: true,
        other_name: Some(other_id),
    };
    run_matrix(&kind, as_it_is);
}

#[test]
fn a_harmed_index_table_costs_no_data() {
    let kind = Kind {
        place: "index",
        words: &["index", "no table names"],
        is_missed_silently: false,
        is_scrubbed: true,
        other_name: Some(other_id),
    };
    run_matrix(&kind, as_it_is);
}

/// The bytes of a golden object of `docs/format.md`.
fn golden(name: &str) -> Vec<u8> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/testdata/golden").join(name);
    let text = fs::read_to_string(golden).unwrap();
    let rows = text.lines().flat_map(|row| row.split_whitespace().skip(1));
    rows.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn harmed_claims_of_dead_processes_stop_nobody() {
    for place in ["sessions", "pins"] {
        let kind = Kind {
            place,
            words: &[],
            is_missed_silently: true,
            is_scrubbed: false,
            other_name: Some(other_id),
        };
        run_matrix(&kind, |probes| {
            for area in ["sessions", "pins"] {
                let area = probes.world.repository().join(area);
                fs::create_dir_all(&area).unwrap();
                fs::write(area.join("05050505-0505-0505-0505-050505050505"), golden("claim.hex")).unwrap();
            }
        });
    }
}

#[test]
fn a_harmed_target_of_copies_stops_no_other_command() {
    let kind = Kind {
        place: "copy-target",
        words: &["target", "different history"],
        is_missed_silently: true,
        is_scrubbed: true,
        other_name: None,
    };
    run_matrix(&kind, |probes| {
        probes.world.ok(&["init", "kept"]);
        probes.world.ok(&["copy", "--all", "--to", "kept", "--remember"]);
    });
}

#[test]
fn harmed_lists_of_gc_cost_nothing_that_is_used() {
    for place in ["gc/condemned", "gc/dropped"] {
        let kind = Kind { place, words: &[], is_missed_silently: true, is_scrubbed: true, other_name: None };
        run_matrix(&kind, |probes| {
            let area = probes.world.repository().join("gc");
            fs::create_dir_all(&area).unwrap();
            for list in ["condemned", "dropped"] {
                fs::write(area.join(list), golden(&format!("{list}.hex"))).unwrap();
            }
        });
    }
}

#[test]
fn what_is_harmed_in_the_trash_is_forgotten_or_told() {
    let kind = Kind {
        place: "trash",
        words: &["trash"],
        is_missed_silently: true,
        is_scrubbed: true,
        other_name: None,
    };
    run_matrix(&kind, |probes| {
        for stream in ["old", "gone"] {
            for _ in 0..2 {
                probes.world.backup("vm.img", stream);
            }
        }
        probes.world.ok(&["forget", "old@1"]);
        probes.world.ok(&["stream", "delete", "gone", "--yes"]);
        probes.tell_anew();
    });
}

#[test]
fn harmed_locks_and_leftovers_stop_nobody() {
    for place in ["locks", "incoming"] {
        let kind = Kind { place, words: &[], is_missed_silently: true, is_scrubbed: false, other_name: None };
        run_matrix(&kind, |probes| {
            let incoming = probes.world.repository().join("incoming");
            fs::create_dir_all(&incoming).unwrap();
            let pack = probes.world.stored_files("packs/data").remove(0);
            fs::copy(pack, incoming.join("0f0e0d0c-0b0a-4908-8706-050403020100")).unwrap();
        });
    }
}
