"""Damage to the merged model in force, on a real disk: found before it is loaded, made anew, and then trained on.

The home has had one night; what is dropped after it trains an adapter on the merged model. An undisturbed daemon says
with which bytes that must end.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.real.conftest import Live
from tests.real.daemons import Home, Nursery, command, lesson

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("damaged_model"),
    pytest.mark.timeout(240),
    # PEFT still asks transformers for an attribute by its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

FILES = (
    "MANIFEST.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
STEPS = 3
"""Of each file, at two examples a step."""


@pytest.fixture(scope="module")
def after_a_night(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, nursery: Nursery) -> Home:
    """One file is learnt and folded in; the daemon is stopped."""
    home = Home(tmp_path_factory.mktemp("after_a_night") / "home", tiny_model)
    home.drop("first.jsonl", lesson(1, 2 * STEPS))
    daemon = nursery.bear("run", home.path)
    try:
        daemon.until("idle", lambda: home.has("trained/first.jsonl") and home.status()["state"] == "idle")
        asked = command("consolidate", home.path, "--wait", "100", within_s=120)
        assert asked.returncode == 0, asked.stdout + asked.stderr + daemon.said
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0, daemon.said
    finally:
        daemon.kill()
    assert len(home.head()["ledger"]) == 1, daemon.said
    return home


@pytest.fixture(scope="module")
def undisturbed(after_a_night: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The same, with one file more learnt on the merged model."""
    home = copied(after_a_night, tmp_path_factory.mktemp("undisturbed"))
    done = command("run", home.path, "--until-idle")
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def copied(home: Home, folder: Path) -> Home:
    """A copy with the second file in its inbox."""
    copy = Home.__new__(Home)
    copy.path = Path(shutil.copytree(home.path, folder / "home", symlinks=True))
    copy.drop("second.jsonl", lesson(2, 2 * STEPS))
    return copy


@pytest.fixture
def damaged(after_a_night: Home, tmp_path: Path) -> Home:
    """A copy, to be damaged."""
    return copied(after_a_night, tmp_path)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def model_of(home: Home) -> Path:
    return Path(home.path / home.head()["model_path"])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_healed(home: Home, live: Live, undisturbed: Home, why: str) -> None:
    """It is told, made anew with the same bytes, and what is learnt on it is the same."""
    daemon = live("run", home.path, "--until-idle")
    assert daemon.end(within_s=120) == 0, daemon.said
    [found] = home.events("DamageFound")
    assert found["what"] == home.head()["model_path"]
    assert why in found["why"]
    [healed] = [event for event in home.events("ModelHealed") if event["anew"]]
    assert healed["path"] == found["what"]
    assert "healed" in daemon.said
    assert files_of(model_of(home)) == files_of(model_of(undisturbed))
    assert home.learnt() == undisturbed.learnt()
    assert [path.name for path in (home.path / "consolidated_models").iterdir()] == [model_of(home).name]


def test_the_model_says_what_it_holds_and_loads_as_ever(after_a_night: Home) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model_of(after_a_night)
    manifest = after_a_night.json(f"{after_a_night.head()['model_path']}/MANIFEST.json")
    assert sorted(files_of(folder)) == list(FILES), "each has its turn below"
    assert {*manifest["files"], "MANIFEST.json"} == set(FILES)
    assert manifest["night"] == folder.name == manifest["deltas"][-1]["night"]
    assert manifest["base_fingerprint"] == after_a_night.head()["base_fingerprint"]
    _, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    assert not any(loading.values())
    AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize("name", FILES)
def test_b9_a_turned_bit_in_any_file_of_the_merged_model(
    damaged: Home, live: Live, undisturbed: Home, name: str
) -> None:
    flip_a_bit(model_of(damaged) / name)
    assert_healed(damaged, live, undisturbed, name)


def test_b9_the_whole_merged_model_is_gone(damaged: Home, live: Live, undisturbed: Home) -> None:
    shutil.rmtree(model_of(damaged))
    assert_healed(damaged, live, undisturbed, "MANIFEST.json")


def test_b9_a_file_that_nobody_committed_lies_in_the_merged_model(damaged: Home, live: Live, undisturbed: Home) -> None:
    (model_of(damaged) / "adapter_config.json").write_text('{"what": "transformers would load first"}')
    assert_healed(damaged, live, undisturbed, "unknown files: adapter_config.json")


def test_b9_another_models_manifest_does_not_pass_for_its_own(damaged: Home, live: Live, undisturbed: Home) -> None:
    """Files and manifest agree with each other, and not with what was committed."""
    folder, base = model_of(damaged), damaged.path / "model"
    from actors.consolidator.model_manifest import manifest_of
    from runtime import durable
    from runtime.manifest import FileEntry

    shutil.copyfile(base / "model.safetensors", folder / "model.safetensors")
    content = {name: data for name, data in files_of(folder).items() if name != "MANIFEST.json"}
    files = {name: FileEntry(len(data), durable.digest_of_bytes(data)) for name, data in content.items()}
    (folder / "MANIFEST.json").write_bytes(manifest_of((), "", (), files))
    assert_healed(damaged, live, undisturbed, "not the one that was committed")


def test_b9_with_a_damaged_delta_the_delta_is_healed_from_its_copy_and_then_the_model(
    damaged: Home, live: Live, undisturbed: Home
) -> None:
    flip_a_bit(model_of(damaged) / "model.safetensors")
    flip_a_bit(next(damaged.path.glob("state/deltas/*/adapter_model.safetensors")))
    daemon = live("run", damaged.path, "--until-idle")
    assert daemon.end(within_s=120) == 0, daemon.said
    assert [event["anew"] for event in damaged.events("ModelHealed")] == [True]
    assert files_of(model_of(damaged)) == files_of(model_of(undisturbed))
    assert damaged.learnt() == undisturbed.learnt()
    assert damaged.events("ModelGivenUp") == []


def test_b9_what_cannot_be_made_anew_is_left_for_the_newest_generation_on_a_sound_model(
    damaged: Home, live: Live
) -> None:
    head = damaged.head()
    lost, folded = head["model_path"], head["nights"][0]["folded"]
    older = max(kept["generation"] for kept in head["kept"] if not kept["model_path"] and kept["generation"] != folded)
    flip_a_bit(model_of(damaged) / "model.safetensors")
    flip_a_bit(next(damaged.path.glob("state/deltas/*/adapter_model.safetensors")))
    flip_a_bit(damaged.path / f"state/generations/{folded:06d}/adapter_model.safetensors")  # the delta's only copy
    daemon = live("run", damaged.path, "--until-idle")
    assert daemon.end(within_s=120) == 0, daemon.said
    [given_up] = damaged.events("ModelGivenUp")
    assert (given_up["path"], given_up["code"]) == (lost, "NF-MERGE-050")
    assert given_up["instead"].endswith(f"{older:06d}")
    assert damaged.head()["ledger"] == []
    assert damaged.has("trained/second.jsonl")
    assert damaged.steps_committed() == STEPS, "what the first file had taught was in the folded adapter alone"
    assert damaged.has(lost), "it stays for whoever brings the delta back"
    assert "NF-MERGE-050" in daemon.said
