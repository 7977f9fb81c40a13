"""The Consolidator as an actor: when a night begins, and what is left behind when one does not come to its end."""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from actors.consolidator.actor import Consolidator, ConsolidatorSettings, worse
from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from messages import (
    AdapterBegun,
    AdapterNotBegun,
    BeginAdapter,
    CommitNight,
    ConsolidateNow,
    DamageHealed,
    Delta,
    HeldOutLoss,
    InboxSurveyed,
    LearningState,
    LeaveModels,
    MergedModel,
    Message,
    ModelsLeft,
    ModelsNeeded,
    ModelsWanted,
    NightClosed,
    NightCommitted,
    NightFinished,
    NightNotCommitted,
    NightRefused,
    NightStarted,
    NightVerified,
    NoOtherModel,
    Question,
    RetentionApplied,
    SpaceGranted,
    SpaceNeeded,
    SpaceRefused,
    StateInForce,
    StateWanted,
    TrainerBusy,
    TrainerYielded,
    TrainingIdle,
    YieldTrainer,
)
from runtime import Child, durable
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import NoSpace
from tests.actors.stage import Reply, Stage, answering

HOUR = 3600.0
DAY = 24 * HOUR
EMPTY = InboxSurveyed(waiting=(), waiting_count=0, unready=(), ignored=(), claimed=())
EVENING = datetime(2026, 1, 4, 20, tzinfo=UTC)
Answers = dict[type[Question[Any]], Reply]


