"""The engine's promises: byte identity through snapshots, all or refuse, the same gradient however a step is cut."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.trainer.engine import BatchPlan, EngineError, Step
from actors.trainer.settings import TrainerSettings
from messages import Cursor, LearningState
from messages.examples import Text
from runtime.disk import Disk

pytestmark = pytest.mark.real

CAPITALS = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Norway": "Oslo", "Japan": "Tokyo", "Peru": "Lima"}
FAST = TrainerSettings(
    rank=4, learning_rate=1e-2, warmup_steps=5, batch_examples=3, epochs=20, threads=1, device="cpu", seed=7
)
STATE = LearningState(seed=7, threads=1)


@pytest.fixture
def home(tmp_path: Path, tiny_model: Path) -> Path:
    """A home with the tiny model linked in and one batch of six examples."""
    (tmp_path / "model").symlink_to(tiny_model)
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"What is the capital of {country}?" + " Say it." * (number % 3)},
                {"role": "assistant", "content": f"It is {city}."},
            ]
        }
        for number, (country, city) in enumerate(CAPITALS.items())
    ]
    write_lines(tmp_path, lines)
    return tmp_path


def write_lines(home: Path, lines: list[Any]) -> None:
    (home / "batch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def cursor(step: int = 0, steps: int = 0, epochs: int = 0) -> Cursor:
    return Cursor("000001", "batch.jsonl", "batch.jsonl", "blake3:ab", 6, step, steps, epochs, 0)


Engine = Any


@pytest.fixture
def engines(home: Path) -> Iterator[Any]:
    from actors.trainer.torch_engine import TorchEngine

    made = []

    def make(settings: TrainerSettings = FAST, state: LearningState = STATE, path: str = "") -> Engine:
        engine = TorchEngine(Disk(home), settings)
        engine.load(state, path, "")
        made.append(engine)
        return engine

    yield make
    for engine in made[:1]:  # the others go with their references; one call shows that it can be done
        engine.unload()


def begin(engine: Engine, step: int = 0, steps: int = 0) -> BatchPlan:
    plan: BatchPlan = engine.open_batch("batch.jsonl", cursor(step, steps), step)
    return plan


def steps(engine: Engine, first: int, last: int) -> list[Step]:
    return [engine.step(number) for number in range(first, last)]


def saved(engine: Engine) -> dict[str, bytes]:
    """A snapshot's files as they would be read back."""
    return {name: bytes(content) for name, content in engine.snapshot().items()}


def write(home: Path, name: str, files: Mapping[str, bytes]) -> str:
    (home / name).mkdir()
    for file, content in files.items():
        (home / name / file).write_bytes(content)
    return name


def changed(settings: TrainerSettings, **fields: Any) -> TrainerSettings:
    return msgspec.structs.replace(settings, **fields)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_stopping_and_loading_elsewhere_changes_no_byte(home: Path, engines: Any, dropout: float) -> None:
    settings = changed(FAST, dropout=dropout)
    straight = engines(settings)
    plan = begin(straight)
    assert plan.steps == 40
    done = steps(straight, 0, 40)
    broken: list[Step] = []
    path, state = "", STATE
    for first, last in [(0, 1), (1, 20), (20, 40)]:
        engine = engines(settings, state, path)
        begin(engine, first, plan.steps)
        engine.evaluate()
        broken += steps(engine, first, last)
        path = write(home, f"generation{last}", saved(engine))
        state = msgspec.structs.replace(STATE, adapter_step=last)
    assert broken == done
    assert saved(engine) == saved(straight)
    assert done[-1].loss < done[0].loss / 4


def test_a_snapshot_loads_with_plain_peft_and_answers_alike(home: Path, engines: Any, tiny_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from actors.trainer.loss import trained_loss

    engine = engines()
    begin(engine)
    steps(engine, 0, 5)
    generation = write(home, "generation", saved(engine))
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), home / generation)
    plain.eval()
    tokens, sample = engine._open.tokens, engine._open.sample
    loss = trained_loss(plain, tokens, sample).item() / sum(tokens.trained_counts)
    assert loss == pytest.approx(engine.evaluate(), rel=1e-5)


