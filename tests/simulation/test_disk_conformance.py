"""``SimDisk`` answers as the real file system does: the same scripts on both, the same results and errors."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.disk import Disk, DiskPort
from runtime.simulation import SimDisk

Step = tuple[Any, ...]


class Player:
    """Plays steps on one disk and tells what each answered.

    Handles are named by the script. A closed one is forgotten, since the kernel gives its number out again.
    """

    def __init__(self, disk: DiskPort) -> None:
        self.disk = disk
        self.handles: dict[str, int] = {}

    def play(self, step: Step) -> object:
        name, *arguments = step
        if name in ("create", "open_append"):
            path, handle = arguments
            act: Callable[[], object] = lambda: self._open(name, path, handle)  # noqa: E731
        elif name in ("write", "fsync", "close"):
            handle, *rest = arguments
            if handle not in self.handles:
                return "no such handle"
            number = self.handles.pop(handle) if name == "close" else self.handles[handle]
            act = lambda: getattr(self.disk, name)(number, *rest)  # noqa: E731
        elif name == "stat":
            act = lambda: self._stat(arguments[0])  # noqa: E731
        elif name == "chunks":
            act = lambda: list(self.disk.chunks(*arguments))  # noqa: E731
        else:
            act = lambda: getattr(self.disk, name)(*arguments)  # noqa: E731
        try:
            return act()
        except OSError as error:
            return (type(error).__name__, error.errno)

    def _open(self, name: str, path: str, handle: str) -> str:
        number = getattr(self.disk, name)(path)
        if handle in self.handles:
            self.disk.close(self.handles[handle])
        self.handles[handle] = number
        return "opened"

    def _stat(self, path: str) -> object:
        found = self.disk.stat(path)
        # A folder's size is the file system's own affair, and so are inode numbers and clocks.
        return found and (found.kind, found.size if found.kind != "dir" else None)

    def close_all(self) -> None:
        for handle in self.handles.values():
            self.disk.close(handle)


SCRIPTS: dict[str, list[Step]] = {
    "files": [
        ("create", "a", "h"),
        ("create", "a", "h2"),
        ("create", "no/a", "h2"),
        ("create", "a/b", "h2"),
        ("create", ".", "h2"),
        ("write", "h", b"hello "),
        ("write", "h", memoryview(b"world")),
        ("write", "h", b""),
        ("fsync", "h"),
        ("being_written", "a"),
        ("close", "h"),
        ("being_written", "a"),
        ("read", "a"),
        ("chunks", "a", 4),
        ("chunks", "no", 4),
        ("chunks", ".", 4),
        ("open_append", "a", "h"),
        ("write", "h", b"!"),
        ("read", "a"),
        ("unlink", "a"),
        ("write", "h", b"nameless"),
        ("fsync", "h"),
        ("close", "h"),
        ("stat", "a"),
        ("read", "a"),
        ("unlink", "a"),
        ("being_written", "a"),
        ("open_append", "new", "h"),
        ("close", "h"),
        ("stat", "new"),
        ("open_append", "new/x", "h"),
        ("open_append", ".", "h"),
    ],
    "folders": [
        ("mkdir", "d"),
        ("mkdir", "d"),
        ("mkdir", "no/d"),
        ("mkdir", "d/e"),
        ("rmdir", "d"),
        ("unlink", "d"),
        ("read", "d"),
        ("being_written", "d"),
        ("listdir", "."),
        ("listdir", "d"),
        ("listdir", "no"),
        ("fsync_dir", "d"),
        ("fsync_dir", "no"),
        ("create", "f", "h"),
        ("close", "h"),
        ("listdir", "f"),
        ("fsync_dir", "f"),
        ("rmdir", "f"),
        ("rmdir", "no"),
        ("mkdir", "f/x"),
        ("stat", "f/x"),
        ("stat", "d/e"),
        ("stat", "."),
        ("rmdir", "d/e"),
        ("rmdir", "d"),
        ("listdir", "."),
    ],
    "renames": [
        ("mkdir", "d"),
        ("mkdir", "d/e"),
        ("mkdir", "empty"),
        ("create", "f", "h"),
        ("write", "h", b"1"),
        ("create", "g", "i"),
        ("rename", "no", "x"),
        ("rename", "f", "no/x"),
        ("rename", "f", "g/x"),
        ("rename", "no", "g/x"),
        ("rename", "f", "d"),
        ("rename", "d", "f"),
        ("rename", "d", "d/e/x"),
        ("rename", "d", "d"),
        ("rename", "d/e", "d"),
        ("rename", "empty", "d"),
        ("rename", "f", "f"),
        ("rename", "d", "empty"),
        ("listdir", "empty"),
        ("rename", "f", "g"),
        ("read", "g"),
        ("write", "h", b"2"),
        ("read", "g"),
        ("rename", "g", "empty/e/f"),
        ("read", "empty/e/f"),
        ("rename", "empty", "moved"),
        ("read", "moved/e/f"),
        ("listdir", "."),
    ],
    "links": [
        ("mkdir", "d"),
        ("mkdir", "d/e"),
        ("create", "d/f", "h"),
        ("write", "h", b"1"),
        ("close", "h"),
        ("symlink", "d", "l"),
        ("symlink", "d", "l"),
        ("symlink", "", "empty"),
        ("symlink", "x", "no/l"),
        ("readlink", "l"),
        ("readlink", "d"),
        ("readlink", "no"),
        ("stat", "l"),
        ("stat", "l/f"),
        ("read", "l/f"),
        ("listdir", "l"),
        ("fsync_dir", "l"),
        ("rmdir", "l"),
        ("being_written", "l"),
        ("create", "l", "h"),
        ("create", "l/g", "h"),
        ("close", "h"),
        ("symlink", "../f", "d/e/up"),
        ("read", "d/e/up"),
        ("read", "l/e/up"),
        ("symlink", "loop", "loop"),
        ("read", "loop"),
        ("read", "loop/x"),
        ("stat", "loop"),
        ("symlink", "later", "dangling"),
        ("read", "dangling"),
        ("create", "dangling", "h"),
        ("open_append", "dangling", "h"),
        ("close", "h"),
        ("listdir", "."),
        ("rename", "l", "m"),
        ("readlink", "m"),
        ("symlink", "d/e", "m.new"),
        ("rename", "m.new", "m"),
        ("listdir", "m"),
        ("rename", "d/f", "m"),
        ("stat", "m"),
        ("unlink", "loop"),
        ("unlink", "dangling"),
        ("listdir", "."),
    ],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_both_disks_answer_alike(script: str, tmp_path: Path) -> None:
    real, simulated = Player(Disk(tmp_path)), Player(SimDisk())
    for number, step in enumerate(SCRIPTS[script]):
        compare(real, simulated, step, f"step {number}")
    real.close_all()


@pytest.mark.parametrize("seed", range(25))
def test_both_disks_answer_alike_to_random_scripts(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    real, simulated = Player(Disk(tmp_path)), Player(SimDisk())
    answered = 0
    for number in range(400):
        answered += compare(real, simulated, random_step(chance), f"seed {seed}, step {number}")
    assert answered > 100, "most steps failed on both, which compares little"
    assert tree_of(Disk(tmp_path)) == tree_of(simulated.disk)
    real.close_all()


def compare(real: Player, simulated: Player, step: Step, where: str) -> bool:
    expected, found = real.play(step), simulated.play(step)
    if not (step[0] == "being_written" and expected is None):  # a file system without leases cannot say
        assert found == expected, f"{where}: {step}"
    return not isinstance(expected, tuple) or step[0] == "stat"


def random_step(chance: random.Random) -> Step:
    names = ("a", "b", "d")

    def path() -> str:
        return "/".join(chance.choice(names) for _ in range(chance.choice((1, 1, 1, 2, 2, 3))))

    # One handle: two on the same file would overwrite each other on the real disk (``create`` keeps a position of its
    # own), which no protocol does and ``SimDisk``, where every write goes to the end, does not model.
    handle = "h"
    return chance.choice(
        (
            lambda: ("create", path(), handle),
            lambda: ("open_append", path(), handle),
            lambda: ("write", handle, bytes([chance.randrange(256)]) * chance.randrange(5)),
            lambda: ("fsync", handle),
            lambda: ("rename", path(), path()),
            lambda: ("rename", path(), path()),
            lambda: ("unlink", path()),
            lambda: ("mkdir", path()),
            lambda: ("mkdir", path()),
            lambda: ("rmdir", path()),
            lambda: ("symlink", chance.choice(("a", "b", "d/b", "./d")), path()),  # inside the home
            lambda: ("fsync_dir", chance.choice((".", path()))),
            lambda: ("read", path()),
            lambda: ("chunks", path(), 3),
            lambda: ("listdir", chance.choice((".", path()))),
            lambda: ("stat", path()),
            lambda: ("readlink", path()),
            lambda: ("being_written", path()),
        )
    )()


def tree_of(disk: DiskPort, folder: str = ".") -> dict[str, object]:
    found: dict[str, object] = {}
    for name in disk.listdir(folder):
        path = name if folder == "." else f"{folder}/{name}"
        stat = disk.stat(path)
        assert stat is not None
        if stat.kind == "dir":
            found[path] = None
            found |= tree_of(disk, path)
        else:
            found[path] = disk.read(path) if stat.kind == "file" else "-> " + disk.readlink(path)
    return found
