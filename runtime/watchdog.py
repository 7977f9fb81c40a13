"""A watchdog in its own OS thread: it sees the event loop stand still, which nothing on the loop can.

The loop beats once a second; a beat that is late by more than ``stuck_after_seconds`` makes the thread write every
thread's stack to standard error, once for each standstill, and tell the loop when it runs again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable

BEAT_SECONDS = 1.0


class Watchdog:
    """``start`` on the loop, ``close`` when it ends. ``on_stuck(seconds, stacks)`` is called on the loop, later."""

    def __init__(self, stuck_after_seconds: float, on_stuck: Callable[[float, str], None]) -> None:
        self._stuck_after = stuck_after_seconds
        self._on_stuck = on_stuck
        self._beat_at = time.monotonic()
        self._closed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to beat and to watch."""
        self._loop = asyncio.get_running_loop()
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
        self._handle = self._loop.call_later(BEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        told_of: float | None = None
        while not self._closed.wait(BEAT_SECONDS):
            beat_at = self._beat_at
            late = time.monotonic() - beat_at - BEAT_SECONDS
            if late < self._stuck_after or told_of == beat_at:
                continue
            told_of = beat_at
            stacks = all_stacks()
            sys.stderr.write(f"nightfold: the event loop stands still for {late:.0f} s\n{stacks}\n")
            loop = self._loop
            if loop is not None and not loop.is_closed():
                with contextlib.suppress(RuntimeError):  # it was closed this very moment
                    loop.call_soon_threadsafe(self._on_stuck, late, stacks)


def all_stacks() -> str:
    """Every thread's stack, innermost frame last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts: list[str] = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"-- {names.get(ident, ident)}\n" + "".join(traceback.format_stack(frame)))
    return "\n".join(parts)
