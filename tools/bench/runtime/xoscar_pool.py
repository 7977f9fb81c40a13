"""xoscar, as its manual has it used, with all actors in the pool's main process: nothing crosses to another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from tools.bench.runtime.shape import HEARERS, RING, Run, Tally

NOTE = ("note", 7)


class Xoscar:
    """All actors in the pool's main process."""

    @staticmethod
    @cache
    def _classes() -> tuple[Any, Any, Any]:
        import xoscar

        class Hearer(xoscar.Actor):  # type: ignore[misc]
            def __init__(self, tally: Tally) -> None:
                super().__init__()
                self._tally = tally

            async def hear(self, note: Any) -> None:  # noqa: ARG002
                tally = self._tally
                tally.left -= 1
                if not tally.left:
                    tally.done()

        class Answerer(xoscar.Actor):  # type: ignore[misc]
            async def answer(self, note: Any) -> int:  # noqa: ARG002
                return 1

        class Link(xoscar.Actor):  # type: ignore[misc]
            following: Any = None

            def __init__(self, tally: Tally, tokens: int) -> None:
                super().__init__()
                self._tally = tally
                self._tokens = tokens

            async def follow(self, following: Any) -> None:
                self.following = following

            async def hop(self, token: Any) -> None:
                tally = self._tally
                tally.left -= 1
                if tally.left >= self._tokens:
                    await self.following.hop.tell(token)
                elif not tally.left:
                    tally.done()

        return Hearer, Answerer, Link

    @staticmethod
    @contextlib.asynccontextmanager
    async def _pool() -> AsyncIterator[str]:
        import xoscar

        pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
        async with pool:
            yield pool.external_address

    @contextlib.asynccontextmanager
    async def _sends_to(self, hearers: int) -> AsyncIterator[Run]:
        import xoscar

        tally = Tally()
        async with self._pool() as address:
            kind = self._classes()[0]
            references = [await xoscar.create_actor(kind, tally, address=address) for _ in range(hearers)]

            async def run(count: int) -> int:
                heard = asyncio.Event()
                tally.expect(count // hearers * hearers, heard.set)
                for _ in range(count // hearers):
                    for reference in references:
                        await reference.hear.tell(NOTE)
                await heard.wait()
                return count - tally.left

            yield run

    def tell(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """``ref.method.tell``."""
        return self._sends_to(1)

    def fan_out(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """To several."""
        return self._sends_to(HEARERS)

    @contextlib.asynccontextmanager
    async def ask(self) -> AsyncIterator[Run]:
        """A method called through its reference."""
        import xoscar

        async with self._pool() as address:
            reference = await xoscar.create_actor(self._classes()[1], address=address)

            async def run(count: int) -> int:
                answers = 0
                for _ in range(count):
                    answers += await reference.answer(NOTE)
                return answers

            yield run

    def ring(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """As many tokens as actors."""
        return self._ring(RING)

    def ring_one(self) -> contextlib.AbstractAsyncContextManager[Run]:
        """One token."""
        return self._ring(1)

    @contextlib.asynccontextmanager
    async def _ring(self, tokens: int) -> AsyncIterator[Run]:
        import xoscar

        tally = Tally()
        async with self._pool() as address:
            kind = self._classes()[2]
            links = [await xoscar.create_actor(kind, tally, tokens, address=address) for _ in range(RING)]
            for link, following in zip(links, links[1:] + links[:1], strict=True):
                await link.follow(following)

            async def run(count: int) -> int:
                done = asyncio.Event()
                tally.expect(count, done.set)
                for link in links[:tokens]:
                    await link.hop.tell(NOTE)
                await done.wait()
                return count - tally.left

            yield run

    @contextlib.asynccontextmanager
    async def crowd(self, count: int) -> AsyncIterator[int]:
        """So many actors, each made and destroyed by a call."""
        import xoscar

        async with self._pool() as address:
            kind = self._classes()[1]
            references = [await xoscar.create_actor(kind, address=address) for _ in range(count)]
            yield len(references)
            for reference in references:
                await xoscar.destroy_actor(reference)
