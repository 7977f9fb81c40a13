"""``nightfold submit``: copy files into the inbox so that the daemon never sees one half-written.

A file is copied under a hidden name, made durable, and only then given its own. It never replaces one that
already waits: a second ``chats.jsonl`` becomes ``chats.2.jsonl``. A copy that fails leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import EXIT_DISK, OperatorError
from runtime.home_lock import living_pid
from tools.commands.home import require_home, shown

# A hidden copy that nobody has written to for this long belongs to a submit that was killed.
_ABANDONED_AFTER_S = 600
# A name may have 255 bytes; the rest is for a dot, a number, ``.jsonl`` and ``.part``.
_STEM_BYTES_MAX = 230


def submit(home: Path, files: list[Path]) -> int:
    """Copy ``files`` into the inbox. All are looked at before the first is copied."""
    inbox = require_home(home) / "inbox"
    for file in files:
        _check(file, inbox)
    for file in files:
        try:
            name = _copy(file, inbox)
        except OSError as error:
            raise OperatorError(
                "NF-CONF-010",
                f"{shown(file)} could not be put into {inbox}: {error.strerror or error}",
                hint="your file is untouched; make room or mend the permission, then submit it again",
                exit_code=EXIT_DISK,
            ) from error
        print(f"submitted {shown(name)}" + (f" (from {shown(file)})" if name != file.name else ""))
    if living_pid(home) is None:
        print(f"no daemon is running on this home; start it with: nightfold run {home}")
    return 0


def put_in_place(path: Path, target: Path) -> None:
    """Rename ``path`` to ``target`` without ever replacing a file.

    Raises:
        FileExistsError: something has that name; nothing was changed.
    """
    try:
        # A rename would replace a file that somebody dropped since we looked. A link refuses, in one step.
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK):
            raise
        # No hard links here (FAT, some network drives): look, then rename.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        path.rename(target)
    else:
        path.unlink()
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check(file: Path, inbox: Path) -> None:
    why = hint = ""
    if not file.exists():
        why, hint = "there is no such file", "check the path"
    elif not file.is_file():
        why, hint = "it is not a regular file", "name the .jsonl files themselves: nightfold submit HOME folder/*.jsonl"
    elif file.suffix != ".jsonl":
        why, hint = "its name does not end in .jsonl", "one JSON object to a line, in a file named like data.jsonl"
    elif file.name.startswith("."):
        why, hint = "the inbox ignores names that begin with a dot", "give it another name"
    elif not os.access(file, os.R_OK):
        why, hint = "you may not read it", f"chmod u+r {shown(file)}"
    elif file.resolve().parent == inbox.resolve():
        why, hint = "it lies in the inbox already", "nothing to do: the daemon takes it from there"
    if why:
        raise OperatorError("NF-CONF-003", f"{shown(file)}: {why}", hint=hint)


def _copy(file: Path, inbox: Path) -> str:
    for name in _names(file.name):
        target, part = inbox / name, inbox / f".{name}.part"
        if os.path.lexists(target):
            continue
        try:
            handle = _begin(part)
        except FileExistsError:
            continue  # Another submit is copying a file of this name right now.
        try:
            with os.fdopen(handle, "wb") as copy, file.open("rb") as source:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            put_in_place(part, target)
        except FileExistsError:
            part.unlink()
            continue
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        return name
    raise AssertionError("unreachable: the numbers do not end")


def _begin(part: Path) -> int:
    """Create the hidden copy; its existence keeps the name for us against other submits."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - part.stat().st_mtime > _ABANDONED_AFTER_S:
            part.unlink()
    return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)


def _names(name: str) -> Iterator[str]:
    """``chats.jsonl``, ``chats.2.jsonl``, ``chats.3.jsonl`` …, none longer than a file system takes."""
    stem = name.removesuffix(".jsonl")
    if len(os.fsencode(stem)) > _STEM_BYTES_MAX:
        stem = os.fsencode(stem)[:_STEM_BYTES_MAX].decode(errors="ignore")
    yield f"{stem}.jsonl"
    number = 2
    while True:
        yield f"{stem}.{number}.jsonl"
        number += 1
