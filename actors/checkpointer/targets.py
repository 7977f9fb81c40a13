"""What a person may name, to go back to it or to pin it: a generation's number, a night, a snapshot's date.

Pure: each function answers from HEAD and the names of the snapshots that lie there, and says what HEAD would be then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from actors.checkpointer.head import Head, Kept, PinnedSnapshot, WentBack
from runtime.errors import EXIT_USAGE, OperatorError

T = TypeVar("T")


class Target(msgspec.Struct, frozen=True):
    """What a name stands for.

    Attributes:
        kept: what would be in force after going back to it; ``None`` for a snapshot.
        needed: what pinning it holds, a night also the generation that it folded.
        pinned: is it?
    """

    kind: Literal["generation", "night", "snapshot"]
    name: str
    kept: Kept | None
    needed: tuple[Kept, ...]
    pinned: bool


def target_of(head: Head | None, days: Sequence[str], name: str) -> tuple[Head, Target]:
    """HEAD, and what it knows by this name.

    Raises:
        OperatorError: NF-STATE-003 nothing kept is called so.
    """
    if head is not None:
        by_number = {kept.generation: kept for kept in head.kept}
        for night in head.nights:
            if night.night == name and night.generation in by_number:
                needed = (night.folded, night.generation)
                both = tuple(by_number[number] for number in needed if number in by_number)
                return head, Target("night", name, by_number[night.generation], both, night.pinned)
        number = int(name) if name.isdecimal() else -1
        if number in by_number:
            kept = by_number[number]
            return head, Target("generation", name, kept, (kept,), kept.pinned or _is_end(head, kept))
        pinned = name in {one.day for one in head.snapshots}
        if pinned or name in days:
            return head, Target("snapshot", name, None, (), pinned)
    raise OperatorError(
        "NF-STATE-003",
        f"no kept generation, night or snapshot is called {name!r} (kept: {_known(head, days)})",
        hint="nightfold history HOME lists them",
        exit_code=EXIT_USAGE,
    )


def _known(head: Head | None, days: Sequence[str]) -> str:
    if head is None:
        return "none"
    return ", ".join([*(str(kept.generation) for kept in head.kept), *(night.night for night in head.nights), *days])


def _is_end(head: Head, kept: Kept) -> bool:
    return head.went_back is not None and kept.generation in (head.went_back.to, head.went_back.left)


def with_pin(head: Head, target: Target, snapshot: PinnedSnapshot | None, *, pinned: bool) -> Head:
    """``head`` with the target pinned, a snapshot as described; or unpinned.

    Who unpins an end of the last rollback lets go of that rollback: it can no longer be undone for certain.
    """
    match target.kind:
        case "night":
            nights = [
                msgspec.structs.replace(one, pinned=pinned) if one.night == target.name else one for one in head.nights
            ]
            return msgspec.structs.replace(head, nights=tuple(nights))
        case "generation":
            number = target.needed[0].generation
            kept = [
                msgspec.structs.replace(one, pinned=pinned) if one.generation == number else one for one in head.kept
            ]
            went_back = head.went_back if pinned or not _is_end(head, target.needed[0]) else None
            return msgspec.structs.replace(head, kept=tuple(kept), went_back=went_back)
        case "snapshot":
            others = [one for one in head.snapshots if one.day != target.name]
            snapshots = sorted([*others, *([snapshot] if snapshot is not None else [])], key=lambda one: one.day)
            return msgspec.structs.replace(head, snapshots=tuple(snapshots))


def gone_back(head: Head, to: Kept, now: str) -> Head:
    """``head`` knowing of this rollback.

    Of several in a row, with nothing learnt between them, the place where the first began is remembered; who is back
    there has undone them all.
    """
    last = head.went_back
    left = last.left if last is not None and last.to == head.generation else head.generation
    went_back = WentBack(to.generation, left, now) if left != to.generation else None
    return msgspec.structs.replace(head, went_back=went_back)
