"""What is measured, against what, and how. Each group runs its tools in alternation and records samples by row and tool;
the rows' titles, units and targets are those of DESIGN section 7."""

import json
import os
import shutil

from . import tools as tool_module
from . import history_rows, tree_rows
from .measure import (COPYING_GIB, MIB, Failed, allocated_bytes, data_extents, measure, read_at_random,
                      read_extents, run)
from .targets import B3SUM, CAT, CP, FILE, IDEAL, ORIGINAL, SQUASHFUSE, TREERING, Row, Target, peers


ROWS = [
    Row("first", "backup", "first backup of the image, cold", "s", (peers(3),)),
    Row("first-cpu", "backup", "the same, CPU time", "s", (Target(IDEAL, 1.3),)),
    Row("first-stored", "backup", "the same, stored", "MiB"),
    Row("again", "backup", "again, file unchanged", "s", (peers(10),)),
    Row("reread-cold", "backup", "again, every byte read, cold", "s", (Target(CAT, 1.2),)),
    Row("reread-cold-cpu", "backup", "the same, CPU time", "s"),
    Row("reread-warm", "backup", "again, every byte read, warm", "s", (Target(B3SUM, 1.2),)),
    Row("increment", "backup", "a day's increment, cold", "s", (peers(5),)),
    Row("increment-cpu", "backup", "the same, CPU time", "s"),
    Row("increment-stored", "backup", "the same, stored", "MiB", (peers(4),)),
    Row("hints", "hints", "1 TiB sparse, 1 MiB changed, with hints", "s", (Target("", 0.1),)),
    Row("diff", "hints", "diff of the two revisions", "s", (Target("", 0.1),)),
    Row("mount", "mount", "mount ready", "s", (Target("", 0.05),)),
    Row("mount-memory", "mount", "the same, memory", "MiB", (Target("", 64),)),
    Row("sequential", "mount", "sequential read through the mount, cold", "MiB/s",
        (peers(3), Target(SQUASHFUSE, 1.8)), True),
    Row("sequential-again", "mount", "the same, second time", "MiB/s", (Target(FILE, 0.9),), True),
    Row("random", "mount", "random 4 KiB reads through the mount, cold", "/s",
        (peers(3), Target(SQUASHFUSE, 1.5)), True),
    Row("copy", "mount", "cp --sparse=auto from the mount, cold", "s", (peers(3), Target(CP, 1.5))),
    Row("copy-allocated", "mount", "what the copy takes", "MiB", (Target(ORIGINAL, 1.1),)),
    Row("restore", "restore", "restore of the image, cold", "s", (Target(CP, 1.25), peers(3))),
    Row("restore-cpu", "restore", "the same, CPU time", "s"),
    Row("restore-allocated", "restore", "what the restored image takes", "MiB", (Target(ORIGINAL, 1.1),)),
    Row("mount-many", "mount-many", "mount ready with many revisions", "s", (Target("", 0.05),)),
    Row("mount-many-memory", "mount-many", "the same, memory", "MiB", (Target("", 64),)),
    # Filled by the other groups.
    Row("memory-backup", "", "peak memory: backup", "MiB", (Target("", 256),)),
    Row("memory-mount", "", "peak memory: mount", "MiB", (Target("", 256),)),
    Row("memory-restore", "", "peak memory: restore", "MiB", (Target("", 256),)),
    *tree_rows.ROWS,
    *history_rows.ROWS,
]
KEYS = {row.key for row in ROWS}
GROUPS = list(dict.fromkeys(row.group for row in ROWS if row.group))


class Bench:
    """One run of the benchmark: the data, the tools, and the samples so far."""

    def __init__(self, directory, data, trees, tools, runs, caches, say):
        self.directory = directory
        self.data = data
        self.trees = trees
        self.tools = tools
        self.tree_tools = {}
        self.runs = runs
        self.caches = caches
        self.say = say
        self.samples = {}
        self.failures = []

    def record(self, row, tool, value):
        """Adds a sample."""
        self.samples.setdefault(row, {}).setdefault(tool, []).append(value)
        self.say(f"    {tool:12} {row:20} {value:.3f}")

    def record_peak(self, row, tool, value):
        """Keeps the largest."""
        rows = self.samples.setdefault(row, {})
        rows[tool] = [max(value, *rows.get(tool, [0.0]))]

    def alternate(self, tools, one_run):
        """Runs all tools in turn, and that several times. A tool that fails is named, and takes no further part in
        the group."""
        failed = set()
        for number in range(self.runs):
            for tool in tools:
                if tool.name in failed:
                    continue
                self.say(f"  run {number + 1} of {self.runs}: {tool.name}")
                try:
                    one_run(tool, number)
                except Failed as error:
                    failed.add(tool.name)
                    self.failures.append(str(error))
                    self.say(f"    FAILED: {error}")

    def treering(self):
        """Our own tool, if it takes part."""
        return next((tool for tool in self.tools if tool.name == TREERING), None)

    def prepared(self, tools, prepare):
        """Those of the tools with which the preparation succeeds; a failure is named."""
        ready = []
        for tool in tools:
            self.say(f"  preparing {tool.name}")
            try:
                prepare(tool)
                ready.append(tool)
            except Failed as error:
                self.failures.append(str(error))
                self.say(f"    FAILED: {error}")
        return ready

    def back_up_both_days(self, tool):
        """Fills the tool's repository, if the backups' group has not left it filled."""
        if tool.count > 0 and os.path.isdir(tool.repository):
            return
        tool.create()
        for day in (1, 2):
            self.data.use_day(day)
            tool.backup()

    def expect_image(self, tool, path):
        """The bytes that a tool gave back must be the image's: a fast wrong answer is none."""
        self.data.use_day(2)
        if os.path.getsize(path) != os.path.getsize(self.data.image):
            raise Failed(f"{tool.name}: {path} has the wrong size")
        run(["cmp", path, self.data.image])


