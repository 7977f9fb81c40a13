"""The undisturbed run, which says what points there are and what the script comes to; and one case beside it.

In a work folder: ``model``, ``reference/STAGE`` (the home and its journal as each stage begins), ``reference.json``
and ``results.jsonl``, one line for each finished case. A work folder belongs to one state of the sources: with another,
what was found before says nothing, and it is begun anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import Counter
from pathlib import Path

import msgspec

from runtime import OperatorError
from tools.crash_matrix.dropped import names
from tools.crash_matrix.faulty_disk import Strike
from tools.crash_matrix.outcome import difference, leftovers, outcome
from tools.crash_matrix.points import Fault, Places, Point
from tools.crash_matrix.script import STAGES, Broken, Run

PROJECT = Path(__file__).parents[2]
SOURCES = (
    "actors",
    "messages",
    "runtime",
    "tools/crash_matrix",
    "tools/daemon.py",
    "tools/house.py",
    "tools/commands/rollback.py",
)
WORDS_KEPT = 2000


class Reference(msgspec.Struct, frozen=True):
    """The undisturbed run. ``outcomes``: at the end of each stage. ``operations``: each stage's, as (operation, place,
    passings)."""

    sources: str
    outcomes: dict[str, dict[str, str]]
    operations: dict[str, list[tuple[str, str, int]]]
    seconds: float

    def points(self) -> list[Point]:
        """Every point, in the order of the script's stages and, within one, of first coming to its place."""
        return [
            Point(stage, operation, place, passing)
            for stage in STAGES
            for operation, place, passings in self.operations[stage]
            for passing in range(1, passings + 1)
        ]


class Case(msgspec.Struct, frozen=True):
    """One fault at one point; ``why`` is empty when it was bit-exact at the end of stage ``last``."""

    point: str
    fault: Fault
    why: str
    seconds: float
    processes: int = 0
    last: str = STAGES[-1]


def sources_digest() -> str:
    """Of everything that the daemon and the script are made of; the simulation is not."""
    digest = hashlib.blake2b(digest_size=16)
    for source in SOURCES:
        root = PROJECT / source
        for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            if "simulation" not in file.parts:
                digest.update(file.relative_to(PROJECT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def known_reference(work: Path) -> Reference | None:
    """That of the work folder, if it has one of these sources."""
    file = work / "reference.json"
    known = msgspec.json.decode(file.read_bytes(), type=Reference) if file.exists() else None
    return known if known is not None and known.sources == sources_digest() else None


def new_reference(work: Path) -> Reference:
    """Play the script undisturbed; what an earlier one has found is forgotten.

    Raises:
        Broken: it does not come to its end.
    """
    sources = sources_digest()
    for stale in ("reference", "reference.json", "results.jsonl", "undisturbed", "cases"):
        if (work / stale).is_dir():
            shutil.rmtree(work / stale)
        else:
            (work / stale).unlink(missing_ok=True)
    if not (work / "model").exists():
        _build_model(work)
    began = time.monotonic()
    run = Run.begun(work / "undisturbed", work / "model")
    operations, outcomes = {}, {}
    for stage in STAGES:
        run.image(work / "reference" / stage)
        done_before = _entries(run)
        run.play(stage)
        operations[stage] = _counted(_entries(run)[len(done_before) :])
        outcomes[stage] = outcome(run.home)
    if run.exits != [0] * len(STAGES):
        raise Broken(f"without any fault the processes ended with {run.exits}:\n{run.said.read_text()}")
    left = leftovers(run.home)
    if left:
        raise Broken(f"without any fault there is left: {', '.join(left)}")
    found = Reference(sources, outcomes, operations, round(time.monotonic() - began, 2))
    (work / "reference.json").write_bytes(msgspec.json.encode(found))
    return found


def _build_model(work: Path) -> None:
    from tools.tiny_model import build_tiny_model

    staged = work / "model.part"
    shutil.rmtree(staged, ignore_errors=True)
    build_tiny_model(staged)
    staged.rename(work / "model")


def _entries(run: Run) -> list[list[str]]:
    journal = run.folder / "journal"
    return [json.loads(line) for line in journal.read_text().splitlines()]


def _counted(entries: list[list[str]]) -> list[tuple[str, str, int]]:
    places = Places(names())
    counts = Counter(
        (operation, places.place(path))
        for operation, path, *_ in entries
        if operation not in ("adopt", "drop", "folder")
    )
    return [(operation, place, passings) for (operation, place), passings in counts.items()]


def tried(work: Path, point: Point, fault: Fault, wanted: Reference, last: str = STAGES[-1]) -> Case:
    """Play the script from the stage of ``point`` on, with the fault in it, and compare its end.

    ``last`` may be ``point.stage``: then what that stage has come to is compared; the later ones are a function of it.
    """
    folder = work / "cases" / hashlib.blake2b(f"{point} {fault}".encode(), digest_size=8).hexdigest()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    strike = Strike(point.operation, point.place, point.passing, fault)
    run = Run.copied(work / "reference" / point.stage, folder, strike)
    try:
        why = _end_of(run, point.stage, last, wanted)
    except (Broken, OperatorError, OSError, ValueError, LookupError) as broken:
        # What the home lacks or cannot be read as is a finding about it, too.
        why = f"{type(broken).__name__}: {broken}"
    if why:
        said = run.said.read_text() if run.said.exists() else ""
        why = f"{why}\n  exits {run.exits}; the home: {run.home}\n{said[-WORDS_KEPT:]}"
    else:
        shutil.rmtree(folder)
    return Case(str(point), fault, why, round(time.monotonic() - began, 2), len(run.exits), last)


def _end_of(run: Run, first: str, last: str, wanted: Reference) -> str:
    """What is wrong at the end of the stage ``last``; empty if nothing is."""
    for stage in STAGES[STAGES.index(first) : STAGES.index(last) + 1]:
        run.play(stage)
        if not run.struck:
            return "the point was not passed in the stage that was to meet it"
    if leftovers(run.home):
        run.live_once_more()  # what a failed delete has left, the next start takes
    left = leftovers(run.home)
    if left:
        return f"left over: {', '.join(left)}"
    return difference(wanted.outcomes[last], outcome(run.home))
