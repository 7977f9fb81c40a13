"""One universe: a home, the people around it, everything that goes wrong, from one seed.

A universe is a sequence of lives of the daemon on one disk. A life ends when the plan is done (in order), or when the
power goes (at a seeded disk operation); then the disk reboots with what survives, is checked, and the next life begins.
Faults cease after nine tenths of the time; then everything dropped must get its outcome before the horizon.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from actors.consolidator.merger import Merger
from actors.trainer.engine import Engine
from messages import (
    BatchFailed,
    BatchStarted,
    BatchTrained,
    ConsolidateNow,
    GenerationCommitted,
    InboxChanged,
    NightCommitted,
    PauseTraining,
    ResumeTraining,
)
from runtime import Actor, ActorSystem, Child, MailboxSpec, OperatorError, durable, on
from runtime.mailbox import Envelope
from runtime.settings import Composed, compose
from runtime.simulation import PowerLost, SimClock, SimDevice, SimDisk, SimLoop, SimWorkers
from runtime.simulation.delivery import SeededDelivery
from runtime.simulation.faults import SURVIVALS, Fault, IoError, NoSpace, PowerCut, ShortWrite
from runtime.system import Probe
from runtime.trace_files import encode
from tools.house import SECTIONS, house, silent_parts
from tools.simulated_house import checkers
from tools.simulated_house.checkers import Violation
from tools.simulated_house.engine import PRISTINE, HashChainEngine
from tools.simulated_house.merger import SimMerger
from tools.simulated_house.people import DAY, HOUR, Deed, Plan, make_plan

CALM_FROM = 0.9
HORIZON = 8 * HOUR
"""Virtual time after the plan's end in which everything dropped must have its outcome."""
LIVES_MAX = 60
AIMS = ("state/HEAD", "state/generations", "state/batches", "state/deltas", "trained/", "consolidated_models")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
EPOCHS = (
    datetime(2026, 1, 10, 8, tzinfo=UTC),
    datetime(2026, 3, 28, 20, tzinfo=UTC),
    datetime(2026, 10, 24, 20, tzinfo=UTC),
)

# Slow timers: a quiet hour should cost few events, and events wake whoever is waited for.
CONFIG = """
[trainer]
slice_steps = 3
checkpoint_every_seconds = 20.0
retry_seconds = 5.0
look_again_seconds = 120.0
epochs = 2
[inbox_watcher]
scan_every_seconds = 120.0
quiet_seconds = 1.0
[checkpointer]
keep_generations = 3
keep_snapshots = 2
retry_deletes_every_seconds = 1800.0
[consolidator]
look_every_seconds = 300.0
timeout_seconds = 3600.0
retry_after_seconds = 600.0
[disk_guard]
free_bytes_min = 4096
measure_every_seconds = 600.0
[status_reporter]
write_every_seconds = 60.0
heartbeat_every_seconds = 600.0
trace_on_disk = false
"""


class Pace(msgspec.Struct, frozen=True):
    """The longest a job on the disk, a job on the device and a message take, in virtual seconds."""

    disk: float
    device: float
    delivery: float


PACES = ((0.03, 0.125, 4.0), (0.03, 1.0, 8.0), (0.01, 0.125, 2.0))
"""Each universe has its own: a race shows only where one side is slow and the other fast."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one seed. ``violation`` is empty when every promise held."""

    seed: int
    days: float
    violation: str
    trace: str
    lives: int
    faults: dict[str, int]
    counts: dict[str, int]


