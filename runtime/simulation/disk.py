"""A disk in memory that keeps what programs see apart from what a power cut leaves, and fails where it is told to.

It stands behind ``runtime.disk.DiskPort`` and raises the same errors as the real file system. It guarantees:

- A file's content is durable after ``fsync``; a name after ``fsync_dir`` of the folder that holds it; never before,
  and never by luck. What an un-synced write or name may become is said in ``faults`` (``Survival``), what a synced name
  takes along in ``inodes`` (``Journal``).
- Every mutating primitive is a numbered fault point: ``operations`` counts them and ``faults`` is asked before each.
- After a power cut every primitive raises ``PowerLost``, for ever; ``reboot`` gives a new disk with what survived, so
  no leftover of a dead program can touch it. So does ``abandoned``, after a mere kill, with everything as it was.

Not modelled: hard links, device boundaries (EXDEV), permissions, writes anywhere but at the end (so two handles on one
file do not overwrite each other), read errors other than ``corrupt``, and hardware that lies about a flush.
"""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from runtime.disk import FileStat, Kind
from runtime.simulation.faults import (
    Fault,
    IoError,
    PowerCut,
    PowerLost,
    ShortWrite,
    Survival,
)
from runtime.simulation.inodes import (
    FileNode,
    FolderNode,
    Journal,
    LinkNode,
    Node,
    every,
    failure,
    look_up,
)

T = TypeVar("T")

PLENTY_BYTES = 1 << 40
_FOLDER_BYTES = 4096
_FIRST_HANDLE = 3