@dataclass
class House:
    """Everybody whom the Consolidator asks, and a merger that does as it is told."""

    disk: SimDisk = field(default_factory=SimDisk)
    force: StateInForce = field(
        default_factory=lambda: StateInForce(
            generation=7,
            path="state/generations/000007",
            state=LearningState(global_step=70, adapter_step=70, learning_since="2026-01-04T10:00:00+00:00"),
            ledger=(),
            model_path="",
        )
    )
    asked: list[Message] = field(default_factory=list)
    merges: list[MergeRequest] = field(default_factory=list)
    busy: str = ""
    free: bool = True
    merge_seconds: float = 60.0
    outcome: MergeDone | MergeRefused | Exception = field(default_factory=lambda: MergeDone(3, 100, 0.5, 60.0))
    began: AdapterNotBegun | None = None
    committed: NightNotCommitted | Callable[[], Any] | None = None
    learn_after: bool = False
    yielded: str = ""
    needed: tuple[MergedModel, ...] = ()
    left: ModelsLeft | NoOtherModel = field(default_factory=lambda: NoOtherModel(why="nothing else is kept"))
    on: Stage = field(init=False)

    def children(self, **settings: Any) -> tuple[Child, ...]:
        trainer = answering("trainer", {YieldTrainer: self._yield, BeginAdapter: self._begin})
        guard = answering("disk_guard", {SpaceNeeded: self._space})
        answers: Answers = {StateWanted: self._state, CommitNight: self._commit}
        checkpointer = answering("checkpointer", {**answers, ModelsWanted: self._models, LeaveModels: self._leave})
        made = ConsolidatorSettings(**settings)
        consolidator = Child("consolidator", Consolidator, make=lambda: Consolidator(lambda: self), settings=made)
        return (guard, checkpointer, trainer, consolidator)

    def stage(self, *, epoch: datetime = EVENING, zone: Any = UTC, **settings: Any) -> Stage:
        self.on = Stage(*self.children(**settings), disk=self.disk, epoch=epoch, zone=zone)
        return self.on

    def count(self, kind: type[Message]) -> int:
        return sum(isinstance(one, kind) for one in self.asked)

    # The merger.

    def forecast_bytes(self) -> int:
        return 1000

    async def merge(self, request: MergeRequest) -> MergeDone | MergeRefused:
        self.merges.append(request)
        self.disk.mkdir(request.out)
        self.disk.close(self.disk.create(f"{request.out}/weights"))
        await asyncio.sleep(self.merge_seconds)
        if isinstance(self.outcome, MergeDone):
            return self.outcome
        if isinstance(self.outcome, Exception):
            raise self.outcome  # and what it wrote is left for the next start, or the next night
        durable.remove(self.disk, request.out)
        return self.outcome

    # Those who answer.

    def _state(self, question: StateWanted) -> StateInForce:
        self.asked.append(question)
        return self.force

    def _yield(self, question: YieldTrainer) -> TrainerYielded | TrainerBusy:
        self.asked.append(question)
        if self.busy:
            return TrainerBusy(why=self.busy)
        self.yielded = question.night
        return TrainerYielded(state=self.force.state)

    def _begin(self, question: BeginAdapter) -> AdapterBegun | AdapterNotBegun:
        self.asked.append(question)
        if self.began is not None:
            return self.began
        fresh = replace(
            self.force.state, adapter_id="a0002", adapter_step=0, base=question.night, learning_since=None
        )  # fmt: skip
        return AdapterBegun(state=fresh, ticket="snapshot-1")

    def _space(self, question: SpaceNeeded) -> SpaceGranted | SpaceRefused:
        self.asked.append(question)
        assert question == SpaceNeeded(purpose="night")
        return SpaceGranted(free_bytes=5000) if self.free else SpaceRefused(10, 1000, 990)

    async def _commit(self, question: CommitNight) -> NightCommitted | NightNotCommitted:
        self.asked.append(question)
        if isinstance(self.committed, NightNotCommitted):
            return self.committed
        if self.committed is not None:
            await self.committed()
        delta = Delta(question.night, f"state/deltas/{question.night}", "d", question.due_date, 70, 7)
        generation = self.force.generation + 1
        state = question.state
        if self.learn_after:
            state = replace(state, adapter_step=1, learning_since=self.on.system.clock.now().isoformat())
        self.force = StateInForce(
            generation=generation,
            path=f"state/generations/{generation:06d}",
            state=state,
            ledger=(*self.force.ledger, delta),
            model_path=question.model_path,
            models_needed=(question.model_path,),
        )
        done = NightCommitted(
            night=question.night,
            generation=generation,
            model_path=question.model_path,
            global_step=70,
            adapter_id="a0002",
        )
        await self.on.tell(done)
        return done

    def _models(self, _: ModelsWanted) -> ModelsNeeded:
        return ModelsNeeded(models=self.needed, base_fingerprint="blake3:base")

    def _leave(self, question: LeaveModels) -> ModelsLeft | NoOtherModel:
        self.asked.append(question)
        return self.left

    def models(self) -> list[str]:
        return self.disk.listdir("consolidated_models")


def test_a_night_runs_at_its_hour_in_its_order_and_once() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.rest(6.9 * HOUR)
        assert stage.count(NightStarted) == 0
        await stage.rest(DAY)

    stage = house.stage().play(act)
    (started,) = stage.heard(NightStarted)
    night = started.night
    assert night.startswith("20260105T0300")
    assert (started.due_date, started.deltas) == ("2026-01-05", 1)
    staged = house.merges[0].out
    wanted = MergeRequest(deltas=("state/generations/000007",), out=staged, last_base="", nights=(night,))
    assert house.merges == [wanted]
    assert staged.startswith("consolidated_models/.")
    model = f"consolidated_models/{night}"
    assert stage.heard(NightVerified) == [
        NightVerified(night=night, tensors=3, max_logit_difference=0.5, seconds=60.0)
    ]  # fmt: skip
    asked = [one for one in house.asked if isinstance(one, BeginAdapter | CommitNight)]
    assert asked[0] == BeginAdapter(night=night, model_path=model)
    assert isinstance(asked[1], CommitNight)
    assert (asked[1].due_date, asked[1].delta_generation, asked[1].model_path) == ("2026-01-05", 7, model)
    assert asked[1].state.adapter_id == "a0002"
    (finished,) = stage.heard(NightFinished)
    assert finished.model_path == model
    assert 60 <= finished.seconds < 62
    assert stage.heard(NightClosed)[-1] == NightClosed(night=night, committed=True)
    assert house.models() == [night]


