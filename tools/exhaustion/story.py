"""The house in one short story: a good file of two steps, a bad file, commits, a night, a stop.

Everything but the faults is fixed: messages arrive at once and in order, the device and the disk are quick, and what
people do follows from what lies on the disk, so that a life after a fault goes on where the story was. A life's clock
begins at a day of its own, so what a life does is decided by the disk it finds: equal disks have equal futures.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, TypeVar

import msgspec

from actors.checkpointer.head import GENERATIONS, TRAINER_STATE, Head, decode_state
from actors.consolidator.merger import Merger
from actors.trainer.engine import Engine
from messages import BatchFiled, ConsolidateNow, GenerationCommitted, NightCommitted, Receipt, Report
from runtime import ActorSystem, durable
from runtime.mailbox import Envelope
from runtime.settings import compose
from runtime.simulation import EPOCH, PowerLost, SimClock, SimDevice, SimDisk, SimLoop, SimWorkers
from runtime.system import Probe
from tools.exhaustion.forking_disk import ForkingDisk, fork, survivors
from tools.exhaustion.scenario import Broken
from tools.exhaustion.store_protocols import head_of
from tools.house import SECTIONS, house, silent_parts
from tools.simulated_house.engine import ADAPTER, PRISTINE, WEIGHTS, HashChainEngine, Weights
from tools.simulated_house.merger import SimMerger

T = TypeVar("T")

GOOD = b"".join(json.dumps({"text": f"line {number}"}).encode() + b"\n" for number in range(4))
BAD = b'{"txt": "this is no example"}\n'
FILES = {"good.jsonl": ("trained", GOOD), "bad.jsonl": ("rejected", BAD)}

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


@dataclass
class Announced:
    """What the house has told: from then on it must be so, whatever happens."""

    generation: int = 0
    nights: tuple[str, ...] = ()
    filed: dict[str, str] = field(default_factory=dict)

    def copy(self) -> Announced:
        """As it stands now."""
        return Announced(self.generation, self.nights, dict(self.filed))

    @property
    def key(self) -> tuple[object, ...]:
        """What tells one from another."""
        return self.generation, self.nights, tuple(sorted(self.filed.items()))

    def hear(self, message: object) -> None:
        """A message reached somebody."""
        match message:
            case GenerationCommitted():
                self.generation = max(self.generation, message.generation)
            case NightCommitted():
                self.generation = max(self.generation, message.generation)
                if message.night not in self.nights:
                    self.nights = (*self.nights, message.night)
            case BatchFiled():
                self.filed[message.name] = message.folder


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
        house(compose(CONFIG, SECTIONS, file="story"), silent_parts(engine, merger)),
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
            raise Broken(f"not told after {GIVE_UP_SECONDS / 3600:g} h: {_where(disk)}; {states}")
        if any(cell.state != "running" for cell in system.cells.values()) or not _all_filed(disk):
            continue
        if _nights(disk):
            return
        if looks % ASK_AGAIN_EVERY_LOOKS == 0:
            await system.send(ConsolidateNow())
        looks += 1


def _all_filed(disk: SimDisk) -> bool:
    claimed = disk.listdir("state/batches") if disk.stat("state/batches") is not None else []
    return not disk.listdir("inbox") and not any(name.isdigit() for name in claimed)


def _nights(disk: SimDisk) -> tuple[str, ...]:
    head = _head(disk)
    return head.ledger if head is not None else ()


def _head(disk: SimDisk) -> Head | None:
    try:
        return head_of(disk)
    except msgspec.MsgspecError as error:
        raise Broken(f"HEAD cannot be read: {error}") from error


def _where(disk: SimDisk) -> str:
    tree = disk.tree()
    return ", ".join(path for path in tree if path.endswith(".jsonl") and not path.startswith("status/"))


# What must hold.


def hold_promises(disk: SimDisk, announced: Announced) -> None:
    """At any moment, after any fault, before anybody has tidied up.

    Raises:
        Broken: HEAD is not sound, what was announced is not there, or a file is not in exactly one place.
    """
    head = _head(disk)
    generation = head.generation if head is not None else 0
    if generation < announced.generation:
        raise Broken(f"generation {announced.generation} was announced, and {generation} is in force")
    nights = head.ledger if head is not None else ()
    if any(night not in nights for night in announced.nights):
        raise Broken(f"the nights {announced.nights} were announced, and there are {nights}")
    tree = disk.tree()
    for name, (_, data) in FILES.items():
        places = [path for path, found in tree.items() if found == data and path.endswith(".jsonl")]
        if len(places) != 1:
            raise Broken(f"{name} is in {len(places)} places: {', '.join(places) or 'it is lost'}")
        folder = announced.filed.get(name)
        if folder is not None and not places[0].startswith(f"{folder}/"):
            raise Broken(f"{name} was announced in {folder}/ and lies at {places[0]}")


@dataclass(frozen=True)
class Told:
    """The story's end, without what a fault may change: times, counts of tries, numbers that were skipped."""

    weights: Weights
    global_step: int
    adapter: tuple[str, int]
    deltas: tuple[Weights, ...]
    model: bytes
    papers: tuple[tuple[object, ...], ...]


