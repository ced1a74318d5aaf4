"""What a row of the table is, and what it has to reach."""

from dataclasses import dataclass

TREERING = "treering"
CAT, B3SUM, CP, FILE, FIND, IDEAL = "cat", "b3sum", "cp", "file itself", "find", "b3sum + zstd -1"
ORIGINAL, SQUASHFUSE = "original", "squashfuse"


@dataclass(frozen=True)
class Target:
    """`against`: "peers" (the best of them), the name of a limit, or "" for a number in the row's unit. Treering's
    value has to be `factor` times better than the peers', within `factor` times a limit's, or at most `factor`."""

    against: str
    factor: float


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    group: str
    title: str
    unit: str
    targets: tuple = ()
    more_is_better: bool = False


def peers(factor):
    """So many times better than the best of the peers."""
    return Target("peers", factor)
