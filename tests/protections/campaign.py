"""Takes one protection after another out of a copy of the house, and looks which tests of its edge cases fail.

Guarantees:
    * A test that passes with its protection gone is named: it proves nothing.
    * What is to be taken out must stand there exactly once, else ``NotThere``: no removal outlives its code.
    * The copy is thrown away; nothing is planted in the running program, so daemons that tests start run the copy, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tools.edge_cases import PART, Case, cases

PROJECT = Path(__file__).parents[2]
COPIED = (
    "actors",
    "messages",
    "runtime",
    "tools",
    "tests",
    "pyproject.toml",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Makefile",
)
SECONDS_MAX = 900.0
TEST_SECONDS_MAX = 240
"""Long, so that a test which fails has missed something and not merely been slow."""


class NotThere(LookupError):
    """The code that is to be taken out is no longer what the removal was written for."""


@dataclass(frozen=True)
class Without:
    """In ``file`` the text ``old`` becomes ``new``."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Removal:
    """One protection, gone.

    Attributes:
        rows: the edge cases that it protects from; all of their tests are run.
        what: the protection, in a few words: *a commit is read back*.
        edits: how it is taken out.
        tests: words that names of tests must have, any of them, where a whole row would take long; none: all.
    """

    rows: tuple[str, ...]
    what: str
    edits: tuple[Without, ...]
    tests: tuple[str, ...] = ()

    def chosen(self, found: Iterable[Case]) -> list[Case]:
        """The tests to be run, of those found."""
        return [
            case
            for case in found
            if case.mode != PART
            and set(self.rows) & set(case.rows)
            and (not self.tests or any(word in case.name for word in self.tests))
        ]


def gone(rows: str, what: str, *edits: tuple[str, str, str], tests: str = "") -> Removal:
    """A removal in short: rows and words of names are parted by spaces; an edit is (file, old, new)."""
    return Removal(tuple(rows.split()), what, tuple(Without(*edit) for edit in edits), tuple(tests.split()))


@dataclass(frozen=True)
class Finding:
    """Which tests failed without the protection, did not notice, could not run here; by name, parameters together."""

    removal: Removal
    failed: tuple[str, ...]
    passed: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    trouble: str = ""


def tried_all(removals: Iterable[Removal], jobs: int) -> Iterator[Finding]:
    """Each removal in a copy of its own; findings come as they are made."""
    with ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(tried, removal) for removal in removals]):
            yield done.result()


def tried(removal: Removal) -> Finding:
    """Take it out of a copy, run the tests."""
    with tempfile.TemporaryDirectory(prefix="nightfold-protection-") as folder:
        copy = Path(folder)
        copied_to(copy)
        taken_out(removal, copy)
        wanted = removal.chosen(cases(copy / "tests"))
        if not wanted:
            return Finding(removal, (), (), trouble="no test is named after its rows")
        names = sorted({f"tests/{case.file}::{case.name}" for case in wanted})
        report = copy / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", f"--junitxml={report}"]
        command += ["-p", "no:cacheprovider", "-p", "tests.protections.one_is_enough"]
        try:
            ended = subprocess.run(
                [*command, f"--timeout={TEST_SECONDS_MAX}", *names],
                cwd=copy,
                env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                timeout=SECONDS_MAX,
            )
        except subprocess.TimeoutExpired:
            return Finding(removal, (), (), trouble=f"not done after {SECONDS_MAX:g} s")
        finally:
            end_all_of(copy)
        if not report.exists():
            return Finding(removal, (), (), trouble=ended.stdout[-500:] + ended.stderr[-500:])
        failed, passed, skipped = read(report)
        trouble = "" if failed or passed else f"no test ran: {ended.stdout[-500:]}"
        return Finding(removal, failed, passed, skipped, trouble)


def end_all_of(copy: Path) -> None:
    """Kill what the tests started and left: where a protection is gone that ends children, there are such."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(copy) in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def copied_to(folder: Path) -> None:
    """The sources, without what was made from them."""
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)


def taken_out(removal: Removal, folder: Path) -> None:
    """Edit the copy.

    Raises:
        NotThere: what is to be taken out does not stand there exactly once.
    """
    for edit in removal.edits:
        path = folder / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise NotThere(
                f"{removal.what}: {edit.file} has this {text.count(edit.old)} times and not once:\n{edit.old}"
            )
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def read(report: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(tests that failed with any parameters, that passed, that were skipped with all of them), by name."""
    failed: set[str] = set()
    passed: set[str] = set()
    skipped: set[str] = set()
    for case in ET.parse(report).getroot().iter("testcase"):  # our own pytest wrote it
        name = case.get("name", "").partition("[")[0]
        if not name.startswith("test_"):
            continue  # a file that could not be imported: none of its tests was seen to fail
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed.add(name)
        elif "skipped" in kinds:
            skipped.add(name)
        else:
            passed.add(name)
    return tuple(sorted(failed)), tuple(sorted(passed - failed)), tuple(sorted(skipped - passed - failed))
