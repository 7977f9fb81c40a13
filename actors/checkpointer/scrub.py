"""Where the scrub stands: what is still to be verified in this round, in which order, and what was found. Pure.

A round is over everything that HEAD names as it begins, and the snapshots. What is committed meanwhile was read back
as it was written, and belongs to the next round; what retention lets go of meanwhile is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from actors.checkpointer.head import HEAD_PATH, Head


class Thing(msgspec.Struct, frozen=True):
    """One thing to verify; ``digest`` is of its manifest as HEAD has it, ``""`` where HEAD does not speak of it."""

    kind: Literal["head", "generation", "delta", "snapshot"]
    path: str
    digest: str = ""


def things_of(head: Head | None, snapshots: Sequence[str]) -> tuple[Thing, ...]:
    """Everything, what would be missed most first."""
    if head is None:
        return tuple(Thing("snapshot", path) for path in snapshots)
    force = head.in_force
    others = [kept for kept in reversed(head.kept) if kept.path != force.path]
    needed = [delta for delta in head.deltas if delta.night in head.ledger]
    unneeded = [delta for delta in head.deltas if delta.night not in head.ledger]
    return (
        Thing("head", HEAD_PATH),
        Thing("generation", force.path, force.manifest),
        *(Thing("delta", delta.path, delta.digest) for delta in needed),
        *(Thing("generation", kept.path, kept.manifest) for kept in others),
        *(Thing("delta", delta.path, delta.digest) for delta in unneeded),
        *(Thing("snapshot", path) for path in snapshots),
    )


class Tally(msgspec.Struct, frozen=True):
    """What a round came to."""

    things: int = 0
    size_bytes: int = 0
    damaged: int = 0


class Scrub:
    """The place in the round. Times are of a clock that only goes forward, in seconds."""

    def __init__(self, round_every_seconds: float) -> None:
        self._round_every = round_every_seconds
        self._began: float | None = None
        self._left: list[Thing] = []
        self._current: Thing | None = None
        self._things = self._size_bytes = self._damaged = 0

    def under_way(self) -> bool:
        """Has a round begun that is not over?"""
        return self._current is not None or bool(self._left)

    def begin(self, things: Sequence[Thing], now: float) -> None:
        """A new round, over these."""
        self._began, self._left, self._current = now, list(things), None
        self._things = self._size_bytes = self._damaged = 0

    def next(self) -> Thing | None:
        """The thing in hand, or the next one; ``None`` when the round is over."""
        if self._current is None and self._left:
            self._current = self._left.pop(0)
        return self._current

    def read(self, size_bytes: int) -> None:
        """So much of the thing in hand was read."""
        self._size_bytes += size_bytes

    def passed_over(self) -> None:
        """The thing in hand is no longer there to be verified."""
        self._current = None

    def done(self, *, damaged: bool) -> None:
        """The thing in hand was verified to its end."""
        self._things += 1
        self._damaged += damaged
        self._current = None

    @property
    def next_at(self) -> float:
        """When the next round is due."""
        return 0.0 if self._began is None else self._began + self._round_every

    def seconds(self, now: float) -> float:
        """Since the round began."""
        return now - (now if self._began is None else self._began)

    @property
    def tally(self) -> Tally:
        """What the round has come to so far."""
        return Tally(self._things, self._size_bytes, self._damaged)