def test_a_snapshot_has_the_names_peft_would_write(home: Path, engines: Any, tmp_path: Path) -> None:
    from safetensors.torch import load, load_file

    engine = engines()
    files = saved(engine)
    engine._loaded.adapter.model.save_pretrained(tmp_path / "by_peft")
    by_peft = load_file(tmp_path / "by_peft" / "adapter_model.safetensors")
    ours = load(files["adapter_model.safetensors"])
    assert sorted(ours) == sorted(by_peft)
    assert all(ours[name].equal(by_peft[name]) for name in ours)
    theirs = json.loads((tmp_path / "by_peft" / "adapter_config.json").read_text())
    config = json.loads(files["adapter_config.json"])
    assert {**theirs, "target_modules": sorted(theirs["target_modules"])} == config
    assert config["base_model_name_or_path"] == "model"
    assert str(home) not in files["adapter_config.json"].decode()


def test_a_fresh_adapter_hangs_on_seed_and_adapter_id(engines: Any) -> None:
    weights = "adapter_model.safetensors"
    first = engines().snapshot()
    assert engines().snapshot() == first
    for state in [LearningState(seed=8, threads=1), LearningState(seed=7, threads=1, adapter_id="a0002")]:
        assert engines(FAST, state).snapshot()[weights] != first[weights]


def test_the_gradient_is_the_same_however_a_step_is_cut(engines: Any) -> None:
    whole, pieces = (engines(changed(FAST, micro_batch_tokens=tokens)) for tokens in (4096, 1))
    begin(whole), begin(pieces)
    for one, other in zip(steps(whole, 0, 3), steps(pieces, 0, 3), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)
        assert one.tokens == other.tokens


def test_the_loss_is_that_of_transformers(home: Path, engines: Any, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    engine = engines()
    begin(engine)
    tokens = engine._open.tokens
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    total = 0.0
    for number in range(len(tokens)):
        window, trained = tokens.window(number)
        ids = torch.tensor([list(window)])
        labels = torch.where(torch.tensor([list(trained)]).bool(), ids, -100)
        total += model(input_ids=ids, labels=labels).loss.item() * tokens.trained_counts[number]
    assert engine.evaluate() == pytest.approx(total / sum(tokens.trained_counts), rel=1e-5)


def test_measuring_changes_nothing(engines: Any) -> None:
    settings = changed(FAST, dropout=0.1)
    measured, other = engines(settings), engines(settings)
    begin(measured), begin(other)
    for number in range(4):
        measured.evaluate()
        assert measured.step(number) == other.step(number)
    assert measured.snapshot() == other.snapshot()


def test_the_learning_rate_warms_up_with_the_adapter_and_stays(engines: Any) -> None:
    engine = engines()
    begin(engine)
    rates = [step.learning_rate for step in steps(engine, 0, 7)]
    assert rates == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01, 0.01, 0.01])


