"""The Trainer with the real Checkpointer: whatever happens, the weights are those of an undisturbed run."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from actors.checkpointer import store as store_module
from actors.checkpointer.actor import Checkpointer, CheckpointerSettings
from actors.checkpointer.head import HEAD_PATH, TRAINER_STATE, Head, decode, decode_state
from actors.status_reporter.page import Folder, Page
from actors.trainer.actor import Trainer
from actors.trainer.engine import EngineError, EngineInfo, Step
from actors.trainer.settings import TrainerSettings
from messages import (
    ActorStarted,
    ActorStuck,
    AdapterBegun,
    AdapterNotBegun,
    BatchAccepted,
    BatchesWanted,
    BatchExhausted,
    BatchFailed,
    BatchFiled,
    BatchOpened,
    BatchRejected,
    BatchStarted,
    BatchTrained,
    BeginAdapter,
    CommitFailed,
    CommitGeneration,
    CommitNight,
    DamageFound,
    DiskRecovered,
    DiskRunningLow,
    EngineLoaded,
    GenerationCommitted,
    GenerationDamaged,
    LearningState,
    Message,
    NightClosed,
    NightCommitted,
    PauseTraining,
    Report,
    ResumeTraining,
    SpaceGranted,
    SpaceNeeded,
    SpaceRefused,
    StateInForce,
    StateWanted,
    StepSkipped,
    StepsTaken,
    TrainerBusy,
    TrainerReady,
    TrainerYielded,
    TrainingIdle,
    TrainingPaused,
    TrainingProgress,
    TrainingResumed,
    TrainingWaits,
    Trouble,
    YieldTrainer,
)
from runtime import Actor, Child, OperatorError, Retry, durable, on
from runtime.simulation import SimDevice
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import Fault, IoError, NoSpace, PowerCut, PowerLost, Survival
from runtime.simulation.workers import JobTrouble
from tests.actors.stage import Stage, answering, fails_at
from tools.simulated_house.engine import (
    ADAPTER,
    NOT_FINITE,
    HashChainEngine,
    Weights,
    fresh,
    lines_of_file,
    steps_of,
    train,
)

Act = Callable[[Stage], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "library_versions", lambda: {"nightfold": "0"})


def examples(mark: str, count: int) -> bytes:
    return b"".join(f"{mark} {number}\n".encode() for number in range(count))


# Two epochs of four examples a step: 6, 4 and 2 steps.
FILES = {1: examples("a", 10), 2: examples("b", 8), 3: examples("c", 3)}


class Engine(HashChainEngine):
    """The simulation's engine; ``deed`` is told of each call before it happens and may raise."""

    def __init__(self, disk: SimDisk, deed: Callable[[str], None]) -> None:
        super().__init__(disk, random.Random(0), lambda: False)
        self.deed = deed

    def load(self, state: LearningState, generation_path: str, model_path: str) -> EngineInfo:
        self.deed("load")
        return super().load(state, generation_path, model_path)

    def open_batch(self, path: str, cursor: Any, adapter_step: int) -> Any:
        self.deed("open")
        return super().open_batch(path, cursor, adapter_step)

    def step(self, adapter_step: int) -> Step:
        self.deed("step")
        return super().step(adapter_step)

    def snapshot(self) -> Any:
        self.deed("snapshot")
        return super().snapshot()


class Desk(Actor):
    """Plays the inbox and the Validator: announces what has no outcome, and files what has one."""

    def __init__(self, disk: SimDisk) -> None:
        self._home = disk

    def waiting(self) -> list[str]:
        return sorted((name for name in self._home.listdir("state/batches")), key=int)

    @on
    async def wanted(self, _: BatchesWanted) -> None:
        for batch in reversed(self.waiting()):  # not in order: that is the Trainer's to mend
            await self.send(accepted(self._home, batch))

    @on
    async def ended(self, outcome: BatchTrained | BatchFailed) -> None:
        if outcome.batch in self.waiting():
            self._home.person_remove(f"state/batches/{outcome.batch}")
        await self.send(BatchFiled(batch=outcome.batch, name=outcome.name, folder="trained", path="p"))


def accepted(disk: SimDisk, batch: str) -> BatchAccepted:
    (name,) = disk.listdir(f"state/batches/{batch}")
    path = f"state/batches/{batch}/{name}"
    data = disk.read(path)
    return BatchAccepted(
        batch=batch,
        name=name,
        path=path,
        digest=durable.digest_of_bytes(data),
        size_bytes=len(data),
        examples=len(lines_of_file(data)),
    )


