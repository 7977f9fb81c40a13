"""The home itself: config, folders, lock, notes left for the daemon, and what its status says."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from runtime import OperatorError, durable
from runtime.disk import Disk
from runtime.home_lock import living_pid
from runtime.settings import Composed
from tools.checkups.finding import Findings, error, ok, warning
from tools.commands.home import STATUS, read_status, shown
from tools.house import default_config, read_config

FOLDERS = (
    "inbox",
    "trained",
    "rejected",
    "failed",
    "state",
    "state/batches",
    "state/generations",
    "state/deltas",
    "snapshots",
    "consolidated_models",
    "status",
)
SILENT_SECONDS = 60.0
PROBLEMS_SHOWN = 5
AHEAD_SECONDS = 120.0


def config(home: Path) -> tuple[Composed, Findings]:
    """The home's config, or the defaults if it cannot be composed."""
    try:
        found = read_config(home)
    except OperatorError as problem:
        told = error("config", problem.what, problem.hint or "mend the lines that are named", problem.code)
        return default_config(), iter((told,))
    plugins = f", plug-ins: {', '.join(found.plugins)}" if found.plugins else ""
    return found, iter((ok("config", f"nightfold.toml is right{plugins}"),))


def folders(home: Path) -> Findings:
    """Each is a folder that may be written. One that is missing is made by the daemon, if the home may be written."""
    missing: list[str] = []
    for name in (".", *FOLDERS):
        path = home / name
        if not path.exists():
            missing.append(name)
        elif not path.is_dir():
            yield error("folders", f"{name} is not a folder", f"move {path} out of the way", "NF-DISK-002")
        elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            todo = f"give the daemon's user read and write permission on {path}"
            yield error("folders", f"{name} cannot be written", todo, "NF-DISK-002")
    note = f"; not there yet: {', '.join(missing)}" if missing else ""
    yield ok("folders", f"{len(FOLDERS) - len(missing)} of {len(FOLDERS)} folders are there{note}")


def daemon(home: Path) -> Findings:
    """Does one live, and does the status file say the same?"""
    pid = living_pid(home)
    status = read_status(home)
    if status["state"] == "crashed":
        damaged = "cannot be read" in str(status["reason"])
        words = f"the status file {'is damaged' if damaged else 'says it runs, and nobody lives'}: {status['reason']}"
        yield error("daemon", shown(words), f"what was committed is safe; start it again: nightfold run {home}")
    elif pid is None:
        yield ok("daemon", "none is running")
    else:
        yield ok("daemon", f"pid {pid} is {status['state']}")
        yield from _heartbeat(home, status)
    errors = [one for one in status.get("problems") or () if isinstance(one, dict)][-PROBLEMS_SHOWN:]
    for one in errors:
        words = f"{shown(one.get('message', ''))} (at {shown(one.get('when', '?'))})"
        yield warning("problems", words, shown(one.get("hint", "")), shown(one.get("code", "")))
    if (home / STATUS).exists() and not errors:
        yield ok("problems", "the daemon has noted none")


def _heartbeat(home: Path, status: dict[str, Any]) -> Findings:
    try:
        written = datetime.fromisoformat(str(status["heartbeat"])).timestamp()
    except ValueError:
        return
    age = datetime.now().astimezone().timestamp() - written
    if age > SILENT_SECONDS:
        todo = f"see what it is doing: nightfold ps {home}"
        yield warning("daemon", f"it has given no sign of life for {age:.0f} s", todo, "NF-RUN-004")
    elif age < -AHEAD_SECONDS:
        words = f"its last sign of life is {-age:.0f} s in the future: the clock was set back"
        yield warning("clock", words, "see that the machine's clock is kept right (NTP)")


def notes(home: Path) -> Findings:
    """``.stop``, ``.pause`` and ``.consolidate`` are wishes; old ones surprise."""
    living = living_pid(home) is not None
    if (home / ".stop").exists() and not living:
        yield warning("notes", "a stale .stop lies in the home", "nothing: the next start removes it")
    if (home / ".pause").exists():
        todo = f"if that is no longer wanted: nightfold resume {home}"
        yield warning("notes", "training is paused by .pause, through restarts", todo)
    if (home / ".consolidate").exists() and not living:
        yield warning("notes", "a .consolidate waits: the next start begins with a night", "remove it if unwanted")


def leftovers(home: Path) -> Findings:
    """Temporary names of protocols that were cut short. A living daemon may be at work on some right now."""
    disk = Disk(home)
    left = [
        name if folder == "." else f"{folder}/{name}"
        for folder in (".", *FOLDERS)
        if (found := disk.stat(folder)) is not None and found.kind == "dir"
        for name in disk.listdir(folder)
        if durable.is_leftover(name)
    ]
    if left and living_pid(home) is None:
        yield warning(
            "leftovers", f"an interrupted write left {', '.join(left[:5])}", "nothing: the next start sweeps them"
        )
    else:
        yield ok("leftovers", "none" if not left else f"{len(left)} being worked on")


def batches(home: Path) -> Findings:
    """Files that left the inbox and are not filed yet."""
    folder = home / "state" / "batches"
    claimed = sorted(path.name for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []
    if not claimed:
        yield ok("batches", "no file is on its way")
    elif living_pid(home) is None:
        yield ok("batches", f"{len(claimed)} file(s) on their way ({', '.join(claimed[:5])}) go on at the next start")
    else:
        yield ok("batches", f"{len(claimed)} file(s) on their way: {', '.join(claimed[:5])}")
    for name in ("rejected", "failed"):
        reports = sorted((home / name).glob("*.report.json"))
        lone = [path.name for path in reports if not _reported(path).exists()]
        if lone:
            todo = "somebody moved the file away by hand; remove the report too"
            yield warning("batches", f"{name}/ has reports without their file: {shown(', '.join(lone[:3]))}", todo)


def _reported(report: Path) -> Path:
    try:
        named = json.loads(report.read_bytes()).get("name", "")
    except (OSError, ValueError, AttributeError):
        named = ""
    beside = report.with_name(report.name.removesuffix(".report.json"))
    return beside if beside.exists() or not named else report.with_name(str(named))
