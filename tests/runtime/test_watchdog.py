"""The watchdog sees from outside that the loop stands still."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from runtime import watchdog
from tests.runtime.scripted import eventually


@pytest.fixture(autouse=True)
def _quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BEAT_SECONDS", 0.01)


async def test_a_loop_that_stands_still_is_told_once_with_the_stack_it_stands_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[tuple[float, str]] = []
    dog = watchdog.Watchdog(0.05, lambda seconds, stacks: told.append((seconds, stacks)))
    dog.start()

    def stand_still_here() -> None:
        time.sleep(0.2)

    stand_still_here()
    await eventually(lambda: bool(told))
    await asyncio.sleep(0.05)
    dog.close()
    assert len(told) == 1
    seconds, stacks = told[0]
    assert 0.05 <= seconds < 0.2
    assert "stand_still_here" in stacks
    error = capsys.readouterr().err
    assert "the event loop stands still" in error
    assert "stand_still_here" in error, "it is written while the loop still stands"


async def test_a_loop_that_runs_is_left_in_peace() -> None:
    told: list[float] = []
    dog = watchdog.Watchdog(0.1, lambda seconds, stacks: told.append(seconds))
    dog.start()
    for _ in range(10):
        await asyncio.sleep(0.01)
    dog.close()
    assert told == []
    await eventually(lambda: not any(thread.name == "watchdog" for thread in threading.enumerate()))
