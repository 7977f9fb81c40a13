"""The watchdog sees from outside that the loop stands still, and who holds it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from messages import ActorStuck, Message
from runtime.watchdog import LOOKS_TO_BLAME, Watchdog, WatchdogSettings, _Standstill
from tests.runtime.scripted import eventually


class House:
    """What the watchdog told and whom it disabled."""

    def __init__(self) -> None:
        self.told: list[ActorStuck] = []
        self.disabled: list[tuple[str, str]] = []

    def publish(self, message: Message) -> None:
        assert isinstance(message, ActorStuck)
        self.told.append(message)

    def disable(self, name: str, why: str) -> bool:
        self.disabled.append((name, why))
        return True


def settings(
    *, stuck: float = 60.0, stalled: float = 0.1, stalls_max: int = 3, within: float = 60.0
) -> WatchdogSettings:
    return WatchdogSettings(stuck, stalled, stalls_max, within)


async def as_actor(name: str, what: Coroutine[Any, Any, None]) -> None:
    """Run it in a task that is named as the system names an actor's."""
    await asyncio.create_task(what, name=f"actor {name}")


async def stand_still_here(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_loop_that_stands_still_is_told_once_with_the_stack_it_stands_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    house = House()
    dog = Watchdog(settings(stuck=0.2), house)
    dog.start()
    await asyncio.sleep(0.05)
    await stand_still_here(0.6)
    await eventually(lambda: bool(house.told))
    await asyncio.sleep(0.2)
    dog.close()
    [told] = house.told
    assert told.actor == "the event loop"
    assert 0.2 <= told.seconds < 0.6
    assert "stand_still_here" in told.stack
    assert house.disabled == []
    error = capsys.readouterr().err
    assert "the event loop stands still" in error
    assert "stand_still_here" in error, "it is written while the loop still stands"


async def test_an_actor_that_holds_the_loop_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    house = House()
    dog = Watchdog(settings(stuck=0.3), house)
    dog.start()
    await asyncio.sleep(0.05)
    await as_actor("trainer", stand_still_here(0.7))
    await eventually(lambda: bool(house.told))
    dog.close()
    assert house.told[0].actor == "trainer"
    assert house.disabled == [], "only a plug-in is ever disabled"
    assert "in trainer" in capsys.readouterr().err


async def test_a_plug_in_that_holds_everybody_up_is_told_by_name_and_the_third_time_disabled() -> None:
    house = House()
    dog = Watchdog(settings(), house)
    dog.start()
    for number in range(1, 4):
        await asyncio.sleep(0.1)
        await as_actor("plugins.rude", stand_still_here(0.4))
        await eventually(lambda n=number: len(house.told) == n)  # type: ignore[misc]
        assert bool(house.disabled) == (number == 3)
    await asyncio.sleep(0.1)
    await as_actor("plugins.rude", stand_still_here(0.4))
    await asyncio.sleep(0.1)
    dog.close()
    assert {one.actor for one in house.told} == {"plugins.rude"}
    [(name, why)] = house.disabled
    assert name == "plugins.rude"
    assert why.startswith("it held everybody up 3 times, the last time for 0.")
    assert "stand_still_here" in why


async def test_stalls_that_are_long_past_do_not_count() -> None:
    house = House()
    dog = Watchdog(settings(stalls_max=2, within=0.6), house)
    dog.start()
    for _ in range(3):
        await asyncio.sleep(0.6)
        await as_actor("plugins.slow", stand_still_here(0.4))
    await eventually(lambda: len(house.told) == 3)
    dog.close()
    assert house.disabled == []


async def test_a_loop_that_runs_is_left_in_peace() -> None:
    house = House()
    dog = Watchdog(settings(stalled=0.4), house)
    dog.start()

    async def busy() -> None:
        for _ in range(20):
            time.sleep(0.02)
            await asyncio.sleep(0)

    await as_actor("plugins.polite", busy())
    await asyncio.sleep(0.1)
    dog.close()
    assert not house.told
    assert not house.disabled
    await eventually(lambda: not any(thread.name == "watchdog" for thread in threading.enumerate()))


def test_nobody_is_blamed_on_a_single_look() -> None:
    paused = _Standstill(0.0)
    paused.look(5.0, "plugins.innocent", "stack")
    assert paused.blamed == "", "the whole process may have been paused"
    changing = _Standstill(0.0)
    for number in range(20):
        changing.look(1.0, f"plugins.{number % 2}", "stack")
    assert changing.blamed == ""
    held = _Standstill(0.0)
    for _ in range(LOOKS_TO_BLAME):
        held.look(1.0, "plugins.rude", "its stack")
    held.look(1.2, "", "another's")
    assert (held.blamed, held.stack) == ("plugins.rude", "its stack")
