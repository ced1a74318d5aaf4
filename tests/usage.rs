//! What all commands have in common: help, usage errors, JSON errors, logs, completions, manual pages.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use support::system::{Requirement, can_use, run_on_terminal};
use support::{CHUNK, World, assert_keys};

const COMMANDS: [&str; 23] = [
    "init",
    "backup",
    "list",
    "status",
    "restore",
    "dump",
    "ls",
    "find",
    "history",
    "diff",
    "tag",
    "protect",
    "unprotect",
    "forget",
    "gc",
    "stream",
    "mount",
    "unmount",
    "scrub",
    "check",
    "copy",
    "completions",
    "man",
];

#[test]
fn help_lists_exactly_the_commands_that_are_built() {
    let world = World::without_repository();
    let help = world.ok(&["--help"]).text();
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(listed, COMMANDS);
    assert!(!help.contains("internal"), "{help}");
}

#[test]
fn the_help_of_every_command_has_examples() {
    let world = World::without_repository();
    for command in COMMANDS {
        let help = world.ok(&[command, "--help"]).text();
        assert!(help.contains("Examples:") && help.contains(&format!("treering {command}")), "{help}");
        for absent in ["--encrypt", "--working-copies", "--check ", "internal"] {
            assert!(!help.contains(absent), "{command}: {absent}");
        }
    }
}

#[test]
fn usage_errors_end_with_2_and_are_json_where_that_is_wanted() {
    let world = World::new();
    for arguments in [
        vec![],
        vec!["nonsense"],
        vec!["list", "--nonsense"],
        vec!["backup"],
        vec!["restore", "vm1"],
        vec!["restore", "vm1", "x", "--in-place", "--overwrite"],
        vec!["backup", "x", "vm1", "--hints-base", "none"],
        vec!["mount", "m", "--owner", "root"],
        vec!["mount", "m", "--threads", "0"],
        vec!["scrub", "-s", "x"],
        vec!["scrub", "vm1", "--max-duration", "1h"],
        vec!["scrub", "--max-duration", "never"],
        vec!["scrub", "--max-duration", "-1h"],
        vec!["copy", "--to", "x"],
        vec!["copy", "vm1", "--all", "--to", "x"],
        vec!["copy", "--all", "--remember"],
        vec!["status", "vm1@latest"],
        vec!["list", "--color", "sometimes"],
    ] {
        world.fails(2, &arguments, &[]);
        let arguments: Vec<&str> = arguments.into_iter().chain(["--json"]).collect();
        let run = world.fails(2, &arguments, &[]);
        assert_keys(&run.json()["error"], &["message", "hint", "code"]);
        assert_eq!(run.json()["error"]["code"], 2);
    }
}

#[test]
fn a_repository_must_be_named() {
    let world = World::without_repository();
    for arguments in [&["list"][..], &["status"], &["init"], &["mount", "m", "-f"]] {
        let output = world.command(arguments).env_remove("TREERING_REPOSITORY").output().unwrap();
        let run = support::Run::of(arguments, output).expect_code(2);
        run.says(&["no repository was named", "-r REPO", "TREERING_REPOSITORY"]);
    }
}

#[test]
fn what_is_not_a_repository_is_told_with_the_next_step() {
    let world = World::without_repository();
    for arguments in [&["list"][..], &["status"], &["scrub"], &["dump", "vm1"], &["diff", "a@0", "1"]] {
        world.fails(1, arguments, &["cannot", "is not a repository", "hint:", "treering init"]);
    }
    let error = world.run(&["list", "--json"]).expect_code(1).json();
    assert!(error["error"]["message"].as_str().unwrap().contains("is not a repository"));
    assert!(error["error"]["hint"].as_str().unwrap().contains("treering init"));
}

