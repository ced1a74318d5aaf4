"""Runs commands and reads files with a stopwatch."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

MIB = 1 << 20

# What reading the image, and what copying it, takes of the kernel's caches.
READING_GIB, COPYING_GIB = 5, 9


class Failed(Exception):
    """A measured command failed; the message has the end of what it printed."""


@dataclass
class Sample:
    """What one run of a command cost."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def measure(command, env=None, cwd=None):
    """Runs a command to its end. GNU time stands between, because the peak memory that Python could ask for
    would include Python's own from before the exec."""
    with tempfile.NamedTemporaryFile("r") as costs:
        timed = ["/usr/bin/time", "-f", "%U %S %M", "-o", costs.name, *map(str, command)]
        start = time.perf_counter()
        done = subprocess.run(timed, env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            printed = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
            raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{printed}")
        user, system, peak_kib = costs.read().split()[-3:]
        return Sample(seconds, float(user) + float(system), int(peak_kib) / 1024, done.stdout)


def run(command, **options):
    """Runs a command that is not measured."""
    return measure(command, **options).output


class Caches:
    """The kernel's caches: emptied before a cold run, unless the run is a quick one that measures nothing."""

    def __init__(self, may_drop):
        self.may_drop = may_drop

    def settle(self):
        """Lets no earlier run's dirty pages be written during the next."""
        os.sync()

    def drop(self, touched_gib=READING_GIB):
        """Makes the next reader read from the disk, with memory at hand."""
        os.sync()
        if self.may_drop:
            with open("/proc/sys/vm/drop_caches", "w") as control:
                control.write("3")
            touch_memory(touched_gib)


TOUCH = """
import mmap, sys
mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
"""


def touch_memory(gib):
    """Touches free memory, in a process of its own. The host of a virtual machine takes back what the machine has freed,
    and gives it again page by page when it is written to: by that alone `cp` of an image took 1.8 or 5.2 seconds."""
    count = min(gib << 30, available_bytes() // 2)
    subprocess.run([sys.executable, "-c", TOUCH, str(count)], check=True)


def available_bytes():
    """Memory that processes may have."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    return int(fields["MemAvailable"].split()[0]) << 10


def allocated_bytes(path):
    """What a file, or everything in a directory, takes on the disk."""
    total = os.lstat(path).st_blocks * 512
    for directory, subdirectories, files in os.walk(path):
        total += sum(os.lstat(os.path.join(directory, name)).st_blocks * 512
                     for name in subdirectories + files)
    return total


def data_extents(path, gap=0):
    """The (offset, length) of a file's data; holes of less than `gap` bytes count as data."""
    extents = []
    with open(path, "rb") as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        while position < size:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole follows
                break
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            if extents and start - sum(extents[-1]) < gap:
                extents[-1] = (extents[-1][0], position - extents[-1][0])
            else:
                extents.append((start, position - start))
    return extents


def read_extents(path, extents):
    """Reads extents in order, 1 MiB at a time; returns MiB per second."""
    buffer, total = bytearray(MIB), 0
    with open(path, "rb", buffering=0) as file:
        start = time.perf_counter()
        for offset, length in extents:
            end = offset + length
            while offset < end:
                count = os.preadv(file.fileno(), [memoryview(buffer)[:min(MIB, end - offset)]], offset)
                if count == 0:
                    raise Failed(f"{path}: ends at {offset}")
                offset += count
                total += count
        return total / MIB / (time.perf_counter() - start)


def read_at_random(path, offsets, seconds_max=10):
    """Reads 4 KiB at each offset, for some seconds at most; returns reads per second."""
    count = 0
    with open(path, "rb", buffering=0) as file:
        start = time.perf_counter()
        for offset in offsets:
            if len(os.pread(file.fileno(), 4096, offset)) != 4096:
                raise Failed(f"{path}: short read at {offset}")
            count += 1
            if time.perf_counter() - start > seconds_max:
                break
        return count / (time.perf_counter() - start)


def peak_mib_of(pid):
    """The peak memory of a process that still runs."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0
