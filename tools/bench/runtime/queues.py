"""What one would write without an actor kernel: a queue and a task that empties it, in three makes.

``asyncio.Queue`` is the yardstick of every ratio. The deque with one waiter, emptied in batches, is the floor: the
least that a bounded mailbox with a waiting reader costs. None of them has supervision, a trace, or a time-out on asks,
and what an item is for stands in the reader's own loop, without a call to a handler.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import anyio

from tools.bench.runtime.shape import CAPACITY, HEARERS, RING, Run, Tally, until_heard

NOTE = ("note", 7)
BATCH = 256

Put = Callable[[Any], Awaitable[None]]


class Box(Protocol):
    """A bounded mailbox with the loops that empty it. Each loop runs for ever."""

    @property
    def put(self) -> Put:
        """Add an item; wait where there is no room."""

    async def count(self, tally: Tally) -> None:
        """Count items down."""

    async def answer(self) -> None:
        """Items are futures; answer each."""

    async def pass_on(self, tally: Tally, put: Put, tokens: int) -> None:
        """Count hops down and hand each item on until only the last hop of every token is left."""


class OneByOne:
    """The loops of a mailbox that gives out one item for each ``await``."""

    def __init__(self, put: Put, get: Callable[[], Awaitable[Any]]) -> None:
        self.put = put
        self._get = get

    async def count(self, tally: Tally) -> None:
        """One by one."""
        get = self._get
        while True:
            await get()
            tally.left -= 1
            if not tally.left:
                tally.done()

    async def answer(self) -> None:
        """One by one."""
        get = self._get
        while True:
            (await get()).set_result(1)

    async def pass_on(self, tally: Tally, put: Put, tokens: int) -> None:
        """One by one."""
        get = self._get
        while True:
            token = await get()
            tally.left -= 1
            if tally.left >= tokens:
                await put(token)
            elif not tally.left:
                tally.done()


def queue_box() -> Box:
    """``asyncio.Queue``."""
    queue: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
    return OneByOne(queue.put, queue.get)


def stream_box() -> Box:
    """anyio's memory object stream, awaited on both sides."""
    streams = anyio.create_memory_object_stream[Any](CAPACITY)
    box = OneByOne(streams[0].send, streams[1].receive)
    _OPEN.append(streams)
    return box


_OPEN: list[Any] = []
"""The streams' ends, held so that none is collected, and complains, before its case is over."""


class DequeBox:
    """A deque and one future for its only reader, who takes a batch at each waking and then lets others run."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._writers: deque[asyncio.Future[None]] = deque()

    async def put(self, item: Any) -> None:
        """Wait where it is full."""
        items = self._items
        while len(items) >= CAPACITY:
            place = asyncio.get_running_loop().create_future()
            self._writers.append(place)
            await place
        items.append(item)
        reader = self._reader
        if reader is not None:
            self._reader = None
            reader.set_result(None)

    async def _wait(self) -> None:
        """Until there is something; first let go of those who wait for room."""
        writers = self._writers
        for _ in range(min(len(writers), CAPACITY - len(self._items))):
            writers.popleft().set_result(None)
        if self._items:
            await asyncio.sleep(0)
        else:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    async def count(self, tally: Tally) -> None:
        """Batch by batch."""
        items = self._items
        while True:
            await self._wait()
            for _ in range(min(len(items), BATCH)):
                items.popleft()
                tally.left -= 1
                if not tally.left:
                    tally.done()

    async def answer(self) -> None:
        """Batch by batch."""
        items = self._items
        while True:
            await self._wait()
            for _ in range(min(len(items), BATCH)):
                items.popleft().set_result(1)

    async def pass_on(self, tally: Tally, put: Put, tokens: int) -> None:
        """Batch by batch."""
        items = self._items
        while True:
            await self._wait()
            for _ in range(min(len(items), BATCH)):
                token = items.popleft()
                tally.left -= 1
                if tally.left >= tokens:
                    await put(token)
                elif not tally.left:
                    tally.done()


class Contestant:
    """Every case with one make of box."""

    def __init__(self, make: Callable[[], Box]) -> None:
        self._make = make

    def tell(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """One task puts, one gets."""
        return self._sends_to(1)

    def fan_out(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """One task puts into several boxes."""
        return self._sends_to(HEARERS)

    @contextlib.asynccontextmanager
    async def _sends_to(self, hearers: int) -> AsyncIterator[Run]:
        tally = Tally()
        boxes = [self._make() for _ in range(hearers)]

        async def run(count: int) -> int:
            async def send() -> None:
                if hearers == 1:
                    put = boxes[0].put
                    for _ in range(count):
                        await put(NOTE)
                    return
                puts = [box.put for box in boxes]
                for _ in range(count // hearers):
                    for put in puts:
                        await put(NOTE)

            return await until_heard(tally, count // hearers * hearers, send) + count % hearers

        async with serving(*(box.count(tally) for box in boxes)):
            yield run

    @contextlib.asynccontextmanager
    async def ask(self) -> AsyncIterator[Run]:
        """The question is the future that its answer goes into."""
        box = self._make()

        async def run(count: int) -> int:
            loop, put, answers = asyncio.get_running_loop(), box.put, 0
            for _ in range(count):
                reply: asyncio.Future[int] = loop.create_future()
                await put(reply)
                answers += await reply
            return answers

        async with serving(box.answer()):
            yield run

    def ring(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """As many tokens as links."""
        return self._ring(RING)

    def ring_one(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """One token."""
        return self._ring(1)

    @contextlib.asynccontextmanager
    async def _ring(self, tokens: int) -> AsyncIterator[Run]:
        tally = Tally()
        boxes = [self._make() for _ in range(RING)]

        async def run(count: int) -> int:
            async def start() -> None:
                for box in boxes[:tokens]:
                    await box.put(NOTE)

            return await until_heard(tally, count, start)

        pairs = zip(boxes, boxes[1:] + boxes[:1], strict=True)
        async with serving(*(box.pass_on(tally, after.put, tokens) for box, after in pairs)):
            yield run

    @contextlib.asynccontextmanager
    async def crowd(self, count: int) -> AsyncIterator[int]:
        """So many boxes, each with its reader."""
        tally = Tally()
        tasks = [asyncio.ensure_future(self._make().count(tally)) for _ in range(count)]
        await asyncio.sleep(0)
        yield len(tasks)
        await _end(tasks)


@contextlib.asynccontextmanager
async def serving(*readers: Awaitable[None]) -> AsyncIterator[None]:
    """Tasks that live as long as the block; all of them wait for their first item when it begins.

    Right after its start a reader of an anyio stream is not parked yet but passing a checkpoint, and a token then
    travels without a single switch: figures taken so are wrong by five times.
    """
    tasks = [asyncio.ensure_future(reader) for reader in readers]
    await asyncio.sleep(0.02)
    yield
    await _end(tasks)


async def _end(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(ended, asyncio.CancelledError), f"a reader ended early: {ended!r}"
    for out, receive in _OPEN:
        out.close()
        receive.close()
    _OPEN.clear()
