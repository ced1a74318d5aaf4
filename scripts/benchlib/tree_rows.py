"""The rows of DESIGN section 7 that are of trees: what is measured, against what, and how."""

import contextlib
import os
import shutil

from . import tools as tool_module
from .measure import COPYING_GIB, MIB, Failed, measure, run
from .targets import CP, FIND, ORIGINAL, SQUASHFUSE, TREERING, Row, Target, peers

ROWS = [
    Row("tree-first", "tree", "first backup of a tree, cold", "s", (peers(2),)),
    Row("tree-first-cpu", "tree", "the same, CPU time", "s"),
    Row("tree-first-stored", "tree", "the same, stored", "MiB"),
    Row("tree-again", "tree", "the tree again, unchanged", "s", (Target(FIND, 1.5),)),
    Row("tree-increment", "tree", "a day's increment of the tree, cold", "s", (peers(2),)),
    Row("tree-increment-stored", "tree", "the same, stored", "MiB", (peers(1),)),
    Row("small-first", "small", "first backup of many small files, cold", "s", (peers(2),)),
    Row("small-first-stored", "small", "the same, stored", "MiB"),
    Row("small-again", "small", "many small files again, unchanged", "s", (Target(FIND, 1.5),)),
    Row("small-find", "small-mount", "find -ls of many small files through the mount, cold", "s",
        (peers(4), Target(ORIGINAL, 1.3))),
    Row("small-ls", "small-mount", "ls -lR of the same, cold", "s", (peers(4), Target(ORIGINAL, 1.3))),
    Row("small-tar", "small-mount", "tar of the same, cold", "s", (peers(3), Target(ORIGINAL, 1.3))),
    Row("tree-copy", "tree-mount", "cp -r of a part of the tree from the mount, cold", "s",
        (peers(3), Target(ORIGINAL, 1.3))),
    Row("tree-tar", "tree-mount", "tar of the same, cold", "s", (peers(3), Target(ORIGINAL, 1.3))),
    Row("tree-restore", "tree-restore", "restore of the tree, cold", "s", (Target(CP, 1.25), peers(3))),
    Row("tree-restore-cpu", "tree-restore", "the same, CPU time", "s"),
    # Filled by the groups above.
    Row("memory-tree-backup", "", "peak memory: backup of trees", "MiB", (Target("", 256),)),
    Row("memory-tree-mount", "", "peak memory: mount of trees", "MiB", (Target("", 256),)),
    Row("memory-tree-restore", "", "peak memory: restore of a tree", "MiB", (Target("", 256),)),
]
KEYS = {row.key for row in ROWS}


def for_tree(bench, name, source):
    """The tools, with repositories of their own for a tree, which stay from group to group."""
    if name not in bench.tree_tools:
        directory = os.path.join(bench.directory, name)
        bench.tree_tools[name] = [type(tool)(directory, bench.data, source) for tool in bench.tools]
    return bench.tree_tools[name]


def record_backup(bench, tool, row, stored=False):
    before = tool.stored_bytes()
    sample = tool.backup()
    bench.record(row, tool.name, sample.seconds)
    if f"{row}-cpu" in KEYS:
        bench.record(f"{row}-cpu", tool.name, sample.cpu_seconds)
    if stored:
        bench.record(f"{row}-stored", tool.name, (tool.stored_bytes() - before) / MIB)
    bench.record_peak("memory-tree-backup", tool.name, sample.peak_mib)


def first_and_again(bench, tool, prefix):
    tool.create()
    bench.caches.drop()
    record_backup(bench, tool, f"{prefix}-first", stored=True)
    bench.caches.settle()
    record_backup(bench, tool, f"{prefix}-again")


def find_limit(bench, row, tree):
    """The plainest walk that looks at every entry, warm as the backups are."""
    find = ["sh", "-c", f"find '{tree}' -printf '%s %T@\\n' > /dev/null"]
    run(find)
    bench.record(row, FIND, measure(find).seconds)


def tree_group(bench):
    """First backup, again, and the next day."""
    with bench.trees.mounted(bench.say) as trees:
        def one_life(tool, _number):
            trees.use_day(1)
            first_and_again(bench, tool, "tree")
            trees.use_day(2)
            bench.caches.drop()
            record_backup(bench, tool, "tree-increment", stored=True)
        bench.alternate(for_tree(bench, "tree", trees.live), one_life)
        for _ in range(bench.runs):
            find_limit(bench, "tree-again", trees.live)


def small_group(bench):
    """Very many small files, first and again."""
    with bench.trees.mounted(bench.say) as trees:
        bench.alternate(for_tree(bench, "small", trees.small), lambda tool, _: first_and_again(bench, tool, "small"))
        for _ in range(bench.runs):
            find_limit(bench, "small-again", trees.small)


def mounting(bench, name, source):
    """The tools that have a mount, each with a backup."""
    candidates = [*for_tree(bench, name, source),
                  tool_module.Squashfuse(os.path.join(bench.directory, name), bench.data, source)]
    able = [tool for tool in candidates if tool.available() and tool.mount_command("") is not None]
    return bench.prepared(able, fill)


