"""An image day by day: a copy of the first day's image, of which a little is written anew each day."""

import os
import shutil

from .data import SEED, scatter
from .measure import MIB, run


class History:
    """The data below one directory. It looks to the tools as `Data` does: `live` is what they back up, `image` the image
    in it."""

    def __init__(self, directory, data):
        self.data = data
        self.plan = data.plan
        self.live = os.path.join(directory, "live")
        self.image = os.path.join(self.live, "vm.img")
        # A quick run only tries the script.
        self.days = 50 if self.plan.image_mib >= 1024 else 10
        self.changed_mib = max(1, self.plan.image_mib // 1024)

    def begin(self):
        """Puts the first day's image there."""
        self.data.use_day(1)
        shutil.rmtree(self.live, ignore_errors=True)
        os.makedirs(self.live)
        run(["cp", "--sparse=always", "--reflink=auto", self.data.image, self.image])

    def pass_day(self, day):
        """Changes the image as a day does."""
        scatter(self.image, self.changed_mib * MIB, SEED + 1000 + day)
        os.sync()
