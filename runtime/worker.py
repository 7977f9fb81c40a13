"""Where blocking work runs: a small pool for files and hashing, and one thread that is a device.

A job in the pool is one whole durable protocol, so nothing can cancel it between its write and its fsync. The device
thread belongs to one actor for life, holds one job at a time, and is asked to return by a flag read between steps: a
thread cannot be killed, only asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from runtime.stacks import where_it_broke, where_it_works

T = TypeVar("T")


class Workers(Protocol):
    """A bounded pool for blocking jobs."""

    async def call(self, job: Callable[[], T]) -> T:
        """Run ``job`` off the loop and return what it returns. Cancelling waits until the job is over."""


class Device(Protocol):
    """One job slot and an interrupt flag."""

    @property
    def busy_seconds(self) -> float:
        """How long the job in hand has run; 0.0 when there is none."""

    def start(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run ``job`` and call ``done`` on the loop with what it returned, or with the exception it raised."""

    def interrupt(self) -> None:
        """Ask the job in hand to return at its next step boundary."""

    def interrupted(self) -> bool:
        """Read by the job between steps; cleared when a job starts."""

    async def join(self) -> None:
        """Wait until no job runs and its ``done`` was called."""

    def close(self) -> None:
        """No more jobs; the thread ends after the one in hand."""

    def stack(self) -> str:
        """Where the job in hand stands, as far as that can be known."""


class ThreadWorkers:
    """The pool on real threads: anyio's, bounded by our own limiter."""

    def __init__(self, threads: int = 2) -> None:
        self._limiter = anyio.CapacityLimiter(threads)

    async def call(self, job: Callable[[], T]) -> T:
        whole = anyio.to_thread.run_sync(job, limiter=self._limiter)
        return await until_over(asyncio.get_running_loop().create_task(whole))


async def until_over(work: asyncio.Future[T]) -> T:
    """Await ``work`` whatever happens; who is cancelled in the meantime is cancelled when it is over.

    A thread cannot be cancelled: whoever went away from its job would leave it writing while a successor begins.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):  # anyio cancels again in every round of the loop, until the job is over
            while not work.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((work,))
        if not work.cancelled():
            work.exception()  # looked at: nobody is left to be told
        raise


class DeviceBusyError(RuntimeError):
    """A second job was started while one was in hand: a fault of the actor that owns the device."""


class DeviceThread:
    """A real thread behind ``Device``. Made on the loop that owns it; the thread starts with the first job."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = queue.SimpleQueue()
        self._flag = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._began: float | None = None
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy_seconds(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def start(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        if not self._idle.is_set():
            raise DeviceBusyError(f"{self._name} already has a job in hand")
        if self._closed:
            raise DeviceBusyError(f"{self._name} is closed and takes no more jobs")
        if self._thread is None:
            # A daemon thread: one that hangs in a kernel must not keep the process from exiting.
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        self._flag.clear()
        self._idle.clear()
        self._began = time.monotonic()
        self._jobs.put((job, done))

    def interrupt(self) -> None:
        self._flag.set()

    def interrupted(self) -> bool:
        return self._flag.is_set()

    async def join(self) -> None:
        await self._idle.wait()

    def stack(self) -> str:
        return where_it_works(self._thread.ident if self._thread is not None else None)

    def close(self) -> None:
        if self._thread is not None and not self._closed:
            self._jobs.put(None)
        self._closed = True

    def _serve(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, done = entry
            result = run_job(job)
            try:
                self._loop.call_soon_threadsafe(self._finish, done, result)
            except RuntimeError:
                return  # the loop is closed: the process is on its way out and nobody waits for this result
            # A result left in a local would keep its buffers alive until the next job ends.
            del entry, job, done, result

    def _finish(self, done: Callable[[Any], None], result: Any) -> None:
        self._began = None
        self._idle.set()
        done(result)


def run_job(job: Callable[[], Any]) -> Any:
    """What the job returns, or the exception it raised with its traceback turned into a note.

    A held traceback keeps every frame's tensors alive, so the text is kept and the traceback dropped.
    """
    try:
        return job()
    except BaseException as error:  # noqa: BLE001 - a supervisor at the edge of a thread: it reports, the loop decides
        error.add_note(where_it_broke(error))
        error.__traceback__ = error.__context__ = error.__cause__ = None
        return error
