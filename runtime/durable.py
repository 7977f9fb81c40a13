"""Every durable protocol, written once above the disk port. Synchronous: each runs as one job in an I/O worker.

Guarantees, whatever the power does:
    * ``write_file``, ``write_pieces`` and ``write_directory``: the name shows the old content (or nothing) or the whole
      new one.
    * ``move_file``: the file is under its old or its new name, never under neither.
    * ``remove``: a folder is never seen half-deleted under its own name.
    * ``replace_directory``: the old folder is there until the new one is whole and durable beside it.
An ``OSError`` means "as if it had not begun", but for leftovers with hidden names, which ``sweep`` takes at start-up;
and but for an error of the last sync, after which the new name shows although a power cut may still take it back.

The order inside each protocol is the guarantee: content is synced before the rename that shows it, and the folder is
synced before the caller is told, because a rename that is not synced may be forgotten.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import posixpath
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TypeVar

import blake3

from runtime.disk import Buffer, DiskPort

CHUNK_BYTES = 1 << 20
T = TypeVar("T")


def parent_of(path: str) -> str:
    """The folder that names ``path``; ``"."`` for the home itself."""
    return posixpath.dirname(path) or "."


@functools.lru_cache(maxsize=256)
def hidden(path: str, suffix: str) -> str:
    """A temporary name beside ``path``. Hashed, because a name of 255 bytes leaves no room for a suffix.

    Remembered, because the same few files are replaced again and again.
    """
    digest = hashlib.blake2b(posixpath.basename(path).encode("utf-8", "surrogateescape"), digest_size=8)
    return posixpath.join(posixpath.dirname(path), f".{digest.hexdigest()}.{suffix}")


HIDDEN = re.compile(r"\.([0-9a-f]{16})\.(tmp|part|deleting|whole)")
"""Such a name: the hash and the suffix."""


def is_leftover(name: str) -> bool:
    """Is this one of the names under which a protocol works before it is done?"""
    return name.startswith(".") and name.endswith((".tmp", ".part", ".deleting"))


@contextlib.contextmanager
def _writing(disk: DiskPort, path: str) -> Iterator[int]:
    """A new file's handle, closed whatever happens."""
    handle = disk.create(path)
    try:
        yield handle
    finally:
        disk.close(handle)


def _discard(disk: DiskPort, path: str) -> None:
    """Clean up after a failed protocol. Its own failure is left to ``sweep``: the first error is the one to tell."""
    with contextlib.suppress(OSError):
        remove(disk, path)


def write_new(disk: DiskPort, path: str, data: Buffer) -> None:
    """Write a file that must not exist and sync its content; its name still needs ``fsync_dir``."""
    with _writing(disk, path) as handle:
        disk.write(handle, data)
        disk.fsync(handle)


def write_file(disk: DiskPort, path: str, data: bytes) -> None:
    """Atomically replace (or make) one file."""
    temporary = hidden(path, "tmp")
    if disk.stat(temporary) is not None:
        disk.unlink(temporary)
    try:
        write_new(disk, temporary, data)
        disk.rename(temporary, path)
    except OSError:
        _discard(disk, temporary)
        raise
    disk.fsync_dir(parent_of(path))


def write_pieces(disk: DiskPort, path: str, pieces: Iterable[Buffer]) -> None:
    """``write_file`` for what need not be in memory at once."""
    temporary = hidden(path, "tmp")
    if disk.stat(temporary) is not None:
        disk.unlink(temporary)
    try:
        with _writing(disk, temporary) as handle:
            for piece in pieces:
                disk.write(handle, piece)
            disk.fsync(handle)
        disk.rename(temporary, path)
    except OSError:
        _discard(disk, temporary)
        raise
    disk.fsync_dir(parent_of(path))


def write_directory(disk: DiskPort, path: str, files: Mapping[str, Buffer]) -> None:
    """Make a folder with these files, seen whole or not at all. ``path`` must not exist."""
    staged = hidden(path, "part")
    if disk.stat(staged) is not None:
        remove(disk, staged)
    try:
        disk.mkdir(staged)
        for name in sorted(files):
            write_new(disk, posixpath.join(staged, name), files[name])
        disk.fsync_dir(staged)
        disk.rename(staged, path)
    except OSError:
        _discard(disk, staged)
        raise
    disk.fsync_dir(parent_of(path))


def show_directory(disk: DiskPort, staged: str, path: str) -> None:
    """Give a complete, synced staged folder its name."""
    disk.fsync_dir(staged)
    disk.rename(staged, path)
    disk.fsync_dir(parent_of(path))


def replace_directory(disk: DiskPort, staged: str, path: str) -> None:
    """Put a complete, synced staged folder in the place of ``path``, whatever is there.

    A folder cannot be replaced by one rename. So the new one first gets a name that says it is whole, durably; only
    then the old one goes, and the new one gets its name. Whatever happens in between, ``finish_replacing`` goes on from
    there: at any moment the old one is there, or the whole new one under one of its names.
    """
    disk.fsync_dir(staged)
    whole = hidden(path, "whole")
    finish_replacing(disk, path)  # of an earlier try: it may be the only one that is left
    disk.rename(staged, whole)
    disk.fsync_dir(parent_of(path))
    finish_replacing(disk, path)


def finish_replacing(disk: DiskPort, path: str) -> bool:
    """Go on with a ``replace_directory`` that was interrupted; was there one that had come to be whole?"""
    whole = hidden(path, "whole")
    # What is found here may be what a killed process had shown and not yet synced: nothing goes before that is.
    disk.fsync_dir(parent_of(path))
    if disk.stat(whole) is None:
        return False
    remove(disk, path)
    disk.rename(whole, path)
    disk.fsync_dir(parent_of(path))
    return True