class House:
    """A home with batches in it, and the actors that turn them into learning."""

    def __init__(self, files: dict[int, bytes] | None = None) -> None:
        self.disk = SimDisk()
        for folder in ("model", "state", "state/batches"):
            self.disk.person_mkdir(folder)
        self.disk.person_put("model/weights", b"pristine")
        for number, data in (FILES if files is None else files).items():
            self.drop(number, data)
        self.missing_bytes = 0
        self.deed: Callable[[str], None] = lambda _: None

    def drop(self, number: int, data: bytes) -> None:
        self.disk.person_mkdir(f"state/batches/{number:06d}")
        self.disk.person_put(f"state/batches/{number:06d}/{number}.jsonl", data)

    def stage(self, *, seed: int = 0, desk: bool = True, device_seconds: float = 0.01, **settings: float) -> Stage:
        made = TrainerSettings(
            **{"slice_steps": 1, "checkpoint_every_seconds": 0.0, "retry_seconds": 2.0, **settings}  # type: ignore[arg-type]
        )
        children = (
            answering("disk_guard", {SpaceNeeded: self._space}),
            Child(
                "checkpointer",
                Checkpointer,
                settings=CheckpointerSettings(reserve_bytes=0),
                on_crash=Retry(1),
                intensity=50,
            ),
            Child(
                "trainer",
                Trainer,
                make=lambda: Trainer(lambda: Engine(self.disk, self._told)),
                settings=made,
                drain=False,
                intensity=50,
            ),
            *((Child("desk", Desk, make=lambda: Desk(self.disk)),) if desk else ()),
        )
        return Stage(*children, disk=self.disk, seed=seed, device_seconds=device_seconds)

    def _told(self, what: str) -> None:
        self.deed(what)

    def _space(self, _: SpaceNeeded) -> SpaceGranted | SpaceRefused:
        if self.missing_bytes:
            return SpaceRefused(free_bytes=1, needed_bytes=2, missing_bytes=self.missing_bytes)
        return SpaceGranted(free_bytes=1)

    def state(self) -> LearningState:
        head = decode(self.disk.read(HEAD_PATH), Head, "")
        return decode_state(self.disk.read(f"{head.generation_path}/{TRAINER_STATE}"), "")

    def weights(self) -> Weights:
        head = decode(self.disk.read(HEAD_PATH), Head, "")
        return msgspec.json.decode(self.disk.read(f"{head.generation_path}/{ADAPTER}"), type=Weights)

    def is_undisturbed(self, files: dict[int, bytes] | None = None) -> None:
        """What is committed is what a run in which nothing went wrong ends with."""
        assert self.weights() == undisturbed(FILES if files is None else files)
        assert self.state().global_step == self.weights().steps
        assert self.state().cursor is None
        assert self.disk.listdir("state/batches") == []


def undisturbed(files: dict[int, bytes], steps_at_most: int = 10_000) -> Weights:
    chain, steps = fresh("pristine", "a0001", 0), 0
    for number in sorted(files):
        data = files[number]
        for batch in steps_of(lines_of_file(data), 0, durable.digest_of_bytes(data)):
            if steps < steps_at_most and not any(NOT_FINITE in one for one in batch):
                chain, steps = train(chain, batch), steps + 1
    return Weights(chain, "pristine", steps)


async def until_idle(stage: Stage) -> None:
    """Until it has said, as its last word, that nothing is left; and then a little longer."""
    end = stage.loop.time() + 900
    while not _says_idle(stage) or stage.disk.listdir("state/batches"):
        await stage.rest(0.25)
        assert stage.loop.time() < end, f"never idle: {stage.told[-20:]}"
    await stage.rest(1)


def _says_idle(stage: Stage) -> bool:
    words = (TrainingIdle, BatchStarted, TrainerReady, BatchesWanted, TrainingPaused, TrainingResumed)
    return isinstance(next((one for one in reversed(stage.told) if isinstance(one, words)), None), TrainingIdle)


# The undisturbed run.


def test_batches_are_trained_in_the_order_of_their_numbers_each_announced_after_its_commit() -> None:
    house = House()
    stage = house.stage().play(until_idle)
    house.is_undisturbed()
    assert [one.batch for one in stage.heard(BatchStarted)] == ["000001", "000002", "000003"]
    receipts = [one.receipt for one in stage.heard(BatchTrained)]
    assert [(one.steps, one.first_global_step, one.last_global_step) for one in receipts] == [
        (6, 1, 6),
        (4, 7, 10),
        (2, 11, 12),
    ]
    assert [one.tokens_trained for one in receipts] == [20, 16, 6]
    for outcome in stage.heard(BatchTrained):
        before = stage.told[: stage.told.index(outcome)]
        commits = [one for one in before if isinstance(one, GenerationCommitted)]
        assert commits[-1].global_step == outcome.receipt.last_global_step
        assert commits[-1].why == "batch end"
    assert [one.why for one in stage.heard(GenerationCommitted)] == ["first", *["batch end"] * 3]
    assert stage.count(TrainingIdle) == 1
    assert len(stage.system.cloakroom) == 0


def test_b6_numbers_are_compared_as_numbers() -> None:
    files = {1_000_000: examples("b", 3), 999_999: examples("a", 3)}
    house = House(files)
    stage = house.stage().play(until_idle)
    assert [one.batch for one in stage.heard(BatchStarted)] == ["999999", "1000000"]
    house.is_undisturbed(files)


def test_a_new_home_commits_its_first_adapter_before_anything_else() -> None:
    house = House({})
    stage = house.stage().play(until_idle)
    (done,) = stage.heard(GenerationCommitted)
    assert (done.generation, done.why, done.global_step, done.adapter_id) == (1, "first", 0, "a0001")
    assert house.weights() == undisturbed({})
    ready = stage.heard(TrainerReady)[0]
    assert (ready.model, ready.device, ready.generation, ready.adapter_step) == ("model", "sim", 0, 0)


def test_progress_is_told_after_every_slice() -> None:
    house = House({1: FILES[1]})
    stage = house.stage(slice_steps=2).play(until_idle)
    told = [(one.step, one.steps, one.global_step, one.loss) for one in stage.heard(TrainingProgress)]
    assert told == [(2, 6, 2, 1.0), (4, 6, 4, 1.0)]


def test_a_file_with_line_errors_has_them_in_its_receipt() -> None:
    house = House({1: FILES[1]})

    async def act(stage: Stage) -> None:
        await stage.hears(TrainerReady)
        await stage.tell(replace(accepted(house.disk, "000001"), warnings=("w",), line_error_count=3))
        assert (await stage.hears(BatchTrained)).receipt.line_error_count == 3

    stage = house.stage(desk=False).play(act)
    assert stage.heard(BatchTrained)[0].receipt.warnings == ("w",)


# Repetition.


