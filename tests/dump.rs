//! `treering dump`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use support::system::{Requirement, can_use, run_on_terminal, system};
use support::{CHUNK, World, flip_bit, interrupt, noise, settle, wait_until, write_chunk};

#[test]
fn every_revision_comes_out_as_it_went_in() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    let mut states = Vec::new();
    for seed in 0..4 {
        write_chunk(&image, seed * 9, 1000 + seed);
        world.backup("vm1.img", "vm1");
        states.push(fs::read(&image).unwrap());
    }
    for (age, state) in states.iter().rev().enumerate() {
        assert!(&world.dump(&format!("vm1@{age}")) == state, "vm1@{age}");
    }
}

#[test]
fn holes_come_out_as_zeros_also_a_lot_of_them() {
    let world = World::new();
    let image = world.image("vm1.img", 2000 * CHUNK + 17, &[0, 1999]);
    world.backup("vm1.img", "vm1");
    world.assert_same("vm1", &image);
}

#[test]
fn dumps_into_a_file_and_a_pipe_are_the_same() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let status = world.command(&["dump", "vm1"]).stdout(File::create(world.path("out")).unwrap()).status();
    assert!(status.unwrap().success());
    assert!(fs::read(world.path("out")).unwrap() == fs::read(image).unwrap());
}

#[test]
fn other_programs_take_what_is_dumped() {
    if !can_use(&[Requirement::Program("qemu-img"), Requirement::Program("dd")]) {
        return;
    }
    let world = World::new();
    let image = world.image("vm1.img", 40 * CHUNK + 512, &[0, 1, 17, 39]);
    world.backup("vm1.img", "vm1");
    let shell = |line: &str| {
        let line = line.replace("treering", env!("CARGO_BIN_EXE_treering"));
        let mut command = Command::new("sh");
        command.args(["-ec", &line]).current_dir(world.directory());
        let output = command.env("TREERING_REPOSITORY", world.repository()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let compare = |format: &str, name: &str| {
        let (image, copy) = (image.to_str().unwrap().to_owned(), world.path(name));
        let same =
            system("qemu-img", &["compare", "-f", "raw", "-F", format, &image, copy.to_str().unwrap()]);
        assert!(same.contains("identical"), "{name}: {same}");
    };
    shell("treering dump vm1 > file.raw");
    compare("raw", "file.raw");
    shell("treering dump vm1 | dd of=dd.raw bs=1M");
    compare("raw", "dd.raw");
    shell("treering dump vm1 > vm1.raw && qemu-img convert -O qcow2 vm1.raw vm1.qcow2");
    compare("qcow2", "vm1.qcow2");
}

/// A dump into a pipe that nobody read once waited for a second signal.
#[test]
fn a_reader_that_stalls_does_not_keep_a_dump_from_being_interrupted() {
    let world = World::new();
    world.image("vm1.img", 100 * CHUNK, &[0, 99]);
    world.backup("vm1.img", "vm1");
    let mut dump = world.command(&["dump", "vm1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = dump.stdout.take().unwrap();
    output.read_exact(&mut [0]).unwrap();
    interrupt(&dump);
    wait_until("the dump has ended", || dump.try_wait().unwrap().is_some());
    assert_eq!(dump.wait().unwrap().code(), Some(130));
}

#[test]
fn a_closed_stdout_is_an_error_and_dev_null_is_none() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" dump vm1 >&-", env!("CARGO_BIN_EXE_treering")]);
    let output = command.env("TREERING_REPOSITORY", world.repository()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is closed"));
    // Opened for both, as the standard library opens it in the place of what is closed.
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let status = world.command(&["dump", "vm1"]).stdout(null).status().unwrap();
    assert!(status.success());
}

#[test]
fn an_image_is_not_written_to_a_terminal() {
    if !can_use(&[Requirement::Program("script")]) {
        return;
    }
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let said = run_on_terminal(&world, &["dump", "vm1"]).expect_code(2).text();
    assert!(said.contains("will not write an image to a terminal") && said.contains("hint:"), "{said}");
}

#[test]
fn damage_ends_a_dump_with_4_after_right_bytes_only() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.damage_data_packs();
    let run = world.fails(4, &["dump", "vm1"], &["cannot", "damaged", "bytes ", "hint:"]);
    let image = fs::read(image).unwrap();
    assert!(image.starts_with(&run.stdout));
    // All before the bad chunk comes out, and the chunk alone is named.
    let start = run.stdout.len() as u64;
    assert_eq!(start % CHUNK, 0);
    run.says(&[&format!("bytes {start} to {}", start + CHUNK - 1)]);
}

#[test]
fn what_lies_before_damage_within_a_batch_comes_out() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let kept: std::collections::BTreeSet<_> = world.stored_files("packs/data").into_iter().collect();
    // A chunk in the middle, in a pack of its own.
    write_chunk(&world.path("vm1.img"), 5, 1000);
    world.backup("vm1.img", "vm1");
    world.stored_files("packs/data").iter().filter(|pack| !kept.contains(*pack)).for_each(|pack| {
        flip_bit(pack, 200);
    });
    let named = format!("bytes {} to {}", 5 * CHUNK, 6 * CHUNK - 1);
    let run = world.fails(4, &["dump", "vm1"], &[&named]);
    assert!(run.stdout == fs::read(world.path("vm1.img")).unwrap()[..5 * CHUNK as usize]);
}

