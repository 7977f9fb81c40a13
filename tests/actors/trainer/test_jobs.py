"""What the Trainer's thread does, job by job, with an engine that can be told to stumble."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from actors.trainer.engine import BatchPlan, EngineError, EngineInfo, Step
from actors.trainer.held_out import choose
from actors.trainer.jobs import DeviceJobs
from actors.trainer.settings import TrainerSettings
from messages import (
    AdapterBegun,
    AdapterNotBegun,
    BatchAccepted,
    BatchExhausted,
    BatchOpened,
    Cursor,
    EngineLoaded,
    EngineStumbled,
    LearningState,
    LineError,
    StateInForce,
    StepsTaken,
)
from runtime.cloakroom import Cloakroom
from runtime.disk import Buffer
from runtime.simulation.disk import SimDisk
from tools.simulated_house.engine import POISON, HashChainEngine

EMPTY = StateInForce(generation=0, path="", state=LearningState(), ledger=(), model_path="")
ACCEPTED = BatchAccepted(
    batch="000003",
    name="a.jsonl",
    path="state/batches/a.jsonl",
    digest="blake3:00",
    size_bytes=9,
    examples=5,
    warnings=("one line repeats",),
    line_errors=(LineError(2, "$", "an object", "a list"),),
    line_error_count=1,
)


class Scripted(HashChainEngine):
    """Each call is noted, and does what the test says."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__(disk, random.Random(0), lambda: False)
        self.deed: Callable[[str], None] = lambda _: None
        self.calls: list[str] = []
        self.micro_batch = 0
        self.skips: set[int] = set()
        self.fingerprint = ""

    def _call(self, what: str) -> None:
        self.calls.append(what)
        self.deed(what)

    def load(self, state: LearningState, generation_path: str, model_path: str) -> EngineInfo:
        self._call("load")
        found = super().load(state, generation_path, model_path)
        return replace(found, fingerprint=self.fingerprint or found.fingerprint, threads=3)

    def open_batch(self, path: str, cursor: Cursor, adapter_step: int) -> BatchPlan:
        self._call("open")
        return replace(super().open_batch(path, cursor, adapter_step), warnings=("cut",), tokens_masked=7, tokens_cut=2)

    def step(self, adapter_step: int) -> Step:
        self._call("step")
        if self.calls.count("step") in self.skips:
            self._next += 1
            return Step(math.nan, 1.0, math.nan, 4, skipped="the loss is not finite")
        return replace(super().step(adapter_step), micro_batch=self.micro_batch)

    def evaluate(self) -> float | None:
        self._call("evaluate")
        return 2.0 - 0.25 * self.calls.count("step")

    def evaluate_held_out(self) -> float | None:
        self._call("evaluate held out")
        return super().evaluate_held_out()

    def snapshot(self) -> Mapping[str, Buffer]:
        self._call("snapshot")
        return super().snapshot()

    def close_batch(self) -> None:
        self._call("close")
        super().close_batch()


class Bench:
    """Jobs on an engine, a clock of one second a look, and a flag."""

    def __init__(self, content: bytes = b"1\n2\n3\n4\n5\n", **settings: float) -> None:
        self.disk = SimDisk()
        for folder in ("model", "state", "state/batches"):
            self.disk.person_mkdir(folder)
        self.disk.person_put("model/weights", b"pristine")
        self.disk.person_put(ACCEPTED.path, content)
        self.engine = Scripted(self.disk)
        self.room = Cloakroom()
        self.time = 0.0
        self.raised = False
        made = TrainerSettings(**{"slice_seconds": 1e9, "seed": 11, "epochs": 4, **settings})  # type: ignore[arg-type]
        self.jobs = DeviceJobs(
            self.engine,
            made,
            self.room,
            self.disk,
            seconds=self._seconds,
            now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            interrupted=lambda: self.raised,
        )

    def _seconds(self) -> float:
        self.time += 1.0
        return self.time

    def opened(self) -> LearningState:
        loaded = self.jobs.load(EMPTY)
        assert isinstance(loaded, EngineLoaded)
        opened = self.jobs.open_batch(loaded.state, ACCEPTED)
        assert isinstance(opened, BatchOpened)
        return replace(loaded.state, cursor=opened.cursor)

    def slice(
        self, state: LearningState, at_most: int | None = None, *, snapshot: bool = False
    ) -> StepsTaken | BatchExhausted | EngineStumbled:
        return self.jobs.slice(state, ACCEPTED, at_most=at_most, snapshot_after=0 if snapshot else None)

    def taken(self, state: LearningState, at_most: int | None = None, *, snapshot: bool = False) -> StepsTaken:
        found = self.slice(state, at_most, snapshot=snapshot)
        assert isinstance(found, StepsTaken)
        return found


