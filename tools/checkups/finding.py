"""One finding of a check-up: how bad it is, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

Level = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True):
    """``todo`` says what to do now; empty where nothing need be done. ``code`` can be explained, if there is one."""

    check: str
    level: Level
    words: str
    todo: str = ""
    code: str = ""


Findings = Iterator[Finding]


def ok(check: str, words: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", words)


def warning(check: str, words: str, todo: str, code: str = "") -> Finding:
    """It works, but a person should know."""
    return Finding(check, "warning", words, todo, code)


def error(check: str, words: str, todo: str, code: str = "") -> Finding:
    """Something is broken or about to be."""
    return Finding(check, "error", words, todo, code)