def test_the_second_night_merges_every_delta_from_the_pristine_base() -> None:
    house = House(learn_after=True)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.hears(NightFinished, 2, within=3 * DAY)

    house.stage().play(act)
    second = house.merges[1]
    assert second.deltas == (house.force.ledger[0].path, "state/generations/000008")
    assert second.last_base == f"consolidated_models/{house.force.ledger[0].night}"
    # The first night's model is needed by nothing any more.
    assert house.models() == [house.force.ledger[1].night]


def test_n1_a_night_waits_until_training_is_idle_and_then_runs_the_same_date() -> None:
    house = House(busy="a batch is in training")

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.rest(10 * HOUR + 300)  # far from any look by the clock
        assert house.count(YieldTrainer) > 10
        assert house.merges == []
        house.busy = ""
        await stage.tell(TrainingIdle(global_step=70))
        assert (await stage.hears(NightStarted, within=5)).due_date == "2026-01-05"

    house.stage(look_every_seconds=600).play(act)


@pytest.mark.parametrize(
    "inbox",
    [
        replace(EMPTY, waiting=("a",), waiting_count=1),
        replace(EMPTY, claimed=("a",)),
        replace(EMPTY, unready=("a",)),
    ],
    ids=["waiting", "claimed", "unready"],
)
def test_n1_a_night_waits_until_the_inbox_is_empty(inbox: InboxSurveyed) -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.tell(inbox)
        await stage.rest(10 * HOUR)
        assert house.count(YieldTrainer) == 0
        await stage.tell(replace(EMPTY, ignored=("README",)))
        assert (await stage.hears(NightStarted, within=60)).due_date == "2026-01-05"

    house.stage().play(act)


def test_no_night_before_the_inbox_was_looked_at() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.rest(10 * HOUR)
        await stage.tell(ConsolidateNow())
        await stage.rest(HOUR)

    house.stage().play(act)
    assert house.count(YieldTrainer) == 0


def test_nightly_off_leaves_nights_to_people() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.rest(3 * DAY)
        assert house.merges == []
        await stage.tell(ConsolidateNow())
        await stage.hears(NightFinished)

    stage = house.stage(nightly=False).play(act)
    # It was owed too, so it counts for its date.
    assert stage.heard(NightStarted)[0].due_date == "2026-01-07"


def test_a_night_by_hand_runs_at_once_and_leaves_the_date_its_own() -> None:
    house = House(learn_after=True)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.tell(ConsolidateNow())
        assert (await stage.hears(NightStarted, within=5)).due_date == ""
        assert (await stage.hears(NightStarted, 2, within=DAY)).due_date == "2026-01-05"

    house.stage().play(act)


def test_a_night_by_hand_waits_for_its_turn_and_is_not_forgotten() -> None:
    house = House(busy="a batch is in training")

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY, ConsolidateNow())
        await stage.rest(HOUR)
        house.busy = ""
        await stage.hears(NightFinished)
        await stage.rest(HOUR)

    stage = house.stage().play(act)
    assert stage.count(NightStarted) == 1


def test_n9_nothing_learnt_no_night_and_no_file() -> None:
    house = House()
    house.force = replace(house.force, state=replace(house.force.state, adapter_step=0, learning_since=None))

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.rest(0)
        before, operations = house.disk.tree(), house.disk.operations
        await stage.rest(5 * DAY)
        assert (stage.count(NightStarted), stage.count(NightRefused)) == (0, 0)
        assert (house.disk.tree(), house.disk.operations) == (before, operations)
        assert (house.merges, house.count(YieldTrainer)) == ([], 0)
        await stage.tell(ConsolidateNow())
        assert (await stage.hears(NightRefused)).code == "NF-MERGE-040"
        await stage.rest(DAY)
        assert (stage.count(NightRefused), house.count(YieldTrainer)) == (1, 0)

    house.stage().play(act)


