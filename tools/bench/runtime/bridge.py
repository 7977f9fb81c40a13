"""From a device's thread to the loop: what one message costs the thread that hands it over, and how fast they pass.

A thread hands over ``count`` numbers as fast as it can and the loop counts them. The kernel's own way is a job on the
device thread whose result arrives as a message: one job for each message, so its peers are other ways to run a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import anyio.from_thread
import anyio.to_thread

from messages import Message, Question
from runtime import Actor, Child, on
from tools.bench.runtime import nightfold
from tools.bench.runtime.shape import Run, Tally
from tools.daemon import SWITCH_INTERVAL_SECONDS

CALLER = "caller ns"
Hand = Callable[[int], object]


def as_the_daemon() -> None:
    """The interpreter hands over between threads as often as it does in the daemon."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)


class Flood:
    """``run`` for a way to hand over; ``more`` says what each hand-over cost the thread."""

    def __init__(self, made: Callable[[asyncio.AbstractEventLoop, Tally], Hand], in_worker: bool = False) -> None:
        self._made = made
        self._in_worker = in_worker
        self.more: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Run]:
        """Nothing has to be opened."""
        yield self

    async def __call__(self, count: int) -> int:
        heard = asyncio.Event()
        tally = Tally()
        tally.expect(count, heard.set)
        hand = self._made(asyncio.get_running_loop(), tally)

        def flood() -> None:
            begun = time.perf_counter()
            for number in range(count):
                hand(number)
            self.more[CALLER] = (time.perf_counter() - begun) * 1e9 / count

        if self._in_worker:
            await anyio.to_thread.run_sync(flood)
        else:
            thread = threading.Thread(target=flood, daemon=True)
            thread.start()
            await heard.wait()
            thread.join()
        await heard.wait()
        return count - tally.left


def _heard(tally: Tally, _: int) -> None:
    tally.left -= 1
    if not tally.left:
        tally.done()


def each_wakes(loop: asyncio.AbstractEventLoop, tally: Tally) -> Hand:
    """``call_soon_threadsafe`` for each message."""
    return lambda number: loop.call_soon_threadsafe(_heard, tally, number)


def one_wakes(loop: asyncio.AbstractEventLoop, tally: Tally) -> Hand:
    """A deque, and one ``call_soon_threadsafe`` for all that came since the loop last looked."""
    waiting: deque[int] = deque()
    pending = False

    def drain() -> None:
        nonlocal pending
        pending = False
        for _ in range(min(len(waiting), 512)):
            _heard(tally, waiting.popleft())
        # A batch, and then others may run; whoever appends while this is decided sees ``pending`` or wakes us itself.
        if waiting:
            pending = True
            loop.call_soon(drain)

    def hand(number: int) -> None:
        nonlocal pending
        waiting.append(number)
        if not pending:
            pending = True
            loop.call_soon_threadsafe(drain)

    return hand


def from_thread(_: asyncio.AbstractEventLoop, tally: Tally) -> Hand:
    """``anyio.from_thread.run_sync``, which waits until the loop has called."""
    return lambda number: anyio.from_thread.run_sync(_heard, tally, number)


# A job and its result.


class Stepped(Message, frozen=True):
    """A device job's result."""

    number: int


class Trained(Message, frozen=True):
    """So many results came back."""

    count: int


class Train(Question[Trained], frozen=True):
    """Do so many device jobs, one after the other."""

    count: int


class Begin(Message, frozen=True):
    """Do so many device jobs, and say so when the last result has arrived."""

    count: int


STEPPED = Stepped(1)


class Stepper(Actor):
    """Starts the next job when the last one's result arrives, as the Trainer does."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    @on
    async def begin(self, _: Begin) -> None:
        """The first job."""
        self.on_device(_step)

    @on
    async def stepped(self, _: Stepped) -> None:
        """The next one."""
        tally = self._tally
        tally.left -= 1
        if tally.left:
            self.on_device(_step)
        else:
            tally.done()


class Caller(Actor):
    """Waits for each job inside its handler."""

    @on
    async def train(self, wish: Train) -> Trained:
        """One after the other."""
        for _ in range(wish.count):
            await self.device_call(_step)
        return Trained(wish.count)


def _step() -> Stepped:
    return STEPPED


@contextlib.asynccontextmanager
async def on_device() -> AsyncIterator[Run]:
    """``Actor.on_device``: the result comes as a message, through mailbox and trace."""
    tally = Tally()
    async with nightfold.running(Child("stepper", Stepper, make=partial(Stepper, tally))) as system:

        async def run(count: int) -> int:
            done = asyncio.Event()
            tally.expect(count, done.set)
            await system.send(Begin(count))
            await done.wait()
            return count - tally.left

        yield run


@contextlib.asynccontextmanager
async def device_call() -> AsyncIterator[Run]:
    """``Actor.device_call``: the result comes to the handler that waits for it."""
    async with nightfold.running(Child("caller", Caller)) as system:

        async def run(count: int) -> int:
            return (await system.ask(Train(count), timeout=nightfold.PATIENCE_SECONDS)).count

        yield run


@contextlib.asynccontextmanager
async def _one_by_one(job: Callable[[], Awaitable[Stepped]]) -> AsyncIterator[Run]:
    async def run(count: int) -> int:
        done = 0
        for _ in range(count):
            done += await job() is STEPPED
        return done

    yield run


def executor() -> contextlib.AbstractAsyncContextManager[Run]:
    """``loop.run_in_executor``."""
    return _one_by_one(lambda: asyncio.get_running_loop().run_in_executor(None, _step))


def to_thread() -> contextlib.AbstractAsyncContextManager[Run]:
    """``anyio.to_thread.run_sync``."""
    return _one_by_one(lambda: anyio.to_thread.run_sync(_step))
