"""The older trainer's home: which of its pieces are there, and what its config and notes say. It is only ever read.

Layout: ``current_model/`` (an adapter with optimizer, scheduler and counters beside it), ``snapshots/20*/`` (the same,
by date), ``consolidated_models/<stamp>/`` (whole models), ``config.json``, ``.last_consolidation``.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from tools.moving_in.notes import Notes

CURRENT = "current_model"
SNAPSHOTS = "snapshots"
CONSOLIDATED = "consolidated_models"
CONFIG = "config.json"
LAST_CONSOLIDATION = ".last_consolidation"
KNOWN = (CURRENT, SNAPSHOTS, CONSOLIDATED, CONFIG, LAST_CONSOLIDATION)
UNFINISHED = (".tmp", ".part", ".partial", ".incomplete", ".lock", "~")
NAMES_SHOWN = 8


class OldHome:
    """What lies in ``folder``."""

    def __init__(self, folder: Path, notes: Notes) -> None:
        self.folder = folder
        self.current = folder / CURRENT
        self.snapshots = _dated(folder / SNAPSHOTS)
        self.models = _dated(folder / CONSOLIDATED)
        self.config = _read_config(folder / CONFIG, notes)
        self.last_consolidation = _read_note(folder / LAST_CONSOLIDATION)
        self._marks = self._looked()

    def changed_since(self) -> list[str]:
        """Files that somebody wrote, made or removed since this object was made."""
        before, now = self._marks, self._looked()
        return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))

    def _looked(self) -> dict[str, tuple[int, int]]:
        folders = [self.current, *self.snapshots, *self.models[-1:]]
        files = [self.folder / CONFIG, *(path for folder in folders if folder.is_dir() for path in folder.iterdir())]
        marks = {}
        for path in files:
            if path.is_file():
                found = path.stat()
                marks[path.relative_to(self.folder).as_posix()] = (found.st_size, found.st_mtime_ns)
        return marks

    def tell_of_the_rest(self, notes: Notes) -> None:
        """Name what else lies there: it is not moved, and nobody should find that out later."""
        others = sorted(path.name for path in self.folder.iterdir() if path.name not in KNOWN)
        if others:
            shown = ", ".join(others[:NAMES_SHOWN]) + (" …" if len(others) > NAMES_SHOWN else "")
            notes.leave(
                str(self.folder),
                f"no part of a model's learning: {shown}",
                "they stay where they are; files still to be learnt: nightfold submit HOME FILE",
            )
        if len(self.models) > 1:
            notes.leave(
                f"{self.folder / CONSOLIDATED}",
                f"{len(self.models) - 1} older consolidated model(s): nothing of the adapter stands on them",
                "they stay where they are; each loads with plain transformers",
            )


def day_of(name: str) -> date | None:
    """The date that a folder's name begins with, ``2026-11-23`` or ``20261123T030000``; ``None`` if it has none."""
    found = re.match(r"(20\d\d)-?(\d\d)-?(\d\d)", name)
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None


def _dated(folder: Path) -> list[Path]:
    """Folders named by date, oldest first, but for those that somebody was still writing."""
    if not folder.is_dir():
        return []
    return sorted(
        (
            path
            for path in folder.iterdir()
            if path.name.startswith("20") and path.is_dir() and not path.name.endswith(UNFINISHED)
        ),
        key=lambda path: path.name,
    )


def _read_config(path: Path, notes: Notes) -> dict[str, Any]:
    """The config, ``{}`` where there is none: only ``model_path`` may be missed, and whoever does misses it tells."""
    if not path.exists():
        notes.leave(str(path), "it is not there", "nothing; Nightfold's own settings are used")
        return {}
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        notes.problem("NF-STATE-011", str(path), f"it cannot be read: {error}", "a JSON object", "mend or restore it")
        return {}
    if not isinstance(config, dict):
        found = type(config).__name__
        notes.problem("NF-STATE-011", str(path), f"it holds a {found}", "a JSON object", "mend or restore it")
        return {}
    return config


def _read_note(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:100] if path.is_file() else ""
    except OSError:
        return ""
