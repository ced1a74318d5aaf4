//! Signals: every command ends with 130 and says so, wherever it is, and never by the signal itself.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Stdio};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use support::{Run, World, wait_until};

/// A world in which a command that logs to `waits` waits for a reader of it, before it has done anything.
fn world() -> World {
    let world = World::new();
    mkfifoat(CWD, world.path("waits"), Mode::RUSR | Mode::WUSR).unwrap();
    world
}

/// Waits until a process catches a signal, as it does from the first moments of its `main` on.
fn wait_until_caught(child: &Child, signal: Signal) {
    let status = format!("/proc/{}/status", child.id());
    wait_until("the signal is caught", || {
        let status = fs::read_to_string(&status).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
    });
}

/// Waits until a process that catches the signal waits for something.
fn wait_until_waiting(child: &Child, signal: Signal) {
    wait_until_caught(child, signal);
    let state = format!("/proc/{}/stat", child.id());
    wait_until("it waits", || fs::read_to_string(&state).unwrap().contains(") S "));
}

/// Sends a process a signal, and returns how it ended.
#[track_caller]
fn end(child: Child, signal: Signal) -> Run {
    kill_process(Pid::from_child(&child), signal).unwrap();
    Run::of(&["..."], child.wait_with_output().unwrap()).expect_code(130)
}

/// Only those that have an operation of some length caught signals, and these not before it began.
#[test]
fn every_command_ends_with_130_before_it_has_begun() {
    let world = world();
    for command in [
        "init new",
        "backup vm.img",
        "list",
        "status",
        "restore vm out",
        "dump vm",
        "ls home",
        "find home x",
        "history home x",
        "diff vm@1 0",
        "tag vm --add x",
        "protect vm",
        "unprotect vm",
        "forget vm@1",
        "gc",
        "stream list",
        "stream rename vm other",
        "stream delete vm --yes",
        "mount mnt",
        "mount mnt --foreground",
        "unmount mnt",
        "scrub",
        "check",
        "copy --all --to second",
        "completions bash",
        "man",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--log-file", "waits"]).collect();
        let child = world.start(&words);
        wait_until_caught(&child, Signal::INT);
        end(child, Signal::INT).says(&["interrupted"]);
    }
}

#[test]
fn whichever_signal_ends_a_command_says_so_and_json_is_json() {
    let world = world();
    let ended = |arguments: &[&str], signal: Signal| {
        let child = world.start(&[arguments, &["--log-file", "waits"]].concat());
        wait_until_waiting(&child, signal);
        end(child, signal)
    };
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let run = ended(&["status"], signal);
        run.says(&["treering: error: interrupted\n", "hint: nothing half-done"]);
        assert_eq!(run.text(), "");
    }
    let run = ended(&["status", "--json"], Signal::INT);
    run.says(&["treering: error: interrupted\n"]);
    assert_eq!(run.json()["error"]["code"], 130);
    assert_eq!(ended(&["completions", "bash", "--json"], Signal::INT).text(), "", "it prints no JSON");
}

/// Its reader takes nothing, and gets nothing behind what is there.
#[test]
fn a_command_that_waits_for_its_reader_is_ended() {
    let world = World::new();
    for arguments in [&["status"][..], &["status", "--json"], &["list"]] {
        let (mut reader, mut full) = std::io::pipe().unwrap();
        full.write_all(&[b'x'; 64 << 10]).unwrap();
        let child = world.command(arguments).stdout(full).spawn().unwrap();
        wait_until_waiting(&child, Signal::INT);
        end(child, Signal::INT).says(&["interrupted"]);
        let mut said = Vec::new();
        reader.read_to_end(&mut said).unwrap();
        assert_eq!(said.len(), 64 << 10, "{arguments:?}");
    }
}

/// It waits before any operation begins.
#[test]
fn a_command_that_waits_for_its_input_is_ended() {
    let world = World::new();
    world.small_image("vm.img");
    let child = world
        .command(&["backup", "vm.img", "vm", "--hints", "-", "--hints-base", "none"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_waiting(&child, Signal::INT);
    end(child, Signal::INT);
    assert_eq!(world.json(&["list"])["revisions"], serde_json::json!([]));
}

/// Starts a command that waits, and returns it with what it says of that.
fn start_waiting(world: &World, arguments: &[&str]) -> (Child, BufReader<ChildStderr>, String) {
    let mut child = world.start(arguments);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    (child, stderr, line)
}

/// Nothing was said, and it took a second Ctrl-C.
#[test]
fn a_wait_for_a_lock_is_told_and_ended_by_the_first_signal() {
    let world = World::new();
    world.small_image("vm.img");
    (0..2).for_each(|_| _ = world.backup("vm.img", "vm"));
    let stream = world.json(&["stream", "list"])["streams"][0]["id"].as_str().unwrap().to_owned();
    let before = world.ok(&["list", "--json"]).text();
    let history = format!("history-{stream}");
    for (lock, what, command) in [
        (&*history, "stream 'vm'", "backup vm.img vm"),
        (&history, "stream 'vm'", "forget vm@1"),
        (&history, "stream 'vm'", "tag vm --add x"),
        ("streams", "the list of streams", "backup vm.img new"),
        ("streams", "the list of streams", "stream rename vm other"),
        ("index", "the index", "gc"),
        ("index", "the index", "check --repair"),
    ] {
        let held = fs::File::create(world.repository().join("locks").join(lock)).unwrap();
        held.lock().unwrap();
        let arguments: Vec<&str> = command.split(' ').collect();
        let (child, mut stderr, said) = start_waiting(&world, &arguments);
        assert_eq!(
            said,
            format!("treering: waiting for {what}, which is in use by another process\n"),
            "{command}"
        );
        end(child, Signal::INT);
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert!(rest.starts_with("treering: error: ") && rest.contains("interrupted"), "{command}: {rest}");
    }
    assert_eq!(world.ok(&["list", "--json"]).text(), before);
}

#[test]
fn who_waits_is_told_for_whom_and_goes_on_after_that() {
    let world = World::new();
    world.small_image("vm.img");
    let mut first = world.command(&["backup", "-", "vm"]).stdin(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds: it has been read from then, which comes after the stream was locked.
    first.stdin.as_mut().unwrap().write_all(&[1; 1 << 20]).unwrap();
    let mut quiet = world.start(&["backup", "vm.img", "vm", "--wait", "--quiet"]);
    let (mut second, _, said) = start_waiting(&world, &["backup", "vm.img", "vm", "--wait"]);
    assert!(
        said.starts_with("treering: waiting for stream 'vm', which is in use by backup of - to"),
        "{said}"
    );
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    let mut said = String::new();
    quiet.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(quiet.wait().unwrap().success() && said.is_empty(), "{said}");
    assert_eq!(world.revisions("vm").len(), 3);
}
