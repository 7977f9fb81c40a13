"""What is held out follows from the file, is never trained, is the same after a crash, and goes on through nights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.trainer import held_out
from actors.trainer.engine import EngineError
from actors.trainer.held_out import KeptSample, choose, wanted, window_of
from actors.trainer.settings import TrainerSettings
from messages import Cursor, LearningState
from messages.held_out import HeldOutWindow, read_held_out
from runtime.disk import Disk
from tests.real.daemons import chat

FAST = TrainerSettings(
    rank=4, learning_rate=1e-2, warmup_steps=5, batch_examples=6, epochs=3, threads=1, device="cpu", seed=7,
    held_out_share=0.1,
)  # fmt: skip
STATE = LearningState(seed=7, threads=1)
EXAMPLES = 30


# Which ones.


@pytest.mark.parametrize(
    ("examples", "share", "count"),
    [(0, 0.05, 0), (19, 0.05, 0), (20, 0.05, 1), (20, 0.01, 1), (100, 0.05, 5), (20, 0.0, 0), (9_999, 0.05, 32)],
)
def test_a_small_file_holds_out_nothing_and_a_large_one_no_more_than_is_cheap_to_measure(
    examples: int, share: float, count: int
) -> None:
    assert wanted(examples, share, 20) == count


def test_a_small_file_holds_out_some_if_it_is_asked_to_and_keeps_most() -> None:
    assert [wanted(examples, 0.5, 2) for examples in (1, 2, 3, 10)] == [0, 1, 1, 5]


def test_the_choice_is_frozen() -> None:
    # A file that was interrupted with one version goes on with the next, so this may never change.
    assert choose(0, "blake3:00", [1] * 40, 3) == [2, 1, 26]
    assert choose(0, "blake3:00", [1] * 40, 2) == [2, 1], "fewer are the first of more"
    assert choose(1, "blake3:00", [1] * 40, 3) != choose(0, "blake3:00", [1] * 40, 3)


def test_an_example_too_long_to_be_cheap_is_learnt() -> None:
    sizes = [held_out.TOKENS_MAX + 1 if number == 1 else 1 for number in range(40)]
    assert choose(0, "blake3:00", sizes, 3)[:2] == [2, 26]
    assert choose(0, "blake3:00", [held_out.TOKENS_MAX] * 40, 3) == [2]


# What is kept of them.


def windows(count: int, tokens: int = 4) -> list[HeldOutWindow]:
    return [HeldOutWindow((number,) * tokens, ((1, tokens),)) for number in range(count)]


def kept(sample: KeptSample) -> dict[str, int]:
    return {one.digest: len(one.windows) for one in read_held_out(sample.content).slices}


def test_what_is_kept_is_bounded_and_old_files_stay_as_long_as_there_is_room() -> None:
    sample = KeptSample()
    sample.add("first", windows(4))
    for number in range(3):
        sample.add(f"large {number}", windows(32))
    assert kept(sample) == {"first": 4, "large 0": 20, "large 1": 20, "large 2": 20}
    for number in range(60):
        sample.add(f"small {number}", windows(1))
    assert kept(sample)["first"] == 1
    assert sum(kept(sample).values()) == held_out.KEPT_WINDOWS_MAX
    for number in range(3):
        sample.add(f"long {number}", windows(2, tokens=held_out.WINDOW_TOKENS_MAX))
    tokens = sum(len(window.ids) for one in read_held_out(sample.content).slices for window in one.windows)
    assert tokens <= held_out.KEPT_TOKENS_MAX


def test_the_same_file_again_takes_the_place_of_its_older_slice() -> None:
    sample = KeptSample()
    for digest in ("a", "b", "a"):
        sample.add(digest, windows(2))
    assert list(kept(sample)) == ["b", "a"]
    again = KeptSample(sample.content)
    assert again.content == sample.content


def test_of_a_long_window_the_end_is_kept() -> None:
    ids, trained = list(range(2000)), [number >= 1500 and number % 10 != 0 for number in range(2000)]
    found = window_of(ids, trained)
    assert found.ids == tuple(range(976, 2000))
    assert [found.ids[place] for place in found.targets] == [number for number in ids if trained[number]]


def test_a_first_token_and_a_window_without_a_trained_one_are_not_measured() -> None:
    assert window_of([5, 6, 7], [1, 0, 1]).targets == [2]
    sample = KeptSample()
    sample.add("a", [window_of([5, 6], [1, 0])])
    assert kept(sample) == {}


# With the real engine.


@pytest.fixture
def home(tmp_path: Path, tiny_model: Path) -> Path:
    (tmp_path / "model").symlink_to(tiny_model)
    # Of different lengths, and one long enough to be split where a test bounds the length.
    lines = [chat(f"Who keeps light {number}?", "Old Marget. " * (1 + number % 4)) for number in range(EXAMPLES)]
    (tmp_path / "batch.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return tmp_path


@pytest.fixture
def engines(home: Path) -> Any:
    from actors.trainer.torch_engine import TorchEngine

    def make(path: str = "", step: int = 0, **settings: Any) -> Any:
        engine = TorchEngine(Disk(home), msgspec.structs.replace(FAST, **settings))
        engine.load(msgspec.structs.replace(STATE, adapter_step=step), path, "")
        return engine

    return make


def cursor(**fields: Any) -> Cursor:
    return Cursor("000001", "batch.jsonl", "batch.jsonl", "blake3:ab", EXAMPLES, 0, 0, 0, 0, **fields)


def written(home: Path, name: str, files: Mapping[str, bytes]) -> str:
    (home / name).mkdir()
    for file, content in files.items():
        (home / name / file).write_bytes(content)
    return name


@pytest.mark.real
@pytest.mark.parametrize("length_max", [None, 24])
def test_n10_what_is_held_out_is_in_no_step_and_all_else_in_each_epoch(
    engines: Any, monkeypatch: pytest.MonkeyPatch, length_max: int | None
) -> None:
    from actors.trainer.loss import trained_loss

    engine = engines(max_length=length_max)
    plan = engine.open_batch("batch.jsonl", cursor(), 0)
    tokens = engine._open.tokens
    examples = set(choose(7, "blake3:ab", [1] * EXAMPLES, 3))
    assert plan.held_out == len(examples) == 3
    trained = Counter[int]()

    def watched(model: Any, batch: Any, numbers: list[int]) -> Any:
        trained.update(numbers if model.training else [])
        return trained_loss(model, batch, numbers)

    monkeypatch.setattr("actors.trainer.torch_engine.trained_loss", watched)
    before = engine.evaluate(), engine.evaluate_held_out()
    done = [engine.step(number) for number in range(plan.steps)]
    after = engine.evaluate(), engine.evaluate_held_out()
    learnt = [number for number in range(len(tokens)) if tokens.owners[number] not in examples]
    assert trained == dict.fromkeys(learnt, 3)
    assert len(tokens) > EXAMPLES if length_max else len(tokens) == EXAMPLES
    assert sum(step.tokens for step in done) == plan.tokens_trained == 3 * sum(tokens.trained_counts[n] for n in learnt)
    assert plan.tokens_masked == 3 * sum(tokens.lengths[n] - tokens.trained_counts[n] for n in learnt)
    assert after[0] < before[0]
    assert after[1] < before[1]
    assert not set(engine._open.sample) & set(engine._open.held_out), "each figure is of its own examples"


@pytest.mark.real
def test_n10_t1_the_slice_is_the_same_after_a_crash_whatever_the_setting_says_by_then(home: Path, engines: Any) -> None:
    straight = engines()
    plan = straight.open_batch("batch.jsonl", cursor(), 0)
    for number in range(plan.steps):
        straight.step(number)

    first = engines()
    first.open_batch("batch.jsonl", cursor(), 0)
    for number in range(4):
        first.step(number)
    generation = written(home, "generation", first.snapshot())
    second = engines(generation, 4, held_out_share=0.5, held_out_examples_min=2)
    stood = msgspec.structs.replace(cursor(), step=4, steps=plan.steps, epochs=3, held_out=plan.held_out)
    assert second.open_batch("batch.jsonl", stood, 4) == plan
    second.evaluate_held_out()
    for number in range(4, plan.steps):
        second.step(number)
    assert second.snapshot() == straight.snapshot()
    [slice_kept] = read_held_out(second.snapshot()["held_out.json"]).slices
    assert (slice_kept.digest, len(slice_kept.windows)) == ("blake3:ab", 3)


@pytest.mark.real
def test_a_file_half_trained_by_a_version_that_held_out_nothing_goes_on_so(home: Path, engines: Any) -> None:
    first = engines(held_out_share=0.0)
    plan = first.open_batch("batch.jsonl", cursor(), 0)
    first.step(0)
    files = dict(first.snapshot())
    del files["held_out.json"]
    second = engines(written(home, "generation", files), 1)
    stood = msgspec.structs.replace(cursor(), step=1, steps=plan.steps, epochs=3)
    again = second.open_batch("batch.jsonl", stood, 1)
    assert (again.steps, again.held_out, second.evaluate_held_out()) == (plan.steps, 0, None)
    assert read_held_out(second.snapshot()["held_out.json"]).slices == ()


@pytest.mark.real
def test_a_slice_that_cannot_be_what_it_was_stops_the_file(engines: Any) -> None:
    engine = engines()
    plan = engine.open_batch("batch.jsonl", cursor(), 0)
    stood = msgspec.structs.replace(cursor(), step=1, steps=plan.steps, epochs=3, held_out=4000)
    with pytest.raises(EngineError) as caught:
        engine.open_batch("batch.jsonl", stood, 1)
    assert caught.value.code == "NF-TRAIN-003"


@pytest.mark.real
def test_a_fresh_adapter_goes_on_with_what_was_held_out_and_a_new_home_begins_without(home: Path, engines: Any) -> None:
    engine = engines()
    engine.open_batch("batch.jsonl", cursor(), 0)
    kept_before = engine.snapshot()["held_out.json"]
    engine.load(msgspec.structs.replace(STATE, adapter_id="a0002", base="night"), "", "model")
    assert engine.snapshot()["held_out.json"] == kept_before
    engine.load(STATE, "", "")
    assert read_held_out(engine.snapshot()["held_out.json"]).slices == ()
    written(home, "generation", {**engine.snapshot(), "held_out.json": b"{"})
    with pytest.raises(EngineError, match=r"held_out\.json"):
        engine.load(STATE, "generation", "")