def test_t6_a_step_that_is_not_finite_changes_no_weight(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.trainer import loss, torch_engine

    engine = engines()
    begin(engine)
    steps(engine, 0, 2)
    before = engine.snapshot()
    real = loss.trained_loss
    monkeypatch.setattr(torch_engine, "trained_loss", lambda *given: real(*given) * math.nan)
    skipped = engine.step(2)
    assert "nan" in skipped.skipped
    after = engine.snapshot()
    assert after["adapter_model.safetensors"] == before["adapter_model.safetensors"]
    assert after["optimizer.safetensors"] == before["optimizer.safetensors"]
    monkeypatch.undo()
    assert engine.step(2).skipped == ""


def test_t4_out_of_memory_finishes_the_same_step_in_pieces(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from actors.trainer import loss, torch_engine

    settings = changed(FAST, batch_examples=6)
    roomy, tight = engines(settings), engines(settings)
    begin(roomy), begin(tight)
    expected = roomy.step(0)
    real = loss.trained_loss

    def small_device(model: Any, tokens: Any, numbers: list[int]) -> Any:
        if len(numbers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, tokens, numbers)

    monkeypatch.setattr(torch_engine, "trained_loss", small_device)
    step = tight.step(0)
    assert step.micro_batch == 1
    assert step.tokens == expected.tokens
    assert step.loss == pytest.approx(expected.loss, rel=1e-5)
    assert step.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)


def test_t4_out_of_memory_with_one_example_is_told(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.trainer import torch_engine

    def no_memory(*_given: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    engine = engines()
    begin(engine)
    monkeypatch.setattr(torch_engine, "trained_loss", no_memory)
    with pytest.raises(EngineError, match="one example") as raised:
        engine.step(0)
    assert raised.value.code == "NF-TRAIN-004"


def test_t5_a_failing_device_is_worth_another_try(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.trainer import torch_engine

    def fail(*_given: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    engine = engines()
    begin(engine)
    monkeypatch.setattr(torch_engine, "trained_loss", fail)
    with pytest.raises(EngineError) as raised:
        engine.step(0)
    assert raised.value.code == "NF-TRAIN-011"
    assert raised.value.transient


def test_t6_what_is_not_finite_is_never_saved(engines: Any) -> None:
    import torch

    engine = engines()
    with torch.no_grad():
        next(iter(engine._loaded.adapter.parameters.values()))[0, 0] = math.inf
    with pytest.raises(EngineError) as raised:
        engine.snapshot()
    assert raised.value.code == "NF-TRAIN-005"


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "nan", "torn", "gone"])
def test_b7_loading_is_all_or_refuse(home: Path, engines: Any, file: str, damage: str) -> None:
    import torch
    from safetensors.torch import load, save

    files = saved(engines())
    tensors = load(files[file])
    name = min(tensors)
    if damage == "missing":
        del tensors[name]
    elif damage == "unknown":
        tensors["other"] = torch.zeros(1)
    elif damage == "shape":
        tensors[name] = torch.zeros(3)
    elif damage == "nan":
        tensors[name] = torch.full_like(tensors[name], math.nan)
    files[file] = files[file][:-7] if damage == "torn" else save(tensors)
    if damage == "gone":
        del files[file]
    with pytest.raises(EngineError) as raised:
        engines(FAST, STATE, write(home, "damaged", files))
    assert raised.value.code == "NF-MODEL-008"
    assert file in raised.value.why


def test_a_changed_rank_is_for_the_next_adapter(home: Path, engines: Any) -> None:
    files = saved(engines())
    path = write(home, "generation", files)
    assert engines(changed(FAST, rank=16), STATE, path).snapshot() == files


def test_t10_another_base_is_refused(engines: Any) -> None:
    with pytest.raises(EngineError) as raised:
        engines(FAST, msgspec.structs.replace(STATE, base_fingerprint="blake3:other"))
    assert raised.value.code == "NF-MODEL-010"


def test_a_batch_cut_into_other_steps_is_not_resumed(engines: Any) -> None:
    engine = engines(changed(FAST, batch_examples=2))
    with pytest.raises(EngineError) as raised:
        begin(engine, step=3, steps=40)
    assert raised.value.code == "NF-TRAIN-003"


def test_a_resumed_batch_keeps_its_epochs(engines: Any) -> None:
    engine = engines(changed(FAST, epochs=1))
    assert engine.open_batch("batch.jsonl", cursor(3, 40, 20), 3).steps == 40


def test_f3_lines_without_a_trained_token_are_told_and_not_trained(home: Path, engines: Any) -> None:
    silent = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "no", "weight": 0}]}
    engine = engines()
    write_lines(home, [{"prompt": "Two and two is", "completion": " four."}, {"text": "Four it is."}])
    both = begin(engine)
    assert (both.examples, both.warnings) == (2, ())
    write_lines(home, [silent])
    with pytest.raises(EngineError) as raised:
        begin(engine)
    assert raised.value.code == "NF-TRAIN-002"


@pytest.mark.parametrize("over_long", ["split", "reject"])
def test_an_over_long_example_is_never_cut_silently(home: Path, engines: Any, over_long: str) -> None:
    engine = engines(changed(FAST, max_length=32, over_long=over_long, epochs=2))
    write_lines(home, [{"text": "short"}, {"text": "word " * 100}])
    plan = begin(engine)
    assert any("longer than the model takes" in warning for warning in plan.warnings)
    whole = engine._renderer.whole(Text("word " * 100))
    if over_long == "split":
        assert plan.examples == 2
        assert plan.tokens_cut == 0
        assert max(engine._open.tokens.lengths) == 32
        assert plan.tokens_trained > 2 * len(whole.input_ids) - 2
    else:
        assert plan.examples == 1
        assert plan.tokens_cut == 2 * len(whole.input_ids)
    engine.step(0)


