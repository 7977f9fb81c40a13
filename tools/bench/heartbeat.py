"""A pulse of one millisecond on an event loop, and how late its beats come.

``Heartbeat`` is a plug-in of the daemon, so what it measures is the loop of the real daemon and of nothing else.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from messages import TrainingProgress
from runtime import Actor, on

BEAT_SECONDS = 0.001


class Lateness(msgspec.Struct, frozen=True):
    """What a window of beats showed, in milliseconds; ``start_max`` is the worst beat before the window began."""

    beats: int
    p50: float
    p99: float
    most: float
    start_max: float = 0.0
    slices: int = 0
    switch_interval_ms: float = 0.0


def lateness_of(late: list[float], *, start_max: float = 0.0, slices: int = 0) -> Lateness:
    """Seconds of lateness as figures."""
    in_order = sorted(late)
    return Lateness(
        beats=len(in_order),
        p50=in_order[len(in_order) // 2] * 1e3,
        p99=in_order[len(in_order) * 99 // 100] * 1e3,
        most=in_order[-1] * 1e3,
        start_max=start_max * 1e3,
        slices=slices,
        switch_interval_ms=sys.getswitchinterval() * 1e3,
    )


class Pulse:
    """Beats on the running loop until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.late: list[float] = []
        self._handle = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._due = self._handle.when()

    def _beat(self) -> None:
        self.late.append(self._loop.time() - self._due)
        self._handle = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._due = self._handle.when()

    def stop(self) -> list[float]:
        """No more beats; how late each was."""
        self._handle.cancel()
        return self.late


async def bare_loop(seconds: float) -> Lateness:
    """A loop on which nothing else happens."""
    pulse = Pulse()
    await asyncio.sleep(seconds)
    return lateness_of(pulse.stop())


def sleeping(seconds: float) -> Lateness:
    """No loop at all: a process that sleeps a millisecond again and again. What it shows is the machine's own."""
    late: list[float] = []
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        time.sleep(BEAT_SECONDS)
        late.append(time.monotonic() - now - BEAT_SECONDS)
    return lateness_of(late)


class HeartbeatSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[plugins.heartbeat]``.

    Attributes:
        out: an absolute path; the figures are there when the window is over.
        after_slices: slices of training before the window; with 0 it begins when the daemon has settled.
        settle_seconds: and so long after that.
        window_seconds: how long the window is.
    """

    out: str
    after_slices: Annotated[int, Meta(ge=0)] = 0
    settle_seconds: Annotated[float, Meta(ge=0)] = 3.0
    window_seconds: Annotated[float, Meta(gt=0)] = 10.0


def opened_file(out: Path) -> Path:
    """The file that appears when the window begins."""
    return out.with_suffix(".open")


class Heartbeat(Actor):
    """Beats in the daemon's loop. It does nothing per beat but look at the clock."""

    settings: HeartbeatSettings

    def __init__(self) -> None:
        self._pulse: Pulse | None = None
        self._slices = 0
        self._start_max = 0.0
        self._slices_before = 0
        self._later: asyncio.TimerHandle | None = None

    async def on_start(self) -> None:
        """Beat from the first moment on."""
        self._pulse = Pulse()
        if not self.settings.after_slices:
            self._soon()

    @on
    async def progressed(self, _: TrainingProgress) -> None:
        """A slice of training is done."""
        self._slices += 1
        if self._slices == self.settings.after_slices:
            self._soon()

    def _soon(self) -> None:
        self._later = asyncio.get_running_loop().call_later(self.settings.settle_seconds, self._open)

    def _open(self) -> None:
        assert self._pulse is not None, "it beats from the start"
        self._start_max = max(self._pulse.late, default=0.0)
        self._slices_before = self._slices
        opened_file(Path(self.settings.out)).touch()
        self._pulse.late.clear()
        self._later = asyncio.get_running_loop().call_later(self.settings.window_seconds, self._close)

    def _close(self) -> None:
        assert self._pulse is not None, "it beats from the start"
        figures = lateness_of(
            self._pulse.stop(), start_max=self._start_max, slices=self._slices - self._slices_before
        )  # fmt: skip
        out = Path(self.settings.out)
        beside = out.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(figures))
        beside.replace(out)

    async def on_stop(self) -> None:
        """Leave nothing behind on the loop."""
        if self._later is not None:
            self._later.cancel()
        if self._pulse is not None:
            self._pulse.stop()
