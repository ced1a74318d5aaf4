//! Every command on a repository that is damaged somewhere: what it gives is right, or it says that something is wrong.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::oracle::{RESTORED, differences};
use super::system::{Mounted, is_mounted, system};
use super::{CHUNK, Run, World, noise, settle, write_chunk};

/// No command may take more address space, in KiB: a size that is believed unread would be far beyond it.
const ADDRESS_SPACE_KIB: u64 = 2 << 20;

/// No command may take longer, in seconds.
const SECONDS: u64 = 60;

/// The codes of commands that ran into damage, or did not meet it.
const CODES: [i32; 3] = [0, 1, 4];

/// Commands that print what a sound repository holds.
const TELLING: [&[&str]; 6] = [
    &["list", "--json"],
    &["ls", "-R", "home@1", "--json"],
    &["ls", "-R", "home@0", "--json"],
    &["find", "home", "*", "--json"],
    &["history", "home", "docs/large", "--json"],
    &["diff", "home@1", "0", "--json"],
];

/// A world whose repository `sound` holds two revisions of an image and two of a tree.
pub(crate) struct Probes {
    pub(crate) world: World,
    /// Names of the image's revisions, the older one first.
    images: Vec<String>,
    /// Names of the tree's revisions, the older one first.
    trees: Vec<String>,
    /// What the telling commands print.
    told: Vec<String>,
}

