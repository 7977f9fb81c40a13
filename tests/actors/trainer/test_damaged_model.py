"""The Trainer with the real Checkpointer, and a merged model in force that is not what was committed: it waits."""

from __future__ import annotations

import random

import pytest

from actors.checkpointer import store as store_module
from actors.consolidator.model_manifest import manifest_of
from messages import (
    ActorStarted,
    AdapterBegun,
    AdapterNotBegun,
    BeginAdapter,
    CommitNight,
    HealModel,
    LeaveModels,
    ModelGivenUp,
    ModelHealed,
    ModelsLeft,
    ModelsNeeded,
    ModelsWanted,
    NightClosed,
    NightCommitted,
    StateWanted,
    TrainerBusy,
    TrainerReady,
    TrainerYielded,
    TrainingIdle,
    TrainingWaits,
    YieldTrainer,
)
from runtime import durable
from runtime.manifest import MANIFEST, FileEntry, table_digest
from runtime.simulation.disk import SimDisk
from tests.actors.stage import Stage
from tests.actors.trainer.test_trainer import FILES, House, accepted, until_idle
from tools.simulated_house.engine import Weights, fresh, lines_of_file, steps_of, train

MODEL = "consolidated_models/n1"
ENTRIES = {"weights": FileEntry(6, durable.digest_of_bytes(b"merged"))}
DIGEST = table_digest(ENTRIES)


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "library_versions", lambda: {"nightfold": "0"})


def put_model(disk: SimDisk, weights: bytes = b"merged") -> None:
    durable.ensure_directory(disk, MODEL)
    disk.person_put(f"{MODEL}/weights", weights)
    disk.person_put(f"{MODEL}/{MANIFEST}", manifest_of((), "", (), ENTRIES))


async def _begins(stage: Stage) -> AdapterBegun | AdapterNotBegun:
    return await stage.system.ask(BeginAdapter(night="n1", model_path=MODEL, model_digest=DIGEST), timeout=60)


async def _a_night(stage: Stage) -> None:
    await until_idle(stage)
    assert isinstance(await stage.system.ask(YieldTrainer(night="n1"), timeout=60), TrainerYielded)
    begun = await _begins(stage)
    assert isinstance(begun, AdapterBegun)
    force = await stage.system.ask(StateWanted(), timeout=60)
    night = CommitNight(
        night="n1",
        due_date="2026-01-02",
        delta_generation=force.generation,
        model_path=MODEL,
        ticket=begun.ticket,
        state=begun.state,
        model_digest=DIGEST,
    )
    assert isinstance(await stage.system.ask(night, timeout=60), NightCommitted)
    await stage.tell(NightClosed(night="n1", committed=True))


def after_a_night() -> House:
    """A home whose daemon has stopped after a night; the second file has come since, and a bit has turned."""
    house = House({1: FILES[1]})
    put_model(house.disk)
    house.stage().play(_a_night)
    house.drop(2, FILES[2])
    house.disk.corrupt(f"{MODEL}/weights", random.Random(1))
    return house


def learnt() -> Weights:
    chain = fresh("merged", "a0002", 0)
    for batch in steps_of(lines_of_file(FILES[2]), 0, durable.digest_of_bytes(FILES[2])):
        chain = train(chain, batch)
    return Weights(chain, "merged", 4)


def test_b9_nothing_damaged_reaches_the_engine_and_training_waits_until_it_is_healed() -> None:
    house = after_a_night()
    loads: list[str] = []
    house.deed = loads.append

    async def act(stage: Stage) -> None:
        wanted = await stage.hears(HealModel)
        assert (wanted.path, "other content" in wanted.why) == (MODEL, True)
        assert MODEL in (await stage.hears(TrainingWaits)).name
        await stage.rest(3600)
        assert (loads, stage.count(HealModel)) == ([], 1)
        busy = await stage.system.ask(YieldTrainer(night="n2"), timeout=60)
        assert isinstance(busy, TrainerBusy), "no night while nothing is loaded"
        put_model(house.disk)
        await stage.tell(ModelHealed(path=MODEL, anew=True, seconds=1.0))
        await until_idle(stage)

    house.stage().play(act)
    assert house.weights() == learnt()


