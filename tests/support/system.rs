//! Loop devices, mounts and small file systems, taken down again whatever happens.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "as in the module above")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Run, World};

/// Whether a test can run; says loudly what is missing, which is a failure where nothing may be skipped.
pub(crate) fn can_use(requirements: &[Requirement]) -> bool {
    let missing: Vec<&str> = requirements.iter().filter_map(|requirement| requirement.missing()).collect();
    if missing.is_empty() {
        return true;
    }
    let reason = missing.join(", ");
    eprintln!("SKIPPED: {reason}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "SKIPPED in CI: {reason}");
    false
}

/// What not every machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Requirement {
    Root,
    Loop,
    Fuse,
    Program(&'static str),
}

impl Requirement {
    fn missing(self) -> Option<&'static str> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then_some("only root may do this"),
            Self::Loop => (!Path::new("/dev/loop-control").exists()).then_some("there are no loop devices"),
            Self::Fuse => (!Path::new("/dev/fuse").exists()).then_some("there is no /dev/fuse"),
            Self::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found = std::env::split_paths(&path).any(|directory| directory.join(name).exists());
                (!found).then_some(name)
            }
        }
    }
}

/// Runs a program of the system, which must succeed, and returns what it printed.
#[track_caller]
pub(crate) fn system(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs the program on a terminal of its own (`script` makes it); all that it says there is the run's stdout.
pub(crate) fn run_on_terminal(world: &World, arguments: &[&str]) -> Run {
    Run::of(arguments, on_terminal(world, arguments).output().unwrap())
}

/// Runs the program on a terminal at which somebody types this line.
pub(crate) fn answer_on_terminal(world: &World, arguments: &[&str], answer: &str) -> Run {
    let mut script = on_terminal(world, arguments);
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Kept open: at its end the terminal would hang up.
    let mut keyboard = child.stdin.take().unwrap();
    writeln!(keyboard, "{answer}").unwrap();
    let run = Run::of(arguments, child.wait_with_output().unwrap());
    drop(keyboard);
    run
}

fn on_terminal(world: &World, arguments: &[&str]) -> Command {
    let line = format!("{} {}", env!("CARGO_BIN_EXE_treering"), arguments.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(world.directory()).stdin(Stdio::null());
    script.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm");
    script.env("TREERING_REPOSITORY", world.repository());
    script
}

fn quietly(program: &str, arguments: &[&str]) {
    let nothing = Stdio::null;
    let _ = Command::new(program).args(arguments).stdout(nothing()).stderr(nothing()).status();
}

/// A loop device, detached when dropped.
pub(crate) struct LoopDevice {
    path: String,
}

impl LoopDevice {
    /// Attaches a file.
    #[track_caller]
    pub(crate) fn attach(file: &Path, options: &[&str]) -> Self {
        let start = Instant::now();
        // Tests run side by side, and there are few loop devices.
        loop {
            let mut losetup = Command::new("losetup");
            let output = losetup.args(options).args(["--find", "--show"]).arg(file).output().unwrap();
            if output.status.success() {
                return Self { path: String::from_utf8(output.stdout).unwrap().trim().to_owned() };
            }
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(start.elapsed() < Duration::from_secs(60), "losetup: {errors}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.path
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.path)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Who has the device open at this moment, as another losetup that looks for a free one,
        // keeps it attached until it closes it.
        let attached = || fs::read(self.path.replace("/dev/", "/sys/block/") + "/loop/backing_file").ok();
        let before = attached();
        quietly("losetup", &["--detach", &self.path]);
        let start = Instant::now();
        while before.is_some() && attached() == before && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Something that is mounted, unmounted when dropped.
pub(crate) struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// Mounts a device or image.
    #[track_caller]
    pub(crate) fn mount(what: &Path, path: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        system("mount", &["-o", options, what.to_str().unwrap(), path.to_str().unwrap()]);
        Self { path }
    }

    /// Mounts a file system that needs no device.
    #[track_caller]
    pub(crate) fn mount_type(kind: &str, path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        system("mount", &["-t", kind, kind, path.to_str().unwrap()]);
        Self { path }
    }

    /// Takes care of what another process mounts there.
    pub(crate) fn take_over(path: PathBuf) -> Self {
        Self { path }
    }

    /// Mounts a world's repository with the program itself.
    #[track_caller]
    pub(crate) fn repository(world: &World, options: &[&str]) -> Self {
        let path = world.path("mnt");
        fs::create_dir_all(&path).unwrap();
        let mounted = Self { path };
        let arguments: Vec<&str> = ["mount", "mnt"].iter().chain(options).copied().collect();
        world.ok(&arguments);
        mounted
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        quietly("umount", &["--lazy", self.path.to_str().unwrap()]);
    }
}

/// A small ext4 of its own, to be filled up.
pub(crate) struct SmallDisk {
    // Unmounted before the device goes.
    mounted: Mounted,
    _device: LoopDevice,
}

impl SmallDisk {
    #[track_caller]
    pub(crate) fn new(world: &World, size: u64) -> Self {
        let file = world.image("disk", size, &[]);
        // Without a part that is kept for root, as tests are: what is free is what can be taken.
        system("mkfs.ext4", &["-q", "-F", "-m", "0", file.to_str().unwrap()]);
        let device = LoopDevice::attach(&file, &[]);
        let mounted = Mounted::mount(device.path(), world.path("disk-mount"), "noatime");
        Self { mounted, _device: device }
    }

    pub(crate) fn path(&self) -> &Path {
        self.mounted.path()
    }
}

/// Whether something is mounted on a path.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|mounted| Path::new(mounted) == path))
}