def stumble(at: str, error: Exception) -> Callable[[str], None]:
    def deed(what: str) -> None:
        if what == at:
            raise error

    return deed


def test_a_new_home_takes_its_seed_and_threads_from_the_settings_and_the_engine() -> None:
    loaded = Bench().jobs.load(EMPTY)
    assert isinstance(loaded, EngineLoaded)
    assert (loaded.state.seed, loaded.state.threads, loaded.generation) == (11, 3, 0)
    assert loaded.state.base_fingerprint != ""
    recorded = Bench(threads=2).jobs.load(EMPTY)
    assert isinstance(recorded, EngineLoaded)
    assert recorded.state.threads == 2


def test_an_old_home_keeps_its_seed_and_threads_whatever_the_settings_say() -> None:
    bench = Bench(seed=99, threads=8)
    first = bench.jobs.load(EMPTY)
    assert isinstance(first, EngineLoaded)
    files = bench.engine.snapshot()
    bench.disk.person_mkdir("state/g")
    for name, data in files.items():
        bench.disk.person_put(f"state/g/{name}", bytes(data))
    state = replace(first.state, seed=5, threads=4)
    again = Bench(seed=99, threads=8)
    again.engine._disk = bench.disk
    loaded = again.jobs.load(replace(EMPTY, generation=4, path="state/g", state=state))
    assert isinstance(loaded, EngineLoaded)
    assert (loaded.state.seed, loaded.state.threads, loaded.generation) == (5, 4, 4)


def test_t10_another_base_is_refused_with_both_fingerprints() -> None:
    bench = Bench()
    bench.engine.fingerprint = "blake3:bbbb"
    state = replace(EMPTY.state, base_fingerprint="blake3:aaaa")
    found = bench.jobs.load(replace(EMPTY, state=state))
    assert isinstance(found, EngineStumbled)
    assert (found.code, found.transient) == ("NF-MODEL-010", False)
    assert "blake3:aaaa" in found.why
    assert "blake3:bbbb" in found.why
    assert bench.jobs.done_state is None


@pytest.mark.parametrize(
    ("error", "code", "transient"),
    [
        (EngineError("NF-TRAIN-011", "hiccup", transient=True), "NF-TRAIN-011", True),
        (EngineError("NF-MODEL-001", "no such model"), "NF-MODEL-001", False),
        (OSError(5, "bad sector"), "NF-DISK-003", True),
    ],
)
@pytest.mark.parametrize("at", ["load", "open", "evaluate", "step", "snapshot"])
def test_t5_trouble_anywhere_is_a_message(at: str, error: Exception, code: str, transient: bool) -> None:
    bench = Bench()
    state = replace(LearningState(), cursor=None)
    if at not in ("load", "open", "evaluate"):
        state = bench.opened()
    elif at != "load":
        loaded = bench.jobs.load(EMPTY)
        assert isinstance(loaded, EngineLoaded)
        state = loaded.state
    bench.engine.deed = stumble(at, error)
    jobs: dict[str, Callable[[], object]] = {
        "load": lambda: bench.jobs.load(EMPTY),
        "open": lambda: bench.jobs.open_batch(state, ACCEPTED),
        "evaluate": lambda: bench.jobs.open_batch(state, ACCEPTED),
        "step": lambda: bench.slice(state),
        "snapshot": lambda: bench.slice(state, 1, snapshot=True),
    }
    found = jobs[at]()
    assert isinstance(found, EngineStumbled)
    assert (found.code, found.transient) == (code, transient)
    if at in ("load", "step", "snapshot"):
        assert bench.jobs.done_state is None, "what the engine holds now must not be committed"
    assert len(bench.room) == 0


