"""Names for the moments of a run: an operation on a place, and at which passing of that place it happens.

Threads take turns differently from run to run, so a running number of all operations would name another moment each
time; what one place goes through is in order. Times in names (nights, dates) and the hashes of hidden names are put
into words, so that a point means the same in every run and to a reader.
"""

from __future__ import annotations

import posixpath
import re
from typing import Literal, NamedTuple

from runtime import durable

Fault = Literal["kill", "half", "enospc", "eio", "power"]
FAULTS: tuple[Fault, ...] = ("kill", "half", "enospc", "eio", "power")
ASKED_FOR = ("kill", "enospc", "eio", "power")
"""What a person may choose; ``kill`` brings ``half`` with it, a kill half-way through a write."""

OPERATIONS = ("create", "write", "fsync", "rename", "unlink", "mkdir", "rmdir", "symlink", "fsync_dir")

NIGHT = re.compile(r"\b\d{8}T\d{6}\b")
DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")


class Point(NamedTuple):
    """One durable operation of the script: ``learn.rename@state/HEAD#3``."""

    stage: str
    operation: str
    place: str
    passing: int

    def __str__(self) -> str:
        return f"{self.stage}.{self.operation}@{self.place}#{self.passing}"


def parsed(text: str) -> Point:
    """A point from its name.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\w+)\.(\w+)@(.+)#(\d+)", text)
    if found is None:
        raise ValueError(f"{text!r} is no point; one looks like learn.rename@state/HEAD#3")
    return Point(found[1], found[2], found[3], int(found[4]))


def faults_of(operation: str, asked: tuple[str, ...]) -> list[Fault]:
    """The faults that an operation meets."""
    return [
        fault for fault in FAULTS if (fault in asked or (fault == "half" and "kill" in asked and operation == "write"))
    ]


class Places:
    """Puts paths into words; ``names`` are the file names of the script, whose hashes are then known."""

    def __init__(self, names: tuple[str, ...]) -> None:
        known = ["HEAD", "LAST", "RESERVE", "current_model", *names, *(f"{number:06d}" for number in range(100))]
        self._known = {durable.hidden(name, "tmp")[1:17]: name for name in known}

    def place(self, path: str) -> str:
        """``state/.HEAD.tmp`` for ``state/.0123456789abcdef.tmp``, ``snapshots/DATE`` for one of today."""
        return "/".join(self._word(folder, name) for folder, name in _steps(path))

    def _word(self, folder: str, name: str) -> str:
        hidden = durable.HIDDEN.fullmatch(name)
        if hidden is not None:
            unknown = "DATE" if folder == "snapshots" else "NIGHT"
            return f".{self._known.get(hidden[1], unknown)}.{hidden[2]}"
        return DATE.sub("DATE", NIGHT.sub("NIGHT", name))


def _steps(path: str) -> list[tuple[str, str]]:
    parts = path.split("/")
    return [(posixpath.join("", *parts[:number]), name) for number, name in enumerate(parts)]


def is_state(path: str) -> bool:
    """Does the path bear state? ``status/`` does not: it is written by the clock and only tells."""
    return path.partition("/")[0] != "status"
