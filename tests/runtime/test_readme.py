"""The semantics page names tests; each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_test_that_the_semantics_page_names_is_there() -> None:
    page = (HERE.parents[1] / "runtime" / "README.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    there = set(re.findall(r"def (test_\w+)", "\n".join(path.read_text() for path in sorted(HERE.glob("test_*.py")))))
    assert len(named) > 40
    assert sorted(named - there) == []


def test_every_statement_of_the_semantics_page_names_what_holds_it() -> None:
    """A list item, a row and a paragraph each name a test, a file of tests, or say that there is none."""
    page = (HERE.parents[1] / "runtime" / "README.md").read_text()
    statements: list[str] = []
    for block in re.split(r"\n\s*\n", page):
        for line in block.splitlines():
            if line.startswith(("- ", "|")) or not statements or not statements[-1].strip():
                statements.append(line)
            else:
                statements[-1] += " " + line
        statements.append("")
    claims = [
        text
        for text in statements
        if text.strip() and not text.startswith(("#", "The kernel that", "| ---")) and not _opens_a_table(text)
    ]
    assert len(claims) > 40
    bare = [text for text in claims if not re.search(r"`test_\w+`|`tests/|no test:|next section", text)]
    assert bare == []


def _opens_a_table(text: str) -> bool:
    return (text.startswith("|") and text.endswith(("| test |", "| kept |"))) or text.endswith(":")
