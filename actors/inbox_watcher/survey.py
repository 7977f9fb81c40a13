"""One look at the inbox: what is there, in which order it came, and which files are complete.

Pure functions over the disk port; the actor keeps what was seen before and decides what to claim.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from runtime.disk import DiskPort, FileStat

INBOX = "inbox"
BATCH_SUFFIX = ".jsonl"


class Seen(msgspec.Struct, frozen=True):
    """A file as an earlier look found it, and since when (monotonic seconds) it has been exactly so."""

    size: int
    modified_ns: int
    inode: int
    since: float


class Survey(msgspec.Struct, frozen=True):
    """``ready`` in order of arrival, as many as were asked for, and then ``later``: quiet, and not looked at closely.

    ``odd`` are links, folders and specials; ``inbox_inode`` 0: there is no inbox.
    """

    ready: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    unready: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    seen: Mapping[str, Seen] = msgspec.field(default_factory=dict)
    inbox_inode: int = 0


def is_batch_name(name: str) -> bool:
    """Would the inbox take a file of this name? Hidden and unfinished names are left alone."""
    return name.lower().endswith(BATCH_SUFFIX) and not name.startswith((".", "~"))


def shown(name: str) -> str:
    """The name as text: bytes that are no UTF-8, which no message or paper could carry, become question marks."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "?")


def survey(
    disk: DiskPort,
    before: Mapping[str, Seen],
    now: float,
    *,
    settle_seconds: float,
    quiet_seconds: float,
    wanted: int = 1 << 30,
) -> Survey:
    """Look once; no further than to ``wanted`` complete files, for ten thousand may wait and few can be claimed.

    A file is complete when no process has it open for writing and it has been unchanged for ``quiet_seconds``; where
    the system cannot tell who writes, when it has been unchanged for ``settle_seconds``.
    """
    inbox = disk.stat(INBOX)
    if inbox is None or not (inbox.kind == "dir" or _leads_to_a_folder(disk, inbox)):
        return Survey()
    arrived: list[tuple[int, str, FileStat]] = []
    odd: list[str] = []
    ignored: list[str] = []
    for name in disk.listdir(INBOX):
        found = disk.stat(f"{INBOX}/{name}")
        if found is None:
            continue  # taken back between the listing and now
        if not is_batch_name(name):
            ignored.append(name)
        elif found.kind != "file":
            odd.append(name)
        else:
            arrived.append((found.changed_ns, name, found))
    ready: list[str] = []
    later: list[str] = []
    unready: list[str] = []
    seen: dict[str, Seen] = {}
    for _, name, found in sorted(arrived, key=lambda entry: entry[:2]):
        earlier = before.get(name)
        same = earlier is not None and (earlier.size, earlier.modified_ns, earlier.inode) == (
            found.size,
            found.modified_ns,
            found.inode,
        )
        since = earlier.since if earlier is not None and same else now
        seen[name] = Seen(found.size, found.modified_ns, found.inode, since)
        if now - since < quiet_seconds:
            unready.append(name)  # too young to be asked about: a writer may be between two opens
        elif len(ready) >= wanted:
            later.append(name)
        else:
            (ready if _is_complete(disk, name, now - since, settle_seconds) else unready).append(name)
    return Survey(tuple(ready), tuple(later), tuple(unready), tuple(odd), tuple(ignored), seen, inbox.inode)


def _leads_to_a_folder(disk: DiskPort, inbox: FileStat) -> bool:
    """A person may have put the inbox on another drive and a link in its place. One that leads nowhere is no inbox."""
    if inbox.kind != "link":
        return False
    try:
        disk.listdir(INBOX)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_complete(disk: DiskPort, name: str, unchanged_for: float, settle_seconds: float) -> bool:
    try:
        writing = disk.being_written(f"{INBOX}/{name}")
    except OSError:
        return unchanged_for >= settle_seconds  # unreadable, or gone: the claim or the Validator will say so
    return unchanged_for >= settle_seconds if writing is None else not writing
