//! Backups of trees that are killed, interrupted, or run out of space: earlier revisions stay as they were, and the next
//! backup goes on.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use support::manifest::{Manifest, newest, records};
use support::random::Random;
use support::system::{Requirement, SmallDisk, can_use};
use support::{Run, World, interrupt, noise, random_seed, settle};

const MIB: usize = 1 << 20;

/// How long further backups are killed.
const TIME: Duration = Duration::from_secs(15);

fn of_directory(path: &Path) -> Manifest {
    Manifest::of_directory(path, &|_, _| false)
}

/// Fails unless the newest revision of `home` is what a directory holds.
#[track_caller]
fn assert_newest(repository: &Path, manifest: &Manifest, what: &str) {
    let (_, tree) = newest(repository, "home");
    manifest.assert_same(&Manifest::of_revision(&tree).unwrap(), what);
}

/// A tree of many small files and a few large ones.
fn fill(home: &Path, seed: u64) {
    for directory in 0..30 {
        let path = home.join(format!("{directory:02}/sub"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..30 {
            fs::write(path.join(file.to_string()), noise(seed + directory * 100 + file, 1_500)).unwrap();
        }
        if directory % 6 == 0 {
            fs::write(path.join("large"), noise(seed + directory, 5 * MIB)).unwrap();
        }
    }
}

/// What happens to it between two backups: contents, names and places.
fn change(home: &Path, round: u64) {
    let sub = |directory: u64| home.join(format!("{:02}/sub", directory % 30));
    for file in 0..30 {
        let path = sub(round * 7 + file).join((file * round % 30).to_string());
        fs::write(path, noise(round * 1_000 + file, 2_000)).unwrap();
    }
    let large = fs::read(sub(0).join("large")).unwrap();
    fs::write(sub(0).join("large"), [&noise(round, 100_000), &large[..4 * MIB]].concat()).unwrap();
    fs::write(sub(6).join("large"), noise(round * 77, 3 * MIB)).unwrap();
    fs::write(sub(round).join(format!("new-{round}")), noise(round + 5, 30_000)).unwrap();
    fs::hard_link(sub(12).join("large"), sub(round).join(format!("link-{round}"))).unwrap();
    // Two that have no large file take each other's place.
    let (one, other) = (sub(round % 5 + 1), sub(round % 5 + 7));
    fs::rename(&one, home.join("moving")).unwrap();
    fs::rename(&other, &one).unwrap();
    fs::rename(home.join("moving"), &other).unwrap();
}

/// A world of a stream whose revisions are known, and which is backed up by runs that are killed.
struct Killed {
    world: World,
    random: Random,
    /// Ids and contents of all revisions.
    known: Vec<(String, Manifest)>,
    cut_short: u64,
}

impl Killed {
    fn new(seed: u64) -> Self {
        let world = World::new();
        fill(&world.path("home"), 1);
        Self { world, random: Random::new(seed), known: Vec::new(), cut_short: 0 }
    }

    /// Starts a backup and kills it at some time before it is expected to end.
    fn kill_one(&mut self, whole: Duration) {
        let manifest = of_directory(&self.world.path("home"));
        let mut child = self.world.start(&["backup", "home"]);
        std::thread::sleep(whole.mul_f64(self.random.below(1_000) as f64 / 1_000.0));
        child.kill().unwrap();
        child.wait().unwrap();
        let ids = self.ids();
        if ids.len() == self.known.len() {
            self.cut_short += 1;
        } else {
            // It had done its work already, and so all of it.
            self.known.push((ids.last().unwrap().clone(), manifest));
        }
        assert_eq!(ids, Vec::from_iter(self.known.iter().map(|(id, _)| id.clone())), "a revision or none");
    }

    /// What is backed up now is what is there.
    fn back_up(&mut self) -> Duration {
        let manifest = of_directory(&self.world.path("home"));
        let start = Instant::now();
        let said = self.world.json(&["backup", "home"]);
        let took = start.elapsed();
        assert_eq!(said["problems"], 0, "{said:#}");
        assert_newest(&self.world.repository(), &manifest, "the backup after a killed one");
        self.known.push((said["id"].as_str().unwrap().to_owned(), manifest));
        took
    }

    /// All revisions, the oldest first.
    fn ids(&self) -> Vec<String> {
        let said = self.world.json(&["list"]);
        let all = said["revisions"].as_array().unwrap().iter();
        all.map(|revision| revision["id"].as_str().unwrap().to_owned()).collect()
    }

    fn assert_still(&self, number: usize) {
        let (repository, records) = records(&self.world.repository(), "home");
        let (id, manifest) = &self.known[number];
        assert_eq!(&records[number].id.to_string(), id);
        let tree = repository.open_tree(&records[number]).unwrap();
        manifest.assert_same(&Manifest::of_revision(&tree).unwrap(), &format!("revision {number}"));
    }
}

/// Kill -9 at random points: no visible revision is ever damaged, and the next backup stores what is there.
#[test]
fn a_killed_backup_of_a_tree_leaves_earlier_revisions_as_they_were() {
    let mut killed = Killed::new(random_seed());
    let home = killed.world.path("home");
    // How long the first one takes is not known yet; nothing has been stored before it.
    for milliseconds in [30, 80, 150, 300] {
        killed.kill_one(Duration::from_millis(milliseconds));
    }
    killed.back_up();
    change(&home, 0);
    let whole = killed.back_up();
    let (start, mut round) = (Instant::now(), 0);
    while round < 5 || start.elapsed() < TIME {
        round += 1;
        change(&home, round);
        if killed.random.one_in(2) {
            settle();
        }
        for _ in 0..killed.random.below(3) + 1 {
            killed.kill_one(whole);
        }
        let earlier = killed.random.below(killed.known.len() as u64) as usize;
        killed.assert_still(earlier);
        killed.back_up();
    }
    assert!(killed.cut_short > 0, "every backup was done before it was killed");
    (0..killed.known.len()).for_each(|number| killed.assert_still(number));
    // What the killed runs have left behind is no damage.
    killed.world.ok(&["scrub"]);
}

#[test]
fn an_interrupted_backup_of_a_tree_ends_with_130_and_its_work_is_used_again() {
    for attempt in 1..20 {
        let world = World::new();
        let home = world.path("home");
        fill(&home, attempt * 10_000);
        for file in 0..8 {
            fs::write(home.join(format!("bulk-{file}")), noise(attempt * 10_000 + 5_000 + file, 16 * MIB))
                .unwrap();
        }
        settle();
        let child = world.start(&["backup", "home", "--json"]);
        // Until one pack of several is stored.
        let start = Instant::now();
        while world.stored_files("packs/data").is_empty() && start.elapsed() < TIME {
            std::thread::sleep(Duration::from_millis(1));
        }
        interrupt(&child);
        let run = Run::of(&["backup"], child.wait_with_output().unwrap());
        let revisions = world.json(&["list"])["revisions"].as_array().unwrap().len();
        assert_eq!(revisions, usize::from(run.code == Some(0)), "{}", run.stderr);
        let said = world.backup("home", "home");
        assert_newest(&world.repository(), &of_directory(&home), "the backup after an interrupted one");
        let new = said["chunks_new"].as_u64().unwrap();
        if run.code == Some(130) && new > 0 && new < said["chunks_total"].as_u64().unwrap() {
            run.says(&["interrupted", "nothing half-done", "hint:"]);
            assert_eq!(run.json()["error"]["code"], 130);
            world.ok(&["scrub"]);
            return;
        }
    }
    panic!("no backup was ever interrupted half-way");
}

/// Leaves about so many bytes on a disk.
fn fill_disk(disk: &SmallDisk, left: u64) {
    let ballast = File::create(disk.path().join("ballast")).unwrap();
    let room = rustix::fs::statvfs(disk.path()).unwrap();
    let (mut size, mut step) = (0, (room.f_bfree * room.f_frsize).saturating_sub(left));
    // What the file system needs for itself is found out by trying.
    while step >= 16 << 10 {
        match rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), size, step) {
            Ok(()) if size == 0 => break,
            Ok(()) => size += step,
            Err(_) => {}
        }
        step /= 2;
    }
}

