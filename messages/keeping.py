"""What is kept on purpose, and what was let go of because its owner asked for a bound."""

from __future__ import annotations

from messages.message import Message, Question


class PinSet(Message, frozen=True):
    """``target`` (a ``kind``: generation, night or snapshot) is pinned from now on, or no longer.

    ``was`` is how it stood before; said to all only when it changed.
    """

    target: str
    kind: str
    pinned: bool
    was: bool


class PinRefused(Message, frozen=True):
    """Nothing was changed: ``target`` is not kept, it is not sound, or the disk refused."""

    target: str
    code: str
    why: str
    hint: str


class PinWanted(Question[PinSet | PinRefused], frozen=True):
    """Keep ``target`` whatever the bounds say, or with ``pinned`` false leave it to them again.

    ``target`` is a generation's number, a night's name or a snapshot's date.
    """

    target: str
    pinned: bool


class TrainedFilesDeleted(Message, frozen=True):
    """The oldest files in ``trained/`` went, each with its receipt, for the config bounds them.

    ``names`` are those under ``trained/``; ``stuck`` would not go and are tried again.
    """

    names: tuple[str, ...]
    size_bytes: int
    stuck: tuple[str, ...] = ()