@pytest.mark.parametrize("seed", range(4))
def test_a4_the_same_batch_announced_at_every_moment_is_trained_once(seed: int) -> None:
    house = House()

    async def act(stage: Stage) -> None:
        chance = random.Random(seed)
        everything = [accepted(house.disk, batch) for batch in house.disk.listdir("state/batches")]
        idle = stage.loop.create_task(until_idle(stage))
        while not idle.done():
            await stage.tell(chance.choice(everything))
            await stage.rest(chance.choice((0.001, 0.004, 0.01)))
        await idle

    stage = house.stage(seed=seed).play(act)
    house.is_undisturbed()
    trained = [one.batch for one in stage.heard(BatchTrained)]
    assert sorted(set(trained)) == ["000001", "000002", "000003"]
    receipts = {one.batch: one.receipt for one in stage.heard(BatchTrained)}
    assert all(one.receipt == receipts[one.batch] for one in stage.heard(BatchTrained)), "always the same receipt"


def test_a4_a_trained_batch_is_announced_again_until_it_is_filed_and_then_no_more() -> None:
    house = House({1: FILES[3]})

    async def act(stage: Stage) -> None:
        await stage.hears(TrainerReady)
        batch = accepted(house.disk, "000001")
        await stage.tell(batch)
        first = await stage.hears(BatchTrained)
        await stage.tell(batch)
        assert await stage.hears(BatchTrained, 2) == first
        house.disk.person_remove("state/batches/000001")
        await stage.tell(BatchFiled(batch="000001", name="1.jsonl", folder="trained", path="trained/1.jsonl"))
        await stage.tell(batch)
        await stage.rest(60)
        assert (stage.count(BatchTrained), stage.count(BatchStarted)) == (2, 1)

    house.stage(desk=False).play(act)
    house.is_undisturbed({1: FILES[3]})


def test_r1_an_outcome_that_was_not_filed_is_announced_by_the_next_start_and_then_forgotten() -> None:
    house = House({1: FILES[3]})

    async def train_it(stage: Stage) -> None:
        await stage.hears(TrainerReady)
        await stage.tell(accepted(house.disk, "000001"))
        await stage.hears(BatchTrained)

    first = house.stage(desk=False).play(train_it)
    assert len(house.state().unfiled) == 1
    house.drop(2, FILES[2])
    again = house.stage().play(until_idle)
    assert again.heard(BatchTrained)[0] == first.heard(BatchTrained)[0]
    house.is_undisturbed({1: FILES[3], 2: FILES[2]})
    assert [one.batch for one in house.state().unfiled] == ["000002"], "the first is filed, so it is forgotten"


def test_r1_a_batch_that_is_committed_and_announced_while_the_engine_loads_is_not_trained_again() -> None:
    house = House({1: FILES[3]})

    async def train_it(stage: Stage) -> None:
        await stage.hears(TrainerReady)
        await stage.tell(accepted(house.disk, "000001"))
        await stage.hears(BatchTrained)

    house.stage(desk=False).play(train_it)

    async def act(stage: Stage) -> None:
        assert stage.count(TrainerReady) == 0
        await stage.tell(accepted(house.disk, "000001"))
        await stage.hears(BatchTrained)
        await stage.rest(60)  # nobody files it
        assert stage.count(BatchStarted) == 0

    house.stage(desk=False, seed=1, device_seconds=8.0).play(act)
    assert house.weights() == undisturbed({1: FILES[3]})


def test_f9_a_batch_whose_file_is_gone_before_its_turn_is_passed_over() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(BatchStarted)
        house.disk.person_remove("state/batches/000002")
        await until_idle(stage)

    stage = house.stage().play(act)
    assert [one.batch for one in stage.heard(BatchStarted)] == ["000001", "000003"]
    assert stage.heard(BatchFailed) == [], "nobody wants to hear of it any more"
    house.is_undisturbed({1: FILES[1], 3: FILES[3]})


def _interrupted(house: House, steps: int) -> None:
    """Stop the first batch after so many steps."""

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, steps)

    house.stage().play(act)
    assert house.state().cursor is not None


def test_f9_an_interrupted_batch_whose_file_is_gone_is_dropped_where_it_stood() -> None:
    house = House()
    _interrupted(house, 2)
    done = house.state().global_step
    house.disk.person_remove("state/batches/000001")
    stage = house.stage().play(until_idle)
    assert [one.batch for one in stage.heard(BatchStarted)] == ["000002", "000003"]
    assert house.state().cursor is None
    assert house.state().global_step == done + 4 + 2


def test_an_interrupted_batch_that_is_no_longer_fit_is_dropped_where_it_stood() -> None:
    house = House({1: FILES[1], 2: FILES[2]})
    _interrupted(house, 2)

    async def act(stage: Stage) -> None:
        await stage.hears(TrainerReady)
        await stage.tell(accepted(house.disk, "000002"))
        await stage.rest(60)
        assert stage.count(BatchStarted) == 0, "nothing overtakes the interrupted one"
        report = Report(batch="000001", name="1.jsonl", trouble=Trouble("NF-DATA-001", "the rules changed"))
        path = "state/batches/000001/1.jsonl"
        await stage.tell(BatchRejected(batch="000001", name="1.jsonl", path=path, report=report))
        assert (await stage.hears(BatchTrained)).batch == "000002"

    house.stage(desk=False).play(act)
    assert house.state().cursor is None


# Trouble.


def test_t3_a_batch_that_fails_for_good_says_how_much_of_it_was_kept_and_the_next_goes_on() -> None:
    # The poison is in the last of ten examples; find out at which step that is.
    bad = examples("a", 9) + b"poison\n"
    steps = steps_of(lines_of_file(bad), 0, durable.digest_of_bytes(bad))
    at = next(number for number, batch in enumerate(steps) if any(b"poison" in one for one in batch))
    for every in (1, 2, 100):
        house = House({1: bad, 2: FILES[2]})
        stage = house.stage(checkpoint_every_steps=every).play(until_idle)
        (failed,) = stage.heard(BatchFailed)
        assert (failed.batch, failed.report.trouble.code) == ("000001", "NF-TRAIN-010")
        assert failed.report.notes[0] == "tried 1 time(s)"
        kept = failed.report.steps_kept
        assert kept % every == 0
        assert at - 2 * every < kept <= at, "of the last checkpoint, or of the one before if that was under way"
        assert [one.batch for one in stage.heard(BatchTrained)] == ["000002"]
        chain = fresh("pristine", "a0001", 0)
        for batch in (*steps[:kept], *steps_of(lines_of_file(FILES[2]), 0, durable.digest_of_bytes(FILES[2]))):
            chain = train(chain, batch)
        assert house.weights() == Weights(chain, "pristine", kept + 4)
        assert house.disk.listdir("state/batches") == []