def told(disk: SimDisk) -> Told:
    """What the story came to; of a disk that has just lost power after an orderly stop.

    Raises:
        Broken: it did not come to its end, or something is left over.
    """
    head = _head(disk)
    if head is None or len(head.ledger) != 1:
        raise Broken(f"the nights at the end are {head.ledger if head else 'none'}, and there was to be one")
    path = head.generation_path
    state = decode_state(disk.read(f"{path}/{TRAINER_STATE}"), TRAINER_STATE)
    if state.cursor is not None:
        raise Broken(f"batch {state.cursor.batch} is still open")
    _nothing_left(disk, head)
    return Told(
        weights=_weights(disk, path),
        global_step=state.global_step,
        adapter=(state.adapter_id, state.adapter_step),
        deltas=tuple(_weights(disk, delta.path) for delta in head.deltas_in_force()),
        model=disk.read(f"{head.model_path}/{WEIGHTS}"),
        papers=tuple(_paper(disk, name, folder) for name, (folder, _) in sorted(FILES.items())),
    )


def _weights(disk: SimDisk, folder: str) -> Weights:
    return msgspec.json.decode(disk.read(f"{folder}/{ADAPTER}"), type=Weights)


def _paper(disk: SimDisk, name: str, folder: str) -> tuple[object, ...]:
    if disk.stat(f"{folder}/{name}") is None:
        raise Broken(f"{name} did not end in {folder}/: {_where(disk)}")
    if folder == "trained":
        receipt = msgspec.json.decode(disk.read(f"{folder}/{name}.receipt.json"), type=Receipt)
        steps = (receipt.steps, receipt.first_global_step, receipt.last_global_step, receipt.tokens_trained)
        return (name, receipt.name, receipt.digest, receipt.examples, receipt.epochs, *steps, receipt.adapter_id)
    report = msgspec.json.decode(disk.read(f"{folder}/{name}.report.json"), type=Report)
    return (name, report.name, report.trouble.code, report.error_count, report.steps_kept)


def _nothing_left(disk: SimDisk, head: Head) -> None:
    """Each thing on the disk is there for a reason."""
    reached = {kept.path for kept in head.kept} | {delta.path for delta in head.deltas} | {head.model_path}
    places = {f"{folder}/{name}" for name, (folder, _) in FILES.items()}
    papers = {f"{place}.{'receipt' if place.startswith('trained') else 'report'}.json" for place in places}
    for path in disk.tree():
        folder, _, name = path.rpartition("/")
        below = folder in (GENERATIONS, "state/deltas", "consolidated_models")
        if below and path not in reached and not durable.is_leftover(name):
            raise Broken(f"{path} is reached by nothing")
        if folder in ("trained", "rejected", "failed", "inbox") and path not in places | papers:
            raise Broken(f"{path} does not belong there")
        if folder == "state/batches" and name != "LAST" and not durable.is_leftover(name):
            raise Broken(f"{path} is still claimed")
    page = json.loads(disk.read("status/training_status.json"))
    if page["state"] != "stopped" or page["counts"] != {"trained": 1, "rejected": 1, "failed": 0}:
        raise Broken(f"the daemon has stopped, and status says {page['state']} and {page['counts']}")
    if disk.readlink("current_model") != head.generation_path:
        raise Broken("current_model does not point at what is in force")


def nothing_hidden(disk: SimDisk) -> None:
    """After an orderly stop no protocol's leftover is seen; a power cut may still bring back one that was deleted."""
    for path in disk.tree():
        if durable.is_leftover(path.rpartition("/")[2]):
            raise Broken(f"{path} was left behind")


def after_the_stop(disk: SimDisk) -> SimDisk:
    """An orderly stop leaves nothing to a power cut: the disk without what was not synced."""
    return next(found for word, found in survivors(disk, 1) if word == "lose_all")


def undisturbed() -> tuple[Told, Ended]:
    """The story as it goes when nothing goes wrong."""
    disk = fork(a_home())
    ended = live(disk, 1, Announced())
    return told(after_the_stop(disk)), ended
