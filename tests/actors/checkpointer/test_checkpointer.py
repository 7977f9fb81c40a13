"""The Checkpointer as an actor: what it says when it commits, is refused, finds damage, or cannot delete."""

from __future__ import annotations

import errno
import random
from datetime import timedelta

import pytest

from actors.checkpointer import store as store_module
from actors.checkpointer.actor import Checkpointer, CheckpointerSettings
from actors.checkpointer.store import Store
from messages import (
    CommitFailed,
    CommitFinally,
    CommitGeneration,
    CommitNight,
    DamageFound,
    DiskRunningLow,
    GenerationCommitted,
    LearningState,
    LeftoversSwept,
    NightCommitted,
    NightNotCommitted,
    PinRefused,
    PinSet,
    PinWanted,
    RetentionApplied,
    SnapshotKept,
    SpaceNeeded,
    SpaceRefused,
    StateInForce,
    StateWanted,
)
from runtime import Child, OperatorError
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import Fault, IoError, NoSpace
from tests.actors.stage import Stage, answering, fails_at

SECONDS = 30.0


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "library_versions", lambda: {"nightfold": "0"})


def checkpointer(**settings: float) -> Child:
    rarely = {"scrub_every_seconds": 3600.0, **settings}
    return Child("checkpointer", Checkpointer, settings=CheckpointerSettings(**rarely))  # type: ignore[arg-type]


NO_ROOM = answering("disk_guard", {SpaceNeeded: lambda _: SpaceRefused(free_bytes=0, needed_bytes=0, missing_bytes=1)})
"""Answers that there is no room for a reserve: these tests are of what is done without one."""


def leave(stage: Stage, step: int) -> str:
    return stage.system.cloakroom.leave(
        {"adapter_model.safetensors": b"weights %d" % step, "adapter_config.json": b"{}"}
    )


def request(ticket: str, step: int) -> CommitGeneration:
    return CommitGeneration(ticket=ticket, state=LearningState(global_step=step, adapter_step=step), why="interval")


async def commit(stage: Stage, step: int) -> GenerationCommitted:
    already = stage.count(GenerationCommitted)
    await stage.tell(request(leave(stage, step), step))
    return await stage.hears(GenerationCommitted, already + 1)


def test_a_commit_is_announced_with_what_it_holds_and_gives_the_snapshot_back() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        force = await stage.system.ask(StateWanted(), timeout=SECONDS)
        assert force == StateInForce(generation=0, path="", state=LearningState(), ledger=(), model_path="")
        done = await commit(stage, 7)
        assert (done.generation, done.path, done.why, done.global_step) == (
            1,
            "state/generations/000001",
            "interval",
            7,
        )
        assert done.size_bytes == sum(
            len(data)
            for path, data in stage.disk.tree().items()
            if path.startswith(done.path) and isinstance(data, bytes)
        )
        assert done.seconds > 0
        assert len(stage.system.cloakroom) == 0
        force = await stage.system.ask(StateWanted(), timeout=SECONDS)
        assert (force.generation, force.state.global_step) == (1, 7)

    stage.play(act)
    assert stage.heard(SnapshotKept) == [SnapshotKept(path="snapshots/2026-01-01", generation=1)]


def test_d2_one_snapshot_a_day_and_retention_is_told() -> None:
    stage = Stage(NO_ROOM, checkpointer(keep_generations=2, keep_snapshots=2))

    async def act(stage: Stage) -> None:
        for step in range(1, 7):
            await commit(stage, step)
            await stage.rest(timedelta(hours=12).total_seconds())

    stage.play(act)
    kept = [(one.path, one.generation) for one in stage.heard(SnapshotKept)]
    assert kept == [("snapshots/2026-01-01", 1), ("snapshots/2026-01-02", 3), ("snapshots/2026-01-03", 5)]
    assert stage.heard(DamageFound) == [], "a day that has its snapshot is not tried again"
    assert stage.disk.listdir("snapshots") == ["2026-01-02", "2026-01-03"]
    deleted = [path for one in stage.heard(RetentionApplied) for path in one.deleted]
    assert "snapshots/2026-01-01" in deleted
    assert len(stage.disk.listdir("state/generations")) in (2, 3)


def test_d2_a_pin_is_answered_when_it_holds_and_told_to_all_when_it_changes() -> None:
    stage = Stage(NO_ROOM, checkpointer(keep_generations=2))

    async def act(stage: Stage) -> None:
        await commit(stage, 1)
        for pinned, was in ((True, False), (True, True)):
            answer = await stage.system.ask(PinWanted(target="1", pinned=pinned), timeout=SECONDS)
            assert answer == PinSet("1", "generation", pinned, was)
        for step in range(2, 6):
            await commit(stage, step)
        assert stage.disk.listdir("state/generations") == ["000001", "000004", "000005"]
        refused = await stage.system.ask(PinWanted(target="2", pinned=True), timeout=SECONDS)
        assert isinstance(refused, PinRefused)
        assert refused.code == "NF-STATE-003"
        await stage.system.ask(PinWanted(target="1", pinned=False), timeout=SECONDS)
        assert stage.disk.stat("state/generations/000001") is not None
        await stage.rest(400.0)  # retention comes by the clock too
        assert stage.disk.listdir("state/generations") == ["000004", "000005"]

    stage.play(act)
    assert [one.pinned for one in stage.heard(PinSet)] == [True, False]