def test_t3_a_failure_is_announced_only_once_it_is_committed() -> None:
    house = House({1: b"poison\n"})
    stage = house.stage().play(until_idle)
    commits = [one for one in stage.told if isinstance(one, GenerationCommitted | BatchFailed)]
    assert isinstance(commits[-1], BatchFailed)
    assert isinstance(commits[-2], GenerationCommitted)
    assert commits[-2].why == "batch failed"


def _fails(times: int, at: str, error: Callable[[], Exception]) -> Callable[[str], None]:
    left = itertools.count()

    def deed(what: str) -> None:
        if what == at and next(left) < times:
            raise error()

    return deed


def _hiccup() -> EngineError:
    return EngineError("NF-TRAIN-011", "a hiccup", transient=True)


@pytest.mark.parametrize("at", ["open", "step", "snapshot", "load"])
@pytest.mark.parametrize("error", [_hiccup, lambda: OSError(5, "bad sector")], ids=["engine", "disk"])
def test_t5_a_transient_error_is_tried_again_and_costs_nothing(at: str, error: Callable[[], Exception]) -> None:
    house = House()
    house.deed = _fails(2, at, error)
    stage = house.stage().play(until_idle)
    house.is_undisturbed()
    assert stage.count(BatchFailed) == 0
    assert stage.system.cells["trainer"].incarnation == 1


def test_t5_waits_double_and_a_batch_that_keeps_stumbling_fails() -> None:
    house = House({1: FILES[1], 2: FILES[2]})
    moments: list[float] = []

    def deed(what: str) -> None:
        if what == "step" and len(moments) < 3:
            moments.append(stage.loop.time())
            raise _hiccup()

    house.deed = deed
    stage = house.stage(max_attempts=3, retry_seconds=10.0)
    stage.play(until_idle)
    (failed,) = stage.heard(BatchFailed)
    assert (failed.batch, failed.report.trouble.code) == ("000001", "NF-TRAIN-011")
    assert failed.report.notes[0] == "tried 3 time(s)"
    waits = [after - before for before, after in itertools.pairwise(moments)]
    assert [round(wait) for wait in waits] == [10, 20]
    house.is_undisturbed({2: FILES[2]})


def test_t5_patience_begins_anew_with_every_commit() -> None:
    house = House({1: FILES[1]})
    stumbles: Counter[int] = Counter()

    def deed(what: str) -> None:
        commits = stage.count(GenerationCommitted)
        if what == "step" and stumbles[commits] < 2:  # twice after every commit
            stumbles[commits] += 1
            raise _hiccup()

    house.deed = deed
    stage = house.stage(max_attempts=3, checkpoint_every_steps=1)
    stage.play(until_idle)
    assert stumbles.total() > 3, "more often than a batch is tried"
    house.is_undisturbed({1: FILES[1]})
    assert stage.count(BatchFailed) == 0


def test_t6_three_steps_in_a_row_that_are_not_finite_set_the_batch_aside() -> None:
    bad = b"".join(b"not-finite %d\n" % number for number in range(12))
    house = House({1: FILES[1], 2: bad, 3: FILES[3]})
    stage = house.stage().play(until_idle)
    (failed,) = stage.heard(BatchFailed)
    assert (failed.batch, failed.report.trouble.code) == ("000002", "NF-TRAIN-010")
    assert stage.count(StepSkipped) == 2
    house.is_undisturbed({1: FILES[1], 3: FILES[3]})


def test_t6_a_step_that_is_not_finite_is_skipped_and_counted() -> None:
    files = {1: examples("a", 7) + b"not-finite\n", 2: FILES[3]}
    house = House(files)
    stage = house.stage().play(until_idle)
    receipt = stage.heard(BatchTrained)[0].receipt
    assert (receipt.steps, receipt.steps_skipped, receipt.last_global_step) == (4, 2, 2)
    house.is_undisturbed(files)


# The disk.


@pytest.mark.parametrize(("fault", "code"), [(NoSpace(), "NF-DISK-001"), (IoError(), "NF-DISK-003")])
def test_d3_a_refused_commit_holds_training_and_goes_on_by_itself(fault: Fault, code: str) -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, 2)
        house.disk.faults = lambda _number, _operation, path: fault if "generations" in path else None
        await stage.hears(CommitFailed)
        waits = await stage.hears(TrainingWaits)
        assert code in waits.why
        await stage.rest(5)
        progress = stage.count(TrainingProgress)
        await stage.rest(600)
        assert stage.count(TrainingProgress) == progress, "it learns nothing that it cannot keep"
        assert stage.count(BatchTrained) == 0
        assert stage.count(TrainingWaits) == 1, "said once"
        house.disk.faults = None
        await until_idle(stage)

    stage = house.stage(checkpoint_every_steps=2, look_again_seconds=15).play(act)
    house.is_undisturbed()
    assert stage.system.cells["trainer"].incarnation == 1


def test_d3_room_again_is_used_at_once() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, 2)
        house.disk.faults = lambda _number, _operation, path: NoSpace() if "generations" in path else None
        await stage.hears(CommitFailed)
        house.disk.faults = None
        await stage.tell(DiskRecovered(free_bytes=1))
        await stage.hears(BatchTrained, within=60)

    house.stage(look_again_seconds=3600).play(act)


