"""The list of protections holds: each can be taken out, each row has one, and a run tells failing from passing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.protections.campaign import PROJECT, NotThere, Removal, Without, read, taken_out, tried
from tests.protections.removals import REMOVALS
from tools.edge_cases import ROWS, cases

PAGE = Path(__file__).with_name("PROTECTIONS.md")
FOUND = cases()


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: removal.what)
def test_each_protection_can_still_be_taken_out(removal: Removal, tmp_path: Path) -> None:
    for edit in removal.edits:
        path = tmp_path / edit.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((PROJECT / edit.file).read_bytes())
    taken_out(removal, tmp_path)
    assert removal.chosen(FOUND)
    for edit in removal.edits:
        if edit.file.endswith(".py"):
            compile((tmp_path / edit.file).read_text(encoding="utf-8"), edit.file, "exec")


def test_every_edge_case_has_a_protection_that_is_taken_out() -> None:
    assert {row.id for row in ROWS} - {row for removal in REMOVALS for row in removal.rows} == set()
    assert len({removal.what for removal in REMOVALS}) == len(REMOVALS)


def test_the_page_tells_of_every_protection_and_each_was_missed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for removal in REMOVALS:
        told = [line for line in page.splitlines() if f"| {removal.what} |" in line]
        assert len(told) == 1, f"make protections: {removal.what}"
        assert "`test_" in told[0], told


def test_what_is_no_longer_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("a = 1\na = 1\n")
    for old in ("a = 1", "b = 1"):
        with pytest.raises(NotThere, match="times and not once"):
            taken_out(Removal(("b3",), "x", (Without("x.py", old, ""),)), tmp_path)


def test_a_report_is_read_by_names_with_parameters_together(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase name="test_a[1]"/><testcase name="test_a[2]"><failure/></testcase>'
        '<testcase name="test_b"/><testcase name="test_c"><skipped/></testcase>'
        '<testcase name="test_d"><error/></testcase><testcase name="tests.not_imported"><error/></testcase>'
        "</testsuite></testsuites>"
    )
    assert read(report) == (("test_a", "test_d"), ("test_b",), ("test_c",))


@pytest.mark.real
def test_a_run_misses_what_is_gone_and_does_not_mind_what_is_not() -> None:
    name = "test_b6_numbers_past_9999_and_999999_are_numbers"
    head = "actors/checkpointer/head.py"
    by_name = Removal(
        ("b6",),
        "numbers are numbers",
        (
            Without(
                head, "return max((kept.generation for kept in self.kept), default=0) + 1", "return len(self.kept) + 1"
            ),
        ),
        tests=(name,),
    )
    finding = tried(by_name)
    assert (finding.failed, finding.trouble) == ((name,), "")
    nothing = Removal(
        ("b6",), "nothing", (Without(head, '"""``state/generations/000042``."""', '"""As it is."""'),), tests=(name,)
    )
    assert tried(nothing).passed == (name,)
