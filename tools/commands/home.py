"""A home as the commands see it: whether a folder is one, and what its status file says.

Standard library alone, so that the commands which only look or leave a note answer at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from runtime.errors import EXIT_CONFIG, OperatorError
from runtime.home_lock import living_pid

CONFIG = "nightfold.toml"
STATUS = "status/training_status.json"

# What a reader of --json may count on, also before anything was ever trained.
_UNKNOWN: dict[str, Any] = {
    "state": "stopped",
    "reason": "",
    "pid": None,
    "global_step": 0,
    "adapter_id": "",
    "adapter_step": 0,
    "generation": 0,
    "base_model": "",
    "queue": [],
    "batch": None,
    "disk": None,
    "last_error": None,
    "counts": {"trained": 0, "rejected": 0, "failed": 0},
    "last_consolidation": None,
    "heartbeat": None,
    "disabled": [],
}


def require_home(home: Path) -> Path:
    """``home`` itself.

    Raises:
        OperatorError: NF-CONF-002, it is not a home.
    """
    if (home / CONFIG).is_file():
        return home
    found = "has no " + CONFIG if home.is_dir() else "does not exist"
    raise OperatorError(
        "NF-CONF-002",
        f"{home} is not a home: it {found}",
        hint=f"check the path, or make a home there: nightfold init {home} --tiny",
        exit_code=EXIT_CONFIG,
    )


def read_status(home: Path) -> dict[str, Any]:
    """The status as it is *now*: what the daemon wrote last, held against whether it still lives.

    A file cannot say that its writer has died, so ``state`` and ``pid`` are believed only while the process
    that wrote them holds the home's lock.
    """
    written = _written(home)
    pid = living_pid(home)
    status = {**_UNKNOWN, **(written or {})}
    said = status["state"]
    if pid is None:
        status["pid"] = None
        status["queue"] = waiting_names(home)
        if written is None:
            damaged = (home / STATUS).exists()
            status["state"] = "crashed" if damaged else "stopped"
            status["reason"] = f"{STATUS} cannot be read" if damaged else "never started"
        elif said != "stopped":
            status["state"] = "crashed"
            status["reason"] = f"pid {written.get('pid')} is gone; it was {said}"
    elif written is None or (pid and written.get("pid") != pid):
        # The lock is held by a daemon that has not written its first status: what lies there is its forerunner's.
        status.update(state="idle", reason="starting", pid=pid or None, batch=None)
    elif said == "stopped":
        # Its last word is written, and it lets go of the home in a moment.
        status.update(state="idle", reason="stopping")
    return status


def waiting_names(home: Path) -> list[str]:
    """Names in the inbox that a daemon would take, in order of arrival."""
    try:
        with os.scandir(home / "inbox") as entries:
            found = [
                (entry.stat(follow_symlinks=False).st_ctime_ns, entry.name)
                for entry in entries
                if entry.name.endswith(".jsonl") and not entry.name.startswith(".")
            ]
    except OSError:
        return []  # No inbox, or a file went while we looked: this is a view, and the daemon's scan decides.
    return [name for _, name in sorted(found)]


def shown(name: object) -> str:
    """A name as it may safely go to a terminal: no newline, escape sequence or undecodable byte."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(name))


def _written(home: Path) -> dict[str, Any] | None:
    try:
        status = json.loads((home / STATUS).read_bytes())
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None
