"""Our own kernel, through its public names alone, with trace and supervision on as in production."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec

from messages import Message, Question
from runtime import Actor, ActorSystem, Branch, Child, MailboxSpec, on
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.worker import DeviceThread, ThreadWorkers
from tools.bench.runtime.shape import CAPACITY, HEARERS, RING, Run, Tally, until_heard

BOUND = MailboxSpec(capacity=CAPACITY)
PATIENCE_SECONDS = 600.0
Prepared = Callable[[ActorSystem], object]


class Note(Message, frozen=True):
    """What is told. One object is sent again and again: the mailbox is measured, not the making of messages."""

    number: int


class Sent(Message, frozen=True):
    """All were sent."""


class SendMany(Question[Sent], frozen=True):
    """Send so many notes."""

    count: int


class Pong(Message, frozen=True):
    """The answer."""


class Ping(Question[Pong], frozen=True):
    """The question."""


class Answered(Message, frozen=True):
    """So many answers came."""

    count: int


class AskMany(Question[Answered], frozen=True):
    """Ask so many times, one after the other."""

    count: int


NOTE, PING, PONG = Note(7), Ping(), Pong()


class Hearer(Actor):
    """Counts the notes."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    @on
    async def heard(self, _: Note) -> None:
        """One more."""
        tally = self._tally
        tally.left -= 1
        if not tally.left:
            tally.done()


class Sender(Actor):
    """Sends what it is asked to, waiting wherever a mailbox is full."""

    @on
    async def send_many(self, wish: SendMany) -> Sent:
        """One note after the other."""
        send = self.send
        for _ in range(wish.count):
            await send(NOTE)
        return Sent()


class Answerer(Actor):
    """Answers at once."""

    @on
    async def answer(self, _: Ping) -> Pong:
        """With the same object each time."""
        return PONG


class Asker(Actor):
    """Asks one question after the other."""

    @on
    async def ask_many(self, wish: AskMany) -> Answered:
        """With a time-out on each, as every ask in the house has."""
        answers = 0
        for _ in range(wish.count):
            answers += await self.ask(PING, timeout=PATIENCE_SECONDS) is PONG
        return Answered(answers)


class Idler(Actor):
    """Lives, and hears notes that nobody sends."""

    @on
    async def heard(self, _: Note) -> None:
        """Never happens."""


class Last(Actor):
    """Starts last, so that its start says that all are up."""

    def __init__(self, up: asyncio.Event) -> None:
        self._up = up

    async def on_start(self) -> None:
        self._up.set()


@contextlib.asynccontextmanager
async def running(*children: Child, prepared: Prepared = lambda _: None) -> AsyncIterator[ActorSystem]:
    """A system with these children, all of them up, stopped at the end; ``prepared`` sees it before it runs."""
    up = asyncio.Event()
    system = ActorSystem(
        Branch("bench", (*children, Child("last", Last, make=partial(Last, up)))),
        clock=SystemClock(),
        disk=Disk(Path()),
        workers=ThreadWorkers(),
        make_device=DeviceThread,
        strict=False,
    )
    prepared(system)
    task = asyncio.create_task(system.run())
    ready = asyncio.create_task(up.wait())
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        ready.cancel()
        await task
    yield system
    system.stop("the case is over")
    await task


@contextlib.asynccontextmanager
async def sends_to(hearers: int, prepared: Prepared = lambda _: None) -> AsyncIterator[Run]:
    """One actor sends, so many hear."""
    tally = Tally()
    make = partial(Hearer, tally)
    children = [Child(f"hearer {number}", Hearer, make=make, mailbox=BOUND) for number in range(hearers)]
    async with running(*children, Child("sender", Sender), prepared=prepared) as system:

        async def run(count: int) -> int:
            wish = SendMany(count // hearers)
            heard = await until_heard(tally, wish.count * hearers, lambda: system.ask(wish, timeout=PATIENCE_SECONDS))
            return heard + count % hearers

        yield run


@contextlib.asynccontextmanager
async def told(notes: int) -> AsyncIterator[ActorSystem]:
    """A system in which so many notes were told."""
    tally = Tally()
    hearer = Child("hearer", Hearer, make=partial(Hearer, tally), mailbox=BOUND)
    async with running(hearer, Child("sender", Sender)) as system:
        wish = SendMany(notes)
        heard = await until_heard(tally, notes, lambda: system.ask(wish, timeout=PATIENCE_SECONDS))
        assert heard == notes, "each is heard once"
        yield system


def tell() -> contextlib.AbstractAsyncContextManager[Run]:
    """One actor sends, one hears."""
    return sends_to(1)


def fan_out() -> contextlib.AbstractAsyncContextManager[Run]:
    """One actor sends, several hear each note."""
    return sends_to(HEARERS)


@contextlib.asynccontextmanager
async def ask() -> AsyncIterator[Run]:
    """One actor asks another."""
    async with running(Child("answerer", Answerer, mailbox=BOUND), Child("asker", Asker)) as system:

        async def run(count: int) -> int:
            return (await system.ask(AskMany(count), timeout=PATIENCE_SECONDS)).count

        yield run


@cache
def _tokens() -> tuple[type[Message], ...]:
    # Routing goes by type alone, so a ring of actors that know their neighbour needs a type for each link.
    names = [f"Token{number}" for number in range(RING)]
    made: list[Any] = [msgspec.defstruct(name, [], bases=(Message,), frozen=True, module=__name__) for name in names]
    return tuple(made)


def _link(token: type[Message], following: Message) -> type[Actor]:
    class Link(Actor):
        """Hands on what it hears, until enough hops were made."""

        sends = (type(following),)

        def __init__(self, tally: Tally, tokens: int) -> None:
            self._tally = tally
            self._tokens = tokens

        async def hop(self, _: Message) -> None:
            tally = self._tally
            tally.left -= 1
            if tally.left >= self._tokens:
                await self.send(following)
            elif not tally.left:
                tally.done()

    hop: Callable[..., Any] = Link.hop
    hop.__annotations__["_"] = token  # it is known only here, where no annotation in the source can name it
    Link.hop = on(hop)  # type: ignore[method-assign]
    return Link


@contextlib.asynccontextmanager
async def _ring(tokens: int) -> AsyncIterator[Run]:
    kinds = _tokens()
    tally = Tally()
    children = []
    for number, kind in enumerate(kinds):
        link: Any = _link(kind, kinds[(number + 1) % RING]())
        children.append(Child(f"link {number}", link, make=partial(link, tally, tokens), mailbox=BOUND))
    async with running(*children) as system:

        async def run(count: int) -> int:
            async def start() -> None:
                for kind in kinds[:tokens]:
                    await system.send(kind())

            return await until_heard(tally, count, start)

        yield run


def ring() -> contextlib.AbstractAsyncContextManager[Run]:
    """As many tokens as actors."""
    return _ring(RING)


def ring_one() -> contextlib.AbstractAsyncContextManager[Run]:
    """One token."""
    return _ring(1)


@contextlib.asynccontextmanager
async def crowd(count: int) -> AsyncIterator[int]:
    """So many idle actors in one system."""
    children = (Child(f"idler {number}", Idler) for number in range(count))
    async with running(*children) as system:
        yield sum(each.state == "running" for each in system.describe()) - 1
