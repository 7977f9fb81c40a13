"""Reads the evidence off a home on which no daemon lives: where everything is, and what the papers say."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.checkpointer.head import Head, decode
from actors.checkpointer.verification import Damaged, verify
from actors.inbox_watcher.filing import paper_name
from runtime import OperatorError
from runtime.disk import Disk
from runtime.manifest import seal_holds
from tools.commands.doctor import checks
from tools.crash_matrix.outcome import leftovers
from tools.soak.checks import Paper
from tools.soak.dropped import token_at

PAPERS = {"trained": "receipt", "rejected": "report", "failed": "report"}


def outcomes(home: Path) -> dict[str, list[str]]:
    """Where each dropped thing lies that has its outcome."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for folder in PAPERS:
        for path in things_in(home / folder):
            found[token_at(path)].append(shown(path, home))
    return dict(found)


def waiting(home: Path) -> list[str]:
    """What has none yet: in the inbox, but for hidden names, and among the claimed."""
    inbox = [path for path in sorted((home / "inbox").iterdir()) if not path.name.startswith(".")]
    claimed = sorted((home / "state/batches").glob("*/*"))
    return [shown(path, home) for path in (*inbox, *claimed)]


def things_in(folder: Path) -> list[Path]:
    """What was dropped and lies in this last place, without papers and hidden names."""
    if not folder.is_dir():
        return []
    ending = f".{PAPERS[folder.name]}.json"
    return [
        path for path in sorted(folder.iterdir()) if not path.name.endswith(ending) and not path.name.startswith(".")
    ]


def papers(home: Path, epoch_of: Mapping[str, int], newest: int) -> list[Paper]:
    """Every receipt and report; a batch that ``epoch_of`` does not know was filed in the newest epoch."""
    found = []
    for folder, kind in PAPERS.items():
        for path in sorted((home / folder).glob(f"*.{kind}.json")):
            said = json.loads(path.read_bytes())
            found.append(
                Paper(
                    shown(path, home),
                    said["batch"],
                    epoch_of.get(said["batch"], newest),
                    said.get("first_global_step", 0),
                    said.get("last_global_step", 0),
                    said.get("steps_kept", 0),
                )
            )
    return found


def unmatched(home: Path) -> tuple[list[str], list[str]]:
    """Files without their paper, and papers without their file."""
    unpapered, unfiled = [], []
    for folder, kind in PAPERS.items():
        wanted = {paper_name(path.name, kind): path for path in things_in(home / folder)}
        there = {path.name: path for path in (home / folder).glob(f"*.{kind}.json")}
        unpapered += [shown(path, home) for name, path in wanted.items() if name not in there]
        unfiled += [shown(path, home) for name, path in there.items() if name not in wanted]
    return unpapered, unfiled


def head_of(home: Path) -> dict[str, Any]:
    """HEAD as it is written; of a home in which nothing was committed, an empty one."""
    try:
        return dict(json.loads((home / "state/HEAD").read_bytes()))
    except FileNotFoundError:
        return {"generation": 0, "kept": [], "deltas": [], "nights": []}


def step_of(home: Path) -> int:
    """The global step of what is in force."""
    head = head_of(home)
    return sum(kept["global_step"] for kept in head["kept"] if kept["generation"] == head["generation"])


def unsound(home: Path) -> str:
    """What is wrong with HEAD or with what it keeps; empty if nothing is."""
    try:
        raw = (home / "state/HEAD").read_bytes()
        head = decode(raw, Head, "state/HEAD")
        if not seal_holds(raw):
            return "HEAD is not as it was sealed"
        for kept in head.kept:
            verify(Disk(home), kept.path, kept.manifest)
        for delta in head.deltas:
            verify(Disk(home), delta.path, delta.digest)
    except (OSError, ValueError, OperatorError, Damaged) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def errors_of_doctor(home: Path) -> list[str]:
    """What ``nightfold doctor`` would exit with 4 for."""
    return [f"{found.check}: {found.words}" for found in checks(home) if found.level == "error"]


def left_over(home: Path) -> list[str]:
    """As the crash matrix asks, and hidden names of the inbox, which are a person's."""
    try:
        return [path for path in leftovers(home) if not path.startswith("inbox/")]
    except (OSError, ValueError) as error:
        return [f"not to be read: {error}"]


def shown(path: Path, home: Path) -> str:
    """Home-relative, in characters that a terminal takes."""
    return repr(path.relative_to(home).as_posix())[1:-1]
