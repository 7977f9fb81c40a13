"""The small file system on which the home lies, so that it can be filled without filling anybody else's.

A tmpfs in a mount namespace of this process alone, where the system allows it: the daemon, its merges and a person all
meet the same kernel that says no, and the mount is gone with the last process, however it ends. Elsewhere a quota: the
daemon is given a ``Disk`` that refuses what goes beyond its size and says so when asked; merges write past that one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

from runtime.disk import Disk

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 0x40000, 2


class SmallDisk:
    """``folder`` is where to put things. ``make_disk`` is what a daemon there must be run with, if anything.

    Filling is done with a ballast, which is only ever as large as was free.
    """

    def __init__(self, folder: Path, size: int, *, quota: bool) -> None:
        self.folder = folder
        self.quota = quota
        self.words = "a Disk with a quota" if quota else "a tmpfs of its own"
        self.make_disk: Callable[[Path], Disk] | None = None
        self.ballast = folder / "ballast"
        self.filled = False
        self._size = size
        self.ballast.touch()
        if quota:
            self.make_disk = lambda home: NarrowDisk(home, size, self.ballast)

    def free_bytes(self) -> int:
        """What may still be written there."""
        if self.quota:
            return NarrowDisk(self.folder, self._size, self.ballast).free_bytes()
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int) -> None:
        """Leave only so many bytes; others write at the same time, so it may come out a little different."""
        self.filled = True
        wanted = self.ballast.stat().st_size + self.free_bytes() - leave
        with self.ballast.open("r+b") as file, contextlib.suppress(OSError):
            if self.quota:
                file.truncate(max(0, wanted))  # a file of holes: its size alone counts
            else:
                os.posix_fallocate(file.fileno(), 0, max(1, wanted))

    def give_room(self) -> None:
        """The ballast goes."""
        self.filled = False
        with self.ballast.open("r+b") as file:
            file.truncate(0)

    def close(self) -> None:
        """Take it away, with all that lies on it."""
        if not self.quota:
            ctypes.CDLL(None).umount2(os.fsencode(self.folder), MNT_DETACH)


class NarrowDisk(Disk):
    """``Disk`` on a file system of ``size`` bytes, of which the ballast takes its part."""

    def __init__(self, home: Path, size: int, ballast: Path) -> None:
        super().__init__(home)
        self._size = size
        self._ballast = ballast

    def free_bytes(self) -> int:
        files = (Path(folder) / name for folder, _, names in os.walk(self.home) for name in names)
        used = sum(_size_of(file) for file in files if file != self._ballast)
        return max(0, self._size - _size_of(self._ballast) - used)

    def write(self, handle: int, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        room = self.free_bytes()
        super().write(handle, view[:room])
        if len(view) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # it went while we looked


def small_disk(folder: Path, size: int, *, quota: bool = False) -> SmallDisk:
    """On ``folder``, which is there and empty. To be called before this process has a second thread."""
    return SmallDisk(folder, size, quota=quota or not _mounted(folder, size))


def _mounted(folder: Path, size: int) -> bool:
    """Mount it where no other process sees it, as root or in a user namespace; ``False`` if neither is allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        return False
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS) != 0:
        if libc.unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0:
            return False
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return False
    return bool(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size},mode=0700".encode()) == 0)
