"""What a person must mend (one line, a hint and an exit code, never a traceback), and what an ask may raise."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SOME_REJECTED = 3
EXIT_UNHEALTHY = 4
EXIT_BAD_DATA = 65
EXIT_GAVE_UP = 70
EXIT_DISK = 74
EXIT_LOCKED = 75
EXIT_CONFIG = 78


class OperatorError(Exception):
    """Something a person must mend.

    Args:
        code: a stable code from ``messages.codes``.
        what: what is wrong and where, and what was expected.
        hint: what to do now.
        exit_code: what the command exits with.
    """

    def __init__(self, code: str, what: str, *, hint: str = "", exit_code: int = EXIT_USAGE) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.code}: {self.what}" + (f"\n  {self.hint}" if self.hint else "")


class AskFailed(Exception):
    """The asked actor crashed over the question, or is stopped."""


class AskTimeout(AskFailed):
    """No answer came in time."""


class WaitCycle(RuntimeError):
    """Two or more actors would wait for each other for ever; the text names them in order."""
