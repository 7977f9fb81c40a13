"""A source of chance that is read from a tape, so that all of its outcomes can be had one after the other.

``SimDisk`` asks a stream which of the un-synced things survive a power cut. Handed a tape it can be asked again with
the next answers, until there are none that it has not given.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Tape(random.Random):
    """Answers ``choices`` in order, then the first possible answer, or what ``beyond`` draws.

    Attributes:
        given: (answer, number of possible answers) of every question so far.
    """

    def __init__(self, choices: Sequence[int] = (), beyond: random.Random | None = None) -> None:
        super().__init__(0)
        self._choices = list(choices)
        self._beyond = beyond
        self.given: list[tuple[int, int]] = []

    def choice(self, seq: Any) -> Any:
        return seq[self._answer(len(seq))]

    def randint(self, a: int, b: int) -> int:
        """The first question is how much of the journal survives: every answer counts.

        Later ones ask where a write is cut short: lost and whole are asked for elsewhere, so one place in the middle
        says as much as all of them.
        """
        if self.given:
            return (a + b) // 2
        return a + self._answer(b - a + 1)

    def _answer(self, possible: int) -> int:
        at = len(self.given)
        answer = 0
        if at < len(self._choices):
            answer = self._choices[at]
        elif self._beyond is not None:
            answer = self._beyond.randrange(possible)
        self.given.append((answer, possible))
        return answer

    @property
    def word(self) -> str:
        """The answers as text, for a command that repeats them."""
        return ".".join(str(answer) for answer, _ in self.given)

    def successor(self) -> list[int] | None:
        """The answers that come next in order, or ``None`` when all were given."""
        choices = [answer for answer, _ in self.given]
        for at in reversed(range(len(choices))):
            if choices[at] + 1 < self.given[at][1]:
                return [*choices[:at], choices[at] + 1]
        return None


def every_outcome(ask: Callable[[Tape], T], at_most: int) -> Iterator[tuple[str, T]]:
    """(tape's word, what ``ask`` made of it), for all tapes; drawn ones where there are more than ``at_most``."""
    tape = Tape()
    first = ask(tape)
    possible = 1
    for _, count in tape.given:
        possible *= count
    if possible > at_most:
        for seed in range(at_most):
            drawn = Tape(beyond=random.Random(seed))  # noqa: S311 - chance, not secrets
            made = ask(drawn)
            yield drawn.word, made
        return
    yield tape.word, first
    while (choices := tape.successor()) is not None:
        tape = Tape(choices)
        made = ask(tape)
        yield tape.word, made
