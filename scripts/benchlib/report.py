"""Keeps the samples in docs/bench.json and writes the table of medians, docs/bench.md."""

import json
import os
import platform
import statistics
import subprocess
import time

from .rows import ROWS
from .targets import TREERING
from .tools import PEERS, Squashfuse, Treering

LIMITS = ["cat", "b3sum", "b3sum + zstd -1", "cp", "find", "file itself", "original", "squashfuse"]


def facts(directory, tools, data, trees, runs):
    """What a reader has to know of the machine and the programs."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": first_line(["git", "describe", "--always", "--dirty"]),
        "cpu": processor(), "cores": os.cpu_count(), "memory_gib": round(memory_kib() / (1 << 20), 1),
        "kernel": platform.release(),
        "file system": first_line(["stat", "-f", "-c", "%T", directory]),
        "load at start": os.getloadavg()[0],
        "rustc": first_line(["rustc", "--version"]),
        "runs": runs, "data": data.facts(), "trees": trees.facts(),
        "versions": {tool.name: tool.version() for tool in tools},
    }


def first_line(command):
    """The first line that a command prints, or a question mark."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["?"])[0]


def processor():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "?")


def memory_kib():
    with open("/proc/meminfo") as file:
        return int(file.readline().split()[1])


def load(path):
    """The samples of earlier runs: rows that are not measured now stay as they were."""
    if not os.path.exists(path):
        return {"facts": {}, "rows": {}}
    with open(path) as file:
        return json.load(file)


def merge(kept, new_facts, samples):
    """Adds the rows of this run, each with the day and the commit that it was measured at."""
    stamp = {"date": new_facts["date"], "commit": new_facts["commit"]}
    kept["facts"] = new_facts
    for row, by_tool in samples.items():
        kept["rows"][row] = stamp | {"samples": by_tool}
    return kept


def render(kept, failures=()):
    """The page's text."""
    lines = ["# Measurements", "",
             "Written by `scripts/bench`; the samples are in `bench.json`. Do not edit: notes belong in "
             "`bench-notes.md`, which is appended.", ""]
    lines += machine(kept["facts"]) + table(kept["rows"]) + failed(failures)
    return "\n".join(lines) + "\n"


def machine(known):
    if not known:
        return []
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    data = known["data"]
    lines = [
        f"{known['cpu']}, {known['cores']} cores, {known['memory_gib']} GiB, Linux {known['kernel']}, "
        f"{known['file system']}, {known['rustc']}; load at the start {known['load at start']:.2f}.",
        f"Data: {data['image']}; the next day: {data['changes']}; the wide image: {data['wide']}. "
        f"Trees: {known.get('trees', 'not measured')}.",
        f"Medians of {known['runs']} runs, tools in alternation (of walks through small files that take more than a minute, "
        "one run). Cold: the kernel's caches dropped, free "
        "memory touched (a virtual machine's host may have taken it back), and a mount of its own for every reading "
        "row. Reading rows of images count the bytes of data alone.",
        "", f"Programs: {versions}. How they are called:", ""]
    return lines + [f"- {tool.name}: {tool.remark}" for tool in [Treering, *PEERS, Squashfuse]] + [""]


def table(rows):
    """A line per row: ours, each peer's, the limits, and whether the target is met."""
    measured = [row for row in ROWS if row.key in rows]
    names = [peer.name for peer in PEERS if any(peer.name in rows[row.key]["samples"] for row in measured)]
    head = ["work", "unit", "**treering**", *names, "limits", "against the best peer", "target"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in measured:
        medians = {tool: statistics.median(values) for tool, values in rows[row.key]["samples"].items()}
        lines.append("| " + " | ".join(cells(row, medians, names)) + " |")
    commits = {(entry["date"], entry["commit"]) for entry in rows.values()}
    stamps = ", ".join(f"{commit} on {date}" for date, commit in sorted(commits))
    return [*lines, "", f"Measured at {stamps}.", ""]


def cells(row, medians, peers):
    ours = medians.get(TREERING)
    limits = ", ".join(f"{name} {number(medians[name])}" for name in LIMITS if name in medians)
    best = best_peer(row, medians, peers)
    against = f"{advantage(row, ours, best):.2f}x" if ours and best else ""
    return [row.title, row.unit, f"**{number(ours)}**" if ours is not None else "", *(number(medians.get(peer)) for peer in peers),
            limits, against, verdicts(row, ours, best, medians)]


def number(value):
    """Three digits that matter."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def best_peer(row, medians, peers):
    values = [medians[peer] for peer in peers if peer in medians]
    return (max if row.more_is_better else min)(values) if values else None


def advantage(row, ours, other):
    """How many times better ours is."""
    return ours / other if row.more_is_better else other / ours


def verdicts(row, ours, best, medians):
    return "; ".join(verdict(row, target, ours, best, medians) for target in row.targets)


def verdict(row, target, ours, best, medians):
    """The target in words, and whether it is met."""
    if target.against == "peers":
        other, words, needed = best, f"{target.factor:g}x the best peer", target.factor
    elif target.against == "":
        words = f"{target.factor:g} {row.unit}"
        return f"{words}: {met(ours is not None and ours <= target.factor, ours)}"
    else:
        other = medians.get(target.against)
        words = f"{target.factor:g}x {target.against}"
        needed = target.factor if row.more_is_better else 1 / target.factor
    if ours is None or other is None:
        return f"{words}: not measured"
    return f"{words}: {met(advantage(row, ours, other) >= needed, ours)}"


def met(is_met, ours):
    if ours is None:
        return "not measured"
    return "met" if is_met else "**missed**"


def failed(failures):
    if not failures:
        return []
    return ["What failed, and is therefore missing above:", "",
            *("- `" + " ".join(text.split()) + "`" for text in failures), ""]


def write(kept, failures, docs):
    """Writes both files; the hand-written notes follow the table."""
    with open(os.path.join(docs, "bench.json"), "w") as file:
        json.dump(kept, file, indent=1)
        file.write("\n")
    notes = os.path.join(docs, "bench-notes.md")
    text = render(kept, failures)
    if os.path.exists(notes):
        with open(notes) as file:
            text += "\n" + file.read()
    with open(os.path.join(docs, "bench.md"), "w") as file:
        file.write(text)
