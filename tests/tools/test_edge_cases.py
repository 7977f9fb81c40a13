"""The table of edge cases: fresh, without a row that nobody tries, and README speaks of what a person meets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.edge_cases import BEGIN, END, ROWS, Case, cases, drawn, lacking, main, placed

ROOT = Path(__file__).parents[2]

NOT_YET: Mapping[tuple[str, str], str] = {}
"""(row, mode) that no test shows -> what is missing. Whoever writes the test takes its line away."""


def test_every_row_has_a_test_in_each_mode_that_it_asks_for() -> None:
    assert lacking(cases()) == set(NOT_YET), "a row lacks a test, or has one by now and stands in the list still"


def test_every_test_that_is_named_after_a_row_names_one_that_there_is() -> None:
    known = {row.id for row in ROWS}
    assert len(known) == len(ROWS)
    assert [case for case in cases() if not known.issuperset(case.rows)] == []


def test_what_a_person_meets_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    part = readme[readme.index("## When something goes wrong") : readme.index("## Plug-ins")]
    assert [row.id for row in ROWS if row.told not in part] == []


def test_the_architecture_page_is_fresh() -> None:
    assert main(["--check", str(ROOT / "ARCHITECTURE.md")]) == 0, "make docs"


def test_the_mode_is_read_from_marks_and_imports(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "from tests.actors.stage import Stage\n"
        "def test_b2_n3_cut(): ...\n"
        "@pytest.mark.real\n"
        "@pytest.mark.parametrize('x', [1])\n"
        "async def test_b2_killed(): ...\n"
        "def test_b2ware_is_no_row(): ...\n"
    )
    (tmp_path / "test_b.py").write_text("pytestmark = [pytest.mark.real, 1]\ndef test_t1_killed(): ...\n")
    (tmp_path / "test_c.py").write_text("def test_t1_counted(): ...\n")
    found = cases(tmp_path)
    assert found == [
        Case("test_a.py", "test_b2_n3_cut", ("b2", "n3"), "sim"),
        Case("test_a.py", "test_b2_killed", ("b2",), "real"),
        Case("test_b.py", "test_t1_killed", ("t1",), "real"),
        Case("test_c.py", "test_t1_counted", ("t1",), "part"),
    ]
    still = lacking(found)
    assert not {("b2", "sim"), ("b2", "real"), ("n3", "sim"), ("t1", "real")} & still
    assert ("t1", "sim") in still, "a part alone shows no row"


def test_a_cell_names_a_few_and_counts_the_rest() -> None:
    many = [Case("test_a.py", f"test_n8_case_{number}", ("n8",), "sim") for number in range(9)]
    [line] = [line for line in drawn(many).splitlines() if line.startswith("| n8 ")]
    assert line.endswith("`test_n8_case_3` and 5 more |")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        placed(text, "table")
    (tmp_path / "PAGE.md").write_text(text)
    assert main(["--write", str(tmp_path / "PAGE.md")]) == 1
    assert (tmp_path / "PAGE.md").read_text() == text


def test_write_then_check_and_a_stale_page_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    assert main(["--check", str(page)]) == 1
    assert "stale" in capsys.readouterr().err
    assert main(["--write", str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    assert page.read_text().startswith("above\n")
    assert page.read_text().endswith("\nbelow\n")
