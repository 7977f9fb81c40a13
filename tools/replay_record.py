"""What the trace holds of an actor's incarnations: the material of a replay.

An incarnation is recorded whole if nothing is missing from before its ``on_start`` to the place where its record ends:
its own end, a kill, or a gap. What stands behind a gap is never used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from runtime import trace_files
from runtime.trace import Record
from tools.trace_views.recorded import Run

RUNTIMES_OWN = ("Tick", "Stop", "DeviceRaised")
"""What the runtime puts into an actor's mailbox in the actor's own name."""

End = Literal["stopped", "crashed", "cut off", "gap"]


class Handling(msgspec.Struct):
    """One message in hand, as recorded. ``end``: ``done``, ``crashed`` with its ``crash`` line, or ``""``: neither."""

    begun: Record
    message: trace_files.Body | None
    records: list[Record]
    end: str = ""
    crash: str = ""
    answer: Record | None = None


class Incarnation(msgspec.Struct):
    """What is recorded of one instance.

    Attributes:
        crash: what ``on_start`` raised; ``""`` if it returned.
        end: how its record ends; ``cut off``: with the run's last flush.
        later: what came of ``post_later``, by the delivery in whose handling it was said (0: ``on_start``).
        from_thread: how many results of ``on_device`` came, by the delivery in whose handling the job was given.
    """

    actor: str
    run: Run
    number: int
    began: float
    ended: float
    on_start: list[Record]
    handlings: list[Handling]
    crash: str = ""
    end: End = "stopped"
    later: dict[int, list[Record]] = {}
    from_thread: dict[int, int] = {}


class Missing(msgspec.Struct):
    """An incarnation that cannot be replayed, and why."""

    run: Run
    number: int
    why: str


def incarnations(run: Run, actor: str) -> list[Incarnation | Missing]:
    """Every incarnation of ``actor`` of which the run knows, oldest first."""
    records = run.records
    found: list[Incarnation | Missing] = []
    begin, whole = 0, run.whole
    ends = [n for n, record in enumerate(records) if record.kind == "stopped" and record.recipient == actor]
    for end in [*ends, len(records)]:
        part = _of_one(run, actor, records[begin : end + 1], whole=whole)
        if part is not None:
            found.append(part)
        begin, whole = end + 1, True
    return found


def _of_one(run: Run, actor: str, records: Sequence[Record], *, whole: bool) -> Incarnation | Missing | None:
    unbroken = _unbroken(records)
    own = [record for record in records if actor in (record.sender, record.recipient)]
    if not own:
        return None
    last = own[-1]
    ended = last.kind == "stopped"
    started = next((n for n, r in enumerate(unbroken) if r.kind == "started" and r.recipient == actor), None)
    up = next((record for record in records if record.kind == "started" and record.recipient == actor), None)
    number = up.attempt if up is not None else last.attempt if ended else 0
    if not whole:
        return Missing(run, number, "its beginning is not recorded any more, so what it knew is not known")
    crashed = next((r for r in unbroken if r.kind == "crashed" and r.recipient == actor and not r.id), None)
    crash = ""
    if started is None:
        if up is not None:
            return Missing(run, number, "the record has a gap while it started")
        if crashed is None:
            # Nothing but what waits in its mailbox for a life that did not come, or was not up when the record ended.
            mine = any(record.sender == actor for record in own)
            return Missing(run, number, "its start was cut short") if mine or ended else None
        crash = str(crashed.body.value or "")
        started = unbroken.index(crashed)
        if _from_outside(crash):
            return Missing(run, number, f"its start did not fail by itself: {crash}")
    on_start = list(unbroken[:started])
    rest = [] if crash else list(unbroken[started + 1 :])
    handlings = _handlings(run, actor, rest)
    end: End = "gap" if len(unbroken) < len(records) else "cut off"
    if ended and end != "gap":
        end = "crashed" if crash or any(handling.end == "crashed" for handling in handlings[-1:]) else "stopped"
    later, from_thread = _to_itself(actor, number, rest, handlings)
    began = _beginning(actor, on_start) if on_start else unbroken[started].at
    return Incarnation(
        actor, run, number, began, unbroken[-1].at, on_start, handlings, crash, end, later, from_thread
    )  # fmt: skip


def _from_outside(crash: str) -> bool:
    """Was it not the actor's own doing? Neither full mailboxes nor time-outs of a start are replayed."""
    kind = crash.partition(":")[0].rpartition(".")[2]
    return kind in ("WaitCycle", "StartTimeoutError", "CancelledError")


def ended_from_outside(handling: Handling) -> bool:
    """Did something end this handling that a replay does not have?"""
    return handling.end == "crashed" and _from_outside(handling.crash)


def _beginning(actor: str, on_start: Sequence[Record]) -> float:
    """About when ``on_start`` was called: not before the last thing that happened before its own first."""
    began = on_start[0].at
    for record in on_start:
        if record.sender == actor and record.kind != "stopped":
            break
        began = record.at
    return began


def _unbroken(records: Sequence[Record]) -> Sequence[Record]:
    """Up to the first gap: the ring may have overflowed before it was written, or recording was switched off."""
    for place in range(1, len(records)):
        if records[place].number != records[place - 1].number + 1:
            return records[:place]
    return records


def _handlings(run: Run, actor: str, records: Sequence[Record]) -> list[Handling]:
    found: list[Handling] = []
    answers: dict[int, Record] = {}
    in_hand: Handling | None = None
    for record in records:
        if record.kind == "replied" and record.sender == actor:
            answers[record.id] = record
        if record.kind == "begun" and record.recipient == actor:
            delivery = run.deliveries.get(record.id)
            in_hand = Handling(record, delivery.body if delivery else None, [])
            found.append(in_hand)
        elif in_hand is not None:
            if record.kind in ("done", "crashed") and record.recipient == actor and record.id == in_hand.begun.id:
                in_hand.end, in_hand.crash = record.kind, str(record.body.value or "")
                in_hand = None
            else:
                in_hand.records.append(record)
    for handling in found:
        handling.answer = answers.get(handling.begun.id)
    return found


def _to_itself(
    actor: str, number: int, records: Sequence[Record], handlings: list[Handling]
) -> tuple[dict[int, list[Record]], dict[int, int]]:
    """What an actor had said to itself for later, and what its thread handed in: both came outside of the handling."""
    in_its_handling = {
        id(record) for handling in handlings for record in handling.records if record.cause == handling.begun.id
    }
    later: dict[int, list[Record]] = {}
    from_thread: Counter[int] = Counter()
    handed_in = False
    for record in records:
        if record.kind == "device" and record.sender == actor and record.attempt:
            if record.attempt == number:
                from_thread[record.id] += 1
        elif (
            record.kind == "sent"
            and record.sender == record.recipient == actor
            and record.type not in RUNTIMES_OWN
            and not handed_in
            and id(record) not in in_its_handling
        ):
            later.setdefault(record.cause, []).append(record)
        handed_in = record.kind == "device" and bool(record.attempt)
    return later, dict(from_thread)
