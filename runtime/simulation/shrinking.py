"""From a long list that makes something fail to a short one that still does: delta debugging, bounded in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(items: Sequence[T], fails: Callable[[Sequence[T]], bool], in_time: Callable[[], bool]) -> list[T]:
    """A part of ``items``, in their order, of which ``fails`` is true; from what is known to fail as a whole.

    Once it was not cut short, no single item of the result can be left out. What ``in_time`` denies is not tried.
    """
    left = list(items)
    if left and in_time() and fails([]):
        return []
    pieces = 2
    while len(left) > 1 and in_time():
        size = -(-len(left) // pieces)
        for at in range(0, len(left), size):
            rest = left[:at] + left[at + size :]
            if not in_time():
                return left
            if fails(rest):
                left, pieces = rest, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(left), pieces * 2)
    return left
