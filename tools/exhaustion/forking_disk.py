"""A simulated disk that can be forked, and that shows before each operation what a fault there would leave behind.

Running a program once for each place where the power may go costs as many runs as there are places. This disk is
instead copied at each place, and the power goes on the copy, while the program runs on: one run gives every disk that a
cut anywhere in it can leave. ``tests/simulation/test_exhaustive_protocols.py`` holds that these are the same disks that
cutting for real leaves.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator

from runtime.simulation import PowerCut, PowerLost, SimDisk
from runtime.simulation.inodes import FileNode, FolderNode, LinkNode, Node, Operation
from tools.exhaustion.tape import Tape, every_outcome

_NEVER_ASKED = random.Random(0)  # noqa: S311 - only a torn cut asks
Action = Callable[[SimDisk], object]

HALFWAY = ("write", "fsync", "fsync_dir")
"""Half-way through any other operation is the same place as before the next one: it is atomic and not yet synced."""


class Point:
    """A place in a program's run: operation ``number`` is about to be done, or (``action`` None) the run is over."""

    def __init__(self, disk: SimDisk, operation: str = "", action: Action | None = None) -> None:
        self._disk = disk
        self.number = disk.operations + 1
        self.operation = operation
        self._action = action

    def cuts(self, torn_at_most: int) -> Iterator[tuple[str, SimDisk]]:
        """(word, the disk found when the power is back), for a cut here in every mode; see ``survivors``."""
        for word, found in survivors(self._disk, torn_at_most):
            yield f"before.{word}", found
        if self._action is None or self.operation not in HALFWAY:
            return
        twin = fork(self._disk)
        twin.faults = lambda *_: PowerCut(halfway=True)
        try:
            self._action(twin)
        except PowerLost:
            for word, found in survivors(twin, torn_at_most):
                yield f"halfway.{word}", found
        except OSError:
            return  # the operation is refused before the power could go in it

    def kill(self) -> ForkingDisk:
        """The disk as the next process finds it when this one is killed here: nothing lost, and nothing synced."""
        return abandoned(self._disk)


class ForkingDisk(SimDisk):
    """``SimDisk`` that tells ``on_point`` of each numbered operation before it does it."""

    on_point: Callable[[Point], None] | None = None

    def create(self, path: str) -> int:
        self._reach("create", lambda disk: disk.create(path))
        return super().create(path)

    def open_append(self, path: str) -> int:
        if self.stat(path) is None:
            self._reach("create", lambda disk: disk.open_append(path))
        return super().open_append(path)

    def write(self, handle: int, data: bytes | memoryview) -> None:
        self._reach("write", lambda disk: disk.write(handle, data))
        super().write(handle, data)

    def fsync(self, handle: int) -> None:
        self._reach("fsync", lambda disk: disk.fsync(handle))
        super().fsync(handle)

    def rename(self, old: str, new: str) -> None:
        self._reach("rename", lambda disk: disk.rename(old, new))
        super().rename(old, new)

    def symlink(self, target: str, path: str) -> None:
        self._reach("symlink", lambda disk: disk.symlink(target, path))
        super().symlink(target, path)

    def unlink(self, path: str) -> None:
        self._reach("unlink", lambda disk: disk.unlink(path))
        super().unlink(path)

    def mkdir(self, path: str) -> None:
        self._reach("mkdir", lambda disk: disk.mkdir(path))
        super().mkdir(path)

    def rmdir(self, path: str) -> None:
        self._reach("rmdir", lambda disk: disk.rmdir(path))
        super().rmdir(path)

    def fsync_dir(self, path: str) -> None:
        self._reach("fsync_dir", lambda disk: disk.fsync_dir(path))
        super().fsync_dir(path)

    def _reach(self, operation: str, action: Action) -> None:
        if self.on_point is not None and not self._frozen:
            self.on_point(Point(self, operation, action))


