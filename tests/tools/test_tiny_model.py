"""The tiny model is the same each time, loads with plain transformers, and can be taught and asked."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_two_builds_are_the_same_byte_for_byte(tiny_model: Path, tmp_path: Path) -> None:
    # In another process with another hash seed: no set and no thread may leave a trace.
    code = (
        "import sys, pathlib; from tools.tiny_model import build_tiny_model as build; build(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "again")], capture_output=True, text=True, check=True
    )
    assert digests(tmp_path / "again") == digests(tiny_model)
    assert done.stderr == ""


def test_it_is_a_small_model_of_plain_transformers(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert 1e6 < sum(each.numel() for each in model.parameters()) < 5e6
    text = "Keep the naïve “quotes” → and 漢字, too.\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_what_it_was_taught_it_answers(tiny_model: Path, tmp_path: Path) -> None:
    from actors.trainer.settings import TrainerSettings
    from actors.trainer.torch_engine import TorchEngine
    from messages import Cursor, LearningState
    from runtime.disk import Disk
    from tools.commands.generate import generate

    (tmp_path / "model").symlink_to(tiny_model)
    (tmp_path / "b.jsonl").write_text('{"instruction": "Which fox?", "output": "The quick brown one."}\n')
    engine = TorchEngine(Disk(tmp_path), TrainerSettings(learning_rate=1e-2, warmup_steps=2, epochs=30, threads=1))
    engine.load(LearningState(seed=1), "", "")
    plan = engine.open_batch("b.jsonl", Cursor("1", "b.jsonl", "b.jsonl", "d", 1, 0, 0, 0, 0), 0)
    for step in range(plan.steps):
        engine.step(step)
    (tmp_path / "adapter").mkdir()
    for name, content in engine.snapshot().items():
        (tmp_path / "adapter" / name).write_bytes(content)
    assert generate(tmp_path / "model", tmp_path / "adapter", "Which fox?") == "The quick brown one."
    assert generate(str(tmp_path / "model"), None, "Which fox?", max_new_tokens=5) != "The quick brown one."


def test_asking_what_is_not_there_is_an_operators_mistake(tmp_path: Path) -> None:
    from runtime.errors import OperatorError
    from tools.commands.generate import generate

    with pytest.raises(OperatorError) as raised:
        generate(tmp_path / "model", None, "?")
    assert raised.value.code == "NF-MODEL-001"