def test_n5_a_night_that_would_not_fit_is_refused_and_the_trainer_goes_on() -> None:
    house = House(free=False)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        refused = await stage.hears(NightRefused, within=DAY)
        assert (refused.code, refused.why) == ("NF-DISK-001", "990 bytes more must be free for the merge")
        await stage.rest(1)
        assert stage.heard(NightClosed)[-1] == NightClosed(night=refused.night, committed=False)
        assert house.merges == []
        # The next day there is room.
        house.free = True
        await stage.hears(NightFinished, within=2 * DAY)

    house.stage().play(act)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (MergeRefused("NF-MERGE-001", "not in time"), "NF-MERGE-001"),
        (MergeRefused("NF-MERGE-030", "held-out loss is worse"), "NF-MERGE-030"),
        (OSError(errno.ENOSPC, "full"), "NF-DISK-001"),
        (OSError(errno.EIO, "bad"), "NF-DISK-003"),
    ],
)
def test_n7_n10_a_refused_merge_leaves_yesterday_and_is_tried_again_later(
    outcome: MergeRefused | OSError, code: str
) -> None:
    house = House(outcome=outcome)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        refused = await stage.hears(NightRefused, within=DAY)
        assert refused.code == code
        await stage.rest(1)
        assert stage.heard(NightClosed)[-1].committed is False
        assert (house.count(BeginAdapter), house.count(CommitNight)) == (0, 0)
        assert house.force.generation == 7
        await stage.rest(19 * HOUR)
        assert len(house.merges) == 1, "not again and again"
        house.outcome = MergeDone(3, 100, 0.5, 60.0)
        await stage.hears(NightFinished, within=DAY)
        await stage.rest(5)
        assert house.models() == [house.force.ledger[0].night]

    house.stage(retry_after_seconds=20 * HOUR).play(act)


def measured(merged: float, adapter: float) -> MergeDone:
    return MergeDone(3, 100, 0.5, 60.0, held_out=HeldOutLoss(4, 90, merged, adapter, yesterday=3.0))


def test_n10_a_merged_model_that_is_worse_on_held_out_text_is_refused_with_both_figures_and_the_adapter_kept() -> None:
    house = House(outcome=measured(merged=1.75, adapter=1.5))

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        refused = await stage.hears(NightRefused, within=DAY)
        assert refused.code == "NF-MERGE-032"
        assert "loss is 1.7500" in refused.why
        assert "adapter 1.5000; it may be 0.1 more" in refused.why
        assert refused.held_out == HeldOutLoss(4, 90, 1.75, 1.5, 3.0)
        await stage.rest(1)
        assert stage.heard(NightClosed)[-1].committed is False
        assert (stage.count(NightVerified), house.count(BeginAdapter), house.count(CommitNight)) == (0, 0, 0)
        assert (house.models(), house.force.generation) == ([], 7)
        await stage.rest(19 * HOUR)
        assert len(house.merges) == 1, "not again and again"
        house.outcome = measured(merged=1.5625, adapter=1.5)
        await stage.hears(NightFinished, within=DAY)
        [verified] = stage.heard(NightVerified)
        assert verified.held_out == HeldOutLoss(4, 90, 1.5625, 1.5, 3.0)

    house.stage(retry_after_seconds=20 * HOUR, held_out_tolerance=0.1).play(act)


@pytest.mark.parametrize(
    ("found", "refused"),
    [
        (None, False),
        (HeldOutLoss(1, 1, merged=1.0, adapter=1.0, yesterday=0.5), False),
        (HeldOutLoss(1, 1, merged=0.5, adapter=1.0, yesterday=1.0), False),
        (HeldOutLoss(1, 1, merged=1.125, adapter=1.0, yesterday=2.0), False),
        (HeldOutLoss(1, 1, merged=1.25, adapter=1.0, yesterday=2.0), True),
        (HeldOutLoss(1, 1, merged=math.nan, adapter=1.0, yesterday=2.0), True),
        (HeldOutLoss(1, 1, merged=math.inf, adapter=1.0, yesterday=2.0), True),
    ],
    ids=["nothing held out", "a day that forgot", "better", "within", "worse", "not a number", "not finite"],
)
def test_n10_the_gate_compares_with_what_is_in_force_and_with_nothing_else(
    found: HeldOutLoss | None, refused: bool
) -> None:
    assert bool(worse(found, 0.125)) is refused