# Backups --------------------------------------------------------------------------------------------------------

def backup_group(bench):
    """The whole life of a repository, made anew for every run: first, again, read again, the next day."""
    bench.alternate(bench.tools, lambda tool, number: one_life(bench, tool))
    for _ in range(bench.runs):
        backup_limits(bench)


def one_life(bench, tool):
    bench.data.use_day(1)
    tool.create()
    bench.caches.drop()
    backup_sample(bench, tool, "first", stored=True)
    bench.caches.settle()
    backup_sample(bench, tool, "again")
    bench.caches.drop()
    backup_sample(bench, tool, "reread-cold", force_read=True)
    bench.caches.settle()
    backup_sample(bench, tool, "reread-warm", force_read=True)
    bench.data.use_day(2)
    bench.caches.drop()
    backup_sample(bench, tool, "increment", stored=True)


def backup_sample(bench, tool, row, force_read=False, stored=False):
    before = tool.stored_bytes()
    sample = tool.backup(force_read)
    bench.record(row, tool.name, sample.seconds)
    if f"{row}-cpu" in KEYS:
        bench.record(f"{row}-cpu", tool.name, sample.cpu_seconds)
    if stored:
        bench.record(f"{row}-stored", tool.name, (tool.stored_bytes() - before) / MIB)
    bench.record_peak("memory-backup", tool.name, sample.peak_mib)


def backup_limits(bench):
    """The same bytes, without holes, through the plainest programs."""
    plain = bench.data.plain
    bench.caches.drop()
    bench.record("reread-cold", CAT, measure(["sh", "-c", f"cat '{plain}' > /dev/null"]).seconds)
    bench.record("reread-warm", B3SUM, measure(["b3sum", plain]).seconds)
    hashing = measure(["b3sum", "--num-threads", "1", plain])
    compressing = measure(["sh", "-c", f"zstd -q -1 -T1 -c '{plain}' > /dev/null"])
    bench.record("first-cpu", IDEAL, hashing.cpu_seconds + compressing.cpu_seconds)


# Hints and diff ----------------------------------------------------------------------------------------------------

def hints_group(bench):
    """A wide image of which little is used and less is changed."""
    tool = bench.treering()
    if tool is None:
        return
    repository = os.path.join(bench.directory, "wide-repository")
    shutil.rmtree(repository, ignore_errors=True)
    command = [tool.program, "--no-progress", "-r", repository]
    run([tool.program, "init", repository])
    run([*command, "backup", bench.data.wide_image, "wide"])
    bench.alternate([tool], lambda *_: one_hinted_backup(bench, command))


def one_hinted_backup(bench, command):
    bench.data.change_wide()
    bench.caches.settle()
    hinted = measure([*command, "backup", "--hints", bench.data.wide_hints, bench.data.wide_image, "wide"])
    bench.record("hints", TREERING, hinted.seconds)
    bench.record_peak("memory-backup", TREERING, hinted.peak_mib)
    compared = measure([*command, "--json", "diff", "wide@1", "wide@0"])
    if json.loads(compared.output)["bytes_changed"] != MIB:
        raise Failed(f"diff: not 1 MiB changed: {compared.output}")
    bench.record("diff", TREERING, compared.seconds)


# The mount -----------------------------------------------------------------------------------------------------------

def mount_group(bench):
    """Every reading row has a mount of its own, so that the program's caches are cold as the kernel's are."""
    candidates = [*bench.tools, tool_module.Squashfuse(bench.directory, bench.data)]
    mounting = [tool for tool in candidates if tool.available() and tool.mount_command("") is not None]
    mounting = bench.prepared(mounting, lambda tool: prepare_mount(bench, tool))
    bench.data.use_day(2)
    # Holes of less than 1 MiB are read too: else a reader would jump all the time.
    extents = data_extents(bench.data.image, gap=MIB)
    offsets = bench.data.random_offsets()
    bench.alternate(mounting, lambda tool, number: one_mount(bench, tool, extents, offsets, number))
    for _ in range(bench.runs):
        mount_limits(bench, extents)


