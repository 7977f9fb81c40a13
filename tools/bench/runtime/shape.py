"""The shape of a case: what is done, by whom, and how one repetition of it is timed.

A *way* is one contestant's version of a case. It opens whatever it needs and hands out ``run(count)``, which does that
many operations and returns how many arrived, so that a way that loses some is found out and not praised for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

CAPACITY = 1024
"""Messages that wait in any contestant's mailbox before its sender must."""
RING = 100
"""Actors in the ring, and tokens that go round in it at once: one starts at each."""
HEARERS = 10
CPU, WALL = "CPU ns", "wall ns"

Run = Callable[[int], Awaitable[int]]
Crowd = Callable[[int], AbstractAsyncContextManager[int]]


class Sample(msgspec.Struct, frozen=True):
    """One repetition: ``count`` operations took ``wall`` and ``cpu`` seconds. ``more``: figures beside the time."""

    count: int
    wall: float
    cpu: float
    more: dict[str, float] = {}

    def figure(self, column: str) -> float:
        """What stands in a column: nanoseconds of CPU (all threads) or wall time per operation, or one of ``more``."""
        if column == CPU:
            return self.cpu * 1e9 / self.count
        if column == WALL:
            return self.wall * 1e9 / self.count
        return self.more[column]


@dataclass(frozen=True)
class Way:
    """One contestant.

    Attributes:
        most: operations of its first pass, or all of them where the case's size is fixed.
        compiled: it runs in a copy of the house whose hot paths are compiled.
    """

    opened: Callable[[], AbstractAsyncContextManager[Run]]
    needs: tuple[str, ...] = ()
    loop: str = "asyncio"
    most: int = 0
    compiled: bool = False

    @property
    def missing(self) -> str:
        """The first package that it needs and that is not installed."""
        wanted = (*self.needs, *(("uvloop",) if self.loop == "uvloop" else ()))
        return next((name for name in wanted if importlib.util.find_spec(name) is None), "")


@dataclass(frozen=True)
class Case:
    """One question put to every contestant.

    Attributes:
        what: a sentence saying what an operation is.
        unit: what the figures are per.
        first: operations of the first pass, which warms up; later passes grow until they take long enough.
        fixed: the size is part of the question, so that ``first`` operations are timed once, without warm-up.
        ways: the contestants, in the order of the table; the first is ours.
        peer: to whose figure each round's ratio is taken; empty where the case has no peer.
        columns: what is printed of each sample, and of which a ratio is taken.
        prepared: called in each repetition's process before anything else.
    """

    what: str
    unit: str
    first: int
    ways: Mapping[str, Way] = field(default_factory=dict)
    fixed: bool = False
    peer: str = "asyncio.Queue"
    columns: tuple[str, ...] = (CPU, WALL)
    prepared: Callable[[], object] = int


class Lost(RuntimeError):
    """A contestant did not handle what it was given."""


@dataclass
class Tally:
    """Counts down what is still to be handled; the same few instructions in every contestant's receiver."""

    left: int = 0
    done: Callable[[], object] = int

    def expect(self, count: int, done: Callable[[], object]) -> None:
        """Call ``done`` when so many were handled."""
        self.left, self.done = count, done


async def until_heard(tally: Tally, count: int, send: Callable[[], Awaitable[object]]) -> int:
    """Send, wait until ``count`` were handled, and return how many there were."""
    heard = asyncio.Event()
    tally.expect(count, heard.set)
    await send()
    await heard.wait()
    return count - tally.left


def shares(count: int, tokens: int) -> list[int]:
    """``count`` hops dealt out to the tokens, each of which carries its own: threads would miscount a shared one."""
    return [count // tokens + (number < count % tokens) for number in range(tokens)]


def repeat(way: Way, *, first: int, seconds: float, fixed: bool) -> Sample:
    """One repetition in this process.

    Raises:
        Lost: not as many operations arrived as were made.
    """

    async def main() -> Sample:
        async with way.opened() as run:
            if fixed:
                return await _timed(run, first)
            count = first
            await _timed(run, count)
            while True:
                sample = await _timed(run, count)
                if sample.wall >= seconds:
                    return sample
                count = int(count * min(10.0, max(1.5, 1.2 * seconds / sample.wall)))

    if way.loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    return asyncio.run(main())


async def _timed(run: Run, count: int) -> Sample:
    cpu, wall = time.process_time(), time.perf_counter()
    arrived = await run(count)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if arrived != count:
        raise Lost(f"{count} were sent and {arrived} arrived")
    return Sample(count, wall, cpu, dict(getattr(run, "more", {})))


def resident_bytes() -> int:
    """What this process holds in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def started_and_stopped(crowd: Crowd) -> Callable[[], AbstractAsyncContextManager[Run]]:
    """A way that starts so many actors and stops them again."""

    async def run(count: int) -> int:
        async with crowd(count) as up:
            return up

    return _always(run)


def weighed(crowd: Crowd) -> Callable[[], AbstractAsyncContextManager[Run]]:
    """A way that starts so many actors and looks at what they hold."""
    return _always(Weight(crowd))


class Weight:
    """``run`` for memory: afterwards ``more`` says what each idle actor added to the process."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self.more: dict[str, float] = {}

    async def __call__(self, count: int) -> int:
        async with self._crowd(20):
            await asyncio.sleep(0.02)  # lazy imports and the allocator's first arenas are not the actors'
        gc.collect()
        before = resident_bytes()
        async with self._crowd(count) as up:
            await asyncio.sleep(0.05)
            gc.collect()
            self.more["bytes"] = (resident_bytes() - before) / count
            return up


def _always(run: Run) -> Callable[[], AbstractAsyncContextManager[Run]]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Run]:
        yield run

    return opened