def replace_link(disk: DiskPort, target: str, path: str) -> None:
    """Atomically point the link ``path`` at ``target``."""
    temporary = hidden(path, "tmp")
    if disk.stat(temporary) is not None:
        disk.unlink(temporary)
    try:
        disk.symlink(target, temporary)
        disk.rename(temporary, path)
    except OSError:
        _discard(disk, temporary)
        raise
    disk.fsync_dir(parent_of(path))


def ensure_directory(disk: DiskPort, path: str) -> None:
    """Make a folder, and its parents, unless it is there. On return its name is durable, whoever made it.

    A folder that is there may be what a killed process made and did not sync, and what is then put into it would be
    lost with its name.
    """
    if path in ("", "."):
        return
    ensure_directory(disk, parent_of(path))
    if disk.stat(path) is None:
        disk.mkdir(path)
    disk.fsync_dir(parent_of(path))


def move_file(disk: DiskPort, source: str, target: str) -> None:
    """Give a file another name; across file systems: copy, sync, verify, show, and only then remove the source."""
    try:
        disk.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_then_remove(disk, source, target)
        return
    # The new name first: should only one sync happen, the file must be found under at least one name.
    disk.fsync_dir(parent_of(target))
    disk.fsync_dir(parent_of(source))


def _copy_then_remove(disk: DiskPort, source: str, target: str) -> None:
    temporary = hidden(target, "tmp")
    if disk.stat(temporary) is not None:
        disk.unlink(temporary)
    expected = blake3.blake3()
    try:
        with _writing(disk, temporary) as handle:
            for piece in disk.chunks(source, CHUNK_BYTES):
                expected.update(piece)
                disk.write(handle, piece)
            disk.fsync(handle)
        _verify(disk, temporary, f"blake3:{expected.hexdigest()}")
        disk.rename(temporary, target)
    except OSError:
        _discard(disk, temporary)
        raise
    disk.fsync_dir(parent_of(target))
    disk.unlink(source)
    disk.fsync_dir(parent_of(source))


def _verify(disk: DiskPort, path: str, expected: str) -> None:
    if digest_of(disk, path) != expected:
        raise OSError(errno.EIO, "the copy differs from its source", path)


def copy_files(disk: DiskPort, source: str) -> dict[str, bytes]:
    """Every plain file of a folder in memory, for ``write_directory`` elsewhere. For folders of adapters."""
    return {name: disk.read(posixpath.join(source, name)) for name in disk.listdir(source)}


def remove(disk: DiskPort, path: str) -> None:
    """Delete a file, link or folder, and verify that it is gone.

    A folder first gets a hidden name, so that nobody finds it half-deleted; a failed delete leaves that hidden name.
    Where there is nothing, nothing is done: a delete whose last sync failed may be taken back by a power cut, although
    the next try found nothing to do. Whoever deletes must bear what is rubbish to come back once more.

    Raises:
        OSError: it is still there, under its own or its hidden name.
    """
    found = disk.stat(path)
    if found is None:
        return
    if found.kind == "dir":
        if not is_leftover(posixpath.basename(path)):
            doomed = hidden(path, "deleting")
            if disk.stat(doomed) is not None:
                _remove_below(disk, doomed)
            disk.rename(path, doomed)
            disk.fsync_dir(parent_of(path))
            path = doomed
        _remove_below(disk, path)
    else:
        disk.unlink(path)
    disk.fsync_dir(parent_of(path))
    if disk.stat(path) is not None:
        raise OSError(errno.EIO, "deleted, and still there", path)


def _remove_below(disk: DiskPort, folder: str) -> None:
    for name in disk.listdir(folder):
        inner = posixpath.join(folder, name)
        found = disk.stat(inner)
        if found is not None and found.kind == "dir":
            _remove_below(disk, inner)
        elif found is not None:
            disk.unlink(inner)
    disk.rmdir(folder)


def sweep(disk: DiskPort, folder: str) -> tuple[str, ...]:
    """Remove what interrupted protocols left in ``folder``; returns the paths removed."""
    if disk.stat(folder) is None:
        return ()
    left = [
        posixpath.join(folder, name) if folder != "." else name for name in disk.listdir(folder) if is_leftover(name)
    ]
    for path in left:
        remove(disk, path)
    return tuple(left)


def at_once(pieces: Generator[int, None, T]) -> T:
    """What work that is done in pieces comes to, without a pause between them."""
    while True:
        try:
            next(pieces)
        except StopIteration as done:
            result: T = done.value
            return result


def digest_of(disk: DiskPort, path: str) -> str:
    """``blake3:<hex>`` of a file's content."""
    return at_once(digesting(disk, path))


def digesting(disk: DiskPort, path: str) -> Generator[int, None, str]:
    """``digest_of`` in pieces: says after each how many bytes it has just read, and returns the digest."""
    digest = blake3.blake3()
    for piece in disk.chunks(path, CHUNK_BYTES):
        digest.update(piece)
        yield len(piece)
    return f"blake3:{digest.hexdigest()}"


def digest_of_bytes(data: Buffer) -> str:
    """``blake3:<hex>`` of a buffer."""
    return f"blake3:{blake3.blake3(data).hexdigest()}"


def size_of(disk: DiskPort, path: str) -> int:
    """Bytes of a file, or of every file below a folder."""
    found = disk.stat(path)
    if found is None:
        return 0
    if found.kind != "dir":
        return found.size
    return sum(size_of(disk, posixpath.join(path, name)) for name in disk.listdir(path))
