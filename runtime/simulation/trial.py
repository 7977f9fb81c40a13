"""A trial: any tree of actors, under one seed, through as many lives as its weather ends.

    async def people(life: Life) -> None:
        while counted(life.disk) < 10:
            await life.system.send(CountUp())
            await life.sleep(60.0)

    found = Trial(7, Branch("mine", (Child("counter", Counter),)), people, checkers=(OnlyGrows(),)).run()
    assert not found.violation, found

The seed decides the order and pace of everything, and the weather: power cuts, kills, failing and full and slow disks,
crashes at any message, jobs that raise or hang. ``found.strikes`` lists what struck; a trial of the same seed with
``faults=found.strikes`` runs the same again, and with a part of the list the same without the rest.

A life ends when the scenario does (in order), when it is cut or killed, or when crashes exhaust the supervisor, as
weather may bring about. The scenario begins anew in every life, so it keeps what is done in variables of its own, or on
the disk. Once it has come through, one more life follows, in which whatever the last one left behind is cleaned up.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, Protocol, get_args
from zoneinfo import ZoneInfo

import msgspec

from runtime.errors import OperatorError
from runtime.hot.envelope import Envelope
from runtime.simulation.coverage import CrashPoints, Orders, plain
from runtime.simulation.disk import PLENTY_BYTES, SimDisk
from runtime.simulation.faults import PowerLost
from runtime.simulation.life import Broken, Life
from runtime.simulation.loop import DAY, SimulationError
from runtime.simulation.strikes import Strike
from runtime.simulation.weather import Climate, GivenWeather, SeededWeather, Weather
from runtime.system import GaveUp
from runtime.trace import Record
from runtime.trace_files import encode
from runtime.tree import Branch

Moment = Literal["write", "operation", "commit", "quiet", "reboot", "stop", "end"]
"""When a checker is asked.

