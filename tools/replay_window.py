"""What the record holds of one handling, sorted by what it is good for in a replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.trace import Raised, Record
from tools.replay_record import RUNTIMES_OWN


class Said(msgspec.Struct):
    """One message that left the actor, as the record has it."""

    type: str
    value: Any
    at: float
    recipients: list[str]


class Window:
    """What the record holds of one handling (or of ``on_start``): results, answers, and what the actor said.

    ``delivery`` is the id of the message in hand, ``None`` for ``on_start``: which message, if any, was in hand then.
    """

    def __init__(self, actor: str, began: float, records: Sequence[Record], delivery: int | None = None) -> None:
        self.began = began
        self.delivery = delivery
        self.said: list[Said] = []
        self.jobs: list[Record] = []
        self.device: list[Record] = []
        self.answers: list[tuple[str, Record]] = []
        asked: dict[int, str] = {}
        from_device = False
        for record in records:
            mine = record.sender == actor
            if mine and record.kind in ("sent", "dropped"):
                own = record.recipient == actor
                # What it had said to itself for later may come due while something else is in hand.
                due = delivery is not None and record.cause != delivery
                if not (own and (due or from_device or record.type in RUNTIMES_OWN)):
                    self._note_said(record)
                asked[record.id] = record.type
            elif mine and record.kind == "job":
                self.jobs.append(record)
            elif mine and record.kind == "device" and not record.attempt:
                self.device.append(record)
            elif record.kind == "replied" and record.recipient == actor and record.id in asked:
                self.answers.append((asked[record.id], record))
            elif mine and record.kind == "failed" and _was_raised(record):
                self.answers.append((record.type, record))
            # What the actor's thread hands in at the end of a job is no word of the handler that happens to run.
            from_device = record.kind == "device" and bool(record.attempt)

    def _note_said(self, record: Record) -> None:
        if record.kind == "dropped" and record.body.value is None:
            return  # emptied out of a mailbox at a stop; its sending was noted before
        last = self.said[-1] if self.said else None
        if (
            last is not None
            and (last.type, last.value) == (record.type, record.body.value)
            and record.recipient not in last.recipients
        ):
            last.recipients.append(record.recipient)
        else:
            self.said.append(Said(record.type, record.body.value, record.at, [record.recipient]))


def _was_raised(record: Record) -> bool:
    return bool(record.body.type) and record.body.type == f"{Raised.__module__}:{Raised.__qualname__}"
