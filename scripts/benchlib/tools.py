"""How each program is called. All back up one directory (Treering the image in it, if it holds one) with zstd at level 3
or their default, into a repository below a directory of their own."""

import contextlib
import os
import re
import shutil
import subprocess
import time

from .measure import Failed, allocated_bytes, measure, peak_mib_of, run


class Tool:
    """A backup program. A method that returns None says that the program can't do that."""

    name = ""
    program = ""
    environment = {}
    remark = ""

    def __init__(self, directory, data, tree=None):
        self.directory = os.path.join(directory, self.name)
        self.repository = os.path.join(self.directory, "repository")
        self.data = data
        # The directory that is backed up: a tree, or the one with the image.
        self.source = tree or data.live
        self.is_tree = tree is not None
        self.count = 0

    def available(self):
        """Whether it is installed."""
        return shutil.which(self.program) is not None

    def version(self):
        """Its version, as it says itself."""
        done = subprocess.run([self.program, *self.version_arguments()], capture_output=True, text=True)
        printed = done.stdout + done.stderr
        found = re.search(r"\d+(\.\d+)+", printed) or re.search(r"\b\d+\b", printed)
        return found.group() if found else "?"

    def version_arguments(self):
        return ["--version"]

    def measure(self, command):
        """Runs one of its commands."""
        return measure(command, env=self.environment_here(), cwd=self.directory)

    def environment_here(self):
        """Its environment, with everything that it would put into the home directory below its directory."""
        base = {"HOME": self.directory, "XDG_CACHE_HOME": os.path.join(self.directory, "cache")}
        return base | {key: value.format(here=self.directory) for key, value in self.environment.items()}

    def create(self):
        """Makes an empty repository in place of what was there."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        self.count = 0
        for command in self.create_commands():
            self.measure(command)

    def create_commands(self):
        raise NotImplementedError

    def backup(self, force_read=False):
        """Backs up; the sample of it."""
        self.count += 1
        return self.measure(self.backup_command(force_read))

    def backup_command(self, force_read):
        raise NotImplementedError

    def stored_bytes(self):
        """What the repository takes."""
        return allocated_bytes(self.repository)

    def forget_commands(self, keep):
        """The commands that forget all but so many of the newest backups, and free what only those used."""
        return None

    def check_command(self):
        """The command that verifies the structure of a repository without reading the data."""
        return None

    def mount_command(self, mountpoint):
        """The command that serves a mount in the foreground."""
        return None

    def source_in_mount(self, mountpoint):
        """Where the directory of the newest backup is in the mount."""
        raise NotImplementedError

    def image_in_mount(self, mountpoint):
        """Where the newest image is in the mount."""
        return f"{self.source_in_mount(mountpoint)}/vm.img"

    def restore_command(self, target):
        """The command that restores the newest backup into a directory."""
        return None

    def restored_image(self, target):
        """Where the image is after that."""
        for directory, _, files in os.walk(target):
            if "vm.img" in files:
                return os.path.join(directory, "vm.img")
        raise Failed(f"{self.name} restored no vm.img")

    def restored_tree(self, target):
        """Where the tree is after that."""
        below = target + self.source
        return below if os.path.isdir(below) else target

    @contextlib.contextmanager
    def mounted(self):
        """A mount of its own, for as long as the block runs."""
        mount = Mount(self)
        try:
            yield mount
        finally:
            mount.close()


class Mount:
    """A running mount: `image`, or `tree`, can be read, `ready_seconds` is the time until it could."""

    def __init__(self, tool):
        self.directory = os.path.join(tool.directory, "mount")
        os.makedirs(self.directory, exist_ok=True)
        self.tree = tool.source_in_mount(self.directory)
        self.image = tool.image_in_mount(self.directory)
        awaited = self.tree if tool.is_tree else self.image
        log_path = os.path.join(tool.directory, "mount.log")
        with open(log_path, "w") as log:
            start = time.perf_counter()
            self.server = subprocess.Popen(list(map(str, tool.mount_command(self.directory))),
                                           env={**os.environ, **tool.environment_here()}, cwd=tool.directory,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not is_there(awaited):
            if self.server.poll() is not None or time.perf_counter() - start > 120:
                self.close()
                raise Failed(f"{tool.name}: no mount\n{open(log_path).read()[-1000:]}")
            time.sleep(0.001)
        self.ready_seconds = time.perf_counter() - start

    def peak_mib(self):
        """The peak memory of the server so far."""
        return peak_mib_of(self.server.pid)

    def close(self):
        """Unmounts, and waits for the server's end."""
        if os.path.ismount(self.directory):
            subprocess.run(["umount", self.directory], check=False)
        try:
            self.server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.server.terminate()
            self.server.wait(timeout=30)


