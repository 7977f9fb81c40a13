"""Actors that do what a test tells them, and a system to run them in for the length of a block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from messages import Message, Question
from runtime import Actor, ActorSystem, Backoff, Branch, Child, on
from runtime.disk import Disk
from runtime.worker import DeviceThread, ThreadWorkers

Deed = Callable[["Scripted"], Awaitable[object]]

QUICK = Backoff(first=0.001, most=0.004, healthy=60.0)


class BoomError(Exception):
    """What scripted crashes raise."""


class Answer(Message, frozen=True):
    what: str


class ToA(Message, frozen=True):
    what: str


class ToB(Message, frozen=True):
    what: str


class ToC(Message, frozen=True):
    what: str


class UrgentA(Message, frozen=True):
    what: str


class AskA(Question[Answer], frozen=True):
    what: str


class AskB(Question[Answer], frozen=True):
    what: str


class AskC(Question[Answer], frozen=True):
    what: str


class Scripted(Actor):
    """Logs ``name:what`` and then does the deed of that name; ``start`` and ``stop`` are deeds too."""

    def __init__(self, log: list[str], deeds: dict[str, Deed]) -> None:
        self.log = log
        self.deeds = deeds

    async def on_start(self) -> None:
        await self.do("start")

    async def on_stop(self) -> None:
        await self.do("stop")

    async def do(self, what: str) -> None:
        self.log.append(f"{self.name}:{what}")
        if what in self.deeds:
            await self.deeds[what](self)


class A(Scripted):
    @on
    async def told(self, message: ToA) -> None:
        await self.do(message.what)

    @on(control=True)
    async def told_urgently(self, message: UrgentA) -> None:
        await self.do(message.what)

    @on
    async def asked(self, question: AskA) -> Answer:
        await self.do(question.what)
        return Answer(question.what)


class B(Scripted):
    @on
    async def told(self, message: ToB) -> None:
        await self.do(message.what)

    @on
    async def asked(self, question: AskB) -> Answer:
        await self.do(question.what)
        return Answer(question.what)


class C(Scripted):
    @on
    async def told(self, message: ToC) -> None:
        await self.do(message.what)

    @on
    async def asked(self, question: AskC) -> Answer:
        await self.do(question.what)
        return Answer(question.what)


class Clock:
    """The loop's own time, and a wall that stands still until a test moves it."""

    def __init__(self, now: datetime | None = None) -> None:
        self.zone = ZoneInfo("Europe/Berlin")
        self.utc = (now or datetime(2026, 1, 1, 12, tzinfo=UTC)).astimezone(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return self.utc.astimezone(self.zone)

    def move(self, by: timedelta) -> None:
        self.utc += by


def child(
    kind: type[Scripted], log: list[str], /, name: str = "", deeds: dict[str, Deed] | None = None, **more: Any
) -> Child:
    """A scripted actor's place; its name is the class's in small letters unless given."""
    told = {} if deeds is None else deeds
    more.setdefault("backoff", QUICK)
    return Child(name or kind.__name__.lower(), kind, make=lambda: kind(log, told), **more)


def system_of(tree: Branch | list[Child], **more: Any) -> ActorSystem:
    """A system on real threads and a real disk."""
    branch = tree if isinstance(tree, Branch) else Branch("root", tuple(tree))
    more.setdefault("clock", Clock())
    more.setdefault("disk", Disk(Path("nowhere")))
    more.setdefault("workers", ThreadWorkers())
    more.setdefault("make_device", DeviceThread)
    more.setdefault("strict", False)
    return ActorSystem(branch, **more)


@contextlib.asynccontextmanager
async def running(tree: Branch | list[Child], **more: Any) -> AsyncIterator[ActorSystem]:
    """A started system, stopped at the end of the block; its failure, if any, is raised there."""
    system = system_of(tree, **more)
    task = asyncio.create_task(system.run())
    try:
        await eventually(lambda: task.done() or all(cell.state != "new" for cell in system.cells.values()))
        yield system
    except BaseException:
        task.cancel()  # a scripted gate may never open now
        raise
    system.stop("the test is over")
    await task


async def failure_of(tree: Branch | list[Child], *messages: Message) -> Exception:
    """What a system's run ends with when it is sent these."""
    system = system_of(tree)
    task = asyncio.create_task(system.run())
    await settle()
    for message in messages:
        await system.send(message)
    await asyncio.wait([task], timeout=3.0)
    failure = task.exception()
    assert isinstance(failure, Exception), "it ended well"
    return failure


async def eventually(true: Callable[[], bool], *, within: float = 3.0) -> None:
    """Wait until it is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not true():
        assert loop.time() < deadline, "it never became true"
        await asyncio.sleep(0.001)


async def settle() -> None:
    """Let everything that can run now run."""
    for _ in range(30):
        await asyncio.sleep(0)


async def crash(actor: Scripted) -> None:
    raise BoomError(f"{actor.name} was told to")


def crash_times(times: int) -> Deed:
    """Crashes so often, then works."""
    left = [times]

    async def deed(actor: Scripted) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise BoomError(f"{actor.name} was told to")

    return deed


def until(event: asyncio.Event) -> Deed:
    """Waits for the test to say go on."""

    async def deed(actor: Scripted) -> None:
        await event.wait()

    return deed


def sends(*messages: Message) -> Deed:
    async def deed(actor: Scripted) -> None:
        for message in messages:
            await actor.send(message)

    return deed


def asks(question: Question[Answer], timeout: float = 1.0) -> Deed:
    async def deed(actor: Scripted) -> None:
        await actor.ask(question, timeout=timeout)

    return deed


def state(system: ActorSystem, name: str) -> str:
    return system.cells[name].state
