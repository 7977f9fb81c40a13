"""The files, folders and links of a simulated disk, each with what is cached and what is on the platter.

A folder has two tables of names: ``entries`` as programs see it, and ``durable`` as a power cut leaves it. What is in
the first and not yet in the second waits in the ``Journal``, in order.
"""

from __future__ import annotations

import errno
import os
import random
import weakref
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Any

from runtime.simulation.faults import Survival

_LINKS_FOLLOWED_MAX = 40

# Beyond this many un-synced writes (of a file) or operations (of the journal), the oldest half is written back, as any
# kernel would long have done.
WAITING_MAX = 512


class FileNode:
    """A file's bytes, as an append-only sequence of writes.

    ``data`` is what a read sees; never changed in place, so that whoever holds it can tell whether it is still the
    content. ``waiting`` are the ranges not yet synced; ``lost`` those whose sync failed: they are in the cache and will
    never be on the platter. ``above`` is the folder that names it, or did last. ``understood`` is what
    ``SimDisk.understood`` made of which content.
    """

    __slots__ = (
        "above",
        "changed_ns",
        "data",
        "linked",
        "lost",
        "modified_ns",
        "number",
        "person",
        "understood",
        "waiting",
        "writers",
    )

    def __init__(self, number: int, now_ns: int) -> None:
        self.number = number
        self.above: weakref.ref[FolderNode] | None = None
        self.data = b""
        self.understood: dict[object, tuple[bytes, Any]] = {}
        self.waiting: list[tuple[int, int]] = []
        self.lost: list[tuple[int, int]] = []
        self.modified_ns = self.changed_ns = now_ns
        self.writers = 0
        self.person = False
        self.linked = True

    def survivor(self, survival: Survival, stream: random.Random) -> FileNode:
        """The file as it is found after a power cut."""
        found = FileNode(self.number, self.modified_ns)
        found.changed_ns = self.changed_ns
        gone = list(self.lost)
        zeroed: list[tuple[int, int]] = []
        for start, end in self.waiting:
            if survival == "lose_all":
                gone.append((start, end))
            elif survival == "torn":
                fate = stream.choice(("lost", "whole", "prefix", "zeros"))
                if fate == "lost":
                    gone.append((start, end))
                elif fate == "prefix":
                    gone.append((stream.randint(start, end), end))
                elif fate == "zeros":
                    zeroed.append((start, end))
        if not gone and not zeroed:
            found.data = self.data
            return found
        data = bytearray(self.data)
        length = len(data)
        for start, end in zeroed:
            data[start:end] = bytes(end - start)
        for start, end in sorted(gone, key=itemgetter(1), reverse=True):
            # A range missing at the end shortens the file; one before bytes that arrived leaves a hole.
            if end == length:
                length = start
            else:
                data[start:end] = bytes(end - start)
        found.data = bytes(data[:length])
        return found

    def set_data(self, data: bytes) -> None:
        """It has another content from now on."""
        self.data = data
        folder = self.above() if self.above is not None else None
        if folder is not None:
            folder.changed()

    def wrote(self, start: int, end: int) -> None:
        """Remember a range that is in the cache alone."""
        self.waiting.append((start, end))
        if len(self.waiting) > WAITING_MAX:
            del self.waiting[: WAITING_MAX // 2]


class LinkNode:
    """A symbolic link."""

    __slots__ = ("changed_ns", "modified_ns", "number", "target")

    def __init__(self, number: int, now_ns: int, target: str) -> None:
        self.number = number
        self.target = target
        self.modified_ns = self.changed_ns = now_ns


class FolderNode:
    """A folder: names as programs see them, and names as a power cut leaves them.

    ``state`` is another object after whatever was changed below. ``above`` is the folder that names this one, or did
    last; weak, so that a disk that nobody needs any more is gone at once, without a collection.
    """

    __slots__ = ("__weakref__", "above", "changed_ns", "durable", "entries", "modified_ns", "number", "state")

    def __init__(self, number: int, now_ns: int) -> None:
        self.number = number
        self.above: weakref.ref[FolderNode] | None = None
        self.state = object()
        self.entries: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        self.modified_ns = self.changed_ns = now_ns

    def put(self, name: str, node: Node) -> None:
        """Give a node its name."""
        self.entries[name] = node
        if not isinstance(node, LinkNode):
            node.above = weakref.ref(self)
        self.changed()

    def changed(self) -> None:
        """Something below is not what it was."""
        state = object()
        folder: FolderNode | None = self
        while folder is not None:
            folder.state = state
            folder = folder.above() if folder.above is not None else None

    def survivor(self, survival: Survival, stream: random.Random) -> FolderNode:
        """The folder and all below it as they are found after a power cut. Call once the journal is decided."""
        found = FolderNode(self.number, self.modified_ns)
        found.changed_ns = self.changed_ns
        for name in sorted(self.durable):
            node = self.durable[name]
            found.put(name, node if isinstance(node, LinkNode) else node.survivor(survival, stream))
        found.durable = dict(found.entries)
        return found


Node = FileNode | FolderNode | LinkNode
Change = tuple[FolderNode, str, Node | None]


class Operation:
    """One atomic change of names: the name a folder gives to a node, or no longer gives to any."""

    __slots__ = ("changes", "removed")

    def __init__(self, changes: tuple[Change, ...], removed: FolderNode | None) -> None:
        self.changes = changes
        self.removed = removed

    def commit(self) -> None:
        for folder, name, node in self.changes:
            if node is None:
                folder.durable.pop(name, None)
            else:
                folder.durable[name] = node


class Journal:
    """Directory operations that are not durable yet, in the order they were done.

    Syncing a folder commits the operations on its names, and of the earlier ones only those they stand on:

    - earlier operations on the same name;
    - all earlier operations in a folder that was removed;
    - for a rename, whatever gave the destination folder its own name.

    So a rename is in both folders or in neither, and a file never vanishes from both, whichever is synced. Stricter
    than ext4, where syncing any folder commits everything before it, and as strict as POSIX in what portable programs
    must do: a file created in a new folder is lost with it unless the folder's parent is synced too.
    """

    def __init__(self) -> None:
        self.waiting: list[Operation] = []

    def add(self, *changes: Change, removed: FolderNode | None = None) -> None:
        waiting = self.waiting
        waiting.append(Operation(changes, removed))
        if len(waiting) > WAITING_MAX:
            self.commit(waiting[: WAITING_MAX // 2])

    def standing_on(self, folder: FolderNode, name: str | None = None) -> list[Operation]:
        """What must be committed, in order, for the folder's names (or one of them) to be durable."""
        whole = {folder.number} if name is None else set()
        names = set() if name is None else {(folder.number, name)}
        homes: set[int] = set()
        taken: list[Operation] = []
        for operation in reversed(self.waiting):
            for where, entry, node in operation.changes:
                if (
                    where.number in whole
                    or (where.number, entry) in names
                    or (node is not None and node.number in homes)
                ):
                    break
            else:
                continue
            taken.append(operation)
            names.update((where.number, entry) for where, entry, _ in operation.changes)
            if operation.removed is not None:
                whole.add(operation.removed.number)
            moved = len(operation.changes) > 1
            for where, _, node in operation.changes:
                if node is not None and (moved or node.number in homes):
                    homes.add(where.number)
        taken.reverse()
        return taken

    def commit(self, operations: list[Operation]) -> None:
        if len(operations) == len(self.waiting):
            self.waiting = []
        elif operations:
            done = set(map(id, operations))
            self.waiting = [operation for operation in self.waiting if id(operation) not in done]
        for operation in operations:
            operation.commit()

    def decide(self, survival: Survival, stream: random.Random) -> None:
        """The power is gone: commit what survives of the waiting operations, forget the rest."""
        surviving = {"lose_all": 0, "keep_all": len(self.waiting)}.get(survival)
        if surviving is None:
            surviving = stream.randint(0, len(self.waiting))
        for operation in self.waiting[:surviving]:
            operation.commit()
        self.waiting = []


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))


@lru_cache(maxsize=1 << 14)
def _folders_and_name(path: str) -> tuple[tuple[str, ...], str]:
    """The folders on the way and the last name; ``""`` if that is none, as in ``.`` and ``..``."""
    *folders, name = _parts(path) or ("",)
    return tuple(folders), "" if name == ".." else name


def failure(number: int, path: str) -> OSError:
    """The error a system call gives; Python picks ``FileNotFoundError`` and its kin by the number."""
    return OSError(number, os.strerror(number), path)


def look_up(root: FolderNode, path: str, *, follow: bool) -> tuple[FolderNode, str, Node | None]:
    """The folder, the name in it and what has that name. The name is ``""`` where ``path`` is the home itself."""
    # Nearly every path leads through plain folders, and every look at the disk begins here.
    folders, name = _folders_and_name(path)
    folder = root
    for part in folders:
        child = folder.entries.get(part)
        if type(child) is not FolderNode:
            return _walk(root, path, follow=follow)
        folder = child
    child = folder.entries.get(name)
    if not name or (follow and type(child) is LinkNode):
        return _walk(root, path, follow=follow)
    return folder, name, child


def _walk(root: FolderNode, path: str, *, follow: bool) -> tuple[FolderNode, str, Node | None]:
    """``look_up`` step by step, through links and upwards, and where something is not there."""
    trail = [root]
    todo = list(reversed(_parts(path)))
    links = 0
    while todo:
        part = todo.pop()
        folder = trail[-1]
        if part == "..":
            if len(trail) == 1:
                raise failure(errno.ENOENT, path)  # there is nothing outside the home
            trail.pop()
            continue
        child = folder.entries.get(part)
        if isinstance(child, LinkNode) and (follow or todo):
            links += 1
            if links > _LINKS_FOLLOWED_MAX:
                raise failure(errno.ELOOP, path)
            if child.target.startswith("/"):
                raise failure(errno.ENOENT, path)
            todo.extend(reversed(_parts(child.target)))
            continue
        if not todo:
            return folder, part, child
        if not isinstance(child, FolderNode):
            raise failure(errno.ENOENT if child is None else errno.ENOTDIR, path)
        trail.append(child)
    return trail[-1], "", trail[-1]


def every(root: FolderNode, path: str = "") -> Iterator[tuple[str, Node]]:
    """All nodes below ``root`` by path, sorted."""
    for name in sorted(root.entries):
        node = root.entries[name]
        where = f"{path}{name}"
        yield where, node
        if isinstance(node, FolderNode):
            yield from every(node, where + "/")
