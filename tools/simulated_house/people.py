"""What the people around one home do in a simulated stretch of time, drawn from a seed before it begins.

Every content has a mark of its own, so that it can be told apart wherever it ends up. A plan is plain data: the same
seed gives the same plan, and a restart goes on with what is left of it. Deeds that make sense only together share a
group, and any group may be left out.
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
    "replace",
    "pause",
    "hold",
    "resume",
    "consolidate",
    "restart",
    "jump",
    "pin",
    "unpin",
]


class Deed(msgspec.Struct, frozen=True):
    """One thing somebody does ``at`` so many seconds from the beginning. ``seconds`` is a clock jump's size.

    A pin's ``name`` says which kind of thing: ``generation``, ``night`` or ``snapshot``. With ``after``, the name of a
    message, it is done ``seconds`` after the next such announcement from then on, for the moments that matter are short
    and chance seldom meets them.
    """

    at: float
    act: Act
    name: str = ""
    data: bytes = b""
    seconds: float = 0.0
    group: int = 0
    after: str = ""


class Plan(msgspec.Struct, frozen=True):
    """A stretch of life: deeds in order, and what became the content of each file."""

    deeds: tuple[Deed, ...]
    contents: dict[str, bytes]
    """Every content by its mark, a string that stands in it alone."""

    def without(self, groups: tuple[int, ...]) -> Plan:
        """The same plan with some of what was planned left undone."""
        return Plan(tuple(deed for deed in self.deeds if deed.group not in groups), self.contents)

    @property
    def groups(self) -> tuple[int, ...]:
        """What may be left out."""
        return tuple(sorted({deed.group for deed in self.deeds}))


class _Planner:
    """Draws one plan."""

    def __init__(self, seed: int, days: float) -> None:
        self.chance = random.Random(f"people/{seed}")  # noqa: S311 - chance, not secrets
        self.length = days * DAY
        self.deeds: list[Deed] = []
        self.contents: dict[str, bytes] = {}
        self._seed = seed
        self._groups = 0

    def add(self, *deeds: Deed) -> None:
        """A group of deeds."""
        self._groups += 1
        self.deeds += [msgspec.structs.replace(deed, group=self._groups) for deed in deeds]

    def file(self) -> None:
        """A file comes; now and then it is taken back, replaced, or dropped again."""
        chance = self.chance
        mark, data = self._content()
        # Names repeat now and then: the same name dropped again is a new batch.
        name = f"{chance.choice(('notes', 'chat', mark))}.jsonl"
        # All come in the first nine tenths of the time, so that each can get its outcome.
        at = chance.uniform(0.0, 0.9 * self.length)
        name = self._arrival(at, name, mark, data)
        more = chance.random()
        soon = at + chance.choice((2.0, 60.0, 600.0)) * chance.random()
        if more < 0.12:
            self.add(Deed(soon, "take_back", name))
            if chance.random() < 0.5:
                self.add(Deed(soon + chance.uniform(1.0, 600.0), "drop", name, data))
        elif more < 0.22:
            self.add(Deed(soon, "replace", name, self._content()[1]))
        elif more < 0.30:
            self.add(Deed(at + chance.uniform(1.0, 6 * HOUR), "drop", name, data))

    def _content(self) -> tuple[str, bytes]:
        mark = f"file-{self._seed}-{len(self.contents)}"
        data = self.contents[mark] = content(self.chance, mark)
        return mark, data

    def _arrival(self, at: float, name: str, mark: str, data: bytes) -> str:
        """Renamed into place, or uploaded in pieces; returns the name."""
        chance = self.chance
        if chance.random() < 0.6:
            self.add(Deed(at, "drop", name, data))
            return name
        cut = chance.randrange(len(data) + 1)
        pause = chance.choice((20.0, 600.0, 2 * HOUR)) * chance.random()
        name = f"upload-{mark}.jsonl"
        self.add(
            Deed(at, "upload_begin", name),
            Deed(at + pause / 2, "upload_more", name, data[:cut]),
            Deed(at + pause, "upload_more", name, data[cut:]),
            Deed(at + pause + 1.0, "upload_end", name),
        )
        return name

    def wishes(self) -> None:
        """Pauses, nights, restarts, and clocks that are set."""
        chance, length = self.chance, self.length
        for _ in range(chance.randint(0, 2)):
            at = chance.uniform(0.0, 0.8 * length)
            self.add(Deed(at, "pause"), Deed(at + chance.uniform(60.0, 2 * HOUR), "resume"))
        for _ in range(chance.randint(0, 1)):
            self.add(Deed(chance.uniform(0.0, 0.95 * length), "consolidate"))
        for _ in range(chance.choice((0, 0, 1, 3))):
            self.add(Deed(chance.uniform(0.0, 0.95 * length), "restart"))
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            seconds = chance.choice((-7200.0, -1800.0, -60.0, 90.0, 5400.0, 26 * HOUR))
            self.add(Deed(chance.uniform(0.0, length), "jump", seconds=seconds))

    def watched(self) -> None:
        """Somebody looks at what is announced, and does something about it at once."""
        chance = self.chance
        for _ in range(chance.choice((0, 1, 2, 4, 6))):
            act: Act = chance.choice(("restart", "restart", "consolidate", "hold"))
            after = chance.choice(
                ("BatchStarted", "TrainingProgress", "TrainingProgress", "BatchTrained", "BatchFiled")
            )
            seconds = chance.choice((0.0, 0.0, 1.0, 20.0)) * chance.random()
            self.add(Deed(chance.uniform(0.0, 0.8 * self.length), act, seconds=seconds, after=after))

    def heap(self) -> None:
        """Several files at once: more than are claimed ahead."""
        chance = self.chance
        if chance.random() < 0.25:
            at = chance.uniform(0.0, 0.8 * self.length)
            for number in range(chance.randint(4, 8)):
                mark, data = self._content()
                self.add(Deed(at + number / 4, "drop", f"{mark}.jsonl", data))

    def pins(self) -> None:
        """In one home of three somebody pins what HEAD keeps, and now and then lets go of it again.

        Drawn from a stream of its own, so that all else is as it is without.
        """
        chance, length = random.Random(f"pins/{self._seed}"), self.length  # noqa: S311 - chance, not secrets
        if chance.random() < 2 / 3:
            return
        for _ in range(chance.randint(1, 4)):
            kind = chance.choice(("generation", "generation", "night", "snapshot"))
            at = chance.uniform(0.0, 0.9 * length)
            deeds = [Deed(at, "pin", kind)]
            if chance.random() < 0.5:
                # While people still come: whoever let go days later would be waited for.
                deeds.append(Deed(min(at + chance.uniform(60.0, 0.3 * length), 0.95 * length), "unpin"))
            self.add(*deeds)


def make_plan(seed: int, days: float) -> Plan:
    """Draw a plan."""
    planner = _Planner(seed, days)
    for _ in range(max(2, round(days * planner.chance.randint(3, 7)))):
        planner.file()
    planner.wishes()
    planner.watched()
    planner.heap()
    planner.pins()
    return Plan(tuple(sorted(planner.deeds, key=lambda deed: deed.at)), planner.contents)


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