class Witness(Actor):
    """Notes what the house announces, outside of any life, to hold it against the disk later."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    @on
    async def committed(self, done: GenerationCommitted) -> None:
        self._notes.generation = done.generation

    @on
    async def night(self, done: NightCommitted) -> None:
        self._notes.generation = done.generation
        self._notes.ledger = (*self._notes.ledger, done.night)
        self._notes.counts["nights"] += 1

    @on
    async def started(self, batch: BatchStarted) -> None:
        if self._notes.in_training not in ("", batch.batch):
            raise Violation(f"batch {batch.batch} began while {self._notes.in_training} was in training")
        self._notes.in_training = batch.batch

    @on
    async def ended(self, batch: BatchTrained | BatchFailed) -> None:
        if self._notes.in_training == batch.batch:
            self._notes.in_training = ""
            self._notes.counts["batches"] += 1


class Notes:
    """What outlives a life: announcements, faults injected, what people still have to do."""

    def __init__(self, plan: Plan) -> None:
        self.deeds = list(plan.deeds)
        self.generation = 0
        self.ledger: tuple[str, ...] = ()
        self.in_training = ""
        self.arrived: set[str] = set()
        self.uploading: dict[str, bytes] = {}
        self.paused = False
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()


class Universe:
    """Build with a seed, then ``run``."""

    def __init__(self, seed: int, days: float = 1.0, *, faults: bool = True) -> None:
        self.seed = seed
        self.days = days
        self._faulty = faults
        self._chance = random.Random(f"universe/{seed}")  # noqa: S311 - chance, not secrets
        self._plan = make_plan(seed, days)
        self._notes = Notes(self._plan)
        self._elapsed = 0.0
        self._skew = 0.0
        self._epoch = self._chance.choice(EPOCHS)
        self._zone = ZoneInfo(self._chance.choice(ZONES))
        self._trace = hashlib.sha256()
        self._lives = 0
        self._next_cut: int | None = None
        self._aim, self._passes = "", 0
        self._power_lost = False
        self._loop: SimLoop | None = None
        self.disk = SimDisk(now_ns=self._now_ns)
        self._marks = {data: mark for mark, data in self._plan.contents.items()}
        self._rates = self._draw_rates()
        self._pace = Pace(*(self._chance.choice(longest) for longest in PACES))
        for folder in ("model", "inbox"):
            durable.ensure_directory(self.disk, folder)
            self.disk.fsync_dir(folder)
        self.disk.person_put(PRISTINE, b"pristine")
        self.disk.person_put("nightfold.toml", b"")

    def run(self) -> Outcome:
        """Live until the plan is done and everything is checked."""
        violation = ""
        try:
            while not self._live():
                self._reboot()
            # Once more, with nothing to do: what the last life could not clean up, the next start does.
            self._reboot()
            self._live()
            self._check_end()
        except Violation as broken:
            violation = str(broken)
        except (OSError, msgspec.MsgspecError) as broken:
            violation = f"what lies on the disk cannot be read: {type(broken).__name__}: {broken}"
        return Outcome(
            seed=self.seed,
            days=self.days,
            violation=violation,
            trace=self._trace.hexdigest(),
            lives=self._lives,
            faults=dict(self._notes.faults),
            counts=dict(self._notes.counts),
        )

    # Lives.

    def _live(self) -> bool:
        """One life; ``True`` if it ended in order with the plan done."""
        self._lives += 1
        if self._lives > LIVES_MAX:
            raise Violation(f"more than {LIVES_MAX} lives")
        loop = SimLoop(
            self.seed * 1000 + self._lives,
            horizon=self.days * DAY + HORIZON - self._elapsed + HOUR,
            epoch=self._epoch + timedelta(seconds=self._elapsed + self._skew),
        )
        self._loop = loop
        self.disk.on_power_cut = loop.halt
        self.disk.faults = self._fault
        self._next_cut = self._draw_cut()
        self._power_lost = False
        try:
            done = loop.run(self._life(loop))
        except PowerLost:
            self._power_lost = True
            done = False
        except (OperatorError, ExceptionGroup, RuntimeError) as error:
            raise Violation(f"the daemon ended with {type(error).__name__}: {_innermost(error)}") from error
        finally:
            self._trace.update(loop.fingerprint().encode())
            self._elapsed += loop.time()
        return done

    async def _life(self, loop: SimLoop) -> bool:
        pace = self._pace
        workers = SimWorkers(loop, longest_seconds=pace.disk)
        chance = loop.random("engine")

        def engine() -> Engine:
            return HashChainEngine(self.disk, chance, lambda: self._trouble(chance, "engine"))

        def merger() -> Merger:
            return SimMerger(self.disk, workers, chance, lambda: self._trouble(chance, "merge"))

        witness = Child("witness", Witness, make=lambda: Witness(self._notes), mailbox=MailboxSpec(100_000))
        system = ActorSystem(
            house(_config(), silent_parts(engine, merger), extra=(witness,)),
            clock=SimClock(loop, self._zone),
            disk=self.disk,
            workers=workers,
            make_device=lambda name: SimDevice(loop, longest_seconds=pace.device, name=name),
            delivery=SeededDelivery(loop, longest_seconds=pace.delivery),
            seed=self.seed,
            probe=self._sabotage(loop),
        )
        self._notes.in_training = ""
        people = asyncio.get_running_loop().create_task(self._live_plan(system, loop))
        # Whatever ends the people's plan, a broken promise too, ends the life.
        people.add_done_callback(lambda _: system.stop("the people left"))
        await system.run()
        self._trace.update(encode(system.trace.since(0)))
        return people.result()

    async def _live_plan(self, system: ActorSystem, loop: SimLoop) -> bool:
        """Do what is due, then wait until everything has its outcome; ends by stopping the daemon in order."""
        await asyncio.sleep(1.0)
        if self._notes.paused:
            await system.send(PauseTraining())
        while self._notes.deeds:
            deed = self._notes.deeds[0]
            await asyncio.sleep(max(0.0, deed.at - self._elapsed - loop.time()))
            self._notes.deeds.pop(0)
            if deed.act == "restart":
                system.stop("restart")
                return False
            await self._do(deed, system, loop)
        await asyncio.sleep(max(0.0, self.days * DAY - self._elapsed - loop.time()))
        give_up_at = loop.time() + HORIZON
        while not (self._all_filed() and all(cell.state == "running" for cell in system.cells.values())):
            if loop.time() > give_up_at:
                names = ", ".join(self.disk.listdir("inbox") + self.disk.listdir("state/batches"))
                raise Violation(f"within {HORIZON / HOUR:.0f} h of calm these got no outcome: {names}")
            await asyncio.sleep(60.0)
        system.stop("the plan is done")
        return True

    def _all_filed(self) -> bool:
        waiting = [name for name in self.disk.listdir("inbox") if name.endswith(".jsonl")]
        return not waiting and not [name for name in self.disk.listdir("state/batches") if name.isdigit()]

    async def _do(self, deed: Deed, system: ActorSystem, loop: SimLoop) -> None:
        match deed.act:
            case "drop":
                self._drop(deed)
                await system.send(InboxChanged())
            case "upload_begin":
                self.disk.begin_person_write(f"inbox/{deed.name}", anew=True)
                self._notes.uploading[deed.name] = b""
            case "upload_more":
                self.disk.person_write(f"inbox/{deed.name}", deed.data)
                self._notes.uploading[deed.name] += deed.data
            case "upload_end":
                self.disk.end_person_write(f"inbox/{deed.name}")
                self._notes.arrived.add(self._marks[self._notes.uploading.pop(deed.name)])
                await system.send(InboxChanged())
            case "pause":
                self._notes.paused = True
                await system.send(PauseTraining())
            case "resume":
                self._notes.paused = False
                await system.send(ResumeTraining())
            case "consolidate":
                await system.send(ConsolidateNow())
            case "jump":
                self._skew += deed.seconds
                loop.jump_wall_clock(deed.seconds)

    def _drop(self, deed: Deed) -> None:
        mark = self._marks[deed.data]
        taken = self.disk.stat(f"inbox/{deed.name}") is not None
        self.disk.person_put(f"inbox/{mark}.jsonl" if taken else f"inbox/{deed.name}", deed.data)
        self._notes.arrived.add(mark)

    # What goes wrong.

    def _draw_rates(self) -> dict[str, float]:
        """How often each kind of fault comes, per occasion: other seeds, other weather."""
        level = self._chance.choice((0.0, 0.3, 1.0, 3.0)) if self._faulty else 0.0
        return {
            "engine": 0.01 * level,
            "merge": 0.2 * level,
            "crash": 0.001 * level,
            "io": 0.002 * level,
            "cut": level,
        }

    @property
    def _calm(self) -> bool:
        now = self._elapsed + (self._loop.time() if self._loop else 0.0)
        return now > CALM_FROM * self.days * DAY

    def _trouble(self, chance: random.Random, kind: str) -> bool:
        happens = chance.random() < self._rates[kind] and not self._calm
        self._notes.faults[kind] += happens
        return happens

    def _draw_cut(self) -> int | None:
        """After how many more disk operations the power goes in this life, if it does.

        Half of the cuts are aimed: they come within a few operations of something being done in one place, for what a
        protocol leaves behind when it is cut between two others is rarely hit by chance.
        """
        self._aim, self._passes = "", 0
        if self._chance.random() > 0.35 * self._rates["cut"]:
            return None
        if self._chance.random() < 0.5:
            self._aim, self._passes = self._chance.choice(AIMS), int(self._chance.expovariate(1 / 8.0))
            return None
        return self.disk.operations + int(self._chance.expovariate(1 / 300.0)) + 1

    def _take_aim(self, number: int, path: str) -> None:
        """Set the cut once the aimed place has been passed often enough."""
        if self._aim and path.startswith(self._aim):
            self._passes -= 1
            if self._passes < 0:
                self._aim = ""
                self._next_cut = number + self._chance.randint(0, 6)

    def _fault(self, number: int, _operation: str, path: str) -> Fault | None:
        if self._calm:
            return None
        self._take_aim(number, path)
        if self._next_cut is not None and number >= self._next_cut:
            self._next_cut = None
            survival = self._chance.choice(SURVIVALS)
            self._notes.faults[f"power cut, {survival}"] += 1
            return PowerCut(survival, seed=self._chance.getrandbits(32), halfway=self._chance.random() < 0.5)
        if self._chance.random() < self._rates["io"]:
            fault = self._chance.choice((NoSpace(), ShortWrite(), IoError()))
            self._notes.faults[type(fault).__name__] += 1
            return fault
        return None

    def _sabotage(self, loop: SimLoop) -> Probe:
        """Any actor may crash over any message, before or after having handled it."""
        chance = loop.random("sabotage")

        def sabotage(actor: str, envelope: Envelope, moment: Literal["before", "after"]) -> None:
            if actor != "witness" and chance.random() < self._rates["crash"] / 2 and not self._calm:
                self._notes.faults[f"{actor} crashes"] += 1
                raise RuntimeError(f"sabotage {moment} {type(envelope.message).__name__}")

        return sabotage

    # Between lives.

    def _reboot(self) -> None:
        """The power is back (or the daemon was stopped in order): what must hold now, holds."""
        if self._power_lost:
            self.disk = self.disk.reboot()
        self.disk.faults = None
        down = self._chance.choice((1.0, 60.0, HOUR))
        self._elapsed += down
        self._loop = None
        head = checkers.head_always_loads(self.disk)
        checkers.acknowledged_is_durable(head, self._notes.generation, self._notes.ledger)
        # A commit may have come through whose announcement did not; from now on it must stay.
        self._notes.ledger = head.ledger if head else ()
        checkers.each_file_is_in_one_place(self.disk, self._plan.contents, self._notes.arrived)
        for name in sorted(self._notes.uploading):
            # The upload died with the machine; its sender begins again, and has the whole file this time.
            if self.disk.stat(f"inbox/{name}") is not None:
                self.disk.person_remove(f"inbox/{name}")
            rest = [deed for deed in self._notes.deeds if deed.name == name]
            whole = self._notes.uploading[name] + b"".join(deed.data for deed in rest)
            self._notes.deeds = [deed for deed in self._notes.deeds if deed.name != name]
            self._notes.deeds.insert(0, Deed(self._elapsed, "drop", name, whole))
        self._notes.uploading.clear()

    def _check_end(self) -> None:
        """The daemon has stopped in order after a calm time."""
        disk, notes = self.disk, self._notes
        head = checkers.head_always_loads(disk)
        checkers.acknowledged_is_durable(head, notes.generation, notes.ledger)
        checkers.each_file_is_in_one_place(disk, self._plan.contents, notes.arrived)
        checkers.everything_has_its_outcome(disk, self._plan.contents, notes.arrived)
        if head is not None:
            checkers.one_night_a_date(head)
        checkers.learning_is_exact(disk)
        checkers.no_leftovers(disk)
        checkers.status_is_true(disk)

    def _now_ns(self) -> int:
        if self._loop is not None:
            return self._loop.wall_ns()
        return int((self._epoch + timedelta(seconds=self._elapsed + self._skew)).timestamp()) * 1_000_000_000


def _config() -> Composed:
    return compose(CONFIG, SECTIONS, file="simulation")


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
