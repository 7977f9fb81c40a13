"""import: what an older trainer learnt goes on here, its files are only read, and what does not fit is told at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.checkpointer.store import Store
from actors.checkpointer.verification import verify
from actors.consolidator.merge import merge
from actors.consolidator.verify import verify_tensors
from actors.trainer.order import evaluation_sample
from actors.trainer.settings import TrainerSettings
from actors.trainer.torch_engine import TorchEngine, learning_rate
from messages import Cursor, StateInForce
from runtime.disk import Disk
from runtime.errors import EXIT_DISK, EXIT_FAILED, OperatorError
from runtime.home_lock import HomeLock
from tests.real.daemons import command
from tests.tools.old_trainer import BATCH, RATE, WARMUP, OldTrainer, tree_digest
from tools.cli import main
from tools.commands.import_home import import_home
from tools.commands.init import init
from tools.house import read_config
from tools.moving_in import new_home
from tools.moving_in.torch_files import UnreadableError, read_torch_file

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("import")]

Moved = Callable[..., Path]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An old home that has learnt nine steps, with two snapshots and no consolidation. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("old") / "lived"
    trainer = OldTrainer(folder, tiny_model)
    for steps, place in ((4, "snapshots/2026-11-20"), (3, "snapshots/20261121T120000"), (2, "current_model")):
        trainer.learn(steps)
        trainer.save(place)
    trainer.write_config(tiny_model, max_seq_length=64)
    return folder


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An old home that consolidated at step six, began a fresh adapter in the same process, and learnt four more."""
    folder = tmp_path_factory.mktemp("old") / "folded"
    first = OldTrainer(folder, tiny_model)
    first.learn(6)
    first.save("snapshots/2026-11-20")
    merged = first.merge("20261121T030000", tiny_model)
    second = OldTrainer(folder, merged, seed=1, named=str(tiny_model))
    second.global_step = 6
    second.learn(2)
    second.save("snapshots/2026-11-21")
    second.learn(2)
    second.save()
    second.write_config(tiny_model)
    return folder


@pytest.fixture
def old(lived: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lived, tmp_path / "old", symlinks=True))


def moved(old: Path, home: Path, *, base: str | None = None, fresh_optimizer: bool = False) -> StateInForce:
    """Import, and what is in force afterwards."""
    assert import_home(old, home, base=base, fresh_optimizer=fresh_optimizer) == 0
    return in_force(home)


def in_force(home: Path) -> StateInForce:
    store = Store(Disk(home), keep_generations=5, keep_snapshots=7, keep_nights=2)
    opened = store.open()
    assert opened.damage == ()
    return store.in_force()


def refused(old: Path, home: Path, **given: Any) -> OperatorError:
    """The refusal; neither home was touched by it."""
    before = tree_digest(old)
    there = tree_digest(home) if home.exists() else ""
    with pytest.raises(OperatorError) as caught:
        import_home(old, home, **{"base": None, "fresh_optimizer": False, **given})
    assert tree_digest(old) == before
    assert (tree_digest(home) if home.exists() else "") == there
    assert not list(home.parent.glob(".*importing"))
    return caught.value


def saved(old: Path, change: Callable[[Any], Any], file: str = "optimizer.pt") -> None:
    """Change what is in one of the ``.pt`` files."""
    path = old / "current_model" / file
    torch.save(change(torch.load(path, weights_only=True)), path)


# What arrives.