def is_there(path):
    """Whether a mount shows a path: a directory that is empty is that below the mount."""
    return os.path.isfile(path) or (os.path.isdir(path) and bool(os.listdir(path)))


class Treering(Tool):
    name = "treering"
    program = os.environ.get("TREERING_PROGRAM", "treering")
    remark = "zstd,1 (its default), no encryption"

    def treering(self, *arguments):
        """A command on its repository."""
        return [self.program, "--no-progress", "-r", self.repository, *arguments]

    def create_commands(self):
        return [[self.program, "init", self.repository]]

    def backup_command(self, force_read):
        source = [self.source, "tree"] if self.is_tree else [self.data.image, "vm"]
        return self.treering("backup", *(["--force-read"] if force_read else []), *source)

    def forget_commands(self, keep):
        return [self.treering("forget", "vm", "--keep-last", keep), self.treering("gc")]

    def check_command(self):
        return self.treering("check")

    def mount_command(self, mountpoint):
        return self.treering("mount", "-f", mountpoint)

    def source_in_mount(self, mountpoint):
        return f"{mountpoint}/tree/latest" if self.is_tree else f"{mountpoint}/vm"

    def image_in_mount(self, mountpoint):
        return f"{mountpoint}/vm/latest.img"

    def restore_command(self, target):
        return self.treering("restore", *(["tree@latest", target] if self.is_tree else ["vm@latest", f"{target}/vm.img"]))


class Restic(Tool):
    name = program = "restic"
    environment = {"RESTIC_REPOSITORY": "{here}/repository", "RESTIC_PASSWORD": "bench",
                   "RESTIC_CACHE_DIR": "{here}/cache"}
    remark = "zstd (its default), encrypts"

    def version_arguments(self):
        return ["version"]

    def create_commands(self):
        return [["restic", "init", "-q"]]

    def backup_command(self, force_read):
        return ["restic", "backup", "-q", *(["--force"] if force_read else []), self.source]

    def forget_commands(self, keep):
        return [["restic", "forget", "-q", "--keep-last", keep, "--prune"]]

    def check_command(self):
        return ["restic", "check", "-q"]

    def mount_command(self, mountpoint):
        return ["restic", "mount", "-q", mountpoint]

    def source_in_mount(self, mountpoint):
        return f"{mountpoint}/snapshots/latest{self.source}"

    def restore_command(self, target):
        sparse = ["--sparse"] if "--sparse" in run(["restic", "restore", "--help"]) else []
        return ["restic", "restore", "-q", "latest", *sparse, "--target", target]


class Rustic(Tool):
    name = program = "rustic"
    environment = {"RUSTIC_REPOSITORY": "{here}/repository", "RUSTIC_PASSWORD": "bench",
                   "RUSTIC_CACHE_DIR": "{here}/cache", "RUSTIC_NO_PROGRESS": "true"}
    remark = "zstd (its default), encrypts"

    def create_commands(self):
        return [["rustic", "init"]]

    def backup_command(self, force_read):
        return ["rustic", "backup", *(["--force"] if force_read else []), self.source]

    def version(self):
        return super().version() + ("" if self.can_mount() else " (built without its mount)")

    def can_mount(self):
        """Whether this build has the mount, which is a feature of the crate."""
        return subprocess.run(["rustic", "mount", "--help"], capture_output=True, check=False).returncode == 0

    def forget_commands(self, keep):
        return [["rustic", "forget", "--keep-last", keep, "--prune", "--instant-delete"]]

    def check_command(self):
        return ["rustic", "check"]

    def mount_command(self, mountpoint):
        return ["rustic", "mount", mountpoint, f"latest:{self.source}"] if self.can_mount() else None

    def source_in_mount(self, mountpoint):
        return mountpoint

    def restore_command(self, target):
        return ["rustic", "restore", f"latest:{self.source}", target]


