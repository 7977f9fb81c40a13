"""What the daemon finds when it starts, and what it says about it: stale, locked, moved, damaged, wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.real.conftest import Live, lessons
from tests.real.daemons import Home, command, lesson

pytestmark = pytest.mark.real


def test_t2_r6_after_a_kill_status_says_crashed_and_a_moved_home_goes_on(
    home: Home, live: Live, straight: dict[str, bytes], tmp_path: Path
) -> None:
    lessons(home)
    daemon = live("run", home.path)
    daemon.until("training", lambda: home.steps_committed() >= 4 and home.status()["state"] == "training")
    daemon.kill()
    told = json.loads(command("status", home.path, "--json").stdout)
    assert (told["state"], told["pid"]) == ("crashed", None)
    assert str(daemon.pid) in told["reason"]

    home.path.rename(tmp_path / "elsewhere")
    moved = Home.__new__(Home)
    moved.path = tmp_path / "elsewhere"
    last = live("run", moved.path, "--until-idle")
    assert last.end() == 0, last.said
    assert moved.learnt() == straight
    assert moved.status()["state"] == "stopped"
    assert (moved.path / "current_model").resolve().is_relative_to(moved.path)
    for file in (moved.path / "state").rglob("*"):
        if file.is_file() and file.name != "LOCK":
            assert str(tmp_path).encode() not in file.read_bytes(), f"{file} names where the home stands"


def test_r3_a_stale_stop_is_removed_and_noted(home: Home, live: Live) -> None:
    home.drop("a.jsonl", lesson(1, 2))
    (home.path / ".stop").touch()
    daemon = live("run", home.path, "--until-idle")
    assert daemon.end() == 0, daemon.said
    assert "stale .stop" in daemon.said
    assert home.has("trained/a.jsonl")


def test_r4_a_second_daemon_is_refused_with_the_pid_of_the_first(home: Home, live: Live) -> None:
    first = live("run", home.path)
    first.until("its first status", lambda: home.status()["pid"] == first.pid)
    second = command("run", home.path)
    assert second.returncode == 75
    assert str(first.pid) in second.stderr
    assert first.lives()
    first.kill()
    third = live("run", home.path, "--until-idle")
    assert third.end() == 0, "the lock of a dead one is taken over:\n" + third.said


def test_r5_a_bad_config_is_refused_with_all_that_is_wrong(home: Home) -> None:
    home.configure(trainer={"rnak": 4, "epochs": 0}, consolidator={"nightly": "no"}, trainr={"rank": 4})
    told = command("run", home.path)
    assert told.returncode == 78
    for words in ("did you mean rank", "epochs: expected int >= 1", "nightly: expected bool", "[trainr]"):
        assert words in told.stderr
    assert "Traceback" not in told.stderr
    assert not home.has("state/HEAD")


def test_b1_a_flipped_bit_in_the_newest_generation_costs_only_its_steps(
    home: Home, live: Live, straight: dict[str, bytes]
) -> None:
    lessons(home)
    first = live("run", home.path)
    # Twelve steps into the second file: the generations before the newest are of that file too.
    first.until("step 32", lambda: home.steps_committed() >= 32)
    first.kill()
    damaged = home.head()["generation_path"]
    weights = home.path / damaged / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    last = live("run", home.path, "--until-idle")
    assert last.end() == 0, last.said
    assert f"damage     {damaged}" in last.said
    [told] = home.events("DamageFound")
    assert told["what"] == damaged
    assert int(Path(told["instead"]).name) == int(Path(damaged).name) - 1
    assert home.has(f"state/set_aside/generations-{Path(damaged).name}/adapter_model.safetensors")
    assert home.learnt() == straight
    again = live("run", home.path, "--until-idle")
    assert again.end() == 0
    assert len(home.events("DamageFound")) == 1, "damage is told once"


def test_t10_another_base_model_is_refused(home: Home, live: Live) -> None:
    home.drop("a.jsonl", lesson(1, 2))
    assert live("run", home.path, "--until-idle").end() == 0
    before = home.head()
    weights = home.path / "model" / "model.safetensors"
    shutil.copy(weights, home.path / "kept")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    home.drop("b.jsonl", lesson(2, 2))
    refused = live("run", home.path, "--until-idle")
    assert refused.end() == 78, refused.said
    assert "NF-MODEL-010" in refused.said
    assert "Traceback" not in refused.said
    assert home.head() == before
    shutil.rmtree(home.path / "model")
    gone = live("run", home.path, "--until-idle")
    assert gone.end() == 78, gone.said
    assert "NF-MODEL-001" in gone.said
    assert home.head() == before
    assert home.has("inbox/b.jsonl") or any((home.path / "state" / "batches").glob("*/b.jsonl"))


def test_n12_a_home_whose_targets_name_the_head_is_refused_in_words_and_learns_nothing(home: Home, live: Live) -> None:
    home.configure(trainer={"targets": ["q_proj", "lm_head"]})
    home.drop("a.jsonl", lesson(1, 2))
    refused = live("run", home.path, "--until-idle")
    assert refused.end() == 78, refused.said
    assert "NF-MODEL-007" in refused.said
    assert "lm_head" in refused.said
    assert "Traceback" not in refused.said
    assert home.steps_committed() == 0
    home.configure()
    again = live("run", home.path, "--until-idle")
    assert again.end() == 0, again.said
    assert home.has("trained/a.jsonl")
