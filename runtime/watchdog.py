"""A watchdog in its own OS thread: it sees the event loop stand still, which nothing on the loop can, and who holds it.

Guarantees:
    * A standstill of ``stuck_after_seconds`` is told once while it lasts: every thread's stack to standard error, and
      ``ActorStuck`` as soon as the loop runs again.
    * A plug-in that holds the loop for ``stalled_after_seconds`` is told by name; after ``stalls_max`` times within
      ``stalls_within_seconds`` it is disabled. Nobody else ever is.
    * Nobody is blamed on a single look. A task is named only if it was seen in hand, in one and the same standstill, at
      each of several looks: one look after a pause of the whole process, or after another thread held the interpreter,
      would hit whoever happens to be there.
It cannot end a handler that never returns: a thread can be asked, not killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from messages import ActorStuck, Message
from runtime.plugin_manners import PREFIX

BEATS = 8
"""Beats, and looks of the thread, within ``stalled_after_seconds``."""
LOOKS_TO_BLAME = 4
FRAMES_TOLD = 4
"""The innermost frames say what stands still; above them is always the same loop."""
TASK_NAME = "actor "
"""What the name of an actor's task begins with; the actor's own name follows."""
THE_LOOP = "the event loop"


class WatchdogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[watchdog]``.

    Attributes:
        stuck_after_seconds: a standstill of the whole daemon that is told while it lasts.
        stalled_after_seconds: how long a plug-in may hold everybody up.
        stalls_max, stalls_within_seconds: how often it may, within this time; then it is disabled.
    """

    stuck_after_seconds: Annotated[float, Meta(gt=0)] = 30.0
    stalled_after_seconds: Annotated[float, Meta(ge=0.05)] = 1.0
    stalls_max: Annotated[int, Meta(ge=1)] = 3
    stalls_within_seconds: Annotated[float, Meta(gt=0)] = 3600.0


class House(Protocol):
    """The part of ``ActorSystem`` that the watchdog needs."""

    def publish(self, message: Message) -> None:
        """Tell whoever listens."""

    def disable(self, name: str, why: str) -> object:
        """Settle a plug-in as disabled."""


class _Standstill:
    """Since one beat. ``blamed`` is ``""`` while nobody can be named."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.seconds = 0.0
        self.blamed = ""
        self.stack = ""
        self.told = False
        self._seen = ""
        self._looks = 0

    def look(self, seconds: float, in_hand: str, stack: str) -> None:
        """Somebody is in hand, after so many seconds."""
        self.seconds = seconds
        self._looks = self._looks + 1 if in_hand == self._seen else 1
        self._seen = in_hand
        if self._looks >= LOOKS_TO_BLAME:
            self.blamed = in_hand
        if in_hand == self.blamed or not self.blamed:
            self.stack = stack


class Watchdog:
    """``start`` on the loop, ``close`` when it ends. Everything it tells or does, it does on the loop."""

    def __init__(self, settings: WatchdogSettings, house: House) -> None:
        self._settings = settings
        self._house = house
        self._beat_seconds = settings.stalled_after_seconds / BEATS
        self._stalls: dict[str, deque[float]] = {}
        self._disabled: list[str] = []
        self._beat_at = time.monotonic()
        self._closed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to beat and to watch."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def close(self) -> None:
        """Stop beating and watching."""
        self._closed.set()
        if self._handle is not None:
            self._handle.cancel()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        assert self._loop is not None, "the watchdog was not started"
        self._handle = self._loop.call_later(self._beat_seconds, self._beat)

    # In the watchdog's own thread.

    def _watch(self) -> None:
        now = _Standstill(self._beat_at)
        while not self._closed.wait(self._beat_seconds):
            if self._beat_at != now.since:
                self._over(now)
                now = _Standstill(self._beat_at)
            late = time.monotonic() - now.since - self._beat_seconds
            if late < self._beat_seconds:
                continue
            now.look(late, self._in_hand(), self._stack_of_the_loop())
            if late >= self._settings.stuck_after_seconds and not now.told:
                now.told = True
                who = now.blamed or THE_LOOP
                sys.stderr.write(f"nightfold: the event loop stands still for {late:.0f} s, in {who}\n{all_stacks()}\n")
                self._on_loop(partial(self._house.publish, ActorStuck(actor=who, seconds=late, stack=now.stack)))

    def _over(self, it: _Standstill) -> None:
        if it.seconds >= self._settings.stalled_after_seconds and it.blamed.startswith(PREFIX):
            self._on_loop(partial(self._stalled, it))

    def _in_hand(self) -> str:
        """The actor whose task is running; ``""`` where it is nobody's."""
        assert self._loop is not None, "started"
        task = asyncio.current_task(self._loop)
        name = task.get_name() if task is not None else ""
        return name.removeprefix(TASK_NAME) if name.startswith(TASK_NAME) else ""

    def _stack_of_the_loop(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        return "".join(traceback.format_stack(frame)[-FRAMES_TOLD:]) if frame is not None else ""

    def _on_loop(self, what: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it was closed this very moment
                loop.call_soon_threadsafe(what)

    # On the loop.

    def _stalled(self, it: _Standstill) -> None:
        """Count it, tell it, and put an end to it when it happens too often."""
        if it.blamed in self._disabled:
            return
        now = time.monotonic()
        stalls = self._stalls.setdefault(it.blamed, deque())
        stalls.append(now)
        while now - stalls[0] > self._settings.stalls_within_seconds:
            stalls.popleft()
        if not it.told:
            self._house.publish(ActorStuck(actor=it.blamed, seconds=round(it.seconds, 3), stack=it.stack))
        if len(stalls) >= self._settings.stalls_max:
            self._disabled.append(it.blamed)
            place = it.stack.strip().splitlines()[-2:]
            self._house.disable(
                it.blamed,
                f"it held everybody up {len(stalls)} times, the last time for {it.seconds:.1f} s, "
                f"in {' '.join(line.strip() for line in place)}",
            )


def all_stacks() -> str:
    """Every thread's stack, innermost frame last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts: list[str] = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"-- {names.get(ident, ident)}\n" + "".join(traceback.format_stack(frame)))
    return "\n".join(parts)
