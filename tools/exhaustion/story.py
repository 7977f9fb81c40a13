"""The house in one short story: a good file of two steps, a bad file, commits, a night, a stop.

Everything but the faults is fixed: messages arrive at once and in order, the device and the disk are quick, and what
people do follows from what lies on the disk, so that a life after a fault goes on where the story was. A life's clock
begins at a day of its own, so what a life does is decided by the disk it finds: equal disks have equal futures.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from actors.consolidator.merger import Merger
from actors.trainer.engine import Engine
from messages import ConsolidateNow
from runtime import ActorSystem, durable
from runtime.hot.envelope import Envelope
from runtime.settings import compose
from runtime.simulation import EPOCH, PowerLost, SimClock, SimDevice, SimDisk, SimLoop, SimWorkers
from runtime.system import Probe
from tools.exhaustion.forking_disk import ForkingDisk, fork
from tools.exhaustion.scenario import Broken
from tools.exhaustion.story_end import FILES, Announced, Told, after_the_stop, nights_of, told, where
from tools.house import SECTIONS, house, silent_parts
from tools.simulated_house.engine import PRISTINE, HashChainEngine
from tools.simulated_house.merger import SimMerger

CONFIG = """
[trainer]
slice_steps = 1
checkpoint_every_steps = 1
checkpoint_every_seconds = 0
retry_seconds = 1.0
look_again_seconds = 30.0
[inbox_watcher]
scan_every_seconds = 30.0
quiet_seconds = 0.0
settle_seconds = 0.0
[checkpointer]
keep_generations = 2
keep_snapshots = 1
keep_nights = 1
reserve_bytes = 1024
retry_deletes_every_seconds = 600.0
[consolidator]
nightly = false
look_every_seconds = 600.0
[disk_guard]
free_bytes_min = 4096
measure_every_seconds = 3600.0
[status_reporter]
write_every_seconds = 600.0
heartbeat_every_seconds = 3600.0
trace_on_disk = false
"""
SEED = 3
"""One whose loop lets no task slip: the order of messages is that in which they were sent."""
LOOK_EVERY_SECONDS = 10.0
ASK_AGAIN_EVERY_LOOKS = 6
GIVE_UP_SECONDS = 4 * 3600.0

Moment = Literal["before", "after"]
Sabotage = Callable[[int, str, Envelope, Moment], None]


class _Quick(random.Random):
    """The merger's chance: a merge takes its shortest time."""

    def randint(self, a: int, b: int) -> int:
        """The least."""
        return min(a, b)


class Killed(BaseException):
    """The process is gone. Not an ``Exception``: nothing in it may go on."""


def a_home() -> ForkingDisk:
    """The story's beginning: a pristine model, and two files in the inbox."""
    disk = ForkingDisk(now_ns=lambda: 0)
    for folder in ("model", "inbox"):
        durable.ensure_directory(disk, folder)
    disk.person_put(PRISTINE, b"pristine")
    disk.person_put("nightfold.toml", b"")
    for name, (_, data) in FILES.items():
        disk.person_put(f"inbox/{name}", data)
    return disk


@dataclass
class Ended:
    """How a life ended. ``handled`` counts the messages that were handled, by whomever."""

    lost: Literal["", "power", "killed"]
    handled: int
    operations: int
    virtual_seconds: float


def live(disk: SimDisk, number: int, announced: Announced, sabotage: Sabotage | None = None) -> Ended:
    """One life of the daemon: until the story is told, or the power goes, or the process is killed.

    ``sabotage`` is asked before and after each handling, with its number; what it raises crashes the receiver.

    Raises:
        Broken: the daemon ended in any other way, or the story is not told in ``GIVE_UP_SECONDS``.
    """
    loop = SimLoop(SEED, horizon=GIVE_UP_SECONDS + 3600.0, epoch=EPOCH + timedelta(days=number))
    disk.on_power_cut = loop.halt
    disk.operations = 0
    handled = 0
    lost: Literal["", "power", "killed"] = ""

    def probe(actor: str, envelope: Envelope, moment: Moment) -> None:
        nonlocal handled
        if moment == "before":
            handled += 1
            announced.hear(envelope.message)
        if sabotage is not None:
            sabotage(handled, actor, envelope, moment)

    try:
        loop.run(_life(loop, disk, probe))
    except PowerLost:
        lost = "power"
    except Killed:
        lost = "killed"
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"the daemon ended with {_innermost(error)}") from error
    return Ended(lost, handled, disk.operations, loop.time())


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def _life(loop: SimLoop, disk: SimDisk, probe: Probe) -> None:
    workers = SimWorkers(loop, longest_seconds=0.002)

    def never() -> bool:
        return False

    def engine() -> Engine:
        return HashChainEngine(disk, random.Random(0), never)  # noqa: S311 - chance, not secrets

    def merger() -> Merger:
        return SimMerger(disk, workers, _Quick(), never)

    system = ActorSystem(
        house(compose(CONFIG, SECTIONS, file="story"), silent_parts(engine, merger, pid=1)),
        clock=SimClock(loop),
        disk=disk,
        workers=workers,
        make_device=lambda name: SimDevice(loop, longest_seconds=0.002, name=name),
        seed=SEED,
        probe=probe,
    )
    people = asyncio.get_running_loop().create_task(_people(system, loop, disk))
    people.add_done_callback(lambda _: system.stop("the story is told"))
    await system.run()
    people.result()


async def _people(system: ActorSystem, loop: SimLoop, disk: SimDisk) -> None:
    """Wait until both files are filed, ask for a night until there was one, and leave."""
    looks = 0
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        if loop.time() > GIVE_UP_SECONDS:
            states = {name: cell.state for name, cell in system.cells.items()}
            raise Broken(f"not told after {GIVE_UP_SECONDS / 3600:g} h: {where(disk)}; {states}")
        if any(cell.state != "running" for cell in system.cells.values()) or not _all_filed(disk):
            continue
        if nights_of(disk):
            return
        if looks % ASK_AGAIN_EVERY_LOOKS == 0:
            await system.send(ConsolidateNow())
        looks += 1


def _all_filed(disk: SimDisk) -> bool:
    claimed = disk.listdir("state/batches") if disk.stat("state/batches") is not None else []
    return not disk.listdir("inbox") and not any(name.isdigit() for name in claimed)


def undisturbed() -> tuple[Told, Ended]:
    """The story as it goes when nothing goes wrong."""
    disk = fork(a_home())
    ended = live(disk, 1, Announced())
    return told(after_the_stop(disk)), ended
