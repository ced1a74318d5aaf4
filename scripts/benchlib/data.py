"""Makes the data: a disk image with a partition table and a file system full of the machine's own files, and what it is a
day later. The choice of files and of changes is seeded, so the same machine gives the same data."""

import contextlib
import json
import os
import random
import shutil
import time
from dataclasses import asdict, dataclass

from .measure import MIB, allocated_bytes, data_extents, run

SEED = 20261120
BLOCK = 4096
ROOTS = ["/usr", "/opt", "/var/lib"]
# A day's small changes: hot spots (a database's page range, a log, a directory), in each of which half of the
# blocks are written anew, in no order.
SPOT_BLOCKS = 128
SPOT_WRITES = 64


@dataclass(frozen=True)
class Plan:
    """How much data is made."""

    image_mib: int
    files_mib: int
    changed_mib: int
    new_files: int
    wide_gib: int
    wide_pieces: int
    random_reads: int
    many_revisions: int
    tree_files: int
    tree_part: int
    small_files: int


FULL = Plan(image_mib=8192, files_mib=3100, changed_mib=50, new_files=20, wide_gib=1024, wide_pieces=4096,
            random_reads=4000, many_revisions=10000, tree_files=100_000, tree_part=12_000, small_files=300_000)
QUICK = Plan(image_mib=256, files_mib=60, changed_mib=1, new_files=3, wide_gib=1024, wide_pieces=64,
             random_reads=200, many_revisions=30, tree_files=4000, tree_part=300, small_files=3000)


