"""Ray: a process for each actor. No fair peer of a mailbox in one process; it shows what a process boundary costs.

The CPU time told of it is the sender's process alone: look at wall time.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tools.bench.runtime.shape import Run

NOTE = ("note", 7)


class _Hearer:
    """What becomes Ray's actor; counts and answers."""

    def __init__(self) -> None:
        self._heard = 0

    def hear(self, note: Any) -> int:  # noqa: ARG002
        """One more."""
        self._heard += 1
        return 1

    def heard(self) -> int:
        """How many since this was last asked."""
        told, self._heard = self._heard, 0
        return told


@contextlib.contextmanager
def _actor() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        actor = ray.remote(_Hearer).remote()
        ray.get(actor.heard.remote())
        yield actor
    finally:
        ray.shutdown()


@contextlib.asynccontextmanager
async def tell() -> AsyncIterator[Run]:
    """``method.remote`` without looking at what it gives; calls of one caller are handled in order."""
    import ray

    with _actor() as actor:

        async def run(count: int) -> int:
            for _ in range(count):
                actor.hear.remote(NOTE)
            heard: int = ray.get(actor.heard.remote())
            return heard

        yield run


@contextlib.asynccontextmanager
async def ask() -> AsyncIterator[Run]:
    """``ray.get`` of each call."""
    import ray

    with _actor() as actor:

        async def run(count: int) -> int:
            return sum(ray.get(actor.hear.remote(NOTE)) for _ in range(count))

        yield run