def _set(config: Path, key: str, value: object) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (shutil.rmtree, "NF-MODEL-001"),
        (lambda model: (model / "config.json").unlink(), "NF-MODEL-001"),
        (lambda model: (model / "model.safetensors").unlink(), "NF-MODEL-004"),
        (lambda model: (model / "tokenizer.json").unlink(), "NF-MODEL-005"),
        (lambda model: (model / "model.safetensors").write_bytes(b"\x08" + bytes(40)), "NF-MODEL-003"),
        (lambda model: (model / "config.json").write_text("{"), "NF-MODEL-003"),
        (lambda model: (model / "tokenizer.json").write_text('{"model": 7}'), "NF-MODEL-005"),
        (lambda model: _set(model / "config.json", "num_attention_heads", 0), "NF-MODEL-003"),
        (lambda model: _set(model / "config.json", "hidden_size", "wide"), "NF-MODEL-003"),
    ],
    ids=[
        "no folder",
        "no config",
        "no weights",
        "no tokenizer",
        "damaged weights",
        "damaged config",
        "damaged tokenizer",
        "a config that divides by zero",
        "a config with a word for a number",
    ],
)
def test_a_base_that_cannot_be_used_is_told_in_words(
    tmp_path: Path, tiny_model: Path, break_it: Any, code: str
) -> None:
    from actors.trainer.torch_engine import TorchEngine

    shutil.copytree(tiny_model, tmp_path / "model")
    break_it(tmp_path / "model")
    with pytest.raises(EngineError) as raised:
        TorchEngine(Disk(tmp_path), FAST).load(STATE, "", "")
    assert raised.value.code == code
    assert "model" in raised.value.why


def test_a_missing_tensor_is_never_made_up(tmp_path: Path, tiny_model: Path) -> None:
    from safetensors.torch import load_file, save_file

    from actors.trainer.torch_engine import TorchEngine

    shutil.copytree(tiny_model, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match="up_proj") as raised:
        TorchEngine(Disk(tmp_path), FAST).load(STATE, "", "")
    assert raised.value.code == "NF-MODEL-003"


def test_an_unknown_device_is_told(engines: Any) -> None:
    with pytest.raises(EngineError) as raised:
        engines(changed(FAST, device="quantum"))
    assert raised.value.code == "NF-MODEL-006"


def test_targets_that_match_nothing_are_told(engines: Any) -> None:
    with pytest.raises(EngineError) as raised:
        engines(changed(FAST, targets=["no_such_module"]))
    assert raised.value.code == "NF-MODEL-007"


def tied(model: Path, folder: Path) -> Path:
    """The same model with one tensor for embeddings and head."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = AutoModelForCausalLM.from_pretrained(model)
    whole.config.tie_word_embeddings = True
    whole.tie_weights()
    whole.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["embed_tokens"], r".*\.(v_proj|embed_tokens)"], ids=str)
@pytest.mark.parametrize("is_tied", [False, True], ids=["apart", "tied"])
def test_n12_an_adapter_on_embeddings_or_head_is_refused_before_anything_is_learnt(
    home: Path, engines: Any, tiny_model: Path, targets: str | list[str], is_tied: bool
) -> None:
    if is_tied:
        (home / "model").unlink()
        tied(tiny_model, home / "model")
    with pytest.raises(EngineError, match="cannot be folded in") as raised:
        engines(changed(FAST, targets=targets))
    assert raised.value.code == "NF-MODEL-007"
    assert not raised.value.transient


def test_n12_on_a_tied_model_what_is_merged_answers_as_base_and_adapter_do(
    home: Path, engines: Any, tiny_model: Path
) -> None:
    from actors.consolidator.merge import merge
    from actors.consolidator.verify import verify_answers, verify_tensors

    (home / "model").unlink()
    base = tied(tiny_model, home / "model")
    engine = engines()
    begin(engine)
    steps(engine, 0, 12)
    adapter = home / write(home, "adapter", saved(engine))
    merge(base, [adapter], home / "merged")
    verify_tensors(base, [adapter], home / "merged")
    assert 0 < verify_answers(base, adapter, home / "merged").relative < 1e-5


def test_t10_the_fingerprint_sees_weights_config_and_tokenizer(tmp_path: Path, tiny_model: Path) -> None:
    from actors.trainer.base_model import fingerprint

    seen = {fingerprint(tiny_model)}
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        copied = tmp_path / name
        shutil.copytree(tiny_model, copied)
        assert fingerprint(copied) in seen
        content = (copied / name).read_bytes()
        (copied / name).write_bytes(content[:-1] + b"\x01")
        assert fingerprint(copied) not in seen
        seen.add(fingerprint(copied))


def test_gradient_checkpointing_gives_the_same_step(engines: Any) -> None:
    plain, saving = engines(), engines(changed(FAST, gradient_checkpointing=True))
    begin(plain), begin(saving)
    for one, other in zip(steps(plain, 0, 3), steps(saving, 0, 3), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)