impl Probes {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let image = world.image("vm.img", 40 * CHUNK + 1000, &[0, 1, 2, 3, 20, 21, 39]);
        make_tree(&world.path("home"));
        world.json(&["backup", "vm.img", "vm", "--tag", "first"]);
        world.json(&["backup", "home", "--tag", "first"]);
        fs::copy(&image, world.path("vm-1.img")).unwrap();
        write_chunk(&image, 2, 1000);
        fs::write(world.path("home/docs/new"), noise(5, 30_000)).unwrap();
        settle();
        world.json(&["backup", "vm.img", "vm", "--tag", "nightly"]);
        world.json(&["backup", "home", "--tag", "nightly"]);
        world.ok(&["protect", "vm@1"]);
        fs::copy(&image, world.path("vm-3.img")).unwrap();
        write_chunk(&world.path("vm-3.img"), 5, 2000);
        let names = |stream: &str| {
            let revisions = world.revisions(stream);
            revisions.iter().map(|revision| revision["name"].as_str().unwrap().to_owned()).collect()
        };
        let (images, trees) = (names("vm"), names("home"));
        let mut probes = Self { world, images, trees, told: Vec::new() };
        probes.tell_anew();
        probes
    }

    /// Notes what the telling commands print of the repository as it is.
    pub(crate) fn tell_anew(&mut self) {
        self.told = TELLING.iter().map(|command| self.world.ok(command).text()).collect();
    }

    /// Takes the repository as it is for the sound one.
    pub(crate) fn keep(&self) {
        copy(&self.world.repository(), &self.world.path("sound"));
    }

    /// Makes the repository sound again.
    pub(crate) fn restore_sound(&self) {
        copy(&self.world.path("sound"), &self.world.repository());
        for left in ["out.img", "out"] {
            let _ = fs::remove_file(self.world.path(left));
            let _ = fs::remove_dir_all(self.world.path(left));
        }
    }

    /// Runs the program within its bounds; it may end by itself alone, and with a code that is told.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Run {
        let script = format!("ulimit -v {ADDRESS_SPACE_KIB}; exec timeout --kill-after=5 {SECONDS} \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_treering")]).args(arguments);
        command.current_dir(self.world.directory()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("MALLOC_ARENA_MAX", "2");
        command.env("HOME", self.world.directory()).env("TREERING_REPOSITORY", self.world.repository());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = Run::of(arguments, command.output().unwrap());
        let said = said(&run);
        assert!(run.code.is_some_and(|code| CODES.contains(&code)), "{arguments:?}: {:?}\n{said}", run.code);
        for word in ["panicked", "overflow", "out of memory", "memory allocation"] {
            assert!(!said.contains(word), "{arguments:?}: {said}");
        }
        if run.code != Some(0) {
            let speaks = ["error", "damaged", "DAMAGED", "LOST"].iter().any(|word| said.contains(word));
            assert!(speaks, "{arguments:?} fails without a word: {said}");
        }
        run
    }

    /// Runs all commands. What fails must name one of `names`; where `may_be_silent`, the harm looks like something that
    /// may be so.
    pub(crate) fn run_all(&self, names: &[String], may_be_silent: bool) -> Outcome {
        let mut outcome = Outcome::default();
        let mut note = |run: &Run| outcome.note(run, names);
        for (command, told) in TELLING.iter().zip(&self.told) {
            let run = self.run(command);
            note(&run);
            // Whoever says that something is wrong may leave it out.
            let speaks = run.code != Some(0) || !run.stderr.is_empty() || names_damage(&run);
            assert!(
                speaks || may_be_silent || run.text() == *told,
                "{command:?} hides damage: {}",
                run.text()
            );
        }
        note(&self.run(&["status", "--json"]));
        note(&self.run(&["diff", &format!("vm@{}", self.images[0]), &self.images[1], "--json"]));
        self.check_images(&mut note);
        self.check_trees(&mut note);
        self.check_mount(&mut note);
        self.check_copy(&mut note);
        let scrub = self.run(&["scrub"]);
        note(&scrub);
        outcome.is_found = scrub.code != Some(0);
        let check = self.run(&["check"]);
        outcome.note(&check, names);
        self.check_labels(names, &mut outcome);
        self.check_backups(names, &mut outcome);
        self.check_forgetting(names, &mut outcome);
        self.check_repair(names, &mut outcome);
        outcome
    }

    fn image_sources(&self) -> [(&str, &str); 2] {
        [(&self.images[0], "vm-1.img"), (&self.images[1], "vm.img")]
    }

    /// What is dumped or restored is right, as far as it goes.
    fn check_images(&self, note: &mut dyn FnMut(&Run)) {
        for (name, source) in self.image_sources() {
            let source = fs::read(self.world.path(source)).unwrap();
            let dump = self.run(&["dump", &format!("vm@{name}")]);
            note(&dump);
            assert_is_part(&dump, &source);
            let restored = self.run(&["restore", &format!("vm@{name}"), "out.img"]);
            note(&restored);
            let content = fs::read(self.world.path("out.img")).unwrap_or_default();
            if restored.code == Some(0) {
                assert!(content == source, "vm@{name} is restored to something else");
            }
            let is_right =
                |(chunk, expected): (&[u8], &[u8])| chunk == expected || chunk.iter().all(|&byte| byte == 0);
            let chunks =
                |bytes: &'_ [u8]| bytes.chunks(CHUNK as usize).map(<[u8]>::to_vec).collect::<Vec<_>>();
            let pairs: Vec<_> = chunks(&content).into_iter().zip(chunks(&source)).collect();
            assert!(
                pairs.iter().all(|(one, two)| is_right((one, two))),
                "vm@{name} is restored with wrong bytes"
            );
            let _ = fs::remove_file(self.world.path("out.img"));
        }
    }

    fn check_trees(&self, note: &mut dyn FnMut(&Run)) {
        let home = self.world.path("home");
        let newest = format!("home@{}", self.trees[1]);
        for file in FILES {
            let dump = self.run(&["dump", &newest, file]);
            note(&dump);
            assert_is_part(&dump, &fs::read(home.join(file)).unwrap());
        }
        let restored = self.run(&["restore", &newest, "out"]);
        note(&restored);
        let out = self.world.path("out");
        if restored.code == Some(0) {
            let found = differences(&home, &out, RESTORED);
            assert!(found.is_empty(), "{newest} is restored to something else:\n{}", found.join("\n"));
        }
        for file in FILES {
            let is_right =
                fs::read(out.join(file)).is_ok_and(|content| content == fs::read(home.join(file)).unwrap());
            let is_told = said(&restored).contains(file);
            assert!(is_right || is_told || !out.join(file).exists(), "{file} is restored with wrong bytes");
        }
    }

    /// What the mount gives is right, or an error.
    fn check_mount(&self, note: &mut dyn FnMut(&Run)) {
        let mountpoint = self.world.path("mnt");
        fs::create_dir_all(&mountpoint).unwrap();
        let mounted = Mounted::take_over(mountpoint.clone());
        let run = self.run(&["mount", "mnt"]);
        note(&run);
        if run.code == Some(0) {
            let has = |path: String, source: &Path| match fs::read(mountpoint.join(&path)) {
                Ok(content) => assert!(content == fs::read(source).unwrap(), "{path} has wrong bytes"),
                Err(error) => assert!(is_honest(&error), "{path}: {error}"),
            };
            for (name, source) in self.image_sources() {
                has(format!("vm/{name}.img"), &self.world.path(source));
            }
            for file in FILES {
                has(format!("home/{}/{file}", self.trees[1]), &self.world.path("home").join(file));
            }
            for directory in ["", "vm", "vm/by-id", "vm/by-tag", "home", "home/by-tag"] {
                let _ = fs::read_dir(mountpoint.join(directory)).map(|entries| entries.count());
            }
            assert!(is_mounted(&mountpoint), "the mount is dead");
            self.run(&["unmount", "mnt"]);
        }
        drop(mounted);
    }

    /// What is copied is right, and sound in the other repository.
    fn check_copy(&self, note: &mut dyn FnMut(&Run)) {
        let second = self.world.path("second");
        let _ = fs::remove_dir_all(&second);
        self.world.ok(&["init", "second"]);
        let copied = self.run(&["copy", "--all", "--to", "second"]);
        note(&copied);
        for (name, source) in self.image_sources() {
            let dump = self.run(&["dump", &format!("vm@{name}"), "-r", "second"]);
            assert!(self.world.path(source).exists() && dump.code.is_some());
            assert_is_part(&dump, &fs::read(self.world.path(source)).unwrap());
        }
        self.world.ok(&["scrub", "-r", "second"]);
        if self.world.repository().join("copy-target").exists() {
            note(&self.run(&["copy", "--all"]));
        }
    }

    /// Labels that are changed are changed, or it is said that they are not.
    fn check_labels(&self, names: &[String], outcome: &mut Outcome) {
        let (image, tree) = (format!("vm@{}", self.images[0]), format!("home@{}", self.trees[1]));
        for (command, key, value) in [
            (&["tag", &image, "--add", "probe"][..], "tags", "probe"),
            (&["protect", &tree], "protected", "true"),
            (&["unprotect", &tree], "protected", "false"),
        ] {
            let run = self.run(command);
            outcome.note(&run, names);
            let listed = self.run(&["list", command[1], "--json"]);
            let is_shown = || {
                let said: Value = serde_json::from_slice(&listed.stdout).unwrap();
                said["revisions"][0][key].to_string().contains(value)
            };
            assert!(
                run.code != Some(0) || listed.code != Some(0) || is_shown(),
                "{command:?}: {}",
                said(&listed)
            );
        }
    }

    /// A backup says that it can't be made, or is right; and what could be read before still can.
    fn check_backups(&self, names: &[String], outcome: &mut Outcome) {
        let before = self.dumps();
        for (source, command) in [
            ("vm-3.img", &["backup", "vm-3.img", "vm"][..]),
            ("vm.img", &["backup", "vm.img", "vm", "--force-read"]),
            ("home/docs/large", &["backup", "home"]),
        ] {
            let run = self.run(command);
            outcome.note(&run, names);
            if run.code == Some(0) {
                let dump = match source.strip_prefix("home/") {
                    Some(path) => self.run(&["dump", "home", path]),
                    None => self.run(&["dump", "vm"]),
                };
                outcome.note(&dump, names);
                assert_is_part(&dump, &fs::read(self.world.path(source)).unwrap());
            }
        }
        self.assert_still_read(before);
    }

    /// What is forgotten comes back, or is said to be lost; and gc takes nothing that could be read before.
    fn check_forgetting(&self, names: &[String], outcome: &mut Outcome) {
        let old = format!("home@{}", self.trees[0]);
        let dump_old = || self.run(&["dump", &old, FILES[0]]).code == Some(0);
        let (before, was_there) = (self.dumps(), dump_old());
        let mut run = |arguments: &[&str]| {
            let run = self.run(arguments);
            outcome.note(&run, names);
            run.code == Some(0)
        };
        run(&["gc", "--dry-run"]);
        if run(&["forget", &old]) && run(&["forget", "--undo", &old]) {
            assert!(!was_there || dump_old(), "{old} does not come back");
        }
        run(&["stream", "list"]);
        if run(&["stream", "rename", "home", "house"]) {
            assert!(run(&["list", "house"]) && run(&["stream", "rename", "house", "home"]));
        }
        if run(&["stream", "delete", "home", "--yes"]) {
            assert!(run(&["forget", "--undo", "home"]), "home does not come back");
        }
        run(&["forget", "--all", "--keep-last", "1", "--dry-run"]);
        run(&["forget", &old]);
        run(&["gc"]);
        self.assert_still_read(before);
    }

    /// Nothing that could be read before is lost by a repair, and a second one finds nothing more to do.
    fn check_repair(&self, names: &[String], outcome: &mut Outcome) {
        let before = self.dumps();
        outcome.note(&self.run(&["check", "--repair"]), names);
        self.assert_still_read(before);
        let again = self.run(&["check", "--repair", "--json"]);
        let (is_refused, is_idle) =
            (said(&again).contains("\"error\": {"), said(&again).contains("\"repaired\": []"));
        assert!(is_refused || is_idle, "{}", said(&again));
    }

    /// Fails where what was dumped before can't be dumped now.
    fn assert_still_read(&self, before: Vec<Run>) {
        for (before, after) in before.into_iter().zip(self.dumps()) {
            assert!(
                before.code != Some(0) || after.code == Some(0),
                "{} can't be read any more",
                after.arguments
            );
        }
    }

    fn dumps(&self) -> Vec<Run> {
        self.image_sources()
            .iter()
            .map(|(name, source)| {
                let run = self.run(&["dump", &format!("vm@{name}")]);
                assert_is_part(&run, &fs::read(self.world.path(source)).unwrap());
                run
            })
            .collect()
    }
}

