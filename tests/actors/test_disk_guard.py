"""The DiskGuard: what it grants, what it forecasts, and alarms and refusals that do not flutter."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from actors.disk_guard.actor import DiskGuard, DiskGuardSettings
from actors.disk_guard.forecast import (
    BYTES_A_PARAMETER,
    FOLDER_BYTES,
    UNKNOWN_GENERATION_BYTES,
    Keeps,
    Lying,
    forecast,
)
from messages import (
    DiskMeasured,
    DiskRecovered,
    DiskRunningLow,
    ReserveReleased,
    SpaceGranted,
    SpaceNeeded,
    SpaceRefused,
    TrainerReady,
)
from runtime import Child
from runtime.simulation.disk import SimDisk
from tests.actors.stage import Stage

MINIMUM = 1000
RESERVE = "state/RESERVE"


def a_disk(capacity: int, folders: Mapping[str, int] | None = None) -> SimDisk:
    """A home in which folders of these sizes lie, and beside them so much is free."""
    disk = SimDisk()
    for folder in ("state", "state/generations", "state/deltas", "snapshots", "consolidated_models"):
        disk.person_mkdir(folder)
    for folder, size in (folders or {}).items():
        disk.person_mkdir(folder)
        disk.person_put(f"{folder}/weights", bytes(size))
    disk.capacity_bytes = capacity + sum((folders or {}).values())
    return disk


def stage_of(
    disk: SimDisk,
    *,
    reserve_bytes: int = 0,
    base_bytes: int = 0,
) -> Stage:
    settings = DiskGuardSettings(free_bytes_min=MINIMUM, measure_every_seconds=30)

    def make() -> DiskGuard:
        return DiskGuard(Keeps(1, 0), reserve_bytes=reserve_bytes, base_bytes=lambda: base_bytes)

    return Stage(Child("disk_guard", DiskGuard, make=make, settings=settings), disk=disk)


def ready(trainable: int) -> TrainerReady:
    return TrainerReady(
        device="cpu",
        dtype="float32",
        model="model",
        parameters=1,
        trainable=trainable,
        generation=0,
        global_step=0,
        adapter_id="a0001",
        adapter_step=0,
        base="",
    )


async def ask(stage: Stage, need_bytes: int = 0, purpose: str = "batch") -> SpaceGranted | SpaceRefused:
    return await stage.system.ask(SpaceNeeded(purpose=purpose, need_bytes=need_bytes), timeout=5)


# What is granted.


def test_d1_the_minimum_is_never_granted_away() -> None:
    stage = stage_of(a_disk(3000))

    async def act(stage: Stage) -> None:
        assert await ask(stage, 2000) == SpaceGranted(free_bytes=3000, needed_bytes=2000)
        assert await ask(stage, 2001) == SpaceRefused(free_bytes=3000, needed_bytes=2001, missing_bytes=251)
        assert await ask(stage, 9000) == SpaceRefused(free_bytes=3000, needed_bytes=9000, missing_bytes=7250)

    stage.play(act)


def test_d1_a_refusal_ends_at_the_upper_mark_and_with_the_bytes_that_were_said_to_be_missing() -> None:
    stage = stage_of(a_disk(3000))
    disk = stage.disk

    async def act(stage: Stage) -> None:
        refused = await ask(stage, 2001)
        assert isinstance(refused, SpaceRefused)
        disk.capacity_bytes += refused.missing_bytes - 1
        assert isinstance(await ask(stage, 2001), SpaceRefused), "more than the minimum would be left, and it waits"
        assert isinstance(await ask(stage, 2001, purpose="night"), SpaceGranted), "who was not refused is not waiting"
        disk.capacity_bytes += 1
        assert isinstance(await ask(stage, 2001), SpaceGranted)
        disk.capacity_bytes -= 200
        assert isinstance(await ask(stage, 2001), SpaceGranted), "granted once, the minimum counts again"

    stage.play(act)


def test_the_upper_mark_is_a_quarter_above_or_as_configured_and_never_the_lower() -> None:
    assert DiskGuardSettings(free_bytes_min=1000).recovered == 1250
    assert DiskGuardSettings(free_bytes_min=1000, free_bytes_recovered=1000).recovered == 1000
    with pytest.raises(ValueError, match="free_bytes_recovered"):
        msgspec.convert({"free_bytes_min": 1000, "free_bytes_recovered": 999}, DiskGuardSettings)


# What is forecast.

ONE = 5000 + FOLDER_BYTES


@pytest.mark.parametrize(
    ("lying", "batch", "night"),
    [
        # Steady: one being written beside those that are kept, and the spare one; today's snapshot is there.
        (Lying(0, 3, 5000, 5000, snapshot_today=True), 2 * ONE, 2 * ONE + 900 + FOLDER_BYTES),
        # A young home: all that retention will let lie.
        (Lying(0, 1, 5000, 5000, snapshot_today=True), 3 * ONE, 2 * ONE + 900 + FOLDER_BYTES),
        # The day's first commit is copied.
        (Lying(0, 3, 5000, 6000), 2 * ONE + 6000 + FOLDER_BYTES, 2 * ONE + 6000 + 900 + 2 * FOLDER_BYTES),
        # Nights will keep theirs from retention; the newest merged model is measured.
        (
            Lying(0, 3, 5000, 5000, snapshot_today=True, nights=7, model_bytes=70_000),
            5 * ONE,
            2 * ONE + 70_000 + FOLDER_BYTES,
        ),
    ],
)
def test_d1_n5_what_is_forecast_follows_from_what_lies_there(lying: Lying, batch: int, night: int) -> None:
    found = forecast(lying, Keeps(3, 2), adapter_bytes=1, base_bytes=900)
    assert (found.batch_bytes, found.night_bytes) == (batch, night)


def test_d1_before_the_first_commit_the_trainer_knows_how_large_a_generation_will_be() -> None:
    stage = stage_of(a_disk(1 << 30), base_bytes=700_000)

    async def act(stage: Stage) -> None:
        first = await stage.hears(DiskMeasured)
        assert first.batch_bytes == 3 * (UNKNOWN_GENERATION_BYTES + FOLDER_BYTES), "two generations and a snapshot"
        await stage.tell(ready(trainable=1_000_000))
        told = await stage.hears(DiskMeasured, 2)
        one = BYTES_A_PARAMETER * 1_000_000 + FOLDER_BYTES
        assert (told.batch_bytes, told.night_bytes) == (3 * one, 3 * one + 700_000 + FOLDER_BYTES)
        granted = await ask(stage, purpose="night")
        assert isinstance(granted, SpaceGranted)
        assert granted.needed_bytes == told.night_bytes

    stage.play(act)


def test_d1_the_newest_of_each_kind_is_measured_whatever_lies_half_done_beside_it() -> None:
    disk = a_disk(
        1 << 30,
        {
            "state/generations/999999": 10,
            "state/generations/1000000": 5000,
            "snapshots/2025-12-30": 10,
            "snapshots/2025-12-31": 6000,
            "consolidated_models/20260101T030000": 70_000,
        },
    )
    disk.person_mkdir("state/generations/.0123.part")
    disk.person_put("state/generations/.0123.part/weights", bytes(99))
    stage = stage_of(disk, base_bytes=1)

    async def act(stage: Stage) -> None:
        told = await stage.hears(DiskMeasured)
        assert told.batch_bytes == 2 * ONE + 6000 + FOLDER_BYTES
        assert told.night_bytes == 2 * ONE + 6000 + FOLDER_BYTES + 70_000 + FOLDER_BYTES

    stage.play(act)


# Alarms.


def test_d3_the_alarm_is_raised_once_and_ends_a_quarter_above() -> None:
    stage = stage_of(a_disk(5000))
    disk = stage.disk

    async def act(stage: Stage) -> None:
        await stage.rest(1)
        assert stage.count(DiskRunningLow) == 0
        # Under the minimum, just over it, under it again: one alarm, and no word of recovery.
        for free in (999, 1000, 1249, 998):
            disk.capacity_bytes = free
            await stage.rest(61)
            refused = await ask(stage, 1)
            assert isinstance(refused, SpaceRefused), "while it stands, nothing is granted below the upper mark"
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
        assert stage.heard(DiskRunningLow)[1:] == [DiskRunningLow(free_bytes=10, free_bytes_min=MINIMUM)]

    stage.play(act)


def test_d3_an_alarm_that_stands_is_repeated_every_hour_as_a_repetition() -> None:
    stage = stage_of(a_disk(10))

    async def act(stage: Stage) -> None:
        await stage.rest(3 * 3600 + 120)
        assert [one.again for one in stage.heard(DiskRunningLow)] == [0, 1, 2, 3]

    stage.play(act)


def test_d3_a_disk_that_is_low_at_the_start_is_told_at_once() -> None:
    stage = stage_of(a_disk(10))

    async def act(stage: Stage) -> None:
        assert await stage.hears(DiskRunningLow, within=5) == DiskRunningLow(free_bytes=10, free_bytes_min=MINIMUM)

    stage.play(act)


# The reserve.


def test_d3_a_reserve_that_is_released_is_not_free_and_one_that_is_made_takes_nothing_away() -> None:
    disk = a_disk(20_000)
    disk.person_put(RESERVE, bytes(5000))
    stage = stage_of(disk, reserve_bytes=5000)

    async def act(stage: Stage) -> None:
        assert (await stage.hears(DiskMeasured)).reserve_bytes == 5000
        assert await ask(stage, 1) == SpaceGranted(free_bytes=15_000, needed_bytes=1)
        disk.person_remove(RESERVE)
        await stage.tell(ReserveReleased(size_bytes=5000, why="test"))
        assert await stage.hears(DiskMeasured, 2) == msgspec.structs.replace(
            stage.heard(DiskMeasured)[0], reserve_bytes=0
        )
        assert await ask(stage, 1) == SpaceGranted(free_bytes=15_000, needed_bytes=1)
        disk.person_put(RESERVE, bytes(5000))
        assert await ask(stage, 1) == SpaceGranted(free_bytes=15_000, needed_bytes=1)

    stage.play(act)


def test_d3_the_release_itself_never_ends_the_alarm() -> None:
    disk = a_disk(5999)
    disk.person_put(RESERVE, bytes(5000))
    stage = stage_of(disk, reserve_bytes=5000)

    async def act(stage: Stage) -> None:
        await stage.hears(DiskRunningLow)
        disk.person_remove(RESERVE)
        await stage.rest(100)
        assert stage.count(DiskRecovered) == 0
        assert isinstance(await ask(stage, purpose="reserve"), SpaceRefused)
        disk.capacity_bytes = 6249
        assert isinstance(await ask(stage, purpose="reserve"), SpaceRefused)
        disk.capacity_bytes = 6250
        await stage.hears(DiskRecovered, within=31)
        assert isinstance(await ask(stage, purpose="reserve"), SpaceGranted), "with it, the upper mark is left"

    stage.play(act)


# What is told.


def test_a_measurement_is_told_when_it_matters() -> None:
    disk = a_disk(
        500_000, {"state/generations/000001": 1000, "state/generations/000002": 1000, "snapshots/2026-01-01": 0}
    )
    stage = stage_of(disk)
    need = 2 * (1000 + FOLDER_BYTES)

    async def act(stage: Stage) -> None:
        first = await stage.hears(DiskMeasured)
        assert (first.free_bytes, first.needed_bytes, first.batch_bytes) == (500_000, need + MINIMUM, need)
        assert (first.ok, first.low) == (True, False)
        disk.capacity_bytes -= 2500  # half a percent
        await stage.rest(301)
        assert stage.heard(DiskMeasured) == [first]
        disk.capacity_bytes -= 47_500
        await stage.rest(31)
        assert [one.free_bytes for one in stage.heard(DiskMeasured)[1:]] == [450_000]
        # What is needed has grown: that it would not fit any more is told whatever the change.
        disk.person_put("state/generations/000002/weights", bytes(200_000))
        disk.capacity_bytes += 199_000
        await stage.rest(31)
        [told] = stage.heard(DiskMeasured)[2:]
        assert (told.free_bytes, told.batch_bytes, told.ok) == (450_000, 2 * (200_000 + FOLDER_BYTES), False)

    stage.play(act)
