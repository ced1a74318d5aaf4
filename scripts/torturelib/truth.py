"""What must be in the repository."""

import os
import tempfile

from .program import Failed
from .sources import digest_of_image, digest_of_tree

# Where restored copies are looked at: in memory where there is one, as a restore has its target synced.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


class Truth:
    """The revisions that were told to be stored, by their ids, and the digests of what they were made from."""

    def __init__(self, program, sources):
        self.program, self.sources = program, sources
        self.revisions = {}
        # Stream and sequence, and stream and name, of all that were ever there: given once.
        self.given = set()

    def back_up(self, stream):
        """A backup that nobody disturbs, and that must work."""
        made = self.program.json(["backup", self.sources.path(stream), stream])
        self.add(self.listed(made["id"]), self.sources.digest(stream))
        self.verify_revision(self.program.repository, made["id"])

    def add(self, revision, digest):
        stream = revision["stream"]
        for what in ["sequence", "name"]:
            place = (stream, what, revision[what])
            if place in self.given:
                raise Failed(f"{stream}: the {what} {revision[what]} was given twice")
            self.given.add(place)
        self.revisions[revision["id"]] = (stream, digest)

    def list(self, repository=""):
        return self.program.json(["list"], repository)["revisions"]

    def listed(self, revision):
        found = [listed for listed in self.list() if listed["id"] == revision]
        if not found:
            raise Failed(f"revision {revision} was told to be stored, and is not listed")
        return found[0]

    def verify(self, ended):
        """After operations were ended: all that stands is there and is what it was."""
        listed = {revision["id"]: revision for revision in self.list()}
        for revision in [revision for revision in listed if revision not in self.revisions]:
            self.take_on(listed[revision], ended)
        self.look_for_lost(listed, ended)
        for revision in self.revisions:
            self.verify_revision(self.program.repository, revision)
        self.program.run(["scrub"])
        self.verify_copy(ended)

    def look_for_lost(self, listed, ended):
        may_be_gone = {operation.forgets for operation in ended}
        for revision in [revision for revision in self.revisions if revision not in listed]:
            if revision not in may_be_gone:
                raise Failed(f"revision {revision} of {self.revisions[revision][0]} is lost")
            del self.revisions[revision]
        for operation in ended:
            if operation.made and operation.made not in listed:
                raise Failed(f"revision {operation.made} was told to be stored, and is not listed")
            if operation.is_done and operation.forgets in listed:
                raise Failed(f"revision {operation.forgets} was told to be forgotten, and is listed")

    def take_on(self, revision, ended):
        """A revision of a backup that was killed: it must be whole, so it is one of those from now on."""
        digests = [operation.digest for operation in ended if operation.stream == revision["stream"]]
        if not digests:
            raise Failed(f"nobody made revision {revision['id']} of {revision['stream']}")
        self.add(revision, digests[0])

    def verify_revision(self, repository, revision):
        stream, digest = self.revisions[revision]
        with tempfile.TemporaryDirectory(dir=MEMORY, prefix="treering-torture.") as directory:
            target = os.path.join(directory, "restored")
            self.program.run(["restore", f"{stream}@id:{revision}", target], repository)
            restored = digest_of_image(target) if stream == "vm" else digest_of_tree(target)
        if restored != digest:
            raise Failed(f"revision {revision} of {stream} in {repository} is not what it was made from")

    def verify_copy(self, ended):
        """What a copy holds is what was copied; after one that came to its end it holds all that there was."""
        copy = os.path.join(self.program.directory, "copy")
        if not os.path.exists(copy):
            return
        there = {revision["id"] for revision in self.list(copy)}
        for operation in [operation for operation in ended if operation.is_done]:
            for revision in operation.copies & set(self.revisions) - there:
                raise Failed(f"revision {revision} was told to be copied, and is not in {copy}")
        for revision in there & set(self.revisions):
            self.verify_revision(copy, revision)
        self.program.run(["scrub"], copy)