class SimDisk:
    """``DiskPort`` in memory.

    Args:
        now_ns: the clock that stamps files.
        capacity_bytes: how much file content fits; may be changed at any time.

    Attributes:
        operations: mutating primitives so far, also those that failed.
        faults: asked ``(number, operation, path)`` before each of them; a rename's path is ``"old -> new"``.
        on_power_cut: told once when the power goes, to stop the loop (``SimLoop.halt``).
        on_rename: told of every rename once it shows, with its new name: whoever watches for a commit looks then.
        log: the last 200 operations, for people.
    """

    def __init__(self, now_ns: Callable[[], int] = lambda: 0, capacity_bytes: int = PLENTY_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self.operations = 0
        self.faults: Callable[[int, str, str], Fault | None] | None = None
        self.on_power_cut: Callable[[BaseException], None] | None = None
        self.on_rename: Callable[[str], None] | None = None
        self.log: deque[tuple[int, str, str]] = deque(maxlen=200)
        self._now_ns = now_ns
        self._inodes = 1
        self._root = FolderNode(1, now_ns())
        self._journal = Journal()
        self._used = 0
        self._open: dict[int, tuple[FileNode, str]] = {}
        self._next_handle = _FIRST_HANDLE
        self._frozen = False
        self._survival: Survival = "lose_all"
        self._chance = random.Random(0)  # noqa: S311  (chance, not secrets)

    # Files.

    def create(self, path: str) -> int:
        fault = self._point("create", path)
        folder, name, node = look_up(self._root, path, follow=False)
        if node is not None:
            raise failure(errno.EEXIST, path)
        return self._opened(self._new_file(folder, name, fault), path)

    def open_append(self, path: str) -> int:
        self._powered()
        folder, name, node = look_up(self._root, path, follow=True)
        if node is None:
            node = self._new_file(folder, name, self._point("create", path))
        if not isinstance(node, FileNode):
            raise failure(errno.EISDIR, path)
        return self._opened(node, path)

    def write(self, handle: int, data: bytes | memoryview) -> None:
        self._powered()
        node, path = self._handle(handle)
        fault = self._point("write", path)
        piece = memoryview(data).cast("B")
        if fault is not None:
            piece = piece[: len(piece) // 2]
        room = self.capacity_bytes - self._used
        fits = piece if len(piece) <= room else piece[: max(0, room)]
        if fits:
            start = len(node.data)
            node.set_data(node.data + fits)
            node.wrote(start, start + len(fits))
            node.modified_ns = node.changed_ns = self._now_ns()
            self._used += len(fits)
        if isinstance(fault, ShortWrite) or len(fits) < len(piece):
            raise failure(errno.ENOSPC, path)
        self._finish(fault)

    def fsync(self, handle: int) -> None:
        self._powered()
        node, path = self._handle(handle)
        fault = self._point("fsync", path)
        if isinstance(fault, PowerCut):
            del node.waiting[: len(node.waiting) // 2]
            self._finish(fault)
        if fault is not None:
            node.lost += node.waiting
            node.waiting = []
            raise failure(errno.EIO if isinstance(fault, IoError) else errno.ENOSPC, path)
        if node.waiting:
            node.waiting = []

    def close(self, handle: int) -> None:
        self._powered()
        node, _ = self._handle(handle)
        del self._open[handle]
        node.writers -= 1
        self._let_go(node)

    # Names.

    def rename(self, old: str, new: str) -> None:
        fault = self._point("rename", f"{old} -> {new}")
        source, source_name, moved = look_up(self._root, old, follow=False)
        target, target_name, replaced = look_up(self._root, new, follow=False)
        if moved is None:
            raise failure(errno.ENOENT, old)
        if isinstance(moved, FolderNode) and self._holds(moved, target):
            raise failure(errno.EINVAL, old)
        if isinstance(replaced, FolderNode) and self._holds(replaced, source):
            raise failure(errno.ENOTEMPTY, new)
        if moved is not replaced:
            removed = self._check_replace(moved, replaced, new)
            now = self._now_ns()
            del source.entries[source_name]
            source.changed()
            target.put(target_name, moved)
            moved.changed_ns = source.modified_ns = target.modified_ns = now
            source.changed_ns = target.changed_ns = now
            self._journal.add((source, source_name, None), (target, target_name, moved), removed=removed)
            self._unlinked(replaced)
        if self.on_rename is not None:
            self.on_rename(new)
        self._finish(fault)

    def symlink(self, target: str, path: str) -> None:
        fault = self._point("symlink", path)
        folder, name, node = look_up(self._root, path, follow=False)
        if not target:
            raise failure(errno.ENOENT, path)
        if node is not None:
            raise failure(errno.EEXIST, path)
        self._link(folder, name, LinkNode(self._number(), self._now_ns(), target))
        self._finish(fault)

    def unlink(self, path: str) -> None:
        fault = self._point("unlink", path)
        folder, name, node = look_up(self._root, path, follow=False)
        if node is None:
            raise failure(errno.ENOENT, path)
        if isinstance(node, FolderNode):
            raise failure(errno.EISDIR, path)
        self._drop(folder, name)
        self._unlinked(node)
        self._finish(fault)

    def mkdir(self, path: str) -> None:
        fault = self._point("mkdir", path)
        folder, name, node = look_up(self._root, path, follow=False)
        if node is not None:
            raise failure(errno.EEXIST, path)
        self._link(folder, name, FolderNode(self._number(), self._now_ns()))
        self._finish(fault)

    def rmdir(self, path: str) -> None:
        fault = self._point("rmdir", path)
        folder, name, node = look_up(self._root, path, follow=False)
        if node is None:
            raise failure(errno.ENOENT, path)
        if not isinstance(node, FolderNode):
            raise failure(errno.ENOTDIR, path)
        if node.entries:
            raise failure(errno.ENOTEMPTY, path)
        if not name:
            raise failure(errno.EBUSY, path)
        self._drop(folder, name, removed=node)
        self._finish(fault)

    def fsync_dir(self, path: str) -> None:
        fault = self._point("fsync_dir", path)
        folder = self._folder(path)
        journal = self._journal
        if not journal.waiting and fault is None:
            return
        standing = journal.standing_on(folder)
        if isinstance(fault, PowerCut):
            # Any prefix in order is one that a journal may have reached.
            del standing[len(standing) // 2 :]
        journal.commit(standing)
        self._finish(fault)

    # Looking.

    def read(self, path: str) -> bytes:
        self._powered()
        return self._file(path).data

    def chunks(self, path: str, size: int) -> Iterator[bytes]:
        self._powered()
        node = self._file(path)
        position = 0
        while piece := node.data[position : position + size]:
            yield piece
            position += len(piece)
            self._powered()

    def listdir(self, path: str) -> list[str]:
        self._powered()
        return sorted(self._folder(path).entries)

    def stat(self, path: str) -> FileStat | None:
        self._powered()
        try:
            node = look_up(self._root, path, follow=False)[2]
        except (FileNotFoundError, NotADirectoryError):
            return None
        if node is None:
            return None
        kind: Kind = "dir"
        size = _FOLDER_BYTES
        if isinstance(node, FileNode):
            kind, size = "file", len(node.data)
        elif isinstance(node, LinkNode):
            kind, size = "link", len(node.target.encode())
        return FileStat(kind, size, node.modified_ns, node.changed_ns, node.number)

    def readlink(self, path: str) -> str:
        self._powered()
        node = look_up(self._root, path, follow=False)[2]
        if not isinstance(node, LinkNode):
            raise failure(errno.ENOENT if node is None else errno.EINVAL, path)
        return node.target

    def being_written(self, path: str) -> bool | None:
        self._powered()
        node = look_up(self._root, path, follow=False)[2]
        if node is None:
            raise failure(errno.ENOENT, path)
        if isinstance(node, LinkNode):
            raise failure(errno.ELOOP, path)
        if isinstance(node, FolderNode):
            return None
        return node.person or node.writers > 0

    def free_bytes(self) -> int:
        self._powered()
        return max(0, self.capacity_bytes - self._used)

    def real_path(self, path: str) -> Path:
        raise RuntimeError(f"{path} is on a simulated disk and has no place in the real file system")

    def tree(self) -> dict[str, bytes | str | None]:
        """Everything there is, by path: a file's bytes, a link's target, ``None`` for a folder. Works when frozen."""
        return {
            path: node.data if isinstance(node, FileNode) else getattr(node, "target", None)
            for path, node in every(self._root)
        }

    def below(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """Every file below a folder, by path, with its content as it lies there; none if there is no such folder."""
        try:
            found = look_up(self._root, folder, follow=True)[2]
        except (FileNotFoundError, NotADirectoryError):
            return
        if isinstance(found, FolderNode):
            yield from _files_below(found, "" if folder == "." else f"{folder}/")

    def bytes_of(self, path: str) -> int:
        """Bytes of a file or link, or of all below a folder; 0 where there is nothing."""
        try:
            found = look_up(self._root, path, follow=False)[2]
        except (FileNotFoundError, NotADirectoryError):
            return 0
        return 0 if found is None else _bytes_of(found)

    def state_of(self, folder: str) -> object:
        """Another object as soon as a name or a content below this folder is another one; ``None`` without a folder."""
        try:
            found = look_up(self._root, folder, follow=False)[2]
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.state if isinstance(found, FolderNode) else None

    def understood(self, path: str, reader: Callable[[bytes], T]) -> T:
        """What ``reader`` makes of a file, which is read through once for each content that the file has.

        For checkers, who ask after every commit and find most files as they were. ``reader`` must be a function of the
        content alone, and nobody may change what it returns.
        """
        self._powered()
        node = self._file(path)
        data = node.data
        known = node.understood.get(reader)
        if known is not None and known[0] is data:
            result: T = known[1]
            return result
        result = reader(data)
        node.understood[reader] = (data, result)
        return result

    # What a person does. Durable at once, never a fault point, and not stopped by anything but a full disk.

    def person_put(self, path: str, data: bytes) -> None:
        """A whole file appears, in place of what had its name."""
        self.begin_person_write(path, anew=True)
        self.person_write(path, data)
        self.end_person_write(path)

    def begin_person_write(self, path: str, *, anew: bool = False) -> None:
        """A person's program opens ``path``; until ``end_person_write`` it is ``being_written``."""
        self._powered()
        folder, name, node = look_up(self._root, path, follow=False)
        if isinstance(node, FolderNode):
            raise failure(errno.EISDIR, path)
        if anew or not isinstance(node, FileNode):
            self._unlinked(node)
            node = FileNode(self._number(), self._now_ns())
            folder.put(name, node)
            folder.modified_ns = folder.changed_ns = node.modified_ns
            self._settle(path, folder, name, node)
        node.person = True

    def person_write(self, path: str, data: bytes) -> None:
        """More bytes at the end of a file."""
        self._powered()
        node = self._file(path)
        if self._used + len(data) > self.capacity_bytes:
            raise failure(errno.ENOSPC, path)
        node.set_data(node.data + data)
        node.modified_ns = node.changed_ns = self._now_ns()
        self._used += len(data)

    def end_person_write(self, path: str) -> None:
        """The person's program closes the file, wherever it has been moved to in the meantime: name it there."""
        self._powered()
        self._file(path).person = False

    def person_mkdir(self, path: str) -> None:
        """A folder appears."""
        self._powered()
        folder, name, node = look_up(self._root, path, follow=False)
        if node is not None:
            raise failure(errno.EEXIST, path)
        made = FolderNode(self._number(), self._now_ns())
        folder.put(name, made)
        self._settle(path, folder, name, made)

    def person_remove(self, path: str) -> None:
        """A file, a link or a folder with all it holds is gone."""
        self._powered()
        folder, name, node = look_up(self._root, path, follow=False)
        if node is None or not name:
            raise failure(errno.ENOENT, path)
        if isinstance(node, FolderNode):
            for _, below in every(node):
                self._unlinked(below)
        self._unlinked(node)
        del folder.entries[name]
        folder.changed()
        folder.modified_ns = folder.changed_ns = self._now_ns()
        self._settle(path, folder, name, None)

    def corrupt(self, path: str, stream: random.Random) -> None:
        """Turn one bit of a file, as a bad sector or a bad hand does."""
        node = self._file(path)
        if not node.data:
            raise failure(errno.EINVAL, path)
        data = bytearray(node.data)
        data[stream.randrange(len(data))] ^= 1 << stream.randrange(8)
        node.set_data(bytes(data))

    # Power.

    def power_cut(self, survival: Survival, stream: random.Random) -> None:
        """The power goes now. After a ``PowerCut`` fault: decide anew what survives."""
        self._survival, self._chance = survival, stream
        self._freeze(PowerLost(f"after operation {self.operations}"))

    def reboot(self) -> SimDisk:
        """The disk as it is found when the power is back: no open handles, no faults, nobody writing."""
        assert self._frozen, "only a disk without power can be rebooted"
        self._journal.decide(self._survival, self._chance)
        found = SimDisk(self._now_ns, self.capacity_bytes)
        found._root = self._root.survivor(self._survival, self._chance)
        found._inodes = self._inodes
        found._used = sum(len(node.data) for _, node in every(found._root) if isinstance(node, FileNode))
        return found

    def abandoned(self) -> SimDisk:
        """The disk as the next process finds it when this one was killed: nothing is lost, and nothing is synced.

        What the dead program had open is closed by the kernel. What the next one believes and builds on is still taken
        back by a power cut that comes later.
        """
        assert self._frozen, "a program that still runs has not been killed"
        found = SimDisk(self._now_ns, self.capacity_bytes)
        found._root, found._journal = self._root, self._journal
        found._inodes, found._used = self._inodes, self._used
        for node, _ in self._open.values():
            node.writers -= 1
            found._let_go(node)
        return found

    def _freeze(self, lost: PowerLost) -> None:
        if self._frozen:
            return
        self._frozen = True
        if self.on_power_cut is not None:
            self.on_power_cut(lost)

    def _powered(self) -> None:
        if self._frozen:
            raise PowerLost(f"after operation {self.operations}")

    def _point(self, operation: str, path: str) -> Fault | None:
        """Count a fault point. Returns only a fault that happens half-way, or on a file's fsync."""
        if self._frozen:
            raise PowerLost(f"after operation {self.operations}")
        self.operations += 1
        self.log.append((self.operations, operation, path))
        if self.faults is None:
            return None
        fault = self.faults(self.operations, operation, path)
        if fault is None:
            return None
        self.log.append((self.operations, str(fault), path))
        if isinstance(fault, PowerCut):
            if not fault.halfway:
                self._finish(fault)
        elif operation != "fsync" and not (operation == "write" and isinstance(fault, ShortWrite)):
            raise failure(errno.EIO if isinstance(fault, IoError) else errno.ENOSPC, path)
        return fault

    def _finish(self, fault: Fault | None) -> None:
        """The operation got half-way: if the power was to go there, it goes."""
        if isinstance(fault, PowerCut):
            self._survival = fault.survival
            self._chance = random.Random(fault.seed)  # noqa: S311  (chance, not secrets)
            lost = PowerLost(f"in operation {self.operations}")
            self._freeze(lost)
            raise lost

    # The tree.

    def _number(self) -> int:
        self._inodes += 1
        return self._inodes

    def _file(self, path: str) -> FileNode:
        node = look_up(self._root, path, follow=True)[2]
        if isinstance(node, FileNode):
            return node
        raise failure(errno.ENOENT if node is None else errno.EISDIR, path)

    def _folder(self, path: str) -> FolderNode:
        node = look_up(self._root, path, follow=True)[2]
        if isinstance(node, FolderNode):
            return node
        raise failure(errno.ENOENT if node is None else errno.ENOTDIR, path)

    def _handle(self, handle: int) -> tuple[FileNode, str]:
        found = self._open.get(handle)
        if found is None:
            raise failure(errno.EBADF, str(handle))
        return found

    def _opened(self, node: FileNode, path: str) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._open[handle] = (node, path)
        node.writers += 1
        return handle

    def _new_file(self, folder: FolderNode, name: str, fault: Fault | None) -> FileNode:
        node = FileNode(self._number(), self._now_ns())
        self._link(folder, name, node)
        self._finish(fault)
        return node

    def _link(self, folder: FolderNode, name: str, node: Node) -> None:
        folder.put(name, node)
        folder.modified_ns = folder.changed_ns = self._now_ns()
        self._journal.add((folder, name, node))

    def _drop(self, folder: FolderNode, name: str, removed: FolderNode | None = None) -> None:
        del folder.entries[name]
        folder.changed()
        folder.modified_ns = folder.changed_ns = self._now_ns()
        self._journal.add((folder, name, None), removed=removed)

    def _unlinked(self, node: Node | None) -> None:
        if isinstance(node, FileNode):
            node.linked = False
            self._let_go(node)

    def _let_go(self, node: FileNode) -> None:
        """Its bytes are free once a file has neither a name nor a program that holds it open."""
        if not node.linked and node.writers == 0:
            self._used -= len(node.data)

    def _check_replace(self, moved: Node, replaced: Node | None, path: str) -> FolderNode | None:
        """May ``moved`` take the place of ``replaced``? Returns the folder that goes, if one does."""
        if isinstance(replaced, FolderNode):
            if not isinstance(moved, FolderNode):
                raise failure(errno.EISDIR, path)
            if replaced.entries:
                raise failure(errno.ENOTEMPTY, path)
            return replaced
        if replaced is not None and isinstance(moved, FolderNode):
            raise failure(errno.ENOTDIR, path)
        return None

    def _holds(self, folder: FolderNode, other: FolderNode) -> bool:
        """Is ``other`` this folder or somewhere below it?"""
        return folder is other or any(node is other for _, node in every(folder))

    def _settle(self, path: str, folder: FolderNode, name: str, node: Node | None) -> None:
        """Make one name durable now, with the folders above it and what else had that name before."""
        above = self._root
        for part in path.split("/")[:-1]:
            child = above.entries.get(part)
            if not isinstance(child, FolderNode):
                break  # reached through a link: that way need not be durable
            self._journal.commit(self._journal.standing_on(above, part))
            above = child
        self._journal.commit(self._journal.standing_on(folder, name))
        if node is None:
            folder.durable.pop(name, None)
        else:
            folder.durable[name] = node


def _files_below(folder: FolderNode, path: str) -> Iterator[tuple[str, bytes]]:
    for name in sorted(folder.entries):
        node = folder.entries[name]
        if isinstance(node, FileNode):
            yield path + name, node.data
        elif isinstance(node, FolderNode):
            yield from _files_below(node, f"{path}{name}/")


def _bytes_of(node: Node) -> int:
    if isinstance(node, FileNode):
        return len(node.data)
    if isinstance(node, LinkNode):
        return len(node.target.encode())
    return sum(map(_bytes_of, node.entries.values()))