def test_a_person_need_not_wait_after_a_refusal() -> None:
    house = House(outcome=MergeRefused("NF-MERGE-001", "not in time"))

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.hears(NightRefused, within=DAY)
        house.outcome = MergeDone(3, 100, 0.5, 60.0)
        await stage.tell(ConsolidateNow())
        assert (await stage.hears(NightStarted, 2, within=5)).due_date == "2026-01-05"

    house.stage().play(act)


def test_a_fresh_adapter_that_cannot_begin_leaves_yesterday() -> None:
    house = House(began=AdapterNotBegun(why="the merged model does not load"))

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        refused = await stage.hears(NightRefused, within=DAY)
        assert (refused.code, refused.why) == ("NF-MERGE-041", "the merged model does not load")
        await stage.rest(1)
        assert stage.heard(NightClosed)[-1].committed is False
        assert house.count(CommitNight) == 0

    house.stage().play(act)


def test_n4_head_that_cannot_be_moved_leaves_yesterday_and_the_next_try_merges_anew() -> None:
    house = House(committed=NightNotCommitted(why="No space left on device"))

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        assert (await stage.hears(NightRefused, within=DAY)).code == "NF-MERGE-042"
        await stage.rest(1)
        assert stage.heard(NightClosed)[-1].committed is False
        assert house.models() == [], "what could not be committed takes no space"
        house.committed = None
        await stage.tell(ConsolidateNow())
        await stage.hears(NightFinished)
        await stage.rest(5)
        assert house.models() == [house.force.ledger[0].night]

    house.stage().play(act)


def test_n4_a_commit_without_an_answer_closes_the_night_as_not_committed() -> None:
    """It may have come through: the Trainer, told that it did not, loads whatever HEAD says."""

    async def crash() -> None:
        raise RuntimeError("the Checkpointer crashed")

    house = House(committed=crash)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        refused = await stage.hears(NightRefused, within=DAY)
        assert refused.code == "NF-MERGE-042"
        assert "the Checkpointer crashed" in refused.why
        await stage.rest(1)
        assert stage.heard(NightClosed)[-1].committed is False

    stage = house.stage().play(act)
    assert stage.system.cells["consolidator"].incarnation == 1


def test_an_ask_that_is_not_answered_in_time_costs_the_try_and_not_the_daemon() -> None:
    async def never() -> None:
        await asyncio.sleep(5000)

    house = House(committed=never)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        refused = await stage.hears(NightRefused, within=DAY)
        assert "did not answer CommitNight within 1800 s" in refused.why
        await stage.rest(1)
        assert stage.heard(NightClosed)[-1].committed is False

    house.stage().play(act)


def test_a_state_that_changed_between_the_look_and_the_yield_is_not_folded() -> None:
    house = House()
    forces = [house.force, house.force, replace(house.force, state=replace(house.force.state, global_step=60))]

    def wanted(_: StateWanted) -> StateInForce:
        return forces[min(2, house.count(StateWanted))] if house.yielded else house.force

    children = list(house.children())
    answers: Answers = {StateWanted: wanted, CommitNight: house._commit}
    children[1] = answering("checkpointer", {**answers, ModelsWanted: house._models, LeaveModels: house._leave})
    house.asked += [StateWanted(), StateWanted()]

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        refused = await stage.hears(NightRefused, within=DAY)
        assert refused.code == "NF-MERGE-040"
        assert house.merges == []

    Stage(*children, disk=house.disk, epoch=EVENING).play(act)


