"""What was said, by whom, because of what: one record per edge, always on, in a bounded ring.

Kinds: ``sent`` (put into a mailbox), ``begun`` and ``done`` (a handler took it up, ended), ``crashed``, ``dead``
(became a dead letter), ``dropped`` (left over at a stop), ``replied`` and ``failed`` (an ask's end), ``job`` (a
blocking job's result), ``device`` (an awaited device job's result), ``started`` and ``stopped`` (an incarnation). From
these a causal tree, a chart or a replay is derived; no second path exists that could disagree.
"""

from __future__ import annotations

from collections import deque
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
]


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
        sent = {record.id: record for record in self._ring if record.kind == "sent"}
        chain: list[str] = []
        while delivery in sent and len(chain) < limit:
            record = sent[delivery]
            chain.append(f"{record.type} from {record.sender} to {record.recipient}")
            delivery = record.cause
        return tuple(chain)
