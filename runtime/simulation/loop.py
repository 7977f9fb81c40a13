"""An asyncio event loop whose time is virtual and whose order of tasks is a pure function of a seed.

It guarantees:

- The same seed and program give the same run, step for step, in any process and under any hash seed; ``fingerprint``
  is the proof. Each round (what was ready when it began) is ordered by a keyed hash of seed, task number and task step,
  never by position: anyio keeps tasks in sets ordered by address, so a shuffle of positions does not repeat itself.
- Plain callbacks keep their order among themselves. A task may slip a bounded number of rounds.
- Time stands still while anything can run, then jumps to the next timer. Nothing ever waits for the real clock.
- A run that cannot end, ends: ``SimDeadlock``, ``SimHorizon`` and ``SimLivelock`` name the tasks and where they wait.
- ``halt`` is a power cut: nothing runs after the current callback, no ``finally`` and no ``CancelledError``.

It leans on private parts of Python 3.11's asyncio (``_run_once``, ``_ready``, what a handle holds, ``__self__`` of a
task's callback); a canary test holds them. It knows no sockets, subprocesses or threads: each of these is an escape and
raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import heapq
import inspect
import math
import random
import struct
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextvars import Context, copy_context
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400.0

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_PACK = struct.Struct("<QQd").pack
_CALLBACKS = 0  # the lane of everything that is not a task

# Per seed, a task slips a round with a chance of 1 in N, at most so many times in a row. Bounded, because a task that
# may wait for ever starves anyio's cancellation, which posts itself anew in every round.
_SWARM = ((0, 0), (8, 3), (3, 12), (2, 40))

_COLLECT_EVERY_STEPS = 1 << 14
_COLLECT_ALL_EVERY = 64  # young collections
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)


class SimulationError(Exception):
    """A simulated run ended in a way no program should."""


class SimDeadlock(SimulationError):
    """Nothing can run and no timer will ever change that."""


class SimHorizon(SimulationError):
    """The run had not reached its end by the horizon."""


class SimLivelock(SimulationError):
    """Too many steps without a moment passing."""


class SimEscape(SimulationError):
    """Something left the simulation: a real thread tried to touch the loop."""


class SimTask(asyncio.Task[Any]):
    """A task that knows its number, how often it ran and how often it has just been passed over."""

    __slots__ = ("lane", "slipped", "step")
    lane: int
    step: int
    slipped: int


class _Handle(asyncio.Handle):
    """asyncio's own, made without a call: there is one for each step of each task, and none is ever debugged."""

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, loop: SimLoop, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None


class _TimerHandle(asyncio.TimerHandle):
    """The same for timers."""

    __slots__ = ()

    def __init__(self, when: float, callback: Any, args: Any, loop: SimLoop, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = self._scheduled = False
        self._repr = self._source_traceback = None
        self._when = when


def mix(value: int) -> int:
    """Spread 64 bits evenly (the finaliser of splitmix64), the same in every process."""
    value &= _WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)


def latency(stream: random.Random, longest_seconds: float = 0.125) -> float:
    """A wait of k/1024 s, as often short as long. Dyadic, so that sums of waits are exact and can coincide."""
    longest = max(1, int(longest_seconds * 1024))
    # One draw serves both, for this is asked for every message and every job: which bound, and how far up to it.
    bits = stream.getrandbits(53)
    bound = min(longest, 1 << bits % (longest.bit_length() + 1))
    return (1 + (bits >> 21) % bound) / 1024