#[test]
fn what_is_not_there_is_an_error_without_output() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    for named in ["vm2", "vm1@9", "vm1@tag:x"] {
        let run = world.fails(1, &["dump", named], &["cannot dump", "hint:"]);
        assert!(run.stdout.is_empty());
    }
    let run = world.run(&["dump", "vm2", "--json"]).expect_code(1);
    assert!(run.stdout.is_empty(), "data only, never JSON: {}", run.text());
}

#[test]
fn a_full_target_is_told_as_such() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = world.command(&["dump", "vm1"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
}

/// A world with a revision of a tree.
fn tree() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("home/dir")).unwrap();
    fs::write(world.path("home/dir/text"), b"some text").unwrap();
    fs::write(world.path("home/empty"), b"").unwrap();
    fs::write(world.path("home/large"), noise(1, 5 << 20)).unwrap();
    let sparse = File::create(world.path("home/sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    sparse.write_all_at(&noise(2, 70_000), 4 << 20).unwrap();
    std::os::unix::fs::symlink("dir/text", world.path("home/link")).unwrap();
    std::os::unix::fs::symlink("\x1b[31m\n", world.path("home/red")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(world.path("home/socket")).unwrap());
    settle();
    world.ok(&["backup", "home"]);
    world
}

#[test]
fn a_file_of_a_tree_comes_out_as_it_went_in() {
    let world = tree();
    for path in ["dir/text", "empty", "large", "sparse"] {
        let original = fs::read(world.path("home").join(path)).unwrap();
        for shown in [path.to_owned(), format!("/{path}"), path.replace('/', "//")] {
            assert!(world.ok(&["dump", "home", &shown]).stdout == original, "{shown}");
        }
    }
    fs::write(world.path("home/dir/text"), b"other text").unwrap();
    settle();
    world.ok(&["backup", "home"]);
    assert_eq!(world.ok(&["dump", "home", "dir/text"]).stdout, b"other text");
    assert_eq!(world.ok(&["dump", "home@1", "dir/text"]).stdout, b"some text");
}

#[test]
fn what_is_no_file_is_named_as_what_it_is() {
    let world = tree();
    let refused = |path: &str, words: &[&str]| {
        let run = world.fails(1, &["dump", "home", path], words);
        assert!(run.stdout.is_empty());
    };
    refused("dir", &["dir is a directory, and no file", "hint:"]);
    refused("/", &["is a directory"]);
    refused("link", &["link is a symbolic link to dir/text, and no file"]);
    refused("red", &["red is a symbolic link to \\x1b[31m\\n, and no file"]);
    refused("socket", &["is a socket"]);
    refused("missing", &["has no entry 'missing'"]);
    refused("dir/../empty", &["has no entry"]);
    refused("link/text", &["has no entry"]);
    world.fails(2, &["dump", "home"], &["is a tree", "dump STREAM PATH"]);
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.fails(2, &["dump", "vm1", "etc/fstab"], &["is an image, and has no paths"]);
}

#[test]
fn a_damaged_file_of_a_tree_comes_out_up_to_the_damage() {
    let world = tree();
    let before = world.stored_files("packs/data");
    let mut content = fs::read(world.path("home/large")).unwrap();
    content.extend(noise(7, 3 << 20));
    fs::write(world.path("home/large"), &content).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    for pack in world.stored_files("packs/data").iter().filter(|pack| !before.contains(pack)) {
        flip_bit(pack, fs::metadata(pack).unwrap().len() / 2);
    }
    let run = world.fails(4, &["dump", "home", "large"], &["large of home@", "is damaged", "bytes"]);
    let length = run.stdout.len();
    assert!(length >= 4 << 20 && length < content.len(), "{length}");
    assert!(run.stdout == content[..length]);
    assert_eq!(world.ok(&["dump", "home", "dir/text"]).stdout, b"some text");
}
