"""Blocking jobs without threads: each runs whole, on the loop, after a seeded virtual latency.

A job is one callback, so no other actor sees it half done, and a power cut inside it stops the loop before anything
else can run. What a job costs in real time costs nothing in virtual time; only the latency passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from runtime.simulation.loop import SimLoop, latency

T = TypeVar("T")


class SimWorkers:
    """A pool for short jobs: file protocols, digests.

    Two jobs under way at once may finish in either order. A caller that is cancelled is let go at once; its job was
    either still queued and never runs, or runs to its end unseen, as the seed has it.
    """

    def __init__(self, loop: SimLoop, *, longest_seconds: float = 0.125, name: str = "workers") -> None:
        self._loop = loop
        self._longest_seconds = longest_seconds
        self._stream = loop.random(name)

    async def call(self, job: Callable[[], T]) -> T:
        """The job's result; its exception is raised here."""
        return await self._loop.run_later(job, latency(self._stream, self._longest_seconds))

    def close(self) -> None:
        """There are no threads to end."""


class SimDevice:
    """The one thread that owns the GPU, without the thread: one job slot, and a flag that jobs read between steps."""

    def __init__(self, loop: SimLoop, *, longest_seconds: float = 8.0, name: str = "device") -> None:
        self._loop = loop
        self._longest_seconds = longest_seconds
        self._stream = loop.random(name)
        self._interrupted = False
        self._running: asyncio.Future[Any] | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Does a job hold the slot?"""
        return self._running is not None

    def start(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run ``job``, then call ``done`` with its result, or with the exception it raised."""
        if self._closed:
            raise RuntimeError("the device is closed")
        if self._running is not None:
            raise RuntimeError("the device already runs a job")
        self._interrupted = False
        self._running = running = self._loop.run_later(job, latency(self._stream, self._longest_seconds))

        def finished(future: asyncio.Future[Any]) -> None:
            self._running = None
            error = future.exception()
            done(future.result() if error is None else error)

        running.add_done_callback(finished)

    def interrupt(self) -> None:
        """Ask the job to stop at its next step."""
        self._interrupted = True

    def interrupted(self) -> bool:
        """Was the running job asked to stop?"""
        return self._interrupted

    async def join(self) -> None:
        """Return once no job runs and ``done`` of the last one was called."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def close(self) -> None:
        """Take no more jobs. One that runs is asked to stop, and still reports."""
        self._closed = True
        self._interrupted = True
