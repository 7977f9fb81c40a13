"""Thespian's ``simpleSystemBase``, as its manual has it used: actors in the caller's thread, no two of them at once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from tools.bench.runtime.shape import HEARERS, RING, Run, Tally, shares

NOTE = ("note", 7)


class Thespian:
    """Actors in the caller's thread: no two ever run at once."""

    @staticmethod
    @cache
    def _classes() -> tuple[Any, Any, Any]:
        from thespian import actors

        class Hearer(actors.Actor):  # type: ignore[misc]
            tally: Tally

            def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: ARG002, N802
                if isinstance(message, Tally):
                    self.tally = message
                    return
                tally = self.tally
                tally.left -= 1
                if not tally.left:
                    tally.done()

        class Answerer(actors.Actor):  # type: ignore[misc]
            def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: ARG002, N802
                self.send(sender, 1)

        class Link(actors.Actor):  # type: ignore[misc]
            following: Any = None
            tally: Tally

            def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: ARG002, N802
                if isinstance(message, int):
                    self.tally.left -= 1
                    if message > 1:
                        self.send(self.following, message - 1)
                elif isinstance(message, Tally):
                    self.tally = message
                else:
                    self.following = message

        return Hearer, Answerer, Link

    @staticmethod
    @contextlib.contextmanager
    def _system() -> Any:
        from thespian import actors

        system = actors.ActorSystem("simpleSystemBase")
        try:
            yield system
        finally:
            system.shutdown()

    @contextlib.asynccontextmanager
    async def _sends_to(self, hearers: int) -> AsyncIterator[Run]:
        tally = Tally()
        with self._system() as system:
            addresses = [system.createActor(self._classes()[0]) for _ in range(hearers)]
            for address in addresses:
                system.tell(address, tally)

            async def run(count: int) -> int:
                tally.expect(count // hearers * hearers, int)
                tell = system.tell
                for _ in range(count // hearers):
                    for address in addresses:
                        tell(address, NOTE)
                return count - tally.left

            yield run

    def tell(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """``ActorSystem.tell`` to one actor, which handles it before it returns."""
        return self._sends_to(1)

    def fan_out(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """To several."""
        return self._sends_to(HEARERS)

    @contextlib.asynccontextmanager
    async def ask(self) -> AsyncIterator[Run]:
        """``ActorSystem.ask``."""
        with self._system() as system:
            address = system.createActor(self._classes()[1])

            async def run(count: int) -> int:
                return sum(system.ask(address, NOTE) for _ in range(count))

            yield run

    def ring(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """As many tokens as actors, though each goes all its way before the next begins."""
        return self._ring(RING)

    def ring_one(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """One token."""
        return self._ring(1)

    @contextlib.asynccontextmanager
    async def _ring(self, tokens: int) -> AsyncIterator[Run]:
        tally = Tally()
        with self._system() as system:
            links = [system.createActor(self._classes()[2]) for _ in range(RING)]
            for link, following in zip(links, links[1:] + links[:1], strict=True):
                system.tell(link, tally)
                system.tell(link, following)

            async def run(count: int) -> int:
                tally.expect(count, int)
                for link, hops in zip(links[:tokens], shares(count, tokens), strict=True):
                    system.tell(link, hops)
                return count - tally.left

            yield run

    @contextlib.asynccontextmanager
    async def crowd(self, count: int) -> AsyncIterator[int]:
        """So many objects."""
        with self._system() as system:
            yield len([system.createActor(self._classes()[1]) for _ in range(count)])
