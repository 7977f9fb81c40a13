"""The DiskGuard: what it grants, what it forecasts, and an alarm that does not flutter."""

from __future__ import annotations

from actors.disk_guard import DiskGuard, DiskGuardSettings
from messages import (
    DiskMeasured,
    DiskRecovered,
    DiskRunningLow,
    GenerationCommitted,
    SpaceGranted,
    SpaceNeeded,
    SpaceRefused,
)
from runtime import Child
from runtime.simulation.disk import SimDisk
from tests.actors.stage import Stage

MINIMUM = 1000


def stage_of(capacity: int) -> Stage:
    settings = DiskGuardSettings(free_bytes_min=MINIMUM, measure_every_seconds=30)
    return Stage(Child("disk_guard", DiskGuard, settings=settings), disk=SimDisk(capacity_bytes=capacity))


def committed(size_bytes: int) -> GenerationCommitted:
    return GenerationCommitted(
        ticket="snapshot-1",
        generation=1,
        path="state/generations/000001",
        why="interval",
        global_step=1,
        adapter_id="a0001",
        adapter_step=1,
        size_bytes=size_bytes,
        seconds=0.1,
    )


async def ask(stage: Stage, need_bytes: int = 0) -> SpaceGranted | SpaceRefused:
    return await stage.system.ask(SpaceNeeded(purpose="batch", need_bytes=need_bytes), timeout=5)


def test_d1_the_reserve_is_never_granted_away() -> None:
    stage = stage_of(3000)

    async def act(stage: Stage) -> None:
        assert await ask(stage, 2000) == SpaceGranted(free_bytes=3000)
        assert await ask(stage, 2001) == SpaceRefused(free_bytes=3000, needed_bytes=2001, missing_bytes=1)
        assert await ask(stage, 9000) == SpaceRefused(free_bytes=3000, needed_bytes=9000, missing_bytes=7000)

    stage.play(act)


def test_d1_a_batch_is_forecast_from_the_newest_generation() -> None:
    stage = stage_of(3000)

    async def act(stage: Stage) -> None:
        assert await ask(stage) == SpaceGranted(free_bytes=3000), "nothing was written yet, so nothing is known"
        await stage.tell(committed(1000))
        assert await ask(stage) == SpaceGranted(free_bytes=3000), "two of a thousand, and the reserve"
        await stage.tell(committed(1001))
        assert await ask(stage) == SpaceRefused(free_bytes=3000, needed_bytes=2002, missing_bytes=2)
        await stage.tell(committed(10))
        assert await ask(stage) == SpaceGranted(free_bytes=3000)

    stage.play(act)


def test_d3_the_alarm_is_raised_once_and_ends_a_quarter_above() -> None:
    stage = stage_of(5000)
    disk = stage.disk

    async def act(stage: Stage) -> None:
        await stage.rest(1)
        assert stage.count(DiskRunningLow) == 0
        # Under the minimum, just over it, under it again: one alarm, and no word of recovery.
        for free in (999, 1000, 1249, 998):
            disk.capacity_bytes = free
            await stage.rest(61)
        assert stage.heard(DiskRunningLow) == [DiskRunningLow(free_bytes=999, free_bytes_min=MINIMUM)]
        assert stage.count(DiskRecovered) == 0
        disk.capacity_bytes = 1250
        await stage.rest(31)
        assert stage.heard(DiskRecovered) == [DiskRecovered(free_bytes=1250)]
        disk.capacity_bytes = 1000
        await stage.rest(31)
        assert stage.count(DiskRunningLow) == 1, "the minimum itself is enough"
        disk.capacity_bytes = 10
        await stage.rest(31)
        assert stage.count(DiskRunningLow) == 2

    stage.play(act)


def test_d3_a_disk_that_is_low_at_the_start_is_told_at_once() -> None:
    stage = stage_of(10)

    async def act(stage: Stage) -> None:
        assert await stage.hears(DiskRunningLow, within=5) == DiskRunningLow(free_bytes=10, free_bytes_min=MINIMUM)

    stage.play(act)


def test_a_measurement_is_told_when_it_matters() -> None:
    stage = stage_of(100_000)
    disk = stage.disk

    async def act(stage: Stage) -> None:
        first = DiskMeasured(free_bytes=100_000, needed_bytes=MINIMUM, ok=True)
        assert await stage.hears(DiskMeasured) == first
        disk.capacity_bytes = 99_500  # half a percent
        await stage.rest(301)
        assert stage.heard(DiskMeasured) == [first]
        disk.capacity_bytes = 90_000
        await stage.rest(31)
        assert stage.heard(DiskMeasured)[1:] == [DiskMeasured(free_bytes=90_000, needed_bytes=MINIMUM, ok=True)]
        # What is needed has grown: that it would not fit any more is told whatever the change.
        await stage.tell(committed(45_000))
        await stage.rest(31)
        assert stage.heard(DiskMeasured)[2:] == [DiskMeasured(free_bytes=90_000, needed_bytes=91_000, ok=False)]

    stage.play(act)
