"""Disk space: forecasts, grants and alarms."""

from __future__ import annotations

from messages.message import Message, Question


class SpaceGranted(Message, frozen=True):
    """There is room for what was asked and for the reserve."""

    free_bytes: int


class SpaceRefused(Message, frozen=True):
    """It would not fit: ``missing_bytes`` more are needed."""

    free_bytes: int
    needed_bytes: int
    missing_bytes: int


class SpaceNeeded(Question[SpaceGranted | SpaceRefused], frozen=True):
    """May ``purpose`` (``batch`` or ``night``) write about this many bytes? ``0``: forecast it from what was seen."""

    purpose: str
    need_bytes: int = 0


class DiskMeasured(Message, frozen=True):
    """Free space, and what the next batch or night is forecast to need."""

    free_bytes: int
    needed_bytes: int
    ok: bool


class DiskRunningLow(Message, frozen=True):
    """Less is free than must be; owners should prune."""

    free_bytes: int
    free_bytes_min: int


class DiskRecovered(Message, frozen=True):
    """There is room again."""

    free_bytes: int