/// Whatever does not fit any more, data, directories, tables or the record: nothing half-done shows.
#[test]
fn a_full_disk_ends_the_backup_of_a_tree_cleanly_and_it_goes_on_when_there_is_room() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")]) {
        return;
    }
    let world = World::without_repository();
    let home = world.path("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("first"), b"of the first revision").unwrap();
    settle();
    let disk = SmallDisk::new(&world, 48 << 20);
    let path = disk.path().join("repo");
    let repository = path.to_str().unwrap();
    world.ok(&["init", repository]);
    world.ok(&["-r", repository, "backup", "home"]);
    let first = of_directory(&home);
    // Both data and directories take a few MiB.
    for number in 0..6_000 {
        let name: String = noise(number, 60).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(home.join(name), noise(number, 300)).unwrap();
    }
    fs::write(home.join("large"), noise(1, 2 * MIB)).unwrap();
    let second = of_directory(&home);
    let mut failed = 0;
    for left in (1..12).map(|step| step * (300 << 10)) {
        fill_disk(&disk, left);
        let run = world.run(&["-r", repository, "backup", "home", "--json"]);
        if run.code == Some(0) {
            break;
        }
        let run = run.expect_code(1);
        failed += 1;
        run.says(&["No space left on device", "free some space"]);
        assert!(run.json()["error"]["hint"].as_str().unwrap().contains("are intact"));
        assert_eq!(world.json(&["-r", repository, "list"])["revisions"].as_array().unwrap().len(), 1);
        let status = world.json(&["-r", repository, "status"]);
        assert_eq!(
            status["repository"]["leftovers"]["files"], 0,
            "{left} left: it clears up what it has written"
        );
        assert_newest(&path, &first, "after a full disk");
    }
    assert!(failed > 4, "{failed}");
    fs::remove_file(disk.path().join("ballast")).unwrap();
    world.ok(&["-r", repository, "backup", "home"]);
    assert_newest(&path, &second, "when there is room again");
    world.ok(&["-r", repository, "scrub"]);
}