def fork(disk: SimDisk) -> ForkingDisk:
    """A copy that shares nothing with the first: names, content, what is synced of both, open handles."""
    twin = ForkingDisk(disk._now_ns, disk.capacity_bytes)
    made: dict[int, Node] = {}

    def copied(node: Node) -> Node:
        known = made.get(node.number)
        if known is not None:
            return known
        if isinstance(node, LinkNode):
            return node  # never changed once it is made
        return _copied_file(node, made) if isinstance(node, FileNode) else folder(node)

    def folder(node: FolderNode) -> FolderNode:
        known = made.get(node.number)
        if isinstance(known, FolderNode):
            return known
        copy = FolderNode(node.number, 0)
        copy.modified_ns, copy.changed_ns = node.modified_ns, node.changed_ns
        made[node.number] = copy
        for name, child in node.entries.items():
            copy.put(name, copied(child))
        same = node.durable == node.entries  # nodes are equal to themselves alone
        copy.durable = dict(copy.entries) if same else {name: copied(child) for name, child in node.durable.items()}
        return copy

    twin._root = folder(disk._root)
    twin._journal.waiting = [
        Operation(
            tuple((folder(where), name, None if node is None else copied(node)) for where, name, node in each.changes),
            None if each.removed is None else folder(each.removed),
        )
        for each in disk._journal.waiting
    ]
    for handle, (node, path) in disk._open.items():
        copy = copied(node)
        assert isinstance(copy, FileNode), "only files are open"
        twin._open[handle] = (copy, path)
    twin._inodes, twin._used, twin._next_handle = disk._inodes, disk._used, disk._next_handle
    twin.operations = disk.operations
    return twin


def _copied_file(node: FileNode, made: dict[int, Node]) -> FileNode:
    copy = FileNode(node.number, 0)
    copy.data = node.data
    copy.waiting, copy.lost = list(node.waiting), list(node.lost)
    copy.modified_ns, copy.changed_ns = node.modified_ns, node.changed_ns
    copy.writers, copy.person, copy.linked = node.writers, node.person, node.linked
    made[node.number] = copy
    return copy


def abandoned(disk: SimDisk) -> ForkingDisk:
    """A fork whose program is gone: the kernel has closed what it had open."""
    twin = fork(disk)
    for handle in list(twin._open):
        twin.close(handle)
    twin.operations = 0
    return twin


def survivors(disk: SimDisk, torn_at_most: int) -> Iterator[tuple[str, SimDisk]]:
    """(mode, the disk after the reboot) if the power goes now: all lost, all kept, and everything in between."""
    if not _anything_waits(disk):
        yield "lose_all", _rebooted(fork(disk), "lose_all", _NEVER_ASKED)
        return
    yield "lose_all", _rebooted(fork(disk), "lose_all", _NEVER_ASKED)
    yield "keep_all", _rebooted(fork(disk), "keep_all", _NEVER_ASKED)
    for word, found in every_outcome(lambda tape: _rebooted(fork(disk), "torn", tape), torn_at_most):
        yield f"torn.{word}", found


def _rebooted(disk: SimDisk, survival: str, stream: random.Random) -> SimDisk:
    if survival == "lose_all":
        disk.power_cut("lose_all", stream)
    elif survival == "keep_all":
        disk.power_cut("keep_all", stream)
    else:
        disk.power_cut("torn", stream)
    return disk.reboot()


def _anything_waits(disk: SimDisk) -> bool:
    return bool(disk._journal.waiting) or _dirty(disk._root)


def _dirty(folder: FolderNode) -> bool:
    for node in folder.durable.values():
        if isinstance(node, FileNode):
            if node.waiting or node.lost:
                return True
        elif isinstance(node, FolderNode) and _dirty(node):
            return True
    return False


def digest(disk: SimDisk) -> str:
    """Of all names and content: two disks with the same are the same to whoever starts on them after a reboot."""
    found = hashlib.blake2b(digest_size=16)
    for path, data in disk.tree().items():
        kind = b"d" if data is None else b"l" if isinstance(data, str) else b"f"
        content = b"" if data is None else data.encode() if isinstance(data, str) else data
        found.update(kind + path.encode("utf-8", "surrogateescape") + b"\0%d\0" % len(content) + content)
    return found.hexdigest()


def cut_for_real(disk: SimDisk, word: str) -> SimDisk:
    """The power went in a run (``PowerLost`` was raised): what is found in the mode that ``word`` names."""
    mode, _, tape = word.partition(".")
    stream = Tape([int(answer) for answer in tape.split(".") if answer])
    with contextlib.suppress(PowerLost):
        return _rebooted(disk, mode, stream)
    raise AssertionError("a disk without power can be rebooted")