def prepare_mount(bench, tool):
    if tool.name == SQUASHFUSE:
        bench.data.use_day(2)
        tool.create()
    else:
        bench.back_up_both_days(tool)


def one_mount(bench, tool, extents, offsets, number):
    bench.caches.drop()
    with tool.mounted() as mount:
        bench.record("mount", tool.name, mount.ready_seconds)
        bench.record("mount-memory", tool.name, mount.peak_mib())
        bench.record("sequential", tool.name, read_extents(mount.image, extents))
        bench.record("sequential-again", tool.name, read_extents(mount.image, extents))
        bench.record_peak("memory-mount", tool.name, mount.peak_mib())
    bench.caches.drop()
    with tool.mounted() as mount:
        bench.record("random", tool.name, read_at_random(mount.image, offsets))
        bench.record_peak("memory-mount", tool.name, mount.peak_mib())
    bench.caches.drop(COPYING_GIB)
    with tool.mounted() as mount:
        copy = os.path.join(bench.directory, "copy.img")
        bench.record("copy", tool.name, measure(["cp", "--sparse=auto", mount.image, copy]).seconds)
        bench.record_peak("memory-mount", tool.name, mount.peak_mib())
        keep_honest(bench, tool, "copy", copy, number)


def keep_honest(bench, tool, row, copy, number):
    """Records what the copy takes, and compares it in the first run."""
    os.sync()
    bench.record(f"{row}-allocated", tool.name, allocated_bytes(copy) / MIB)
    if number == 0:
        bench.expect_image(tool, copy)
    os.remove(copy)


def mount_limits(bench, extents):
    image = bench.data.image
    read_extents(image, extents)
    bench.record("sequential-again", FILE, read_extents(image, extents))
    copy_limit(bench, "copy")


def copy_limit(bench, row):
    """cp of the original, cold, as the measured copies are."""
    copy = os.path.join(bench.directory, "copy.img")
    bench.caches.drop(COPYING_GIB)
    copying = measure(["cp", "--sparse=auto", "--reflink=never", bench.data.image, copy])
    bench.record(row, CP, copying.seconds)
    bench.record(f"{row}-allocated", ORIGINAL, allocated_bytes(bench.data.image) / MIB)
    os.remove(copy)


# Restore -------------------------------------------------------------------------------------------------------------

def restore_group(bench):
    """The newest image into an empty directory."""
    restoring = bench.prepared(bench.tools, bench.back_up_both_days)
    bench.data.use_day(2)
    bench.alternate(restoring, lambda tool, number: one_restore(bench, tool, number))
    for _ in range(bench.runs):
        copy_limit(bench, "restore")


def one_restore(bench, tool, number):
    target = os.path.join(bench.directory, "target")
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target)
    bench.caches.drop(COPYING_GIB)
    sample = tool.measure(tool.restore_command(target))
    bench.record("restore", tool.name, sample.seconds)
    bench.record("restore-cpu", tool.name, sample.cpu_seconds)
    bench.record_peak("memory-restore", tool.name, sample.peak_mib)
    keep_honest(bench, tool, "restore", tool.restored_image(target), number)
    shutil.rmtree(target)


# Many revisions --------------------------------------------------------------------------------------------------------

def mount_many_group(bench):
    """A repository with very many revisions, made by as many backups of a small image."""
    tool = bench.treering()
    if tool is None:
        return
    many = tool_module.Treering(os.path.join(bench.directory, "many"), bench.data)
    bench.say(f"  making {bench.data.plan.many_revisions} revisions")
    make_many(many, bench.data.plan.many_revisions)
    bench.alternate([many], lambda tool, number: one_mount_of_many(bench, tool))
    shutil.rmtree(many.directory)


def make_many(tool, count):
    tool.create()
    image = os.path.join(tool.directory, "small.img")
    with open(image, "wb") as file:
        file.truncate(MIB)
    for number in range(count):
        with open(image, "r+b") as file:
            file.write(number.to_bytes(8, "little"))
        tool.measure(tool.treering("backup", image, "vm"))


def one_mount_of_many(bench, tool):
    bench.caches.drop()
    with tool.mounted() as mount:
        bench.record("mount-many", tool.name, mount.ready_seconds)
        bench.record("mount-many-memory", tool.name, mount.peak_mib())


RUN_GROUP = {"backup": backup_group, "hints": hints_group, "mount": mount_group, "restore": restore_group,
             "mount-many": mount_many_group, **tree_rows.RUN_GROUP, **history_rows.RUN_GROUP}
