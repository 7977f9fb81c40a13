"""Holds what an actor says in a replay against what it said then, and names the first thing that differs.

The same is equal data, but for lengths of time within ``SPAN_TOLERANCE_SECONDS`` and times of day within
``MOMENT_TOLERANCE_SECONDS``, for the clock is only known where something was recorded; and but for the place in memory
that the text of a live object tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from messages import Message
from tools.replay_cell import Later
from tools.replay_window import Said

SPAN_TOLERANCE_SECONDS = 0.25
MOMENT_TOLERANCE_SECONDS = 2.0
DUE_TOLERANCE_SECONDS = 1.0
SPAN_NAMES = ("seconds", "_s", "per_second")
WORDS_MAX = 300

_PLACE_IN_MEMORY = re.compile(r" at 0x[0-9a-f]+")


class Difference(msgspec.Struct):
    """The first thing that differs, after ``place`` messages that did not, of this handling.

    ``is_message``: it is the next message; else it is something between two, or after the last.
    """

    place: int
    what: str
    recorded: str
    replayed: str
    field: str = ""
    is_message: bool = False


def compare(expected: Sequence[Said], got: Sequence[Message], *, partly: bool) -> Difference | None:
    """In order, one by one. ``partly``: it was cut short, so what is not said says nothing."""
    said = [(type(message).__name__, plain(message)) for message in got]
    for place, (name, value) in enumerate(said):
        now = f"{name} {words(value)}"
        if place >= len(expected):
            return Difference(place, f"it says {name} now, and did not then", "nothing more", now)
        then = expected[place]
        was = f"{then.type} {words(then.value)}"
        if name != then.type:
            return Difference(place, f"it said {then.type} then, and says {name} now", was, now, is_message=True)
        if (found := first_field(then.value, value, "")) is not None:
            field, old, new = found
            field = field.lstrip(".")
            told = f"{name}.{field}" if field and not field.startswith("[") else f"{name}{field}"
            return Difference(place, f"it says another {name}", words(old), words(new), told, is_message=True)
    if len(said) < len(expected) and not partly:
        then = expected[len(said)]
        missing = f"{then.type} {words(then.value)}"
        what = f"it said {then.type} then, and does not now"
        return Difference(len(said), what, missing, "nothing more", is_message=True)
    return None


def compare_later(then: Sequence[Any], now: list[Later], place: int, over_at: float) -> Difference | None:
    """What it says to itself for later. Takes from ``now`` what came; what was not due in time may never have come.

    ``then`` are the recorded bodies with their types, as they came.
    """
    for type_name, value in then:
        same = next(
            (one for one in now if type(one.message).__name__ == type_name and same_data(value, plain(one.message))),
            None,
        )
        if same is None:
            was = f"{type_name} {words(value)}"
            others = [f"{type(one.message).__name__} {words(plain(one.message))}" for one in now]
            what = f"it said {type_name} to itself for later then, and does not now"
            return Difference(place, what, was, "; ".join(others[-3:]) or "nothing for later")
        now.remove(same)
    for one in now:
        if one.due < over_at - DUE_TOLERANCE_SECONDS:
            name = type(one.message).__name__
            what = f"it says {name} to itself for later now, and did not then"
            return Difference(place, what, "nothing for later", f"{name} {words(plain(one.message))}")
    return None


def same_data(then: Any, now: Any) -> bool:
    """Equal, within the tolerances."""
    return first_field(then, now, "") is None


def first_field(then: Any, now: Any, path: str) -> tuple[str, Any, Any] | None:
    """Where two plain values first differ: the path to it, what was, and what is."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *(key for key in now if key not in then)]:
            found = first_field(then.get(key), now.get(key), f"{path}.{key}")
            if found is not None:
                return found
        return None
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for place, (was, new) in enumerate(zip(then, now, strict=True)):
            found = first_field(was, new, f"{path}[{place}]")
            if found is not None:
                return found
        return None
    return None if then == now or _same_time(then, now, path) else (path, then, now)


def _same_time(then: Any, now: Any, path: str) -> bool:
    if isinstance(then, float) and isinstance(now, float) and path.endswith(SPAN_NAMES):
        return abs(then - now) <= max(SPAN_TOLERANCE_SECONDS, 0.05 * abs(then))
    if isinstance(then, str) and isinstance(now, str):
        if _PLACE_IN_MEMORY.sub("", then) == _PLACE_IN_MEMORY.sub("", now):
            return True
        try:
            apart = datetime.fromisoformat(then) - datetime.fromisoformat(now)
        except (ValueError, TypeError):
            return False
        return "T" in then and abs(apart.total_seconds()) <= MOMENT_TOLERANCE_SECONDS
    return False


def plain(value: Any) -> Any:
    """As it would stand in the record."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value, enc_hook=repr))


def words(value: Any) -> str:
    """A value as it may stand in a line."""
    text = repr(value)
    return text if len(text) <= WORDS_MAX else f"{text[:WORDS_MAX]}…"
