//! Gives every target what lies in `fuzz/corpus`: what fuzzers came upon, so that tests cover it with any toolchain.
//!
//! Each target's corpus begins with something valid, mostly a golden object. What is missing of these is written by the
//! tests with `TREERING_WRITE_GOLDEN=1`; what is there is never replaced.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{TARGETS, target};

/// Where the crate of fuzz targets lies.
fn fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(path)
}

/// The bytes of a golden object.
fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden").join(format!("{name}.hex"));
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().map(|row| row.split_whitespace().skip(1));
    rows.flatten().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// The payload of a sealed golden object.
fn payload(name: &str) -> Vec<u8> {
    let sealed = golden(name);
    sealed[20..sealed.len() - 32].to_vec()
}

/// Something valid for each target: its name, that of the file, and the bytes.
fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let sealed = ["header", "stream", "labels", "damage", "claim", "condemned", "dropped", "record"];
    let sealed = sealed.map(|name| (name, "golden", payload(name)));
    let nodes = [
        ("map_root", "root"),
        ("map_inner", "inner"),
        ("map_leaf", "leaf"),
        ("file_inner", "file-inner"),
        ("file_leaf", "file-leaf"),
        ("directory_inner", "directory-inner"),
        ("directory_leaf", "directory-leaf"),
        ("tree_root", "tree-root"),
        ("attributes", "attributes"),
    ];
    let nodes = nodes.map(|(target, name)| (target, "golden", golden(name)));
    let record = golden("record");
    let others = [
        ("copy_target", "golden", payload("copy-target")),
        ("scrub_ledger", "golden", payload("scrub-ledger")),
        ("record", "golden-tree", payload("record-tree")),
        ("envelope", "golden", record[..record.len() - 32].to_vec()),
        ("blob", "plain", b"\x05\0\0plain".to_vec()),
        (
            "names",
            "record",
            b"000000000000001f_018f0000-0000-4000-8000-000000000000_2026-11-20T10-13-20Z-12".to_vec(),
        ),
        ("names", "object", [b'a'; 64].to_vec()),
        (
            "hints",
            "rbd",
            [
                &1000u64.to_le_bytes()[..],
                br#"[{"offset":500,"length":100,"exists":"false"},{"offset":0,"length":10,"exists":true}]"#,
            ]
            .concat(),
        ),
        ("image", "sparse", SPARSE_IMAGE.to_vec()),
        ("tree", "two-files", TREE_OF_TWO_FILES.to_vec()),
    ];
    sealed.into_iter().chain(nodes).chain(others).chain(pack_seeds()).chain(table_seeds()).collect()
}

fn pack_seeds() -> [(&'static str, &'static str, Vec<u8>); 4] {
    let pack = golden("pack");
    let (trailer, directory) = (pack.len() - 64, pack.len() - 64 - 2 * 56);
    [
        ("pack", "golden", [&[0x0f], pack.as_slice()].concat()),
        ("pack_header", "golden", pack[..64].to_vec()),
        ("pack_trailer", "golden", [&(pack.len() as u64).to_le_bytes()[..], &pack[trailer..]].concat()),
        ("pack_directory", "golden", pack[directory..trailer].to_vec()),
    ]
}

fn table_seeds() -> [(&'static str, &'static str, Vec<u8>); 4] {
    let table = golden("table");
    let block = |number: usize, length: usize| &table[number * 4096..number * 4096 + length];
    [
        ("table_header", "golden", block(0, 72).to_vec()),
        ("table_packs", "golden", [&[1], block(1, 32)].concat()),
        ("table_entries", "golden", [&[2], block(2, 96)].concat()),
        ("table", "golden", [&[2, 0, 1, 0], block(1, 32), block(2, 96), block(3, 32)].concat()),
    ]
}

/// A chunk; a leaf of it and a hole; a root of two chunks of 4 KiB.
const SPARSE_IMAGE: &[u8] = &[1, 0x00, 0x10, 7, 3, 1, 1, 2, 0, 0, 0, 1, 2, 0, 0, 1, 1, 1, 1, 0, 1, 0];

/// A chunk; the leaf of a file of it and a hole; a directory of a slice and of that file; the root.
const TREE_OF_TWO_FILES: &[u8] = &[
    1, 100, 0, 7, // the chunk
    2, 1, 3, 0, 0, 0, 0, 9, // the leaf of the file
    4, 1, 1, b'a', 1, 0, 0, 0, 10, 0, 0, 1, 0, // the slice
    1, b'b', 3, 0, 1, 0, 109, 0, 0, 100, 1, 0, 2, 0, 1, // the file
    0, 0, 2, 0, 2, 0, 119, 0, // the root
];

/// The files of a target's corpus.
fn corpus(name: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(fuzz("corpus").join(name)).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn every_target_takes_all_of_its_corpus() {
    for target in TARGETS {
        let files = corpus(target.name);
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in files {
            // Printed if it fails.
            println!("{}", file.display());
            (target.run)(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_corpus_begins_with_something_valid() {
    let mut seeded = BTreeSet::new();
    for (name, file, bytes) in seeds() {
        let path = fuzz("corpus").join(name).join(file);
        if std::env::var_os("TREERING_WRITE_GOLDEN").is_some() && !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).is_ok_and(|stored| stored == bytes), "{} is another", path.display());
        assert!((target(name).unwrap().run)(&bytes), "{name} does not accept {file}");
        seeded.insert(name);
    }
    assert_eq!(seeded, TARGETS.iter().map(|target| target.name).collect());
}

#[test]
fn every_target_is_a_program_and_every_program_and_corpus_a_target() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let below = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz(directory)).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(below("corpus"), names);
    assert_eq!(below("fuzz_targets"), names);
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "fuzz/Cargo.toml does not build {name}");
    }
}

#[test]
fn every_kind_of_sealed_object_has_a_target() {
    let format = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format");
    let targets = include_str!("sealed.rs");
    let mut kinds = 0;
    for file in fs::read_dir(format).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        let text = fs::read_to_string(file).unwrap();
        for rest in text.split("\nimpl SealedKind for ").skip(1) {
            let (kind, _) = rest.split_once(' ').unwrap();
            assert!(targets.contains(&format!("look_at::<{kind}>")), "{kind} has no target");
            assert!(targets.contains(&format!("opens::<{kind}>")), "{kind} is not among the envelopes");
            kinds += 1;
        }
    }
    assert!(kinds >= 9);
}