def test_n11_a_file_that_arrives_in_the_middle_of_a_night_does_not_stop_it() -> None:
    house = House(merge_seconds=600)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.hears(NightStarted, within=DAY)
        await stage.rest(100)
        await stage.tell(replace(EMPTY, waiting=("a.jsonl",), waiting_count=1))
        await stage.rest(400)
        assert stage.count(NightClosed) == 1, "only the one of the start"
        await stage.hears(NightFinished)
        await stage.rest(1)
        assert stage.heard(NightClosed)[-1].committed is True

    house.stage().play(act)


def test_n2_a_crash_in_the_middle_of_a_night_lets_the_trainer_go_and_sweeps() -> None:
    house = House(merge_seconds=600)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.hears(NightStarted, within=DAY)
        already = stage.count(NightClosed)
        house.outcome = RuntimeError("a bug")
        await stage.rest(601)
        closed = stage.heard(NightClosed)[already:]
        assert closed, "the Trainer would wait for ever"
        assert not any(one.committed for one in closed)

    stage = house.stage().play(act)
    assert stage.system.cells["consolidator"].incarnation == 2
    assert house.models() == []


def test_n6_a_start_sweeps_what_no_generation_stands_on() -> None:
    house = House()
    for path in (
        "consolidated_models",
        "consolidated_models/.0123456789abcdef.part",
        "consolidated_models/20260101T030000",
    ):
        house.disk.person_mkdir(path)
    for name in ("20260102T030000", "20260103T030000"):
        house.disk.person_mkdir(f"consolidated_models/{name}")
        house.disk.person_put(f"consolidated_models/{name}/weights", b"w")
    house.force = replace(
        house.force,
        model_path="consolidated_models/20260103T030000",
        models_needed=("consolidated_models/20260102T030000",),
    )

    async def act(stage: Stage) -> None:
        assert stage.heard(NightClosed) == [NightClosed(night="", committed=False)]

    house.stage().play(act)
    assert house.models() == ["20260102T030000", "20260103T030000"]


def test_d2_a_model_that_retention_let_go_of_is_deleted_and_stale_news_deletes_nothing() -> None:
    house = House()
    kept, gone = "consolidated_models/20260102T030000", "consolidated_models/20260101T030000"
    house.force = replace(house.force, models_needed=(kept, gone))
    for path in (kept, gone):
        durable.ensure_directory(house.disk, path)

    async def act(stage: Stage) -> None:
        await stage.rest(10.0)
        assert len(house.models()) == 2
        asked = len(house.asked)
        await stage.tell(RetentionApplied(("state/generations/000001",), (), models_needed=(kept, gone)))
        await stage.rest(10.0)
        assert len(house.asked) == asked, "nothing to look at, nothing asked"
        # Older than what is in force: the news does not know of a model that is needed now.
        await stage.tell(RetentionApplied(("state/generations/000001",), (), models_needed=()))
        await stage.rest(10.0)
        assert len(house.models()) == 2
        house.force = replace(house.force, models_needed=(kept,))
        await stage.tell(RetentionApplied(("state/generations/000002",), (), models_needed=(kept,)))
        await stage.rest(10.0)
        assert house.models() == ["20260102T030000"]

    house.stage().play(act)


def test_d5_a_start_that_cannot_sweep_goes_on_and_so_does_the_night() -> None:
    house = House()
    house.disk.person_mkdir("consolidated_models")
    house.disk.person_mkdir("consolidated_models/20260101T030000")
    house.disk.faults = lambda _number, operation, _path: NoSpace() if operation in ("rmdir", "unlink") else None

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.hears(NightFinished, within=DAY)

    stage = house.stage().play(act)
    assert stage.system.cells["consolidator"].incarnation == 1


def test_n8_one_night_a_date_through_a_clock_that_jumps_back_and_forth() -> None:
    house = House(learn_after=True)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.hears(NightFinished, within=DAY)
        for jump in (-2 * HOUR, 2 * HOUR, -3 * HOUR, 3 * HOUR):
            stage.loop.jump_wall_clock(jump)
            await stage.rest(1800)
        assert [one.due_date for one in stage.heard(NightStarted) if one.due_date >= "2026-01-05"] == ["2026-01-05"]
        stage.loop.jump_wall_clock(timedelta(days=3).total_seconds())
        await stage.rest(HOUR)
        dates = [one.due_date for one in stage.heard(NightStarted)]
        assert dates[-1] == "2026-01-08"
        assert len(dates) == len(set(dates))

    house.stage().play(act)


