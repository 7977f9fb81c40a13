"""The one door to files under the home: about a dozen synchronous primitives.

Paths are home-relative POSIX strings (``"state/HEAD"``; ``"."`` is the home itself), so nothing on disk or in a
message names where the home stands. Every durable protocol is written once above these (``runtime.durable``) and
runs as one job in an I/O worker. ``runtime.simulation.SimDisk`` stands behind the same protocol and tears, loses and
refuses writes. What a primitive does not promise: nothing is durable before ``fsync`` of the file *and*
``fsync_dir`` of the folder that names it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat as stat_module
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import msgspec

Kind = Literal["file", "dir", "link", "other"]

Buffer = bytes | memoryview
"""Content to be written; of a ``memoryview`` the bytes, and they stand still until it is written."""


class FileStat(msgspec.Struct, frozen=True):
    """What ``lstat`` says. ``changed_ns`` is ctime: on a rename into place it is the time of arrival."""

    kind: Kind
    size: int
    modified_ns: int
    changed_ns: int
    inode: int


class DiskPort(Protocol):
    """What every durable protocol is written against. All methods raise ``OSError`` as the system calls do."""

    def create(self, path: str) -> int:
        """Create a file that must not exist yet, open it for writing, return a handle."""

    def open_append(self, path: str) -> int:
        """Open for appending, creating the file if there is none."""

    def write(self, handle: int, data: Buffer) -> None:
        """Write all of ``data`` at the handle's end."""

    def fsync(self, handle: int) -> None:
        """Make the file's content durable (its name needs ``fsync_dir``)."""

    def close(self, handle: int) -> None:
        """Release the handle. Makes nothing durable."""

    def rename(self, old: str, new: str) -> None:
        """Atomically give ``old`` the name ``new``, replacing a file that has it."""

    def symlink(self, target: str, path: str) -> None:
        """Make the link ``path`` pointing at ``target`` (as written)."""

    def unlink(self, path: str) -> None:
        """Remove a file or link."""

    def mkdir(self, path: str) -> None:
        """Make one folder whose parent exists."""

    def rmdir(self, path: str) -> None:
        """Remove one empty folder."""

    def fsync_dir(self, path: str) -> None:
        """Make the names in a folder durable."""

    def read(self, path: str) -> bytes:
        """The whole content of a file."""

    def chunks(self, path: str, size: int) -> Iterator[bytes]:
        """The content of a file in pieces of at most ``size`` bytes."""

    def listdir(self, path: str) -> list[str]:
        """Names in a folder, sorted."""

    def stat(self, path: str) -> FileStat | None:
        """``None`` if nothing has that name; links are not followed."""

    def readlink(self, path: str) -> str:
        """Where a link points, as written."""

    def being_written(self, path: str) -> bool | None:
        """Does any process have the file open for writing? ``None``: this system cannot say."""

    def free_bytes(self) -> int:
        """Bytes an unprivileged process may still write."""

    def real_path(self, path: str) -> Path:
        """Where this is in the real file system, for libraries that only *read* through their own doors."""


class Disk:
    """``DiskPort`` on the real file system, rooted at one home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def real_path(self, path: str) -> Path:
        return self.home / path

    def create(self, path: str) -> int:
        return os.open(self.home / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def open_append(self, path: str) -> int:
        return os.open(self.home / path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, handle: int, data: Buffer) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(handle, rest[: 1 << 26]) :]

    def fsync(self, handle: int) -> None:
        os.fsync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def rename(self, old: str, new: str) -> None:
        os.replace(self.home / old, self.home / new)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self.home / path)

    def unlink(self, path: str) -> None:
        os.unlink(self.home / path)

    def mkdir(self, path: str) -> None:
        os.mkdir(self.home / path)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.home / path)

    def fsync_dir(self, path: str) -> None:
        handle = os.open(self.home / path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self, path: str) -> bytes:
        return (self.home / path).read_bytes()

    def chunks(self, path: str, size: int) -> Iterator[bytes]:
        with (self.home / path).open("rb", buffering=0) as file:
            while piece := file.read(size):
                yield piece

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(self.home / path))

    def stat(self, path: str) -> FileStat | None:
        try:
            found = os.lstat(self.home / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind: Kind = "other"
        if stat_module.S_ISREG(found.st_mode):
            kind = "file"
        elif stat_module.S_ISDIR(found.st_mode):
            kind = "dir"
        elif stat_module.S_ISLNK(found.st_mode):
            kind = "link"
        return FileStat(kind, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    def readlink(self, path: str) -> str:
        return os.readlink(self.home / path)

    def being_written(self, path: str) -> bool | None:
        # A read lease is granted only while nobody has the file open for writing (fcntl(2), "Leases").
        # It needs a local file system and our own file, so every other answer is "cannot say".
        if not hasattr(fcntl, "F_SETLEASE"):
            return None
        handle = os.open(self.home / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return True if error.errno == errno.EAGAIN else None
        else:
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return False
        finally:
            os.close(handle)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.home).free