class Data:
    """The data below one directory. `image` is the disk image at a path that stays; `use_day` puts one of its
    two states there, as a new file, which is how an image looks after a VM has run."""

    def __init__(self, directory, plan):
        self.directory = directory
        self.plan = plan
        self.live = os.path.join(directory, "live")
        self.image = os.path.join(self.live, "vm.img")
        self.day_file = os.path.join(directory, "day")
        # The data without its holes: what the limits (cat, b3sum, zstd) are measured on.
        self.plain = os.path.join(directory, "plain")
        self.wide_image = os.path.join(directory, "wide.img")
        self.wide_hints = os.path.join(directory, "wide.json")

    def make(self, say):
        """Makes the data, or takes what an earlier run with the same plan has left."""
        stamp = os.path.join(self.directory, "plan.json")
        wanted = asdict(self.plan)
        if os.path.exists(stamp) and json.load(open(stamp)) == wanted:
            say("the data is there")
            return
        os.makedirs(self.live)
        say("making the image")
        left = self._make_first_day()
        say("making its successor")
        self._make_second_day(left)
        self._make_plain()
        say("making the wide image")
        self._make_wide()
        with open(self.day_file, "w") as file:
            file.write("0")
        json.dump(wanted, open(stamp, "w"))

    def day_image(self, day):
        """Where the state of a day lies while it is not in use."""
        return os.path.join(self.directory, f"day{day}.img")

    def use_day(self, day):
        """Puts the state of a day at the image's path."""
        current = int(open(self.day_file).read())
        if current == day:
            return
        if current:
            os.rename(self.image, self.day_image(current))
        os.rename(self.day_image(day), self.image)
        with open(self.day_file, "w") as file:
            file.write(str(day))
        # No tool may have to doubt the times: borg reads the newest file of a backup again, and a change
        # within a clock tick can't be seen.
        time.sleep(1)
        with open(os.path.join(self.live, "newest"), "w") as file:
            file.write(str(day))
        time.sleep(1)

    def random_offsets(self):
        """Where the random reads go: blocks of data, the same for all tools."""
        generator = random.Random(SEED + 2)
        return random_data_offsets(generator, data_extents(self.image), self.plan.random_reads)

    def change_wide(self):
        """Changes 1 MiB of the wide image, in 16 places of 64 KiB, where the hints say. Never twice to the same bytes,
        also where the data of an earlier run is used again."""
        with open(self.wide_image, "r+b") as file:
            for extent in json.load(open(self.wide_hints)):
                file.seek(extent["offset"])
                file.write(os.urandom(extent["length"]))
        time.sleep(0.1)

    def _make_first_day(self):
        image = self.day_image(1)
        with open(image, "wb") as file:
            file.truncate(self.plan.image_mib * MIB)
        layout = os.path.join(self.directory, "layout")
        with open(layout, "w") as file:
            file.write("label: gpt\nlabel-id: 0E0E0E0E-0000-4000-8000-000000000001\nstart=1MiB, type=linux\n")
        run(["sh", "-c", f"sfdisk --quiet '{image}' < '{layout}'"])
        with partition(image, self.directory) as (device, mountpoint):
            run(["mkfs.ext4", "-q", "-U", "0e0e0e0e-0000-4000-8000-000000000002", "-E",
                 "lazy_itable_init=0,lazy_journal_init=0,nodiscard", device])
            with mounted(device, mountpoint):
                return fill(mountpoint, self.plan.files_mib * MIB)

    def _make_second_day(self, files):
        first, second = self.day_image(1), self.day_image(2)
        run(["cp", "--sparse=always", "--reflink=auto", first, second])
        with partition(second, self.directory) as (device, mountpoint), mounted(device, mountpoint):
            for number, source in enumerate(files[:self.plan.new_files]):
                shutil.copyfile(source, os.path.join(mountpoint, f"new-{number}"))
        scatter(second, self.plan.changed_mib * MIB)

    def _make_plain(self):
        with open(self.day_image(1), "rb") as image, open(self.plain, "wb") as plain:
            for offset, length in data_extents(self.day_image(1)):
                image.seek(offset)
                while length:
                    piece = image.read(min(length, MIB))
                    plain.write(piece)
                    length -= len(piece)

    def _make_wide(self):
        generator = random.Random(SEED + 3)
        size, piece = self.plan.wide_gib << 30, 64 << 10
        places = sorted(generator.sample(range(size // piece), self.plan.wide_pieces))
        with open(self.wide_image, "wb") as wide, open(self.plain, "rb") as plain:
            wide.truncate(size)
            for place in places:
                wide.seek(place * piece)
                wide.write(plain.read(piece))
        changed = sorted(generator.sample(places, 16))
        hints = [{"offset": place * piece, "length": piece, "exists": "true"} for place in changed]
        json.dump(hints, open(self.wide_hints, "w"))

    def facts(self):
        """What the report says of the data."""
        return {"image": f"{self.plan.image_mib} MiB, {os.path.getsize(self.plain) // MIB} MiB of data",
                "changes": f"{self.plan.changed_mib} MiB of 4 KiB blocks in hot spots of "
                           f"{SPOT_BLOCKS * BLOCK >> 10} KiB, {self.plan.new_files} new files",
                "wide": f"{self.plan.wide_gib} GiB sparse, "
                        f"{allocated_bytes(self.wide_image) // MIB} MiB of data, 1 MiB changed"}


@contextlib.contextmanager
def partition(image, directory):
    """A loop device over the image's partition, by offset: that needs neither udev nor a kernel that reads
    partition tables."""
    start, sectors = run(["partx", "-g", "-o", "START,SECTORS", "-n", "1", image]).split()
    mountpoint = os.path.join(directory, "partition")
    os.makedirs(mountpoint, exist_ok=True)
    device = run(["losetup", "--find", "--show", "--offset", int(start) * 512,
                  "--sizelimit", int(sectors) * 512, image]).strip()
    try:
        yield device, mountpoint
    finally:
        run(["losetup", "--detach", device])


@contextlib.contextmanager
def mounted(device, mountpoint):
    """The device, mounted as long as the block runs."""
    run(["mount", device, mountpoint])
    try:
        yield
    finally:
        run(["umount", mountpoint])


def fill(mountpoint, budget):
    """Copies files of the machine in a seeded order until the budget is spent; returns the files left over."""
    files = chosen_files()
    while files and budget > 0:
        source = files.pop(0)
        target = mountpoint + source
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError:  # one that has just vanished
            continue
        budget -= os.path.getsize(target)
    return [name for name in files if 100 << 10 < os.path.getsize(name) < MIB]


def chosen_files():
    """All regular files below the roots: the first root's first, shuffled within a root."""
    generator, chosen = random.Random(SEED), []
    for root in ROOTS:
        names = []
        for directory, subdirectories, files in os.walk(root):
            subdirectories.sort()
            paths = (os.path.join(directory, name) for name in sorted(files))
            names += [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
        generator.shuffle(names)
        chosen += names
    return chosen


def scatter(path, changed_bytes, seed=SEED + 1):
    """Writes 4 KiB blocks in hot spots of the file's data. What is written looks like data: a block from elsewhere
    with a few bytes changed."""
    generator, extents = random.Random(seed), data_extents(path)
    spots = max(1, changed_bytes // (SPOT_WRITES * BLOCK))
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        for spot in random_data_offsets(generator, extents, spots):
            for block in generator.sample(range(SPOT_BLOCKS), SPOT_WRITES):
                offset = spot + block * BLOCK
                if offset + BLOCK > size:
                    continue
                file.seek(random_data_offsets(generator, extents, 1)[0])
                content = generator.randbytes(64) + file.read(BLOCK)[64:]
                file.seek(offset)
                file.write(content)


def random_data_offsets(generator, extents, count):
    """Offsets of 4 KiB blocks, each block of the extents as likely as any other."""
    weights = [length // BLOCK for _, length in extents]
    chosen = generator.choices(extents, weights=weights, k=count)
    return [offset + generator.randrange(max(1, length // BLOCK)) * BLOCK for offset, length in chosen]