def test_b9_the_next_trainer_finds_the_same_and_asks_for_itself() -> None:
    house = after_a_night()

    async def act(stage: Stage) -> None:
        stage.crash_over("trainer", TrainingIdle)
        await stage.hears(HealModel)
        await stage.tell(ActorStarted(actor="consolidator", incarnation=2))
        await stage.hears(HealModel, 2)  # whoever heals has begun anew, and has not heard of it
        put_model(house.disk)
        await stage.tell(ModelHealed(path=MODEL, anew=True, seconds=1.0))
        await until_idle(stage)
        await stage.tell(ModelHealed(path=MODEL, anew=False, seconds=0.0))  # the second answer finds nobody waiting
        await stage.rest(60)
        assert stage.count(TrainerReady) == 1

    house.stage().play(act)
    assert house.weights() == learnt()


def test_b9_given_up_it_goes_on_from_what_stands_on_another_model() -> None:
    house = after_a_night()

    async def act(stage: Stage) -> None:
        await stage.hears(HealModel)
        needed = await stage.system.ask(ModelsWanted(), timeout=60)
        assert isinstance(needed, ModelsNeeded)
        (model,) = needed.models
        assert (model.path, model.digest, model.in_force) == (MODEL, DIGEST, True)
        assert [delta.night for delta in model.deltas] == ["n1"]
        left = await stage.system.ask(LeaveModels(paths=(MODEL,)), timeout=60)
        assert isinstance(left, ModelsLeft)
        assert left.model_path == ""
        await stage.tell(ModelGivenUp(path=MODEL, code="NF-MERGE-050", why="test", instead=left.path))
        await until_idle(stage)
        assert (await stage.system.ask(LeaveModels(paths=(MODEL,)), timeout=60)) is not None

    house.stage().play(act)
    assert house.weights().base == "pristine"
    assert house.state().global_step == 10, "six before the night, four of the file that came since"
    assert house.disk.listdir("state/batches") == []


def test_b9_a_model_that_rots_before_its_first_adapter_refuses_the_night() -> None:
    house = House({1: FILES[1]})
    put_model(house.disk, b"merge!")

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        await stage.system.ask(YieldTrainer(night="n1"), timeout=60)
        begun = await _begins(stage)
        assert isinstance(begun, AdapterNotBegun)
        assert "other content" in begun.why
        await stage.tell(NightClosed(night="n1", committed=False))
        house.drop(2, FILES[2])
        await stage.tell(accepted(house.disk, "000002"))
        await until_idle(stage)

    house.stage().play(act)
    house.is_undisturbed({1: FILES[1], 2: FILES[2]})


def test_b8_a_model_made_by_an_earlier_version_has_no_digest_and_is_taken_as_it_is() -> None:
    house = House({1: FILES[1]})
    put_model(house.disk)
    house.disk.person_remove(f"{MODEL}/{MANIFEST}")

    async def night(stage: Stage) -> None:
        await until_idle(stage)
        await stage.system.ask(YieldTrainer(night="n1"), timeout=60)
        begun = await stage.system.ask(BeginAdapter(night="n1", model_path=MODEL), timeout=60)
        assert isinstance(begun, AdapterBegun)
        force = await stage.system.ask(StateWanted(), timeout=60)
        await stage.system.ask(CommitNight("n1", "", force.generation, MODEL, begun.ticket, begun.state), timeout=60)
        await stage.tell(NightClosed(night="n1", committed=True))

    house.stage().play(night)
    house.drop(2, FILES[2])

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        assert stage.count(HealModel) == 0

    house.stage().play(act)
    assert house.weights() == learnt()

    durable.remove(house.disk, MODEL)

    async def gone(stage: Stage) -> None:
        assert "gone" in (await stage.hears(HealModel)).why

    house.stage().play(gone)
