"""Timers belong to an incarnation; the wall clock's dates belong to the process."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, date, datetime, time, timedelta

import msgspec
import pytest

from messages import Message
from runtime import Actor, Child, MailboxSpec, daily, every, on
from runtime import timers as timers_module
from tests.runtime.scripted import QUICK, BoomError, Clock, ToA, eventually, running, settle, state


class Pace(msgspec.Struct, frozen=True):
    seconds: float = 0.005
    at: time = time(2, 30)


class Ticking(Actor):
    settings: Pace

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.ticks = 0

    @every("seconds")
    async def tick(self) -> None:
        self.ticks += 1
        self.log.append(f"{id(self)} {self.ticks}")

    @on
    async def told(self, message: ToA) -> None:
        if message.what == "crash":
            raise BoomError
        await asyncio.sleep(0.03)


def ticking(log: list[str], seconds: float = 0.005) -> Child:
    return Child("it", Ticking, make=lambda: Ticking(log), settings=Pace(seconds), backoff=QUICK)


async def test_every_ticks_at_the_pace_its_settings_name() -> None:
    log: list[str] = []
    async with running([ticking(log)]):
        began = asyncio.get_running_loop().time()
        await eventually(lambda: len(log) == 4)
        assert asyncio.get_running_loop().time() - began >= 0.015


async def test_ticks_of_a_busy_actor_do_not_pile_up() -> None:
    log: list[str] = []
    async with running([ticking(log)]) as system:
        await eventually(lambda: len(log) == 1)
        await system.send(ToA("work"))
        await asyncio.sleep(0.025)
        assert system.cells["it"].mailbox.depth <= 1


async def test_timers_stop_with_the_incarnation_and_start_again_with_the_next() -> None:
    log: list[str] = []
    async with running([ticking(log)]) as system:
        await eventually(lambda: len(log) >= 2)
        await system.send(ToA("crash"))
        await eventually(lambda: system.cells["it"].incarnation == 2)
        before = len(log)
        await eventually(lambda: len(log) >= before + 3)
        fresh = log[before:]
        assert len({entry.split()[0] for entry in fresh}) == 1
        assert [entry.split()[1] for entry in fresh[:3]] == ["1", "2", "3"]
    after = len(log)
    await asyncio.sleep(0.02)
    assert len(log) == after


async def test_a_tick_meant_for_a_dead_incarnation_is_not_handled_by_the_next() -> None:
    log: list[str] = []

    class Slow(Ticking):
        @on
        async def told(self, message: ToA) -> None:
            await asyncio.sleep(0.02)
            raise BoomError

    tree = [Child("it", Slow, make=lambda: Slow(log), settings=Pace(0.01), backoff=QUICK)]
    async with running(tree) as system:
        await system.send(ToA("crash"))
        await eventually(lambda: system.cells["it"].incarnation == 2)
        await settle()
        assert log == []


async def test_a_timer_of_zero_seconds_is_a_crash_and_not_a_loop_without_end() -> None:
    async with running([ticking([], 0.0)]) as system:
        await eventually(lambda: system.cells["it"].incarnation >= 2)
        crashed = next(r for r in system.trace.since(0) if r.kind == "crashed")
        assert "it.tick: a timer every 0 s" in crashed.body


class Snoozing(Ticking):
    """Snoozes at its second tick; when it is told to, a timer of that name."""

    def __init__(self, rest: float) -> None:
        super().__init__([])
        self.rest = rest
        self.at: list[float] = []

    @every("seconds")
    async def tick(self) -> None:
        self.at.append(self.clock.monotonic())
        if len(self.at) == 2:
            self.snooze("tick", self.rest)

    @on
    async def told(self, message: ToA) -> None:
        self.snooze(message.what, self.rest)


async def test_a_snoozed_timer_ticks_when_it_was_told_to_and_then_at_its_own_pace() -> None:
    it = Snoozing(0.1)
    async with running([Child("it", Snoozing, make=lambda: it, settings=Pace(0.005), backoff=QUICK)]):
        await eventually(lambda: len(it.at) == 6)
    pauses = [after - before for before, after in itertools.pairwise(it.at)]
    assert pauses[1] >= 0.1
    assert min(pauses[2:]) < 0.1


async def test_a_snooze_ends_with_the_incarnation() -> None:
    log: list[Snoozing] = []

    def made() -> Snoozing:
        log.append(Snoozing(3600.0))
        return log[-1]

    async with running([Child("it", Snoozing, make=made, settings=Pace(0.005), backoff=QUICK)]) as system:
        await eventually(lambda: len(log[0].at) == 2)
        await settle()
        assert len(log[0].at) == 2
        await system.send(ToA("no timer"))
        await eventually(lambda: len(log) == 2 and len(log[1].at) == 2)


async def test_only_an_every_timer_of_its_own_can_be_snoozed() -> None:
    async with running([Child("it", Snoozing, make=lambda: Snoozing(1.0), settings=Pace(), backoff=QUICK)]) as system:
        await system.send(ToA("told"))
        await eventually(lambda: system.cells["it"].incarnation == 2)
        crashed = next(r for r in system.trace.since(0) if r.kind == "crashed")
        assert "it has no @every timer called told" in crashed.body


class Later(Actor):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    @on
    async def told(self, message: ToA) -> None:
        self.log.append(message.what)
        if message.what == "go":
            self.post_later(0.01, ToA("later"))
        elif message.what == "crash":
            self.post_later(0.01, ToA("never"))
            raise BoomError


async def test_a_later_post_arrives_unless_its_incarnation_ends_before() -> None:
    log: list[str] = []
    async with running([Child("it", Later, make=lambda: Later(log), backoff=QUICK)]) as system:
        await system.send(ToA("go"))
        await eventually(lambda: "later" in log)
        await system.send(ToA("crash"))
        await asyncio.sleep(0.03)
        assert "never" not in log


# The wall clock.


class Nightly(Actor):
    settings: Pace

    def __init__(self, days: list[date]) -> None:
        self.days = days

    @daily("at")
    async def night(self, day: date) -> None:
        self.days.append(day)

    @on
    async def told(self, message: ToA) -> None:
        raise BoomError


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers_module, "DAILY_LOOK_SECONDS", 0.001)


def nightly(days: list[date]) -> Child:
    return Child("it", Nightly, make=lambda: Nightly(days), settings=Pace(), backoff=QUICK)


async def look() -> None:
    """Let the timer look at the wall clock a few times."""
    await asyncio.sleep(0.008)


async def test_daily_comes_once_when_the_local_time_passes() -> None:
    days: list[date] = []
    clock = Clock(datetime(2026, 1, 10, 1, 29, tzinfo=UTC))  # 02:29 in Berlin
    async with running([nightly(days)], clock=clock):
        await look()
        assert days == []
        clock.move(timedelta(minutes=2))
        await look()
        assert days == [date(2026, 1, 10)]
        clock.move(timedelta(hours=20))
        await look()
        assert days == [date(2026, 1, 10)]
        clock.move(timedelta(hours=4))
        await look()
        assert days == [date(2026, 1, 10), date(2026, 1, 11)]


async def test_daily_does_not_come_for_a_moment_that_had_passed_before_the_start() -> None:
    days: list[date] = []
    async with running([nightly(days)], clock=Clock(datetime(2026, 1, 10, 9, tzinfo=UTC))):
        await look()
    assert days == []


async def test_daily_comes_when_spring_skips_its_hour() -> None:
    days: list[date] = []
    clock = Clock(datetime(2026, 3, 29, 0, 59, tzinfo=UTC))  # 01:59; the next minute is 03:00
    async with running([nightly(days)], clock=clock):
        await look()
        assert days == []
        clock.move(timedelta(minutes=1))
        assert clock.now().hour == 3
        await look()
    assert days == [date(2026, 3, 29)]


async def test_daily_comes_once_when_autumn_has_its_hour_twice() -> None:
    days: list[date] = []
    clock = Clock(datetime(2026, 10, 24, 23, 59, tzinfo=UTC))
    async with running([nightly(days)], clock=clock):
        await look()
        for _ in range(12):
            clock.move(timedelta(minutes=15))
            await look()
    assert days == [date(2026, 10, 25)]


async def test_daily_comes_once_however_the_clock_jumps() -> None:
    days: list[date] = []
    clock = Clock(datetime(2026, 1, 10, 0, tzinfo=UTC))
    async with running([nightly(days)], clock=clock):
        await look()
        for hours in (2, -2, 2, 24, -24, 24):
            clock.move(timedelta(hours=hours))
            await look()
    assert days == [date(2026, 1, 10), date(2026, 1, 11)]


async def test_daily_comes_late_after_a_long_sleep() -> None:
    days: list[date] = []
    clock = Clock(datetime(2026, 1, 10, 0, tzinfo=UTC))
    async with running([nightly(days)], clock=clock):
        await look()
        clock.move(timedelta(days=3, hours=9))
        await look()
    assert days == [date(2026, 1, 13)]


async def test_a_restart_at_the_moment_does_not_swallow_the_day_nor_double_it() -> None:
    days: list[date] = []
    clock = Clock(datetime(2026, 1, 10, 0, tzinfo=UTC))
    async with running([nightly(days)], clock=clock) as system:
        await look()
        await system.send(ToA("crash"))
        await eventually(lambda: state(system, "it") == "backing_off")
        clock.move(timedelta(hours=2))
        await eventually(lambda: system.cells["it"].incarnation == 2)
        await look()
        assert days == [date(2026, 1, 10)]
        await system.send(ToA("crash"))
        await eventually(lambda: system.cells["it"].incarnation == 3)
        await look()
    assert days == [date(2026, 1, 10)]


class Full(Actor):
    settings: Pace

    def __init__(self, log: list[Message], gate: asyncio.Event) -> None:
        self.log, self.gate, self.ticks = log, gate, 0

    @every("seconds")
    async def tick(self) -> None:
        self.ticks += 1

    @on
    async def told(self, message: ToA) -> None:
        await self.gate.wait()
        if not self.ticks:
            self.log.append(message)


async def test_a_tick_overtakes_the_work_of_a_full_mailbox() -> None:
    gate = asyncio.Event()
    log: list[Message] = []
    spec = MailboxSpec(capacity=3)
    tree = [Child("it", Full, make=lambda: Full(log, gate), settings=Pace(0.01), mailbox=spec)]
    async with running(tree) as system:
        for what in ("in hand", "1", "2", "3"):
            await system.send(ToA(what))
            await settle()
        await asyncio.sleep(0.02)
        gate.set()
    assert log == [ToA("in hand")]
