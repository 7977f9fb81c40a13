"""The table of protections: what was taken out, and which tests of its edge cases failed then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.protections.campaign import Finding
from tools.edge_cases import PART, Case

HEAD = """\
# Each protection, taken out

Each edge case's tests, run on a copy of the house in which one protection is gone (`make protections`). A test that
fails in none of these runs is not shown to hold anything; those are listed at the end.

Run on {day}: {count} protections, {tests} tests seen to fail.

| edge cases | without | tests that fail |
| --- | --- | --- |
"""


def written(findings: Sequence[Finding], found: Iterable[Case], day: str) -> str:
    """The page."""
    failed = {name for finding in findings for name in finding.failed}
    lines = [
        f"| {', '.join(one.removal.rows)} | {one.removal.what} | {', '.join(f'`{name}`' for name in one.failed)} |"
        for one in findings
    ]
    left = [f"- `{name}`" for name in unproven(findings, found)] or ["None."]
    skipped = [f"- `{name}`" for name in only_skipped(findings)] or ["None."]
    page = HEAD.format(day=day, count=len(findings), tests=len(failed)) + "\n".join(lines)
    tail = ["## Tests that failed in none of these runs", "", *left]
    return "\n".join([page, "", *tail, "", "## Tests that cannot run where this was run", "", *skipped, ""])


def unproven(findings: Sequence[Finding], found: Iterable[Case]) -> list[str]:
    """Tests of an edge case that could run and that no removal made fail."""
    failed = {name for finding in findings for name in finding.failed}
    return sorted({case.name for case in found if case.mode != PART} - failed - set(only_skipped(findings)))


def only_skipped(findings: Iterable[Finding]) -> list[str]:
    """Tests that never ran."""
    ran = {name for finding in findings for name in (*finding.failed, *finding.passed)}
    return sorted({name for finding in findings for name in finding.skipped} - ran)
