"""The reserve: made when there is room, released when there is none, and what is then still written."""

from __future__ import annotations

import zlib

import pytest

from actors.checkpointer import store as store_module
from actors.checkpointer.actor import Checkpointer, CheckpointerSettings
from actors.checkpointer.reserve import RESERVE, Reserve
from actors.disk_guard.actor import DiskGuard, DiskGuardSettings
from actors.disk_guard.forecast import FOLDER_BYTES, Keeps
from messages import (
    CommitFailed,
    CommitGeneration,
    CommitNight,
    DamageFound,
    DiskRecovered,
    DiskRunningLow,
    GenerationCommitted,
    LearningState,
    NightCommitted,
    ReserveMade,
    ReserveReleased,
    SpaceGranted,
    SpaceNeeded,
)
from runtime import Child, durable
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import NoSpace
from tests.actors.stage import Stage

SIZE = 20_000
WEIGHTS = 6000
HEAVY = 400_000


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "library_versions", lambda: {"nightfold": "0"})


def a_home(
    reserve_bytes: int = SIZE, minimum: int = 1000, base_bytes: int = 0, **settings: float
) -> tuple[Child, Child]:
    guard = DiskGuardSettings(free_bytes_min=minimum, measure_every_seconds=30)
    chosen = CheckpointerSettings(reserve_bytes=reserve_bytes, **settings)  # type: ignore[arg-type]
    keeps = Keeps(chosen.keep_generations, chosen.keep_nights)

    def make() -> DiskGuard:
        return DiskGuard(keeps, reserve_bytes=reserve_bytes, base_bytes=lambda: base_bytes)

    return (
        Child("disk_guard", DiskGuard, make=make, settings=guard),
        Child("checkpointer", Checkpointer, settings=chosen),
    )


async def commit(stage: Stage, step: int, size: int = WEIGHTS) -> None:
    ticket = stage.system.cloakroom.leave({"adapter_model.safetensors": bytes(size), "adapter_config.json": b"{}"})
    state = LearningState(global_step=step, adapter_step=step)
    await stage.tell(CommitGeneration(ticket=ticket, state=state, why="interval"))


async def committed(stage: Stage, step: int, size: int = WEIGHTS) -> GenerationCommitted:
    already = stage.count(GenerationCommitted)
    await commit(stage, step, size)
    return await stage.hears(GenerationCommitted, already + 1, within=60)


def fill(disk: SimDisk, free: int = 0) -> None:
    """Somebody else takes all but so much."""
    disk.capacity_bytes += free - disk.free_bytes()


def test_d3_its_bytes_are_many_do_not_compress_and_are_always_the_same() -> None:
    first, second = SimDisk(), SimDisk()
    for disk in (first, second):
        disk.person_mkdir("state")
        assert Reserve(disk, 3 * 1_000_001).make() == 3_000_003
        assert Reserve(disk, 3 * 1_000_001).make() == 0, "it lies there"
    data = first.read(RESERVE)
    assert data == second.read(RESERVE)
    assert len(data) == 3_000_003
    assert len(zlib.compress(data)) > len(data)


def test_d3_it_is_made_at_the_start_told_and_made_once() -> None:
    stage = Stage(*a_home()).play(lambda stage: stage.rest(1000))
    assert stage.heard(ReserveMade) == [ReserveMade(size_bytes=SIZE)]
    again = Stage(*a_home(), disk=stage.disk).play(lambda stage: stage.rest(1000))
    assert again.heard(ReserveMade) == []
    other = Stage(*a_home(reserve_bytes=5000), disk=stage.disk).play(lambda stage: stage.rest(1000))
    assert other.heard(ReserveMade) == [ReserveMade(size_bytes=5000)]
    assert len(stage.disk.read(RESERVE)) == 5000
    Stage(*a_home(reserve_bytes=0), disk=stage.disk).play(lambda stage: stage.rest(1000))
    assert stage.disk.stat(RESERVE) is None, "configured away"


def test_d3_it_is_not_made_where_it_would_not_leave_the_upper_mark() -> None:
    disk = SimDisk(capacity_bytes=SIZE + 1249)

    async def act(stage: Stage) -> None:
        await stage.rest(1000)
        assert disk.stat(RESERVE) is None
        disk.capacity_bytes += 1
        await stage.hears(ReserveMade, within=301)

    Stage(*a_home(), disk=disk).play(act)


def test_d3_running_low_releases_it_and_room_again_makes_it_once() -> None:
    stage = Stage(*a_home())
    disk = stage.disk

    async def act(stage: Stage) -> None:
        await stage.hears(ReserveMade)
        fill(disk, free=999)
        await stage.hears(ReserveReleased, within=31)
        assert disk.stat(RESERVE) is None
        assert disk.free_bytes() == 999 + SIZE
        await stage.rest(10_000)
        assert (stage.count(ReserveMade), stage.count(ReserveReleased)) == (1, 1), "it is not made and released in turn"
        assert stage.count(DiskRecovered) == 0
        assert [one.again for one in stage.heard(DiskRunningLow)] == [0, 1, 2]
        fill(disk, free=1250 + SIZE)
        await stage.hears(DiskRecovered, within=31)
        await stage.hears(ReserveMade, 2, within=5)
        assert disk.free_bytes() == 1250
        await stage.rest(10_000)
        assert (stage.count(ReserveMade), stage.count(ReserveReleased)) == (2, 1)

    stage.play(act)


