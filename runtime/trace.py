"""What was said, by whom, because of what: one record per edge, always on, in a bounded ring.

Kinds: ``sent`` (put into a mailbox), ``begun`` and ``done`` (a handler took it up, ended), ``crashed``, ``dead``
(became a dead letter), ``dropped`` (left over at a stop), ``replied`` and ``failed`` (an ask's end), ``job`` (a
blocking job's result), ``device`` (a device job's result), ``started`` and ``stopped`` (an incarnation), ``clock``
(what the wall clock showed: at the start, when it was set or changed to summer time, and now and then). A job or ask
that raised has a ``Raised`` for its body. From these a causal tree, a chart or a replay is derived; no second path
exists that could disagree.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from datetime import date, time, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal

import msgspec

Kind = Literal[
    "sent",
    "begun",
    "done",
    "crashed",
    "dead",
    "dropped",
    "replied",
    "failed",
    "job",
    "device",
    "started",
    "stopped",
    "clock",
]

KEPT_BYTES = 16_384
"""The largest job result that a record keeps."""


class Record(msgspec.Struct, array_like=True):
    """One edge. ``at`` is monotonic seconds, ``id``/``cause`` are delivery ids, ``body`` the message or result."""

    number: int
    at: float
    kind: Kind
    id: int
    cause: int
    sender: str
    recipient: str
    type: str
    attempt: int
    depth: int
    body: Any = None


class Raised(msgspec.Struct, frozen=True):
    """What a job or an ask raised: ``kind`` is ``module:Class``, ``fields`` the plain attributes it carried."""

    kind: str
    args: tuple[Any, ...]
    fields: dict[str, Any]


class Trace:
    """The ring. ``since`` lets a reader (the status writer, a test's hash) follow it without slowing anyone."""

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._ring: deque[Record] = deque(maxlen=capacity)
        self.count = 0

    def add(
        self,
        at: float,
        kind: Kind,
        id: int,  # noqa: A002 - the field's name everywhere else
        cause: int,
        sender: str,
        recipient: str,
        type_name: str,
        attempt: int = 0,
        depth: int = 0,
        body: Any = None,
    ) -> None:
        """Append one record."""
        self.count += 1
        self._ring.append(Record(self.count, at, kind, id, cause, sender, recipient, type_name, attempt, depth, body))

    def since(self, number: int) -> list[Record]:
        """Records after ``number`` that the ring still holds, oldest first."""
        fresh: list[Record] = []
        for record in reversed(self._ring):
            if record.number <= number:
                break
            fresh.append(record)
        fresh.reverse()
        return fresh

    def cause_chain(self, delivery: int, limit: int = 20) -> tuple[str, ...]:
        """From a delivery back to what began it, as ``Type from sender to recipient``."""
        chain: list[str] = []
        # A cause is always older than its effect, so one walk back through the ring meets the whole chain.
        for record in reversed(self._ring):
            if delivery == 0 or len(chain) == limit:
                break
            if record.kind == "sent" and record.id < delivery:
                break  # ids are given in the order of sending: what is sought is no longer in the ring
            if record.kind == "sent" and record.id == delivery:
                chain.append(f"{record.type} from {record.sender} to {record.recipient}")
                delivery = record.cause
        return tuple(chain)


def kept(result: Any) -> Any:
    """What the ring keeps of a job's result: the thing itself while it is small plain data, else a word about it.

    The ring holds tens of thousands of records; a job that reads an adapter must not live in each of them. What may
    change is copied, for the actor that got it may go on to change it.
    """
    if _weight(result) > KEPT_BYTES:
        return f"{type(result).__name__}, not kept"
    changes = isinstance(result, dict | list | set | bytearray) or (
        isinstance(result, msgspec.Struct) and not result.__struct_config__.frozen
    )
    return copy.deepcopy(result) if changes else result


def raised(error: Exception) -> Raised:
    """An exception as plain data, without its notes and traceback, which are long and hold what was in the frames."""
    args = (error.errno, error.strerror, error.filename) if isinstance(error, OSError) and error.errno else error.args
    fields = {name: value for name, value in vars(error).items() if name != "__notes__"}
    return Raised(
        f"{type(error).__module__}:{type(error).__qualname__}",
        tuple(kept(each) for each in args),
        {name: kept(value) for name, value in fields.items()},
    )


def _weight(value: Any) -> float:
    match value:
        case None | bool() | int() | float():
            return 8
        case str() | bytes() | bytearray():
            return len(value)
        case list() | tuple() | set() | frozenset():
            return 8 + sum(_weight(item) for item in value)
        case dict():
            return 8 + sum(_weight(key) + _weight(item) for key, item in value.items())
        case msgspec.Struct():
            return 8 + sum(_weight(getattr(value, name)) for name in value.__struct_fields__)
        case date() | time() | timedelta() | PurePath() | Enum():
            return 64
        case _:
            return math.inf  # a live object could change, or hold anything at all
