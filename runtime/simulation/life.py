"""One life of a simulated program: its loop and doors, the actors behind them, and what goes wrong while they live.

Everything an actor does is attributed to it: ``ACTING`` holds its name wherever its code runs, in its handlers, its
jobs and its device, so that a write can be laid at somebody's door.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

import msgspec

from runtime.actor import Actor, Tick
from runtime.hot.desk import IDLE
from runtime.hot.envelope import Envelope
from runtime.simulation.clock import SimClock
from runtime.simulation.coverage import name_of
from runtime.simulation.delivery import SeededDelivery
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import Fault
from runtime.simulation.loop import SimLoop
from runtime.simulation.strikes import Strike
from runtime.simulation.weather import NEVER, Channel
from runtime.simulation.workers import JobTrouble, SimDevice, SimWorkers
from runtime.system import ActorSystem
from runtime.tree import Branch, Child

if TYPE_CHECKING:
    from runtime.simulation.trial import Trial

ACTING: ContextVar[str] = ContextVar("acting", default="")
"""The actor whose code runs; ``""`` outside of any."""
QUIET_LOOK_SECONDS = 900.0
AT_REST = ("running", "stopped", "disabled")
"""States of a cell that is not on its way to another."""


class Broken(BaseException):
    """A promise was found broken in the middle of a life: the loop halts with this, and nobody may catch it."""


class Life:
    """What a tree, a scenario and a checker may use of the life they are in.

    Attributes:
        number: counted from 1.
        began: the universe's seconds at which it began.
        loop, disk, clock, workers, system: the doors, and who lives behind them.
        operations: mutating operations on the disk in this life.
        ended_by: ``kill`` or ``cut`` once that has ended it.
    """

    system: ActorSystem

    def __init__(self, trial: Trial, number: int) -> None:
        self.trial = trial
        self.number = number
        self.began = trial.elapsed
        self.loop = SimLoop(
            trial.seed * 1000 + number, horizon=trial.seconds_left + trial.horizon_seconds, epoch=trial.wall_epoch
        )
        self.disk: SimDisk = trial.disk
        self.clock = SimClock(self.loop, trial.zone)
        self.workers = SimWorkers(self.loop, longest_seconds=trial.pace.disk)
        self.operations = 0
        self.ended_by: Literal["", "kill", "cut"] = ""
        self._moments = self._jobs = 0
        self._device_jobs = 0
        self._channels: dict[str, Channel] = {}
        self._counts: dict[str, int] = {}
        self._places: dict[object, int] = {}
        self._cuts, self._io, self._crashes = (self._channel(name) for name in ("cut", "io", "crash"))
        self._spared = trial.spared
        self._passed = trial.crash_points.passed
        self._orders = trial.orders.seen
        self._written: set[tuple[str, str, str]] = trial.written
        self._before: dict[str, str] = {}
        self._busy_until = 0.0
        self._quiet_seconds = trial.quiet_seconds
        self._each_operation = trial.asks_at("operation")
        self._crashed_over = 0

    # For those who write trials.

    @property
    def seconds(self) -> float:
        """Virtual seconds since the universe began."""
        return self.began + self.loop.time()

    @property
    def calm(self) -> bool:
        """Has the weather ceased?"""
        return self.seconds > self.trial.seconds

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def sleep_until(self, at: float) -> None:
        """Let time pass until so many seconds since the universe began."""
        await asyncio.sleep(max(0.0, at - self.seconds))

    def random(self, name: str) -> random.Random:
        """A stream of chance of this life."""
        return self.loop.random(name)

    def unlucky(self, kind: str, where: str = "") -> bool:
        """Does a trouble of the trial's own (``Climate.others``) strike here?"""
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        return self._struck(self._channel(kind), count, "", 0, where) is not None

    def jump_clock(self, seconds: float) -> None:
        """Set the wall clock forward or back, for good."""
        self.trial.skew += seconds
        self.loop.jump_wall_clock(seconds)

    def violate(self, promise: str, why: str) -> None:
        """A promise is broken: end the universe here. For code inside of actors, whose exceptions are only crashes."""
        self.trial.note_violation(promise, why)
        self.loop.halt(Broken(why))

    # Living.

    def run(self) -> bool:
        """Live; ``False`` if the scenario wants another life."""
        disk = self.disk
        disk.on_power_cut = self.loop.halt
        disk.faults = self._operation
        disk.on_rename = self._renamed
        disk.capacity_bytes = self.trial.capacity_bytes
        self.workers.trouble = self._job_trouble
        self._set_hours()
        return self.loop.run(self._live())

    async def _live(self) -> bool:
        trial = self.trial
        self.system = ActorSystem(
            attributed(trial.tree(self)),
            clock=self.clock,
            disk=self.disk,
            workers=self.workers,
            make_device=self._device,
            delivery=SeededDelivery(self.loop, longest_seconds=trial.pace.delivery),
            seed=trial.seed,
            probe=self._probe,
        )
        scenario = self.loop.create_task(trial.scenario(self), name="scenario")
        # Whatever ends the scenario, a broken promise too, ends the life.
        scenario.add_done_callback(lambda _: self._stop())
        if trial.asks_at("quiet"):
            self.loop.call_later(QUIET_LOOK_SECONDS, self._look_for_quiet)
        await self.system.run()
        trace = self.system.trace
        trial.keep_record(trace.since(0), trace.deliveries())
        return await scenario is not False

    def _stop(self) -> None:
        self.system.stop("the scenario is over")
        seconds = self.trial.stop_seconds
        why = f"told to stop, it had not ended after {seconds:g} s"
        self.loop.call_later(seconds, lambda: self.violate("it ends", self.loop.dump(why)))

    def _look_for_quiet(self) -> None:
        cells = self.system.cells.values()
        if (
            self.loop.time() > self._busy_until
            and not self.system.stopping
            and all(cell.state in AT_REST and cell.desk.begun_at == IDLE and not cell.mailbox.depth for cell in cells)
        ):
            self.trial.ask("quiet")
        self.loop.call_later(QUIET_LOOK_SECONDS, self._look_for_quiet)

    # What goes wrong.

    def _channel(self, name: str) -> Channel:
        found = self._channels.get(name)
        if found is None:
            found = self._channels[name] = self.trial.weather.channel(name, self.number)
        return found

    def _struck(self, channel: Channel, point: int, place: str, nth: int, where: str) -> Strike | None:
        """What strikes at this point, if anything does."""
        if self.calm:
            channel.due, channel.places = NEVER, {}
            return None
        strike = channel.places.get((place, nth))
        if strike is None:
            if point < channel.due:
                return None
            strike = channel.take()
            if strike.point != point:
                return None  # of a list that was made for other counts
        strike = msgspec.structs.replace(strike, point=point, place=place, nth=nth, where=where)
        self._note(strike)
        return strike

    def _count(self, key: object) -> int:
        """Which passing of this place it is."""
        count = self._places[key] = self._places.get(key, 0) + 1
        return count

    def _note(self, strike: Strike) -> None:
        self.trial.note_strike(strike, self.seconds)
        self._busy_until = max(self._busy_until, self.loop.time() + self._quiet_seconds + strike.seconds)

    def _operation(self, _: int, operation: str, path: str) -> Fault | None:
        """Asked before each mutating operation of the disk."""
        self.operations = point = self.operations + 1
        trial = self.trial
        place = trial.place(operation, path)
        self._passed.add(place)
        key = (ACTING.get(), operation, place)
        if key not in self._written:
            self._written.add(key)
            trial.ask("write", key[0], operation, path)
        if self._each_operation:
            trial.ask("operation", key[0], operation, path)
        cuts, io = self._cuts, self._io
        if cuts.aim and _is_below(path, cuts.aim):
            cuts.passing(point)
        if io.aim and _is_below(path, io.aim):
            io.passing(point)
        nth = self._count(place)
        if point < cuts.due and point < io.due and not cuts.places and not io.places:
            return None
        strike = self._struck(cuts, point, place, nth, f"{operation} {path}")
        if strike is not None:
            self.ended_by = "kill" if strike.kind == "kill" else "cut"
            trial.crash_points.reached.add(place)
        else:
            strike = self._struck(io, point, place, nth, f"{operation} {path}")
        return None if strike is None else strike.fault()

    def _renamed(self, path: str) -> None:
        if path == self.trial.commit_path:
            self.trial.ask("commit")

    def _probe(self, actor: str, envelope: Envelope, moment: Literal["before", "after"]) -> None:
        """Any actor may crash over any message, before or after having handled it."""
        if actor in self._spared:
            return
        message = envelope.message
        kind = type(message)
        if moment == "before":
            name = name_of(message)
            earlier = self._before.get(actor, name)
            self._before[actor] = name
            if earlier != name:
                self._orders.add((actor, earlier, name))
        if kind is not Tick:
            self._busy_until = max(self._busy_until, self.loop.time() + self._quiet_seconds)
        self._moments = point = self._moments + 1
        nth = self._count((actor, kind, moment))
        crashes = self._crashes
        if moment == "before":
            if crashes.aim and crashes.aim == kind.__name__:
                crashes.passing(point)
            if envelope.id == self._crashed_over and kind is not Tick:
                crashes.again(point)
        if point < crashes.due and not crashes.places:
            return
        # Ticks are counted together, whatever their timer: a tick's name would have to be built each time.
        place = f"{actor} {moment} {kind.__name__}"
        if self._struck(crashes, point, place, nth, f"{actor} {moment} {name_of(message)}") is not None:
            self._crashed_over = envelope.id
            raise RuntimeError(f"sabotage {moment} {name_of(message)}")

    def _job_trouble(self) -> JobTrouble | None:
        self._jobs += 1
        actor = ACTING.get()
        if actor in self._spared:
            return None
        return self._trouble("job", self._jobs, actor)

    def _trouble(self, name: str, point: int, actor: str) -> JobTrouble | None:
        """What goes wrong with this job of an actor, told apart by the message over which the job was begun."""
        channel = self._channel(name)
        nth = self._count((name, actor, self._before.get(actor, "")))
        if point < channel.due and not channel.places:
            return None
        place = f"{actor or 'nobody'} over {self._before.get(actor, 'its start')}"
        strike = self._struck(channel, point, place, nth, f"a {name} of {place}")
        if strike is None:
            return None
        match strike.how:
            case "before" | "after":
                return JobTrouble(raises=strike.how)
        # What lasts ends with the weather: from then on the program has only itself to blame.
        return JobTrouble(seconds=max(0.001, min(strike.seconds, self.trial.seconds - self.seconds)))

    def _device(self, name: str) -> SimDevice:
        device = SimDevice(self.loop, longest_seconds=self.trial.pace.device, name=name)

        def trouble() -> JobTrouble | None:
            self._device_jobs += 1
            return self._trouble("device", self._device_jobs, name)

        device.trouble = trouble
        return device

    # What goes wrong for a while.

    def _set_hours(self) -> None:
        for strike in self.trial.weather.hours():
            ends = min(strike.point + strike.seconds, self.trial.seconds)
            if ends > self.began:
                self.loop.call_at(max(0.0, strike.point - self.began), self._begin_hour, strike, ends - self.began)
                self.loop.call_at(ends - self.began, self._end_hour, strike)

    def _begin_hour(self, strike: Strike, ends: float) -> None:
        if strike.kind == "bit_rot":
            self._rot(strike)
            return
        self._busy_until = max(self._busy_until, ends + self._quiet_seconds)
        if not self.trial.has_struck(strike):
            self.trial.note_strike(msgspec.structs.replace(strike, life=self.number), self.seconds)
        if strike.kind == "disk_full":
            used = self.disk.capacity_bytes - self.disk.free_bytes()
            self.disk.capacity_bytes = used + int(strike.how)
        else:
            self.workers.longest_seconds = float(strike.how)

    def _rot(self, strike: Strike) -> None:
        if self.trial.has_struck(strike):
            return
        where = self.trial.rot(strike.how, strike.seed)
        strike = msgspec.structs.replace(strike, life=self.number, where=where)
        if where:
            self._note(strike)
        else:  # noted all the same: a list of what struck must bring the same again
            self.trial.note_strike(strike, self.seconds)

    def _end_hour(self, strike: Strike) -> None:
        if strike.kind == "bit_rot":
            return
        if strike.kind == "disk_full":
            self.disk.capacity_bytes = self.trial.capacity_bytes
        else:
            self.workers.longest_seconds = self.trial.pace.disk


def _is_below(path: str, aim: str) -> bool:
    """Is something done there? A rename has two sides."""
    return path.startswith(aim) or f" -> {aim}" in path


def attributed(branch: Branch) -> Branch:
    """The same tree, in which the task of each incarnation knows whose it is."""
    return dataclasses.replace(
        branch,
        children=tuple(
            attributed(child) if isinstance(child, Branch) else dataclasses.replace(child, make=_acting_as(child))
            for child in branch.children
        ),
    )


def _acting_as(child: Child) -> Callable[[], Actor]:
    def make() -> Actor:
        ACTING.set(child.name)
        return child.build()

    return make
