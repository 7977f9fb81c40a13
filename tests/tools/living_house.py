"""A daemon as far as its control socket goes: it holds the home's lock, describes one actor and has a trace."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import msgspec

from actors.checkpointer.pinning import pin
from actors.checkpointer.store import Store
from messages import PinRefused, PinSet, PinWanted, TraceRecording
from runtime import AskFailed
from runtime.cell import ActorDescription
from runtime.clock import SystemClock
from runtime.control_server import ControlServer
from runtime.disk import Disk
from runtime.home_lock import HomeLock
from runtime.trace import Trace
from tools.wishes import pin_wish, record_wish

VALIDATOR = ActorDescription(
    name="validator",
    state="running",
    incarnation=3,
    restarts=2,
    depth=4,
    capacity=256,
    handled=1234,
    dead_letters=1,
    dropped=7,
    busy_share=0.875,
    oldest_waiting_s=12.0,
    in_hand="BatchClaimed",
    in_hand_s=4.2,
    last_message="BatchClaimed",
    waiting_on="disk_guard",
)


class LivingHouse:
    """``with LivingHouse(home) as house:``; it lives on a loop of its own, so that commands may block."""

    def __init__(self, home: Path) -> None:
        self.silent = False
        self.home = home
        self.clock = SystemClock()
        self.trace = Trace()
        self.stop_reason = "SIGTERM"
        self.described = VALIDATOR
        self.recording = TraceRecording(on=False, was=False)
        self.wishes: list[bool | None] = []
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._live()))

    def __enter__(self) -> LivingHouse:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End in order."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()
            self._loop.close()

    def happens(self, type_name: str, times: int = 1, **fields: object) -> None:
        """A message is sent, now."""
        done = threading.Event()

        def add() -> None:
            for _ in range(times):
                self.trace.add(self.clock.monotonic(), "sent", 5, 3, "validator", "trainer", type_name, body=fields)
            done.set()

        self._loop.call_soon_threadsafe(add)
        assert done.wait(10)

    def describe(self) -> list[ActorDescription]:
        return [self.described]

    async def record(self, on: bool | None) -> TraceRecording:
        self.wishes.append(on)
        was = self.recording.on
        self.recording = msgspec.structs.replace(self.recording, on=was if on is None else on, was=was)
        return self.recording

    async def ask(self, question: PinWanted, *, timeout: float) -> PinSet | PinRefused:
        """As the Checkpointer answers; a house that is ``silent`` has none that does."""
        if self.silent:
            raise AskFailed("no answer in time")
        store = Store(Disk(self.home), keep_generations=5, keep_snapshots=7, keep_nights=2)
        store.open()
        return pin(store, question.target, pinned=question.pinned)

    async def _live(self) -> None:
        with HomeLock(self.home):
            async with ControlServer(self.home, self, (record_wish(self.record), pin_wish(self.ask))):
                self._up.set()
                await self._over.wait()
