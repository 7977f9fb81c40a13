"""What an actor holds does not grow with the files, nights and crashes that it has seen.

A daemon lives for months. What is counted here is every entry of every container that an actor has: it must be the same
after a few files as after many.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from actors.checkpointer import store as store_module
from actors.inbox_watcher import actor as watcher_room
from actors.status_reporter import actor as reporter_room
from messages import (
    AdapterBegun,
    BatchAccepted,
    BatchClaimed,
    BatchFiled,
    BatchTrained,
    BeginAdapter,
    FileWithdrawn,
    NightClosed,
    Receipt,
    StepsTaken,
    TrainerReady,
    TrainerYielded,
    YieldTrainer,
)
from runtime import Actor
from runtime.simulation.disk import SimDisk
from tests.actors.inbox_watcher import test_inbox_watcher as inbox
from tests.actors.stage import Stage
from tests.actors.status_reporter import test_status_reporter as reporter
from tests.actors.trainer.test_trainer import House, examples, until_idle
from tests.actors.validator import test_validator as validator

FEW, MANY = 3, 25


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "library_versions", lambda: {"nightfold": "0"})


def instance_of(stage: Stage, name: str) -> Actor:
    found = stage.system.cells[name].instance
    assert found is not None
    return found


def held(actor: Actor) -> dict[str, int]:
    """How many entries each container has that the actor holds."""
    containers: dict[str, Any] = {
        name: value for name, value in vars(actor).items() if isinstance(value, dict | list | set | deque | tuple)
    }
    return {name: len(value) for name, value in containers.items()}


def test_a_trainer_holds_no_more_after_many_files_than_after_few() -> None:
    def after(count: int) -> dict[str, int]:
        house = House({number: examples(f"file {number}", 3) for number in range(1, count + 1)})
        found: dict[str, int] = {}

        async def act(stage: Stage) -> None:
            await until_idle(stage)
            found.update(held(instance_of(stage, "trainer")))

        house.stage(checkpoint_every_steps=1).play(act)
        return found

    assert after(MANY) == after(FEW)
    assert after(FEW)["_filed"] <= 1


def test_a_trainer_does_not_remember_files_that_it_never_had() -> None:
    house = House({})

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        for number in range(MANY):
            await stage.tell(BatchFiled(batch=f"{number:06d}", name="bad.jsonl", folder="rejected", path="p"))
        await stage.rest(1)
        assert not any(held(instance_of(stage, "trainer")).values())

    house.stage().play(act)


def test_what_a_trainer_still_knows_of_filed_files_is_enough_to_stop_without_another_commit() -> None:
    house = House({number: examples(f"file {number}", 3) for number in range(1, MANY + 1)})
    heads: list[bytes] = []

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        heads.append(house.disk.read("state/HEAD"))

    house.stage(checkpoint_every_steps=1).play(act)
    assert house.disk.read("state/HEAD") == heads[0]
    assert len(house.state().unfiled) <= 1, "each commit forgets what was filed before it"


@pytest.mark.parametrize("after", [False, True])
def test_snapshots_of_a_trainer_that_crashed_do_not_stay(after: bool) -> None:
    house = House({1: examples("a", 30)})

    async def act(stage: Stage) -> None:
        await stage.hears(TrainerReady)
        stage.crash_over("trainer", StepsTaken, 4, after=after)
        await until_idle(stage)
        assert len(stage.system.cloakroom) == 0

    house.stage(checkpoint_every_steps=1).play(act)
    house.is_undisturbed({1: examples("a", 30)})


def test_the_adapter_of_a_night_that_was_refused_does_not_stay() -> None:
    house = House({1: examples("a", 8)})
    house.disk.person_mkdir("consolidated_models")
    house.disk.person_mkdir("consolidated_models/n1")
    house.disk.person_put("consolidated_models/n1/weights", b"merged")

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        for _ in range(FEW):
            assert isinstance(await stage.system.ask(YieldTrainer(night="n1"), timeout=60), TrainerYielded)
            begun = await stage.system.ask(BeginAdapter(night="n1", model_path="consolidated_models/n1"), timeout=60)
            assert isinstance(begun, AdapterBegun)
            assert len(stage.system.cloakroom) == 1, "the Checkpointer would look for it here"
            await stage.tell(NightClosed(night="n1", committed=False))
            await stage.rest(5)
        assert len(stage.system.cloakroom) == 0

    house.stage().play(act)


def test_an_inbox_watcher_holds_no_more_after_many_files_than_after_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_room, "TAKEN_BACK_KEPT", 2)

    def after(count: int) -> dict[str, int]:
        stage = inbox.stage_of(*(f"{number}.jsonl" for number in range(3 * count)), claims_max=3)
        found: dict[str, int] = {}

        async def act(stage: Stage) -> None:
            for number in range(1, 3 * count, 3):
                gone, bad, good = [await _claimed(stage, number + each) for each in range(3)]
                await stage.tell(inbox.died(BatchClaimed, "validator"))
                await stage.tell(inbox.accepted(gone), inbox.accepted(bad), inbox.accepted(good))
                await stage.rest(1)
                stage.disk.person_remove(gone.path)
                await stage.hears(FileWithdrawn, number // 3 + 1)
                await stage.tell(inbox.rejected(bad), inbox.trained(good))
                await stage.hears(BatchFiled, 2 * (number // 3 + 1))
                await stage.tell(inbox.accepted(good))  # what was said before a crash may come late
            await stage.rest(5)
            found.update(held(instance_of(stage, "inbox_watcher")))

        stage.play(act)
        return found

    few = after(FEW)
    assert after(MANY) == few
    assert few["_taken_back"] == 2


async def _claimed(stage: Stage, number: int) -> BatchClaimed:
    while True:
        for claimed in stage.heard(BatchClaimed):
            if claimed.batch == f"{number:06d}":
                return claimed
        await stage.rest(0.5)


def test_an_inbox_watcher_says_which_claimed_file_was_taken() -> None:
    stage = inbox.stage_of("a.jsonl")

    async def act(stage: Stage) -> None:
        claimed = await stage.hears(BatchClaimed)
        stage.disk.person_remove(claimed.path)
        assert await stage.hears(FileWithdrawn) == FileWithdrawn(name="a.jsonl", batch=claimed.batch)

    stage.play(act)


def test_a_validator_forgets_a_batch_that_a_person_took() -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(validator.CLAIM)
        await stage.hears(BatchAccepted)
        assert held(instance_of(stage, "validator"))["_accepted"] == 1
        await stage.tell(FileWithdrawn(name="another.jsonl"))
        await stage.rest(1)
        assert held(instance_of(stage, "validator"))["_accepted"] == 1
        await stage.tell(FileWithdrawn(name="a.jsonl", batch=validator.CLAIM.batch))
        await stage.rest(1)
        assert held(instance_of(stage, "validator"))["_accepted"] == 0

    validator.stage_of(validator.home(validator.GOOD)).play(act)


def test_a_status_reporter_forgets_what_it_said_of_batches_that_are_never_filed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporter_room, "SAID_KEPT", FEW)
    receipt = Receipt("1", "a", "d", 1, 1, 1, 0, 1, "a0001", 1, 0, 0, None, None, 1.0)

    async def act(stage: Stage) -> None:
        for number in range(MANY):
            await stage.tell(BatchTrained(batch=f"{number:06d}", name="a.jsonl", receipt=receipt))
        await stage.rest(5)
        assert held(instance_of(stage, "status_reporter"))["_said"] == FEW

    reporter.stage_of(SimDisk()).play(act)
