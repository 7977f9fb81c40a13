"""What a sweep did and found, in numbers that can be added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

Met = tuple[str, str, str]
"""At an actor, a message of the first type and then one of the second."""


@dataclass
class Tally:
    """Of one protocol, or of one part of the story.

    Attributes:
        points: disk operations, or handled messages, of an undisturbed run.
        cases: how many faults of each kind were tried.
        states: different disks found after a power cut, each gone on from.
        closed: no further power cut leads to a new state, so it holds for any number of them.
        violations: (faults in order, as ``--replay`` takes them; what broke).
        met: which messages were handled one right after the other.
    """

    name: str
    points: int = 0
    cases: Counter[str] = field(default_factory=Counter)
    states: int = 0
    closed: bool = False
    violations: list[tuple[str, str]] = field(default_factory=list)
    met: set[Met] = field(default_factory=set)

    @property
    def total(self) -> int:
        """All cases."""
        return sum(self.cases.values())


def together(name: str, parts: Iterable[Tally]) -> Tally:
    """The sum of several. Their points are of one and the same run."""
    whole = Tally(name)
    for part in parts:
        whole.points = max(whole.points, part.points)
        whole.cases += part.cases
        whole.states += part.states
        whole.violations += part.violations
        whole.met |= part.met
    return whole


def both_orders(met: set[Met]) -> tuple[int, int]:
    """(pairs of types that met at an actor in both orders, pairs that met at all)."""
    pairs = {(actor, *sorted((first, second))) for actor, first, second in met if first != second}
    both = [pair for pair in pairs if {(pair[0], pair[1], pair[2]), (pair[0], pair[2], pair[1])} <= met]
    return len(both), len(pairs)
