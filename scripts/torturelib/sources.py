"""What is backed up: an image and a tree, small, and changed in each round."""

import hashlib
import os

IMAGE_BYTES = 4 << 20
BLOCK_BYTES = 4096
FILES = 60


class Sources:
    def __init__(self, directory, draw):
        self.draw = draw
        self.image, self.tree = os.path.join(directory, "vm.img"), os.path.join(directory, "home")
        os.makedirs(self.tree)
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_BYTES)
        for number in range(FILES):
            self.write_file(number)
        self.change_image(IMAGE_BYTES // BLOCK_BYTES // 2)

    def path(self, stream):
        return {"vm": self.image, "home": self.tree}[stream]

    def change(self):
        self.change_image(self.draw.randrange(1, 100))
        for number in self.draw.sample(range(2 * FILES), 8):
            if self.draw.random() < 0.3 and os.path.exists(self.file(number)):
                os.remove(self.file(number))
            else:
                self.write_file(number)

    def change_image(self, blocks):
        with open(self.image, "r+b") as image:
            for _ in range(blocks):
                image.seek(self.draw.randrange(IMAGE_BYTES // BLOCK_BYTES) * BLOCK_BYTES)
                is_zero = self.draw.random() < 0.2
                image.write(bytes(BLOCK_BYTES) if is_zero else self.draw.randbytes(BLOCK_BYTES))

    def file(self, number):
        return os.path.join(self.tree, f"directory-{number % 7}", f"file-{number}")

    def write_file(self, number):
        path = self.file(number)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Small ones mostly, which share chunks, and some that are cut.
        size = self.draw.choice([0, 100, 3000, 3000, 20000, 150000])
        with open(path, "wb") as file:
            file.write(self.draw.randbytes(size))

    def digest(self, stream):
        """What the source is now."""
        return digest_of_image(self.image) if stream == "vm" else digest_of_tree(self.tree)


def digest_of_image(path):
    with open(path, "rb") as image:
        return hashlib.file_digest(image, "sha256").hexdigest()


def digest_of_tree(root):
    """Names, modes, times and bytes of all files and directories."""
    digest = hashlib.sha256()
    for path, directories, files in sorted(os.walk(root)):
        directories.sort()
        for name in ["", *sorted(files)]:
            entry = os.path.join(path, name)
            stat = os.lstat(entry)
            digest.update(repr((os.path.relpath(entry, root), stat.st_mode, stat.st_mtime_ns)).encode())
            if name:
                with open(entry, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