def test_d3_d5_a_commit_on_a_full_disk_is_made_in_its_room() -> None:
    stage = Stage(*a_home(minimum=0))
    disk = stage.disk

    async def act(stage: Stage) -> None:
        await stage.hears(ReserveMade)
        await committed(stage, 1)
        fill(disk)
        assert (await committed(stage, 2)).global_step == 2
        assert stage.count(CommitFailed) == 0
        assert [one.size_bytes for one in stage.heard(ReserveReleased)] == [SIZE]
        assert [name for name in disk.tree() if durable.is_leftover(name.rpartition("/")[2])] == []
        # What was released is used up at last, and then the commit is refused and the one before is in force.
        step = 3
        while stage.count(CommitFailed) == 0:
            await commit(stage, step)
            await stage.rest(5)
            step += 1
        assert stage.heard(CommitFailed)[0].out_of_space
        assert stage.count(ReserveReleased) == 1

    stage.play(act)


def test_d3_a_disk_that_refuses_for_another_moment_gets_its_reserve_back_by_the_clock_after_a_commit() -> None:
    stage = Stage(*a_home(retry_deletes_every_seconds=300))
    refuses = True

    async def act(stage: Stage) -> None:
        nonlocal refuses
        await stage.hears(ReserveMade)
        stage.disk.faults = lambda _number, _operation, path: NoSpace() if refuses and "generations" in path else None
        await commit(stage, 1)
        await stage.hears(CommitFailed)
        assert stage.count(ReserveReleased) == 1
        await stage.rest(1000)
        assert stage.count(ReserveMade) == 1, "a file system that calls itself free and refuses would take it for ever"
        refuses = False
        await committed(stage, 2)
        await stage.hears(ReserveMade, 2, within=301)
        refuses = True
        await commit(stage, 3)
        await stage.hears(ReserveReleased, 2)
        await stage.hears(ReserveMade, 3, within=4000)
        assert stage.count(GenerationCommitted) == 1, "an hour later, though nothing was committed meanwhile"

    stage.play(act)


def test_d3_a_start_heals_head_on_a_full_disk() -> None:
    stage = Stage(*a_home())
    disk = stage.disk

    async def act(stage: Stage) -> None:
        await stage.hears(ReserveMade)
        for step in (1, 2):
            await committed(stage, step)

    stage.play(act)
    disk.person_put("state/generations/000002/adapter_config.json", b"not {}")
    fill(disk)
    again = Stage(*a_home(), disk=disk).play(lambda stage: stage.rest(5))
    assert again.count(ReserveReleased) == 1
    assert again.system.cells["checkpointer"].incarnation == 1
    assert b'"generation":1,' in disk.read("state/HEAD").replace(b" ", b"")


@pytest.mark.parametrize("kept_before", [1, 3, 9])
def test_d1_a_batch_that_was_granted_fits_into_what_was_forecast(kept_before: int) -> None:
    """The disk gets exactly what was forecast, and the batch has more checkpoints than retention keeps."""
    stage = Stage(*a_home(reserve_bytes=0, minimum=0, keep_generations=4, keep_snapshots=2))
    disk, least = stage.disk, [1 << 60]

    def measure(_number: int, _operation: str, _path: str) -> None:
        least[0] = min(least[0], disk.free_bytes())

    async def act(stage: Stage) -> None:
        for step in range(1, kept_before + 1):
            await committed(stage, step, HEAVY)
        await stage.rest(86_400)  # there is no snapshot of the new day yet
        granted = await stage.system.ask(SpaceNeeded(purpose="batch"), timeout=5)
        assert isinstance(granted, SpaceGranted)
        fill(disk, free=granted.needed_bytes)
        disk.faults = measure
        for step in range(kept_before + 1, kept_before + 12):
            await committed(stage, step, HEAVY)
        assert (stage.count(CommitFailed), stage.heard(DamageFound)) == (0, [])
        spare = 2 * (HEAVY + FOLDER_BYTES)
        assert 0 < least[0] < spare, "nor is more forecast than is needed, but for a generation to spare"

    stage.play(act)


def test_n5_a_night_that_was_granted_fits_into_what_was_forecast() -> None:
    stage = Stage(*a_home(reserve_bytes=0, minimum=0, keep_generations=2, base_bytes=5 * HEAVY))
    disk = stage.disk

    async def act(stage: Stage) -> None:
        for step in (1, 2, 3):
            done = await committed(stage, step, HEAVY)
        await stage.rest(86_400)
        granted = await stage.system.ask(SpaceNeeded(purpose="night"), timeout=5)
        assert isinstance(granted, SpaceGranted)
        fill(disk, free=granted.needed_bytes)
        # The merge, as the Consolidator has it made.
        disk.person_mkdir("consolidated_models")
        disk.person_mkdir("consolidated_models/20260102T030000")
        disk.person_put("consolidated_models/20260102T030000/weights", bytes(5 * HEAVY))
        files = {"adapter_model.safetensors": bytes(HEAVY), "adapter_config.json": b"{}"}
        night = CommitNight(
            night="20260102T030000",
            due_date="2026-01-02",
            delta_generation=done.generation,
            model_path="consolidated_models/20260102T030000",
            ticket=stage.system.cloakroom.leave(files),
            state=LearningState(global_step=3, adapter_id="a0002", base="20260102T030000"),
        )
        assert isinstance(await stage.system.ask(night, timeout=60), NightCommitted)
        assert stage.heard(DamageFound) == []
        assert disk.stat("snapshots/2026-01-02") is not None

    stage.play(act)
