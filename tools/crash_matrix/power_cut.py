"""What a power cut leaves of a home: its journal is replayed on the simulated disk, which then loses its power.

``SimDisk`` knows the rules (nothing is durable before the sync of a file and of the folder that names it; a rename is
in both folders or in neither) and its strictest survival keeps only what had to be kept. From what it is left with, the
real home is made again: each file at its surviving name, cut to the length that was synced. ``status/`` and the lock
stay as they are, for they bear no state.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from runtime.simulation import SimDisk

KEPT_AS_IT_IS = ("status", "nightfold.toml", ".control")


class _Replayed:
    """The journal on a simulated disk; ``graves``: where a file without a name lies; ``whole``: from outside."""

    def __init__(self, journal: Path) -> None:
        self.disk = SimDisk()
        self.graves: dict[int, str] = {}
        self.whole: set[int] = set()
        for line in journal.read_text().splitlines():
            operation, path, *more = json.loads(line)
            getattr(self, f"_{operation}")(path, *more)

    # What people and the merging process do: durable at once.

    def _folder(self, path: str) -> None:
        self.disk.person_mkdir(path)

    def _drop(self, path: str) -> None:
        self.disk.person_put(path, b"")
        self.whole.add(self._number(path))

    def _adopt(self, path: str, names: list[str]) -> None:
        if self.disk.stat(path) is None:
            self.disk.person_mkdir(path)
            for name in names:
                self._drop(f"{path}/{name}")

    # The primitives.

    def _create(self, path: str, _: str) -> None:
        self.disk.close(self.disk.create(path))

    def _write(self, path: str, size: int, _: str) -> None:
        handle = self.disk.open_append(path)
        self.disk.write(handle, bytes(size))
        self.disk.close(handle)

    def _fsync(self, path: str, _: str) -> None:
        handle = self.disk.open_append(path)
        self.disk.fsync(handle)
        self.disk.close(handle)

    def _rename(self, path: str, old: str, grave: str) -> None:
        self._bury(path, grave)
        self.disk.rename(old, path)

    def _unlink(self, path: str, grave: str) -> None:
        self._bury(path, grave)
        self.disk.unlink(path)

    def _symlink(self, path: str, target: str, _: str) -> None:
        self.disk.symlink(target, path)

    def _mkdir(self, path: str, _: str) -> None:
        self.disk.mkdir(path)

    def _rmdir(self, path: str, _: str) -> None:
        self.disk.rmdir(path)

    def _fsync_dir(self, path: str, _: str) -> None:
        self.disk.fsync_dir(path)

    def _bury(self, path: str, grave: str) -> None:
        if grave:
            self.graves[self._number(path)] = grave

    def _number(self, path: str) -> int:
        found = self.disk.stat(path)
        assert found is not None, f"the journal speaks of {path} before it was made"
        return found.inode


def cut_power(home: Path, journal: Path, graves: Path) -> None:
    """Make ``home``, whose daemon was killed, what a power cut at that moment would have left of it."""
    replayed = _Replayed(journal)
    real = {number: graves / grave for number, grave in replayed.graves.items()}
    real |= {number: home / path for path, number in _files(replayed.disk)}
    replayed.disk.power_cut("lose_all", random.Random(0))  # noqa: S311  (losing all needs no chance)
    left = replayed.disk.reboot()
    after = home.with_name(f"{home.name}.after")
    shutil.rmtree(after, ignore_errors=True)
    after.mkdir()
    for path in _all(left, "."):
        found = left.stat(path)
        assert found is not None, "it was listed"
        if found.kind == "dir":
            (after / path).mkdir()
        elif found.kind == "link":
            (after / path).symlink_to(left.readlink(path))
        else:
            source = real[found.inode]
            os.link(source, after / path)
            if found.inode not in replayed.whole and found.size < source.stat().st_size:
                # A copy: the same bytes may also be those of a file that survived whole.
                content = source.read_bytes()[: found.size]
                (after / path).unlink()
                (after / path).write_bytes(content)
    for name in KEPT_AS_IT_IS:
        if os.path.lexists(home / name):
            (home / name).rename(after / name)
    shutil.rmtree(home)
    after.rename(home)


def _all(disk: SimDisk, folder: str) -> Iterator[str]:
    """Everything below a folder, each after the folder that holds it."""
    for name in disk.listdir(folder):
        path = name if folder == "." else f"{folder}/{name}"
        yield path
        found = disk.stat(path)
        if found is not None and found.kind == "dir":
            yield from _all(disk, path)


def _files(disk: SimDisk) -> Iterator[tuple[str, int]]:
    """Every file's path and number."""
    for path in _all(disk, "."):
        found = disk.stat(path)
        if found is not None and found.kind == "file":
            yield path, found.inode
