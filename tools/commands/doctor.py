"""``nightfold doctor``: every check there is, and what to do about each finding. Looks only, and changes nothing.

Exit code 0 if nothing is broken (warnings do not count), else 4. ``--json`` prints ``schema``, ``healthy`` and
``findings``, each with ``check``, ``level`` (``ok``, ``warning``, ``error``), ``words``, ``todo`` and ``code``.
``--deep`` reads every byte of everything that can be held against something, with a bar on a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runtime.disk import Disk
from runtime.errors import EXIT_DONE, EXIT_UNHEALTHY
from tools.checkups import home_folder, learning, models, surroundings
from tools.checkups.deep import deep as deep_checks
from tools.checkups.deep import to_read
from tools.checkups.finding import Finding
from tools.commands.history import size as sized
from tools.commands.home import require_home, shown

SIGNS = {"ok": ("✓", 32), "warning": ("!", 33), "error": ("✗", 31)}


def doctor(home: Path, as_json: bool, *, deep: bool = False) -> int:
    """Check everything."""
    require_home(home)
    disk = WatchedDisk(home, shown=deep and sys.stderr.isatty() and not as_json)
    findings: list[Finding] = []
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for finding in checks(home, disk if deep else None):
        findings.append(finding)
        disk.clear()
        if not as_json:
            print("\n".join(_lines(finding, colour=colour)), flush=True)
    disk.clear()
    healthy = all(finding.level != "error" for finding in findings)
    if as_json:
        found = {"schema": 1, "healthy": healthy, "findings": findings}
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        errors = sum(finding.level == "error" for finding in findings)
        warnings = sum(finding.level == "warning" for finding in findings)
        print(f"{errors} error(s), {warnings} warning(s)" if errors or warnings else "all is well")
    return EXIT_DONE if healthy else EXIT_UNHEALTHY


def checks(home: Path, disk: WatchedDisk | None = None) -> Iterator[Finding]:
    """Every finding, the quick checks first; with ``disk``, everything is read through it."""
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
    if disk is not None:
        disk.total = to_read(home, config)
    yield from learning.learning(home, disk)
    yield from models.merged_models(home, disk)
    if disk is not None:
        yield from deep_checks(home, config, disk)


class WatchedDisk(Disk):
    """A disk that shows on a terminal how much of ``total`` was read through it."""

    def __init__(self, home: Path, *, shown: bool) -> None:
        super().__init__(home)
        self.total = 0
        self._shown = shown
        self._read = 0
        self._percent = -1

    def read(self, path: str) -> bytes:
        data = super().read(path)
        self._read += len(data)
        self._show()
        return data

    def chunks(self, path: str, size: int) -> Iterator[bytes]:
        for piece in super().chunks(path, size):
            self._read += len(piece)
            self._show()
            yield piece

    def _show(self) -> None:
        percent = min(100, 100 * self._read // self.total) if self.total else 0
        if self._shown and percent != self._percent:
            self._percent = percent
            sys.stderr.write(f"\r  reading everything: {percent} % of {sized(self.total)}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away: something is to be printed."""
        if self._shown and self._percent >= 0:
            sys.stderr.write("\r\x1b[K")
            self._percent = -1


def _lines(finding: Finding, *, colour: bool) -> Iterator[str]:
    sign, number = SIGNS[finding.level]
    sign = f"\x1b[{number}m{sign}\x1b[0m" if colour else sign
    code = f" [{finding.code}]" if finding.code else ""
    yield f"{sign} {finding.check:<14} {shown(finding.words)}{code}"
    if finding.todo and finding.level != "ok":
        yield f"  {'':<14} {shown(finding.todo)}"
