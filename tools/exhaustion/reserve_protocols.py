"""Scenarios of the reserve: made, made in another size, and released."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.checkpointer.reserve import RESERVE, Reserve
from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation import SimDisk
from tools.exhaustion.durable_protocols import content_of
from tools.exhaustion.scenario import Broken, Scenario, Shown

SIZE = 48
SIZE_BEFORE = 16


def start(disk: DiskPort) -> Reserve:
    """As the Checkpointer's start has it: the folder, what is shown in it made durable, leftovers swept."""
    durable.ensure_directory(disk, "state")
    disk.fsync_dir("state")
    durable.sweep(disk, "state")
    return Reserve(disk, SIZE)


def _of(size: int) -> Callable[[DiskPort], None]:
    def prepare(disk: DiskPort) -> None:
        start(disk)
        Reserve(disk, size).make()

    return prepare


def whole(disk: SimDisk, size: int) -> bool:
    """Does it lie there, with all the bytes it is to have? There is none of any size but the two."""
    data = content_of(disk, RESERVE)
    other = SimDisk()
    other.mkdir("state")
    Reserve(other, size).make()
    if data is not None and len(data) not in (SIZE, SIZE_BEFORE):
        raise Broken(f"a reserve of {len(data)} bytes is shown")
    return data == content_of(other, RESERVE)


def _made(disk: SimDisk) -> Shown:
    if whole(disk, SIZE):
        return "new"
    if content_of(disk, RESERVE) is not None and not whole(disk, SIZE_BEFORE):
        raise Broken("the reserve that is shown has other bytes")
    return "old"


def _released(disk: SimDisk) -> Shown:
    return "old" if whole(disk, SIZE) else "new"


def _make(_: DiskPort, reserve: Any) -> None:
    reserve.make()


def _release(_: DiskPort, reserve: Any) -> None:
    reserve.release()


RESERVES: tuple[Scenario, ...] = (
    Scenario(name="reserve: made", prepare=start, recover=start, act=_make, shown=_made),
    Scenario(name="reserve: made in another size", prepare=_of(SIZE_BEFORE), recover=start, act=_make, shown=_made),
    Scenario(name="reserve: released", prepare=_of(SIZE), recover=start, act=_release, shown=_released),
)
