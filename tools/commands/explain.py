"""``nightfold explain``: what a code means, what happened to the person's data, and what to do now."""

from __future__ import annotations

import difflib
import textwrap

from messages.codes import CODES
from runtime.errors import OperatorError


def explain(code: str | None) -> int:
    """Print one code's page, or without a code the list of them all."""
    if code is None:
        for known, explanation in sorted(CODES.items()):
            print(f"{known:<14} {explanation.title}")
        return 0
    wanted = code.strip().upper()
    wanted = wanted if wanted.startswith("NF-") else f"NF-{wanted}"
    found = CODES.get(wanted)
    if found is None:
        near = difflib.get_close_matches(wanted, sorted(CODES), n=3, cutoff=0.6)
        raise OperatorError(
            "NF-CONF-007",
            f"there is no code {wanted}" + (f"; the nearest: {', '.join(near)}" if near else ""),
            hint="nightfold explain, without a code, lists them all",
        )
    print(f"{wanted}  {found.title}\n")
    for label, words in (
        ("What happened", found.meaning),
        ("Your data", found.safe),
        ("What to do", found.action),
    ):
        print(textwrap.fill(words, 96, initial_indent=f"{label + ':':<15} ", subsequent_indent=" " * 16))
    return 0
