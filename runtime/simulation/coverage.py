"""What a campaign has tried: where in the disk's work the power went, and which messages met in which order."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from messages import Message
from runtime import durable
from runtime.actor import Tick

_DIGITS = re.compile(r"\d+")


def plain(path: str) -> str:
    """A path without what differs from one universe to the next: numbers, dates, and hashes in hidden names."""
    return _DIGITS.sub("N", durable.HIDDEN.sub(r".*.\2", path))


class CrashPoints(msgspec.Struct):
    """Points of the disk's work, such as ``rename state/HEAD``: those passed, and those at which everything ended."""

    passed: set[str] = msgspec.field(default_factory=set)
    reached: set[str] = msgspec.field(default_factory=set)

    def add(self, other: CrashPoints) -> None:
        """Join another universe's."""
        self.passed |= other.passed
        self.reached |= other.reached

    @property
    def unreached(self) -> list[str]:
        """Where nothing ever ended, sorted."""
        return sorted(self.passed - self.reached)

    def __str__(self) -> str:
        return f"{len(self.reached)} of {len(self.passed)} crash points reached"


class Orders(msgspec.Struct):
    """Which message was handled right before which, at each actor: ``(actor, earlier, later)``."""

    seen: set[tuple[str, str, str]] = msgspec.field(default_factory=set)

    def add(self, other: Orders) -> None:
        """Join another universe's."""
        self.seen |= other.seen

    def pairs(self) -> tuple[list[str], list[str]]:
        """Pairs seen in both orders, and those seen in one; as sentences, sorted."""
        both: list[str] = []
        single: list[str] = []
        for actor, earlier, later in sorted(self.seen):
            if (actor, later, earlier) not in self.seen:
                single.append(f"{actor}: {earlier} right before {later}, never right after")
            elif earlier < later:
                both.append(f"{actor}: {earlier} and {later}")
        return both, single

    def __str__(self) -> str:
        both, single = self.pairs()
        return f"{len(both)} of {len(both) + len(single)} pairs in both orders"


@lru_cache(maxsize=1024)
def _tick(timer: str) -> str:
    return f"@{timer}"


def name_of(message: Message) -> str:
    """How a message is called in an order: its type; a timer's tick by its method."""
    return _tick(message.timer) if type(message) is Tick else type(message).__name__
