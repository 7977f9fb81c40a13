"""What the people around one home do in a simulated stretch of time, drawn from a seed before it begins.

Every file has content of its own, so that it can be told apart wherever it ends up. A plan is plain data: the same seed
gives the same plan, and a restart goes on with what is left of it.
"""

from __future__ import annotations

import json
import random
from typing import Literal

import msgspec

from tools.simulated_house.engine import NOT_FINITE, POISON

HOUR = 3600.0
DAY = 24 * HOUR

Kind = Literal["good", "bad", "empty", "poison", "not_finite"]
Act = Literal[
    "drop",
    "upload_begin",
    "upload_more",
    "upload_end",
    "take_back",
    "pause",
    "resume",
    "consolidate",
    "restart",
    "jump",
]


class Deed(msgspec.Struct, frozen=True):
    """One thing somebody does ``at`` so many seconds from the beginning. ``seconds`` is a clock jump's size."""

    at: float
    act: Act
    name: str = ""
    data: bytes = b""
    seconds: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    """A stretch of life: deeds in order, and what became the content of each file."""

    deeds: tuple[Deed, ...]
    contents: dict[str, bytes]
    """Final content of every file by its mark, a string that stands in that file alone."""


def make_plan(seed: int, days: float) -> Plan:
    """Draw a plan. All files are dropped in the first nine tenths of the time, so that each can get its outcome."""
    chance = random.Random(f"people/{seed}")  # noqa: S311 - chance, not secrets
    deeds: list[Deed] = []
    contents: dict[str, bytes] = {}
    length = days * DAY
    for number in range(max(2, round(days * chance.randint(3, 7)))):
        mark = f"file-{seed}-{number}"
        data = content(chance, mark)
        contents[mark] = data
        # Names repeat now and then: the same name dropped again is a new batch.
        name = f"{chance.choice(('notes', 'chat', mark))}.jsonl"
        at = chance.uniform(0.0, 0.9 * length)
        deeds += _arrival(chance, at, name, mark, data)
    for _ in range(chance.randint(0, 2)):
        at = chance.uniform(0.0, 0.8 * length)
        deeds += [Deed(at, "pause"), Deed(at + chance.uniform(60.0, 2 * HOUR), "resume")]
    for act in ("consolidate", "restart"):
        deeds += [Deed(chance.uniform(0.0, 0.95 * length), act) for _ in range(chance.randint(0, 1))]
    if chance.random() < 0.2:
        deeds.append(Deed(chance.uniform(0.0, length), "jump", seconds=chance.choice((-1800.0, -60.0, 90.0, 5400.0))))
    return Plan(tuple(sorted(deeds, key=lambda deed: deed.at)), contents)


def content(chance: random.Random, mark: str) -> bytes:
    """A batch file of one of the kinds, marked in every line that says something."""
    kind: Kind = chance.choices(("good", "bad", "empty", "poison", "not_finite"), (12, 2, 1, 1, 1))[0]
    lines = [json.dumps({"text": f"{mark} line {line}"}).encode() for line in range(chance.randint(1, 30))]
    at = chance.randrange(len(lines))
    match kind:
        case "bad":
            lines[at] = b'{"txt": "' + mark.encode() + b'"}'
        case "empty":
            return b" " * int(mark.rsplit("-", 1)[1]) + b"\n\n"
        case "poison":
            lines[at] = json.dumps({"text": f"{mark} {POISON.decode()}"}).encode()
        case "not_finite":
            lines[at] = json.dumps({"text": f"{mark} {NOT_FINITE.decode()}"}).encode()
    return b"\n".join(lines) + b"\n"


def _arrival(chance: random.Random, at: float, name: str, mark: str, data: bytes) -> list[Deed]:
    """Renamed into place, or uploaded in pieces; seldom taken back, or uploaded under another name first."""
    way = chance.random()
    if way < 0.6:
        return [Deed(at, "drop", name, data)]
    cut = chance.randrange(len(data) + 1)
    pause = chance.uniform(1.0, 600.0)
    name = f"upload-{mark}.jsonl"
    return [
        Deed(at, "upload_begin", name, b""),
        Deed(at + pause / 2, "upload_more", name, data[:cut]),
        Deed(at + pause, "upload_more", name, data[cut:]),
        Deed(at + pause + 1.0, "upload_end", name),
    ]