def test_d2_a_pin_that_the_disk_refuses_is_told() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        await commit(stage, 1)
        fails_at(stage.disk, 1, IoError())
        refused = await stage.system.ask(PinWanted(target="1", pinned=True), timeout=SECONDS)
        assert isinstance(refused, PinRefused)
        assert refused.code == "NF-DISK-003"
        answer = await stage.system.ask(PinWanted(target="1", pinned=True), timeout=SECONDS)
        assert answer == PinSet("1", "generation", True, False)

    stage.play(act)


@pytest.mark.parametrize(
    ("fault", "code", "full"), [(NoSpace(), "NF-DISK-001", True), (IoError(), "NF-DISK-003", False)]
)
def test_d5_a_refused_commit_is_news_and_the_same_ticket_commits_later(fault: Fault, code: str, full: bool) -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        await commit(stage, 1)
        ticket = leave(stage, 2)
        stage.disk.faults = lambda _number, operation, path: fault if "generations" in path else None
        await stage.tell(request(ticket, 2))
        failed = await stage.hears(CommitFailed)
        assert (failed.ticket, failed.code, failed.out_of_space) == (ticket, code, full)
        force = await stage.system.ask(StateWanted(), timeout=SECONDS)
        assert force.state.global_step == 1
        stage.disk.faults = None
        await stage.tell(request(ticket, 2))
        assert (await stage.hears(GenerationCommitted, 2)).ticket == ticket

    stage.play(act)
    assert stage.system.cells["checkpointer"].incarnation == 1
    assert len(stage.system.cloakroom) == 0


def test_a_commit_whose_snapshot_is_gone_says_so() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        await stage.tell(request("snapshot-99", 1))
        failed = await stage.hears(CommitFailed)
        assert (failed.code, failed.out_of_space) == ("NF-STATE-005", False)

    stage.play(act)


def test_a_last_commit_is_answered_and_told() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        ticket = leave(stage, 3)
        done = await stage.system.ask(
            CommitFinally(ticket=ticket, state=LearningState(global_step=3), why="stop"), timeout=SECONDS
        )
        assert isinstance(done, GenerationCommitted)
        assert await stage.hears(GenerationCommitted) == done
        assert done.why == "stop"

    stage.play(act)


def test_a_snapshot_that_cannot_be_written_does_not_fail_the_commit_and_is_tried_again() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        stage.disk.faults = lambda _number, _operation, path: NoSpace() if path.startswith("snapshots/.") else None
        await commit(stage, 1)
        told = await stage.hears(DamageFound)
        assert (told.what, told.instead) == ("snapshots/2026-01-01", "tried at the next commit")
        stage.disk.faults = None
        await commit(stage, 2)
        assert (await stage.hears(SnapshotKept)).generation == 2

    stage.play(act)


def test_b3_a_delete_that_fails_is_told_and_tried_again_by_the_clock() -> None:
    stage = Stage(NO_ROOM, checkpointer(keep_generations=2, retry_deletes_every_seconds=300))

    async def act(stage: Stage) -> None:
        stage.disk.faults = lambda _number, operation, _path: IoError() if operation == "rmdir" else None
        for step in range(1, 5):
            await commit(stage, step)
        told = await stage.hears(RetentionApplied)
        assert len(told.stuck) == 1
        assert told.deleted == ()
        stage.disk.faults = None
        already = stage.count(RetentionApplied)
        await stage.rest(301)
        healed = await stage.hears(RetentionApplied, already + 1)
        assert healed.stuck == ()
        assert len(healed.deleted) >= 1
        assert stage.disk.listdir("state/generations") == ["000003", "000004"]

    stage.play(act)


def test_d3_running_low_brings_retention_forward() -> None:
    stage = Stage(NO_ROOM, checkpointer(keep_generations=2))

    async def act(stage: Stage) -> None:
        stage.disk.faults = lambda _number, operation, _path: IoError() if operation == "rmdir" else None
        for step in range(1, 5):
            await commit(stage, step)
        stage.disk.faults = None
        already = stage.count(RetentionApplied)
        await stage.tell(DiskRunningLow(free_bytes=1, free_bytes_min=2))
        assert (await stage.hears(RetentionApplied, already + 1, within=5.0)).stuck == ()

    stage.play(act)


def _damaged() -> SimDisk:
    disk = SimDisk()

    async def act(stage: Stage) -> None:
        for step in (1, 2):
            await commit(stage, step)

    Stage(NO_ROOM, checkpointer(), disk=disk).play(act)
    disk.corrupt("state/generations/000002/adapter_model.safetensors", random.Random(0))
    return disk


