"""``Workers`` and ``Device`` without threads: each job runs whole, on the loop, at the end of a seeded virtual latency.

A job is one callback, so no other actor sees it half done, and a power cut inside it stops the loop before anything
else can run. What a job costs in real time costs nothing in virtual time; only the latency passes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from runtime.simulation.faults import PowerLost
from runtime.simulation.loop import SimLoop, latency
from runtime.worker import DeviceBusyError, run_job, until_over

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobTrouble:
    """What goes wrong with one job: it takes ``seconds`` more, or raises before it has done anything or after all.

    A device's job that takes more seconds hangs: it does nothing until they are over or it is asked to stop.
    """

    seconds: float = 0.0
    raises: Literal["", "before", "after"] = ""

    def spoil(self, job: Callable[[], T]) -> Callable[[], T]:
        """The job as this trouble has it."""

        def spoiled() -> T:
            if self.raises == "after":
                job()
            raise RuntimeError(f"sabotage {self.raises} a job")

        return spoiled if self.raises else job


class SimWorkers:
    """``runtime.worker.ThreadWorkers`` in virtual time.

    Two jobs under way at once may finish in either order. Whoever is cancelled while it waits for a thread is cancelled
    at once; while its job is under way, when that is over, as with real threads.

    Attributes:
        longest_seconds: bounds the latency of each job; may be changed at any time, for a slow disk.
        trouble: asked once for each job.
    """

    def __init__(
        self, loop: SimLoop, *, threads: int = 2, longest_seconds: float = 0.125, name: str = "workers"
    ) -> None:
        self._loop = loop
        self.longest_seconds = longest_seconds
        self.trouble: Callable[[], JobTrouble | None] | None = None
        self._idle_threads = threads
        self._queue: deque[asyncio.Future[None]] = deque()
        self._stream = loop.random(name)

    async def call(self, job: Callable[[], T]) -> T:
        """The job's result; its exception is raised here."""
        trouble = self.trouble() if self.trouble is not None else None
        if trouble is not None:
            job = trouble.spoil(job)
        if self._idle_threads:
            self._idle_threads -= 1
        else:
            await self._wait_for_a_thread()
        try:
            seconds = latency(self._stream, self.longest_seconds)
            work = self._loop.run_later(job, seconds if trouble is None else seconds + trouble.seconds)
            return await until_over(work)
        finally:
            self._next_in_line()

    async def _wait_for_a_thread(self) -> None:
        place = self._loop.create_future()
        self._queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self._next_in_line()  # it had just been given the thread
            raise

    def _next_in_line(self) -> None:
        """A thread is free: whoever waited longest has it."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._idle_threads += 1


class SimDevice:
    """``runtime.worker.DeviceThread`` in virtual time: one job slot, and a flag that jobs read between steps.

    Attributes:
        trouble: asked once for each job.
    """

    def __init__(self, loop: SimLoop, *, longest_seconds: float = 8.0, name: str = "device") -> None:
        self.trouble: Callable[[], JobTrouble | None] | None = None
        self._loop = loop
        self._name = name
        self._longest_seconds = longest_seconds
        self._stream = loop.random(name)
        self._wake: Callable[[], object] | None = None
        self._interrupted = False
        self._closed = False
        self._began: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Does a job hold the slot?"""
        return self._began is not None

    @property
    def busy_seconds(self) -> float:
        """How long, in virtual time, the job in hand has run."""
        return 0.0 if self._began is None else self._loop.time() - self._began

    def start(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run ``job``, then call ``done`` with its result, or with the exception it raised."""
        if self._began is not None:
            raise DeviceBusyError(f"{self._name} already has a job in hand")
        if self._closed:
            raise RuntimeError(f"{self._name} is closed")
        self._interrupted = False
        self._idle.clear()
        self._began = self._loop.time()
        seconds = latency(self._stream, self._longest_seconds)
        trouble = self.trouble() if self.trouble is not None else None
        if trouble is None:
            self._loop.call_later(seconds, self._finish, job, done)
        elif trouble.seconds == 0.0:
            self._loop.call_later(seconds, self._finish, trouble.spoil(job), done)
        else:
            hanging = self._loop.call_later(trouble.seconds, self._finish, job, done)
            context = copy_context()  # whoever interrupts, the job is still its owner's

            def wake() -> None:
                hanging.cancel()
                woken_after = latency(self._stream, self._longest_seconds)
                self._loop.call_later(woken_after, self._finish, job, done, context=context)

            self._wake = wake

    def interrupt(self) -> None:
        """Ask the job to stop at its next step. One that hangs wakes up over it."""
        self._interrupted = True
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake()

    def interrupted(self) -> bool:
        """Was the job in hand asked to stop?"""
        return self._interrupted

    async def join(self) -> None:
        """Return once no job runs and ``done`` of the last one was called."""
        await self._idle.wait()

    def stack(self) -> str:
        """A simulated job is one callback: it stands nowhere."""
        return ""

    def close(self) -> None:
        """Take no more jobs. The one in hand still runs to its end and reports."""
        self._closed = True

    def _finish(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._wake = None
        result = run_job(job)
        if isinstance(result, PowerLost):
            self._loop.halt(result)
            return
        self._began = None
        self._idle.set()
        done(result)