def test_a_new_home_holds_adapter_moments_and_counters_and_the_old_one_is_as_it_was(
    old: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree_digest(old)
    home = tmp_path / "somewhere" / "home"
    force = moved(old, home)
    assert tree_digest(old) == before
    state = force.state
    assert (force.generation, state.global_step, state.adapter_step, state.adapter_id) == (1, 9, 9, "a0001")
    assert (state.base, force.model_path, force.ledger) == ("", "", ())
    theirs = load_file(old / "current_model/adapter_model.safetensors")
    ours = load_file(home / force.path / "adapter_model.safetensors")
    assert sorted(ours) == sorted(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    numbered = torch.load(old / "current_model/optimizer.pt", weights_only=True)["state"]
    named = load_file(home / force.path / "optimizer.safetensors")
    in_order = [name for name, _ in OldTrainer(tmp_path / "again", tiny_model).parameters]
    assert len(numbered) == len(in_order)
    for number, name in enumerate(in_order):
        for kind in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(named[f"{kind}/{name}"], numbered[number][kind]), (kind, name)
    told = capsys.readouterr().out
    assert "step 9, 9 of them its own" in told
    assert "the moments of all" in told
    assert "snapshots: 2 of 2 taken" in told
    assert "pristine base" in told


def test_the_settings_come_along_and_those_without_a_word_are_named(
    old: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((old / "config.json").read_text())
    more = {"gradient_accumulation_steps": 3, "max_grad_norm": 0, "num_train_epochs": 3.0, "hedgehogs": 7}
    (old / "config.json").write_text(json.dumps({**config, **more}))
    moved(old, tmp_path / "home")
    trainer = read_config(tmp_path / "home").take("trainer", TrainerSettings)
    assert (trainer.learning_rate, trainer.warmup_steps, trainer.epochs) == (RATE, WARMUP, 3)
    assert (trainer.rank, trainer.lora_alpha, trainer.max_length) == (4, 8, 64)
    assert trainer.targets == ["down_proj", "q_proj", "v_proj"]
    assert (trainer.batch_examples, trainer.batch_tokens) == (3 * BATCH, 3 * BATCH * 64)
    assert (trainer.adam_beta2, trainer.weight_decay) == (0.98, 0.01), "the optimizer's own figures"
    assert trainer.grad_clip == TrainerSettings().grad_clip
    assert trainer.model == str(tiny_model)
    told = capsys.readouterr().out
    assert "no setting for hedgehogs" in told
    assert "0 is no value for [trainer] grad_clip" in told


def one_step(home: Path, text: str) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The adapter after the Trainer's engine took one step on ``text`` from what is in force, and the tokens of it."""
    (home / "batch.jsonl").write_text(json.dumps({"text": text}) + "\n")
    force = in_force(home)
    settings = read_config(home).take("trainer", TrainerSettings)
    engine = TorchEngine(Disk(home), settings)
    engine.load(force.state, force.path, force.model_path)
    engine.open_batch("batch.jsonl", Cursor("000001", "b", "batch.jsonl", "blake3:ab", 1, 0, 0, 1, 0), 0)
    assert engine._open is not None
    assert evaluation_sample(0, "blake3:ab", 1) == [0]
    ids, trained = engine._open.tokens.window(0)
    assert all(trained[1:])
    engine.step(force.state.adapter_step)
    from safetensors.torch import load

    after = load(bytes(engine.snapshot()["adapter_model.safetensors"]))
    engine.unload()
    return after, list(ids)


def plain_step(old: Path, base: Path, ids: list[int]) -> tuple[dict[str, torch.Tensor], float]:
    """What a plain loop makes of the same files and tokens; and the rate its own schedule had for that step."""
    trainer = OldTrainer(old, base)
    weights = load_file(old / "current_model/adapter_model.safetensors")
    with torch.no_grad():
        for name, each in trainer.parameters:
            each.copy_(weights[name])
    trainer.optimizer.load_state_dict(torch.load(old / "current_model/optimizer.pt", weights_only=True))
    trainer.scheduler.load_state_dict(torch.load(old / "current_model/scheduler.pt", weights_only=True))
    rate = trainer.optimizer.param_groups[0]["lr"]
    row = torch.tensor([ids])
    trainer.step(row, row)
    return {name: each.detach().clone() for name, each in trainer.parameters}, rate


def test_the_next_step_is_the_one_that_a_plain_torch_loop_takes_from_the_same_files(
    old: Path, tmp_path: Path, tiny_model: Path
) -> None:
    moved(old, tmp_path / "home")
    moved(old, tmp_path / "fresh", fresh_optimizer=True)
    text = "The lamp is lit at dusk, and somebody writes down the hour."
    before = load_file(old / "current_model/adapter_model.safetensors")
    ours, ids = one_step(tmp_path / "home", text)
    plain, rate = plain_step(old, tiny_model, ids)
    settings = read_config(tmp_path / "home").take("trainer", TrainerSettings)
    assert learning_rate(settings, 9) == pytest.approx(rate)
    moved_by = max(float((plain[name] - before[name]).abs().max()) for name in plain)
    apart = max(float((plain[name] - ours[name]).abs().max()) for name in plain)
    assert moved_by > 1e-3
    assert apart < 1e-3 * moved_by, f"{apart} apart in a step of {moved_by}"
    fresh, _ = one_step(tmp_path / "fresh", text)
    assert max(float((plain[name] - fresh[name]).abs().max()) for name in plain) > 0.1 * moved_by


def test_status_history_doctor_and_training_work_on_it(
    folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    assert main(["import", str(folded), str(home)]) == 0
    for argv in (["status", str(home)], ["history", str(home)], ["doctor", str(home)]):
        assert main(argv) == 0, capsys.readouterr().out
    assert "moved in from an older trainer" in capsys.readouterr().out
    lines = [json.dumps({"prompt": f"{number}:", "completion": f" word {number}"}) for number in range(8)]
    (home / "inbox" / "more.jsonl").write_text("\n".join(lines))
    done = command("run", home, "--until-idle")
    assert done.returncode == 0, done.stdout + done.stderr
    receipt = json.loads((home / "trained/more.jsonl.receipt.json").read_bytes())
    assert receipt["first_global_step"] == 11
    force = in_force(home)
    assert force.state.global_step == 10 + receipt["steps"]
    assert force.state.adapter_step == 4 + receipt["steps"]
    steps = load_file(home / force.path / "optimizer.safetensors")
    assert {float(each) for name, each in steps.items() if name.startswith("step/")} == {4.0 + receipt["steps"]}
    capsys.readouterr()
    assert main(["status", str(home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["global_step"] == force.state.global_step
    assert main(["doctor", str(home)]) == 0, capsys.readouterr().out


def test_a_night_can_fold_the_adapter_that_moved_in_into_the_base_that_came_along(folded: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    force = moved(folded, home)
    adapters = [home / force.path]
    assert merge(home / "model", adapters, tmp_path / "merged").merged_tensors == 12
    verify_tensors(home / "model", adapters, tmp_path / "merged")
    again = OldTrainer(tmp_path / "again", home / "model")
    weights = load_file(home / force.path / "adapter_model.safetensors")
    with torch.no_grad():
        for name, each in again.parameters:
            each.copy_(weights[name])
    theirs = load_file(again.merge("20261201", home / "model") / "model.safetensors")
    ours = load_file(tmp_path / "merged/model.safetensors")
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)


# Which base.


def test_after_a_consolidation_the_base_is_the_newest_consolidated_model_and_comes_along(
    folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    force = moved(folded, tmp_path / "home")
    merged = folded / "consolidated_models/20261121T030000"
    theirs, ours = (load_file(folder / "model.safetensors") for folder in (merged, tmp_path / "home/model"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert read_config(tmp_path / "home").take("trainer", TrainerSettings).model == "model"
    assert (force.state.global_step, force.state.adapter_step) == (10, 4)
    told = capsys.readouterr().out
    assert "the newest consolidated model, on which the adapter began anew" in told
    assert "calls its base" in told
    assert "--base" in told
    assert "last consolidation there: 20261121T030000" in told
    assert "snapshots: 1 of 2 taken" in told
    assert "it stands on the model before the consolidation" in told
    assert [path.name for path in sorted((tmp_path / "home/snapshots").iterdir())] == ["2026-11-21"]


def test_an_adapter_that_was_merged_and_not_begun_anew_would_count_twice(
    lived: Path, tmp_path: Path, tiny_model: Path
) -> None:
    old = tmp_path / "old"
    trainer = OldTrainer(old, tiny_model)
    trainer.learn(5)
    trainer.save()
    trainer.write_config(tiny_model)
    trainer.merge("20261122T030000", tiny_model)
    error = refused(old, tmp_path / "home")
    assert "NF-STATE-016" in error.what
    assert f"--base {tiny_model}" in error.what
    assert moved(old, tmp_path / "home", base=str(tiny_model)).state.adapter_step == 5


def test_an_adapter_begun_anew_from_the_same_seed_and_data_is_not_taken_for_the_merged_one(
    tmp_path: Path, tiny_model: Path
) -> None:
    old = tmp_path / "old"
    first = OldTrainer(old, tiny_model)
    first.learn(12)
    merged = first.merge("20261122T030000", tiny_model)
    second = OldTrainer(old, merged)
    second.learn(12)
    second.save()
    second.write_config(tiny_model)
    assert moved(old, tmp_path / "home").state.global_step == 12


@pytest.mark.parametrize("model_path", ["/not/there", "no such model", "nobody/has-this-model", 7, None])
def test_a_base_that_is_not_there_is_told_with_what_to_do(old: Path, tmp_path: Path, model_path: object) -> None:
    (old / "config.json").write_text(json.dumps({"model_path": model_path}))
    error = refused(old, tmp_path / "home")
    assert "NF-STATE-015" in error.what
    assert "--base DIR" in error.what


def test_a_model_path_is_found_from_the_old_home(old: Path, tmp_path: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "models/tiny")
    (old / "config.json").write_text(json.dumps({"model_path": "../models/tiny"}))
    moved(old, tmp_path / "home")
    assert read_config(tmp_path / "home").take("trainer", TrainerSettings).model == str(tmp_path / "models/tiny")


def test_a_damaged_newest_model_is_not_replaced_by_an_older_one(folded: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(folded, tmp_path / "old"))
    weights = old / "consolidated_models/20261121T030000/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    error = refused(old, tmp_path / "home")
    assert "NF-STATE-015" in error.what
    assert "model.safetensors" in error.what


def test_a_consolidated_model_without_its_tokenizer_gets_that_of_the_model_it_was_made_from(
    folded: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(folded, tmp_path / "old"))
    merged = old / "consolidated_models/20261121T030000"
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (merged / name).unlink()
    force = moved(old, tmp_path / "home")
    assert "it was saved without its tokenizer" in capsys.readouterr().out
    assert (tmp_path / "home/model/tokenizer.json").read_bytes() == (tiny_model / "tokenizer.json").read_bytes()
    assert (tmp_path / "home/model/config.json").read_bytes() == (merged / "config.json").read_bytes()
    engine = TorchEngine(Disk(tmp_path / "home"), read_config(tmp_path / "home").take("trainer", TrainerSettings))
    assert engine.load(force.state, force.path, "").fingerprint == force.state.base_fingerprint
    engine.unload()
    (merged / "tokenizer.json").write_text('{"version": 5}')
    error = refused(old, tmp_path / "other")
    assert "NF-STATE-015" in error.what
    assert "tokenizer" in error.what


@pytest.mark.parametrize("change", [{"num_key_value_heads": "x"}, {"num_attention_heads": 0}, {"hidden_size": -1}])
def test_a_model_whose_config_is_nonsense_is_refused_in_words(
    change: dict[str, object], folded: Path, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(folded, tmp_path / "old"))
    path = old / "consolidated_models/20261121T030000/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    error = refused(old, tmp_path / "home")
    assert error.code == "NF-STATE-010"
    assert "20261121T030000" in error.what


def test_an_adapter_of_another_base_is_refused(old: Path, tmp_path: Path, tiny_model: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    small = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4)
    LlamaForCausalLM(small).save_pretrained(str(tmp_path / "other"))
    for path in (*tiny_model.glob("tokenizer*"), tiny_model / "chat_template.jinja"):
        shutil.copy(path, tmp_path / "other")
    error = refused(old, tmp_path / "home", base=str(tmp_path / "other"))
    assert "NF-STATE-012" in error.what
    assert "do not fit" in error.what
    assert "there is (" in error.what


# What cannot be taken.


def drop(name: str) -> Callable[[Path], None]:
    return lambda old: (old / "current_model" / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    def change(old: Path) -> None:
        path = old / "current_model" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(old: Path) -> None:
        (old / "current_model" / name).write_text(text)

    return change


def in_config(**changes: object) -> Callable[[Path], None]:
    def change(old: Path) -> None:
        path = old / "current_model/adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def with_nan(old: Path) -> None:
    path = old / "current_model/adapter_model.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)][0] = float("nan")
    save_file(tensors, path)


BROKEN: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "no current model": ("NF-STATE-011", "current_model", lambda old: shutil.rmtree(old / "current_model")),
    "no config": ("NF-STATE-012", "adapter_config.json: it is missing", drop("adapter_config.json")),
    "no weights": ("NF-STATE-012", "it has no weights", drop("adapter_model.safetensors")),
    "damaged weights": ("NF-STATE-012", "adapter_model.safetensors", cut("adapter_model.safetensors")),
    "not finite": ("NF-STATE-012", "not finite", with_nan),
    "not LoRA": ("NF-STATE-012", "peft_type is 'LOHA'", in_config(peft_type="LOHA")),
    "DoRA": ("NF-STATE-012", "use_dora is True", in_config(use_dora=True)),
    "scales of its own": ("NF-STATE-012", "alpha_pattern", in_config(alpha_pattern={"q_proj": 2})),
    "another rank": ("NF-STATE-012", "do not fit", in_config(r=8)),
    "other targets": ("NF-STATE-012", "do not fit", in_config(target_modules=["q_proj"])),
    "no optimizer": ("NF-STATE-013", "optimizer.pt: it is missing", drop("optimizer.pt")),
    "damaged optimizer": ("NF-STATE-013", "optimizer.pt: it is damaged", cut("optimizer.pt")),
    "no counters": ("NF-STATE-014", "trainer_state.json: it is missing", drop("trainer_state.json")),
    "damaged counters": ("NF-STATE-014", "cannot be read", write("trainer_state.json", "{")),
    "odd counters": ("NF-STATE-014", "global_step is -1", write("trainer_state.json", '{"global_step": -1}')),
    "counters without end": (
        "NF-STATE-014", "global_step is 9000", write("trainer_state.json", '{"global_step": ' + str(9 * 10**40) + "}")
    ),
    "counters ahead": (
        "NF-STATE-014", "adapter_step is 3", write("trainer_state.json", '{"global_step": 2, "adapter_step": 3}')
    ),
    "bad old config": ("NF-STATE-011", "config.json", write("../config.json", "[]")),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_each_broken_piece_is_named_with_its_place_and_what_to_do(kind: str, old: Path, tmp_path: Path) -> None:
    code, words, breaking = BROKEN[kind]
    breaking(old)
    error = refused(old, tmp_path / "home")
    assert (error.code, error.exit_code) == ("NF-STATE-010", EXIT_FAILED)
    line = next(line for line in error.what.splitlines() if code in line)
    assert words in line
    assert "; expected " in line
    assert error.what.count("    -> ") == error.what.count("NF-") > 0


def test_everything_that_is_wrong_is_told_at_once(old: Path, tmp_path: Path) -> None:
    for breaking in (drop("optimizer.pt"), drop("trainer_state.json"), cut("adapter_model.safetensors")):
        breaking(old)
    (old / "config.json").write_text('{"model_path": "/not/there"}')
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("mine")
    told = refused(old, tmp_path / "home").what
    assert told.startswith("5 things are in the way")
    codes = ("NF-CONF-013", "NF-STATE-012", "NF-STATE-013", "NF-STATE-014", "NF-STATE-015")
    assert [code for code in codes if code not in told] == []


class Evil:
    """Pickled, it is a call of ``os.mkdir``."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "adapter_model.bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_asks_for_more_than_tensors_is_never_run(
    file: str, zipped: bool, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = tmp_path / "it_ran"
    torch.save({"state": Evil(ran)}, old / "current_model" / file, _use_new_zipfile_serialization=zipped)
    if file == "adapter_model.bin":
        drop("adapter_model.safetensors")(old)
    if file == "scheduler.pt":
        moved(old, tmp_path / "home")
        told = capsys.readouterr().out
    else:
        told = refused(old, tmp_path / "home").what
    assert not ran.exists()
    assert "it was not opened" in told
    assert file in told
    torch.load(old / "current_model" / file, weights_only=False)
    assert ran.exists(), "the file was harmless, so this test proves nothing"


def test_a_torch_file_cut_or_bent_anywhere_is_read_whole_or_refused(old: Path, tmp_path: Path) -> None:
    whole = (old / "current_model/scheduler.pt").read_bytes()
    expected = torch.load(old / "current_model/scheduler.pt", weights_only=True)
    path = tmp_path / "bent.pt"
    refusals = 0
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        for bent in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            path.write_bytes(bent)
            try:
                found = read_torch_file(path)
            except UnreadableError:
                refusals += 1
            else:
                assert isinstance(found, dict | list | int | float | str | bytes | torch.Tensor) or found is None
    assert refusals > 150
    assert read_torch_file(old / "current_model/scheduler.pt") == expected


# Moments.


def test_moments_that_do_not_fit_are_refused_as_a_whole_and_fresh_only_if_asked_for(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_shape(state: Any) -> Any:
        state["state"][0]["exp_avg"] = state["state"][0]["exp_avg"].T.contiguous()
        return state

    saved(old, other_shape)
    error = refused(old, tmp_path / "home")
    assert "NF-STATE-013" in error.what
    assert "exp_avg of parameter 0 has the shape" in error.what
    assert "--fresh-optimizer" in error.what
    capsys.readouterr()
    force = moved(old, tmp_path / "home", fresh_optimizer=True)
    assert "FRESH moments" in capsys.readouterr().out
    moments = load_file(tmp_path / "home" / force.path / "optimizer.safetensors")
    assert not any(each.any() for each in moments.values())
    assert (force.state.global_step, force.state.adapter_step) == (9, 9)


def one_less(state: Any) -> Any:
    state["param_groups"][0]["params"].pop()
    return state


def without_state(state: Any) -> Any:
    return {**state, "state": {}}


def two_groups(state: Any) -> Any:
    group = state["param_groups"][0]
    half = len(group["params"]) // 2
    return {
        **state,
        "param_groups": [{**group, "params": group["params"][:half]}, {**group, "params": group["params"][half:]}],
    }


def amsgrad(state: Any) -> Any:
    state["param_groups"][0]["amsgrad"] = True
    return state


def negative(state: Any) -> Any:
    state["state"][3]["exp_avg_sq"] -= 1.0
    return state


def momentum_only(state: Any) -> Any:
    return {**state, "state": {number: {"momentum_buffer": each["exp_avg"]} for number, each in state["state"].items()}}


@pytest.mark.parametrize("change", [one_less, without_state, two_groups, amsgrad, negative, momentum_only, list])
def test_an_optimizer_that_is_not_this_adapters_adamw_is_refused(
    change: Callable[[Any], Any], old: Path, tmp_path: Path
) -> None:
    saved(old, change)
    told = refused(old, tmp_path / "home").what
    assert told.startswith("1 thing is in the way")
    assert "NF-STATE-013" in told


def test_an_empty_second_group_does_no_harm(old: Path, tmp_path: Path) -> None:
    def and_an_empty_one(state: Any) -> Any:
        group = state["param_groups"][0]
        return {**state, "param_groups": [group, {**group, "params": [], "weight_decay": 0.0}]}

    saved(old, and_an_empty_one)
    assert moved(old, tmp_path / "home").state.adapter_step == 9


def test_names_that_torch_noted_decide_over_the_order(old: Path, tmp_path: Path, tiny_model: Path) -> None:
    names = [name for name, _ in OldTrainer(tmp_path / "again", tiny_model).parameters]
    before = torch.load(old / "current_model/optimizer.pt", weights_only=True)["state"]

    def backwards(state: Any) -> Any:
        group = state["param_groups"][0]
        noted = [f"module.{name.replace('lora_A.', 'lora_A.default.')}" for name in reversed(names)]
        group["param_names"] = [name.replace("lora_B.", "lora_B.default.") for name in noted]
        state["state"] = {len(names) - 1 - number: each for number, each in state["state"].items()}
        return state

    saved(old, backwards)
    force = moved(old, tmp_path / "home")
    moments = load_file(tmp_path / "home" / force.path / "optimizer.safetensors")
    for number, name in enumerate(names):
        assert torch.equal(moments[f"exp_avg/{name}"], before[number]["exp_avg"]), name


def test_the_adapters_own_steps_are_known_from_the_moments_where_no_counter_tells(
    folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(folded, tmp_path / "old"))
    (old / "current_model/trainer_state.json").write_text('{"global_step": 10, "log_history": [{"loss": NaN}]}')
    assert moved(old, tmp_path / "home").state.adapter_step == 4
    assert "by optimizer.pt" in capsys.readouterr().out


def test_weights_that_lie_in_a_bin_file_are_taken(old: Path, tmp_path: Path) -> None:
    weights = load_file(old / "current_model/adapter_model.safetensors")
    torch.save({name: each.bfloat16() for name, each in weights.items()}, old / "current_model/adapter_model.bin")
    drop("adapter_model.safetensors")(old)
    force = moved(old, tmp_path / "home")
    ours = load_file(tmp_path / "home" / force.path / "adapter_model.safetensors")
    assert all(torch.equal(ours[name], each.bfloat16().float()) for name, each in weights.items())


# Snapshots.


def test_sound_snapshots_are_kept_and_the_others_are_named_with_the_reason(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(old / "snapshots/2026-11-20", old / "snapshots/2026-11-19")
    (old / "snapshots/2026-11-19/optimizer.pt").write_bytes(b"")
    shutil.copytree(old / "snapshots/2026-11-20", old / "snapshots/2026-11-21")
    shutil.copytree(old / "snapshots/2026-11-20", old / "snapshots/2026-99-99")
    shutil.copytree(old / "snapshots/2026-11-20", old / "snapshots/2026-11-18.part")
    home = tmp_path / "home"
    moved(old, home)
    assert sorted(path.name for path in (home / "snapshots").iterdir()) == ["2026-11-20", "2026-11-21"]
    steps = [verify(Disk(home), f"snapshots/{day}").global_step for day in ("2026-11-20", "2026-11-21")]
    assert steps == [4, 7], "of two of one day, the newer"
    told = capsys.readouterr().out
    assert "snapshots: 2 of 5 taken" in told
    for name, why in (("19", "NF-STATE-013 optimizer.pt"), ("21", "a newer one"), ("99-99", "its name is no date")):
        assert any(name in line and why in line for line in told.splitlines()), (name, why)


def test_on_the_day_of_the_consolidation_the_steps_tell_the_adapters_apart(
    folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(folded, tmp_path / "old"))
    shutil.rmtree(old / "snapshots/2026-11-21")
    (old / "snapshots/2026-11-20").rename(old / "snapshots/2026-11-21")
    moved(old, tmp_path / "home")
    assert "its adapter began at step 0, and the one in force at 6" in capsys.readouterr().out
    assert list((tmp_path / "home/snapshots").iterdir()) == []


def test_a_snapshot_that_moved_in_stands_in_for_a_damaged_generation(old: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    force = moved(old, home)
    (home / force.path / "adapter_model.safetensors").write_bytes(b"damage")
    store = Store(Disk(home), keep_generations=5, keep_snapshots=7, keep_nights=2)
    assert store.open().damage
    healed = store.in_force()
    assert healed.state.global_step == 7
    engine = TorchEngine(Disk(home), read_config(home).take("trainer", TrainerSettings))
    engine.load(healed.state, healed.path, healed.model_path)
    engine.unload()


def test_more_snapshots_than_the_default_are_kept_by_the_new_config(old: Path, tmp_path: Path) -> None:
    for day in range(1, 10):
        shutil.copytree(old / "snapshots/2026-11-20", old / f"snapshots/2026-10-{day:02d}")
    moved(old, tmp_path / "home")
    assert "\nkeep_snapshots = 11 " in (tmp_path / "home/nightfold.toml").read_text()


# The new home.


def test_a_home_that_exists_and_learnt_nothing_is_filled_if_it_names_that_base(
    old: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    init(home, str(tiny_model), tiny=False)
    text = (home / "nightfold.toml").read_text()
    assert moved(old, home).state.global_step == 9
    assert (home / "nightfold.toml").read_text() == text
    assert "your nightfold.toml has adam_beta2 = 0.99, the old trainer had 0.98" in capsys.readouterr().out
    error = refused(old, home)
    assert "NF-CONF-013" in error.what
    assert "it holds learning already" in error.what


def test_a_home_of_another_base_is_refused(old: Path, tmp_path: Path, tiny_model: Path) -> None:
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    init(tmp_path / "home", str(other), tiny=False)
    error = refused(old, tmp_path / "home")
    assert "is another model" in error.what
    assert f"set model to the folder {tiny_model}" in error.what


def test_a_home_in_which_a_daemon_lives_is_left_to_it(old: Path, tmp_path: Path, tiny_model: Path) -> None:
    init(tmp_path / "home", str(tiny_model), tiny=False)
    with HomeLock(tmp_path / "home"):
        assert refused(old, tmp_path / "home").code == "NF-STATE-001"


@pytest.mark.parametrize("place", ["old", "old/home", "."])
def test_neither_home_may_lie_in_the_other(place: str, old: Path, tmp_path: Path) -> None:
    before = tree_digest(old)
    with pytest.raises(OperatorError, match="lie in one another"):
        import_home(old, tmp_path / place, base=None, fresh_optimizer=False)
    assert tree_digest(old) == before


def test_what_is_no_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OperatorError) as caught:
        import_home(tmp_path / "nothing", tmp_path / "home", base=None, fresh_optimizer=False)
    assert caught.value.code == "NF-STATE-011"


def test_too_little_space_is_seen_before_anything_is_written(
    folded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Disk, "free_bytes", lambda _disk: 270_000_000)
    error = refused(folded, tmp_path / "home")
    assert "NF-CONF-014" in error.what
    assert "make room for" in error.what
    needed = int(error.what.partition("expected ")[2].partition(" bytes")[0].replace(",", ""))
    monkeypatch.setattr(Disk, "free_bytes", lambda _disk: needed)
    moved(folded, tmp_path / "home")
    written = sum(path.stat().st_size for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert written < needed - (256 << 20), "the forecast must not be below what is written"


@pytest.mark.parametrize("call", [1, 3, 6, 12, 20, 30])
def test_a_disk_that_refuses_halfway_leaves_no_home(
    call: int, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    fsync = Disk.fsync

    def refusing(disk: Disk, handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(5, "the disk is tired")
        fsync(disk, handle)

    monkeypatch.setattr(Disk, "fsync", refusing)
    error = refused(old, tmp_path / "home")
    assert (error.code, error.exit_code) == ("NF-DISK-003", EXIT_DISK)
    assert not (tmp_path / "home").exists()
    monkeypatch.undo()
    assert moved(old, tmp_path / "home").generation == 1


@pytest.mark.parametrize("call", [1, 3, 5, 6, 7, 8, 9, 20])
def test_a_disk_that_refuses_a_home_that_exists_leaves_it_without_learning_or_whole(
    call: int, old: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    init(home, str(tiny_model), tiny=False)
    calls = 0
    fsync = Disk.fsync

    def refusing(disk: Disk, handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(5, "the disk is tired")
        fsync(disk, handle)

    monkeypatch.setattr(Disk, "fsync", refusing)
    code = main(["import", str(old), str(home)])
    monkeypatch.undo()
    if code == EXIT_DISK:
        assert not (home / "state/HEAD").exists()
        assert moved(old, home).generation == 1
    else:
        assert (code, call > 7) == (0, True)
        assert in_force(home).state.global_step == 9


def test_what_a_killed_import_left_is_swept_by_the_next(old: Path, tmp_path: Path) -> None:
    left = tmp_path / ".home.importing/home/state"
    left.mkdir(parents=True)
    (left / "HEAD").write_text("half")
    moved(old, tmp_path / "home")
    assert not (tmp_path / ".home.importing").exists()


def test_a_trainer_that_still_writes_is_noticed(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_space = new_home.Destination.check_space

    def meanwhile(*given: Any) -> None:
        check_space(*given)
        (old / "current_model/trainer_state.json").write_text('{"global_step": 10, "adapter_step": 10}')

    monkeypatch.setattr(new_home.Destination, "check_space", meanwhile)
    with pytest.raises(OperatorError, match="stop the old trainer first"):
        import_home(old, tmp_path / "home", base=None, fresh_optimizer=False)
    assert not (tmp_path / "home").exists()
