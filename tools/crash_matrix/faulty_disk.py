"""A ``Disk`` that names every durable operation, writes a journal of them, and lets one fault strike at one of them.

Guarantees that the journal holds exactly what was done when the process is killed: operation and note are one, behind
a lock that whoever strikes holds too. Files that lose their last name are kept under another outside the home, for a
power cut may bring them back. Nothing is really synced: what a power cut leaves is computed from the journal, a kill
needs no sync, and the campaign would mostly wait for the device.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from runtime.disk import Disk
from tools.crash_matrix.points import Fault, Places, is_state

T = TypeVar("T")

ERRORS: dict[str, int] = {"enospc": errno.ENOSPC, "eio": errno.EIO}
MODELS = "consolidated_models"


class Strike(NamedTuple):
    """The fault to come: at which operation on which place, and at which passing."""

    operation: str
    place: str
    passing: int
    fault: Fault


class FaultyDisk(Disk):
    """See the module.

    Args:
        journal: where operations are noted, one JSON line each; ``None``: not at all.
        graves: the folder for files whose names are gone.
        struck: the file that is made when the fault strikes.
    """

    def __init__(
        self, home: Path, places: Places, *, journal: Path | None, graves: Path, strike: Strike | None, struck: Path
    ) -> None:
        super().__init__(home)
        self._places = places
        self._graves = graves
        self._strike = strike
        self._struck = struck
        self._lock = threading.RLock()
        self._passed: Counter[tuple[str, str]] = Counter()
        self._paths: dict[int, str] = {}
        self._numbers = itertools.count(len(list(graves.iterdir())) if graves.exists() else 0)
        self._journal = (
            os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC) if journal is not None else None
        )

    # The primitives.

    def create(self, path: str) -> int:
        handle = self._passes("create", path, lambda: super(FaultyDisk, self).create(path))
        with self._lock:
            self._paths[handle] = path
        return handle

    def open_append(self, path: str) -> int:
        handle = super().open_append(path)
        with self._lock:
            self._paths[handle] = path
        return handle

    def write(self, handle: int, data: bytes | memoryview) -> None:
        path, size = self._paths[handle], memoryview(data).nbytes
        half = memoryview(data).cast("B")[: size // 2]
        self._passes(
            "write",
            path,
            lambda: super(FaultyDisk, self).write(handle, data),
            lambda: super(FaultyDisk, self).write(handle, half),
            note=(size,),
        )

    def fsync(self, handle: int) -> None:
        self._passes("fsync", self._paths[handle], lambda: None)

    def close(self, handle: int) -> None:
        with self._lock:
            self._paths.pop(handle, None)
            super().close(handle)

    def rename(self, old: str, new: str) -> None:
        def done() -> str:
            grave = self._buried(new)
            super(FaultyDisk, self).rename(old, new)
            return grave

        self._passes("rename", new, done, note=(old,))

    def symlink(self, target: str, path: str) -> None:
        self._passes("symlink", path, lambda: super(FaultyDisk, self).symlink(target, path), note=(target,))

    def unlink(self, path: str) -> None:
        def done() -> str:
            grave = self._buried(path)
            super(FaultyDisk, self).unlink(path)
            return grave

        self._passes("unlink", path, done)

    def mkdir(self, path: str) -> None:
        self._passes("mkdir", path, lambda: super(FaultyDisk, self).mkdir(path))

    def rmdir(self, path: str) -> None:
        self._passes("rmdir", path, lambda: super(FaultyDisk, self).rmdir(path))

    def fsync_dir(self, path: str) -> None:
        def done() -> None:
            if not (self.home / path).is_dir():
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if path.startswith(f"{MODELS}/."):
                # The merging process has made it and synced what it holds, and its name, past this port.
                self._note("adopt", path, self.listdir(path))

        self._passes("fsync_dir", path, done)

    # What happens beside them.

    def _passes(
        self,
        operation: str,
        path: str,
        do: Callable[[], T],
        do_half: Callable[[], None] | None = None,
        note: tuple[object, ...] = (),
    ) -> T:
        if not is_state(path):
            return do()
        with self._lock:
            place = self._places.place(path)
            self._passed[operation, place] += 1
            strike = self._strike
            if strike is not None and strike[:3] == (operation, place, self._passed[operation, place]):
                self._strike = None
                self._struck.touch()
                self._fall(strike.fault, path, do_half)
            came = do()
            self._note(operation, path, *note, came if isinstance(came, str) else "")
            return came

    def _fall(self, fault: Fault, path: str, do_half: Callable[[], None] | None) -> None:
        if fault in ("half", "enospc") and do_half is not None:
            do_half()
        if fault in ERRORS:
            raise OSError(ERRORS[fault], os.strerror(ERRORS[fault]), path)
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()  # the lock is held until the end, so that nobody does anything more

    def _buried(self, path: str) -> str:
        """Keep the file that is about to lose this name; ``""`` if it is none, or nobody keeps a journal."""
        if self._journal is None or not (self.home / path).is_file() or (self.home / path).is_symlink():
            return ""
        grave = f"{next(self._numbers):05d}"
        os.link(self.home / path, self._graves / grave)
        return grave

    def _note(self, *entry: object) -> None:
        if self._journal is not None:
            os.write(self._journal, json.dumps(entry).encode() + b"\n")
