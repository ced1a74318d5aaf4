"""A history of many days: what it takes to forget a tenth of it and to free what only that used, to check it, and the memory
that each command needs on it."""

import os
import shutil

from . import tools as tool_module
from .history import History
from .measure import MIB, run
from .targets import TREERING, Row, Target

BOUND = (Target("", 256),)
ROWS = [
    Row("gc", "history", "forget a tenth of 50 revisions, and gc, cold", "s"),
    Row("gc-cpu", "history", "the same, CPU time", "s"),
    Row("gc-freed", "history", "the same, freed", "MiB", more_is_better=True),
    Row("check", "history", "check of that history's structure, cold", "s"),
    Row("memory-gc", "history", "peak memory: forget and gc", "MiB", BOUND),
    Row("memory-check", "history", "peak memory: check", "MiB", BOUND),
    Row("memory-repair", "history", "peak memory: check --repair", "MiB", BOUND),
    Row("memory-scrub", "history", "peak memory: scrub", "MiB", BOUND),
    Row("memory-copy", "history", "peak memory: copy", "MiB", BOUND),
    Row("memory-dump", "history", "peak memory: dump", "MiB", BOUND),
    Row("memory-look", "history", "peak memory: list, status, diff, tag, forget --dry-run", "MiB", BOUND),
]


def history_group(bench):
    """Every tool gets the same history; each run begins with a copy of it."""
    history = History(os.path.join(bench.directory, "history"), bench.data)
    directory = os.path.join(bench.directory, "history")
    tools = [type(tool)(directory, history) for tool in bench.tools]
    tools = [tool for tool in tools if tool.forget_commands(1) is not None]
    history.begin()
    tools = bench.prepared(tools, lambda tool: tool.create())
    for day in range(1, history.days + 1):
        bench.say(f"  day {day} of {history.days}")
        history.pass_day(day)
        tools = bench.prepared(tools, lambda tool: tool.backup())
    for tool in tools:
        shutil.rmtree(kept(tool), ignore_errors=True)
        os.rename(tool.directory, kept(tool))
    bench.alternate(tools, lambda tool, number: one_gc(bench, tool, history.days))
    bench.alternate(tools, lambda tool, number: one_check(bench, tool))
    ours = next((tool for tool in tools if tool.name == TREERING), None)
    if ours is not None:
        take_kept(ours)
        memory_of_commands(bench, ours)
    shutil.rmtree(directory)


def kept(tool):
    """Where the history is kept as it was made."""
    return f"{tool.directory}-kept"


def take_kept(tool):
    """Makes a tool's repository again what it was when the history was made."""
    shutil.rmtree(tool.directory, ignore_errors=True)
    run(["cp", "-a", kept(tool), tool.directory])


def one_gc(bench, tool, days):
    take_kept(tool)
    before = tool.stored_bytes()
    bench.caches.drop()
    samples = [tool.measure(command) for command in tool.forget_commands(days - days // 10)]
    bench.record("gc", tool.name, sum(sample.seconds for sample in samples))
    bench.record("gc-cpu", tool.name, sum(sample.cpu_seconds for sample in samples))
    bench.record("gc-freed", tool.name, (before - tool.stored_bytes()) / MIB)
    bench.record_peak("memory-gc", tool.name, max(sample.peak_mib for sample in samples))


def one_check(bench, tool):
    if tool.check_command() is None:
        return
    take_kept(tool)
    bench.caches.drop()
    sample = tool.measure(tool.check_command())
    bench.record("check", tool.name, sample.seconds)
    bench.record_peak("memory-check", tool.name, sample.peak_mib)


def memory_of_commands(bench, tool):
    """The peaks of commands that no other row has."""
    target = os.path.join(tool.directory, "target")
    run([tool.program, "init", target])
    dump = ["sh", "-c", f"'{tool.program}' --no-progress -r '{tool.repository}' dump vm@latest > /dev/null"]
    by_row = {
        "memory-repair": [tool.treering("check", "--repair")],
        "memory-scrub": [tool.treering("scrub")],
        "memory-copy": [tool.treering("copy", "--all", "--to", target)],
        "memory-dump": [dump],
        "memory-look": [tool.treering(*arguments) for arguments in [
            ["list"], ["status"], ["diff", "vm@5", "vm@0"], ["tag", "vm@latest", "--add", "seen"],
            ["forget", "vm", "--keep-last", "10", "--dry-run"]]],
    }
    for row, commands in by_row.items():
        for command in commands:
            bench.record_peak(row, tool.name, tool.measure(command).peak_mib)


RUN_GROUP = {"history": history_group}
