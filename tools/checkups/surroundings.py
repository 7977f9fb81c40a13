"""What the home stands on: base model, disk, file system, Python, libraries, clock."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from datetime import datetime, timedelta
from pathlib import Path

from actors.checkpointer.actor import CheckpointerSettings
from actors.checkpointer.head import HEAD_PATH
from actors.checkpointer.reserve import RESERVE
from actors.checkpointer.store import library_versions
from actors.consolidator.actor import ConsolidatorSettings, last_due
from actors.disk_guard.actor import DiskGuardSettings
from actors.trainer.base_model import base_folder, checked_folder, fingerprint
from actors.trainer.engine import EngineError
from actors.trainer.settings import TrainerSettings
from runtime import OperatorError
from runtime.disk import Disk
from runtime.settings import Composed
from tools.checkups.finding import Findings, error, ok, warning
from tools.commands.history import read_head, size

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "glusterfs", "lustre", "vboxsf")
NEEDED = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "msgspec", "anyio", "blake3")
PYTHON_MIN = (3, 11)
INODES_MIN = 10_000


def base_model(home: Path, config: Composed) -> Findings:
    """The folder is whole, and it is the model that this home began with."""
    name = config.take("trainer", TrainerSettings).model
    try:
        folder = base_model_folder(home, name)
    except EngineError as problem:
        yield error("base model", problem.why, "put the model there, or mend [trainer] model", problem.code)
        return
    if folder is None:
        yield ok("base model", f"{name} is a hub id and not in the cache yet; the daemon fetches it when it starts")
        return
    try:
        head = read_head(home)
    except OperatorError:
        head = None  # told by the checks of what was learnt
    began_with = head.base_fingerprint if head is not None else ""
    if not began_with:
        yield ok("base model", f"{folder} is there; nothing was learnt on it yet")
        return
    found = fingerprint(folder)
    if found != began_with:
        words = f"{folder} is not the model this home began with: expected {began_with}, found {found}"
        todo = "put the first model back: adapters and nights only fit their own"
        yield error("base model", words, todo, "NF-MODEL-010")
    else:
        yield ok("base model", f"{folder} is the one this home began with")


def base_model_folder(home: Path, name: str) -> Path | None:
    """Where the base lies. A hub id is only looked for in the cache: doctor looks, it does not download.

    Raises:
        EngineError: it is not there, or is none.
    """
    disk = Disk(home)
    local = disk.real_path(name).is_dir() or Path(name).is_absolute() or name.startswith((".", "~"))
    return base_folder(disk, name) if local or name.count("/") != 1 else _cached(name)


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return checked_folder(Path(snapshot_download(name, local_files_only=True)), name)
    except (LocalEntryNotFoundError, HFValidationError, EngineError):
        return None


def space(home: Path, config: Composed) -> Findings:
    """More free than is never granted away, and names left to give."""
    minimum = config.take("disk_guard", DiskGuardSettings).free_bytes_min
    free = Disk(home).free_bytes()
    if free < minimum:
        words = f"{size(free)} free, and [disk_guard] free_bytes_min wants {size(minimum)}"
        yield error("space", words, "free some space, or training waits", "NF-DISK-001")
    else:
        yield ok("space", f"{size(free)} free, {size(minimum)} are held back")
    yield from _reserve(home, config)
    room = os.statvfs(home)
    if room.f_files and room.f_favail < INODES_MIN:
        words = f"only {room.f_favail} more files can be made on this file system"
        yield warning("space", words, "remove many small files; free bytes do not help", "NF-DISK-001")


def _reserve(home: Path, config: Composed) -> Findings:
    """Is what is set aside for a full disk still there? Before the first start nothing is."""
    wanted = config.take("checkpointer", CheckpointerSettings).reserve_bytes
    found = Disk(home).stat(RESERVE)
    lies = found.size if found is not None else 0
    if lies == wanted or not (home / HEAD_PATH).exists():
        return
    if lies == 0:
        words = f"the reserve ({RESERVE}, {size(wanted)}) is spent: the next full disk may leave no room for status"
        yield warning("reserve", words, "make room: a running daemon, or the next start, makes it again", "NF-DISK-001")
    else:
        words = f"the reserve holds {size(lies)} and is to hold {size(wanted)}"
        yield warning("reserve", words, "nothing: the next start makes it so")


def file_system(home: Path) -> Findings:
    """Events do not cross a network, and a move between two file systems is a copy."""
    inbox = home / "inbox"
    kind = kind_of_mount(inbox if inbox.exists() else home, _mounts())
    if kind.removeprefix("fuse.") in NETWORK or kind == "fuse.sshfs":
        words = f"the inbox is on {kind}, where events do not tell of other machines' files"
        yield warning("file system", words, "nothing: the scan finds them within [inbox_watcher] scan_every_seconds")
    else:
        yield ok("file system", f"the inbox is on {kind or 'a file system that this system does not name'}")
    places = {name: (home / name).stat().st_dev for name in ("inbox", "state", "trained") if (home / name).exists()}
    if len(set(places.values())) > 1:
        words = f"{', '.join(places)} are not on one file system, so files are copied where they could be moved"
        yield warning("file system", words, "put the whole home on one file system if files are large")


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def kind_of_mount(path: Path, mounts: str) -> str:
    """The file system that ``path`` is on, by the longest mount point above it; ``""`` if it is not told."""
    real = path.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        # The last mount on one point covers the earlier ones.
        if (real == point or point in real.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def software() -> Findings:
    """Python and what the weights are made with. Read from metadata: nothing heavy is imported."""
    if sys.version_info < PYTHON_MIN:
        words = f"Python {platform.python_version()} is too old"
        yield error("software", words, f"install Python {'.'.join(map(str, PYTHON_MIN))} or newer")
    missing = [name for name in NEEDED if not _installed(name)]
    if missing:
        yield error("software", f"not installed: {', '.join(missing)}", "make setup, or: pip install nightfold")
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    yield ok("software", f"Python {platform.python_version()}, {versions}")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def clock(home: Path, config: Composed) -> Findings:
    """When the next night is, in which zone; and whether the clock has gone back."""
    settings = config.take("consolidator", ConsolidatorSettings)
    now = datetime.now().astimezone()
    if not settings.nightly:
        yield ok("clock", f"nights only when asked for; it is {now:%Y-%m-%d %H:%M %Z}")
    else:
        due = last_due(now, settings.at) + timedelta(days=1)
        yield ok(
            "clock", f"it is {now:%Y-%m-%d %H:%M} in {now:%Z} (UTC{now:%z}); the next night is due {due:%Y-%m-%d %H:%M}"
        )
    try:
        head = read_head(home)
        committed = datetime.fromisoformat(head.when) if head is not None else None
    except (OperatorError, ValueError):
        return
    if committed is not None and committed.tzinfo is not None and committed > now + timedelta(minutes=2):
        words = f"the last commit is from {committed:%Y-%m-%d %H:%M %Z}, in the future: the clock was set back"
        yield warning("clock", words, "see that the machine's clock is kept right (NTP)")
