"""``python -m tests.protections``: is each edge case's test seen to fail with its protection taken out?

Runs for each removal in ``removals.py`` the tests of its rows in a copy of the house without that protection. Exits 1
if one is missed by no test, or if a test of a row failed in none of these runs. ``--row b3`` is a look at one row;
``--write FILE`` puts the table there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tests.protections.campaign import Finding, tried_all
from tests.protections.page import unproven, written
from tests.protections.removals import REMOVALS
from tools.edge_cases import cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all that is asked for, tell, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.protections", description=__doc__)
    parser.add_argument("--row", action="append", help="only removals of this row; may be given again")
    parser.add_argument("--jobs", type=int, default=2, help="copies at once")
    parser.add_argument("--write", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    removals = [one for one in REMOVALS if not chosen.row or set(chosen.row) & set(one.rows)]
    findings: list[Finding] = []
    for finding in tried_all(removals, chosen.jobs):
        findings.append(finding)
        state = finding.trouble or f"{len(finding.failed)} fail, {len(finding.passed)} do not notice"
        print(f"{len(findings)} of {len(removals)}: {', '.join(finding.removal.rows)}: {finding.removal.what}: {state}")
        if not finding.failed:
            print(f"  NOT NOTICED; passed: {', '.join(finding.passed)}")
    findings.sort(key=lambda finding: REMOVALS.index(finding.removal))
    left = unproven(findings, cases())
    if not chosen.row:
        print(f"{len(left)} tests failed in none of these runs: {', '.join(left)}")
    if chosen.write:
        chosen.write.write_text(written(findings, cases(), f"{datetime.now().astimezone():%Y-%m-%d}"), encoding="utf-8")
    unnoticed = [finding for finding in findings if not finding.failed]
    print(f"{len(findings) - len(unnoticed)} of {len(findings)} protections are missed by a test when they are gone")
    return 1 if unnoticed or (left and not chosen.row) else 0


if __name__ == "__main__":
    sys.exit(main())
