"""What only a person can mend is told once and at once: not restarted, not waited for, not called a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest

from messages import ActorCrashed, ActorGaveUp, SpaceGranted, SpaceNeeded, SpaceRefused
from runtime import Actor, ActorSystem, Branch, Child, OperatorError, on
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.worker import DeviceThread, ThreadWorkers


class Mistaken(Actor):
    """Finds in its first moments that it cannot work."""

    starts: ClassVar[int] = 0

    async def on_start(self) -> None:
        Mistaken.starts += 1
        raise OperatorError("NF-CONF-001", "the config is wrong", exit_code=78)

    @on
    async def answer(self, _: SpaceNeeded) -> SpaceGranted | SpaceRefused:
        return SpaceGranted(free_bytes=0)


class Asking(Actor):
    """Cannot start without an answer of the other."""

    async def on_start(self) -> None:
        await self.ask(SpaceNeeded(purpose="start"), timeout=60)


class Listening(Actor):
    """Writes down what it hears."""

    heard: ClassVar[list[str]] = []

    @on
    async def crashed(self, news: ActorCrashed) -> None:
        self.heard.append(f"{news.actor} crashed")

    @on
    async def gave_up(self, news: ActorGaveUp) -> None:
        self.heard.append(f"{news.actor} gave up: {news.why}")


async def test_a_mistake_found_at_the_start_ends_the_system_before_anyone_waits_for_an_answer(tmp_path: Path) -> None:
    Mistaken.starts = 0
    Listening.heard.clear()
    tree = Branch("root", (Child("listening", Listening), Child("mistaken", Mistaken), Child("asking", Asking)))
    system = ActorSystem(
        tree,
        clock=SystemClock(),
        disk=Disk(tmp_path),
        workers=ThreadWorkers(),
        make_device=DeviceThread,
        strict=False,
    )
    with pytest.raises(OperatorError, match="the config is wrong"):
        await asyncio.wait_for(system.run(), timeout=10)
    assert Mistaken.starts == 1
    assert Listening.heard == ["mistaken gave up: NF-CONF-001: the config is wrong"]
