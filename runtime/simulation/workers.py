"""``Workers`` and ``Device`` without threads: each job runs whole, on the loop, at the end of a seeded virtual latency.

A job is one callback, so no other actor sees it half done, and a power cut inside it stops the loop before anything
else can run. What a job costs in real time costs nothing in virtual time; only the latency passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from runtime.simulation.faults import PowerLost
from runtime.simulation.loop import SimLoop, latency
from runtime.worker import DeviceBusyError, run_job

T = TypeVar("T")


class SimWorkers:
    """``runtime.worker.ThreadWorkers`` in virtual time.

    Two jobs under way at once may finish in either order. Cancelling a scope waits until the job is over, as with real
    threads. Cancelling the task itself (``Task.cancel``) does not, there as here: then the job was either still queued
    and never runs, or runs to its end unseen, as the seed has it.
    """

    def __init__(
        self, loop: SimLoop, *, threads: int = 2, longest_seconds: float = 0.125, name: str = "workers"
    ) -> None:
        self._loop = loop
        self._limiter = anyio.CapacityLimiter(threads)
        self._longest_seconds = longest_seconds
        self._stream = loop.random(name)

    async def call(self, job: Callable[[], T]) -> T:
        """The job's result; its exception is raised here."""
        await anyio.lowlevel.checkpoint()
        async with self._limiter:
            with anyio.CancelScope(shield=True):
                return await self._loop.run_later(job, latency(self._stream, self._longest_seconds))
        raise AssertionError("a shielded scope swallows nothing")


class SimDevice:
    """``runtime.worker.DeviceThread`` in virtual time: one job slot, and a flag that jobs read between steps."""

    def __init__(self, loop: SimLoop, *, longest_seconds: float = 8.0, name: str = "device") -> None:
        self._loop = loop
        self._name = name
        self._longest_seconds = longest_seconds
        self._stream = loop.random(name)
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
        self._loop.call_later(latency(self._stream, self._longest_seconds), self._finish, job, done)

    def interrupt(self) -> None:
        """Ask the job to stop at its next step."""
        self._interrupted = True

    def interrupted(self) -> bool:
        """Was the job in hand asked to stop?"""
        return self._interrupted

    async def join(self) -> None:
        """Return once no job runs and ``done`` of the last one was called."""
        await self._idle.wait()

    def close(self) -> None:
        """Take no more jobs. The one in hand still runs to its end and reports."""
        self._closed = True

    def _finish(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        result = run_job(job)
        if isinstance(result, PowerLost):
            self._loop.halt(result)
            return
        self._began = None
        self._idle.set()
        done(result)