#[test]
fn an_empty_variable_names_no_repository_and_hinders_no_command() {
    let world = World::new();
    let run = |arguments: &[&str]| {
        let output = world.command(arguments).env("TREERING_REPOSITORY", "").output().unwrap();
        support::Run::of(arguments, output)
    };
    run(&["list"]).expect_code(2).says(&["no repository was named", "hint:"]);
    run(&["list", "-r", "repo"]).expect_code(0);
    run(&["man"]).expect_code(0);
    run(&["completions", "bash"]).expect_code(0);
    run(&["unmount", "nowhere"]).expect_code(1);
}

#[test]
fn commands_that_print_data_print_no_json() {
    let world = World::new();
    for (code, arguments) in [
        (2, &["dump", "--json"][..]),
        (2, &["--json", "dump", "vm1", "--nonsense"]),
        (1, &["dump", "vm1", "--json"]),
        (1, &["dump", "vm1", "--json", "--log-file", "nowhere/log"]),
        (2, &["completions", "cmd", "--json"]),
    ] {
        let run = world.fails(code, arguments, &["error:"]);
        assert_eq!(run.text(), "", "{arguments:?}");
    }
    let run = world.fails(1, &["list", "--json", "--log-file", "nowhere/log"], &[]);
    assert_eq!(run.json()["error"]["code"], 1);
}

