"""Why a merge cannot be done or is not to be trusted, in words and with a code from ``messages.codes``."""

from __future__ import annotations

HELD_OUT_WORSE = "NF-MERGE-032"


class MergeProblem(Exception):
    """Bad input or a bad result; nothing of what was written is to be used.

    Args:
        code: ``NF-MERGE-…``.
        why: what is wrong, where, and what was expected.
    """

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