def fill(tool):
    """Makes the tool's repository, if the backups' group has not left it."""
    if tool.count > 0 and os.path.isdir(tool.repository):
        return
    tool.create()
    if tool.name != SQUASHFUSE:
        tool.backup()


# What goes through all small files, and counts what came out.
WALKS = {"small-find": "find . -ls | wc -l", "small-ls": "ls -lR . | wc -l", "small-tar": "tar cf - . | wc -c"}


# Who has taken longer for a walk does not take it again.
SLOW_SECONDS = 60


def was_slow(bench, row, name):
    return max(bench.samples.get(row, {}).get(name, [0.0])) > SLOW_SECONDS


def walk_row(bench, row, name, tree):
    """A fast wrong answer is none: each file has a line of its own, and a block of the archive."""
    sample = measure(["sh", "-c", WALKS[row]], cwd=tree)
    least = bench.trees.counts["small"] * (512 if row == "small-tar" else 1)
    if int(sample.output) < least:
        raise Failed(f"{name}: {WALKS[row]} of the small files gave {sample.output.strip()}, less than {least}")
    bench.record(row, name, sample.seconds)


def small_mount_group(bench):
    """Each row has a mount of its own, so that the program's caches are cold as the kernel's are."""
    with bench.trees.mounted(bench.say) as trees:
        def one_mount(tool, _number):
            for row in [row for row in WALKS if not was_slow(bench, row, tool.name)]:
                bench.caches.drop()
                with tool.mounted() as mount:
                    walk_row(bench, row, tool.name, mount.tree)
                    bench.record_peak("memory-tree-mount", tool.name, mount.peak_mib())
        bench.alternate(mounting(bench, "small", trees.small), one_mount)
        for _ in range(bench.runs):
            for row in WALKS:
                bench.caches.drop()
                walk_row(bench, row, ORIGINAL, trees.small)


def tree_mount_group(bench):
    """A part of the tree, copied and packed from the mount."""
    with bench.trees.mounted(bench.say) as trees:
        trees.use_day(2)
        def one_mount(tool, number):
            copy_row(bench, tool.name, tool.mounted, number == 0, trees.live)
            bench.caches.drop()
            with tool.mounted() as mount:
                tar_row(bench, tool.name, mount.tree)
                bench.record_peak("memory-tree-mount", tool.name, mount.peak_mib())
        bench.alternate(mounting(bench, "tree", trees.live), one_mount)
        for _ in range(bench.runs):
            copy_row(bench, ORIGINAL, lambda: contextlib.nullcontext(Original(trees.live)), False, trees.live)
            bench.caches.drop()
            tar_row(bench, ORIGINAL, trees.live)


class Original:
    """The tree itself, in the place of a mount."""

    def __init__(self, tree):
        self.tree = tree


def tar_row(bench, name, tree):
    bench.record("tree-tar", name, measure(["sh", "-c", f"tar cf - -C '{tree}/part' . | cat > /dev/null"]).seconds)


def copy_row(bench, name, mounted, is_checked, original):
    copy = os.path.join(bench.directory, "tree-copy")
    shutil.rmtree(copy, ignore_errors=True)
    bench.caches.drop()
    with mounted() as mount:
        bench.record("tree-copy", name, measure(["cp", "-r", "--reflink=never", f"{mount.tree}/part", copy]).seconds)
    if is_checked:
        expect_tree(name, copy, f"{original}/part")
    shutil.rmtree(copy)


def expect_tree(name, copy, original):
    """A fast wrong answer is none."""
    try:
        run(["diff", "-r", "--no-dereference", original, copy])
    except Failed as error:
        raise Failed(f"{name} gave another tree: {error}") from error


def tree_restore_group(bench):
    """The newest tree into an empty directory."""
    with bench.trees.mounted(bench.say) as trees:
        trees.use_day(2)
        tools = bench.prepared(for_tree(bench, "tree", trees.live), fill)
        bench.alternate(tools, lambda tool, number: one_restore(bench, tool, number, trees.live))
        for _ in range(bench.runs):
            target = empty_target(bench)
            bench.caches.drop(COPYING_GIB)
            copying = ["cp", "-a", "--reflink=never", trees.live, f"{target}/tree"]
            bench.record("tree-restore", CP, measure(copying).seconds)
            shutil.rmtree(target)


def empty_target(bench):
    target = os.path.join(bench.directory, "tree-target")
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target)
    return target


def one_restore(bench, tool, number, original):
    target = empty_target(bench)
    bench.caches.drop(COPYING_GIB)
    sample = tool.measure(tool.restore_command(target))
    bench.record("tree-restore", tool.name, sample.seconds)
    bench.record("tree-restore-cpu", tool.name, sample.cpu_seconds)
    bench.record_peak("memory-tree-restore", tool.name, sample.peak_mib)
    if number == 0:
        expect_tree(tool.name, tool.restored_tree(target), original)
    shutil.rmtree(target)


RUN_GROUP = {"tree": tree_group, "small": small_group, "small-mount": small_mount_group,
             "tree-mount": tree_mount_group, "tree-restore": tree_restore_group}
