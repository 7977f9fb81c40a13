"""What keeps a plug-in from slowing the others: manners that its instance is given when it is built.

Guarantees, for whatever the plug-in does with ``send``, ``ask`` and ``blocking``:
    * Each ``send`` and ``ask`` gives everybody else a turn first, so a loop of sends does not hold the event loop.
    * A plug-in sees a smaller mailbox: it waits while an actor of the house is a quarter full or more. So a flood slows
      only the plug-in, and three quarters of every mailbox are kept for those who belong there.
    * Its blocking jobs run in a thread of its own. The pool that commits checkpoints is never waiting for one, and a
      stop does not wait for a job that hangs.
What it cannot do: stop a handler that computes or blocks without ``await`` (see ``runtime.watchdog``), and keep code in
the same process from reaching around it. A plug-in is trusted, not caged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.lowlevel

from messages import Message, Question
from runtime.actor import Actor
from runtime.worker import Device, DeviceThread, Workers

if TYPE_CHECKING:
    from runtime.cell import Cell

R = TypeVar("R")
T = TypeVar("T")

PREFIX = "plugins."
"""What every plug-in's name in the tree begins with."""
SHARE = 4
"""A plug-in may fill one part in so many of a mailbox of the house."""
LOOK_SECONDS = 0.02
"""How often a plug-in that waits for room looks again."""


class LeftBehind(Exception):
    """Nobody waits for this job any longer; its thread goes on with it, and the plug-in's next job waits for that."""


class _Job:
    """A plug-in's blocking job. ``work`` is where it is waited for, once its thread was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.work: asyncio.Task[Any] | None = None

    def leave_behind(self) -> None:
        if self.work is not None:
            self.work.cancel()


_JOB: ContextVar[_Job | None] = ContextVar("nightfold_plugin_job", default=None)
"""The plug-in's job that is being asked for; none for the house's own."""


def with_manners(actor: type[Actor]) -> Actor:
    """A fresh instance of the plug-in whose ``send``, ``ask`` and ``blocking`` are considerate.

    It is of a class made for the purpose, between the plug-in's own and whoever calls: on the class, because a cell may
    give an instance that sends in the plain way a quicker ``send`` of its own.
    """
    made: type[Actor] = type(actor.__name__, (_Considerate, actor), {"__module__": actor.__module__})
    return made()


class _Considerate(Actor):
    async def send(self, message: Message) -> None:
        await self._wait_for_room(type(message))
        await super().send(message)

    async def ask(self, question: Question[R], *, timeout: float) -> R:
        """Waiting for room is not counted against the time-out."""
        await self._wait_for_room(type(question))
        return await super().ask(question, timeout=timeout)

    async def blocking(self, job: Callable[[], T]) -> T:
        """In a thread of its own where there are ``WorkersApart``; a job that hangs is left behind at the end."""
        if not isinstance(getattr(self.system, "workers", None), WorkersApart):
            return await super().blocking(job)
        mine = _Job(self.name)
        token = _JOB.set(mine)
        try:
            # A task, for the house waits for its own jobs however often it is cancelled, and this one may not end.
            work = asyncio.get_running_loop().create_task(super().blocking(job))
        finally:
            _JOB.reset(token)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            mine.leave_behind()
            work.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody is left to be told
            raise

    async def _wait_for_room(self, kind: type[Message]) -> None:
        await anyio.lowlevel.checkpoint()
        # A replay has no neighbours.
        cells = getattr(self.system, "cells", {}).values()
        for cell in cells:
            if kind in cell.handlers and not cell.name.startswith(PREFIX):
                await _room_in(cell)


async def _room_in(cell: Cell) -> None:
    bound = max(1, cell.mailbox.spec.capacity // SHARE)
    while cell.mailbox.depth >= bound and cell.state not in ("stopped", "disabled"):
        awake = asyncio.Event()
        asyncio.get_running_loop().call_later(LOOK_SECONDS, awake.set)
        await awake.wait()


class WorkersApart:
    """``Workers`` that run each plug-in's jobs in a thread of its own, and the house's in the house's pool."""

    def __init__(self, house: Workers, make_thread: Callable[[str], Device] = DeviceThread) -> None:
        self._house = house
        self._make_thread = make_thread
        self._threads: dict[str, _OwnThread] = {}

    async def call(self, job: Callable[[], T]) -> T:
        """The job's result.

        Raises:
            LeftBehind: the plug-in was cancelled.
        """
        mine = _JOB.get()
        if mine is None:
            return await self._house.call(job)
        if mine.name not in self._threads:
            self._threads[mine.name] = _OwnThread(self._make_thread(f"jobs of {mine.name}"))
        mine.work = asyncio.get_running_loop().create_task(self._threads[mine.name].call(job))
        await asyncio.wait((mine.work,))
        if mine.work.cancelled():
            raise LeftBehind
        result: T = mine.work.result()
        return result

    def close(self) -> None:
        """Let the threads end; one with a job in hand ends after it, and never keeps the process alive."""
        for thread in self._threads.values():
            thread.close()


class _OwnThread:
    """One job at a time; the next waits, also for one that was left behind."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._turn = asyncio.Lock()

    async def call(self, job: Callable[[], T]) -> T:
        async with self._turn:
            await self._device.join()
            outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

            def done(result: Any) -> None:
                if outcome.done():
                    return  # whoever waited was cancelled
                if isinstance(result, BaseException):
                    outcome.set_exception(result)
                else:
                    outcome.set_result(result)

            self._device.start(job, done)
            return await outcome

    def close(self) -> None:
        self._device.close()
