"""Disk space: forecasts, grants, alarms, and the reserve for when nothing is left."""

from __future__ import annotations

from messages.message import Message, Question


class SpaceGranted(Message, frozen=True):
    """There is room for what was asked and for the minimum. ``needed_bytes``: what it is forecast to write."""

    free_bytes: int
    needed_bytes: int = 0


class SpaceRefused(Message, frozen=True):
    """It would not fit: it is granted once ``missing_bytes`` more are free."""

    free_bytes: int
    needed_bytes: int
    missing_bytes: int


class SpaceNeeded(Question[SpaceGranted | SpaceRefused], frozen=True):
    """May ``purpose`` be begun? The DiskGuard forecasts what a ``batch`` or a ``night`` writes, and knows what a spent
    ``reserve`` is owed; for anything else, ``need_bytes`` says it.
    """

    purpose: str
    need_bytes: int = 0


class DiskMeasured(Message, frozen=True):
    """Space that may be used, and what is needed.

    Attributes:
        free_bytes: what the file system has, less what a spent reserve is owed.
        needed_bytes, ok: of the next batch, with the minimum that must stay free; does it fit?
        batch_bytes, night_bytes: what the next of each is forecast to write at its peak.
        reserve_bytes: what lies in the reserve; 0 once it is released.
        low: does the alarm stand?
    """

    free_bytes: int
    needed_bytes: int
    ok: bool
    batch_bytes: int = 0
    night_bytes: int = 0
    reserve_bytes: int = 0
    low: bool = False


class DiskRunningLow(Message, frozen=True):
    """Less is free than must be: prune, and learn nothing that cannot be kept. ``again``: so often told before."""

    free_bytes: int
    free_bytes_min: int
    again: int = 0


class DiskRecovered(Message, frozen=True):
    """There is room again."""

    free_bytes: int


class ReserveMade(Message, frozen=True):
    """``state/RESERVE`` holds so many bytes for a full disk."""

    size_bytes: int


class ReserveReleased(Message, frozen=True):
    """The reserve was deleted, so that status and HEAD can still be written; ``why`` is for people."""

    size_bytes: int
    why: str
