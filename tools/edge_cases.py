"""The edge cases that must be boring, and the tests that make each happen: a table that cannot disagree with the tests.

A test belongs to a row by its name: ``test_b2_n3_power_cut_at_every_operation`` is of the rows b2 and n3. How it runs
is read from its file: *real* is what bears the mark ``real`` and drives the real process, file system or torch; *sim*
is what runs on the simulated disk and clock; the rest looks at one part alone and proves no row.

``python -m tools.edge_cases`` prints the table; ``--write FILE`` puts it between the markers in FILE, ``--check FILE``
exits 1 if what stands there is not what the tests say now.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools import markers

BEGIN = "<!-- edge-cases:begin -->"
END = "<!-- edge-cases:end -->"
TESTS = Path(__file__).parents[1] / "tests"
NAMES_A_CELL = 4
"""More of a mode are counted: ``pytest -k _n8_`` names them all."""

SIM, REAL, PART = "sim", "real", "part"
SIMULATED = ("tests.actors.stage", "runtime.simulation", "tests.tools.simulated_home", "tools.simulated_house")
"""Whoever imports one of these has its tests on the simulated disk and clock, but for those marked ``real``."""


class Row(NamedTuple):
    """What happens, what then holds, where a test must show it, and what README says where a person meets it.

    ``but`` is the part of it that does not hold: the table says so.
    """

    id: str
    when: str
    then: str
    modes: tuple[str, ...]
    told: str = ""
    but: str = ""


SECTIONS: Mapping[str, str] = {
    "b": "between batches",
    "n": "nights",
    "t": "training",
    "r": "restarts",
    "d": "disk",
    "f": "files dropped",
    "a": "actors",
}

ROWS: tuple[Row, ...] = (
    Row(
        "b1",
        "a file of the newest generation is cut short, bit-flipped, empty, not JSON or gone",
        "the manifest finds it; the newest sound generation is in force, the damaged one set aside and told once",
        (SIM, REAL),
        "NF-STATE-006",
    ),
    Row(
        "b2",
        "power cut or kill at any write, sync or rename of a commit, a claim or a filing",
        "the old or the new is in force, never a mixture; leftovers are swept at the start",
        (SIM, REAL),
    ),
    Row(
        "b3",
        "an old generation cannot be deleted",
        "a warning, tried again later, counted in the status; work goes on",
        (SIM, REAL),
    ),
    Row(
        "b4",
        "somebody edits `global_step` by hand",
        "refused like damage, for it disagrees with the manifest; said plainly",
        (REAL,),
        "edited by hand",
    ),
    Row(
        "b5",
        "a crash in the last checkpoint of a file",
        "it goes on from the checkpoint before; weights and optimizer are always of one step",
        (SIM, REAL),
    ),
    Row("b6", "counts past 9 999 and 999 999", "the newest is by number, never by the order of names", (SIM,)),
    Row(
        "b7",
        "optimizer, scheduler or generators are missing",
        "the generation is refused as a whole; never silently fresh",
        (REAL,),
    ),
    Row(
        "b8",
        "written by an older or a newer version",
        "the older is read and migrated by the next commit; the newer is refused and left untouched",
        (REAL,),
        "NF-STATE-004",
    ),
    Row(
        "b9",
        "a file of the merged model in force is damaged, exchanged, too many or gone; or the whole model is",
        "found before it is loaded, or by the scrub; merged anew with the same bytes, or else the newest generation "
        "on a sound model is in force; never trained on",
        (SIM, REAL),
        "NF-MERGE-050",
    ),
    Row(
        "n1",
        "training runs at the hour of the night",
        "the night waits until it is idle and runs the same date; training is not interrupted",
        (SIM,),
    ),
    Row(
        "n2",
        "crash or kill in the middle of the merge",
        "what is half made is swept; yesterday is in force; the night runs again",
        (SIM, REAL),
    ),
    Row(
        "n3",
        "power cut between any two steps of a night",
        "the adapter is never gone before the merged model is proven and committed",
        (SIM,),
    ),
    Row(
        "n4",
        "HEAD cannot be moved to the new base",
        "old base and adapter stay in force together; the next try merges anew",
        (SIM,),
    ),
    Row(
        "n5",
        "the disk is full in the middle of the merge, or would be",
        "the night is refused or undone and told; training goes on",
        (SIM, REAL),
    ),
    Row("n6", "a restart during a night", "the start finishes or undoes it; no state is stale", (SIM, REAL)),
    Row(
        "n7",
        "a merge does not end within its time",
        "it is killed with its children, undone, told, tried again later",
        (REAL,),
    ),
    Row(
        "n8",
        "off at the hour, a clock that jumps, daylight saving",
        "one night for each local date on which there is something to fold",
        (SIM,),
    ),
    Row("n9", "nothing was learnt since the last night", "no night, and no file written", (SIM,)),
    Row(
        "n10",
        "the merged model differs from base and adapter, or answers worse",
        "the night is refused with both figures; the adapter is kept",
        (SIM, REAL),
    ),
    Row("n11", "a file arrives in the middle of a night", "it waits, and trains on the new base", (SIM,)),
    Row(
        "n12",
        "tied embeddings; embeddings or head among the targets",
        "merged rightly, or refused in words before anything is trained; never silently wrong",
        (REAL,),
    ),
    Row(
        "t1",
        "crash or kill in the middle of a file",
        "it goes on at its cursor; the bytes are those of an undisturbed run",
        (SIM, REAL),
    ),
    Row(
        "t2",
        "the status says training and no process lives",
        "`status` says crashed by itself; the next start sets it right",
        (REAL,),
        "crashed (pid gone)",
    ),
    Row(
        "t3",
        "a file fails for good",
        "it lies in `failed/` with its report; the next goes on; `retry` puts it back",
        (SIM, REAL),
        "a file in `failed/`",
    ),
    Row(
        "t4",
        "out of memory",
        "the same step in smaller pieces, told in the receipt; with one example left the file fails in words",
        (SIM, REAL),
    ),
    Row("t5", "an error that may pass", "tried again, waits doubling, bounded; then as t3", (SIM,)),
    Row(
        "t6",
        "loss, gradient or weight is not finite",
        "the step is skipped; three in a row set the file aside; nothing such is ever committed",
        (SIM, REAL),
    ),
    Row(
        "t7",
        "stop, SIGTERM, SIGINT or `.stop` in the middle of a step",
        "the step ends, a checkpoint commits, exit 0; a second signal does no harm",
        (REAL,),
    ),
    Row("t8", "pause", "holds within one step; going on changes no bit", (SIM, REAL)),
    Row("t9", "the thread that computes hangs", "the daemon still answers, shows it and can be stopped", (SIM,)),
    Row(
        "t10",
        "the base model is gone, changed or damaged",
        "refused at the start with both fingerprints; nothing is trained on another base",
        (REAL,),
        "NF-MODEL-010",
    ),
    Row(
        "r1",
        "killed anywhere and started again",
        "HEAD, base, ledger and files are verified and set right, and it says what it did",
        (SIM, REAL),
    ),
    Row(
        "r2",
        "`current_model` is there and what it names is damaged",
        "as b1; then the newest sound snapshot; then exit 78 in words, with nothing deleted",
        (REAL,),
        "NF-STATE-002",
    ),
    Row("r3", "a stale `.stop`", "removed at the start, and noted", (REAL,)),
    Row(
        "r4",
        "a second daemon on the same home",
        "refused at once with the living pid, exit 75; a dead one's lock is taken over",
        (REAL,),
        "NF-STATE-001",
    ),
    Row(
        "r5",
        "missing, unknown, mistyped or out-of-range values in the config",
        "exit 78 with line, key, what was expected and the nearest known key; all at once",
        (REAL,),
        "NF-CONF-001",
    ),
    Row("r6", "the home is moved or copied", "it works: no absolute path lies in the state", (REAL,)),
    Row(
        "d1",
        "no room for a file's checkpoints",
        "not begun; the status says what is missing; begins by itself when there is room",
        (SIM, REAL),
        "NF-DISK-001",
    ),
    Row(
        "d2",
        "snapshots, models, generations, papers and traces pile up",
        "the newest so many are kept; what is in force, or what that needs, never goes",
        (SIM, REAL),
    ),
    Row(
        "d3",
        "the disk fills while it trains",
        "held at the last commit and told; retention runs; it goes on by itself; the status is still written",
        (SIM, REAL),
        "NF-DISK-001",
    ),
    Row("d4", "a delete half succeeds", "the rest is tried again; what is half deleted can never be loaded", (SIM,)),
    Row(
        "d5",
        "no space or an error at any write, sync, rename, mkdir or unlink",
        "as if that step had not begun; the next start leaves no temporary file",
        (SIM, REAL),
    ),
    Row(
        "d6",
        "the home turns read-only or vanishes",
        "it ends in words with 74; no spin, no loss",
        (SIM,),
        "NF-DISK-002",
    ),
    Row(
        "f1",
        "a line is not JSON or not UTF-8, holds NULs, a mark or CRLF, nests 10 000 deep, is 100 MB long",
        "rejected with line numbers before any GPU time, or read as it is meant; memory stays bounded",
        (REAL,),
    ),
    Row(
        "f2",
        "a field is missing or of the wrong type",
        "as f1, with the path, what was expected and what was found",
        (REAL,),
    ),
    Row("f3", "empty, blank lines alone, no token to be learnt", "rejected in words", (REAL,)),
    Row(
        "f4",
        "still being written, or uploaded in pieces",
        "waited for until it is complete",
        (SIM, REAL),
    ),
    Row(
        "f5",
        "ten thousand files at once; a very large file",
        "bounded memory, the order of arrival, progress shown",
        (REAL,),
    ),
    Row(
        "f6",
        "the same name or the same content again",
        "a file of its own, both kept; the same content is noted, and skipped if the config says so",
        (REAL,),
    ),
    Row(
        "f7",
        "links, specials, folders, unreadable files; odd names",
        "what is no file is refused with a report; odd names work everywhere, on a terminal too",
        (REAL,),
    ),
    Row(
        "f8",
        "the inbox is on another file system, or on one without events",
        "copied, synced, compared, then removed; polled where events do not work",
        (REAL,),
    ),
    Row("f9", "a person takes a file back before it was claimed", "nothing happens but a note", (REAL,)),
    Row(
        "f10",
        "some of the lines are bad",
        "by policy the file is rejected, or its good lines are learnt and the rest told",
        (REAL,),
        "NF-DATA-001",
    ),
    Row(
        "a1",
        "any actor raises over any message",
        "restarted; the message comes once more and is then a dead letter; nobody else is disturbed",
        (SIM,),
    ),
    Row(
        "a2",
        "an actor keeps failing",
        "the daemon ends with 70, naming the actor, the message and what led to it",
        (SIM,),
        "NF-RUN-003",
    ),
    Row(
        "a3",
        "a plug-in is slow, raises, floods or hangs",
        "training is not slowed; its drops and restarts are counted and shown",
        (SIM, REAL),
    ),
    Row(
        "a4",
        "any interleaving",
        "one writer for each file, one file in training, nothing lost or learnt twice",
        (SIM,),
    ),
)


class Case(NamedTuple):
    """A test that names rows: where it is, and how it runs."""

    file: str
    name: str
    rows: tuple[str, ...]
    mode: str


def cases(tests: Path = TESTS) -> list[Case]:
    """Every test under the folder whose name begins with ids of rows."""
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        marked = any(
            _marks_real(node.value) for node in tree.body if isinstance(node, ast.Assign) and _is_pytestmark(node)
        )
        simulated = path.is_relative_to(tests / "simulation") or any(map(_imports_simulation, tree.body))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if not (match := re.match(r"test_((?:[a-z]\d+_)+)", node.name)):
                continue
            real = marked or any(map(_marks_real, node.decorator_list))
            mode = REAL if real else SIM if simulated else PART
            rows = tuple(match[1].rstrip("_").split("_"))
            found.append(Case(path.relative_to(tests).as_posix(), node.name, rows, mode))
    return found


def _is_pytestmark(node: ast.Assign) -> bool:
    return ast.unparse(node.targets[0]) == "pytestmark"


def _marks_real(node: ast.expr) -> bool:
    return "pytest.mark.real" in [ast.unparse(one) for one in ast.walk(node) if isinstance(one, ast.Attribute)]


def _imports_simulation(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith(SIMULATED)


def lacking(found: Sequence[Case]) -> set[tuple[str, str]]:
    """Each (row, mode) that is asked for and that no test shows."""
    shown = {(row, case.mode) for case in found for row in case.rows}
    return {(row.id, mode) for row in ROWS for mode in row.modes} - shown


def drawn(found: Sequence[Case]) -> str:
    """The table, as Markdown."""
    lines = ["| | when | then | tests |", "| --- | --- | --- | --- |"]
    section = ""
    for row in ROWS:
        if row.id[0] != section:
            section = row.id[0]
            lines.append(f"| | **{SECTIONS[section]}** | | |")
        cells = [
            _cell(mode, [case.name for case in found if row.id in case.rows and case.mode == mode])
            for mode in (SIM, REAL)
        ]
        then = f"{row.then}. *But* {row.but}" if row.but else row.then
        lines.append(f"| {row.id} | {row.when} | {then} | {'<br>'.join(cell for cell in cells if cell)} |")
    return "\n".join(lines)


def _cell(mode: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMES_A_CELL} more" if len(names) > NAMES_A_CELL else ""
    return f"{mode}: {', '.join(f'`{name}`' for name in names[:NAMES_A_CELL])}{more}"


def placed(text: str, table: str) -> str:
    """``text`` with ``table`` between the markers; ``ValueError`` where they are not there once each, in order."""
    return markers.placed(text, table, BEGIN, END)


def main(argv: Sequence[str] | None = None) -> int:
    """Print, write or check."""
    return markers.print_write_or_check(
        argv,
        tool="tools.edge_cases",
        does="which tests hold which edge case",
        source="the tests say",
        part=drawn(cases()),
        place=placed,
    )


if __name__ == "__main__":
    sys.exit(main())