/// The files of the tree that are looked at.
const FILES: [&str; 4] = ["small", "docs/medium", "docs/large", "docs/new"];

fn make_tree(home: &Path) {
    fs::create_dir_all(home.join("docs/deep")).unwrap();
    fs::write(home.join("small"), "a small file").unwrap();
    fs::write(home.join("docs/medium"), noise(1, 20_000)).unwrap();
    fs::write(home.join("docs/large"), noise(2, 700_000)).unwrap();
    fs::hard_link(home.join("small"), home.join("docs/deep/other-name")).unwrap();
    std::os::unix::fs::symlink("../small", home.join("docs/link")).unwrap();
}

/// What came of all commands on one damaged repository.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Commands that failed.
    pub(crate) failures: usize,
    /// Whether scrub found it.
    pub(crate) is_found: bool,
}

impl Outcome {
    /// Who fails says on what.
    #[track_caller]
    fn note(&mut self, run: &Run, names: &[String]) {
        if run.code == Some(0) {
            return;
        }
        self.failures += 1;
        let said = said(run);
        assert!(
            names.iter().any(|name| said.contains(name)),
            "{}: names none of {names:?}: {said}",
            run.arguments
        );
    }
}

/// Everything that a command said, but for what it dumped.
fn said(run: &Run) -> String {
    let stdout = if run.arguments.starts_with("dump") { String::new() } else { run.text() };
    format!("{}{stdout}", run.stderr)
}

/// Whether a document that tells what there is tells of damage.
fn names_damage(run: &Run) -> bool {
    let said: Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
    let lists = ["damaged", "damaged_files"].iter().filter_map(|key| said[*key].as_array());
    let marks =
        said["revisions"].as_array().into_iter().flatten().filter(|revision| revision["damaged"] == true);
    lists.flatten().count() + marks.count() > 0
}

/// A dump gives all of it, or its begin and an error.
#[track_caller]
fn assert_is_part(dump: &Run, source: &[u8]) {
    assert!(source.starts_with(&dump.stdout), "{}: wrong bytes", dump.arguments);
    assert!(dump.code != Some(0) || dump.stdout.len() == source.len(), "{}: cut off", dump.arguments);
}

/// Whether an error of the system says that something is damaged, or not there.
fn is_honest(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::IO, Errno::NOENT, Errno::STALE].contains(&errno))
}

/// Makes a directory a copy of another.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    system("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}
