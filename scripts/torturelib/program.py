"""Starts treering, and reads what it says."""

import json
import os
import re
import signal
import subprocess

# Nothing here takes longer than seconds: what does, hangs.
HANGS_AFTER_SECONDS = 120


class Failed(Exception):
    """Something that must not be."""


class Program:
    """The program, on one repository."""

    def __init__(self, directory):
        self.path = os.environ["TREERING"]
        self.directory = directory
        self.repository = os.path.join(directory, "repository")
        # Ids of revisions that are to be forgotten are found in lists, so all that is needed is in --json.
        self.commands = set(re.findall(r"^  ([a-z]+) ", self.run(["--help"], repository=None), re.MULTILINE))
        self.run(["init", self.repository, "--chunk-size", "4K"], repository=None)

    def start(self, arguments, repository=""):
        """Starts a command in a group of processes of its own, to kill them all."""
        place = [] if repository is None else ["--repository", repository or self.repository]
        return subprocess.Popen([self.path, *place, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, start_new_session=True)

    def run(self, arguments, repository=""):
        """Runs a command that must succeed, and returns what it prints."""
        process = self.start(arguments, repository)
        output, errors = wait(process, arguments)
        if process.returncode != 0:
            raise Failed(f"exit {process.returncode} of {' '.join(arguments)}: {errors}{output}")
        return output

    def json(self, arguments, repository=""):
        return json.loads(self.run([*arguments, "--json"], repository))


def wait(process, arguments):
    try:
        output, errors = process.communicate(timeout=HANGS_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        process.communicate()
        raise Failed(f"{' '.join(arguments)} hangs") from None
    except KeyboardInterrupt:
        kill(process)
        raise
    return output.decode(), errors.decode()


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        # It has come to its end.
        pass
