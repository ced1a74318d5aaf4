"""The command line and the rounds of scripts/torture."""

import argparse
import collections
import os
import random
import shutil
import sys
import tempfile
import time

from .operations import OPERATIONS, Running
from .program import Failed, Program
from .sources import Sources
from .truth import Truth

ROUNDS = 300
# A repository is used for so many rounds: looking at all its revisions takes longer each round.
ROUNDS_PER_REPOSITORY = 12
# From the quickest operation's time to that of the slowest one on a busy disk.
KILL_WITHIN_SECONDS = [0.02, 0.08, 0.3]


def main():
    options = parse()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"torture: seed {seed}, {options.rounds} rounds", flush=True)
    parent = options.dir or os.environ.get("TMPDIR", "/var/tmp")
    directory = tempfile.mkdtemp(prefix="treering-torture.", dir=parent)
    torture = Torture(directory, random.Random(seed), options.seconds)
    try:
        torture.play(options.rounds)
    except Failed as failure:
        print(f"torture: FAILED in round {torture.round}: {failure}", file=sys.stderr)
        print(f"torture: what was made is kept in {directory}", file=sys.stderr)
        print(f"torture: again: scripts/torture --seed {seed} --rounds {options.rounds}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        torture.clean_up()
        return 130
    torture.clean_up()
    torture.report()
    return 0


def parse():
    parser = argparse.ArgumentParser(prog="scripts/torture", description="Kills treering again and again.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how many rounds (default: {ROUNDS})")
    parser.add_argument("--seconds", type=float, help="begin no round after this time")
    parser.add_argument("--seed", type=int, help="where the draws begin (default: drawn, and printed)")
    parser.add_argument("--dir", help="where to work (default: TMPDIR, or /var/tmp)")
    return parser.parse_args()


class Torture:
    """A repository after the other, and what happens to them."""

    def __init__(self, directory, draw, seconds):
        self.directory, self.draw = directory, draw
        self.end = time.monotonic() + seconds if seconds else float("inf")
        self.round = 0
        self.ended = collections.Counter()
        self.verified = 0
        self.sources = Sources(os.path.join(directory, "sources"), draw)
        self.program = self.truth = None

    def clean_up(self):
        shutil.rmtree(self.directory)

    def play(self, rounds):
        for self.round in range(1, rounds + 1):
            if time.monotonic() > self.end:
                print(f"torture: time is up after {self.round - 1} rounds")
                return
            if (self.round - 1) % ROUNDS_PER_REPOSITORY == 0:
                self.begin_repository()
            self.play_round()

    def begin_repository(self):
        for name in ["repository", "copy"]:
            shutil.rmtree(os.path.join(self.directory, name), ignore_errors=True)
        self.program = Program(self.directory)
        self.truth = Truth(self.program, self.sources)
        for stream in ["vm", "home"]:
            self.truth.back_up(stream)

    def play_round(self):
        self.sources.change()
        offered = [operation for operation in OPERATIONS if operation.command in self.program.commands]
        # Two at once now and then.
        count = self.draw.choice([1, 1, 1, 2])
        # Backups have most moments at which they can be killed.
        weights = [3 if operation.stream else 1 for operation in offered]
        running = [Running(operation, self) for operation in self.draw.choices(offered, weights, k=count)]
        self.end_all(running)
        self.truth.verify(running)
        self.truth.back_up(self.draw.choice(["vm", "home"]))
        self.verified += len(self.truth.revisions)

    def end_all(self, running):
        """Kills what runs at a random moment, or lets it come to its end."""
        if self.draw.random() < 0.8:
            time.sleep(self.draw.choice(KILL_WITHIN_SECONDS) * self.draw.random())
            for operation in running:
                operation.kill()
        for operation in running:
            self.ended[operation.wait(is_alone=len(running) == 1)] += 1

    def report(self):
        for (name, end), count in sorted(self.ended.items()):
            print(f"  {name:16} {end:10} {count:5}")
        print(f"torture: all is well: {self.verified} times a revision was restored and was what it should be")


sys.exit(main())