def test_d3_a_disk_that_runs_low_holds_training_at_a_good_commit_and_it_goes_on_by_itself() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, 2)
        house.missing_bytes = 77
        await stage.tell(DiskRunningLow(free_bytes=1, free_bytes_min=2))
        waits = await stage.hears(TrainingWaits)
        assert waits == TrainingWaits(name="1.jsonl", why="free disk space", missing_bytes=77)
        last = stage.heard(GenerationCommitted)[-1]
        assert last.why == "disk low"
        progress = stage.heard(TrainingProgress)
        assert last.global_step == progress[-1].global_step, "all that was learnt is committed"
        await stage.tell(DiskRunningLow(free_bytes=1, free_bytes_min=2, again=1))
        await stage.rest(600)
        assert stage.heard(TrainingProgress) == progress
        assert (stage.count(TrainingWaits), stage.count(TrainingResumed)) == (1, 0), "said once"
        house.missing_bytes = 0
        await stage.hears(TrainingResumed, within=16)
        await until_idle(stage)

    stage = house.stage(checkpoint_every_steps=1000, look_again_seconds=15).play(act)
    assert stage.count(CommitFailed) == 0
    house.is_undisturbed()


def test_d3_a_disk_that_runs_low_and_has_room_for_the_batch_costs_a_commit_and_no_word() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, 2)
        await stage.tell(DiskRunningLow(free_bytes=1, free_bytes_min=2))
        await until_idle(stage)

    stage = house.stage(checkpoint_every_steps=1000, look_again_seconds=3600).play(act)
    assert (stage.count(TrainingWaits), stage.count(TrainingResumed)) == (0, 0)
    house.is_undisturbed()


def test_d1_a_batch_that_would_not_fit_waits_and_starts_by_itself() -> None:
    house = House()
    house.missing_bytes = 123

    async def act(stage: Stage) -> None:
        waits = await stage.hears(TrainingWaits)
        assert waits == TrainingWaits(name="1.jsonl", why="free disk space", missing_bytes=123)
        await stage.rest(300)
        assert (stage.count(TrainingWaits), stage.count(BatchStarted), stage.count(TrainingIdle)) == (1, 0, 0)
        house.missing_bytes = 0
        await stage.hears(BatchStarted, within=16)
        await until_idle(stage)

    house.stage(look_again_seconds=15).play(act)
    house.is_undisturbed()


def test_a_commit_whose_snapshot_is_gone_is_learnt_again(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, 2)
        leave = stage.system.cloakroom.leave
        monkeypatch.setattr(stage.system.cloakroom, "leave", lambda *left: _lost_once(leave, left, lost))
        await until_idle(stage)

    lost: list[str] = []
    stage = house.stage(checkpoint_every_steps=2).play(act)
    assert len(lost) == 1
    assert [one.code for one in stage.heard(CommitFailed)] == ["NF-STATE-005"]
    house.is_undisturbed()


def _lost_once(leave: Callable[..., str], left: tuple[Any, ...], lost: list[str]) -> str:
    if lost:
        return leave(*left)
    lost.append("snapshot-lost")
    return lost[0]


# Pause, resume, stop.


@pytest.mark.parametrize("steps", range(1, 9))
def test_t8_pause_and_resume_at_any_slice_changes_nothing(steps: int) -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, steps)
        await stage.tell(PauseTraining())
        paused = await stage.hears(TrainingPaused)
        assert house.state().global_step == paused.global_step, "everything learnt is committed"
        assert house.weights() == undisturbed(FILES, paused.global_step)
        progress = stage.count(TrainingProgress)
        await stage.tell(PauseTraining())
        await stage.rest(3600)
        assert (stage.count(TrainingProgress), stage.count(TrainingPaused)) == (progress, 1)
        await stage.tell(ResumeTraining())
        await until_idle(stage)
        assert stage.count(TrainingResumed) == 1

    house.stage(seed=steps).play(act)
    house.is_undisturbed()


def test_t8_pause_before_the_model_is_loaded_and_while_idle() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.tell(PauseTraining())
        await stage.hears(TrainingPaused)
        await stage.rest(60)
        assert stage.count(BatchStarted) == 0
        await stage.tell(ResumeTraining())
        await until_idle(stage)
        await stage.tell(PauseTraining())
        await stage.hears(TrainingPaused, 2)
        await stage.tell(ResumeTraining(), ResumeTraining())
        await stage.rest(5)
        assert stage.count(TrainingResumed) == 2

    house.stage().play(act)
    house.is_undisturbed()


def test_t8_pause_takes_effect_within_one_step() -> None:
    house = House({1: examples("a", 400)})
    steps = itertools.count(1)
    paused_at = 0

    def deed(what: str) -> None:
        nonlocal paused_at
        if what == "step" and next(steps) == 50:
            paused_at = 50
            stage.system.cells["trainer"].device.interrupt()  # what the pause does while the thread is at work

    house.deed = deed
    stage = house.stage(slice_steps=1000)

    async def act(stage: Stage) -> None:
        assert (await stage.hears(TrainingProgress)).step == 50
        await stage.tell(PauseTraining())
        await stage.hears(TrainingPaused)

    stage.play(act)
    assert paused_at == 50


@pytest.mark.parametrize("steps", range(9))
@pytest.mark.parametrize("every", [1, 3, 100])
def test_t7_stop_at_any_slice_and_go_on_changes_nothing(steps: int, every: int) -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(TrainerReady)
        if steps:
            await stage.hears(TrainingProgress, steps)

    stage = house.stage(seed=steps, checkpoint_every_steps=every).play(act)
    done = house.state().global_step
    assert done >= (stage.heard(TrainingProgress)[-1].global_step if steps else 0), "a stop loses nothing"
    assert house.weights() == undisturbed(FILES, done)
    again = house.stage(seed=steps + 100, checkpoint_every_steps=every).play(until_idle)
    house.is_undisturbed()
    resumed = [one for one in again.heard(BatchStarted) if one.step]
    assert len(resumed) <= 1