#[test]
fn errors_name_the_next_step() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.fails(2, &["scrub", "-p", "nan"], &["percentage", "hint:", "--help"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = world.command(&["list"]).stdout(full).output().unwrap();
    let run = support::Run::of(&["list"], output).expect_code(1);
    run.says(&["cannot write to stdout", "hint: free some space"]);
}

#[test]
fn only_commands_that_tell_of_damage_have_a_code_for_it() {
    let world = World::new();
    world.small_image("vm1.img");
    support::flip_bit(&world.path("repo/treering-repository"), 30);
    let words = ["repository header", "damaged"];
    for command in [&["scrub"][..], &["restore", "vm1", "out.img"], &["dump", "vm1"], &["diff", "vm1@1", "0"]]
    {
        world.fails(4, command, &words);
    }
    for command in [&["list"][..], &["status"], &["backup", "vm1.img"], &["mount", "."]] {
        world.fails(1, command, &words);
    }
}

#[test]
fn the_log_file_keeps_what_happens() {
    let world = World::new();
    world.small_image("vm1.img");
    world.ok(&["backup", "vm1.img", "vm1", "--log-file", "log"]);
    world.fails(1, &["restore", "vm9", "x", "--log-file", "log"], &[]);
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert!(log.contains("error treering[") && log.contains("no stream 'vm9'"), "{log}");
    world.fails(1, &["list", "--log-file", "nowhere/log"], &["cannot open the log file", "hint:"]);
}

#[test]
fn quiet_leaves_results_and_verbose_adds_to_stderr_only() {
    let world = World::new();
    world.small_image("vm1.img");
    let quiet = world.ok(&["-q", "backup", "vm1.img", "vm1"]);
    assert_eq!((quiet.text().as_str(), quiet.stderr.as_str()), ("", ""));
    assert!(world.ok(&["-q", "list"]).text().contains("vm1"));
    let verbose = world.ok(&["-vvv", "--json", "list"]);
    assert!(verbose.json()["revisions"].is_array());
}

/// Some commands were quiet of what they had done, and others were not.
#[test]
fn quiet_commands_do_not_tell_what_they_did() {
    let world = World::without_repository();
    world.small_image("vm.img");
    world.ok(&["-r", "second", "init"]);
    for command in [
        "init",
        "backup vm.img vm",
        "backup vm.img vm",
        "tag vm --add weekly",
        "protect vm",
        "unprotect vm",
        "forget vm@1",
        "forget --undo vm",
        "forget vm --keep-last 1",
        "forget --undo vm",
        "stream rename vm other",
        "stream delete other --yes",
        "forget --undo other",
        "restore other out.img",
        "copy --all --to second",
        "gc",
        "check",
        "check --repair",
        "scrub",
    ] {
        let run = world.ok(&[&command.split(' ').collect::<Vec<_>>()[..], &["-q"]].concat());
        assert_eq!((run.text().as_str(), run.stderr.as_str()), ("", ""), "{command}");
    }
}

#[test]
fn quiet_commands_tell_what_was_asked_for() {
    let world = World::new();
    world.small_image("vm.img");
    (0..3).for_each(|_| _ = world.backup("vm.img", "vm"));
    world.ok(&["forget", "vm@1"]);
    for (command, word) in [
        ("list", "vm"),
        ("list vm", "vm@"),
        ("status", "no damage is known"),
        ("tag vm", "no tags"),
        ("stream list", "image"),
        ("backup vm.img vm --dry-run", "nothing was stored"),
        ("forget vm --keep-last 1 --dry-run", "1 revision would be forgotten"),
        ("forget vm --undo --dry-run", "1 revision can be brought back"),
        ("gc --dry-run", "would be freed"),
    ] {
        let run = world.ok(&[&command.split(' ').collect::<Vec<_>>()[..], &["-q"]].concat());
        assert!(
            run.text().contains(word) && run.stderr.is_empty(),
            "{command}: {} {}",
            run.text(),
            run.stderr
        );
    }
}

#[test]
fn progress_is_drawn_on_a_terminal_only_and_where_it_is_wanted() {
    if !can_use(&[Requirement::Program("script")]) {
        return;
    }
    const BACKUP: [&str; 4] = ["backup", "vm1.img", "vm1", "--force-read"];
    let world = World::new();
    world.image("vm1.img", 512 * CHUNK, &(0..512).collect::<Vec<_>>());
    let shown = |option: &[&str]| {
        let run = run_on_terminal(&world, &[&BACKUP[..], option].concat());
        run.expect_code(0).text()
    };
    let drawn = shown(&[]);
    for part in ["reading [", "% ", "of 32.00 MiB, ", "/s, ", "s left"] {
        assert!(drawn.contains(part), "no '{part}' in {drawn}");
    }
    let hidden = shown(&["--no-progress"]);
    assert!(hidden.contains("size     32.00 MiB") && !hidden.contains("left"), "{hidden}");
    let quiet = shown(&["--quiet"]);
    assert!(!quiet.contains("32.00 MiB"), "{quiet}");
    assert_eq!(world.ok(&BACKUP).stderr, "");
}

#[test]
fn colours_are_used_only_where_they_are_wanted() {
    let world = World::new();
    assert!(!world.fails(1, &["list", "x"], &[]).stderr.contains('\x1b'));
    assert!(world.fails(1, &["list", "x", "--color", "always"], &[]).stderr.contains('\x1b'));
    assert!(world.ok(&["list", "--color=always"]).text().contains('\x1b'));
    assert!(!world.fails(2, &["list", "--nonsense"], &[]).stderr.contains('\x1b'));
}

#[test]
fn completions_are_made_for_every_shell() {
    let world = World::without_repository();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.ok(&["completions", shell]).text();
        assert!(script.contains("treering") && script.contains("backup"), "{shell}");
        assert!(!script.contains("internal-serve"), "{shell}");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let world = World::without_repository();
    assert!(world.ok(&["man"]).text().contains(".TH treering 1"));
    fs::create_dir(world.path("man1")).unwrap();
    world.ok(&["man", "man1"]);
    for command in COMMANDS {
        let page = fs::read_to_string(world.path("man1").join(format!("treering-{command}.1"))).unwrap();
        assert!(page.contains("Examples"), "{command}");
        assert!(!page.contains("internal"), "{command}");
    }
    assert!(world.path("man1/treering.1").exists());
    world.fails(1, &["man", "nowhere"], &["cannot write manual pages", "hint:"]);
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let world = World::new();
    world.image("big.img", 64 << 20, &[0]);
    world.backup("big.img", "vm1");
    for arguments in [&["dump", "vm1"][..], &["man"], &["list", "--json"], &["--help"]] {
        let run_without_reader = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let output = world.command(arguments).stdout(writer).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
            output.status.signal()
        };
        // For a moment, a process that another test starts may have the reader, too.
        assert!((0..20).any(|_| run_without_reader() == Some(13)), "{arguments:?}");
    }
}
