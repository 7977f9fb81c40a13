"""A plug-in that is slow, hangs, raises, floods or blocks costs the others nothing beyond its own share."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from typing import Any, ClassVar

import pytest

from messages import ActorGaveUp, Message
from runtime import Actor, Branch, Child, MailboxSpec, every, on, plugin_manners
from runtime.clock import SystemClock
from runtime.plugin_manners import WorkersApart
from runtime.plugins import plugin_branch
from runtime.tree import Child as Place
from runtime.watchdog import Watchdog, WatchdogSettings
from runtime.worker import ThreadWorkers
from tests.actors.stage import Stage
from tests.runtime.scripted import eventually, running


class Work(Message, frozen=True):
    number: int


class News(Message, frozen=True):
    number: int


class Source(Actor):
    """Gives the worker something to do ten times a second, and notes how long that took to get rid of."""

    def __init__(self, waited: list[float]) -> None:
        self.waited = waited
        self.count = 0

    @every(0.1)
    async def give(self) -> None:
        began = self.clock.monotonic()
        self.count += 1
        await self.send(Work(self.count))
        self.waited.append(self.clock.monotonic() - began)


class Worker(Actor):
    """Notes when it did what. Each piece takes a while."""

    def __init__(self, done: list[tuple[float, int]], seconds: float = 0.0) -> None:
        self.done = done
        self.seconds = seconds

    @on
    async def work(self, work: Work) -> None:
        await asyncio.sleep(self.seconds)
        if work.number:
            self.done.append((self.clock.monotonic(), work.number))


class Slow(Actor):
    @on
    async def heard(self, _: Work) -> None:
        await asyncio.sleep(100.0)


class Hangs(Actor):
    @on
    async def heard(self, _: Work) -> None:
        await asyncio.Event().wait()


class Raises(Actor):
    @on
    async def heard(self, _: Work) -> None:
        raise RuntimeError("as always")


class Floods(Actor):
    """Sends to the worker without end."""

    @on
    async def heard(self, work: Work) -> None:
        while work.number:
            await self.send(Work(0))


class Chatters(Actor):
    """Talks to an observer without end."""

    async def on_start(self) -> None:
        self.post(News(0))

    @on
    async def heard(self, _: News) -> None:
        while True:
            await self.send(News(1))


class Blocks(Actor):
    """Holds the loop for a while, each time it hears something."""

    @on
    async def heard(self, _: Work) -> None:
        time.sleep(0.4)


class Jams(Actor):
    """Its blocking job does not return."""

    gate: ClassVar[threading.Event] = threading.Event()

    @on
    async def heard(self, _: Work) -> None:
        await self.blocking(lambda: self.gate.wait(30))


class Reads(Actor):
    """An actor of the house that needs the pool."""

    def __init__(self, done: list[int]) -> None:
        self.done = done

    @on
    async def work(self, work: Work) -> None:
        self.done.append(await self.blocking(lambda: work.number))


class Observer(Actor):
    def __init__(self, heard: list[int]) -> None:
        self.heard = heard

    @on
    async def news(self, news: News) -> None:
        self.heard.append(news.number)


def plugins(*kinds: type[Actor]) -> Branch:
    return plugin_branch({kind.__name__.lower(): {"actor": f"{__name__}:{kind.__name__}"} for kind in kinds})


def played(
    *guests: type[Actor], seconds: float, takes: float = 0.0
) -> tuple[list[tuple[float, int]], list[float], Stage]:
    """What the worker did and how long the source waited, with these plug-ins beside them."""
    done: list[tuple[float, int]] = []
    waited: list[float] = []
    children: list[Any] = [
        Child("worker", Worker, make=lambda: Worker(done, takes)),
        Child("source", Source, make=lambda: Source(waited)),
        plugins(*guests),
    ]

    async def act(on: Stage) -> None:
        await on.rest(seconds)

    return done, waited, Stage(*children).play(act)


@pytest.mark.parametrize("guest", [Slow, Hangs, Raises])
def test_a_plug_in_that_is_slow_or_hangs_or_raises_changes_nothing_for_the_others(guest: type[Actor]) -> None:
    alone, waited_alone, _ = played(seconds=300.0)
    done, waited, stage = played(guest, seconds=300.0)
    assert len(alone) > 2990
    # They stop later than alone: one that hangs is given its time to stop.
    assert done[: len(alone)] == alone
    assert not any(waited + waited_alone)
    cell = stage.system.cells[f"plugins.{guest.__name__.lower()}"]
    if guest is Raises:
        assert cell.state == "disabled"
        [gave_up] = stage.heard(ActorGaveUp)
        assert gave_up.disabled
    else:
        assert cell.dropped == len(done) - 1024 - cell.desk.handled - 1, "each one is counted"


def test_a_flood_waits_for_the_worker_and_leaves_three_quarters_of_its_mailbox_to_the_house() -> None:
    done, waited, _ = played(Floods, seconds=60.0, takes=0.01)
    assert max(waited) == 0.0, "the house never waits to hand something over"
    late = [at - 0.1 * number for at, number in done]
    assert len(done) > 580
    assert max(late) < (256 // 4 + 2) * 0.01 + 0.1, "and what it hands over waits behind a quarter, at most"


def test_without_that_rule_the_house_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_manners, "SHARE", 1)
    _, waited, _ = played(Floods, seconds=60.0, takes=0.01)
    assert max(waited) > 0.0


async def test_one_that_talks_without_end_neither_holds_the_loop_nor_fills_an_observers_mailbox() -> None:
    heard: list[int] = []
    late: list[float] = []
    observer = Child("observer", Observer, make=lambda: Observer(heard), mailbox=MailboxSpec(400, "dead_letter"))
    async with running([observer, plugins(Chatters)], clock=SystemClock()) as system:  # type: ignore[list-item]
        await eventually(lambda: len(heard) > 100)
        for _ in range(50):
            began = time.monotonic()
            await asyncio.sleep(0.01)
            late.append(time.monotonic() - began - 0.01)
        assert system.cells["observer"].dropped == 0
        system.disable("plugins.chatters", "the test is over")
    assert sorted(late)[25] < 0.05, "half of the time a timer is on time"


def _job_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("jobs of")]


async def test_jobs_that_hang_in_plug_ins_take_nothing_from_the_houses_pool_and_do_not_hold_up_a_stop() -> None:
    before = _job_threads()  # of whatever else has run in this process
    done: list[int] = []
    Jams.gate.clear()
    branch = plugin_branch({name: {"actor": f"{__name__}:Jams"} for name in ("a", "b", "c")})
    impatient = tuple(dataclasses.replace(p, stop_within=0.2) for p in branch.children if isinstance(p, Place))
    tree = Branch(
        "root", (Child("reads", Reads, make=lambda: Reads(done)), dataclasses.replace(branch, children=impatient))
    )
    workers = WorkersApart(ThreadWorkers(2))
    async with running(tree, workers=workers, clock=SystemClock()) as system:
        await eventually(lambda: all(cell.state == "running" for cell in system.cells.values()))
        for number in range(1, 20):
            await system.send(Work(number))
        await eventually(lambda: len(done) == 19)
        began = time.monotonic()
    assert time.monotonic() - began < 5.0
    Jams.gate.set()
    workers.close()
    await eventually(lambda: not [thread for thread in _job_threads() if thread not in before], within=20.0)


async def test_one_that_blocks_the_loop_again_and_again_is_switched_off_by_name() -> None:
    done: list[tuple[float, int]] = []
    told: list[ActorGaveUp] = []

    class Ear(Actor):
        @on
        async def heard(self, gave_up: ActorGaveUp) -> None:
            told.append(gave_up)

    worker = Child("worker", Worker, make=lambda: Worker(done))
    async with running([Child("ear", Ear), worker, plugins(Blocks)], clock=SystemClock()) as system:  # type: ignore[list-item]
        dog = Watchdog(WatchdogSettings(stalled_after_seconds=0.1, stalls_max=2), system)
        dog.start()
        await eventually(lambda: system.cells["plugins.blocks"].state == "running")
        for number in (1, 2, 3):
            await system.send(Work(number))
            await asyncio.sleep(0.1)
        await eventually(lambda: system.cells["plugins.blocks"].state == "disabled")
        await system.send(Work(4))
        await eventually(lambda: len(done) == 4)
        dog.close()
    [gave_up] = told
    assert gave_up.actor == "plugins.blocks"
    assert "it held everybody up 2 times" in gave_up.why
    assert "time.sleep(0.4)" in gave_up.why
