"""The timers of one actor: ``@every``, ``@daily`` and ``post_later``.

A timer only puts a message into its actor's own mailbox. All of them end with the incarnation that set them; which
dates a ``@daily`` call was given for is remembered across incarnations, for a crash must neither cost the day its call
nor double it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from messages import Message
from runtime.actor import Tick, Timer

if TYPE_CHECKING:
    from runtime.cell import Cell

DAILY_LOOK_SECONDS = 60.0
"""How often a ``@daily`` timer looks at the wall clock: a jump or a daylight-saving change is seen this soon."""


class Timers:
    """Made for a cell whose actor has timers, or when it first posts something for later."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._handles: dict[str, asyncio.TimerHandle] = {}
        self._ticks: dict[str, Callable[[], None]] = {}
        self._daily_done: dict[str, set[date]] = {}
        self._later = 0

    def start(self, timers: tuple[Timer, ...]) -> None:
        """An incarnation is up."""
        instance = self._cell.instance
        assert instance is not None, "timers belong to a running instance"
        for timer in timers:
            if timer.every is not None:
                named = timer.every if not isinstance(timer.every, str) else getattr(instance.settings, timer.every)
                self._start_every(timer.method, float(named))
            elif timer.daily is not None:
                self._start_daily(timer.method, getattr(instance.settings, timer.daily))

    def stop(self) -> None:
        """It is over, however: no timer of it fires again."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()

    def post_later(self, seconds: float, message: Message, put: Callable[[Message], None]) -> None:
        """``put(message)`` after a while."""
        self._later += 1
        key = f"later {self._later}"

        def fire() -> None:
            self._handles.pop(key, None)
            put(message)

        self._handles[key] = asyncio.get_running_loop().call_later(seconds, fire)

    def _start_every(self, method: str, seconds: float) -> None:
        cell = self._cell
        if not seconds > 0:
            raise ValueError(f"{cell.name}.{method}: a timer every {seconds:g} s would never let go of the loop")
        loop = asyncio.get_running_loop()
        incarnation = cell.incarnation

        def fire() -> None:
            cell.system.put(cell, cell.name, 0, Tick(timer=method), control=True, incarnation=incarnation)
            self._handles[method] = loop.call_later(seconds, fire)

        self._ticks[method] = fire
        self._handles[method] = loop.call_later(seconds, fire)

    def snooze(self, method: str, seconds: float) -> None:
        """The next tick of an ``@every`` timer comes in ``seconds``; those after it at its own pace again."""
        handle = self._handles.get(method)
        if handle is not None and method in self._ticks:
            handle.cancel()
            self._handles[method] = asyncio.get_running_loop().call_later(seconds, self._ticks[method])

    def _start_daily(self, method: str, at: time) -> None:
        cell, loop = self._cell, asyncio.get_running_loop()
        clock = cell.system.clock
        if method not in self._daily_done:
            now = clock.now()
            self._daily_done[method] = {now.date()} if now.time() >= at else set()
        done = self._daily_done[method]

        def look() -> None:
            now = clock.now()
            if now.time() >= at and now.date() not in done:
                done.add(now.date())
                cell.system.put(cell, cell.name, 0, Tick(timer=method, day=now.date()), control=True)
            until = (datetime.combine(now.date(), at) - now.replace(tzinfo=None)) % timedelta(days=1)
            delay = min(DAILY_LOOK_SECONDS, max(0.05, until.total_seconds()))
            self._handles[method] = loop.call_later(delay, look)

        look()
