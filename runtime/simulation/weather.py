"""The weather of a universe: what goes wrong, how often and where, drawn from the seed or given as a list.

Guarantees: each kind has a stream of its own in each life, so that neither what strikes nor what is left out of a list
moves any other chance; and every universe draws its own rates ("swarm"), because a universe in which everything fails
a little never shows what one failure, again and again, leads to.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from runtime.simulation.faults import SURVIVALS
from runtime.simulation.loop import DAY
from runtime.simulation.strikes import HALFWAY, Strike, channel_of

NEVER = 1 << 62
LEVELS = (0.0, 0.3, 1.0, 3.0)
CALM_ONE_IN = 8
"""One universe in so many has no weather at all: what fails there fails by itself."""
AIMED = 0.7
AIMED_ONE_IN = 3
"""In one of so many universes I/O errors come in one place more than elsewhere; so do crashes, over one message."""
AIMED_MOST = 6
"""So many a life, for what fails without end is no weather."""
HANGS_SECONDS = (30.0, 600.0, 7200.0)
"""How long a device hangs that does."""
_HALF = 0.5


class Climate(msgspec.Struct, frozen=True):
    """How often each kind comes where its level is 1. A level is drawn for each kind and universe.

    Attributes:
        cut: chance that a life ends by a power cut or a kill. Most are aimed: they come within a few operations of
            something done below one of ``aims``, for what a protocol leaves when it is cut between two others is
            rarely hit by chance: first ``cut_passes`` of these go by, on average. The others come after ``cut_after``
            operations, on average.
        kill: share of these that kill the process and leave the machine alone.
        io: share of disk operations that fail: ENOSPC, a short write, EIO. In some universes ``io_aimed`` of those done
            below one of ``aims`` fail as well, so that one protocol meets errors again and again.
        crash: share of handlings in which the actor crashes, before or after it has handled its message. In some
            universes ``crash_aimed`` of the handlings of one of ``crash_aims`` (types of messages) crash as well.
        crash_again: chance that the handling of a message over which its receiver has just crashed crashes again.
        job, device: share of blocking jobs, and of device jobs, that raise, or take very long.
        disk_full, slow_disk: how often a day the disk is full, or slow, for a while.
        bit_rot: how often a day a bit of what lies on the disk turns, where ``Trial.rot`` lets it.
        others: kinds of the trial's own, per occasion; see ``Life.unlucky``.
    """

    cut: float = 0.8
    cut_after: float = 300.0
    cut_passes: float = 8.0
    kill: float = 0.3
    aims: tuple[str, ...] = ()
    io: float = 0.002
    io_aimed: float = 0.1
    crash: float = 0.0005
    crash_aims: tuple[str, ...] = ()
    crash_aimed: float = 0.15
    crash_again: float = 0.25
    job: float = 0.001
    device: float = 0.02
    disk_full: float = 0.5
    slow_disk: float = 0.7
    bit_rot: float = 0.0
    others: Mapping[str, float] = msgspec.field(default_factory=dict)


class Channel:
    """One stream of strikes in one life.

    ``due`` is the next point that is struck, if ``aim`` does not set it anew; ``places`` are struck whatever the point.
    """

    due: int = NEVER
    aim: str = ""
    places: Mapping[tuple[str, int], Strike] = {}

    def passing(self, point: int) -> None:
        """Something below ``aim``, or of its kind, is done at this point."""

    def again(self, point: int) -> None:
        """What was struck last is tried again at this point."""

    def take(self) -> Strike:
        """The strike that is due, without its ``where``; the next one is drawn."""
        raise LookupError("nothing is due in a channel in which nothing strikes")


class Weather(Protocol):
    """Where a trial asks what goes wrong."""

    def channel(self, name: str, life: int) -> Channel:
        """The stream of that name in that life."""

    def hours(self) -> Sequence[Strike]:
        """What comes at a time of day."""


class GivenWeather:
    """Exactly these strikes."""

    def __init__(self, strikes: Sequence[Strike]) -> None:
        self._strikes = strikes

    def channel(self, name: str, life: int) -> Channel:
        return _Given([one for one in self._strikes if one.life == life and channel_of(one.kind) == name])

    def hours(self) -> Sequence[Strike]:
        return [one for one in self._strikes if channel_of(one.kind) == "hours"]


class _Given(Channel):
    def __init__(self, strikes: list[Strike]) -> None:
        self.places = {(one.place, one.nth): one for one in strikes if one.place}
        points = {one.point: one for one in strikes if not one.place}
        self._left = [points[point] for point in sorted(points, reverse=True)]
        self.due = self._left[-1].point if self._left else NEVER

    def take(self) -> Strike:
        strike = self._left.pop()
        self.due = self._left[-1].point if self._left else NEVER
        return strike


class SeededWeather:
    """As the seed has it, in the given climate, for the first ``seconds`` of the universe."""

    def __init__(self, seed: int, climate: Climate, seconds: float) -> None:
        self._seed = seed
        self._climate = climate
        self._seconds = seconds
        chance = self._stream("levels")
        calm = chance.randrange(CALM_ONE_IN) == 0
        names = ("cut", "io", "crash", "job", "device", "disk_full", "slow_disk", *climate.others, "bit_rot")
        self.levels = {name: 0.0 if calm else chance.choice(LEVELS) for name in names}
        self._io_aim = self._aim("io", climate.aims)
        self._crash_aim = self._aim("crash", climate.crash_aims)

    def _aim(self, name: str, aims: Sequence[str]) -> str:
        """What is struck more often than all else in this universe, if anything is."""
        chance = self._stream(f"{name} aim")
        aimed = bool(aims) and self.levels[name] > 0 and chance.randrange(AIMED_ONE_IN) == 0
        return chance.choice(aims) if aimed else ""

    def channel(self, name: str, life: int) -> Channel:
        climate, level = self._climate, self.levels[name]
        chance = self._stream(f"{life}/{name}")
        match name:
            case "cut":
                return Cuts(life, chance, climate, climate.cut * level)
            case "io":
                kinds = ("no_space", "short_write", "io_error")
                return _Drawn(life, kinds, chance, climate.io * level, self._io_aim, climate.io_aimed)
            case "crash":
                rate, again = climate.crash / 2 * level, climate.crash_again if level else 0.0
                return _Drawn(life, ("crash",), chance, rate, self._crash_aim, climate.crash_aimed, again)
            case "job":
                return _Drawn(life, ("job_raises", "job_slow", "job_slow"), chance, climate.job * level)
            case "device":
                return _Drawn(life, ("device_raises", "device_hangs"), chance, climate.device * level)
        return _Drawn(life, (name,), chance, climate.others[name] * level)

    def hours(self) -> Sequence[Strike]:
        found: list[Strike] = []
        for kind, a_day, hows, longest in (
            ("disk_full", self._climate.disk_full, ("0", "600", "6000", "300000"), 6 * 3600.0),
            ("slow_disk", self._climate.slow_disk, ("1", "5", "30"), 3600.0),
        ):
            chance, rate = self._stream(kind), a_day * self.levels[kind] / DAY
            at = chance.expovariate(rate) if rate else self._seconds
            while at < self._seconds:
                seconds = min(round(chance.uniform(1.0, longest)), self._seconds - int(at))
                found.append(Strike(0, kind, int(at), chance.choice(hows), float(int(seconds))))
                at += seconds + chance.expovariate(rate)
        found += self._rot()
        return sorted(found, key=lambda one: one.point)

    def _rot(self) -> list[Strike]:
        chance, rate = self._stream("bit_rot"), self._climate.bit_rot * self.levels["bit_rot"] / DAY
        found: list[Strike] = []
        at = chance.expovariate(rate) if rate else self._seconds
        while at < self._seconds:
            found.append(Strike(0, "bit_rot", int(at), seed=chance.getrandbits(32)))
            at += chance.expovariate(rate)
        return found

    def _stream(self, name: str) -> random.Random:
        return random.Random(f"weather/{self._seed}/{name}")  # noqa: S311  (chance, not secrets)


class _Drawn(Channel):
    """Strikes at a rate for each occasion. Gaps are drawn, not occasions: asking costs one comparison.

    More come over ``aim``, with a chance of ``aimed`` each time, and ``again`` over what was struck just now.
    """

    def __init__(
        self,
        life: int,
        kinds: tuple[str, ...],
        chance: random.Random,
        rate: float,
        aim: str = "",
        aimed: float = 0.0,
        again: float = 0.0,
    ) -> None:
        self._life = life
        self._kinds = kinds
        self._chance = chance
        self._rate = rate
        self.aim = aim
        self._aimed = aimed
        self._again = again
        self._aimed_left = AIMED_MOST
        self._next(0)

    def passing(self, point: int) -> None:
        if self._chance.random() < self._aimed:
            self.due = min(self.due, point)
            self._aimed_left -= 1
            self.aim = self.aim if self._aimed_left else ""

    def again(self, point: int) -> None:
        if self._chance.random() < self._again:
            self.due = min(self.due, point)

    def _next(self, point: int) -> None:
        self.due = point + 1 + int(self._chance.expovariate(self._rate)) if self._rate else NEVER

    def take(self) -> Strike:
        chance, point = self._chance, self.due
        kind = chance.choice(self._kinds)
        how, seconds = "", 0.0
        match kind:
            case "job_raises" | "device_raises":
                how = chance.choice(("before", "after"))
            case "job_slow":
                seconds = float(chance.choice((1, 10, 60, 300)))
            case "device_hangs":
                seconds = chance.choice(HANGS_SECONDS)
        self._next(point)
        return Strike(self._life, kind, point, how, seconds)


class Cuts(Channel):
    """At most one end of this life: after so many operations, or once ``aim`` was passed often enough."""

    def __init__(self, life: int, chance: random.Random, climate: Climate, likely: float) -> None:
        self._life = life
        self._chance = chance
        self._climate = climate
        self.aim = ""
        self._passes = 0
        if chance.random() >= likely:
            return
        if climate.aims and chance.random() < AIMED:
            self.aim, self._passes = chance.choice(climate.aims), int(chance.expovariate(1 / climate.cut_passes))
        else:
            self.due = 1 + int(chance.expovariate(1 / climate.cut_after))

    def passing(self, point: int) -> None:
        """Something below ``aim`` is done at this point."""
        self._passes -= 1
        if self._passes < 0:
            self.aim = ""
            self.due = point + self._chance.randint(0, 6)

    def take(self) -> Strike:
        chance, point = self._chance, self.due
        self.due = NEVER
        halfway = HALFWAY if chance.random() < _HALF else ""
        if chance.random() < self._climate.kill:
            return Strike(self._life, "kill", point, f"keep_all{halfway}")
        return Strike(self._life, "cut", point, f"{chance.choice(SURVIVALS)}{halfway}", 0.0, chance.getrandbits(32))