- ``write``: an actor does something for the first time in one kind of place on the disk; ``Trial.writing`` says what.
- ``operation``: the same before every mutating operation: for checkers that look at the path and little else.
- ``commit``: the file ``commit_path`` has just been replaced; the rename shows, and nothing after it has happened.
- ``quiet``: for ``quiet_seconds`` nothing was handled but ticks, nothing is in hand and nothing is wrong.
- ``reboot``: between two lives, with the disk as the next one will find it; see ``Trial.ending``.
- ``stop``: a life has ended in order.
- ``end``: the last one has.
"""

ORDINARY_DAY = datetime(2026, 1, 10, 8, tzinfo=UTC)
PLACES: tuple[tuple[str, tuple[datetime, ...]], ...] = (
    ("UTC", ()),
    ("Asia/Kathmandu", ()),
    ("Europe/Berlin", (datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC))),
    ("America/New_York", (datetime(2026, 3, 8, 1, tzinfo=UTC), datetime(2026, 11, 1, 1, tzinfo=UTC))),
    ("Australia/Lord_Howe", (datetime(2026, 4, 4, 8, tzinfo=UTC), datetime(2026, 10, 3, 8, tzinfo=UTC))),
)
"""Zones, with the evenings before their clocks are changed."""

GAVE_UP_STRIKES = 5
GAVE_UP_SECONDS = 420.0
"""A supervisor may give up over so many strikes in so many seconds, and over no fewer."""


class Violation(AssertionError):
    """A promise is broken."""


class Checker(Protocol):
    """One promise. It may keep what it saw; each universe has checkers of its own."""

    @property
    def promise(self) -> str:
        """The promise in a few words: what a shrunk universe must still break."""

    @property
    def when(self) -> tuple[Moment, ...]:
        """The moments at which it is asked."""

    def check(self, trial: Trial) -> None:
        """Raise ``Violation`` if the promise is broken. So does what cannot be read: ``OSError``, ``ValueError``."""


class Pace(msgspec.Struct, frozen=True):
    """The longest a job on the disk, a job on the device and a message take, in virtual seconds."""

    disk: float
    device: float
    delivery: float


PACES = ((0.03, 0.125, 4.0), (0.03, 1.0, 8.0), (0.01, 0.125, 2.0))
"""Each universe has its own: a race shows only where one side is slow and the other fast."""


class Found(msgspec.Struct, frozen=True):
    """What became of one seed. ``violation`` is empty when every promise held; ``promise`` names the broken one."""

    seed: int
    promise: str
    violation: str
    trace: str
    lives: int
    strikes: tuple[Strike, ...]
    crash_points: CrashPoints
    orders: Orders


class Trial:
    """Build it, then ``run`` it once.

    Args:
        seed: decides everything.
        tree: the actors; or what builds those of one life, where they need to know which.
        scenario: what people do in one life; ``False`` stops the program in order and begins another life.
        seconds: how long there is weather.
        horizon_seconds: after that, how long the scenario may take to come through.
        stop_seconds: how long an orderly stop may take.
        quiet_seconds: how long nothing but ticks was handled, and nothing went wrong, before a moment counts as quiet:
            longer than whatever the program itself waits before it looks, writes or tries again.
        climate: how often what goes wrong.
        faults: exactly these instead of the seed's own; ``()`` for none.
        checkers: the promises; asked in this order.
        commit_path: the file whose replacement is a commit.
        between: told before each further life how the last one ended (``stop``, ``kill``, ``cut``, ``gave_up``).
        excuse: may a life end with this error, as the weather was? Beside the supervisor that gave up.
        spared: actors that never crash, for they are the trial's own.
        place: what is told apart among places on the disk; without numbers unless given.
        record: how a life's trace becomes part of the digest.
        rot: turns a bit on the disk, given a strike's ``how`` and ``seed``; returns where, or ``""`` if it does not.

    Attributes:
        ending: how the last life ended: ``done``, ``stop``, ``kill``, ``cut`` or ``gave_up``.
        writing: at ``write`` and ``operation``: the actor, the operation and its path.
        records, deliveries: at ``stop`` and ``end``: what the trace of the life that has just ended holds.
    """

    def __init__(
        self,
        seed: int,
        tree: Branch | Callable[[Life], Branch],
        scenario: Callable[[Life], Coroutine[Any, Any, bool | None]],
        *,
        seconds: float = DAY,
        horizon_seconds: float = DAY,
        stop_seconds: float = 1800.0,
        quiet_seconds: float = 180.0,
        climate: Climate | None = None,
        faults: Sequence[Strike] | None = None,
        checkers: Sequence[Checker] = (),
        commit_path: str = "",
        between: Callable[[str], None] = lambda _: None,
        excuse: Callable[[BaseException], bool] = lambda _: False,
        spared: tuple[str, ...] = (),
        place: Callable[[str], str] = plain,
        record: Callable[[Sequence[Record]], bytes] = encode,
        rot: Callable[[str, int], str] = lambda _how, _seed: "",
        capacity_bytes: int = PLENTY_BYTES,
        lives_max: int = 60,
    ) -> None:
        chance = random.Random(f"trial/{seed}")  # noqa: S311  (chance, not secrets)
        zone, changes = chance.choice(PLACES)
        self.seed = seed
        self.tree: Callable[[Life], Branch] = (lambda _: tree) if isinstance(tree, Branch) else tree
        self.scenario = scenario
        self.seconds = seconds
        self.horizon_seconds = horizon_seconds
        self.stop_seconds = stop_seconds
        self.quiet_seconds = quiet_seconds
        self.zone = ZoneInfo(zone)
        self.pace = Pace(*(chance.choice(longest) for longest in PACES))
        self.weather: Weather = (
            SeededWeather(seed, climate or Climate(), seconds) if faults is None else GivenWeather(faults)
        )
        self.commit_path = commit_path
        self.spared = spared
        self.capacity_bytes = capacity_bytes
        self.elapsed = 0.0
        self._life_began = 0.0
        self._went_on_at = -math.inf
        self.skew = 0.0
        self.life: Life | None = None
        self.lives = 0
        self.crash_points = CrashPoints()
        self.orders = Orders()
        self.written: set[tuple[str, str, str]] = set()
        self.writing = ("", "", "")
        self.ending = ""
        self.moment: Moment = "reboot"
        self.records: Sequence[Record] = ()
        self.deliveries: Sequence[Envelope] = ()
        self.counts: Counter[str] = Counter()
        self._epoch = chance.choice((ORDINARY_DAY, *changes))
        self._checkers = {
            moment: [checker for checker in checkers if moment in checker.when] for moment in get_args(Moment)
        }
        self._between = between
        self._excuse = excuse
        self._record = record
        self.rot = rot
        self._place = lru_cache(maxsize=8192)(place)
        self._lives_max = lives_max
        self._strikes: list[tuple[float, Strike]] = []
        self._wrong_until = -math.inf
        self._violation: tuple[str, str] | None = None
        self._trace = hashlib.sha256()
        self.disk = SimDisk(now_ns=self._now_ns, capacity_bytes=capacity_bytes)

    def run(self) -> Found:
        """Live until the scenario has come through and everything is checked, or a promise is broken."""
        try:
            ending = self._live()
            while ending != "done":
                self._reboot(ending)
                ending = self._live()
            self._reboot("stop")
            self._live()
            self.ask("end")
        except (Violation, Broken) as broken:
            if self._violation is None:
                self._violation = ("the scenario", str(broken))
        promise, violation = self._violation or ("", "")
        return Found(
            seed=self.seed,
            promise=promise,
            violation=violation,
            trace=self._trace.hexdigest(),
            lives=self.lives,
            strikes=self.strikes,
            crash_points=self.crash_points,
            orders=self.orders,
        )

    # What a life and a checker ask.

    @property
    def strikes(self) -> tuple[Strike, ...]:
        """What has struck so far."""
        return tuple(strike for _, strike in self._strikes)

    @property
    def now(self) -> float:
        """Virtual seconds since the universe began."""
        return self.elapsed if self.life is None else self.life.seconds

    @property
    def seconds_left(self) -> float:
        """Of the weather."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def wall_epoch(self) -> datetime:
        """What a clock on the wall shows as a life begins."""
        return self._epoch + timedelta(seconds=self.elapsed + self.skew)

    def place(self, operation: str, path: str) -> str:
        """A crash point's name: the operation and the kind of place; a rename's place is the new name."""
        return f"{operation} {self._place(path.rpartition(' -> ')[2])}"

    def asks_at(self, moment: Moment) -> bool:
        """Is any checker asked then?"""
        return bool(self._checkers[moment])

    def ask(self, moment: Moment, *writing: str) -> None:
        """Ask every checker of this moment. Inside a life a violation halts it; between lives it is raised."""
        if len(writing) == 3:
            self.writing = (writing[0], writing[1], writing[2])
        for checker in self._checkers[moment]:
            if self._violation is not None:
                return
            self.moment = moment
            try:
                checker.check(self)
            except Violation as broken:
                self._break(checker.promise, str(broken))
            except (OSError, ValueError, OperatorError) as error:
                why = f"what lies on the disk cannot be read: {type(error).__name__}: {error}"
                self._break(checker.promise, why)

    def note_violation(self, promise: str, why: str) -> None:
        """The first one counts."""
        if self._violation is None:
            self._violation = (promise, why)

    def note_strike(self, strike: Strike, at: float) -> None:
        """Something has struck."""
        self._strikes.append((at, strike))
        if strike.kind != "bit_rot" or strike.where:
            self._wrong_until = max(self._wrong_until, at + strike.seconds)

    def has_struck(self, strike: Strike) -> bool:
        """Has this one begun in an earlier life?"""
        return any((one.kind, one.point) == (strike.kind, strike.point) for _, one in self._strikes)

    def struck_lately(self, seconds: float, kind: str = "") -> int:
        """How many have struck in the last seconds, of one kind or of any."""
        since = self.now - seconds
        return sum(at >= since and kind in ("", strike.kind) for at, strike in self._strikes)

    def undisturbed_for(self, seconds: float) -> bool:
        """Has nothing gone wrong for so long, and is nothing wrong that lasts?

        A life that ended in the middle of something was wrong until the next one began: nothing is mended meanwhile.
        """
        since = self.now - seconds
        return self._went_on_at <= since and self._wrong_until < since

    def went_well(self) -> bool:
        """Has nothing gone wrong in this life, and did nothing last into it?"""
        return self.undisturbed_for(self.now - self._life_began)

    def keep_record(self, records: Sequence[Record], deliveries: Sequence[Envelope]) -> None:
        """A life has ended in order: this is what passed in it."""
        self.records, self.deliveries = records, deliveries
        self._trace.update(self._record(records))

    # Lives.

    def _live(self) -> Literal["done", "stop", "kill", "cut", "gave_up"]:
        self.lives += 1
        self._life_began = self.elapsed
        if self.lives > self._lives_max:
            self._break("it ends", f"more than {self._lives_max} lives")
        self.life = life = Life(self, self.lives)
        try:
            done = life.run()
        except PowerLost:
            return "kill" if life.ended_by == "kill" else "cut"
        except (GaveUp, OperatorError, ExceptionGroup, RuntimeError, ValueError, OSError, SimulationError) as error:
            self._judge(_innermost(error))
            return "gave_up"
        finally:
            self._trace.update(life.loop.fingerprint().encode())
            self.elapsed += life.loop.time()
            self.life = None
        self.ask("stop")
        return "done" if done else "stop"

    def _judge(self, error: BaseException) -> None:
        """A life ended with an error: raise what it broke, unless the weather was bad enough for it."""
        match error:
            case GaveUp():
                rough = self.struck_lately(GAVE_UP_SECONDS) >= GAVE_UP_STRIKES
                promise, why = "it holds", f"it gave up: {error}"
            case SimulationError():
                rough, promise, why = False, "it ends", str(error)
            case _:
                rough = self._excuse(error)
                promise, why = "it holds", f"it ended with {type(error).__name__}: {error}"
        if not rough:
            self.note_violation(promise, why)
            raise Violation(why)

    def _reboot(self, ending: str) -> None:
        """The power is back, or the program is started again: what must hold now, holds."""
        self.counts[ending] += 1
        self.ending = ending
        if ending == "kill":
            self.disk = self.disk.abandoned()
        elif ending == "cut":
            self.disk = self.disk.reboot()
        self.disk.faults = self.disk.on_power_cut = self.disk.on_rename = None
        chance = random.Random(f"trial/{self.seed}/down/{self.lives}")  # noqa: S311  (chance, not secrets)
        self.elapsed += chance.choice((1.0, 60.0, 3600.0))
        if ending != "stop":
            self._went_on_at = self.elapsed
        self._between(ending)
        self.ask("reboot")

    def _break(self, promise: str, why: str) -> None:
        self.note_violation(promise, why)
        if self.life is None:
            raise Violation(why)
        self.life.loop.halt(Broken(why))

    def _now_ns(self) -> int:
        if self.life is not None:
            return self.life.loop.wall_ns()
        return int(self.wall_epoch.timestamp()) * 1_000_000_000


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
