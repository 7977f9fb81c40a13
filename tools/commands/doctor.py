"""``nightfold doctor``: every check there is, and what to do about each finding. Looks only, and changes nothing.

Exit code 0 if nothing is broken (warnings do not count), else 4. ``--json`` prints ``schema``, ``healthy`` and
``findings``, each with ``check``, ``level`` (``ok``, ``warning``, ``error``), ``words``, ``todo`` and ``code``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runtime.errors import EXIT_DONE, EXIT_UNHEALTHY
from tools.checkups import home_folder, learning, models, surroundings
from tools.checkups.finding import Finding
from tools.commands.home import require_home, shown

SIGNS = {"ok": ("✓", 32), "warning": ("!", 33), "error": ("✗", 31)}


def doctor(home: Path, as_json: bool) -> int:
    """Check everything."""
    require_home(home)
    findings: list[Finding] = []
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for finding in checks(home):
        findings.append(finding)
        if not as_json:
            print("\n".join(_lines(finding, colour=colour)), flush=True)
    healthy = all(finding.level != "error" for finding in findings)
    if as_json:
        found = {"schema": 1, "healthy": healthy, "findings": findings}
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        errors = sum(finding.level == "error" for finding in findings)
        warnings = sum(finding.level == "warning" for finding in findings)
        print(f"{errors} error(s), {warnings} warning(s)" if errors or warnings else "all is well")
    return EXIT_DONE if healthy else EXIT_UNHEALTHY


def checks(home: Path) -> Iterator[Finding]:
    """Every finding, the quick checks first."""
    config, findings = home_folder.config(home)
    yield from findings
    yield from surroundings.software()
    yield from home_folder.folders(home)
    yield from home_folder.daemon(home)
    yield from home_folder.notes(home)
    yield from home_folder.batches(home)
    yield from home_folder.leftovers(home)
    yield from surroundings.space(home, config)
    yield from surroundings.file_system(home)
    yield from surroundings.clock(home, config)
    yield from surroundings.base_model(home, config)
    yield from learning.learning(home)
    yield from models.merged_models(home, deep=False)


def _lines(finding: Finding, *, colour: bool) -> Iterator[str]:
    sign, number = SIGNS[finding.level]
    sign = f"\x1b[{number}m{sign}\x1b[0m" if colour else sign
    code = f" [{finding.code}]" if finding.code else ""
    yield f"{sign} {finding.check:<14} {shown(finding.words)}{code}"
    if finding.todo and finding.level != "ok":
        yield f"  {'':<14} {shown(finding.todo)}"