def test_a_bug_of_the_engine_is_not_caught() -> None:
    bench = Bench()
    state = bench.opened()
    bench.engine.deed = stumble("step", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        bench.slice(state)


def test_a_batch_is_planned_and_its_loss_measured_before_the_first_step() -> None:
    bench = Bench()
    state = bench.opened()
    # Five examples, four a step, two epochs: (4 + 1) twice.
    assert state.cursor == Cursor(
        batch="000003",
        name="a.jsonl",
        path=ACCEPTED.path,
        digest="blake3:00",
        examples=5,
        step=0,
        steps=4,
        epochs=2,
        first_global_step=0,
        loss_before=2.0,
        tokens_trained=10,
        tokens_masked=7,
        tokens_cut=2,
        warnings=("one line repeats", "cut"),
    )
    assert bench.engine.calls == ["load", "open", "evaluate", "evaluate held out"]


def test_t1_a_batch_that_goes_on_is_not_measured_again_and_tells_nothing_twice() -> None:
    bench = Bench()
    taken = bench.taken(bench.opened(), 2)
    again = bench.jobs.open_batch(taken.state, ACCEPTED)
    assert isinstance(again, BatchOpened)
    assert (again.cursor.step, again.cursor.resumed, again.cursor.loss_before) == (2, 1, 2.0)
    assert again.cursor.warnings == ("one line repeats", "cut")
    assert bench.engine.calls.count("evaluate") == 1


LARGE = b"".join(b"%d\n" % number for number in range(40))


def test_what_is_held_out_is_measured_before_and_after_and_told_in_the_receipt() -> None:
    bench = Bench(LARGE)
    state = bench.opened()
    assert state.cursor is not None
    assert (state.cursor.held_out, state.cursor.loss_held_out_before) == (4, 1.0)
    # 36 of the 40 are learnt, four a step, in each of two epochs.
    assert (state.cursor.examples, state.cursor.steps) == (40, 18)
    taken = bench.taken(state, 2)
    again = bench.jobs.open_batch(taken.state, ACCEPTED)
    assert isinstance(again, BatchOpened)
    assert (again.cursor.held_out, again.cursor.loss_held_out_before) == (4, 1.0)
    done = bench.slice(replace(taken.state, cursor=again.cursor))
    assert isinstance(done, BatchExhausted)
    receipt = done.trained.receipt
    assert (receipt.held_out, receipt.loss_held_out_before, receipt.loss_held_out_after) == (4, 1.0, 1.0)
    assert bench.engine.calls.count("evaluate held out") == 2, "not again when it is resumed"


@pytest.mark.parametrize("is_held_out", [True, False])
def test_n10_an_example_that_is_held_out_is_never_trained(is_held_out: bool) -> None:
    held_out = choose(11, ACCEPTED.digest, [1] * 40, 4)
    at = held_out[0] if is_held_out else next(number for number in range(40) if number not in held_out)
    lines = [POISON if number == at else b"%d" % number for number in range(40)]
    bench = Bench(b"\n".join(lines))
    done = bench.slice(bench.opened())
    assert isinstance(done, BatchExhausted if is_held_out else EngineStumbled)


def test_a_batch_that_goes_on_holds_out_as_many_as_its_cursor_says() -> None:
    bench = Bench(LARGE)
    taken = bench.taken(bench.opened(), 2)
    assert taken.state.cursor is not None
    # As a version that held out nothing would have left it.
    old = replace(taken.state, cursor=replace(taken.state.cursor, held_out=0, loss_held_out_before=None, steps=20))
    again = bench.jobs.open_batch(old, ACCEPTED)
    assert isinstance(again, BatchOpened)
    assert (again.cursor.held_out, again.cursor.loss_held_out_before, again.cursor.steps) == (0, None, 20)


def test_a_slice_takes_as_many_steps_as_it_may() -> None:
    bench = Bench()
    state = bench.opened()
    first = bench.taken(state, 1)
    assert (first.taken, first.tokens, first.loss, first.ticket) == (1, 4, 1.0, "")
    cursor = first.state.cursor
    assert cursor is not None
    assert (first.state.global_step, first.state.adapter_step, cursor.step) == (1, 1, 1)
    assert first.state.learning_since == "2026-01-02T03:04:05+00:00"
    second = bench.taken(first.state, 2)
    assert (second.taken, second.state.global_step) == (2, 3)
    assert bench.jobs.done_state == second.state


def test_a_slice_ends_with_its_time() -> None:
    # The clock is looked at once before, and once after every step: 1, 2, 3 ... seconds.
    bench = Bench(slice_seconds=2.5)
    assert bench.taken(bench.opened()).taken == 3


def test_t8_the_flag_is_read_between_steps() -> None:
    bench = Bench()
    state = bench.opened()

    def raise_flag(what: str) -> None:
        bench.raised = what == "step" and bench.engine.calls.count("step") == 2

    bench.engine.deed = raise_flag
    taken = bench.taken(state)
    assert taken.taken == 2
    bench.raised = True
    nothing = bench.taken(taken.state)
    assert (nothing.taken, nothing.loss, nothing.state.global_step) == (0, None, 2)


def test_a_snapshot_is_left_with_the_steps_it_holds() -> None:
    bench = Bench()
    taken = bench.taken(bench.opened(), 2, snapshot=True)
    files = bench.room.look(taken.ticket)
    assert files is not None
    assert b'"steps":2' in bytes(files["adapter_model.safetensors"])
    assert taken.state.cursor is not None
    assert taken.state.cursor.checkpoints == 1
    assert bench.jobs.done_state == taken.state


def test_the_last_step_ends_the_batch_with_its_receipt() -> None:
    bench = Bench()
    taken = bench.taken(bench.opened(), 2, snapshot=True)
    done = bench.slice(taken.state)
    assert isinstance(done, BatchExhausted)
    receipt = done.trained.receipt
    assert (receipt.batch, receipt.name, receipt.digest) == ("000003", "a.jsonl", "blake3:00")
    assert (receipt.examples, receipt.epochs, receipt.steps) == (5, 2, 4)
    assert (receipt.first_global_step, receipt.last_global_step, receipt.adapter_id) == (1, 4, "a0001")
    assert (receipt.tokens_trained, receipt.tokens_masked, receipt.tokens_cut) == (10, 7, 2)
    assert (receipt.loss_before, receipt.loss_after) == (2.0, 1.0)
    assert (receipt.checkpoints, receipt.steps_skipped, receipt.resumed) == (2, 0, 0)
    assert (receipt.line_errors, receipt.line_error_count) == (ACCEPTED.line_errors, 1)
    assert receipt.when == "2026-01-02T03:04:05+00:00"
    assert receipt.seconds == 6.0  # three ticks of the clock in each slice
    assert (done.state.cursor, done.state.unfiled) == (None, (done.trained,))
    assert bench.engine.calls[-1] == "close"
    assert (bench.jobs.done_state, bench.jobs.done_outcome) == (done.state, done.trained)


def test_t6_a_skipped_step_moves_the_cursor_and_nothing_else() -> None:
    bench = Bench(b"not-finite 1\n")
    state = bench.opened()
    taken = bench.taken(state, 1)
    assert (taken.taken, taken.skipped, taken.loss, taken.tokens) == (1, 1, None, 0)
    assert taken.state.cursor is not None
    assert (taken.state.global_step, taken.state.learning_since) == (0, None)
    assert (taken.state.cursor.step, taken.state.cursor.steps_skipped) == (1, 1)


def test_t6_three_in_a_row_set_the_batch_aside_and_two_do_not() -> None:
    bench = Bench(b"".join(b"not-finite %d\n" % number for number in range(12)))
    found = bench.slice(bench.opened())
    assert isinstance(found, EngineStumbled)
    assert (found.code, found.transient) == ("NF-TRAIN-010", False)
    assert bench.engine.calls.count("step") == 3
    assert bench.jobs.done_state is None
    two = Bench(b"not-finite 1\nnot-finite 2\nnot-finite 3\n")
    done = two.slice(two.opened())  # three examples: one step in each of two epochs
    assert isinstance(done, BatchExhausted)
    assert done.trained.receipt.steps_skipped == 2


def test_t6_counting_begins_anew_with_a_good_step() -> None:
    bench = Bench(b"".join(b"%d\n" % number for number in range(12)))  # three steps in each of two epochs
    bench.engine.skips = {1, 2, 4, 5}
    done = bench.slice(bench.opened())
    assert isinstance(done, BatchExhausted)
    assert (done.trained.receipt.steps_skipped, done.state.global_step) == (4, 2)


def test_t6_counting_goes_on_over_slices_and_begins_anew_with_a_batch() -> None:
    content = b"".join(b"not-finite %d\n" % number for number in range(12))
    bench = Bench(content)
    state = bench.taken(bench.taken(bench.opened(), 1).state, 1).state
    assert isinstance(bench.slice(state, 1), EngineStumbled)
    bench = Bench(content)
    state = bench.taken(bench.opened(), 2).state
    opened = bench.jobs.open_batch(state, ACCEPTED)
    assert isinstance(opened, BatchOpened)
    assert isinstance(bench.slice(replace(state, cursor=opened.cursor), 2), StepsTaken)


def test_t4_pieces_of_a_step_are_told_once_in_the_receipt() -> None:
    bench = Bench()
    state = bench.opened()
    bench.engine.micro_batch = 2
    taken = bench.taken(state, 2)
    assert taken.micro_batch == 2
    done = bench.slice(taken.state)
    assert isinstance(done, BatchExhausted)
    told = "out of memory: steps were finished 2 examples at a time"
    assert done.trained.receipt.warnings == ("one line repeats", "cut", told)


def test_a_fresh_adapter_is_left_as_a_snapshot_or_refused_in_words() -> None:
    bench = Bench()
    state = replace(bench.opened(), adapter_id="a0002", adapter_step=0, cursor=None)
    begun = bench.jobs.begin_adapter(state, "")
    assert isinstance(begun, AdapterBegun)
    files = bench.room.look(begun.ticket)
    assert files is not None
    assert b'"steps":0' in bytes(files["adapter_model.safetensors"])
    assert bench.jobs.done_state == state
    refused = bench.jobs.begin_adapter(state, "consolidated_models/gone")
    assert isinstance(refused, AdapterNotBegun)
    assert "consolidated_models/gone" in refused.why
    assert bench.jobs.done_state is None
