"""The home's lock: at most one daemon lives on a home, and anyone can ask whether one does.

The lock is ``flock`` on ``state/LOCK``. The kernel holds it for exactly as long as the daemon's process
lives, so a lock that a dead process left needs no clearing, and what the file *says* (pid, start) is only
for people: whether a daemon lives is always asked of the kernel. Standard library alone, because
``nightfold status`` must start quickly.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType

from runtime.errors import EXIT_DISK, EXIT_LOCKED, OperatorError

LOCK = "state/LOCK"

# ``living_pid`` takes the lock, shared, for some microseconds. A daemon that starts in that very moment
# must not mistake a passing look for a living daemon, so it asks again for a while before it gives up.
_PATIENCE_S = 1.0
_PAUSE_S = 0.02


class HomeLock:
    """``with HomeLock(home):`` holds the home against every other daemon until block or process ends."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._handle = -1

    def __enter__(self) -> HomeLock:
        path = self.home / LOCK
        try:
            path.parent.mkdir(exist_ok=True)
            self._handle = self._take(path)
        except OSError as error:
            raise OperatorError(
                "NF-CONF-006",
                f"{path} cannot be locked: {error.strerror or error}",
                hint="the home must lie on a file system that you may write to and that supports flock",
                exit_code=EXIT_DISK,
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The file stays: removing it would let one process lock the old file while another locks a new one.
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _take(self, path: Path) -> int:
        give_up_at = time.monotonic() + _PATIENCE_S
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                if _lock(handle, fcntl.LOCK_EX) and _is_still(path, handle):
                    note = {
                        "pid": os.getpid(),
                        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
                    }
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, json.dumps(note).encode() + b"\n", 0)
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
            if time.monotonic() > give_up_at:
                pid = _noted_pid(path)
                raise OperatorError(
                    "NF-STATE-001",
                    f"{self.home} is locked by a living daemon" + (f", pid {pid}" if pid else ""),
                    hint=f"one home has one daemon: stop that one first (nightfold stop {self.home})",
                    exit_code=EXIT_LOCKED,
                )
            time.sleep(_PAUSE_S)


def living_pid(home: Path) -> int | None:
    """The pid of the daemon that lives on this home, ``None`` if there is none.

    ``0`` means that a daemon lives and its pid cannot be read, so compare with ``None`` and not for truth.
    """
    path = home / LOCK
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _lock(handle, fcntl.LOCK_SH):
            return None
    except OSError:
        return None  # A file system without flock: no daemon could have taken the lock either.
    finally:
        os.close(handle)
    # A daemon that has only just taken the lock has not yet written its pid over that of the one before.
    for _ in range(10):
        pid = _noted_pid(path)
        if pid and _exists(pid):
            return pid
        time.sleep(_PAUSE_S)
    return _noted_pid(path)


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether the locked file is the one that has the name; somebody may have removed it in between."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _noted_pid(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return int(json.loads(path.read_bytes())["pid"])
    return 0


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        # In another pid namespace this says no though the daemon lives: the lock has the last word.
        return False
    except PermissionError:
        return True
    return True
