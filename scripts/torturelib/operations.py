"""What can be done to a repository, and ended at any moment."""

import json
import os
import re

from .program import Failed, kill, wait

# What an operation may say that another one was in the way of; alone, it must succeed.
IN_THE_WAY = re.compile(r"is in use|busy|another|is not there|no such|has no revision|no revision|forgotten|protected")


class Operation:
    """One kind of operation. `arguments` draws what it is called with; `stream` says what it backs up."""

    def __init__(self, command, arguments, stream=None, name=None):
        self.command, self.arguments, self.stream = command, arguments, stream
        self.name = name or command


def backup_of(stream):
    def arguments(torture):
        options = [[], ["--wait"], ["--tag", "killed"], ["--force-read"]]
        return ["backup", torture.sources.path(stream), stream, "--json", *torture.draw.choice(options)]
    return arguments


def any_revision(torture):
    revisions = torture.truth.revisions
    revision = torture.draw.choice(sorted(revisions))
    return revision, f"{revisions[revision][0]}@id:{revision}"


def tag(torture):
    return ["tag", any_revision(torture)[1], torture.draw.choice(["--add", "--remove"]), "daily"]


def protection(command):
    return lambda torture: [command, any_revision(torture)[1]]


def forget(torture):
    """A revision that is not protected, and not the newest."""
    listed = torture.truth.list()
    newest = {revision["stream"]: revision["id"] for revision in listed}
    free = [revision for revision in listed
            if not revision["protected"] and revision["id"] not in newest.values()]
    if not free:
        return None
    revision = torture.draw.choice(free)
    return ["forget", f"{revision['stream']}@id:{revision['id']}"]


def copy(torture):
    target = os.path.join(torture.directory, "copy")
    if not os.path.exists(target):
        torture.program.run(["init", target, "--chunk-size", "4K"], repository=None)
    return ["copy", "--all", "--to", target]


OPERATIONS = [
    Operation("backup", backup_of("vm"), "vm", name="backup of image"),
    Operation("backup", backup_of("home"), "home", name="backup of tree"),
    Operation("tag", tag),
    Operation("protect", protection("protect")),
    Operation("unprotect", protection("unprotect")),
    Operation("scrub", lambda torture: ["scrub"]),
    Operation("forget", forget),
    Operation("gc", lambda torture: ["gc"]),
    Operation("check", lambda torture: ["check", "--repair"]),
    Operation("copy", copy),
]


class Running:
    """An operation that was started."""

    def __init__(self, operation, torture):
        self.name, self.stream = operation.name, operation.stream
        self.digest = torture.sources.digest(self.stream) if self.stream else None
        self.arguments = operation.arguments(torture)
        self.forgets = self.arguments[1].split("@id:")[1] if self.arguments and operation.command == "forget" else None
        self.copies = set(torture.truth.revisions) if operation.command == "copy" else set()
        # The revision that it told to be stored.
        self.made = None
        self.is_killed = self.is_done = False
        self.process = torture.program.start(self.arguments) if self.arguments else None

    def kill(self):
        if self.process and self.process.poll() is None:
            self.is_killed = True
            kill(self.process)

    def wait(self, is_alone):
        """Waits for its end, and returns its name and how it ended."""
        if not self.process:
            return self.name, "not tried"
        output, errors = wait(self.process, self.arguments)
        code = self.process.returncode
        if code == 0:
            self.is_done = True
            self.made = json.loads(output)["id"] if self.stream else None
            return self.name, "done"
        if code < 0 and self.is_killed:
            return self.name, "killed"
        if code == 1 and not is_alone and IN_THE_WAY.search(errors):
            return self.name, "in the way"
        raise Failed(f"exit {code} of {' '.join(self.arguments)}: {errors}{output}")