def test_t7_a_stop_with_nothing_new_commits_nothing() -> None:
    house = House()
    stage = house.stage().play(until_idle)
    assert [one.why for one in stage.heard(GenerationCommitted)].count("stop") == 0


@pytest.mark.parametrize("survival", ["keep_all", "lose_all", "torn"])
def test_t1_power_cut_at_any_time_goes_on_at_the_cursor(survival: Survival) -> None:
    for seed in range(3):
        house = House()
        house.stage(seed=seed, checkpoint_every_steps=2).play(until_idle)
        for point in range(1 + 5 * seed, house.disk.operations, 18):
            house = House()
            fails_at(house.disk, point, PowerCut(survival, seed=point, halfway=bool(point % 2)))
            with pytest.raises(PowerLost):
                house.stage(seed=seed, checkpoint_every_steps=2).play(until_idle)
            house.disk = house.disk.reboot()
            house.stage(seed=seed, checkpoint_every_steps=2).play(until_idle)
            house.is_undisturbed()


def operations_of_last_checkpoints(house: House, monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """Which operations of the disk belong to the commits that end a batch."""
    found: list[range] = []
    really = store_module.Store.commit

    def commit(store: store_module.Store, *given: Any) -> Any:
        before = house.disk.operations
        kept = really(store, *given)
        if kept.why == "batch end":
            found.append(range(before + 1, house.disk.operations + 1))
        return kept

    monkeypatch.setattr(store_module.Store, "commit", commit)
    house.stage(checkpoint_every_steps=2).play(until_idle)
    monkeypatch.undo()
    monkeypatch.setattr(store_module, "library_versions", lambda: {"nightfold": "0"})
    return found


@pytest.mark.parametrize("survival", ["keep_all", "lose_all", "torn"])
def test_b5_power_cut_in_the_last_checkpoint_of_a_batch_goes_on_from_the_one_before(
    survival: Survival, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, _ = operations_of_last_checkpoints(House(), monkeypatch)
    assert len(first) > 15
    found = set()
    for point in first:
        house = House()
        fails_at(house.disk, point, PowerCut(survival, seed=point, halfway=bool(point % 2)))
        with pytest.raises(PowerLost):
            house.stage(checkpoint_every_steps=2).play(until_idle)
        house.disk = house.disk.reboot()
        store = store_module.Store(house.disk, keep_generations=5, keep_snapshots=1, keep_nights=1)
        assert store.open().damage == ()
        state, weights = house.state(), house.weights()
        assert weights.steps == state.adapter_step == state.global_step, "weights and counters are of one step"
        assert weights == undisturbed({1: FILES[1]}, weights.steps)
        found.add((state.global_step, state.cursor is not None))
        house.stage(checkpoint_every_steps=2).play(until_idle)
        house.is_undisturbed()
    assert found == {(5, True), (6, False)}, "before it, or after it, and nothing between"


# A device that hangs.


def test_t9_a_device_that_hangs_is_told_and_leaves_the_others_at_work_and_the_daemon_can_be_stopped() -> None:
    house = House()
    asked_at: list[float] = []

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, 2)
        device = stage.system.cells["trainer"].device
        assert isinstance(device, SimDevice)
        device.trouble = lambda: JobTrouble(seconds=1e9)
        device.interrupt = lambda: None  # type: ignore[method-assign]  # not even that wakes it
        await stage.hears(ActorStuck)
        progress = stage.count(TrainingProgress)
        committed = house.state()
        await stage.rest(3600)
        assert (stage.count(TrainingProgress), stage.count(ActorStuck)) == (progress, 1), "told once"
        await stage.tell(PauseTraining())
        await stage.rest(1)
        trainer = next(one for one in stage.system.describe() if one.name == "trainer")
        assert (trainer.state, trainer.depth) == ("running", 0), "it still hears what it is told"
        answer = await stage.system.ask(StateWanted(), timeout=5)
        assert isinstance(answer, StateInForce)
        assert answer.state == committed
        asked_at.append(stage.loop.time())

    stage = house.stage(checkpoint_every_steps=2).play(act)
    [stuck] = stage.heard(ActorStuck)
    assert (stuck.actor, stuck.stack) == ("trainer", "in a device job")
    page = Folder(Page())
    for one in stage.told:
        page.fold(one, "2026-11-23T12:00:00")
    assert page.page.last_error is not None
    assert "trainer" in page.page.last_error.message
    assert stage.loop.time() - asked_at[0] < 200, "it was stopped in bounded time"
    house.stage(checkpoint_every_steps=2).play(until_idle)
    house.is_undisturbed()


# Crashes of the Trainer itself.

HANDLED: tuple[type[Message], ...] = (
    BatchAccepted,
    BatchFiled,
    EngineLoaded,
    BatchOpened,
    StepsTaken,
    BatchExhausted,
    GenerationCommitted,
    PauseTraining,
)


@pytest.mark.parametrize("kind", HANDLED)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("steps", [0, 1, 4, 7])
def test_a1_a_crash_over_any_message_changes_nothing(kind: type[Message], after: bool, steps: int) -> None:
    house = House()

    async def act(stage: Stage) -> None:
        if steps:
            await stage.hears(TrainingProgress, steps)
        stage.crash_over("trainer", kind, after=after)
        await stage.tell(accepted(house.disk, "000003"), PauseTraining())
        await stage.rest(5)
        await stage.tell(ResumeTraining())
        await until_idle(stage)

    stage = house.stage(seed=steps, checkpoint_every_steps=2).play(act)
    may_be_over = kind in (EngineLoaded, BatchOpened)
    assert stage.system.cells["trainer"].incarnation == 2 or may_be_over
    house.is_undisturbed()
    assert len(stage.system.cloakroom) <= 1


def test_a1_a_crash_of_the_engine_is_a_crash_of_the_trainer_and_changes_nothing() -> None:
    house = House()
    house.deed = _fails(2, "step", lambda: ZeroDivisionError("a bug"))
    stage = house.stage(checkpoint_every_steps=2).play(until_idle)
    assert stage.system.cells["trainer"].incarnation == 3
    assert stage.count(BatchesWanted) == 3
    house.is_undisturbed()


def test_a1_the_checkpointer_crashing_over_a_commit_changes_nothing() -> None:
    for after in (False, True):
        house = House()

        async def act(stage: Stage, after: bool = after) -> None:
            await stage.hears(TrainingProgress, 3)
            stage.crash_over("checkpointer", CommitGeneration, times=3, after=after)
            await until_idle(stage)

        stage = house.stage(checkpoint_every_steps=2, look_again_seconds=15).play(act)
        assert stage.system.cells["checkpointer"].incarnation > 1
        house.is_undisturbed()


def test_t8_one_that_begins_anew_during_a_pause_is_told_of_it() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.tell(PauseTraining())
        await stage.hears(TrainingPaused)
        await stage.tell(ActorStarted(actor="status_reporter", incarnation=2))
        await stage.hears(TrainingPaused, 2)
        await stage.tell(ResumeTraining(), ActorStarted(actor="status_reporter", incarnation=3))
        await until_idle(stage)
        assert stage.count(TrainingPaused) == 2

    house.stage().play(act)


# T10: the base.


def test_t10_another_base_ends_the_daemon_with_78() -> None:
    house = House({1: FILES[1]})
    house.stage().play(until_idle)
    before = house.disk.tree()
    house.disk.person_put("model/weights", b"another")
    with pytest.raises(OperatorError) as caught:
        house.stage().play(until_idle)
    assert (caught.value.code, caught.value.exit_code) == ("NF-MODEL-010", 78)
    house.disk.person_put("model/weights", b"pristine")
    assert house.disk.tree() == before
    house.stage().play(until_idle)
    house.is_undisturbed({1: FILES[1]})


def test_t10_a_base_that_cannot_be_read_is_tried_again_and_then_ends_the_daemon_with_70() -> None:
    house = House()
    house.disk.person_remove("model/weights")
    with pytest.raises(OperatorError) as caught:
        house.stage(max_attempts=3).play(until_idle)
    assert caught.value.exit_code == 70
    assert "model/weights" in caught.value.what


# Nights.


async def _yields(stage: Stage, night: str = "n1") -> TrainerYielded | TrainerBusy:
    return await stage.system.ask(YieldTrainer(night=night), timeout=60)


async def _begins(stage: Stage, night: str = "n1", model: str = "") -> AdapterBegun | AdapterNotBegun:
    return await stage.system.ask(BeginAdapter(night=night, model_path=model), timeout=60)


def test_n1_only_an_idle_trainer_yields() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        assert await _yields(stage) == TrainerBusy(why="the model is being loaded")
        await stage.hears(TrainingProgress, 2)
        assert await _yields(stage) == TrainerBusy(why="a batch is in training or waiting")
        await stage.tell(PauseTraining())
        await stage.hears(TrainingPaused)
        assert await _yields(stage) == TrainerBusy(why="training is paused")
        await stage.tell(ResumeTraining())
        await until_idle(stage)
        answer = await _yields(stage)
        assert isinstance(answer, TrainerYielded)
        assert answer.state.global_step == 12
        assert await _yields(stage, "n2") == TrainerBusy(why="night n1 is not closed")

    house.stage(seed=1, device_seconds=8.0).play(act)


def test_n11_a_batch_that_comes_in_a_night_waits_for_its_end() -> None:
    house = House({1: FILES[1]})

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        await _yields(stage)
        house.drop(2, FILES[2])
        await stage.tell(accepted(house.disk, "000002"))
        await stage.rest(3600)
        assert stage.count(BatchStarted) == 1
        await stage.tell(NightClosed(night="n1", committed=False))
        await stage.hears(BatchTrained, 2)

    house.stage().play(act)
    house.is_undisturbed({1: FILES[1], 2: FILES[2]})


def _a_night(house: House) -> Act:
    """Fold what is learnt, as the Consolidator would; the merged model is what the test says it is."""

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        yielded = await _yields(stage)
        assert isinstance(yielded, TrainerYielded)
        begun = await _begins(stage, model="consolidated_models/n1")
        assert isinstance(begun, AdapterBegun)
        assert (begun.state.adapter_id, begun.state.adapter_step, begun.state.base) == ("a0002", 0, "n1")
        assert (begun.state.global_step, begun.state.learning_since) == (yielded.state.global_step, None)
        force = await stage.system.ask(StateWanted(), timeout=60)
        done = await stage.system.ask(
            CommitNight(
                night="n1",
                due_date="2026-01-02",
                delta_generation=force.generation,
                model_path="consolidated_models/n1",
                ticket=begun.ticket,
                state=begun.state,
            ),
            timeout=60,
        )
        assert isinstance(done, NightCommitted)

    return act


def _with_merged_model(house: House) -> None:
    house.disk.person_mkdir("consolidated_models")
    house.disk.person_mkdir("consolidated_models/n1")
    house.disk.person_put("consolidated_models/n1/weights", b"merged")


def _after_the_night(house: House) -> Weights:
    chain = fresh("merged", "a0002", 0)
    for batch in steps_of(lines_of_file(FILES[2]), 0, durable.digest_of_bytes(FILES[2])):
        chain = train(chain, batch)
    return Weights(chain, "merged", 4)


def test_n3_after_a_committed_night_the_fresh_adapter_learns() -> None:
    house = House({1: FILES[1]})
    _with_merged_model(house)

    async def act(stage: Stage) -> None:
        await _a_night(house)(stage)
        house.drop(2, FILES[2])
        await stage.tell(accepted(house.disk, "000002"), NightClosed(night="n1", committed=True))
        await until_idle(stage)

    stage = house.stage().play(act)
    assert house.weights() == _after_the_night(house)
    state = house.state()
    assert (state.adapter_id, state.adapter_step, state.global_step, state.base) == ("a0002", 4, 10, "n1")
    assert stage.count(TrainerReady) == 1, "the engine holds it already"


@pytest.mark.parametrize("night", ["n1", ""])
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
def test_n4_the_trainer_believes_head_and_not_what_it_is_told(committed: bool, night: str) -> None:
    """The Consolidator lost the answer, or it crashed, so it says "not committed": HEAD has the last word."""
    house = House({1: FILES[1]})
    _with_merged_model(house)

    async def act(stage: Stage) -> None:
        if committed:
            await _a_night(house)(stage)
        else:
            await until_idle(stage)
            await _yields(stage)
            await _begins(stage, model="consolidated_models/n1")
        house.drop(2, FILES[2])
        await stage.tell(accepted(house.disk, "000002"), NightClosed(night=night, committed=False))
        await until_idle(stage)

    house.stage().play(act)
    if committed:
        assert house.weights() == _after_the_night(house)
    else:
        house.is_undisturbed({1: FILES[1], 2: FILES[2]})


def test_n6_a_trainer_that_restarts_in_a_night_begins_no_adapter_for_it() -> None:
    house = House({1: FILES[1]})
    _with_merged_model(house)

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        await _yields(stage)
        stage.crash_over("trainer", PauseTraining)
        await stage.tell(PauseTraining())
        await stage.hears(TrainerReady, 2)
        answer = await _begins(stage, model="consolidated_models/n1")
        assert answer == AdapterNotBegun(why="the Trainer has restarted since it yielded")

    house.stage().play(act)
    house.is_undisturbed({1: FILES[1]})


def test_a_merged_model_that_does_not_load_is_said_and_yesterday_is_loaded_again() -> None:
    house = House({1: FILES[1]})

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        await _yields(stage)
        answer = await _begins(stage, model="consolidated_models/gone")
        assert isinstance(answer, AdapterNotBegun)
        house.drop(2, FILES[2])
        await stage.tell(accepted(house.disk, "000002"), NightClosed(night="n1", committed=False))
        await until_idle(stage)

    house.stage().play(act)
    house.is_undisturbed({1: FILES[1], 2: FILES[2]})


def test_t7_a_stop_in_a_night_commits_nothing_of_it() -> None:
    house = House({1: FILES[1]})
    _with_merged_model(house)

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        await _yields(stage)
        await _begins(stage, model="consolidated_models/n1")

    house.stage().play(act)
    house.is_undisturbed({1: FILES[1]})
    assert house.state().adapter_id == "a0001"


# What is in force is found damaged.


@pytest.mark.parametrize("steps", [1, 2, 3, 6, 7])
def test_b1_what_is_in_force_is_damaged_while_it_trains_and_what_is_in_memory_takes_its_place(steps: int) -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await stage.hears(TrainingProgress, steps, within=600)
        damaged = decode(house.disk.read(HEAD_PATH), Head, "").in_force
        house.disk.corrupt(f"{damaged.path}/{ADAPTER}", random.Random(steps))
        loads, commits = stage.count(TrainerReady), stage.count(GenerationCommitted)
        # Whoever looks finds it, as the scrub would, before the next batch end commits anything.
        assert (await stage.system.ask(StateWanted(only_look=True), timeout=60)).damage
        await stage.hears(GenerationDamaged, within=60)
        done = await stage.hears(GenerationCommitted, commits + 1, within=600)
        assert done.why == "in place of a damaged one"
        await until_idle(stage)
        await stage.rest(200)
        assert stage.count(TrainerReady) == loads  # nothing was gone back to
        assert [one.what for one in stage.heard(DamageFound)] == [damaged.path]
        assert damaged.generation not in {kept.generation for kept in decode(house.disk.read(HEAD_PATH), Head, "").kept}

    house.stage(seed=steps, device_seconds=60.0).play(act)
    house.is_undisturbed()
    house.stage().play(until_idle)  # and the next start finds everything sound
    house.is_undisturbed()


def test_b1_an_idle_trainer_commits_what_it_holds_at_once_and_says_why() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        commits = stage.count(GenerationCommitted)
        await stage.tell(GenerationDamaged(generation=1, path="state/generations/000001"))
        done = await stage.hears(GenerationCommitted, commits + 1, within=5)
        assert done.why == "in place of a damaged one"
        await stage.rest(60)
        assert stage.count(GenerationCommitted) == commits + 1

    house.stage().play(act)
    house.is_undisturbed()


def test_b1_a_trainer_that_holds_nothing_yet_has_nothing_to_commit() -> None:
    house = House()
    house.deed = _fails(1, "load", _hiccup)

    async def act(stage: Stage) -> None:
        await stage.tell(GenerationDamaged(generation=1, path="state/generations/000001"))
        await until_idle(stage)
        assert "in place of a damaged one" not in {one.why for one in stage.heard(GenerationCommitted)}

    house.stage().play(act)
    house.is_undisturbed()


def test_b1_a_trainer_that_has_yielded_begins_no_fresh_adapter_while_the_old_one_is_in_its_memory_alone() -> None:
    house = House()

    async def act(stage: Stage) -> None:
        await until_idle(stage)
        assert isinstance(await stage.system.ask(YieldTrainer(night="n"), timeout=30), TrainerYielded)
        commits = stage.count(GenerationCommitted)
        await stage.tell(GenerationDamaged(generation=1, path="state/generations/000001"))
        await stage.rest(5)
        begun = await stage.system.ask(BeginAdapter(night="n", model_path=""), timeout=30)
        assert isinstance(begun, AdapterNotBegun)
        assert "committed anew first" in begun.why
        assert stage.count(GenerationCommitted) == commits
        await stage.tell(NightClosed(night="n", committed=False))
        await stage.hears(GenerationCommitted, commits + 1, within=5)

    house.stage().play(act)
    house.is_undisturbed()