class SimLoop(asyncio.BaseEventLoop):
    """One seed, one virtual clock, one run.

    Args:
        seed: decides every order and every latency.
        horizon: the virtual second at which a run that goes on is given up.
        epoch: the wall-clock time of virtual second 0.
        steps_per_instant: how many callbacks may run without time passing.
    """

    _ready: deque[Any]

    def __init__(
        self,
        seed: int = 0,
        *,
        horizon: float = DAY,
        epoch: datetime = EPOCH,
        steps_per_instant: int = 200_000,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.horizon = horizon
        self.epoch = epoch
        self._epoch_ns = (epoch - _UNIX) // timedelta(microseconds=1) * 1000
        self.steps = 0
        self._now = 0.0
        self._skew = 0.0
        self._key = mix(seed + 1)
        self._slip_key = mix(self._key + 1)
        self._slip_one_in, self._slip_most = _SWARM[mix(self._key + 2) % len(_SWARM)]
        self._rounds = 0
        self._lanes = _CALLBACKS
        self._tasks: weakref.WeakValueDictionary[int, SimTask] = weakref.WeakValueDictionary()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._cancelled_timers = 0
        self._steps_per_instant = steps_per_instant
        self._instant_began = 0
        self._collect_at = _COLLECT_EVERY_STEPS
        self._halted: BaseException | None = None
        self._owner = threading.get_ident()
        self._streams: dict[str, random.Random] = {}
        self._signals: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._farewells: list[Callable[[], None]] = []
        self._trace = bytearray()
        self._digest = hashlib.sha256()
        self.set_exception_handler(_stop_on_raised_callback)

    # Time and chance.

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self._now

    def wall(self, zone: tzinfo = UTC) -> datetime:
        """What a clock on the wall shows."""
        return (self.epoch + timedelta(seconds=self._now + self._skew)).astimezone(zone)

    def wall_ns(self) -> int:
        """The wall clock in nanoseconds since 1970, as a file system stamps it."""
        return self._epoch_ns + int((self._now + self._skew) * 1e9)

    def jump_wall_clock(self, seconds: float) -> None:
        """Set the wall clock forward or back, as NTP or a person does. Virtual time and timers do not notice."""
        self._skew += seconds

    def random(self, name: str) -> random.Random:
        """The stream of this seed and name; asked again, the same stream goes on. Streams do not affect each other."""
        stream = self._streams.get(name)
        if stream is None:
            # A string is hashed with SHA-512 by ``random`` itself, so the stream does not depend on the hash seed.
            stream = self._streams[name] = random.Random(f"{self.seed}/{name}")  # noqa: S311  (chance, not secrets)
        return stream

    def note(self, text: str) -> None:
        """Mix what happened into the fingerprint, so that two runs differ if they differ in this."""
        self._trace += text.encode()

    def fingerprint(self) -> str:
        """SHA-256 over (task number, its step, virtual time) of every callback run so far, and all notes."""
        self._digest.update(self._trace)
        self._trace.clear()
        return self._digest.hexdigest()

    # Running.

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main`` to its end and close the loop. Tasks that are still pending are never run again.

        Not ``asyncio.Runner``: that cancels what is pending, which runs every ``finally`` after the power has gone.
        """
        collecting = gc.isenabled()
        # Finalisers run where collection falls, so it must fall on the same step in every process.
        gc.disable()
        task = self.create_task(main, name="main")
        task.add_done_callback(_stop_loop_of)
        try:
            self.run_forever()
            result: T = task.result()
        except BaseException as error:
            self._halted = self._halted or error
            raise
        else:
            return result
        finally:
            self._end()
            if collecting:
                gc.enable()

    def halt(self, error: BaseException) -> None:
        """Stop right after the callback in hand, and let ``run`` raise ``error``. Nothing else runs, ever."""
        if self._halted is None:
            self._halted = error

    def at_end(self, farewell: Callable[[], None]) -> None:
        """Call ``farewell`` once the run has ended, before what is pending is thrown away.

        Throwing a coroutine away runs its ``finally`` blocks (Python knows no other way), so this is the place to
        freeze whatever they could still reach.
        """
        self._farewells.append(farewell)

    def _run_once(self) -> None:  # noqa: C901 - the hottest loop there is: a call more in it is seen in every campaign
        if self._halted is not None:
            raise self._halted
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)[2]._scheduled = False  # type: ignore[attr-defined]
            self._cancelled_timers -= 1
        ready = self._ready
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._jump(timers)
        now = self._now
        while timers and timers[0][0] <= now:
            handle: Any = heapq.heappop(timers)[2]
            handle._scheduled = False
            if handle._cancelled:
                self._cancelled_timers -= 1
            else:
                ready.append(handle)
        self._rounds += 1
        trace = self._trace
        if len(ready) == 1:  # the most common round, and one that needs no key
            handle = ready.popleft()
            if handle._cancelled:
                return
            task = getattr(handle._callback, "__self__", None)
            if type(task) is SimTask:
                task.slipped = 0
                task.step += 1
                trace += _PACK(task.lane, task.step, now)
            else:
                trace += _PACK(_CALLBACKS, self._rounds, now)
            self.steps += 1
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001  (as asyncio's own handles do)
                self._raised(handle, error)
            if self._halted is not None:
                raise self._halted
        else:
            for lane, step, handle in self._round():
                if handle._cancelled:
                    continue
                self.steps += 1
                trace += _PACK(lane, step, now)
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001  (as asyncio's own handles do)
                    self._raised(handle, error)
                if self._halted is not None:
                    raise self._halted
        if len(trace) > 1 << 16:
            self._digest.update(trace)
            trace.clear()
        steps = self.steps
        if steps - self._instant_began > self._steps_per_instant:
            raise SimLivelock(self.dump(f"{self._steps_per_instant} steps and no time has passed"))
        if steps >= self._collect_at:
            self._collect()

    def _raised(self, handle: asyncio.Handle, error: BaseException) -> None:
        """A callback raised: whoever handles that is told as asyncio would."""
        told = {"message": f"Exception in callback {handle!r}", "exception": error, "handle": handle}
        self.call_exception_handler(told)

    def _jump(self, timers: list[tuple[float, int, asyncio.TimerHandle]]) -> None:
        """Nothing can run: to the next timer."""
        if not timers:
            raise SimDeadlock(self.dump("nothing can run and no timer is set"))
        when = timers[0][0]
        if when > self.horizon:
            self._now = max(self._now, self.horizon)
            raise SimHorizon(self.dump(f"not done after {self.horizon:g} virtual seconds"))
        if when > self._now:
            self._now = when  # assigned, never added up: no drift
            self._instant_began = self.steps

    def _round(self) -> Sequence[tuple[int, int, Any]]:
        """Empty the ready queue and say in which order its handles run."""
        ready = self._ready
        order: list[tuple[int, int, int, int, Any]] = []
        slipping: list[Any] = []
        plain_key = mix(self._key ^ (self._rounds * _GOLDEN))
        for position, handle in enumerate(ready):
            if handle._cancelled:
                continue
            task = getattr(handle._callback, "__self__", None)
            if type(task) is not SimTask:
                order.append((plain_key, position, _CALLBACKS, self._rounds, handle))
                continue
            if task.slipped < self._slip_most and self._slips(task):
                slipping.append(handle)
                continue
            task.slipped = 0
            task.step = step = task.step + 1
            order.append((mix(self._key + task.lane * _GOLDEN ^ step << 20), position, task.lane, step, handle))
        ready.clear()
        ready.extend(slipping)
        # Positions are unique, so the handles themselves are never compared.
        order.sort()
        return [(lane, step, handle) for _, _, lane, step, handle in order]

    def _slips(self, task: SimTask) -> bool:
        """Is the task passed over in this round? As its number, its step and how often it was, have it."""
        if mix(self._slip_key + task.lane * _GOLDEN ^ task.step << 20 ^ task.slipped) % self._slip_one_in:
            return False
        task.slipped += 1
        return True

    def _collect(self) -> None:
        due = self.steps // _COLLECT_EVERY_STEPS
        self._collect_at = (due + 1) * _COLLECT_EVERY_STEPS
        gc.collect(2 if due % _COLLECT_ALL_EVERY == 0 else 1)

    # Scheduling.

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> SimTask:
        """Tasks are numbered by this loop: asyncio's own names count through the whole process."""
        self._check_closed()  # type: ignore[attr-defined]
        self._lanes = lane = self._lanes + 1
        task = SimTask(coro, loop=self, name=str(name) if name else f"task-{lane}", context=context)
        task.lane, task.step, task.slipped = lane, 0, 0
        self._tasks[lane] = task
        return task

    # asyncio's own do the same with two calls more, and each message and each job is a few of these.

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """In the next round."""
        if self._closed:  # type: ignore[attr-defined]
            raise RuntimeError("Event loop is closed")
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """After so many virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Equal times run in the order they were asked for. ``inf`` is no timer at all: nothing waits for it."""
        if self._closed:  # type: ignore[attr-defined]
            raise RuntimeError("Event loop is closed")
        handle = _TimerHandle(when, callback, args, self, context)
        if when != math.inf:
            self._timer_count += 1
            heapq.heappush(self._timers, (when, self._timer_count, handle))
            handle._scheduled = True
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if not handle._scheduled:  # type: ignore[attr-defined]
            return
        self._cancelled_timers += 1
        if self._cancelled_timers > 100 and self._cancelled_timers * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if not timer[2]._cancelled]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:  # noqa: ARG002  (there are no threads)
        """Run ``func`` on the loop itself, whole, after a virtual latency. ``executor`` is not used."""
        return self.run_later(lambda: func(*args), latency(self.random("executor")))

    def run_later(self, job: Callable[[], T], seconds: float) -> asyncio.Future[T]:
        """Run a blocking job as one callback after ``seconds``.

        A job whose caller went away was either still queued, and then it never runs, or in a thread, and then it runs
        to its end unseen; the seed decides which.
        """
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled() and self.random("abandoned").random() < 0.5:
                return
            try:
                result = job()
            except (SystemExit, KeyboardInterrupt):
                raise
            except Exception as error:  # noqa: BLE001  (the error belongs to whoever awaits the job)
                if not future.cancelled():
                    future.set_exception(error)
            except BaseException as error:  # noqa: BLE001  (the power went, or worse: nobody may catch it)
                self.halt(error)
            else:
                if not future.cancelled():
                    future.set_result(result)

        self.call_later(seconds, work)
        return future

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._owner:
            escape = SimEscape(f"thread {threading.current_thread().name!r} called into the simulation: {callback!r}")
            self.halt(escape)
            raise escape
        return self.call_soon(callback, *args, context=context)

    # Signals, delivered by the simulation instead of the kernel.

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        self._signals[sig] = (callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        return self._signals.pop(sig, None) is not None

    def deliver_signal(self, sig: int) -> bool:
        """As if the process had been sent ``sig``. False: nobody handles it."""
        found = self._signals.get(sig)
        if found is not None:
            self.call_soon(found[0], *found[1])
        return found is not None

    # The end.

    def dump(self, why: str) -> str:
        """``why``, and where every pending task waits."""
        lines = [f"{why} (seed {self.seed}, virtual time {self._now:.6f}, step {self.steps})"]
        lines += [
            f"  {task.get_name()} waits in {_waits_in(task.get_coro())}"
            for task in self._tasks.values()
            if not task.done()
        ]
        return "\n".join(lines)

    def _end(self) -> None:
        tasks = list(self._tasks.values())  # held here, because closing drops what was about to run
        for farewell in self._farewells:
            farewell()
        self.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in tasks:
                if self._halted is not None:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    task._log_traceback = False
                if not task.done():
                    _throw_away(task.get_coro())
        self._timers.clear()


def simulate(
    main: Callable[[SimLoop], Coroutine[Any, Any, T]],
    seed: int = 0,
    horizon: float = DAY,
    epoch: datetime = EPOCH,
) -> T:
    """Run ``main`` in a universe of its own and return its result."""
    loop = SimLoop(seed, horizon=horizon, epoch=epoch)
    return loop.run(main(loop))


def _stop_loop_of(task: asyncio.Future[Any]) -> None:
    task.get_loop().stop()


def _stop_on_raised_callback(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback that raised has nobody to tell: asyncio would log it and go on, a simulation must fail."""
    error = context.get("exception")
    if isinstance(loop, SimLoop) and isinstance(error, BaseException) and "handle" in context:
        loop.halt(error)
    else:
        loop.default_exception_handler(context)


def _waits_in(coro: Any) -> str:
    while inspect.iscoroutine(getattr(coro, "cr_await", None)):
        coro = coro.cr_await
    frame = getattr(coro, "cr_frame", None)
    name = getattr(coro, "__qualname__", repr(coro))
    return f"{name}, line {frame.f_lineno}" if frame is not None else name


def _throw_away(coro: Any) -> None:
    """Close a coroutine now: left to the collector, its ``finally`` would run in the middle of another universe."""
    for _ in range(64):  # each await in a ``finally`` needs one more
        # Whatever a dead program says is of no interest.
        with contextlib.suppress(BaseException):
            coro.close()
            return
