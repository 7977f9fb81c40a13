"""The DiskGuard: measures free space, forecasts what work will write, grants and refuses. It owns no file.

What it counts as free is what the file system calls free, less what a spent reserve (``state/RESERVE``, the
Checkpointer's) is owed. A reserve that lies there takes up space like any file and is not free. One that was released
is free to the file system, but it is there for status and HEAD: were it counted, the release itself would end the
alarm, training would eat it, and it would be made only to be released again. So neither release nor renewal changes
what is counted as free, and when that is enough there is room to renew it.

Guarantees: ``free_bytes_min`` is never granted away. Whoever was refused is granted only what leaves
``free_bytes_recovered``, and so is everybody while the alarm stands; so neither flutters. The alarm is raised once;
while it stands it is repeated every hour, marked as a repetition, for whoever began anew and has not heard it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from actors.disk_guard.forecast import BYTES_A_PARAMETER, Forecast, Keeps, Lying, forecast, look
from messages import (
    DiskMeasured,
    DiskRecovered,
    DiskRunningLow,
    ReserveMade,
    ReserveReleased,
    SpaceGranted,
    SpaceNeeded,
    SpaceRefused,
    TrainerReady,
)
from runtime import Actor, every, on

REPEATED_AFTER_SECONDS = 3600.0
TOLD_AGAIN = 100
"""A figure that changes by more than a part in so many is told."""


class DiskGuardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[disk_guard]``: ``free_bytes_min`` must stay free whatever is granted.

    ``free_bytes_recovered`` ends an alarm or a refusal; left out, a quarter above the minimum.
    """

    free_bytes_min: Annotated[int, Meta(ge=0)] = 256 << 20
    free_bytes_recovered: Annotated[int, Meta(ge=0)] | None = None
    measure_every_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0

    def __post_init__(self) -> None:
        if self.recovered < self.free_bytes_min:
            raise ValueError("free_bytes_recovered: expected at least free_bytes_min")

    @property
    def recovered(self) -> int:
        """The upper mark."""
        if self.free_bytes_recovered is None:
            return self.free_bytes_min + self.free_bytes_min // 4
        return self.free_bytes_recovered


KEEPS = Keeps()


def no_base() -> int:
    """For a house in which nothing is merged."""
    return 0


class DiskGuard(Actor):
    """See the module.

    Args:
        keeps: what retention lets lie.
        reserve_bytes: what the Checkpointer's reserve is to hold.
        base_bytes: about how much a merged model takes, asked once the base is there; it may raise ``OSError``.
    """

    settings: DiskGuardSettings
    sends = (DiskMeasured,)

    def __init__(
        self, keeps: Keeps = KEEPS, *, reserve_bytes: int = 0, base_bytes: Callable[[], int] = no_base
    ) -> None:
        self._keeps = keeps
        self._reserve_bytes = reserve_bytes
        self._ask_base_bytes = base_bytes

    async def on_start(self) -> None:
        self._adapter_bytes = 0
        self._base_bytes = 0
        self._low = False
        self._low_told_at = 0.0
        self._times_told = 0
        self._refused: set[str] = set()
        self._told: DiskMeasured | None = None
        await self.measure()

    # What is known.

    @on
    async def loaded(self, ready: TrainerReady) -> None:
        """Before the first commit this says how large a generation will be; and the base is there to be measured."""
        self._adapter_bytes = ready.trainable * BYTES_A_PARAMETER
        self._base_bytes = await self.blocking(self._ask_base_bytes)
        await self.measure()

    async def _look(self) -> tuple[int, Lying, Forecast]:
        """What may be used, what lies there, and what is needed next."""
        today = self.clock.now().date().isoformat()
        lying = await self.blocking(lambda: look(self.disk, today))
        owed = max(0, self._reserve_bytes - lying.reserve_bytes)
        needs = forecast(lying, self._keeps, adapter_bytes=self._adapter_bytes, base_bytes=self._base_bytes)
        return lying.free_bytes - owed, lying, needs

    # Who may write.

    @on
    async def grant(self, request: SpaceNeeded) -> SpaceGranted | SpaceRefused:
        """Would it fit, with the minimum left over?"""
        if request.purpose == "night" and not self._base_bytes:
            self._base_bytes = await self.blocking(self._ask_base_bytes)
        free, _, needs = await self._look()
        # A reserve is owed already, so that it needs nothing more than that there is room again.
        forecasts = {"batch": needs.batch_bytes, "night": needs.night_bytes, "reserve": 0}
        need = request.need_bytes or forecasts.get(request.purpose, 0)
        recovered = self.settings.recovered
        waits_for_more = self._low or request.purpose in self._refused or request.purpose == "reserve"
        mark = recovered if waits_for_more else self.settings.free_bytes_min
        missing = need + mark - free
        if missing > 0:
            self._refused.add(request.purpose)
            # What is told is what ends the refusal.
            return SpaceRefused(max(0, free), needed_bytes=need, missing_bytes=need + recovered - free)
        self._refused.discard(request.purpose)
        return SpaceGranted(free, needed_bytes=need)

    # The alarm.

    @every("measure_every_seconds")
    async def measure(self) -> None:
        """Look, and raise or end the alarm."""
        free, lying, needs = await self._look()
        minimum = self.settings.free_bytes_min
        if self._low and free >= self.settings.recovered:
            self._low = False
            self._times_told = 0
            await self.send(DiskRecovered(free_bytes=free))
        elif free < minimum or self._low:
            await self._raise_alarm(max(0, free), minimum)
        needed = needs.batch_bytes + minimum
        await self._tell(
            DiskMeasured(
                free_bytes=max(0, free),
                needed_bytes=needed,
                ok=free >= needed,
                batch_bytes=needs.batch_bytes,
                night_bytes=needs.night_bytes,
                reserve_bytes=lying.reserve_bytes,
                low=self._low,
            )
        )

    async def _raise_alarm(self, free: int, minimum: int) -> None:
        now = self.clock.monotonic()
        if self._low and now - self._low_told_at < REPEATED_AFTER_SECONDS:
            return
        self._low = True
        self._low_told_at = now
        await self.send(DiskRunningLow(free_bytes=free, free_bytes_min=minimum, again=self._times_told))
        self._times_told += 1

    async def _tell(self, measured: DiskMeasured) -> None:
        if self._told is None or _differs(self._told, measured):
            self._told = measured
            await self.send(measured)

    @on
    async def reserve_changed(self, _: ReserveMade | ReserveReleased) -> None:
        """Told at once what lies in the reserve now."""
        await self.measure()


def _differs(old: DiskMeasured, new: DiskMeasured) -> bool:
    """By something that matters to whoever reads the status."""
    if (old.ok, old.low, old.reserve_bytes) != (new.ok, new.low, new.reserve_bytes):
        return True
    figures = ((old.free_bytes, new.free_bytes), (old.batch_bytes, new.batch_bytes), (old.night_bytes, new.night_bytes))
    return any(abs(after - before) > after // TOLD_AGAIN for before, after in figures)
