"""generate asks exactly the model that HEAD names."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from runtime.errors import OperatorError
from tools.commands.ask import generate_command, model_in_force, pristine_base


def commit(home: Path, *, generation: int = 42, model_path: str = "") -> Path:
    """A generation in force, as the Checkpointer leaves it, as far as ``ask`` looks."""
    path = f"state/generations/{generation:06d}"
    (home / path).mkdir(parents=True)
    (home / path / "adapter_config.json").write_text("{}")
    if model_path:
        (home / model_path).mkdir(parents=True)
    head = {"generation": generation, "generation_path": path, "model_path": model_path, "ledger": []}
    (home / "state" / "HEAD").write_text(json.dumps(head))
    return home / path


def test_the_pristine_base_is_a_folder_of_the_home_an_absolute_one_or_a_hub_id(home: Path, tmp_path: Path) -> None:
    (home / "model").mkdir()
    assert pristine_base(home) == str(home / "model")
    (home / "nightfold.toml").write_text("")
    assert pristine_base(home) == str(home / "model")
    (tmp_path / "elsewhere").mkdir()
    (home / "nightfold.toml").write_text(f'[trainer]\nmodel = "{tmp_path}/elsewhere"\n')
    assert pristine_base(home) == f"{tmp_path}/elsewhere"
    (home / "nightfold.toml").write_text('[trainer]\nmodel = "Qwen/Qwen3-0.6B"\n')
    assert pristine_base(home) == "Qwen/Qwen3-0.6B"


def test_before_the_first_commit_there_is_no_adapter(home: Path) -> None:
    assert model_in_force(home) == ("model", None)
    (home / "state" / "HEAD").write_text('{"generation": 0, "generation_path": "", "model_path": "", "ledger": []}')
    assert model_in_force(home) == ("model", None)


def test_the_adapter_stands_on_the_pristine_base_or_on_the_night_head_names(home: Path) -> None:
    adapter = commit(home)
    assert model_in_force(home) == ("model", adapter)
    adapter = commit(home, generation=43, model_path="consolidated_models/20261123T030000")
    assert model_in_force(home) == (str(home / "consolidated_models/20261123T030000"), adapter)


@pytest.mark.parametrize("head", ["", "[]", '{"model_path": "consolidated_models/gone"}', '{"generation_path": "x"}'])
def test_a_head_that_cannot_be_followed_is_refused_in_words(home: Path, head: str) -> None:
    (home / "state" / "HEAD").write_text(head)
    with pytest.raises(OperatorError) as caught:
        model_in_force(home)
    assert (caught.value.code, caught.value.exit_code) == ("NF-CONF-009", 78)


def test_a_config_that_is_not_toml_is_refused_in_words(home: Path) -> None:
    (home / "nightfold.toml").write_text("[trainer")
    with pytest.raises(OperatorError) as caught:
        pristine_base(home)
    assert (caught.value.code, caught.value.exit_code) == ("NF-CONF-001", 78)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the torch side was asked; it is not loaded here."""
    calls: list[tuple[object, ...]] = []

    def generate(*arguments: object) -> str:
        calls.append(arguments)
        return "the answer"

    stand_in = types.ModuleType("tools.commands.generate")
    stand_in.generate = generate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tools.commands.generate", stand_in)
    return calls


def test_generate_asks_the_model_in_force_or_the_base(
    home: Path, asked: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate_command(home, "Hello", False, 7) == 0
    assert "nothing was learnt yet" in capsys.readouterr().err
    adapter = commit(home)
    assert generate_command(home, "Hello", False, 7) == 0
    assert generate_command(home, "Hello", True, 7) == 0
    assert asked == [("model", None, "Hello", 7), ("model", adapter, "Hello", 7), ("model", None, "Hello", 7)]
    assert capsys.readouterr().out == "the answer\n" * 2
