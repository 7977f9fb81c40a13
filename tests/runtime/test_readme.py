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
