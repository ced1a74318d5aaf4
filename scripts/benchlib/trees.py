"""Makes the trees: one of the machine's own files, what it is a day later, and one of very many small files.

They lie on a btrfs of their own, in a file: a snapshot of the first day, changed, is the second, in which what did not
change has the inodes and times that it had. A mount shows one of the days at a path that stays."""

import contextlib
import json
import os
import random
import shutil
import time

from .data import chosen_files
from .measure import MIB, run

SEED = 20261127
LINES_FROM = "/usr/share"


class Trees:
    """The trees below one directory. `live` shows a day of the tree, `small` the small files."""

    def __init__(self, directory, file_count, part_count, small_count):
        self.directory = directory
        self.counts = {"files": file_count, "part": part_count, "small": small_count}
        self.volume = os.path.join(directory, "trees.btrfs")
        self.mountpoint = os.path.join(directory, "trees")
        self.live = os.path.join(self.mountpoint, "live")
        self.small = os.path.join(self.mountpoint, "small")

    @contextlib.contextmanager
    def mounted(self, say):
        """The volume, made if need be, and mounted as long as the block runs."""
        os.makedirs(self.mountpoint, exist_ok=True)
        stamp = os.path.join(self.directory, "trees.json")
        is_made = os.path.exists(stamp) and json.load(open(stamp)) == self.counts
        if not is_made:
            self._format()
        run(["mount", "-o", "loop,noatime", self.volume, self.mountpoint])
        try:
            if not is_made:
                self._make(say)
                with open(stamp, "w") as file:
                    json.dump(self.counts, file)
            yield self
        finally:
            run(["umount", self.mountpoint])

    def use_day(self, day):
        """Shows the tree as it is on a day."""
        if os.path.exists(self.live):
            run(["btrfs", "subvolume", "delete", self.live])
        run(["btrfs", "subvolume", "snapshot", self._day(day), self.live])
        # As in the images' data: no tool may have to doubt the times.
        time.sleep(1)

    def facts(self):
        """What the report says of the data."""
        return (f"{self.counts['files']} files of the machine; the next day: 300 edited by an insertion, 100 overwritten in "
                f"the middle, 100 appended to, 200 new, 200 removed, 1,000 touched, a directory renamed; "
                f"{self.counts['small']} files of 100 to 2,000 bytes, lines of real texts")

    def _day(self, day):
        return os.path.join(self.mountpoint, f"day{day}")

    def _format(self):
        with open(self.volume, "wb") as file:
            file.truncate(24 << 30)
        run(["mkfs.btrfs", "-q", "-f", "-m", "single", self.volume])

    def _make(self, say):
        say("making the tree")
        run(["btrfs", "subvolume", "create", self._day(1)])
        self._copy_files(self._day(1))
        run(["sync"])
        say("making the tree's next day")
        run(["btrfs", "subvolume", "snapshot", self._day(1), self._day(2)])
        change(self._day(2))
        say("making small files")
        make_small(self.small, self.counts["small"])
        run(["sync"])

    def _copy_files(self, tree):
        """The first files go to `part`, which is what is copied through mounts, the others to `rest`."""
        for number, source in enumerate(chosen_files()[:self.counts["files"]]):
            target = os.path.join(tree, "part" if number < self.counts["part"] else "rest") + source
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with contextlib.suppress(OSError):  # one that has just vanished
                shutil.copy2(source, target)


def change(tree):
    """A day's work: seeded, so the same tree gives the same."""
    generator = random.Random(SEED)
    files = [os.path.join(directory, name) for directory, _, names in os.walk(tree) for name in names]
    files = [path for path in sorted(files) if 0 < os.path.getsize(path) < 64 * MIB]
    generator.shuffle(files)
    take = lambda count: [files.pop() for _ in range(count)]
    for path in take(300):
        rewrite(path, lambda content: content[:len(content) // 2] + generator.randbytes(40) + content[len(content) // 2:])
    for path in take(100):
        rewrite(path, lambda content: content[:len(content) // 2] + generator.randbytes(8) + content[len(content) // 2 + 8:])
    for path in take(100):
        rewrite(path, lambda content: content + generator.randbytes(200))
    for number, path in enumerate(take(200)):
        shutil.copy2(path, f"{path}.new-{number}")
        rewrite(f"{path}.new-{number}", lambda content: generator.randbytes(30) + content)
    for path in take(200):
        os.remove(path)
    for path in take(1000):
        os.utime(path)
    directories = sorted(name for name in os.listdir(f"{tree}/rest/usr/share") if os.path.isdir(f"{tree}/rest/usr/share/{name}"))
    moved = generator.choice(directories)
    os.rename(f"{tree}/rest/usr/share/{moved}", f"{tree}/rest/usr/share/{moved}-renamed")


def rewrite(path, edit):
    """Writes a file anew, in place."""
    with open(path, "r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(edit(content))
        file.truncate()


def make_small(directory, count, per_directory=200):
    """Files of 100 to 2,000 bytes: lines of the machine's own texts."""
    generator, lines = random.Random(SEED + 1), text_lines()
    for number in range(count):
        below = os.path.join(directory, f"{number // per_directory:05}")
        if number % per_directory == 0:
            os.makedirs(below)
        wanted, content = generator.randint(100, 2000), b""
        while len(content) < wanted:
            content += generator.choice(lines)
        with open(os.path.join(below, f"{number:07}.txt"), "wb") as file:
            file.write(content[:wanted])


def text_lines(bytes_max=64 * MIB):
    """Lines of texts that every machine has."""
    lines, total = [], 0
    for directory, subdirectories, names in os.walk(LINES_FROM):
        subdirectories.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            if not name.endswith((".txt", ".pm", ".py", ".pl", ".md", "copyright")) or not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                content = file.read()
            total += len(content)
            lines += content.splitlines(keepends=True)
            if total > bytes_max:
                return lines
    return lines
