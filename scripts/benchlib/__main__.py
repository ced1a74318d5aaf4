"""The command line of scripts/bench."""

import argparse
import os
import shutil
import sys
import tempfile

from . import report
from .data import FULL, QUICK, Data
from .measure import Caches, Failed
from .rows import GROUPS, ROWS, RUN_GROUP, Bench
from .tools import PEERS, Squashfuse, Treering
from .trees import Trees

NEEDED_GIB = 40
DOCS = "docs"


def main():
    options = parse()
    if options.report_only:
        report.write(report.load(os.path.join(DOCS, "bench.json")), [], DOCS)
        return 0
    directory = working_directory(options)
    try:
        return bench(options, directory)
    finally:
        if not options.keep and not options.dir:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"kept: {directory}")


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures Treering and its peers.")
    parser.add_argument("--rows", default=",".join(GROUPS),
                        help="rows to measure, by key or group; a row brings its group "
                             f"(groups: {', '.join(GROUPS)}; rows: {', '.join(row.key for row in ROWS)})")
    parser.add_argument("--tools", help="tools to run (default: all that are installed)")
    parser.add_argument("--dir", help="working space, kept, and used again with the data in it")
    parser.add_argument("--keep", action="store_true", help="keep the working space")
    parser.add_argument("--quick", action="store_true",
                        help="tiny data, one run: tries the script, measures nothing, writes nothing")
    parser.add_argument("--report-only", action="store_true", help="write docs/bench.md from docs/bench.json")
    return parser.parse_args()


def working_directory(options):
    if options.dir:
        os.makedirs(options.dir, exist_ok=True)
        return os.path.realpath(options.dir)
    return tempfile.mkdtemp(prefix="treering-bench.", dir=os.environ.get("TMPDIR", "/var/tmp"))


def bench(options, directory):
    if not options.quick and shutil.disk_usage(directory).free < NEEDED_GIB << 30:
        sys.exit(f"scripts/bench: {directory} has less than {NEEDED_GIB} GiB free: give another place with --dir")
    data = Data(os.path.join(directory, "quick" if options.quick else "data"), QUICK if options.quick else FULL)
    runs = 1 if options.quick else int(os.environ.get("BENCH_RUNS", "3"))
    tools = chosen_tools(options, directory, data)
    say(f"tools: {', '.join(tool.name for tool in tools)}; runs: {runs}")
    data.make(say)
    trees = Trees(data.directory, data.plan.tree_files, data.plan.tree_part, data.plan.small_files)
    known = report.facts(directory, [*tools, Squashfuse(directory, data)], data, trees, runs)
    running = Bench(directory, data, trees, tools, runs, Caches(may_drop=not options.quick), say)
    for group in chosen_groups(options):
        say(group)
        try:
            RUN_GROUP[group](running)
        except Failed as error:
            running.failures.append(str(error))
            say(f"FAILED: {error}")
        if not options.quick:
            write(running, known)
    if options.quick:
        print(report.render(report.merge({"facts": {}, "rows": {}}, known, running.samples), running.failures))
        print("QUICK: tiny data, one run, warm caches. The numbers above are NO MEASUREMENT; nothing was written.")
    return 1 if running.failures else 0


def chosen_tools(options, directory, data):
    wanted = options.tools.split(",") if options.tools else None
    tools = [kind(directory, data) for kind in [Treering, *PEERS] if wanted is None or kind.name in wanted]
    for tool in tools:
        if not tool.available():
            say(f"{tool.name} is not installed: left out")
    return [tool for tool in tools if tool.available()]


def chosen_groups(options):
    wanted = set(options.rows.split(","))
    unknown = wanted - set(GROUPS) - {row.key for row in ROWS}
    if unknown:
        sys.exit(f"scripts/bench: unknown rows: {', '.join(sorted(unknown))}")
    return [group for group in GROUPS
            if group in wanted or any(row.group == group and row.key in wanted for row in ROWS)]


def write(running, known):
    """Writes what is there after each group, so that a run that is cut off is not lost."""
    kept = report.merge(report.load(os.path.join(DOCS, "bench.json")), known, running.samples)
    report.write(kept, running.failures, DOCS)
    say(f"written: {DOCS}/bench.md")


def say(text):
    print(text, file=sys.stderr, flush=True)


sys.exit(main())