class Borg(Tool):
    name = program = "borg"
    environment = {"BORG_BASE_DIR": "{here}", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    remark = "zstd,3; images in chunks of 4 MiB (fixed), as its manual says; no encryption"

    def archive(self):
        return f"{self.repository}::{self.count}"

    def create_commands(self):
        return [["borg", "init", "-e", "none", self.repository]]

    def backup_command(self, force_read):
        chunker = [] if self.is_tree else ["--chunker-params", "fixed,4194304", "--sparse"]
        return ["borg", "create", "--compression", "zstd,3", *chunker,
                *(["--files-cache", "disabled"] if force_read else []), self.archive(), self.source]

    def forget_commands(self, keep):
        return [["borg", "prune", "--keep-last", keep, self.repository], ["borg", "compact", self.repository]]

    def check_command(self):
        return ["borg", "check", "--archives-only", self.repository]

    def mount_command(self, mountpoint):
        return ["borg", "mount", "-f", self.archive(), mountpoint]

    def source_in_mount(self, mountpoint):
        return f"{mountpoint}{self.source}"

    def restore_command(self, target):
        return ["sh", "-c", f"cd '{target}' && borg extract --sparse '{self.archive()}'"]


class Bupstash(Tool):
    name = program = "bupstash"
    environment = {"BUPSTASH_REPOSITORY": "{here}/repository", "BUPSTASH_KEY": "{here}/key"}
    remark = "zstd,3 (its default), encrypts; has no mount"

    def create_commands(self):
        return [["bupstash", "new-key", "-o", f"{self.directory}/key"],
                ["bupstash", "init", "-r", self.repository]]

    def backup_command(self, force_read):
        return ["bupstash", "put", "-q", "--send-log", f"{self.directory}/log",
                *(["--no-stat-caching"] if force_read else []), f"name=vm-{self.count}", self.source]

    def restore_command(self, target):
        return ["bupstash", "restore", "-q", "--into", target, f"name=vm-{self.count}"]


class Casync(Tool):
    name = program = "casync"
    remark = "zstd (its default), no encryption"

    def index(self):
        return f"{self.directory}/repository/vm-{self.count}.caidx"

    def store(self):
        return f"--store={self.directory}/repository/store.castr"

    def create_commands(self):
        return [["mkdir", self.repository], ["mkdir", f"{self.directory}/cache"]]

    def backup_command(self, force_read):
        return ["casync", "make", self.store(), *([] if force_read else [f"--cache={self.directory}/cache"]),
                self.index(), self.source]

    def mount_command(self, mountpoint):
        return ["casync", "mount", self.store(), self.index(), mountpoint]

    def source_in_mount(self, mountpoint):
        return mountpoint

    def restore_command(self, target):
        return ["casync", "extract", self.store(), self.index(), target]


class Squashfuse(Tool):
    """Not a peer: a read-only file system with compression, as a limit to look at."""

    name = program = "squashfuse"
    remark = "a limit to look at: squashfs with zstd, blocks of 128 KiB"

    def create_commands(self):
        return [["mkdir", self.repository],
                ["mksquashfs", self.source, f"{self.repository}/live.squashfs", "-comp", "zstd",
                 "-Xcompression-level", "3", "-no-progress", "-quiet"]]

    def mount_command(self, mountpoint):
        return ["squashfuse", "-f", f"{self.repository}/live.squashfs", mountpoint]

    def source_in_mount(self, mountpoint):
        return mountpoint


PEERS = [Restic, Rustic, Borg, Bupstash, Casync]
