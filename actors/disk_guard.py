"""The DiskGuard: measures free space, forecasts what work will write, grants and refuses. It owns no file.

A forecast is learnt from what was really written: the newest generation's size for a batch, what the merger says for a
night. A reserve (``free_bytes_min``) is never granted away, so that status and HEAD can always be written.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from messages import (
    DiskMeasured,
    DiskRecovered,
    DiskRunningLow,
    GenerationCommitted,
    SpaceGranted,
    SpaceNeeded,
    SpaceRefused,
)
from runtime import Actor, durable, every, on

GENERATIONS = "state/generations"
GENERATIONS_AHEAD = 2
"""A batch needs room for the generation being written beside the one that retention has not taken yet."""
RECOVERED_AT = 1.25
"""Space counts as recovered with a quarter above the minimum, so that the alarm does not flutter."""


class DiskGuardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[disk_guard]``: ``free_bytes_min`` must stay free whatever is granted."""

    free_bytes_min: Annotated[int, Meta(ge=0)] = 256 << 20
    measure_every_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0


class DiskGuard(Actor):
    """See the module."""

    settings: DiskGuardSettings
    sends = (DiskMeasured,)

    async def on_start(self) -> None:
        self._generation_bytes = await self.blocking(self._newest_generation_bytes)
        self._low = False
        self._told: DiskMeasured | None = None
        await self.measure()

    def _newest_generation_bytes(self) -> int:
        """What an earlier run of the daemon wrote is the first forecast of this one."""
        if self.disk.stat(GENERATIONS) is None:
            return 0
        numbered = [name for name in self.disk.listdir(GENERATIONS) if name.isdigit()]
        return durable.size_of(self.disk, f"{GENERATIONS}/{max(numbered, key=int)}") if numbered else 0

    @on
    async def committed(self, done: GenerationCommitted) -> None:
        """Learn how large a generation is."""
        self._generation_bytes = done.size_bytes

    @on
    async def grant(self, request: SpaceNeeded) -> SpaceGranted | SpaceRefused:
        """Would it fit, with the reserve left over?"""
        need = request.need_bytes or self._forecast()
        free = await self._free()
        missing = need + self.settings.free_bytes_min - free
        if missing > 0:
            return SpaceRefused(free_bytes=free, needed_bytes=need, missing_bytes=missing)
        return SpaceGranted(free_bytes=free)

    @every("measure_every_seconds")
    async def measure(self) -> None:
        """Look, and raise or end the alarm."""
        free = await self._free()
        minimum = self.settings.free_bytes_min
        if not self._low and free < minimum:
            self._low = True
            await self.send(DiskRunningLow(free_bytes=free, free_bytes_min=minimum))
        elif self._low and free >= minimum * RECOVERED_AT:
            self._low = False
            await self.send(DiskRecovered(free_bytes=free))
        needed = self._forecast() + minimum
        measured = DiskMeasured(free_bytes=free, needed_bytes=needed, ok=free >= needed)
        changed_by = abs(free - self._told.free_bytes) if self._told else free + 1
        if self._told is None or measured.ok != self._told.ok or changed_by > free // 100:
            self._told = measured
            await self.send(measured)

    def _forecast(self) -> int:
        return GENERATIONS_AHEAD * self._generation_bytes

    async def _free(self) -> int:
        return await self.blocking(self.disk.free_bytes)
