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
import itertools
import math
from collections.abc import Iterable
from datetime import date, time, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal

import msgspec

from runtime.hot.envelope import Envelope, Reply, Turn
from runtime.hot.ring import Ring

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
    """One edge. ``at`` is monotonic seconds, ``id`` and ``cause`` are delivery ids, ``body`` the message or result.

    ``depth`` is how many waited in the receiver's lane when the message was sent.
    """

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
    """The ring. ``since`` lets a reader (the status writer, a test's hash) follow it without slowing anyone.

    What it holds: an ``Envelope`` is the edge ``sent``, a ``Turn`` one or two of ``done`` and ``begun``, a ``Reply``
    the edge ``replied``, a ``Record`` everything else. Making a record of each edge would cost more than sending the
    message does, so that is left to whoever reads.
    """

    __slots__ = ("ring",)

    def __init__(self, capacity: int = 1 << 14) -> None:
        self.ring = Ring(capacity)

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
        ring = self.ring
        ring.entries.append(Record(0, at, kind, id, cause, sender, recipient, type_name, attempt, depth, body))
        if len(ring.entries) > ring.most:
            ring.trim()

    @property
    def count(self) -> int:
        """How many records there were, ever: the number of the newest."""
        ring = self.ring
        return ring.let_go + len(ring.entries) + ring.doubles

    def since(self, number: int) -> list[Record]:
        """Records after ``number`` that the ring still holds, oldest first."""
        self.ring.trim()
        fresh: list[Record] = []
        at = self.count
        # Backwards, for only the last number is known: what is new is at the end.
        for entry in reversed(self.ring.entries):
            if at <= number:
                break
            for record in reversed(_expanded(entry)):
                if at > number:
                    record.number = at
                    fresh.append(record)
                at -= 1
        fresh.reverse()
        return fresh

    def deliveries(self) -> list[Envelope]:
        """Those whose sending the ring still holds, oldest first."""
        return [entry for entry in self.ring.entries if isinstance(entry, Envelope)]

    def cause_chain(self, delivery: int, limit: int = 20) -> tuple[str, ...]:
        """From a delivery back to what began it, as ``Type from sender to recipient``."""
        chain: list[str] = []
        # A cause is always older than its effect, so one walk back through the ring meets the whole chain.
        for entry in reversed(self.ring.entries):
            if delivery == 0 or len(chain) == limit:
                break
            if not isinstance(entry, Envelope):
                continue
            if entry.id < delivery:
                break  # ids are given in the order of sending: what is sought is no longer in the ring
            if entry.id == delivery:
                chain.append(f"{type(entry.message).__name__} from {entry.sender} to {entry.recipient}")
                delivery = entry.cause
        return tuple(chain)


def _expanded(entry: object) -> tuple[Record, ...]:
    """The edges of an entry, in order, not numbered yet."""
    match entry:
        case Record():
            return (entry,)
        case Envelope():
            return (_edge(entry.sent_at, "sent", entry, entry.depth, entry.message),)
        case Turn(at=at, done=done, begun=begun):
            done_edge = () if done is None else (_edge(at, "done", done),)
            return done_edge if begun is None else (*done_edge, _edge(at, "begun", begun))
        case Reply(at=at, asked=asked, answer=answer):
            kind = type(answer).__name__
            return (Record(0, at, "replied", asked.id, asked.id, asked.recipient, asked.sender, kind, 0, 0, answer),)
    raise AssertionError(f"no entry of a trace: {entry!r}")


def _edge(at: float, kind: Kind, envelope: Envelope, depth: int = 0, body: Any = None) -> Record:
    kind_of_message = type(envelope.message).__name__
    return Record(
        0, at, kind, envelope.id, envelope.cause, envelope.sender, envelope.recipient, kind_of_message, 0, depth, body
    )  # fmt: skip


def kept(result: Any) -> Any:
    """What the ring keeps of a job's result: the thing itself while it is small plain data, else a word about it.

    The ring holds tens of thousands of records; a job that reads an adapter must not live in each of them. What may
    change is copied, for the actor that got it may go on to change it.
    """
    if _room_left(result, KEPT_BYTES) < 0:
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


_SMALL = frozenset({type(None), bool, int, float})


def _room_left(value: Any, room: float) -> float:
    """``room`` less what the value weighs in bytes, roughly; negative as soon as it is too much, however much more."""
    kind = type(value)
    if kind in _SMALL:  # most of what there is, and told at once
        return room - 8
    if kind is str:
        return room - len(value)
    parts: Iterable[Any]
    match value:
        case msgspec.Struct():
            parts = (getattr(value, name) for name in value.__struct_fields__)
        case list() | tuple() | set() | frozenset():
            parts = value
        case dict():
            parts = itertools.chain(value, value.values())
        case int() | float():
            return room - 8
        case str() | bytes() | bytearray():
            return room - len(value)
        case date() | time() | timedelta() | PurePath() | Enum():
            return room - 64
        case _:
            return -math.inf  # a live object could change, or hold anything at all
    room -= 8
    for part in parts:
        if room < 0:
            break
        room = _room_left(part, room)
    return room
