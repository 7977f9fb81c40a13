"""Pykka, as its manual has it used: a thread and an unbounded mailbox for each actor."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from tools.bench.runtime.shape import HEARERS, RING, Run, Tally, shares

NOTE = ("note", 7)


class Pykka:
    """A thread for each actor."""

    @staticmethod
    @cache
    def _classes() -> tuple[Any, Any, Any]:
        import pykka

        class Hearer(pykka.ThreadingActor):  # type: ignore[misc]
            def __init__(self, tally: Tally) -> None:
                super().__init__()
                self._tally = tally

            def on_receive(self, message: Any) -> None:  # noqa: ARG002
                tally = self._tally
                tally.left -= 1
                if not tally.left:
                    tally.done()

        class Answerer(pykka.ThreadingActor):  # type: ignore[misc]
            def on_receive(self, message: Any) -> Any:  # noqa: ARG002
                return 1

        class Link(pykka.ThreadingActor):  # type: ignore[misc]
            following: Any = None

            def __init__(self, ended: threading.Semaphore) -> None:
                super().__init__()
                self._ended = ended

            def on_receive(self, message: Any) -> None:
                if isinstance(message, int):
                    if message > 1:
                        self.following.tell(message - 1)
                    else:
                        self._ended.release()
                else:
                    self.following = message

        return Hearer, Answerer, Link

    @contextlib.asynccontextmanager
    async def _sends_to(self, hearers: int) -> AsyncIterator[Run]:
        tallies = [Tally() for _ in range(hearers)]
        references = [self._classes()[0].start(tally) for tally in tallies]

        async def run(count: int) -> int:
            heard = [threading.Event() for _ in tallies]
            for tally, event in zip(tallies, heard, strict=True):
                tally.expect(count // hearers, event.set)
            tells = [reference.tell for reference in references]
            for _ in range(count // hearers):
                for tell in tells:
                    tell(NOTE)
            for event in heard:
                event.wait()
            return count - sum(tally.left for tally in tallies)

        yield run
        for reference in references:
            reference.stop()

    def tell(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """From the main thread to one actor."""
        return self._sends_to(1)

    def fan_out(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """From the main thread to several."""
        return self._sends_to(HEARERS)

    @contextlib.asynccontextmanager
    async def ask(self) -> AsyncIterator[Run]:
        """``ActorRef.ask``, blocking."""
        reference = self._classes()[1].start()

        async def run(count: int) -> int:
            return sum(reference.ask(NOTE) for _ in range(count))

        yield run
        reference.stop()

    def ring(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """As many tokens as threads."""
        return self._ring(RING)

    def ring_one(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """One token."""
        return self._ring(1)

    @contextlib.asynccontextmanager
    async def _ring(self, tokens: int) -> AsyncIterator[Run]:
        ended = threading.Semaphore(0)
        links = [self._classes()[2].start(ended) for _ in range(RING)]
        for link, following in zip(links, links[1:] + links[:1], strict=True):
            link.tell(following)

        async def run(count: int) -> int:
            dealt = shares(count, tokens)
            for link, hops in zip(links[:tokens], dealt, strict=True):
                link.tell(hops)
            for _ in dealt:
                ended.acquire()
            return sum(dealt)

        yield run
        for link in links:
            link.stop()

    @contextlib.asynccontextmanager
    async def crowd(self, count: int) -> AsyncIterator[int]:
        """So many threads."""
        references = [self._classes()[1].start() for _ in range(count)]
        yield sum(reference.is_alive() for reference in references)
        for reference in references:
            reference.stop(block=False)
        for reference in references:
            reference.stop()
