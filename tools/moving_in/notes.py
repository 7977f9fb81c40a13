"""What the move finds on its way: problems that stop it, things it leaves behind, and what a person should know.

Guarantees that a problem says what, where, what was expected and what to do, and that all of them are told at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from runtime.errors import EXIT_FAILED, OperatorError
from tools.commands.home import shown


class Problem(msgspec.Struct, frozen=True):
    """One thing that does not fit."""

    code: str
    where: str
    found: str
    expected: str
    todo: str

    def __str__(self) -> str:
        what = f"{self.code}: {_safe(self.where)}: {_safe(self.found)}; expected {self.expected}"
        return f"{what}\n    -> {_safe(self.todo)}"


class NotTaken(msgspec.Struct, frozen=True):
    """One thing that stays behind, without stopping the move."""

    where: str
    why: str
    todo: str

    def __str__(self) -> str:
        return f"{_safe(self.where)}: {_safe(self.why)}\n    -> {_safe(self.todo)}"


class Notes:
    """Collects all three kinds. Whoever finds a problem goes on with what does not hang on it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.not_taken: list[NotTaken] = []
        self.told: list[str] = []

    def problem(self, code: str, where: str, found: str, expected: str, todo: str) -> None:
        self.problems.append(Problem(code, where, found, expected, todo))

    def leave(self, where: str, why: str, todo: str) -> None:
        self.not_taken.append(NotTaken(where, why, todo))

    def tell(self, words: str) -> None:
        if (words := _safe(words)) not in self.told:
            self.told.append(words)

    def raise_problems(self) -> None:
        """Do nothing if there is none.

        Raises:
            OperatorError: NF-STATE-010, with every problem.
        """
        if self.problems:
            raise OperatorError(
                "NF-STATE-010",
                f"{_count(len(self.problems), 'thing is', 'things are')} in the way:\n" + _listed(self.problems),
                hint="nothing was written, and the old home is as it was; mend what is named and import again",
                exit_code=EXIT_FAILED,
            )


def _safe(text: str) -> str:
    """What the old files say may hold anything: line by line as it may go to a terminal."""
    return "\n    ".join(shown(line) for line in text.splitlines())


def _listed(lines: Iterable[object]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
