"""The page of the format says what the code does: its records, its files, and rules that each name what shows them."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from actors.checkpointer.head import Head, Kept, Manifest, Night, PinnedSnapshot
from messages import Cursor, Delta, LearningState
from tests.simulation.test_exhaustive_mutants import MUTANTS

PAGE = (Path(__file__).parents[3] / "actors" / "checkpointer" / "FORMAT.md").read_text(encoding="utf-8")

RECORDS: dict[str, type[msgspec.Struct]] = {
    "field of HEAD": Head,
    "field of a delta": Delta,
    "field of a kept generation": Kept,
    "field of a night": Night,
    "field of a pinned snapshot": PinnedSnapshot,
    "field of a manifest": Manifest,
    "field of the state": LearningState,
    "field of the cursor": Cursor,
}


def rows(head: str) -> list[list[str]]:
    """The cells of each row of the table whose first column is headed so."""
    lines = PAGE.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| {head} |"))
    found = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


@pytest.mark.parametrize("head", RECORDS)
def test_the_page_names_each_field_of_each_record_and_no_other(head: str) -> None:
    named = [name for row in rows(head) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(RECORDS[head].__struct_fields__)
    assert all(row[1] for row in rows(head))


def test_every_ordering_rule_names_a_planted_bug_that_is_found() -> None:
    planted = {plant.__name__ for plant, _ in MUTANTS}
    shown: list[str] = []
    for number, row in enumerate(rows("no."), start=1):
        assert row[0] == str(number)
        names = re.findall(r"`(\w+)`", row[3])
        assert names, row
        shown += names
    assert sorted(set(shown) - planted) == []
    assert len(shown) == len(set(shown)) >= 15


def test_the_files_of_a_generation_are_those_that_the_page_lists() -> None:
    from actors.checkpointer.head import TRAINER_STATE
    from actors.trainer.adapter import CONFIG, WEIGHTS
    from actors.trainer.optimizer_file import OPTIMIZER, RNG
    from messages.held_out import HELD_OUT
    from runtime.manifest import MANIFEST

    listed = re.findall(r"^    (\S+\.(?:safetensors|json)) ", PAGE, flags=re.MULTILINE)
    assert sorted(listed) == sorted([WEIGHTS, CONFIG, OPTIMIZER, RNG, HELD_OUT, TRAINER_STATE, MANIFEST])


def test_codes_and_files_that_the_page_names_are_there() -> None:
    from messages.codes import CODES

    root = Path(__file__).parents[3]
    assert set(re.findall(r"NF-[A-Z]+-\d{3}", PAGE)) <= set(CODES)
    for path in re.findall(r"`?((?:actors|runtime|tests)/[\w/]+\.py)`?", PAGE):
        assert (root / path).is_file(), path
