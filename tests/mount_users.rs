//! Who may mount and how the server runs, tried in a namespace of its own, in part as a normal user.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::system::{Requirement, can_use, system};
use support::{World, assert_keys, write_chunk};

fn world() -> World {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    write_chunk(&image, 3, 1000);
    world.json(&["backup", "vm1.img", "vm1", "--tag", "weekly"]);
    world
}

/// Runs a shell script in a namespace of its own: what it mounts, and over what, nobody else sees. `user` begins a
/// command of a normal user, who has a copy of the program, may read the repository, and owns `mnt`.
fn in_own_namespace(script: &str) -> support::Run {
    let world = world();
    fs::create_dir(world.path("mnt")).unwrap();
    system("cp", &[env!("CARGO_BIN_EXE_treering"), world.path("treering").to_str().unwrap()]);
    system("chmod", &["-R", "a+rX", world.directory().to_str().unwrap()]);
    system("chown", &["nobody", world.path("mnt").to_str().unwrap()]);
    let script = format!(
        "set -eu
        trap 'umount -l mnt 2>/dev/null || true' EXIT
        as() {{ id=$1; group=$2; shift 2; setpriv --reuid \"$id\" --regid \"$group\" --clear-groups \"$@\"; }}
        user() {{ as 65534 65534 \"$@\"; }}
        {script}"
    );
    let plain = world.command(&[]);
    let environment = plain.get_envs().filter_map(|(key, value)| Some((key, value?)));
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", &script]).current_dir(world.directory());
    unshare.env_clear().envs(environment).stdin(Stdio::null());
    support::Run::of(&[script.as_str()], unshare.output().unwrap())
}

fn can_be_a_user() -> bool {
    let programs = ["fusermount3", "unshare", "setpriv"].map(Requirement::Program);
    can_use(&[&[Requirement::Root, Requirement::Fuse], &programs[..]].concat())
}

#[test]
fn a_user_lets_others_in_only_if_the_system_allows_it() {
    if !can_be_a_user() {
        return;
    }
    let refused = in_own_namespace(
        "echo '# nothing' >fuse.conf
        mount --bind fuse.conf /etc/fuse.conf
        user ./treering mount mnt --allow-other",
    );
    let expected = ["cannot mount on mnt", "allow_other", "hint:", "'user_allow_other' to /etc/fuse.conf"];
    refused.expect_code(1).says(&expected);

    let allowed = in_own_namespace(
        "echo user_allow_other >fuse.conf
        mount --bind fuse.conf /etc/fuse.conf
        user ./treering mount mnt --allow-other
        cmp mnt/vm1/latest.img vm1.img
        as 1234 65534 cmp mnt/vm1/latest.img vm1.img
        as 1234 1234 ls mnt/vm1 >/dev/null
        # The modes decide: 0440.
        if as 1234 1234 cat mnt/vm1/latest.img >/dev/null 2>&1; then exit 99; fi
        user ./treering unmount mnt
        test -z \"$(ls mnt)\"",
    );
    allowed.expect_code(0);

    let alone = in_own_namespace(
        "user ./treering mount mnt
        user cmp mnt/vm1/latest.img vm1.img
        for id in 0 1234; do
            if as $id 65534 ls mnt >/dev/null 2>&1; then exit 99; fi
        done
        user ./treering unmount mnt",
    );
    alone.expect_code(0);
}

/// Root may not even look at it.
#[test]
fn another_users_mount_is_left_out_of_a_backup() {
    if !can_be_a_user() {
        return;
    }
    let run = in_own_namespace(
        "mkdir home
        echo text >home/file
        mv mnt home/
        user ./treering mount home/mnt
        trap 'umount -l home/mnt' EXIT
        if ls home/mnt >/dev/null 2>&1; then exit 99; fi
        ./treering backup home tree
        test \"$(./treering ls tree)\" = file",
    );
    let errors = run.expect_code(0).stderr;
    assert!(!errors.contains("mnt"), "{errors}");
}

#[test]
fn a_missing_fusermount3_is_named_with_the_package_that_has_it() {
    if !can_be_a_user() {
        return;
    }
    for options in ["", "-f", "--allow-other"] {
        let run = in_own_namespace(&format!("user env PATH=/nowhere ./treering mount mnt {options}"));
        run.expect_code(1).says(&[
            "cannot mount on",
            "fusermount3 is not installed",
            "hint: install the package fuse3",
        ]);
    }
    let run = in_own_namespace("user env PATH=/nowhere ./treering mount mnt --json").expect_code(1);
    assert_keys(&run.json()["error"], &["message", "hint", "code"]);
    // Who has mounted with it may find it gone.
    let run = in_own_namespace(
        "user ./treering mount mnt
        user env PATH=/nowhere ./treering unmount mnt",
    );
    run.expect_code(1).says(&[
        "cannot unmount",
        "fusermount3 is not installed",
        "hint: install the package fuse3",
    ]);
}

#[test]
fn what_is_wrong_with_the_device_is_named_with_the_next_step() {
    if !can_be_a_user() {
        return;
    }
    let empty = "mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3";
    for (device, user, words) in [
        ("", "", ["No such file or directory", "modprobe fuse"]),
        ("", "user", ["No such file or directory", "modprobe fuse"]),
        // A device with no driver behind it.
        ("mknod -m 666 /dev/fuse c 10 250", "", ["No such device", "modprobe fuse"]),
        (
            "mknod -m 600 /dev/fuse c 10 229",
            "user",
            ["Permission denied", "needs read and write access to /dev/fuse"],
        ),
    ] {
        for options in ["", "-f"] {
            let run = in_own_namespace(&format!("{empty}; {device}\n {user} ./treering mount mnt {options}"));
            let run = run.expect_code(1);
            run.says(&["cannot open /dev/fuse", "hint:"]);
            run.says(&words);
        }
    }
}

/// It was reported as ready, and left a dead endpoint.
#[test]
fn a_mount_that_cannot_be_served_is_an_error_and_leaves_nothing() {
    if !can_use(&[Requirement::Root, Requirement::Fuse, Requirement::Program("unshare")]) {
        return;
    }
    for options in ["", "-f"] {
        let run = in_own_namespace(&format!(
            "ulimit -n 24
            if ./treering mount mnt {options} --threads 32; then exit 98; else code=$?; fi
            test -z \"$(ls mnt)\"
            if grep \"$PWD/mnt \" /proc/self/mountinfo; then exit 99; fi
            exit $code"
        ));
        run.expect_code(1).says(&["cannot mount on mnt", "Too many open files", "hint: raise the limit"]);
    }
}

#[test]
fn a_mount_may_open_as_many_files_as_the_system_allows() {
    if !can_use(&[Requirement::Root, Requirement::Fuse, Requirement::Program("unshare")]) {
        return;
    }
    let run = in_own_namespace(
        "ulimit -Sn 64
        ./treering mount mnt --json >said
        process=$(sed -n 's/.*\"process\": \\([0-9]*\\).*/\\1/p' said)
        set -- $(grep 'Max open files' /proc/$process/limits)
        test \"$4\" = \"$5\"
        ./treering unmount mnt",
    );
    run.expect_code(0);
}

#[test]
fn a_server_holds_no_file_that_it_was_started_with() {
    let programs = ["unshare", "flock"].map(Requirement::Program);
    if !can_use(&[&[Requirement::Root, Requirement::Fuse], &programs[..]].concat()) {
        return;
    }
    let run = in_own_namespace(
        "exec 9>lock
        flock --nonblock 9
        ./treering mount mnt
        exec 9>&-
        flock --nonblock lock true
        ./treering unmount mnt",
    );
    run.expect_code(0);
}

/// The signal ended the command, and the mount came up all the same.
#[test]
fn a_command_that_is_interrupted_while_the_mount_starts_leaves_no_mount() {
    if !can_be_a_user() {
        return;
    }
    for signal in ["INT", "TERM", "HUP"] {
        let run = in_own_namespace(&format!(
            "mkdir -m 777 bin
            cat >bin/fusermount3 <<'END'
            #!/bin/sh
            case $* in *-u*) ;; *) : >bin/started; sleep 1 ;; esac
            exec {} \"$@\"
END
            sed -i 's/^ *//' bin/fusermount3
            chmod 755 bin/fusermount3
            setpriv --reuid 65534 --regid 65534 --clear-groups env PATH=\"$PWD/bin:$PATH\" ./treering mount mnt &
            until test -e bin/started; do sleep 0.05; done
            kill -{signal} $!
            if wait $!; then exit 98; else code=$?; fi
            if grep \"$PWD/mnt \" /proc/self/mountinfo; then exit 99; fi
            exit $code",
            system("sh", &["-c", "command -v fusermount3"])
        ));
        run.expect_code(130);
    }
}

#[test]
fn a_mount_without_a_log_is_told_so() {
    if !can_be_a_user() {
        return;
    }
    let mount = |option: &str| {
        in_own_namespace(&format!(
            "mount -t tmpfs tmpfs /dev
            mknod -m 666 /dev/null c 1 3
            mknod -m 666 /dev/fuse c 10 229
            ./treering mount mnt {option}
            ./treering unmount mnt"
        ))
    };
    mount("").expect_code(0).says(&["warning: nothing is logged from now on", "--log-file"]);
    assert_eq!(mount("--log-file log").expect_code(0).stderr, "");
}

/// Root can't see that another user's mount is dead, and was told to go elsewhere.
#[test]
fn root_clears_the_dead_mount_of_a_user() {
    if !can_be_a_user() {
        return;
    }
    let run = in_own_namespace(
        "user ./treering mount mnt --json >said
        kill -9 $(sed -n 's/.*\"process\": \\([0-9]*\\).*/\\1/p' said)
        while user ls mnt >/dev/null 2>&1; do sleep 0.05; done
        ./treering mount mnt || ./treering unmount mnt
        if grep \"$PWD/mnt \" /proc/self/mountinfo; then exit 99; fi",
    );
    run.expect_code(0).says(&["hint: end that with 'treering unmount'"]);
}