def test_b1_damage_is_told_once_and_the_sound_one_is_in_force() -> None:
    disk = _damaged()

    async def act(stage: Stage) -> None:
        force = await stage.system.ask(StateWanted(), timeout=SECONDS)
        assert force.state.global_step == 1

    first = Stage(NO_ROOM, checkpointer(), disk=disk).play(act)
    told = first.heard(DamageFound)
    assert [(one.what, one.instead) for one in told] == [("state/generations/000002", "state/generations/000001")]
    assert first.heard(LeftoversSwept)[0].set_aside == ("state/generations/000002",)
    again = Stage(NO_ROOM, checkpointer(), disk=disk).play(act)
    assert again.heard(DamageFound) == []
    assert again.heard(LeftoversSwept) == []


def test_b1_damage_found_while_running_is_healed_on_the_spot() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        await commit(stage, 1)
        done = await commit(stage, 2)
        stage.disk.corrupt(f"{done.path}/adapter_model.safetensors", random.Random(0))
        force = await stage.system.ask(StateWanted(), timeout=SECONDS)
        assert force.state.global_step == 1
        assert (await stage.hears(DamageFound)).what == done.path
        assert stage.system.cells["checkpointer"].incarnation == 1

    stage.play(act)


def test_r2_nothing_sound_ends_the_daemon_with_78() -> None:
    disk = _damaged()
    for path in ("state/generations/000001", "snapshots/2026-01-01"):
        disk.corrupt(f"{path}/adapter_model.safetensors", random.Random(1))

    async def act(stage: Stage) -> None:
        await stage.rest(3600)

    with pytest.raises(OperatorError) as caught:
        Stage(NO_ROOM, checkpointer(), disk=disk).play(act)
    assert (caught.value.code, caught.value.exit_code) == ("NF-STATE-002", 78)


def test_d6_a_home_that_is_gone_or_read_only_ends_the_daemon_with_74(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        await stage.rest(3600)

    for number in (errno.EROFS, errno.ENOENT):

        def refuse(_: Store, number: int = number) -> None:
            raise OSError(number, "gone")

        monkeypatch.setattr(Store, "open", refuse)
        with pytest.raises(OperatorError) as caught:
            Stage(NO_ROOM, checkpointer()).play(act)
        assert (caught.value.code, caught.value.exit_code) == ("NF-DISK-002", 74)


async def _fold(stage: Stage, folded: int) -> NightCommitted | NightNotCommitted:
    return await stage.system.ask(
        CommitNight(
            night="20260101T030000",
            due_date="2026-01-01",
            delta_generation=folded,
            model_path="consolidated_models/20260101T030000",
            ticket=leave(stage, 9),
            state=LearningState(global_step=9, adapter_id="a0002", base="20260101T030000"),
        ),
        timeout=SECONDS,
    )


def test_n3_a_night_is_one_commit_told_to_all() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        await commit(stage, 9)
        done = await _fold(stage, 1)
        assert isinstance(done, NightCommitted)
        assert (done.generation, done.adapter_id, done.global_step) == (2, "a0002", 9)
        assert await stage.hears(NightCommitted) == done
        force = await stage.system.ask(StateWanted(), timeout=SECONDS)
        assert [delta.night for delta in force.ledger] == ["20260101T030000"]
        assert force.models_needed == ("consolidated_models/20260101T030000",)

    stage.play(act)


def test_n4_a_night_that_cannot_be_committed_leaves_yesterday() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        await commit(stage, 9)
        stage.disk.faults = lambda _number, operation, path: NoSpace() if path.endswith("state/HEAD") else None
        refused = await _fold(stage, 1)
        assert isinstance(refused, NightNotCommitted)
        assert "No space" in refused.why
        stage.disk.faults = None
        stale = await _fold(stage, 7)
        assert isinstance(stale, NightNotCommitted)
        assert "no longer in force" in stale.why
        force = await stage.system.ask(StateWanted(), timeout=SECONDS)
        assert (force.generation, force.ledger) == (1, ())
        assert isinstance(await _fold(stage, 1), NightCommitted)

    stage.play(act)


def test_a_night_whose_fresh_adapter_is_gone_is_not_committed() -> None:
    stage = Stage(NO_ROOM, checkpointer())

    async def act(stage: Stage) -> None:
        await commit(stage, 9)
        answer = await stage.system.ask(
            CommitNight(
                night="n", due_date="", delta_generation=1, model_path="m", ticket="none", state=LearningState()
            ),
            timeout=SECONDS,
        )
        assert answer == NightNotCommitted(why="the fresh adapter's snapshot is gone")

    stage.play(act)


def test_d3_a_commit_that_is_asked_for_twice_is_made_once_and_has_one_answer() -> None:
    """A Trainer that was refused asks again by the clock, and once more when the disk has recovered."""

    async def act(stage: Stage) -> None:
        wish = request(leave(stage, 1), 1)
        await stage.tell(wish, wish)
        await stage.hears(GenerationCommitted, 2)
        assert await stage.system.ask(StateWanted(), timeout=SECONDS)
        await stage.rest(5)

    stage = Stage(NO_ROOM, checkpointer()).play(act)
    first, again = stage.heard(GenerationCommitted)
    assert first == again
    assert stage.heard(CommitFailed) == []
    assert stage.disk.listdir("state/generations") == ["000001"]