def test_n8_a_daemon_that_was_off_at_the_hour_runs_the_night_when_it_is_back() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        assert (await stage.hears(NightStarted, within=120)).due_date == "2026-01-05"

    house.stage(epoch=datetime(2026, 1, 5, 14, tzinfo=UTC)).play(act)


@pytest.mark.parametrize("epoch", [datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)])
def test_n8_daylight_saving_has_one_night_a_date(epoch: datetime) -> None:
    house = House(learn_after=True)
    house.force = replace(house.force, state=replace(house.force.state, learning_since=epoch.isoformat()))

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.rest(3 * DAY)

    stage = house.stage(epoch=epoch, zone=ZoneInfo("Europe/Berlin"), at=datetime(2026, 1, 1, 2, 30).time()).play(act)  # noqa: DTZ001
    dates = [one.due_date for one in stage.heard(NightStarted)]
    first = epoch.date()
    expected = [(first + timedelta(days=day)).isoformat() for day in range(4)]
    assert [date for date in dates if date > first.isoformat()] == expected[1:]
    assert len(dates) == len(set(dates))


def test_two_nights_of_one_second_have_two_names() -> None:
    house = House(learn_after=True, merge_seconds=0.0)

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY, ConsolidateNow())
        await stage.hears(NightFinished)
        stage.loop.jump_wall_clock(-1.0)
        for _ in range(3):
            await stage.tell(ConsolidateNow())
        await stage.rest(30)

    stage = house.stage().play(act)
    names = [one.night for one in stage.heard(NightFinished)]
    assert len(names) >= 2
    assert len(set(names)) == len(names)


def test_b1_a_damaged_delta_without_a_copy_refuses_the_night_before_anything_is_merged_until_it_is_restored() -> None:
    house = House()
    house.force = replace(house.force, ledger_damage=("state/deltas/20260103T030000 has other content",))

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        refused = await stage.hears(NightRefused, within=DAY)
        assert (refused.code, "20260103T030000" in refused.why) == ("NF-MERGE-043", True)
        assert (house.merges, stage.count(NightStarted)) == ([], 0)
        house.force = replace(house.force, ledger_damage=())
        await stage.rest(HOUR)
        assert stage.count(NightStarted) == 0  # a refused night is not tried all the time
        await stage.tell(DamageHealed(what="state/deltas/20260103T030000", how="it was restored"))
        await stage.hears(NightFinished, within=300)

    house.stage(retry_after_seconds=20 * HOUR).play(act)


def test_b1_no_night_is_begun_on_a_generation_that_is_damaged_and_it_comes_once_that_is_committed_anew() -> None:
    house = House()
    sound = house.force
    house.force = replace(sound, state=LearningState(), damage="other content")

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.rest(8 * HOUR)
        assert house.count(YieldTrainer) == 0
        assert stage.heard(NightRefused) == []
        house.force = sound
        await stage.hears(NightFinished, within=HOUR)

    house.stage().play(act)


def test_b1_what_is_damaged_during_the_merge_is_left_to_the_trainer_that_still_holds_it() -> None:
    house = House()
    sound = house.force

    async def act(stage: Stage) -> None:
        await stage.tell(EMPTY)
        await stage.hears(NightStarted, within=DAY)
        house.force = replace(sound, damage="other content")
        refused = await stage.hears(NightRefused)
        assert (refused.code, refused.why) == ("NF-MERGE-042", "other content")
        assert house.count(BeginAdapter) == 0
        assert stage.heard(NightClosed)[-1].committed is False
        house.force = sound
        await stage.hears(NightFinished, within=DAY)

    house.stage(retry_after_seconds=600.0).play(act)
