"""What each generation and each night learnt since the one before, worked out from HEAD and the receipts.

A rollback begins a branch: the generations after it go on from what was gone back to, and files of the branch that was
left may have the same step numbers. They are told apart by when they were learnt. Times are the wall clock's, so a
clock that was set back may show a file under another generation; nothing but this view depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from actors.checkpointer.head import Head, Kept, Night
from messages import Receipt


class Learnt(msgspec.Struct, frozen=True):
    """Of a stretch of learning: the files that ended in it, oldest first, its steps, and their mean losses."""

    files: tuple[str, ...]
    steps: int
    loss_before: float | None
    loss_after: float | None


def by_generation(head: Head, receipts: Sequence[Receipt]) -> dict[int, Learnt]:
    """What each kept generation has learnt that the one before it, on its branch, has not."""
    found: dict[int, Learnt] = {}
    for kept in head.kept:
        before = _before(head, kept)
        branched = before is not None and head.went_back is not None and _after_rollback(head, kept, before)
        since = head.went_back.when if branched and head.went_back is not None else ""
        first = before.global_step if before is not None else 0
        found[kept.generation] = _learnt(receipts, first, kept.global_step, since, kept.when)
    return found


def by_night(head: Head, receipts: Sequence[Receipt]) -> dict[str, Learnt]:
    """What each night folded in: all that was learnt since the night before it in the ledger of its own generation."""
    steps = {delta.night: delta.global_step for delta in head.deltas}
    return {night.night: _of_night(head, night, steps, receipts) for night in head.nights}


def _of_night(head: Head, night: Night, steps: dict[str, int], receipts: Sequence[Receipt]) -> Learnt:
    kept = next((one for one in head.kept if one.generation == night.generation), None)
    ledger = kept.ledger if kept is not None else (night.night,)
    earlier = [steps.get(name, 0) for name in ledger if name != night.night]
    since = ""
    if head.went_back is not None and _moment(head.went_back.when) <= _moment(night.when):
        to = next((one for one in head.kept if one.generation == head.went_back.to), None)
        # What was learnt before the rollback counts up to the step that was gone back to.
        if to is not None and to.global_step <= (earlier[-1] if earlier else 0):
            since = head.went_back.when
    return _learnt(receipts, earlier[-1] if earlier else 0, steps.get(night.night, 0), since, night.when)


def _before(head: Head, kept: Kept) -> Kept | None:
    earlier = [one for one in head.kept if one.generation < kept.generation]
    if not earlier:
        return None
    if head.went_back is not None and _after_rollback(head, kept, earlier[-1]):
        return next((one for one in earlier if one.generation == head.went_back.to), earlier[-1])
    return earlier[-1]


def _after_rollback(head: Head, kept: Kept, before: Kept) -> bool:
    """Was there a rollback between the two? Then ``kept`` goes on from what was gone back to."""
    back = head.went_back
    if back is None or not back.when or kept.generation in (back.to, back.left):
        return False
    if before.generation == back.to:
        return _moment(back.when) <= _moment(kept.when)
    return _moment(before.when) <= _moment(back.when) <= _moment(kept.when)


def _learnt(receipts: Iterable[Receipt], first: int, last: int, since: str, until: str) -> Learnt:
    found = [
        one
        for one in receipts
        if first < one.last_global_step <= last
        and _moment(one.when) <= _moment(until)
        and (not since or _moment(one.when) >= _moment(since))
    ]
    return Learnt(
        tuple(one.name for one in found),
        max(0, last - first),
        _mean([one.loss_before for one in found if one.loss_before is not None]),
        _mean([one.loss_after for one in found if one.loss_after is not None]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _moment(iso: str) -> float:
    """Seconds since the epoch, whatever zone it was written in; an unreadable one is the beginning of time."""
    try:
        return datetime.fromisoformat(iso).timestamp()
    except ValueError:
        return 0.0
